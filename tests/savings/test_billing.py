"""A month's savings against sheets worked by hand (docs/savings.md), to the cent."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.pricing.billing import Terms
from apps.savings.billing import Month, Span, product_month, split

TODAY = date(2026, 12, 20)
NOVEMBER = Month.of(date(2026, 11, 5), TODAY)
# Graduated: users 1–100 at 8.15, 101–250 at 6.40, from 251 on 3.90.
TIERS = ((1, Decimal("8.15")), (101, Decimal("6.40")), (251, Decimal("3.90")))


def day(number: int, month: int = 11, year: int = 2026) -> date:
    return date(year, month, number)


def terms(billing: str = "monthly", **fields: Any) -> Terms:
    return Terms(
        **{
            "product": "jira",
            "currency": "USD",
            "billing": billing,
            "tier_mode": "flat",
            "tiers": ((1, Decimal("7.53")),),
            "valid_from": date(2026, 1, 1),
            **fields,
        }
    )


def span(first: date, last: date | None = None, count: int = 1, source: str = "Rule") -> Span:
    return Span("jira", first, last, count, 1, source)


@pytest.mark.parametrize(
    ("spans", "seats", "amount"),
    [
        # 10 free since October: 10 × 7.53.
        ([span(day(9, 10), count=10)], 10, "75.30"),
        # 3 freed on the 9th: November's highest number had them. Nothing until December.
        ([span(day(10), count=3)], 0, "0.00"),
        # 10 free since October, one of them restored on the 15th and billed for all of November: 9 × 7.53.
        ([span(day(9, 10), count=9), span(day(9, 10), day(14))], 9, "67.77"),
        # Turns: one free until the 14th, another from the 15th on. One licence less on every day.
        ([span(day(1), day(14), source="A"), span(day(15), source="B")], 1, "7.53"),
        # Removed on the 4th, back on the 9th, removed again on the 19th: billed for November.
        ([span(day(5), day(8)), span(day(20))], 0, "0.00"),
        # Free since October, back for a day, free again: still billed for November, once.
        ([span(day(9, 10), day(14)), span(day(17))], 0, "0.00"),
    ],
)
def test_monthly_bill_falls_by_what_was_free_all_month(spans: list[Span], seats: int, amount: str) -> None:
    found = product_month("jira", spans, NOVEMBER, terms(), 812)

    assert (found.seats, found.amount) == (seats, Decimal(amount))


def test_daily_bill_falls_by_each_day() -> None:
    # 10 all November, 1 until the 14th, 3 from the 10th: 300 + 14 + 63 = 377 days of 30: 377 × 7.53 / 30 = 94.627.
    spans = [span(day(9, 10), count=10), span(day(9, 10), day(14)), span(day(10), count=3)]

    assert product_month("jira", spans, NOVEMBER, terms("daily"), 800).amount == Decimal("94.63")


def test_annual_bill_falls_from_the_renewal_on() -> None:
    # 86.00 a year, renewed on 11 November. 4 freed before: 4 × 86 / 12 × 20 / 30 = 19.11. One of them back on the 21st
    # (10 days): 3 × 20 + 10 = 70 days: 70 × 7.1666… / 30 = 16.72. 2 freed on the 12th count from November 2027 on.
    annual = terms("annual", tiers=((1, Decimal("86.00")),), renewal_on=date(2024, 11, 11))
    later = [span(day(13), count=2)]

    assert product_month("jira", [span(day(2, 3), count=4), *later], NOVEMBER, annual, 800).amount == Decimal("19.11")
    assert product_month(
        "jira", [span(day(2, 3), count=3), span(day(2, 3), day(20)), *later], NOVEMBER, annual, 800
    ).amount == Decimal("16.72")


def test_annual_licence_that_is_back_before_the_renewal_saves_nothing() -> None:
    annual = terms("annual", renewal_on=date(2026, 11, 11))

    assert product_month("jira", [span(day(2, 3), day(10))], NOVEMBER, annual, 800).amount == 0


def test_tiers_are_left_from_the_top() -> None:
    # 240 licences left, 15 free all month: from 255 to 240: 5 × 3.90 + 10 × 6.40 = 83.50.
    graduated = terms(tier_mode="graduated", tiers=TIERS)

    assert product_month("jira", [span(day(9, 10), count=15)], NOVEMBER, graduated, 240).amount == Decimal("83.50")
    # With one of the 15 restored on the 15th: 14 free all month, 241 left: 5 × 3.90 + 9 × 6.40 = 77.10.
    spans = [span(day(9, 10), count=14), span(day(9, 10), day(14))]
    assert product_month("jira", spans, NOVEMBER, graduated, 241).amount == Decimal("77.10")


def test_volume_price_can_make_fewer_licences_dearer() -> None:
    # 105 at 6.40 = 672.00; 95 at 8.15 = 774.25.
    volume = terms(tier_mode="volume", tiers=TIERS)

    assert product_month("jira", [span(day(9, 10), count=10)], NOVEMBER, volume, 95).amount == Decimal("-102.25")


def test_month_that_runs_counts_days_up_to_today() -> None:
    december = Month.of(TODAY, TODAY)

    assert product_month("jira", [span(day(9, 10))], december, terms("daily"), 800).amount == Decimal("4.86")
    assert product_month("jira", [span(day(9, 10))], december, terms(), 800).amount == Decimal("7.53")


def test_without_a_price_there_are_licences_and_no_money() -> None:
    found = product_month("jira", [span(day(9, 10), count=4)], NOVEMBER, None, 800)

    assert (found.seats, found.amount, found.shares) == (4, None, {})


spans_of_november = st.lists(
    st.builds(
        lambda first, length, count, source: span(
            day(first), None if length is None else day(min(first + length, 30)), count, source
        ),
        st.integers(1, 30),
        st.one_of(st.none(), st.integers(0, 29)),
        st.integers(1, 9),
        st.sampled_from(["A", "B", "C"]),
    ),
    max_size=8,
    unique=True,
)


@given(spans_of_november, st.sampled_from(["monthly", "daily", "annual"]))
def test_parts_by_rule_add_up_to_the_amount(spans: list[Span], billing: str) -> None:
    price = terms(billing, renewal_on=date(2025, 11, 10))

    found = product_month("jira", spans, NOVEMBER, price, 300)

    assert found.amount is not None
    assert sum(found.shares.values(), Decimal(0)) == found.amount
    assert all(amount >= 0 for amount in found.shares.values())


@given(spans_of_november)
def test_monthly_saving_is_the_difference_of_two_highest_numbers(spans: list[Span]) -> None:
    used = 100
    free = [
        sum(s.count for s in spans if s.first <= d and (s.last is None or s.last >= d)) for d in map(day, range(1, 31))
    ]

    found = product_month("jira", spans, NOVEMBER, terms(), 50)

    with_aum = max(used - number for number in free)
    assert found.amount == (used - with_aum) * Decimal("7.53")


def test_cents_are_split_without_a_rest() -> None:
    thirds = {span(day(1), source=name): Decimal(1) for name in "ABC"}

    assert sorted(split(Decimal("10.00"), thirds).values()) == [Decimal("3.33"), Decimal("3.33"), Decimal("3.34")]
