"""Conditions on an account's own states: statuses, claim, kind, activity, exempt, protected, part of everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import ClassVar

from django.db.models import Q, Value
from django.db.models.lookups import Exact

from apps.users.exempting import exempt_people_q
from apps.users.models import (
    AccountKind,
    AccountStatus,
    ClaimStatus,
    ManagementSource,
    MembershipStatus,
)
from apps.users.predicates.meanings import (
    Context,
    Partition,
    PredicateError,
    dated_q,
    exempt_q,
    holds_q,
    partition_case,
    protected_members_q,
    unknown_q,
)
from apps.users.predicates.registry import (
    Predicate,
    YesOrNo,
    checked_days,
    checked_products,
    counted,
    in_products,
    in_words,
    set_value,
)


class _OneOf(Predicate):
    """One of several words, each with its own condition."""

    words: ClassVar[Mapping[str, tuple[str, Q]]]
    aliases: ClassVar[Mapping[str, str]] = {}
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(self.aliases.get(str(v).strip(), str(v).strip()) for v in self.values))
        if not names or any(name not in self.words for name in names):
            raise PredicateError(self.name, f"Choose {in_words(list(self.words))}.")
        set_value(self, "values", names)

    def q(self, context: Context) -> Q:
        return reduce(or_, (self.words[name][1] for name in self.values))

    def unknown_q(self, context: Context) -> Q | None:
        unknown = self.words.get("unknown")
        return unknown[1] if unknown and unknown[1] and "unknown" not in self.values else None

    def sentence(self, context: Context) -> str:
        return f"{self.label}: {in_words([self.words[name][0].lower() for name in self.values])}"


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
    reads_activity = True
    words = {"known": ("Known", Q()), "never": ("Never", Q()), "unknown": ("Not known", Q())}
    values: tuple[str, ...]
    products: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        set_value(self, "products", checked_products(self.products, "product"))

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

    def unknown_q(self, context: Context) -> Q | None:
        return unknown_q(self.products)

    def sentence(self, context: Context) -> str:
        return super().sentence(context) + in_products(self.products)


@dataclass(frozen=True)
class IsSynced(YesOrNo):
    """Provisioned by an identity provider."""

    name = "is_synced"
    label = "Identity provider"
    yes = "Synced from an identity provider"
    no = "Not synced from an identity provider"
    value: bool

    def condition(self, context: Context) -> Q:
        return Q(management_source=ManagementSource.SYNCED)


@dataclass(frozen=True)
class IsExempt(YesOrNo):
    name = "exempt"
    label = "Exempt"
    yes = "Exempt or snoozed"
    no = "Not exempt"
    value: bool

    def condition(self, context: Context) -> Q:
        return exempt_people_q(context.organization, context.now) if self.value else exempt_q(context.now)


@dataclass(frozen=True)
class IsProtected(YesOrNo):
    """Protected for the organisation, or by the rule's own `group_ids` (P2)."""

    name = "protected"
    label = "Protected"
    yes = "Protected"
    no = "Not protected"
    value: bool
    group_ids: tuple[int, ...] = ()

    def condition(self, context: Context) -> Q:
        return protected_members_q({*context.protected_group_ids(), *self.group_ids})


@dataclass(frozen=True)
class ExternalOnly(YesOrNo):
    """Accounts of other organisations or of nobody: not managed here (S70)."""

    name = "external_only"
    label = "External only"
    yes = "External users only"
    no = "Not external"
    value: bool = True

    def condition(self, context: Context) -> Q:
        return Q(claim_status=ClaimStatus.UNMANAGED)


@dataclass(frozen=True)
class PartitionIs(Predicate):
    """In one of the parts of the whole, for a range of `days`."""

    name = "partition"
    label = "State"
    reads_activity = True
    values: tuple[str, ...]
    days: int = 30

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(str(value).strip() for value in self.values))
        if not names or any(name not in Partition.values for name in names):
            raise PredicateError(self.name, f"Choose {in_words(Partition.values)}.")
        set_value(self, "values", names)
        set_value(self, "days", checked_days(self.days, "days"))

    def q(self, context: Context) -> Q:
        part = partition_case(context.cutoff(self.days))
        return reduce(or_, (Q(Exact(part, Value(name))) for name in self.values))

    def unknown_q(self, context: Context) -> Q | None:
        return Q(Exact(partition_case(context.cutoff(self.days)), Value(Partition.UNKNOWN.value)))

    def sentence(self, context: Context) -> str:
        return f"{in_words([Partition(name).label for name in self.values])} ({counted(self.days, 'day')})"
