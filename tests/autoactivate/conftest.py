from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apps.autoactivate.models import AssignmentRule, InboundEvent, InboundSource
from apps.autoactivate.services import create_rule, ensure_source, process_event, rotate_secret
from apps.autoactivate.values import AssignmentInput
from apps.operations import services as operations
from apps.operations.models import Operation
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import Group
from apps.users.services import request_sync, run_sync

ACTOR = Actor("operator", "1", "Ada", "ada@example.com")


@pytest.fixture
def small() -> Iterator[Sandbox]:
    """Sixty people: enough for every kind of person."""
    with Sandbox(people=60, seed=11) as running:
        yield running


def connect_and_sync(sandbox: Sandbox, connect: Callable[..., Organization], **fields: Any) -> Organization:
    organization = connect(sandbox, max_count=200, max_share_percent=90, max_per_day=240, calls_in_flight=4, **fields)
    run = request_sync(organization=organization, actor=Actor.system())
    run_sync(run.pk, budget_seconds=None, wait_here=True)
    return organization


@pytest.fixture
def organization(transactional_db: None, small: Sandbox, connect: Callable[..., Organization]) -> Organization:
    """Connected and synced, with real commits: runs work in threads."""
    return connect_and_sync(small, connect)


@pytest.fixture
def admin(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "ada@example.com", "admin")


class Way:
    """A way in with its secret."""

    def __init__(self, source: InboundSource, secret: str) -> None:
        self.source, self.secret = source, secret

    @property
    def path(self) -> str:
        return f"/hooks/{self.source.kind.replace('_', '-')}/{self.source.key}"


def open_way(organization: Organization, kind: str = "jira") -> Way:
    source = ensure_source(organization=organization, kind=kind)
    source, secret = rotate_secret(source=source, actor=ACTOR)
    return Way(source, secret)


def seen(organization: Organization, kind: str) -> InboundSource:
    """A way in through which something has arrived."""
    from django.utils import timezone

    source = ensure_source(organization=organization, kind=kind)
    InboundSource.objects.filter(pk=source.pk).update(first_event_at=timezone.now())
    return source


def domain_rule(organization: Organization, *groups: Group, domain: str, **fields: Any) -> AssignmentRule:
    """A rule that is switched on: whoever has an address at `domain` and asks in HELP is added to `groups`."""
    is_active = fields.pop("is_active", True)
    if is_active:
        seen(organization, "jira")
    values: dict[str, Any] = {
        "name": "Employees",
        "project": "HELP",
        "domains": (domain,),
        "groups": tuple(group.pk for group in groups),
    }
    return create_rule(
        organization=organization,
        values=AssignmentInput(**(values | fields)),
        is_active=is_active,
        actor=ACTOR,
        operator=None,
    )


def addable(organization: Organization, count: int = 2) -> list[Group]:
    """Groups that may be added to, of the first directory."""
    found = Group.objects.of(organization).filter(
        is_synced=False, is_administrative=False, are_grants_known=True, vanished_at__isnull=True
    )
    first = found.order_by("directory_id", "pk").first()
    assert first is not None
    return list(found.filter(directory=first.directory_id).order_by("member_count", "pk")[:count])


def drive(organization: Organization, rounds: int = 20) -> None:
    """What the workers do, until nothing is left to do now."""
    for _ in range(rounds):
        events = list(
            InboundEvent.objects.of(organization)
            .filter(status__in=InboundEvent.OPEN, next_try_at__isnull=True)
            .values_list("pk", flat=True)
        )
        for pk in events:
            process_event(pk)
        runs = list(
            Operation.objects.of(organization)
            .filter(status__in=["planning", "queued", "running"])
            .order_by("pk")
            .values_list("pk", "status")
        )
        for pk, status in runs:
            if status == "planning":
                operations.run_planning(pk)
            operations.execute_operation(pk)
        if not events and not runs:
            return
