"""Findings about people that are no filter of their own: registered so that explorer, REST and plans know them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import GreaterThan

from apps.users.models import AccountStatus, DirectoryMembership, MembershipStatus, ProductAccess
from apps.users.predicates import Context, Predicate, PredicateError, holds_q
from apps.users.selectors.filters import Given, add_filter

_USABLE = Q(account_status=AccountStatus.ACTIVE, membership_status=MembershipStatus.ACTIVE, is_for_deletion=False)


def _overlapping() -> Q:
    """A product that comes from two groups or more: leaving one of them frees nothing."""
    access = ProductAccess.objects.filter(account=OuterRef("pk"), group_ids__len__gte=2)
    return _USABLE & Q(Exists(access))


def _half_suspended() -> Q:
    """Suspended in one directory and active in another: the licences stay billed."""
    memberships = DirectoryMembership.objects.filter(account=OuterRef("pk"))
    return (
        Q(Exists(memberships.filter(status=MembershipStatus.SUSPENDED)))
        & Q(Exists(memberships.filter(status=MembershipStatus.ACTIVE)))
        & Q(account_status=AccountStatus.ACTIVE)
        & holds_q(())
    )


def _deactivated_in_groups() -> Q:
    """Deactivated and still a member of groups: whoever activates the account gives all of them back."""
    size = Coalesce(F("group_ids__len"), Value(0))
    return Q(account_status=AccountStatus.INACTIVE, is_for_deletion=False) & Q(GreaterThan(size, 0))


@dataclass(frozen=True)
class InInsight(Predicate):
    """People whom a finding of the Insights page counts."""

    name = "insight"
    label = "Insight"
    words: ClassVar[Mapping[str, str]] = {
        "overlapping": "has a licence through two or more groups",
        "half_suspended": "is suspended in one directory and active in another",
        "deactivated_in_groups": "is deactivated and still in groups",
    }
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(str(value).strip() for value in self.values))
        if not names or any(name not in self.words for name in names):
            raise PredicateError(self.name, f"Choose {' or '.join(self.words)}.")
        object.__setattr__(self, "values", names)

    def q(self, context: Context) -> Q:
        parts = {
            "overlapping": _overlapping,
            "half_suspended": _half_suspended,
            "deactivated_in_groups": _deactivated_in_groups,
        }
        found = Q(pk__in=[])
        for name in self.values:
            found |= parts[name]()
        return found

    def sentence(self, context: Context) -> str:
        return f"Who {' or '.join(self.words[name] for name in self.values)}"


def register() -> None:
    """Make the filter known; done once, in `SavingsConfig.ready`."""
    add_filter("insight", _build)


def _build(given: Given) -> Predicate:
    return InInsight(given.values)
