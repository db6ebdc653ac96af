"""What licences cost, against sheets worked by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from apps.pricing.billing import Terms, anniversary, next_renewal, to_cent

TIERS = ((1, Decimal("8.15")), (101, Decimal("6.40")), (251, Decimal("3.90")))


def terms(billing: str = "monthly", tier_mode: str = "flat", tiers: object = ((1, Decimal("7.53")),)) -> Terms:
    return Terms("jira", "USD", billing, tier_mode, tiers, date(2026, 1, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "tiers", "seats", "expected"),
    [
        ("flat", ((1, Decimal("7.53")),), 0, "0.00"),
        ("flat", ((1, Decimal("7.53")),), 812, "6114.36"),
        # 100 × 8.15 = 815.00; 100 × 8.15 + 1 × 6.40 = 821.40; 815 + 150 × 6.40 + 49 × 3.90 = 1,966.10.
        ("graduated", TIERS, 100, "815.00"),
        ("graduated", TIERS, 101, "821.40"),
        ("graduated", TIERS, 299, "1966.10"),
        # All at the price of the tier that is reached: 100 × 8.15; 101 × 6.40 = 646.40; 299 × 3.90 = 1,166.10.
        ("volume", TIERS, 100, "815.00"),
        ("volume", TIERS, 101, "646.40"),
        ("volume", TIERS, 299, "1166.10"),
    ],
)
def test_month_costs_what_the_sheet_says(mode: str, tiers: object, seats: int, expected: str) -> None:
    assert to_cent(terms(tier_mode=mode, tiers=tiers).cost(seats)) == Decimal(expected)


def test_annual_price_is_a_twelfth_a_month() -> None:
    # 86.00 a year: 7.1666… a month; 3 licences 21.50.
    annual = terms("annual", tiers=((1, Decimal("86.00")),))

    assert to_cent(annual.cost(1)) == Decimal("7.17")
    assert to_cent(annual.cost(3)) == Decimal("21.50")


def test_freed_licences_are_worth_the_tiers_they_leave() -> None:
    # From 105 to 95 graduated: 5 × 6.40 + 5 × 8.15 = 72.75. By volume: 105 × 6.40 − 95 × 8.15 = −102.25, a dearer bill.
    assert to_cent(terms(tier_mode="graduated", tiers=TIERS).freed(95, 10)) == Decimal("72.75")
    assert to_cent(terms(tier_mode="volume", tiers=TIERS).freed(95, 10)) == Decimal("-102.25")


def test_half_a_cent_is_rounded_upwards() -> None:
    assert to_cent(Decimal("0.125")) == Decimal("0.13")
    assert to_cent(Decimal("1.005")) == Decimal("1.01")


def test_renewal_recurs_each_year() -> None:
    assert next_renewal(date(2024, 3, 1), date(2026, 3, 1)) == date(2026, 3, 1)
    assert next_renewal(date(2024, 3, 1), date(2026, 3, 2)) == date(2027, 3, 1)
    assert anniversary(date(2024, 2, 29), 2026) == date(2026, 2, 28)
