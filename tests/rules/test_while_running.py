"""A rule that is edited or deleted while its run is under way: the run goes on with its frozen plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import time

import pytest

from apps.operations.models import Operation
from apps.operations.services import execute_operation, run_planning
from apps.operations.services.claims import claim_chunk, release
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.rules.services import create_rule, delete_rule, run_rule, update_rule
from apps.rules.values import RuleInput
from apps.sandbox.server import Sandbox
from apps.users.services import request_sync, run_sync
from tests.rules.conftest import made_live


@pytest.mark.parametrize("change", ["edited", "deleted"])
def test_run_goes_on_with_the_version_it_began_with(
    transactional_db: None,
    sandbox: Sandbox,
    connect: Callable[..., Organization],
    operators: Callable[..., Operator],
    change: str,
) -> None:
    organization = connect(sandbox, max_share_percent=90)
    admin = operators(organization, "admin@aum.example", "admin")
    actor = Actor.operator(admin)
    run_sync(request_sync(organization=organization, actor=actor).pk, budget_seconds=None, wait_here=True)
    safe = RuleInput(name="Idle", inactive_days=60, run_at=time(6))
    rule = made_live(create_rule(organization=organization, values=safe, actor=actor, operator=admin))
    values = RuleInput.of(rule)
    operation = run_rule(rule=rule, actor=actor, operator=admin)
    run_planning(operation.pk)
    claim = claim_chunk(operation.pk, 3)  # under way
    release(claim.items, claim.token)
    planned = set(operation.items.values_list("subject", flat=True))

    if change == "edited":
        update_rule(
            rule=rule, values=replace(values, inactive_days=400), expected_version=1, actor=actor, operator=admin
        )
    else:
        delete_rule(rule=rule, actor=actor)
    Operation.objects.filter(pk=operation.pk).update(driven_at=None)
    execute_operation(operation.pk)

    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert operation.rule_version == 1
    assert set(operation.items.filter(outcome__in=["done", "already_so"]).values_list("subject", flat=True)) == planned
