"""Brakes: no set of limits that is accepted lets a plan over everybody through; the tighter of two always binds."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.operations.models import Operation
from apps.operations.selection import Limits
from apps.operations.services.finishing import status_of
from apps.operations.services.gate import Brakes, share_percent
from apps.organizations.models import Organization

counts = st.integers(1, 5000)
shares = st.decimals(0, 100, places=2)


def brakes_of(count: int, share: Decimal, day: int, limits: Limits) -> Brakes:
    organization = Organization(max_count=count, max_share_percent=share, max_per_day=day)
    return Brakes.of(organization, limits)


def is_held(brakes: Brakes, people: int, licensed: int, used: int = 0) -> bool:
    return (
        people > brakes.max_count
        or share_percent(people, licensed) > brakes.max_share_percent
        or used + people > brakes.max_per_day
    )


@given(counts, shares, counts, st.one_of(st.none(), counts), st.one_of(st.none(), shares), st.integers(1, 5000))
def test_limits_that_can_trip_hold_a_plan_over_everybody(
    count: int, share: Decimal, day: int, rule_count: int | None, rule_share: Decimal | None, licensed: int
) -> None:
    brakes = brakes_of(count, share, day, Limits(rule_count, rule_share))

    assert brakes.can_trip(licensed) == is_held(brakes, licensed, licensed)


@given(counts, shares, counts, counts, shares, st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 5000))
def test_a_rule_can_only_tighten(
    count: int,
    share: Decimal,
    day: int,
    rule_count: int,
    rule_share: Decimal,
    people: int,
    licensed: int,
    used: int,
) -> None:
    alone = brakes_of(count, share, day, Limits())
    with_rule = brakes_of(count, share, day, Limits(rule_count, rule_share))

    if is_held(alone, people, licensed, used):
        assert is_held(with_rule, people, licensed, used)


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({"done": 3}, Operation.Status.SUCCEEDED),
        ({"done": 3, "skipped_exempt": 1}, Operation.Status.SUCCEEDED),
        ({"done": 3, "failed": 1}, Operation.Status.PARTIAL_FAILURE),
        ({"done": 1, "unresolved": 1}, Operation.Status.PARTIAL_FAILURE),
        ({"failed": 2, "skipped_gone": 4}, Operation.Status.FAILED),
        ({"failed_licence_limit": 2}, Operation.Status.FAILED),
        ({"already_so": 2}, Operation.Status.NO_EFFECT),
        ({"skipped_active_again": 2}, Operation.Status.NO_EFFECT),
        ({}, Operation.Status.NO_EFFECT),
    ],
)
def test_final_status_follows_from_the_outcomes(counts: dict[str, int], status: str) -> None:
    assert status_of(counts) == status
