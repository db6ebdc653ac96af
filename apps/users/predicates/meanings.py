"""What conditions share: live, idle, held, protected, exempt, found by text, as SQL over Account."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Self

from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.expressions import Combinable, CombinedExpression, Expression
from django.db.models.functions import Coalesce, Greatest, Lower
from django.db.models.lookups import GreaterThanOrEqual, LessThan
from django.utils import timezone

from apps.organizations.models import Organization
from apps.users import exempting
from apps.users.expressions import Like
from apps.users.models import (
    AccountKind,
    AccountStatus,
    Activity,
    Group,
    MembershipStatus,
    Product,
    ProductAccess,
    ProtectedGroup,
)
from apps.users.products import bits_of
from apps.users.text import fold, like_pattern

MAX_DAYS = 3650
SEARCH_LIMIT = 200


class PredicateError(ValueError):
    """A parameter that makes no sense; `field` names it, the message is for people."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(message)
        self.field = field_name


@dataclass
class Context:
    """What predicates need besides their parameters. `now` is aware and UTC; `margin` covers Atlassian's late dates."""

    organization: Organization
    now: datetime
    margin: timedelta
    _names: dict[int, str] | None = field(default=None, repr=False)
    _protected: tuple[int, ...] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, organization: Organization, *, now: datetime | None = None) -> Self:
        """The organisation's own margin, at `now` or this moment."""
        return cls(organization, now or timezone.now(), timedelta(hours=organization.activity_margin_hours))

    def cutoff(self, days: int) -> datetime:
        return self.now - timedelta(days=days) - self.margin

    def protected_group_ids(self) -> tuple[int, ...]:
        """Keys of the groups protected for the whole organisation; one query, kept."""
        if self._protected is None:
            self._protected = protected_group_ids(self.organization)
        return self._protected

    def group_names(self, pks: Sequence[int]) -> list[str]:
        """Names in the order of `pks`; a group that is gone or another organisation's reads "a missing group"."""
        if self._names is None or any(pk not in self._names for pk in pks):
            known = dict(Group.objects.of(self.organization).filter(pk__in=pks).values_list("pk", "name"))
            self._names = {**(self._names or {}), **{pk: known.get(pk, "a missing group") for pk in pks}}
        return [self._names[pk] for pk in pks]


# --- the meanings that everything shares ----------------------------------------------------------------------------


def cutoff(now: datetime, days: int, margin_hours: int) -> datetime:
    """The instant before which something is more than `days` ago: now − days × 24 h − margin."""
    return now - timedelta(days=days) - timedelta(hours=margin_hours)


def live_q() -> Q:
    """Accounts that the last complete sync still found."""
    return Q(vanished_at__isnull=True)


def main_products(products: Iterable[str]) -> list[str]:
    return [product for product in products if product in Product.values]


def other_products(products: Iterable[str]) -> list[str]:
    return [product for product in products if product not in Product.values]


def access_rows(products: Iterable[str]) -> QuerySet[Any]:
    return ProductAccess.objects.filter(account=OuterRef("pk"), product__in=list(products))


def last_active(products: Sequence[str] = ()) -> Combinable:
    """Newest known activity overall, or over `products`; NULL when none is known."""
    if not products:
        return F("last_active_at")
    parts: list[Any] = [F(f"{product}_last_active_at") for product in main_products(products)]
    if others := other_products(products):
        newest = access_rows(others).order_by().values("account").annotate(newest=models.Max("last_active_at"))
        parts.append(Subquery(newest.values("newest"), output_field=models.DateTimeField()))
    return Greatest(*parts) if len(parts) > 1 else parts[0]


def idle_since(products: Sequence[str] = (), *, now: datetime) -> Expression:
    """When the idle clock of an account started: the one expression for explorer, rules, notices and recheck.

    The latest of last activity, added to the organisation, `idle_floor_at` (restored, activated, invited or given
    access again) and the end of the last exemption or snooze; with `products`, their activity and the first sight of
    each one's grant instead of the overall activity. Never NULL: where none of these is known, the account counts from
    when a sync first saw it. PostgreSQL's GREATEST leaves NULLs out.
    """
    parts: list[Any] = [
        last_active(products),
        F("added_to_org_at"),
        F("idle_floor_at"),
        Case(When(exempt_until__lte=now, then=F("exempt_until")), output_field=models.DateTimeField()),
    ]
    parts += [F(f"{product}_granted_seen_at") for product in main_products(products)]
    if others := other_products(products):
        granted = access_rows(others).order_by().values("account").annotate(newest=models.Max("granted_seen_at"))
        parts.append(Subquery(granted.values("newest"), output_field=models.DateTimeField()))
    return Coalesce(Greatest(*parts), F("first_seen_at"), output_field=models.DateTimeField())


def holds_q(products: Sequence[str]) -> Q:
    """Accounts that hold any of `products`; any product at all when empty."""
    if not products:
        return ~Q(products=0)
    held = Q()
    if bits := bits_of(main_products(products)):
        masked = CombinedExpression(F("products"), "&", Value(bits), output_field=models.IntegerField())
        held |= Q(GreaterThanOrEqual(masked, 1))
    if others := other_products(products):
        held |= Q(Exists(access_rows(others)))
    return held


def unknown_q(products: Sequence[str] = ()) -> Q:
    """Activity of a held product is not known: no rule acts on what this leaves open (P1)."""
    if not products:
        return Q(has_unknown_activity=True)
    parts = [Q(**{f"{product}_activity": Activity.UNKNOWN}) for product in main_products(products)]
    if others := other_products(products):
        parts.append(Q(Exists(access_rows(others).filter(activity=Activity.UNKNOWN))))
    return reduce(or_, parts)


