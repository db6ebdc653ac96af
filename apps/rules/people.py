"""What rules tell the users pages: whom a rule matches now, and what the rules will do to one person next.

Registered in `RulesConfig.ready` with the registries of `apps.users`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from apps.operations.planning import IN, candidates
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.schedule import next_run
from apps.rules.values import RuleInput, selection_for
from apps.users.models import Account
from apps.users.predicates import Context, Predicate, PredicateError, idle_since
from apps.users.registries import Choice, MenuFilter, Upcoming, menu_filters, upcoming_sources, view_users
from apps.users.selectors.filters import Given, add_filter
from aum.common.errors import InvalidInput, Missing

RULES_SHOWN = 50
# Which of the live rules are asked what they will do to one person; each costs a few small queries.
RULES_ASKED = 20
WORDS = {
    "suspend": "Suspended",
    "deactivate": "Deactivated",
    "remove_product_access": "Product access removed",
    "remove_from_group": "Removed from groups",
    "add_to_group": "Added to groups",
    "restore": "Restored",
    "activate": "Activated",
    "delete": "Deleted",
}


@dataclass(frozen=True)
class MatchesRule(Predicate):
    """People whom a cleanup rule would plan for at this moment, whatever its mode and schedule."""

    name = "rule"
    label = "Matches rule"
    rules: tuple[str, ...]

    def __post_init__(self) -> None:
        keys = tuple(dict.fromkeys(str(rule).strip() for rule in self.rules))
        if not keys or any(not (key.isascii() and key.isdecimal() and len(key) < 19) for key in keys):
            raise PredicateError(self.name, "Choose a rule from the list.")
        object.__setattr__(self, "rules", keys)

    def q(self, context: Context) -> Q:
        found = Q(pk=0)
        for rule in _rules(context.organization, self.rules):
            found |= matching_q(rule, context.now)
        return found

    def sentence(self, context: Context) -> str:
        names = {str(rule.pk): rule.name for rule in _rules(context.organization, self.rules)}
        said = [f"“{names[key]}”" if key in names else "a rule that is gone" for key in self.rules]
        return f"Matches {' or '.join(said)}"


def matching_q(rule: CleanupRule, now: datetime, *, account_pks: Sequence[int] | None = None) -> Q:
    """The people whom `rule` would plan for at `now`, as a condition: the planner's own query."""
    values = RuleInput.of(rule)
    found = Q(pk=0)
    try:
        selection, spec = selection_for(rule.organization, values), values.action_spec()
    except (Missing, InvalidInput):  # its shared view is gone or asks what a rule cannot: it matches nobody
        return found
    for product in spec.products or (None,):
        people = candidates(rule.organization, selection, spec.name, now, product=product, account_pks=account_pks)
        if product is not None:
            # Idleness may be judged elsewhere; what can be taken is only what is held there.
            sites = {"product_access__site__in": spec.sites} if spec.sites else {}
            people = people.filter(product_access__product=product, **sites)
        found |= Q(pk__in=people.filter(out=IN).order_by().values("pk"))
    return found


def _rules(organization: Organization, keys: Sequence[str]) -> list[CleanupRule]:
    return list(
        CleanupRule.objects.of(organization)
        .filter(pk__in=[int(key) for key in keys], deleted_at__isnull=True)
        .select_related("organization")
        .order_by("name", "pk")
    )


def rule_choices(organization: Organization) -> list[Choice]:
    """The organisation's rules for the explorer's menu."""
    rows = CleanupRule.objects.of(organization).filter(deleted_at__isnull=True).order_by("name", "pk")
    return [Choice(str(pk), name) for pk, name in rows.values_list("pk", "name")[:RULES_SHOWN]]


def upcoming(account: Account) -> list[Upcoming]:
    """What the live rules will do to the account if nothing changes: at most one entry a rule, the soonest first."""
    organization, now = account.organization, timezone.now()
    rules = (
        CleanupRule.objects.of(organization)
        .filter(mode=CleanupRule.Mode.LIVE, is_paused=False, deleted_at__isnull=True)
        .select_related("organization")
        .order_by(F("next_run_at").asc(nulls_last=True), "pk")
    )
    found: list[Upcoming] = []
    for rule in rules[:RULES_ASKED]:
        at = _acts_at(rule, account, now)
        if at is not None:
            url = reverse("rules:edit", args=[organization.slug, rule.pk])
            title = WORDS.get(rule.action, rule.get_action_display())
            found.append(Upcoming(at, title, rule.name, url, "unless they log in, are exempted or the rule changes"))
    return sorted(found, key=lambda entry: (entry.at or now, entry.rule))


def _acts_at(rule: CleanupRule, account: Account, now: datetime) -> datetime | None:
    """The first run of the rule that takes the account, as things stand; None when none does."""
    first = next_run(rule, now)
    values = RuleInput.of(rule)
    margin = Context.of(rule.organization).margin
    measured: list[tuple[str, ...]] = (
        [(product,) for product in values.target_products] if values.is_per_product else [values.inactive_products]
    )
    moments = {first}
    clocks: dict[str, Any] = {
        f"clock_{number}": idle_since(products, now=first) for number, products in enumerate(measured)
    }
    since = Account.objects.filter(pk=account.pk).values(**clocks).first() or {}
    if values.status_days:
        moments |= {_status_since(account) + timedelta(days=values.status_days, seconds=1)}
    for days in (values.inactive_days, values.never_active_days if values.include_never_active else None):
        if days:
            moments |= {at + timedelta(days=days, seconds=1) + margin for at in since.values()}
    for moment in sorted(moments):
        at = first if moment <= first else next_run(rule, moment)
        if Account.objects.filter(matching_q(rule, at, account_pks=[account.pk]), pk=account.pk).exists():
            return at
    return None


def _status_since(account: Account) -> datetime:
    since: datetime = account.status_changed_at or account.first_seen_at
    return since


def bound_to_view(organization: Organization, view_pk: int) -> list[str]:
    """The rules that take their conditions from a shared view: it is neither deleted nor made private under them."""
    rules = CleanupRule.objects.of(organization).filter(saved_view_id=view_pk, deleted_at__isnull=True)
    return [f"rule “{name}”" for name in rules.order_by("name").values_list("name", flat=True)]


def register() -> None:
    """Fill the registries of the users pages; done once, in `RulesConfig.ready`."""
    view_users.append(bound_to_view)
    add_filter("rule", _build)
    menu_filters.append(MenuFilter("rule", "Matches rule", rule_choices))
    upcoming_sources.append(upcoming)


def _build(given: Given) -> Predicate:
    return MatchesRule(given.values)
