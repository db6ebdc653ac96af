"""Reads of the ledger: spans of freed licences, a month, twelve months with a projection, who stands behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Max, QuerySet
from django.utils import timezone

from apps.organizations.models import Organization
from apps.pricing.billing import Terms, to_cent
from apps.pricing.selectors import (
    all_terms,
    local_midnight,
    pick_terms,
    pick_terms_of_month,
    seats,
    today,
)
from apps.savings.billing import Month, ProductMonth, Span, by_product, product_month
from apps.savings.models import DailySnapshot, LedgerEntry
from apps.users.models import Product
from apps.users.products import label_of
from apps.users.selectors.words import short_label
from aum.common.errors import InvalidInput
from aum.common.money import Amounts, money_text

PROJECTED_MONTHS = 2
COLOURS = {"jira": "1", "confluence": "3", "jsm": "2", "bitbucket": "4"}

# The days are the organisation's own; equal ones are one span: money is computed over dates and not over people.
_SPANS = """
SELECT product, (freed_at AT TIME ZONE %(zone)s)::date + 1 AS first_day,
    CASE WHEN ended_at IS NULL THEN NULL ELSE (ended_at AT TIME ZONE %(zone)s)::date - 1 END AS last_day,
    rule_id, source_name, count(*)
FROM savings_ledgerentry WHERE organization_id = %(organization)s
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""


def spans(organization: Organization) -> list[Span]:
    """Every freed licence as days, alike ones together; those given back on the day they were freed are left out."""
    with connection.cursor() as cursor:
        cursor.execute(_SPANS, {"zone": organization.timezone, "organization": organization.pk})
        rows = cursor.fetchall()
    found = [
        Span(product, first, last, count, rule_id, source) for product, first, last, rule_id, source, count in rows
    ]
    return [span for span in found if span.last is None or span.last >= span.first]


@dataclass(frozen=True)
class Books:
    """Everything that months are computed from, read once."""

    organization: Organization
    today: date
    spans: list[Span]
    terms: list[Terms]
    seats: Mapping[str, int]
    peaks: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, organization: Organization, now: datetime | None = None) -> Books:
        """The organisation's ledger, prices, licences in use, and the peaks of each month: `2026-11` → product."""
        peaks: dict[str, dict[str, int]] = {}
        days = DailySnapshot.objects.of(organization).values_list("day", "peak_seats")
        for day, found in days.iterator():
            month = peaks.setdefault(f"{day:%Y-%m}", {})
            for product, number in found.items():
                month[product] = max(number, month.get(product, 0))
        return cls(
            organization,
            today(organization, now),
            spans(organization),
            all_terms(organization),
            seats(organization),
            peaks,
        )

    @property
    def has_prices(self) -> bool:
        return bool(self.terms)

    def month(self, month: Month) -> MonthSavings:
        """One month, product by product: the four main ones in their order, then others that were freed or priced."""
        of_product, terms = by_product(self.spans), pick_terms_of_month(self.terms, month.first)
        names = [*Product.values, *sorted({*of_product, *terms} - set(Product.values))]
        peaks = self.peaks.get(month.key, {})
        rows = [
            product_month(
                name,
                of_product.get(name, []),
                month,
                terms.get(name),
                peaks.get(name, self.seats.get(name, 0)),
            )
            for name in names
        ]
        return MonthSavings(month, tuple(rows))

    def months(self, until: Month, count: int) -> list[MonthSavings]:
        """`count` months up to `until`, the oldest first."""
        return [self.month(until.shifted(-back, self.today)) for back in range(count - 1, -1, -1)]

    def projected(self, ahead: int) -> MonthSavings:
        """The month so many months after this one as if nobody returned and nothing further was freed."""
        month = Month.of(self.today, self.today).shifted(ahead, self.today)
        return self.month(Month(month.first, month.last, month.last))

    def worth(self, product: str, count: int) -> Amounts:
        """What `count` licences of `product`, given up now, would save a month by today's price; empty without one."""
        terms = pick_terms(self.terms, self.today).get(product)
        if terms is None:
            return Amounts()
        left = max(self.seats.get(product, 0) - count, 0)
        return Amounts.of(to_cent(terms.freed(left, count)), terms.currency)

    def price_text(self, product: str) -> str:
        """`$8.15` a month at the present number of licences; empty without a price."""
        terms = pick_terms(self.terms, self.today).get(product)
        if terms is None:
            return ""
        price = terms.per_seat(self.seats.get(product, 0))
        return money_text(price, terms.currency, decimals=max(2, min(4, _decimals(price))))


