"""What licences cost by the terms of a price: pure arithmetic in exact decimals, without the database.

Sources: Atlassian bills a monthly subscription by its highest number of users, gives nothing back on an
annual one before its renewal, and prices by tiers, so that fewer users can cost more each (COMPLAINTS.md, Licences).
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")
MONTHS_A_YEAR = 12


@dataclass(frozen=True)
class Terms:
    """One product's price from a date on. `tiers`: (from_users, price per user), the first from 1; one if flat.

    Prices are per month, or per year when `billing` is annual.
    """

    product: str
    currency: str
    billing: str
    tier_mode: str
    tiers: tuple[tuple[int, Decimal], ...]
    valid_from: date
    renewal_on: date | None = None
    tier: str = ""

    @property
    def is_annual(self) -> bool:
        return self.billing == "annual"

    def cost(self, seats: int) -> Decimal:
        """What `seats` licences cost in one month, not rounded; a twelfth of the year with annual billing."""
        total = self._listed(max(seats, 0))
        return total / MONTHS_A_YEAR if self.is_annual else total

    def per_seat(self, seats: int) -> Decimal:
        """The listed price a month in the tier that `seats` licences fall into, not rounded."""
        price = self._reached(max(seats, 1))
        return price / MONTHS_A_YEAR if self.is_annual else price

    def freed(self, seats: int, freed: int) -> Decimal:
        """What a month costs less because `freed` licences are gone and `seats` are left, not rounded.

        Below zero where fewer users fall into a dearer tier: that is the truth about a volume price.
        """
        return self.cost(seats + freed) - self.cost(seats)

    def _listed(self, seats: int) -> Decimal:
        if self.tier_mode == "graduated":
            return _graduated(self.tiers, seats)
        return self._reached(seats) * seats

    def _reached(self, seats: int) -> Decimal:
        return ([price for start, price in self.tiers if start <= seats] or [self.tiers[0][1]])[-1]


def _graduated(tiers: Sequence[tuple[int, Decimal]], seats: int) -> Decimal:
    total = Decimal(0)
    for index, (start, price) in enumerate(tiers):
        end = tiers[index + 1][0] - 1 if index + 1 < len(tiers) else seats
        total += price * max(0, min(seats, end) - start + 1)
    return total


def to_cent(amount: Decimal) -> Decimal:
    """Rounded to the cent, half of one upwards as bills do."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def anniversary(renewal_on: date, year: int) -> date:
    """The renewal in `year`; 29 February becomes the 28th in a year without it."""
    last = calendar.monthrange(year, renewal_on.month)[1]
    return date(year, renewal_on.month, min(renewal_on.day, last))


def next_renewal(renewal_on: date, day: date) -> date:
    """The first renewal on or after `day`."""
    this_year = anniversary(renewal_on, day.year)
    return this_year if this_year >= day else anniversary(renewal_on, day.year + 1)
