"""Rules that contradict each other about the same people: one takes what the other gives (B24).

Found when a rule is saved, resumed or imported, and refused with both names and the count. Where two such rules meet
later all the same, because people or groups changed, the gentler one wins: the plan of the other leaves these people
out and says so, and the recheck before each write skips them. The rungs of a ladder do not contradict each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils import timezone

from apps.operations.planning import selection_q
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.values import ACTIONS, STATUS_CONDITIONS, RuleInput, selection_for
from apps.users.models import Account, Group
from apps.users.predicates import exempt_q, live_q, protected_q
from apps.users.products import bits_of
from aum.common.errors import InvalidInput, Missing

# What takes → what gives the same thing back.
_OPPOSITES = {
    "suspend": ("restore",),
    "deactivate": ("activate",),
    "delete": ("restore", "activate"),
    "remove_from_group": ("add_to_group",),
    "remove_product_access": ("add_to_group",),
}
# Pairs about the state of the account: each rule names the state that the other one leaves behind.
_ABOUT_STATE = ("suspend", "deactivate", "delete")


class RulesConflict(InvalidInput):
    code = "rules_conflict"


@dataclass(frozen=True)
class Conflict:
    """Another rule that says the opposite about `people` people."""

    rule: CleanupRule
    people: int


def conflicts(organization: Organization, values: RuleInput, *, not_rule: CleanupRule | None = None) -> list[Conflict]:
    """The rules, paused ones left out, that contradict cleaned `values` about somebody, most people first."""
    found = []
    for other in _opposing(organization, values.action, not_rule):
        both = opposed_q(organization, values, RuleInput.of(other), timezone.now())
        people = Account.objects.of(organization).filter(both).count() if both is not None else 0
        if people:
            found.append(Conflict(other, people))
    return sorted(found, key=lambda conflict: (-conflict.people, conflict.rule.name))


def refuse_conflicts(organization: Organization, values: RuleInput, *, rule: CleanupRule | None = None) -> None:
    """Raises RulesConflict that names both rules and how many people they disagree about."""
    found = conflicts(organization, values, not_rule=rule)
    if not found:
        return
    parts = [
        f"“{values.name}” and “{entry.rule.name}” contradict each other about {entry.people:,} "
        f"{'person' if entry.people == 1 else 'people'}: one takes what the other gives."
        for entry in found
    ]
    sentence = " ".join([*parts, "Change whom one of them is about, or pause it."])
    raise RulesConflict(sentence, fields={"action": [sentence]})


def gentler(rule: CleanupRule, now: datetime) -> list[tuple[CleanupRule, Q]]:
    """The live rules that give back what `rule` takes, each with whom both mean at `now`. Empty for a giving rule."""
    values = RuleInput.of(rule)
    if not values.takes_access:
        return []
    found = []
    for other in _opposing(rule.organization, rule.action, rule):
        if other.mode != CleanupRule.Mode.LIVE:
            continue
        both = opposed_q(rule.organization, values, RuleInput.of(other), now)
        if both is not None:
            found.append((other, both))
    return found


def _opposing(organization: Organization, action: str, rule: CleanupRule | None) -> list[CleanupRule]:
    """The rules but `rule` that run and whose action is the opposite of `action`."""
    givers = _OPPOSITES.get(action, ())
    takers = (taker for taker, opposites in _OPPOSITES.items() if action in opposites)
    rows = (
        CleanupRule.objects.of(organization)
        .filter(deleted_at__isnull=True, is_paused=False, action__in={*givers, *takers})
        .exclude(pk=rule.pk if rule else 0)
        .select_related("organization", "owner")
        .prefetch_related("action_groups", "target_groups", "protected_groups", "notice_steps")
    )
    return list(rows.order_by("pk"))


def opposed_q(organization: Organization, one: RuleInput, other: RuleInput, now: datetime) -> Q | None:
    """Whom both rules mean though one takes what the other gives; None when their actions do not contradict."""
    taker, giver = (one, other) if one.action in ACTIONS and ACTIONS[one.action].takes_access else (other, one)
    if giver.action not in _OPPOSITES.get(taker.action, ()) or not _same_thing(organization, taker, giver):
        return None
    is_about_state = taker.action in _ABOUT_STATE
    try:
        taken, given = (
            _meant(organization, taker, now, is_about_state),
            _meant(organization, giver, now, is_about_state),
        )
    except (Missing, InvalidInput):  # the shared view of one of them is gone, so that it does not run anyway
        return None
    protected = protected_q(organization, taker.protected_groups)
    return live_q() & Q(is_for_deletion=False) & taken & given & ~protected & ~exempt_q(now)


def _same_thing(organization: Organization, taker: RuleInput, giver: RuleInput) -> bool:
    """Whether a giving rule's groups are those that are taken, or give a product that is taken."""
    if taker.action == "remove_from_group":
        return not set(taker.action_groups).isdisjoint(giver.action_groups)
    if taker.action == "remove_product_access":
        taken = bits_of(taker.target_products)
        groups = Group.objects.of(organization).filter(pk__in=giver.action_groups)
        return any(bits & taken for bits in groups.values_list("granted_products", flat=True))
    return True


def _meant(organization: Organization, values: RuleInput, now: datetime, is_about_state: bool) -> Q:
    """Whom the rule means; where the two differ by state alone, without its conditions about state."""
    selection = selection_for(organization, values)
    if is_about_state:
        selection = dataclasses.replace(
            selection, status_days=None, conditions=tuple(_without_state(selection.conditions))
        )
    products: Iterable[str | None] = values.target_products if selection.per_product else (None,)
    found = Q(pk=0)
    for product in products:
        found |= selection_q(organization, selection, now, product)
    return found


def _without_state(conditions: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return (data for data in conditions if data["name"] not in (*STATUS_CONDITIONS, "status_days"))
