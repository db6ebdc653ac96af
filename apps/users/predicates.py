"""The one registry of questions about accounts: name, typed parameters, SQL and sentence of each.

Explorer, saved views, rules, REST filters, insights and dashboard counts are lists of predicates. A predicate is a
frozen dataclass: its fields are the parameters, `q()` the SQL as a Django `Q` over Account, `sentence()` the words.
docs/predicates.md describes each; a test checks that none is missing there.

    conditions = [ClaimStatusIs(("unmanaged",)), InactiveDays(60, ("jira",))]
    accounts = matching(organization, conditions, now=now)

Idle means, everywhere (DECISIONS.md §3–§5): strictly more than N × 24 h plus the margin have passed since `idle_since`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import and_, or_
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.expressions import Combinable, CombinedExpression, Expression
from django.db.models.functions import Coalesce, Greatest, Lower
from django.db.models.lookups import Exact, GreaterThanOrEqual, LessThan
from django.utils import timezone

from apps.organizations.models import Organization
from apps.users.expressions import Like
from apps.users.models import (
    Account,
    AccountKind,
    AccountStatus,
    Activity,
    ClaimStatus,
    Group,
    ManagementSource,
    MembershipStatus,
    Product,
    ProductAccess,
    ProtectedGroup,
)
from apps.users.products import bits_of, label_of, product_of
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


def _main(products: Iterable[str]) -> list[str]:
    return [product for product in products if product in Product.values]


def _other(products: Iterable[str]) -> list[str]:
    return [product for product in products if product not in Product.values]


def _detail(products: Iterable[str]) -> QuerySet[Any]:
    return ProductAccess.objects.filter(account=OuterRef("pk"), product__in=list(products))


def last_active(products: Sequence[str] = ()) -> Combinable:
    """Newest known activity overall, or over `products`; NULL when none is known."""
    if not products:
        return F("last_active_at")
    parts: list[Any] = [F(f"{product}_last_active_at") for product in _main(products)]
    if others := _other(products):
        newest = _detail(others).order_by().values("account").annotate(newest=models.Max("last_active_at"))
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
    parts += [F(f"{product}_granted_seen_at") for product in _main(products)]
    if others := _other(products):
        granted = _detail(others).order_by().values("account").annotate(newest=models.Max("granted_seen_at"))
        parts.append(Subquery(granted.values("newest"), output_field=models.DateTimeField()))
    return Coalesce(Greatest(*parts), F("first_seen_at"), output_field=models.DateTimeField())


def holds_q(products: Sequence[str]) -> Q:
    """Accounts that hold any of `products`; any product at all when empty."""
    if not products:
        return ~Q(products=0)
    held = Q()
    if bits := bits_of(_main(products)):
        masked = CombinedExpression(F("products"), "&", Value(bits), output_field=models.IntegerField())
        held |= Q(GreaterThanOrEqual(masked, 1))
    if others := _other(products):
        held |= Q(Exists(_detail(others)))
    return held


def unknown_q(products: Sequence[str] = ()) -> Q:
    """Activity of a held product is not known: no rule acts on what this leaves open (P1)."""
    if not products:
        return Q(has_unknown_activity=True)
    parts = [Q(**{f"{product}_activity": Activity.UNKNOWN}) for product in _main(products)]
    if others := _other(products):
        parts.append(Q(Exists(_detail(others).filter(activity=Activity.UNKNOWN))))
    return reduce(or_, parts)


def dated_q(products: Sequence[str] = ()) -> Q:
    """At least one known date of activity, overall or in any of `products`."""
    if not products:
        return Q(last_active_at__isnull=False)
    parts = [Q(**{f"{product}_last_active_at__isnull": False}) for product in _main(products)]
    if others := _other(products):
        parts.append(Q(Exists(_detail(others).filter(last_active_at__isnull=False))))
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


def partition_case(cutoff_at: datetime) -> Case:
    """The account's Partition as an expression, in the precedence of DECISIONS.md §4.

    A status that Atlassian gives and AUM does not know makes the account unknown. Active: seen at `cutoff_at` or later,
    whatever else is unknown about it. No licence needs certainty: without a list of products it is not certain.
    """
    return Case(
        When(
            Q(account_status__in=[AccountStatus.INACTIVE, AccountStatus.CLOSED]) | Q(is_for_deletion=True),
            then=Value(Partition.DEACTIVATED.value),
        ),
        When(membership_status=MembershipStatus.SUSPENDED, then=Value(Partition.SUSPENDED.value)),
        When(
            Q(membership_status=MembershipStatus.NO_MEMBERSHIP) | Q(products=0, has_unknown_activity=False),
            then=Value(Partition.NO_LICENCE.value),
        ),
        When(
            Q(account_status=AccountStatus.UNKNOWN) | Q(membership_status=MembershipStatus.UNKNOWN),
            then=Value(Partition.UNKNOWN.value),
        ),
        When(last_active_at__gte=cutoff_at, then=Value(Partition.ACTIVE.value)),
        When(has_unknown_activity=True, then=Value(Partition.UNKNOWN.value)),
        When(last_active_at__isnull=True, then=Value(Partition.NEVER_ACTIVE.value)),
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
    return _protected_q({*protected_group_ids(organization), *extra_group_ids})


def _protected_q(group_ids: Iterable[int]) -> Q:
    protected = (
        Q(is_org_admin=True)
        | Q(is_site_admin=True)
        | Q(is_connection_owner=True)
        | (~Q(kind=AccountKind.PERSON) & Q(is_kind_released=False))
    )
    ids = sorted(group_ids)
    return protected | Q(group_ids__overlap=ids) if ids else protected


def exempt_q(now: datetime) -> Q:
    """Accounts with an exemption or snooze that has not ended at `now`."""
    return Q(exempt_until__gt=now)


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


# --- the registry ---------------------------------------------------------------------------------------------------

REGISTRY: dict[str, type[Predicate]] = {}


class Predicate(ABC):
    """A question about an account. Subclasses are frozen dataclasses; making one checks its parameters."""

    name: ClassVar[str]
    label: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name := cls.__dict__.get("name"):
            if name in REGISTRY:
                raise TypeError(f"Two predicates are called {name}.")
            REGISTRY[name] = cls

    @abstractmethod
    def q(self, context: Context) -> Q:
        """The condition over Account."""

    @abstractmethod
    def sentence(self, context: Context) -> str:
        """The condition in words, as on a filter's chip."""

    def as_json(self) -> dict[str, Any]:
        """`{"name": …, parameters}`, from which `from_json` makes an equal predicate."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]  # subclasses are dataclasses
        return {"name": self.name, **{key: _plain(value) for key, value in values.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value.isoformat() if isinstance(value, datetime) else value


def from_json(data: Mapping[str, Any]) -> Predicate:
    """The predicate that `as_json` wrote. Raises PredicateError for a name or parameter that does not exist."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "name"}
    kind = REGISTRY.get(str(data.get("name")))
    if kind is None:
        raise PredicateError("name", f"There is no condition called {data.get('name')!r}.")
    try:
        return kind(**values)
    except TypeError as error:
        raise PredicateError(kind.name, f"The condition {kind.name} does not take these parameters.") from error