def _decimals(amount: Decimal) -> int:
    return -int(amount.normalize().as_tuple().exponent)


@dataclass(frozen=True)
class MonthSavings:
    """What was realised in one month."""

    month: Month
    products: tuple[ProductMonth, ...]

    @property
    def realised(self) -> Amounts:
        """All products together, by currency; empty without prices."""
        return Amounts.total(_amount(row) for row in self.products)

    @property
    def seats(self) -> int:
        """Licences that lowered the month's bill."""
        return sum(row.seats for row in self.products)

    def by_source(self) -> list[tuple[int | None, str, Amounts]]:
        """(rule, name, amount) of each rule or run, the largest first; the parts add up to `realised`."""
        sums: dict[tuple[int | None, str], Amounts] = {}
        for row in self.products:
            for span, amount in row.shares.items():
                key = (span.rule_id, span.source)
                sums[key] = sums.get(key, Amounts()) + Amounts.of(amount, row.currency)
        found = [(rule, name, amount) for (rule, name), amount in sums.items() if not amount.is_zero]
        return sorted(found, key=lambda part: (-sum(value for _, value in part[2]), part[1]))


def _amount(row: ProductMonth) -> Amounts:
    return Amounts() if row.amount is None else Amounts.of(row.amount, row.currency)


def parse_month(text: str, organization: Organization, now: datetime | None = None) -> Month:
    """The month that `2026-11` names, this one when empty. Raises InvalidInput for anything else and for the future."""
    day = today(organization, now)
    if not text:
        return Month.of(day, day)
    try:
        asked = date.fromisoformat(f"{text}-01") if len(text) == 7 else None
    except ValueError:
        asked = None
    if asked is None or asked > day or asked.year < 2000:
        raise InvalidInput(fields={"month": ["Enter a month up to this one, such as 2026-11."]})
    return Month.of(asked, day)


def first_month(organization: Organization) -> date:
    """The first day of the month in which the ledger begins; of this month when it is empty."""
    oldest = LedgerEntry.objects.of(organization).order_by("freed_at").values_list("freed_at", flat=True).first()
    return today(organization, oldest).replace(day=1)


# --- who stands behind the figures ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeatLine:
    """One person and product in one month: `days` of it, and the part of the month's amount."""

    account_pk: int
    account_id: str
    name: str
    email: str
    product: str
    label: str
    days: int
    freed_at: datetime
    ended_at: datetime | None
    source: str
    run_number: int | None
    action: str
    amount: Decimal | None
    currency: str

    @property
    def amount_text(self) -> str:
        return "" if self.amount is None else money_text(self.amount, self.currency)


def entries_in(organization: Organization, month: Month, product: str = "") -> QuerySet[LedgerEntry]:
    """Entries with at least one day in the month up to its last counted one, by product and person."""
    ends = local_midnight(organization, month.last_counted)
    rows = LedgerEntry.objects.of(organization).filter(freed_at__lt=ends)
    still = rows.filter(ended_at__isnull=True) | rows.filter(
        ended_at__gte=local_midnight(organization, month.first + timedelta(days=1))
    )
    if product:
        still = still.filter(product=product)
    return still.select_related("account", "operation").order_by("product", "account__sort_name", "account_id", "id")


