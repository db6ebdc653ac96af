"""Counts of a plan that is not made agree with the plan."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.operations import planning, services
from apps.operations.models import Operation
from apps.operations.selection import ActionSpec, IdleSelection
from apps.operations.services import hydration
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox


@pytest.mark.parametrize("never", [True, False])
def test_estimate_equals_the_plan(organization: Organization, plan: Callable[..., Operation], never: bool) -> None:
    selection = IdleSelection(inactive_days=45, include_never_active=never, never_active_days=30 if never else None)

    counts = planning.count_plan(organization, selection, [ActionSpec("suspend")], timezone.now())
    preview = plan(selection=selection, mode="safe")

    assert counts.planned == preview.people_count > 0
    assert counts.left_out == preview.left_out
    assert sum(counts.by_reason.values()) == counts.planned
    assert ("never_active" in counts.by_reason) is never


def test_who_was_given_access_counts_from_that_day(
    organization: Organization, plan: Callable[..., Operation], execute: Callable[[Operation], Operation]
) -> None:
    """Day 0 given back; neither snooze nor threshold lets the nightly rule touch them before N days have passed."""
    selection = IdleSelection(inactive_days=60)
    operation = execute(plan(selection=selection))
    done = set(operation.items.filter(outcome="done").values_list("subject", flat=True))
    undo = services.undo_operation(operation=operation, actor=Actor.system(), operator=None)
    services.run_planning(undo.pk)
    execute(undo)
    given = timezone.now()

    def planned(days: float) -> set[str]:
        rows = planning.candidates(organization, selection, "suspend", given + timedelta(days=days))
        return done & set(rows.filter(out=planning.IN).values_list("account_id", flat=True))

    assert planned(1) == planned(31) == planned(59) == set()
    # The snooze of 30 days ended on day 30, so the clock runs from there: 30 + 60 days.
    assert planned(89) == set()
    assert planned(91) == done


def test_killed_planning_of_product_access_goes_on_where_it_was(
    organization: Organization,
    sandbox: Sandbox,
    plan: Callable[..., Operation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hydration, "BATCH", 5)
    wanted = {"products": ("jira", "confluence"), "selection": IdleSelection(inactive_days=30, per_product=True)}
    whole = plan("remove_product_access", mode="safe", **wanted)
    sandbox.control.post("faults", {"kind": "error", "status": 403, "path": "role-assignments", "skip": 12, "count": 1})
    killed = plan("remove_product_access", mode="safe", **wanted)
    assert killed.status == Operation.Status.FAILED
    done = killed.items.count()
    asked = len(sandbox.control.get("requests?path=role-assignments")["requests"])

    # As a worker that died would have left it: still planning, with what it had read.
    Operation.objects.filter(pk=killed.pk).update(
        status="planning",
        finished_at=None,
        driven_at=None,
        request={"make": "selection", "is_hydrating": True, "done_through": _last(killed)},
    )
    services.run_planning(killed.pk)
    killed.refresh_from_db()

    assert done > 0
    assert killed.plan_hash == whole.plan_hash, (killed.status, killed.status_detail)
    assert killed.left_out == whole.left_out
    asked_again = len(sandbox.control.get("requests?path=role-assignments")["requests"]) - asked
    assert asked_again < whole.people_count + sum(whole.left_out.values())


def _last(operation: Operation) -> int:
    last = operation.items.order_by("-account_id").values_list("account_id", flat=True).first()
    assert last is not None
    return last
