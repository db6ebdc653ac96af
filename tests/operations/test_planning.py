"""Counts of a plan that is not made agree with the plan."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone

from apps.operations import planning
from apps.operations.models import Operation
from apps.operations.selection import ActionSpec, IdleSelection
from apps.organizations.models import Organization


@pytest.mark.parametrize("never", [True, False])
def test_estimate_equals_the_plan(organization: Organization, plan: Callable[..., Operation], never: bool) -> None:
    selection = IdleSelection(inactive_days=45, include_never_active=never, never_active_days=30 if never else None)

    counts = planning.count_plan(organization, selection, [ActionSpec("suspend")], timezone.now())
    preview = plan(selection=selection, mode="safe")

    assert counts.planned == preview.people_count > 0
    assert counts.left_out == preview.left_out
    assert sum(counts.by_reason.values()) == counts.planned
    assert ("never_active" in counts.by_reason) is never