def seat_lines(organization: Organization, month: Month, product: str = "") -> list[SeatLine]:
    """Everybody behind a month, once a product: a person freed, back and freed again has the days of both.

    The amounts of a product add up to its amount in `Books.month`.
    """
    books = Books.of(organization)
    shares = _Shares(books.month(month))
    lines: dict[tuple[int, str], SeatLine] = {}
    for entry in entries_in(organization, month, product):
        span = Span(
            entry.product,
            today(organization, entry.freed_at) + timedelta(days=1),
            today(organization, entry.ended_at) - timedelta(days=1) if entry.ended_at else None,
            0,
            entry.rule_id,
            entry.source_name,
        )
        found = span.within(month.first, month.last_counted)
        if found is None:
            continue
        days = (found[1] - found[0]).days + 1
        amount, currency = shares.next(span)
        key = (entry.account_id, entry.product)
        earlier = lines.get(key)
        lines[key] = SeatLine(
            account_pk=entry.account_id,
            account_id=entry.account.account_id,
            name=entry.account.name,
            email=entry.account.email or "",
            product=entry.product,
            label=label_of(entry.product),
            days=days + (earlier.days if earlier else 0),
            freed_at=earlier.freed_at if earlier else entry.freed_at,
            ended_at=entry.ended_at,
            source=entry.source_name,
            run_number=entry.operation.number if entry.operation else None,
            action=entry.action,
            amount=None if amount is None else amount + (earlier.amount or Decimal(0) if earlier else Decimal(0)),
            currency=currency,
        )
    return list(lines.values())


class _Shares:
    """Gives each person of a span their part of its amount in cents, so that the parts add up to it."""

    def __init__(self, savings: MonthSavings) -> None:
        self._left: dict[tuple[Any, ...], tuple[Decimal, int]] = {}
        self._currency: dict[str, str] = {}
        self._priced: set[str] = set()
        for row in savings.products:
            if row.amount is not None:
                self._priced.add(row.product)
            self._currency[row.product] = row.currency
            for span, amount in row.shares.items():
                self._left[_key(span)] = (amount, span.count)

    def next(self, span: Span) -> tuple[Decimal | None, str]:
        """(part, currency); None without a price."""
        if span.product not in self._priced:
            return None, ""
        amount, people = self._left.get(_key(span), (Decimal(0), 1))
        part = (amount / people).quantize(Decimal("0.01")) if people > 1 else amount
        self._left[_key(span)] = (amount - part, people - 1)
        return part, self._currency[span.product]


def _key(span: Span) -> tuple[Any, ...]:
    return (span.product, span.first, span.last, span.rule_id, span.source)


_PEOPLE = """
SELECT product, count(DISTINCT account_id) FROM (
    SELECT product, account_id, (freed_at AT TIME ZONE %(zone)s)::date + 1 AS first_day,
        CASE WHEN ended_at IS NULL THEN NULL ELSE (ended_at AT TIME ZONE %(zone)s)::date - 1 END AS last_day
    FROM savings_ledgerentry WHERE organization_id = %(organization)s
) spans
WHERE first_day <= %(last)s AND (last_day IS NULL OR last_day >= greatest(first_day, %(first)s))
GROUP BY product
"""


def people_in(organization: Organization, first: Month, last: Month) -> dict[str, int]:
    """People whose licence was free for at least one day of the months, by product; each counted once."""
    with connection.cursor() as cursor:
        cursor.execute(
            _PEOPLE,
            {
                "zone": organization.timezone,
                "organization": organization.pk,
                "first": first.first,
                "last": last.last_counted,
            },
        )
        return dict(cursor.fetchall())


def is_demo_history(organization: Organization) -> bool:
    """Whether figures shown come from the demo's invented history."""
    return (
        LedgerEntry.objects.of(organization).filter(is_demo=True).exists()
        or DailySnapshot.objects.of(organization).filter(is_demo=True).exists()
    )


def last_posted_at(organization: Organization) -> datetime | None:
    """When a licence was last freed."""
    newest: datetime | None = LedgerEntry.objects.of(organization).aggregate(at=Max("freed_at"))["at"]
    return newest


# --- drawing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """One product in the chart: widths in SVG units of `full`."""

    product: str
    label: str
    css: str
    realised: Amounts
    possible: Amounts
    seats: int
    idle: int
    width: int
    more_x: int
    more_width: int
    url: str = ""


