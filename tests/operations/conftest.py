from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apps.operations import services
from apps.operations.models import Operation
from apps.operations.selection import ActionSpec, IdleSelection
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.services import request_sync, run_sync
from tests import snapshots

# When the people of every sandbox here begin: what was read from one of them is so in the next.
AS_OF = int(time.time() * 1000)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """250 people in two directories, with every status and odd name."""
    with Sandbox(people=250, seed=11, as_of=AS_OF) as running:
        yield running


@pytest.fixture
def organization(transactional_db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    """Connected and synced; limits that do not trip unless a test sets them."""

    def make() -> None:
        made = connect(
            sandbox,
            max_count=200,
            max_share_percent=90,
            max_group_share_percent=100,
            max_per_day=240,
            activity_margin_hours=0,
            calls_in_flight=8,
        )
        run = request_sync(organization=made, actor=Actor.system())
        finished = run_sync(run.pk, budget_seconds=None, wait_here=True)
        assert finished is not None
        assert finished.is_trusted

    snapshots.once("operations", make, url=sandbox.url)
    return Organization.objects.get()


@pytest.fixture
def author(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "author@aum.example", "admin")


@pytest.fixture
def approver(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "approver@aum.example", "approver")


@pytest.fixture
def plan(organization: Organization, author: Operator) -> Callable[..., Operation]:
    """Plan at once: by default a suspension of everybody idle for 60 days."""

    def make(
        action: str = "suspend",
        selection: Any = None,
        mode: str = "live",
        products: tuple[str, ...] = (),
        groups: tuple[int, ...] = (),
        **fields: Any,
    ) -> Operation:
        operation = services.plan_operation(
            organization=organization,
            kind="automation_rule",
            mode=mode,
            initiator="manual",
            actor=Actor.operator(author),
            operator=author,
            name="Idle people",
            actions=[ActionSpec(action, group_ids=groups, products=products)],
            selection=selection or IdleSelection(inactive_days=60, include_never_active=True, never_active_days=60),
            **fields,
        )
        services.run_planning(operation.pk)
        operation.refresh_from_db()
        return operation

    return make


@pytest.fixture
def execute() -> Callable[[Operation], Operation]:
    def run(operation: Operation) -> Operation:
        services.execute_operation(operation.pk)
        operation.refresh_from_db()
        return operation

    return run