def all_of(conditions: Iterable[Predicate], context: Context) -> Q:
    """All conditions at once, among accounts that are still there."""
    return reduce(and_, (condition.q(context) for condition in conditions), live_q())


def matching(
    organization: Organization, conditions: Iterable[Predicate], *, now: datetime | None = None
) -> QuerySet[Account]:
    """The organisation's live accounts that meet all conditions."""
    return Account.objects.of(organization).filter(all_of(conditions, Context.of(organization, now=now)))


def _words(names: Sequence[str], joint: str = "or") -> str:
    *head, last = names
    return f"{', '.join(head)} {joint} {last}" if head else last


def _days(value: Any, field_name: str) -> int:
    try:
        days = int(value)
    except (TypeError, ValueError):
        days = 0
    if not 1 <= days <= MAX_DAYS or str(value).strip() not in (str(days), f"+{days}"):
        raise PredicateError(field_name, f"Enter a whole number of days from 1 to {MAX_DAYS}.")
    return days


def _products(values: Any, field_name: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(product_of(str(value)) for value in values))
    if any(not name or len(name) > 60 for name in names):
        raise PredicateError(field_name, "Name a product, such as jira or confluence.")
    return names


def _instant(value: Any, field_name: str) -> datetime:
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
    except ValueError as error:
        raise PredicateError(field_name, "Enter a date such as 2026-01-31.") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _flag(value: Any, field_name: str) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False}
    if str(value).strip().lower() not in words:
        raise PredicateError(field_name, "Answer true or false.")
    return words[str(value).strip().lower()]