def bars(books: Books, savings: MonthSavings, possible: Mapping[str, int], full: int = 420) -> list[Bar]:
    """Realised and possible beside one another, by product in fixed order: two numbers, never one sum (S284)."""
    rows = [
        (row, _amount(row), books.worth(row.product, possible.get(row.product, 0)))
        for row in savings.products
        if row.product in Product.values or row.amount or possible.get(row.product)
    ]
    priced = books.has_prices
    sizes = [
        (
            _size(realised) if priced else Decimal(row.seats),
            _size(more) if priced else Decimal(possible.get(row.product, 0)),
        )
        for row, realised, more in rows
    ]
    most = max([first + second for first, second in sizes], default=Decimal(0))
    found = []
    for (row, realised, more), (first, second) in zip(rows, sizes, strict=True):
        width = round((full - 4) * first / most) if most else 0
        found.append(
            Bar(
                product=row.product,
                label=short_label(row.product),
                css=COLOURS.get(row.product, "5"),
                realised=realised,
                possible=more,
                seats=row.seats,
                idle=possible.get(row.product, 0),
                width=width,
                more_x=width + 2 if width else 0,
                more_width=round((full - 4) * second / most) if most else 0,
            )
        )
    return found


def _size(amounts: Amounts) -> Decimal:
    return max(sum((amount for _, amount in amounts), Decimal(0)), Decimal(0))


@dataclass(frozen=True)
class Point:
    """One month in the chart."""

    key: str
    name: str
    realised: Amounts
    seats: int
    x: str
    y: str
    is_projected: bool = False


@dataclass(frozen=True)
class Area:
    """The chart of months: paths in SVG units, and its grid: (y, label)."""

    points: tuple[Point, ...]
    line: str
    area: str
    dash: str
    grid: tuple[tuple[str, str], ...]
    currency: str


def area_chart(books: Books, months: Sequence[MonthSavings]) -> Area:
    """The months as an area, and two further ones dashed: what stays saved if nobody returns."""
    left, right, bottom, top = 64, 740, 190, 30
    projected = [books.projected(ahead) for ahead in range(1, PROJECTED_MONTHS + 1)]
    is_now = months[-1].month.first == Month.of(books.today, books.today).first
    shown = [*months, *(projected if is_now else [])]
    currency = _main_currency(books)
    values = [float(row.realised.in_currency(currency)) if books.has_prices else float(row.seats) for row in shown]
    most = _nice(max([*values, 0.0]))
    step = (right - left) / max(len(shown) - 1, 1)
    points = tuple(
        Point(
            row.month.key,
            f"{row.month.first:%b}",
            row.realised,
            row.seats,
            f"{left + step * index:.1f}",
            f"{bottom - (bottom - top) * max(value, 0.0) / most:.1f}",
            index >= len(months),
        )
        for index, (row, value) in enumerate(zip(shown, values, strict=True))
    )
    real = [point for point in points if not point.is_projected]
    line = " ".join(f"{'L' if index else 'M'}{point.x} {point.y}" for index, point in enumerate(real))
    dash = " ".join(
        f"{'L' if index else 'M'}{point.x} {point.y}" for index, point in enumerate(points[len(real) - 1 :])
    )
    grid = tuple(
        (f"{bottom - (bottom - top) * part / 4:.0f}", _axis(most * part / 4, currency if books.has_prices else ""))
        for part in range(5)
    )
    closed = f"{line} L{real[-1].x} {bottom} L{real[0].x} {bottom}Z"
    return Area(points, line, closed, dash if len(points) > len(real) else "", grid, currency)


def _main_currency(books: Books) -> str:
    """The organisation's currency where prices are in it, else that of the newest price."""
    found = [terms.currency for terms in books.terms]
    return books.organization.currency if books.organization.currency in found or not found else found[-1]


def _nice(value: float) -> float:
    """The next of 4, 8, 20, 40, … so that four grid lines have round labels."""
    size = 4.0
    factors = (2.0, 2.5, 2.0)
    index = 0
    while size < value:
        size *= factors[index % 3]
        index += 1
    return size


def _axis(value: float, currency: str) -> str:
    text = f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
    return f"{money_text(Decimal(0), currency, decimals=0)[:-1]}{text}" if currency else text


def now_day(organization: Organization) -> date:
    """Today in the organisation's timezone."""
    return today(organization, timezone.now())
