"""Licences as they stand in the ledger, whatever the month: those free now, and those given back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from django.db.models import Count, F, QuerySet

from apps.organizations.models import Organization
from apps.pricing.billing import to_cent
from apps.pricing.selectors import local_midnight, pick_terms
from apps.savings.billing import Month
from apps.savings.models import LedgerEntry
from apps.savings.selectors.ledger import Books, SeatLine
from apps.users.products import label_of
from aum.common.money import Amounts


@dataclass(frozen=True)
class GivenBack:
    """Licences that returned in a stretch of time, and what they cost a month again."""

    count: int = 0
    monthly: Amounts = field(default_factory=Amounts)


def returned_entries(organization: Organization, first: Month, last: Month) -> QuerySet[LedgerEntry]:
    """Licences given back from the first day of `first` to the last of `last`."""
    begins = local_midnight(organization, first.first)
    ends = local_midnight(organization, last.last + timedelta(days=1))
    return LedgerEntry.objects.of(organization).filter(ended_at__gte=begins, ended_at__lt=ends)


def given_back(books: Books, first: Month, last: Month) -> GivenBack:
    """The figures of `returned_entries`."""
    counts = _by_product(returned_entries(books.organization, first, last))
    terms = pick_terms(books.terms, books.today)
    monthly = Amounts.total(
        Amounts.of(to_cent(terms[product].per_seat(books.seats.get(product, 0)) * number), terms[product].currency)
        for product, number in counts.items()
        if product in terms
    )
    return GivenBack(sum(counts.values()), monthly)


def free_entries(organization: Organization) -> QuerySet[LedgerEntry]:
    """Licences that are free at this moment because of AUM."""
    return LedgerEntry.objects.of(organization).filter(ended_at__isnull=True)


def free_now(organization: Organization) -> dict[str, int]:
    """How many licences are free at this moment because of AUM, by product."""
    return _by_product(free_entries(organization))


def _by_product(rows: QuerySet[LedgerEntry]) -> dict[str, int]:
    return dict(rows.order_by().values_list("product").annotate(number=Count("pk")))


def entry_lines(rows: QuerySet[LedgerEntry], product: str, first: int, most: int) -> list[SeatLine]:
    """`most` lines of `rows`, of one product where it is named, from the `first` on, the newest first.

    Days and amounts are those of months and not told here.
    """
    rows = rows.filter(product=product) if product else rows
    shown = rows.select_related("account", "operation").order_by(
        F("ended_at").desc(nulls_last=True), "-freed_at", "-id"
    )
    return [
        SeatLine(
            account_pk=entry.account_id,
            account_id=entry.account.account_id,
            name=entry.account.name,
            email=entry.account.email or "",
            product=entry.product,
            label=label_of(entry.product),
            days=0,
            freed_at=entry.freed_at,
            ended_at=entry.ended_at,
            source=entry.source_name,
            run_number=entry.operation.number if entry.operation else None,
            action=entry.action,
            amount=None,
            currency="",
        )
        for entry in shown[first : first + most]
    ]