def dated_q(products: Sequence[str] = ()) -> Q:
    """At least one known date of activity, overall or in any of `products`."""
    if not products:
        return Q(last_active_at__isnull=False)
    parts = [Q(**{f"{product}_last_active_at__isnull": False}) for product in main_products(products)]
    if others := other_products(products):
        parts.append(Q(Exists(access_rows(others).filter(last_active_at__isnull=False))))
    return reduce(or_, parts)


def inactive_q(products: Sequence[str] = (), *, cutoff_at: datetime, now: datetime) -> Q:
    """Licensed people whose known activity ended before `cutoff_at`, and whose idle clock started before it too."""
    idle = Q(LessThan(idle_since(products, now=now), Value(cutoff_at)))
    return holds_q(products) & dated_q(products) & ~unknown_q(products) & idle


def never_active_q(products: Sequence[str] = (), *, cutoff_at: datetime, now: datetime) -> Q:
    """Licensed people who never used what they hold, and whose idle clock started before `cutoff_at`."""
    idle = Q(LessThan(idle_since(products, now=now), Value(cutoff_at)))
    return holds_q(products) & ~dated_q(products) & ~unknown_q(products) & idle


class Partition(models.TextChoices):
    """Where each account stands; exactly one of these (DESIGN.md §12)."""

    ACTIVE = "active", "Active"
    INACTIVE = "inactive", "Inactive"
    NEVER_ACTIVE = "never_active", "Never active"
    UNKNOWN = "unknown", "Not known"
    SUSPENDED = "suspended", "Suspended"
    DEACTIVATED = "deactivated", "Deactivated"
    NO_LICENCE = "no_licence", "No licence"


def partition_conditions(cutoff_at: datetime) -> tuple[tuple[Partition, Q], ...]:
    """The first condition that an account meets tells its part (DECISIONS.md §4); inactive is who meets none.

    A status that Atlassian gives and AUM does not know makes the account unknown. Active: seen at `cutoff_at` or later,
    whatever else is unknown about it. No licence needs certainty: without a list of products it is not certain.
    """
    is_off = Q(account_status__in=[AccountStatus.INACTIVE, AccountStatus.CLOSED]) | Q(is_for_deletion=True)
    has_none = Q(membership_status=MembershipStatus.NO_MEMBERSHIP) | Q(products=0, has_unknown_activity=False)
    is_strange = Q(account_status=AccountStatus.UNKNOWN) | Q(membership_status=MembershipStatus.UNKNOWN)
    return (
        (Partition.DEACTIVATED, is_off),
        (Partition.SUSPENDED, Q(membership_status=MembershipStatus.SUSPENDED)),
        (Partition.NO_LICENCE, has_none),
        (Partition.UNKNOWN, is_strange),
        (Partition.ACTIVE, Q(last_active_at__gte=cutoff_at)),
        (Partition.UNKNOWN, Q(has_unknown_activity=True)),
        (Partition.NEVER_ACTIVE, Q(last_active_at__isnull=True)),
    )


def partition_case(cutoff_at: datetime) -> Case:
    """The account's Partition as an expression."""
    return Case(
        *(When(q, then=Value(part.value)) for part, q in partition_conditions(cutoff_at)),
        default=Value(Partition.INACTIVE.value),
        output_field=models.CharField(max_length=20),
    )


def protected_group_ids(organization: Organization) -> tuple[int, ...]:
    """Keys of the groups whose members no plan takes access from, for the whole organisation (P2)."""
    return tuple(ProtectedGroup.objects.of(organization).order_by("pk").values_list("group_id", flat=True))


def protected_q(organization: Organization, extra_group_ids: Iterable[int] = ()) -> Q:
    """Accounts that no plan may take access from (P2), `extra_group_ids` being a rule's own protected groups.

    Organisation and site admins, owners of AUM's credentials, members of protected groups, and services, bots and apps
    unless somebody released them. Exempt accounts are another matter: `exempt_q`.
    """
    return protected_members_q({*protected_group_ids(organization), *extra_group_ids})


def protected_members_q(group_ids: Iterable[int]) -> Q:
    protected = Q(is_org_admin=True) | Q(is_site_admin=True) | never_touched_q()
    ids = sorted(group_ids)
    return protected | Q(group_ids__overlap=ids) if ids else protected


def never_touched_q() -> Q:
    """Of protected accounts those that nothing makes an exception for: owners of AUM's credentials, and unreleased
    services, bots and apps."""
    return Q(is_connection_owner=True) | (~Q(kind=AccountKind.PERSON) & Q(is_kind_released=False))


def exempt_q(now: datetime) -> Q:
    """Accounts with an exemption or snooze in force at `now` (`exempting` has the one expression)."""
    return exempting.exempt_q(now)


def search_q(text: str) -> Q:
    """Name or e-mail contains `text`, from three characters on; with fewer, one of them begins with it.

    Names are compared without case and diacritics. A whole account id is found too.
    """
    folded, plain = fold(text), text.strip()
    if not folded:
        return Q()
    if len(folded) < 3:
        beginning = Like(Lower("email"), Value(like_pattern(plain.lower(), after="%")))
        return Q(sort_name__like=like_pattern(folded, after="%")) | Q(beginning)
    return (
        Q(sort_name__like=like_pattern(folded, before="%", after="%"))
        | Q(email__ilike=like_pattern(plain, before="%", after="%"))
        | Q(account_id=plain)
    )