def _set(instance: Predicate, name: str, value: Any) -> None:
    """Normalise a parameter of a frozen dataclass while it is made."""
    object.__setattr__(instance, name, value)


def _in_products(products: Sequence[str]) -> str:
    return f" in {_words([label_of(product) for product in products])}" if products else ""


class _OneOf(Predicate):
    """One of several words, each with its own condition."""

    words: ClassVar[Mapping[str, tuple[str, Q]]]
    aliases: ClassVar[Mapping[str, str]] = {}
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(self.aliases.get(str(v).strip(), str(v).strip()) for v in self.values))
        if not names or any(name not in self.words for name in names):
            raise PredicateError(self.name, f"Choose {_words(list(self.words))}.")
        _set(self, "values", names)

    def q(self, context: Context) -> Q:
        return reduce(or_, (self.words[name][1] for name in self.values))

    def sentence(self, context: Context) -> str:
        return f"{self.label}: {_words([self.words[name][0].lower() for name in self.values])}"


@dataclass(frozen=True)
class AccountStatusIs(_OneOf):
    name = "account_status"
    label = "Account status"
    words = {
        "active": ("Active", Q(account_status=AccountStatus.ACTIVE, is_for_deletion=False)),
        "deactivated": ("Deactivated", Q(account_status=AccountStatus.INACTIVE, is_for_deletion=False)),
        "for_deletion": ("Awaiting deletion", Q(is_for_deletion=True)),
        "closed": ("Deleted", Q(account_status=AccountStatus.CLOSED)),
        "unknown": ("Not known", Q(account_status=AccountStatus.UNKNOWN, is_for_deletion=False)),
    }
    aliases = {"inactive": "deactivated", "deleted": "closed"}
    values: tuple[str, ...]


@dataclass(frozen=True)
class MembershipStatusIs(_OneOf):
    name = "membership_status"
    label = "Membership"
    words = {
        "active": ("Active", Q(membership_status=MembershipStatus.ACTIVE)),
        "suspended": ("Suspended", Q(membership_status=MembershipStatus.SUSPENDED)),
        "no_membership": ("No membership", Q(membership_status=MembershipStatus.NO_MEMBERSHIP)),
        "unknown": ("Not known", Q(membership_status=MembershipStatus.UNKNOWN)),
    }
    values: tuple[str, ...]


@dataclass(frozen=True)
class ClaimStatusIs(_OneOf):
    name = "claim_status"
    label = "Claim status"
    words = {
        "managed": ("Managed", Q(claim_status=ClaimStatus.MANAGED)),
        "unmanaged": ("External", Q(claim_status=ClaimStatus.UNMANAGED)),
        "unknown": ("Not known", Q(claim_status=ClaimStatus.UNKNOWN)),
    }
    aliases = {"external": "unmanaged"}
    values: tuple[str, ...]


