"""Reads of the price book, and how many licences are in use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.core.cache import cache
from django.db.models import Count, QuerySet
from django.utils import timezone

from apps.organizations.models import Organization
from apps.pricing.billing import Terms
from apps.pricing.models import LicenceAlert, ProductPrice
from apps.users.cache import version_key
from apps.users.models import AccountStatus, MembershipStatus, Product, ProductAccess
from apps.users.products import label_of
from apps.users.selectors import dashboard_counts
from aum.common.errors import Missing

CACHE_SECONDS = 900


@dataclass(frozen=True)
class Price:
    """What one licence costs a month: `monthly` is exact and not rounded, in `currency`.

    With tiers it is the price in the tier that the present number of licences falls into.
    """

    product: str
    label: str
    monthly: Decimal
    currency: str
    billing: str
    tier: str
    terms: Terms


def today(organization: Organization, now: datetime | None = None) -> date:
    """The day in the organisation's timezone."""
    return (now or timezone.now()).astimezone(ZoneInfo(organization.timezone)).date()


def local_midnight(organization: Organization, day: date) -> datetime:
    """When `day` begins in the organisation's timezone, as an aware instant in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(organization.timezone)).astimezone(UTC)


def monthly_price(organization: Organization, on: date | None = None) -> dict[str, Price]:
    """Price of one licence a month by product, in force on `on` (default: today). Empty without prices."""
    found = terms_on(organization, on or today(organization))
    if not found:
        return {}
    held = seats(organization) if any(len(terms.tiers) > 1 for terms in found.values()) else {}
    return {
        product: Price(
            product=product,
            label=label_of(product),
            monthly=terms.per_seat(held.get(product, 1)),
            currency=terms.currency,
            billing=terms.billing,
            tier=terms.tier,
            terms=terms,
        )
        for product, terms in found.items()
    }


def terms_on(organization: Organization, day: date) -> dict[str, Terms]:
    """The terms in force on `day` by product."""
    return pick_terms(all_terms(organization), day)


def terms_of_month(organization: Organization, first: date) -> dict[str, Terms]:
    """The terms by which the month that begins on `first` is billed.

    Those in force on its first day; for a product whose first price begins within the month, that price.
    """
    return pick_terms_of_month(all_terms(organization), first)


def pick_terms(terms: Iterable[Terms], day: date) -> dict[str, Terms]:
    """Of terms in order of `valid_from`, the last ones that began by `day`."""
    return {row.product: row for row in terms if row.valid_from <= day}


def pick_terms_of_month(terms: Iterable[Terms], first: date) -> dict[str, Terms]:
    """As `terms_of_month`, of terms in order of `valid_from`."""
    rows = list(terms)
    next_first = (first + timedelta(days=32)).replace(day=1)
    begun = {row.product: row for row in reversed(rows) if first < row.valid_from < next_first}
    return {**begun, **pick_terms(rows, first)}


def all_terms(organization: Organization) -> list[Terms]:
    """Everything ever entered, in order of `valid_from`."""
    rows = ProductPrice.objects.of(organization).prefetch_related("tiers").order_by("valid_from", "pk")
    return [terms_of(row) for row in rows]


def terms_of(price: ProductPrice) -> Terms:
    """The terms of a row."""
    tiers = tuple((tier.from_users, tier.unit_price) for tier in price.tiers.all())
    return Terms(
        product=price.product,
        currency=price.currency,
        billing=price.billing,
        tier_mode=price.tier_mode,
        tiers=tiers if tiers and price.tier_mode != ProductPrice.TierMode.FLAT else ((1, price.unit_price),),
        valid_from=price.valid_from,
        renewal_on=price.renewal_on,
        tier=price.tier,
    )


def prices(organization: Organization) -> QuerySet[ProductPrice]:
    """All rows of the price book by product, the newest first, with their tiers."""
    rows: QuerySet[ProductPrice] = (
        ProductPrice.objects.of(organization).prefetch_related("tiers").order_by("product", "-valid_from", "-pk")
    )
    return rows


def price_by_id(organization: Organization, pk: int) -> ProductPrice:
    """The row; raises Missing."""
    row: ProductPrice | None = prices(organization).filter(pk=pk).first()
    if row is None:
        raise Missing("There is no such price. It may have been removed.")
    return row


def seats(organization: Organization) -> dict[str, int]:
    """Licences in use by product: people who hold it and whose account and membership are active.

    A person counts once a product, on however many sites. The four main products are always there; another one is when
    somebody holds it.
    """
    held = {row.product: row.held for row in dashboard_counts(organization).products}
    key = f"pricing:others:{organization.pk}:{cache.get(version_key(organization.pk), '')}"
    others: dict[str, int] | None = cache.get(key)
    if others is None:
        others = _other_seats(organization)
        cache.set(key, others, CACHE_SECONDS)
    return {**held, **others}


def _other_seats(organization: Organization) -> dict[str, int]:
    rows = (
        ProductAccess.objects.of(organization)
        .exclude(product__in=Product.values)
        .filter(
            account__vanished_at__isnull=True,
            account__account_status=AccountStatus.ACTIVE,
            account__membership_status=MembershipStatus.ACTIVE,
            account__is_for_deletion=False,
        )
        .order_by("product")
        .values("product")
        .annotate(people=Count("account", distinct=True))
    )
    return {row["product"]: row["people"] for row in rows}


def licence_alerts(organization: Organization) -> dict[str, LicenceAlert]:
    """The numbers of licences above which an alert is raised, by product."""
    return {row.product: row for row in LicenceAlert.objects.of(organization)}
