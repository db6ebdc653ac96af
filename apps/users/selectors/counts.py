"""Figures over all people, in one pass, cached until the next sync or change of our own (PERFORMANCE.md 7)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from django.core.cache import cache
from django.db.models import Q, QuerySet

from apps.organizations.models import Organization
from apps.users.cache import version_key
from apps.users.models import Account, AccountStatus, Activity, ClaimStatus, Group, MembershipStatus, Product, SyncRun
from apps.users.predicates import Context, Partition, inactive_q, live_q, never_active_q, partition_conditions
from apps.users.selectors.explorer import CappedCount, count_matching
from apps.users.selectors.filters import AccountFilters
from apps.users.selectors.tally import TOTAL, tally
from apps.users.selectors.trust import latest_merged_sync
from apps.users.text import like_pattern

# A day's cut-off moves on although nothing changed, so figures are counted anew after this time at the latest.
CACHE_SECONDS = 900


@dataclass(frozen=True)
class ProductCounts:
    """People who hold a product and could use it: all, idle beyond the range, and never active for longer than it."""

    product: str
    held: int
    idle: int
    never_active: int


@dataclass(frozen=True)
class DashboardCounts:
    """The partition of all people for a range of days; the parts add up to `total`.

    `idle_everywhere`: people with a licence, active account and membership who used nothing within the range.
    """

    days: int
    total: int
    active: int
    inactive: int
    never_active: int
    unknown: int
    suspended: int
    deactivated: int
    no_licence: int
    managed: int
    external: int
    idle_everywhere: int
    products: tuple[ProductCounts, ...]
    counted_at: datetime

    @property
    def inactive_card(self) -> int:
        """The card Inactive: inactive, never active, suspended and deactivated (DECISIONS.md §4)."""
        return self.inactive + self.never_active + self.suspended + self.deactivated

    @property
    def licensed(self) -> int:
        """People with a licence: what shares of limits are measured against."""
        return self.active + self.inactive + self.never_active + self.unknown


def mirror_version(organization: Organization, merged: SyncRun | None) -> str:
    """What figures are kept under: another one after each sync (`merged` is the newest) and each change of our own."""
    return f"{merged.pk if merged else 0}:{cache.get(version_key(organization.pk), '')}"


def dashboard_counts(
    organization: Organization, days: int = 30, *, now: datetime | None = None, version: str = ""
) -> DashboardCounts:
    """Count everybody once. Served from the cache while neither a sync nor a change of our own came between.

    `version`: the `mirror_version`, where the caller has it.
    """
    context = Context.of(organization, now=now)
    version = version or mirror_version(organization, latest_merged_sync(organization))
    key = f"users:counts:{organization.pk}:{days}:{version}"
    found = cache.get(key) if now is None else None
    if found is None:
        found = asdict(_count(organization, days, context))
        if now is None:
            cache.set(key, found, CACHE_SECONDS)
    return DashboardCounts(**{**found, "products": tuple(ProductCounts(**row) for row in found["products"])})


def _count(organization: Organization, days: int, context: Context) -> DashboardCounts:
    cutoff_at = context.cutoff(days)
    usable = Q(account_status=AccountStatus.ACTIVE, membership_status=MembershipStatus.ACTIVE, is_for_deletion=False)
    parts = [(f"{place} {part}", part, q) for place, (part, q) in enumerate(partition_conditions(cutoff_at))]
    figures = {
        "managed": Q(claim_status=ClaimStatus.MANAGED),
        "external": Q(claim_status=ClaimStatus.UNMANAGED),
        "idle": inactive_q(cutoff_at=cutoff_at, now=context.now),
    }
    for product in Product.values:
        one = (product,)
        figures[f"{product} held"] = ~Q(**{f"{product}_activity": Activity.NOT_APPLICABLE})
        figures[f"{product} idle"] = inactive_q(one, cutoff_at=cutoff_at, now=context.now)
        figures[f"{product} never"] = never_active_q(one, cutoff_at=cutoff_at, now=context.now)
    people = Account.objects.of(organization).filter(live_q())
    found = tally(people, {**{name: q for name, _part, q in parts}, "usable": usable}, figures)
    sizes = dict.fromkeys(Partition.values, 0)
    for met, counts in found.rows:
        part = next((part for name, part, _q in parts if name in met), Partition.INACTIVE)
        sizes[part.value] += counts[TOTAL]
    return DashboardCounts(
        days=days,
        total=found.sum(),
        **sizes,
        managed=found.sum("managed"),
        external=found.sum("external"),
        idle_everywhere=found.sum("idle", "usable"),
        products=tuple(
            ProductCounts(
                product, *(found.sum(f"{product} {figure}", "usable") for figure in ("held", "idle", "never"))
            )
            for product in Product.values
        ),
        counted_at=context.now,
    )


def view_counts(
    organization: Organization,
    wanted: Mapping[str, AccountFilters],
    *,
    most: int = 8,
    now: datetime | None = None,
    version: str = "",
) -> dict[str, CappedCount]:
    """How many people each view shows, capped. Served from the cache until the next sync or change of our own.

    At most `most` are counted in one go, so that somebody with many views does not wait for all of them; the others
    have no count yet.
    """
    run = latest_merged_sync(organization)
    version = f"{run.pk if run else 0}:{cache.get(version_key(organization.pk), '')}"

    def key_of(filters: AccountFilters) -> str:
        text = hashlib.sha256(filters.query_string().encode()).hexdigest()[:32]
        return f"users:view:{organization.pk}:{version}:{text}"

    keys = {name: key_of(filters) for name, filters in wanted.items()}
    known: dict[str, tuple[int, bool]] = cache.get_many(list(keys.values())) if now is None else {}
    context = Context.of(organization, now=now)
    missing = [name for name, key in keys.items() if key not in known][:most]
    counted = {keys[name]: count_matching(organization, wanted[name].as_q(context)) for name in missing}
    if counted and now is None:
        cache.set_many({key: (count.value, count.is_capped) for key, count in counted.items()}, CACHE_SECONDS)
    found = {key: CappedCount(*pair) for key, pair in known.items()} | counted
    return {name: found[key] for name, key in keys.items() if key in found}


def contractor_groups(organization: Organization) -> list[int]:
    """Keys of the groups whose name says contractors, for the view that starts with them."""
    rows = Group.objects.of(organization).filter(vanished_at__isnull=True, name__ilike="%contractor%")
    return list(rows.order_by("pk").values_list("pk", flat=True)[:20])


def groups(organization: Organization, search: str = "", *, include_vanished: bool = False) -> QuerySet[Group]:
    """The organisation's groups by name, with directory and protection loaded; `search` is part of a name."""
    found: QuerySet[Group] = (
        Group.objects.of(organization).select_related("directory", "protection").order_by("name", "pk")
    )
    if not include_vanished:
        found = found.filter(vanished_at__isnull=True)
    if search.strip():
        found = found.filter(name__ilike=like_pattern(search.strip(), before="%", after="%"))
    return found


def licensed_count(organization: Organization) -> int:
    """People with a licence whose account and membership are active: what shares of limits are measured against."""
    usable = Q(account_status=AccountStatus.ACTIVE, membership_status=MembershipStatus.ACTIVE)
    return int(Account.objects.of(organization).filter(live_q(), usable, ~Q(products=0)).count())