@dataclass(frozen=True)
class KindIs(_OneOf):
    name = "kind"
    label = "Kind"
    words = {
        "person": ("Person", Q(kind=AccountKind.PERSON)),
        "service": ("Service", Q(kind=AccountKind.SERVICE)),
        "app": ("App", Q(kind=AccountKind.APP)),
        "bot": ("Bot", Q(kind=AccountKind.BOT)),
    }
    values: tuple[str, ...]


@dataclass(frozen=True)
class ActivityIs(_OneOf):
    """Known, never or not known, whatever the date: overall, or in a product that the account holds."""

    name = "activity"
    label = "Last login"
    words = {"known": ("Known", Q()), "never": ("Never", Q()), "unknown": ("Not known", Q())}
    values: tuple[str, ...]
    products: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, "products", _products(self.products, "product"))

    def q(self, context: Context) -> Q:
        held = holds_q(self.products)
        dated, unknown = dated_q(self.products), unknown_q(self.products)
        # Without a list of products it is not known what is held, so the account is unknown and not without a licence.
        conditions = {
            "known": held & dated & ~unknown,
            "never": held & ~dated & ~unknown,
            "unknown": unknown,
        }
        return reduce(or_, (conditions[name] for name in self.values))

    def sentence(self, context: Context) -> str:
        return super().sentence(context) + _in_products(self.products)


class _Flag(Predicate):
    """A yes or no."""

    value: bool
    yes: ClassVar[str]
    no: ClassVar[str]

    def __post_init__(self) -> None:
        _set(self, "value", _flag(self.value, self.name))

    @abstractmethod
    def condition(self, context: Context) -> Q:
        """What holds when the value is true."""

    def q(self, context: Context) -> Q:
        condition = self.condition(context)
        return condition if self.value else ~condition

    def sentence(self, context: Context) -> str:
        return self.yes if self.value else self.no


@dataclass(frozen=True)
class IsSynced(_Flag):
    """Provisioned by an identity provider."""

    name = "is_synced"
    label = "Identity provider"
    yes = "Synced from an identity provider"
    no = "Not synced from an identity provider"
    value: bool

    def condition(self, context: Context) -> Q:
        return Q(management_source=ManagementSource.SYNCED)


@dataclass(frozen=True)
class IsExempt(_Flag):
    name = "exempt"
    label = "Exempt"
    yes = "Exempt or snoozed"
    no = "Not exempt"
    value: bool

    def condition(self, context: Context) -> Q:
        return exempt_q(context.now)


@dataclass(frozen=True)
class IsProtected(_Flag):
    """Protected for the organisation, or by the rule's own `group_ids` (P2)."""

    name = "protected"
    label = "Protected"
    yes = "Protected"
    no = "Not protected"
    value: bool
    group_ids: tuple[int, ...] = ()

    def condition(self, context: Context) -> Q:
        return _protected_q({*context.protected_group_ids(), *self.group_ids})


@dataclass(frozen=True)
class ExternalOnly(_Flag):
    """Accounts of other organisations or of nobody: not managed here (S70)."""

    name = "external_only"
    label = "External only"
    yes = "External users only"
    no = "Not external"
    value: bool = True

    def condition(self, context: Context) -> Q:
        return Q(claim_status=ClaimStatus.UNMANAGED)


class _Groups(Predicate):
    """Groups by our key, or by Atlassian's id of the group."""

    groups: tuple[str, ...]
    joint: ClassVar[str] = "or"
    prefix: ClassVar[str]

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(str(group).strip() for group in self.groups))
        if not names or any(not name or len(name) > 128 for name in names):
            raise PredicateError(self.name, "Choose at least one group.")
        _set(self, "groups", names)

    def pks(self, context: Context) -> list[int]:
        """Keys of the groups; one that does not exist becomes 0, which no account is in."""
        own = {name for name in self.groups if name.isascii() and name.isdecimal() and len(name) < 19}
        foreign = [name for name in self.groups if name not in own]
        found: dict[str, int] = {}
        if foreign:
            rows = Group.objects.of(context.organization).filter(group_id__in=foreign)
            found = dict(rows.values_list("group_id", "pk"))
        return [int(name) if name in own else found.get(name, 0) for name in self.groups]

    def sentence(self, context: Context) -> str:
        return f"{self.prefix} {_words(context.group_names(self.pks(context)), self.joint)}"


