"""From freed licences to a month's savings: pure arithmetic over spans of days, in exact decimals.

What the three kinds of billing mean (docs/savings.md has the sheets worked by hand):

* monthly: the month's highest number of licences is billed. What lowers the bill is the least number of licences that
  were free at once on every day of the month. Someone who returns in mid-month is billed for all of it.
* daily: each licence saves a day's share of the month for each day it is free.
* annual: nothing before the renewal. A licence that is free on the renewal day is not renewed; from then on it saves a
  day's share of a twelfth of the year for each day it stays free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_DOWN, Decimal

from apps.pricing.billing import CENT, Terms, next_renewal, to_cent


@dataclass(frozen=True)
class Span:
    """`count` licences of `product` that were free from `first` to `last` (None: still), both days included."""

    product: str
    first: date
    last: date | None
    count: int = 1
    rule_id: int | None = None
    source: str = ""

    def within(self, first: date, last: date) -> tuple[date, date] | None:
        """The days of the span from `first` to `last`; None when there are none."""
        begin, end = max(self.first, first), min(self.last or last, last)
        return (begin, end) if begin <= end else None


@dataclass(frozen=True)
class Month:
    """A calendar month; `last_counted` is its last day, or today in the month that runs."""

    first: date
    last: date
    last_counted: date

    @classmethod
    def of(cls, day: date, today: date) -> Month:
        """The month that holds `day`."""
        first = day.replace(day=1)
        last = (first + timedelta(days=32)).replace(day=1) - timedelta(days=1)
        return cls(first, last, min(last, today) if first <= today else last)

    @property
    def length(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def is_running(self) -> bool:
        return self.last_counted < self.last

    @property
    def key(self) -> str:
        """`2026-11`."""
        return f"{self.first:%Y-%m}"

    def shifted(self, months: int, today: date) -> Month:
        """The month so many months later (earlier with a minus)."""
        number = self.first.year * 12 + self.first.month - 1 + months
        return Month.of(date(number // 12, number % 12 + 1, 1), today)


@dataclass(frozen=True)
class ProductMonth:
    """What one product saved in one month. `seats` lowered the bill; `shares` has the amount of each span.

    `amount` is None without a price; `shares` are then empty and `seats` counts by the monthly rule.
    """

    product: str
    seats: int
    amount: Decimal | None
    currency: str
    shares: Mapping[Span, Decimal]


def product_month(
    product: str, spans: Sequence[Span], month: Month, terms: Terms | None, seats_left: int
) -> ProductMonth:
    """One product in one month, to the cent. `seats_left`: the most licences in use in the month, for tiers."""
    billing = terms.billing if terms else "monthly"
    days = {span: found for span in spans if (found := _counted(span, month, terms))}
    per_day = _per_day(days, month)
    if billing == "monthly":
        seats = min(per_day) if per_day else 0
        weights = _monthly_weights(days, month, seats)
        amount = terms.freed(seats_left, seats) if terms else Decimal(0)
    else:
        assert terms is not None
        seats = max(per_day, default=0)
        weights = {span: Decimal(span.count * _length(found)) for span, found in days.items()}
        amount = sum((terms.freed(seats_left, number) for number in per_day), Decimal(0)) / month.length
    if terms is None:
        return ProductMonth(product, seats, None, "", {})
    total = to_cent(amount)
    return ProductMonth(product, seats, total, terms.currency, split(total, weights))


def _counted(span: Span, month: Month, terms: Terms | None) -> tuple[date, date] | None:
    """The days of the month on which the span counts by its kind of billing."""
    if terms is None or not terms.is_annual or terms.renewal_on is None:
        return span.within(month.first, month.last_counted)
    renewal = next_renewal(terms.renewal_on, span.first)
    if span.last is not None and span.last < renewal:
        return None
    return span.within(max(month.first, renewal), month.last_counted)


def _length(days: tuple[date, date]) -> int:
    return (days[1] - days[0]).days + 1


def _per_day(days: Mapping[Span, tuple[date, date]], month: Month) -> list[int]:
    """Licences free on each day that is counted."""
    length = (month.last_counted - month.first).days + 1
    steps = [0] * (length + 1)
    for span, (begin, end) in days.items():
        steps[(begin - month.first).days] += span.count
        steps[(end - month.first).days + 1] -= span.count
    numbers, at = [], 0
    for step in steps[:length]:
        at += step
        numbers.append(at)
    return numbers


def _monthly_weights(days: Mapping[Span, tuple[date, date]], month: Month, seats: int) -> dict[Span, Decimal]:
    """How much each span has of `seats`: those free all month one a licence, the rest shared by days.

    The rest is there when licences took turns: one free until the 15th, another from the 16th on.
    """
    length = (month.last_counted - month.first).days + 1
    weights = {span: Decimal(span.count) for span, found in days.items() if _length(found) == length}
    rest = seats - sum((span.count for span in weights), 0)
    partial = {span: span.count * _length(found) for span, found in days.items() if span not in weights}
    total = sum(partial.values())
    if rest > 0 and total:
        weights |= {span: Decimal(rest * part) / total for span, part in partial.items()}
    return weights


def split(total: Decimal, weights: Mapping[Span, Decimal]) -> dict[Span, Decimal]:
    """`total` cut into cents by weight, so that the parts add up to it; what is left over goes to the largest rests."""
    whole = sum(weights.values(), Decimal(0))
    if not whole:
        return {}
    exact = {span: total * weight / whole for span, weight in weights.items()}
    parts = {span: amount.quantize(CENT, rounding=ROUND_DOWN) for span, amount in exact.items()}
    left = int((total - sum(parts.values(), Decimal(0))) / CENT)
    step = CENT if left >= 0 else -CENT
    order = sorted(exact, key=lambda span: (-abs(exact[span] - parts[span]), span.first, span.source, span.count))
    for index in range(abs(left)):
        parts[order[index % len(order)]] += step
    return parts


def by_product(spans: Iterable[Span]) -> dict[str, list[Span]]:
    """The spans of each product."""
    found: dict[str, list[Span]] = {}
    for span in spans:
        found.setdefault(span.product, []).append(span)
    return found
