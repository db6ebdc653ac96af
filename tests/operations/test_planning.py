"""Counts of a plan that is not made agree with the plan."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.operations import planning, services
from apps.operations.models import Operation
from apps.operations.selection import ActionSpec, IdleSelection
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor


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