@dataclass(frozen=True)
class InAnyGroup(_Groups):
    name = "group"
    label = "Groups"
    prefix = "Member of"
    groups: tuple[str, ...]

    def q(self, context: Context) -> Q:
        return Q(group_ids__overlap=self.pks(context))


@dataclass(frozen=True)
class InAllGroups(_Groups):
    name = "group_all"
    label = "In all of these groups"
    prefix = "Member of all of"
    joint = "and"
    groups: tuple[str, ...]

    def q(self, context: Context) -> Q:
        return Q(group_ids__contains=self.pks(context))


@dataclass(frozen=True)
class InNoGroup(_Groups):
    name = "group_none"
    label = "In none of these groups"
    prefix = "Not a member of"
    groups: tuple[str, ...]

    def q(self, context: Context) -> Q:
        return ~Q(group_ids__overlap=self.pks(context))


@dataclass(frozen=True)
class SearchText(Predicate):
    name = "search"
    label = "Search"
    text: str

    def __post_init__(self) -> None:
        text = str(self.text).replace("\x00", "").strip()
        if not text:
            raise PredicateError(self.name, "Type a part of a name or e-mail address.")
        if len(text) > SEARCH_LIMIT:
            raise PredicateError(self.name, f"Search for at most {SEARCH_LIMIT} characters.")
        _set(self, "text", text)

    def q(self, context: Context) -> Q:
        return search_q(self.text)

    def sentence(self, context: Context) -> str:
        return f"Name or e-mail has “{self.text}”"


@dataclass(frozen=True)
class HoldsProduct(Predicate):
    name = "product"
    label = "Product"
    products: tuple[str, ...]

    def __post_init__(self) -> None:
        _set(self, "products", _products(self.products, self.name))
        if not self.products:
            raise PredicateError(self.name, "Choose at least one product.")

    def q(self, context: Context) -> Q:
        return holds_q(self.products)

    def sentence(self, context: Context) -> str:
        return f"Has {_words([label_of(product) for product in self.products])}"


@dataclass(frozen=True)
class InactiveDays(Predicate):
    """Known activity, none for more than `days`: overall, or in all of `products` together."""

    name = "inactive_days"
    label = "Inactive"
    days: int
    products: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _set(self, "days", _days(self.days, self.name))
        _set(self, "products", _products(self.products, "inactive_product"))

    def q(self, context: Context) -> Q:
        return inactive_q(self.products, cutoff_at=context.cutoff(self.days), now=context.now)

    def sentence(self, context: Context) -> str:
        return f"No login{_in_products(self.products)} for more than {_count(self.days, 'day')}"


@dataclass(frozen=True)
class NeverActiveDays(Predicate):
    """Never active, and added or given access more than `days` ago."""

    name = "never_active_days"
    label = "Never active"
    days: int
    products: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _set(self, "days", _days(self.days, self.name))
        _set(self, "products", _products(self.products, "inactive_product"))

    def q(self, context: Context) -> Q:
        return never_active_q(self.products, cutoff_at=context.cutoff(self.days), now=context.now)

    def sentence(self, context: Context) -> str:
        return f"Never logged in{_in_products(self.products)}, added more than {_count(self.days, 'day')} ago"


class _Instant(Predicate):
    at: datetime

    def __post_init__(self) -> None:
        _set(self, "at", _instant(self.at, self.name))

    def sentence(self, context: Context) -> str:
        return f"{self.label} {self.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class AddedBefore(_Instant):
    name = "added_before"
    label = "Added before"
    at: datetime

    def q(self, context: Context) -> Q:
        return Q(added_to_org_at__lt=self.at)


@dataclass(frozen=True)
class AddedAfter(_Instant):
    name = "added_after"
    label = "Added at or after"
    at: datetime

    def q(self, context: Context) -> Q:
        return Q(added_to_org_at__gte=self.at)


@dataclass(frozen=True)
class AddedDaysAgo(Predicate):
    """Added to the organisation more than `days` ago."""

    name = "added_days"
    label = "Added"
    days: int

    def __post_init__(self) -> None:
        _set(self, "days", _days(self.days, self.name))

    def q(self, context: Context) -> Q:
        return Q(added_to_org_at__lt=context.now - timedelta(days=self.days))

    def sentence(self, context: Context) -> str:
        return f"Added more than {_count(self.days, 'day')} ago"


@dataclass(frozen=True)
class LastActiveBefore(_Instant):
    """Newest known activity before an instant, overall or in `products`; those without a date are left out."""

    name = "last_active_before"
    label = "Last login before"
    at: datetime
    products: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, "products", _products(self.products, "product"))

    def q(self, context: Context) -> Q:
        return Q(LessThan(last_active(self.products), Value(self.at)))

    def sentence(self, context: Context) -> str:
        return super().sentence(context) + _in_products(self.products)


@dataclass(frozen=True)
class LastActiveAfter(_Instant):
    name = "last_active_after"
    label = "Last login at or after"
    at: datetime
    products: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, "products", _products(self.products, "product"))

    def q(self, context: Context) -> Q:
        return Q(GreaterThanOrEqual(last_active(self.products), Value(self.at)))

    def sentence(self, context: Context) -> str:
        return super().sentence(context) + _in_products(self.products)


@dataclass(frozen=True)
class StatusForDays(Predicate):
    """In the present status for more than `days`; counted from the first sight where the change was not seen."""

    name = "status_days"
    label = "In this status"
    days: int

    def __post_init__(self) -> None:
        _set(self, "days", _days(self.days, self.name))

    def q(self, context: Context) -> Q:
        since = Coalesce(F("status_changed_at"), F("first_seen_at"))
        return Q(LessThan(since, Value(context.now - timedelta(days=self.days))))

    def sentence(self, context: Context) -> str:
        return f"In this status for more than {_count(self.days, 'day')}"


@dataclass(frozen=True)
class EmailDomain(Predicate):
    name = "domain"
    label = "E-mail domain"
    domains: tuple[str, ...]

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(str(domain).strip().lower().lstrip("@") for domain in self.domains))
        if not names or any(not name or "@" in name or len(name) > 253 for name in names):
            raise PredicateError(self.name, "Enter a domain such as example.com.")
        _set(self, "domains", names)

    def q(self, context: Context) -> Q:
        return reduce(or_, (Q(email__ilike=like_pattern("@" + domain, before="%")) for domain in self.domains))

    def sentence(self, context: Context) -> str:
        return f"E-mail at {_words(self.domains)}"


@dataclass(frozen=True)
class PartitionIs(Predicate):
    """In one of the parts of the whole, for a range of `days`."""

    name = "partition"
    label = "State"
    values: tuple[str, ...]
    days: int = 30

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(str(value).strip() for value in self.values))
        if not names or any(name not in Partition.values for name in names):
            raise PredicateError(self.name, f"Choose {_words(Partition.values)}.")
        _set(self, "values", names)
        _set(self, "days", _days(self.days, "days"))

    def q(self, context: Context) -> Q:
        part = partition_case(context.cutoff(self.days))
        return reduce(or_, (Q(Exact(part, Value(name))) for name in self.values))

    def sentence(self, context: Context) -> str:
        return f"{_words([Partition(name).label for name in self.values])} ({_count(self.days, 'day')})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
