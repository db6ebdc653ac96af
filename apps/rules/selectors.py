"""Reads about rules: lists, the plain sentence, the estimate beside the editor, what keeps a rule from running."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from apps.operations.actions import REGISTRY
from apps.operations.models import Operation, OperationItem, SafeguardChange
from apps.operations.planning import IN, LEFT_OUT_LABELS, candidates, count_plan
from apps.operations.selectors import open_safeguard_changes
from apps.operations.services.gate import Brakes
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule, RuleVersion
from apps.rules.schedule import Scheduled, next_run, next_runs
from apps.rules.sentences import condition_sentences, counted, group_names, joined, sentence
from apps.rules.values import (
    DESCRIPTIVE_FIELDS,
    WEEKDAY_NAMES,
    RuleInput,
    changed_fields,
    content_of,
    selection_for,
    view_conditions,
)
from apps.users.models import Group
from apps.users.predicates import Context, protected_group_ids
from aum.common.errors import InvalidInput, Missing

__all__ = [
    "Estimate",
    "GoneGroup",
    "Regret",
    "condition_sentences",
    "content",
    "estimate",
    "gone_groups",
    "has_fresh_preview",
    "next_run_at",
    "next_runs",
    "regret",
    "rule_by_id",
    "rule_counts",
    "rules",
    "sentence",
    "version_of",
    "warnings",
]

REASON_LABELS = {
    "idle": "Not logged in for {days}",
    "never_active": "Never logged in",
    "status": "Deactivated or suspended for {status_days}",
    "conditions": "Meet the conditions",
}
VIEWS = {
    "all": Q(),
    "live": Q(mode=CleanupRule.Mode.LIVE, is_paused=False),
    "safe": Q(mode=CleanupRule.Mode.SAFE, is_paused=False),
    "paused": Q(is_paused=True),
}


def rules(organization: Organization, view: str = "all") -> QuerySet[CleanupRule]:
    """The organisation's rules by name: all, live, safe or paused; organisation, editor and groups loaded.

    Raises InvalidInput for another view. Last run and next run are `last_run_at` and `next_run_at`.
    """
    if view not in VIEWS:
        raise InvalidInput(fields={"view": [f"Choose one of {', '.join(VIEWS)}."]})
    found: QuerySet[CleanupRule] = (
        CleanupRule.objects.of(organization)
        .filter(VIEWS[view], deleted_at__isnull=True)
        .select_related("organization", "edited_by", "owner", "saved_view")
        .prefetch_related("action_groups", "target_groups", "protected_groups", "notice_steps__template")
        .order_by("name", "pk")
    )
    return found


def rule_counts(organization: Organization) -> dict[str, int]:
    """How many rules each view of the list shows."""
    present = CleanupRule.objects.of(organization).filter(deleted_at__isnull=True)
    return {view: present.filter(condition).count() for view, condition in VIEWS.items()}


def rule_by_id(organization: Organization, pk: int) -> CleanupRule:
    """The rule; raises Missing for one that is deleted or of another organisation."""
    rule = rules(organization).filter(pk=pk).first()
    if rule is None:
        raise Missing("There is no such rule. It may have been deleted; its runs stay in the log.")
    return rule


def version_of(rule: CleanupRule, version: int) -> RuleVersion:
    """What the rule said at `version`; raises Missing."""
    found: RuleVersion | None = RuleVersion.objects.filter(rule=rule, version=version).first()
    if found is None:
        raise Missing("The rule has no such version.")
    return found


def content(rule: CleanupRule) -> dict[str, object]:
    """The rule as JSON, as its versions keep it."""
    return content_of(RuleInput.of(rule), rule.organization)


def next_run_at(rule: CleanupRule) -> datetime | None:
    """When the rule runs next, by the function that also fires it; None while it is paused or deleted."""
    if rule.is_paused or rule.deleted_at:
        return None
    return next_run(rule, timezone.now())


def has_fresh_preview(rule: CleanupRule, wanted: Mapping[str, Any] | None = None) -> bool:
    """Whether the rule's last plan shows what the rule says now, or what `wanted` (content of a version) would say.

    Mode, owner and notes change nothing about whom it shows, so they may differ.
    """
    last = (
        Operation.objects.of(rule.organization)
        .filter(rule_id=rule.pk, planned_at__isnull=False, rule_version__isnull=False)
        .order_by("-id")
        .values_list("rule_version", flat=True)
        .first()
    )
    if last is None:
        return False
    contents = dict(
        RuleVersion.objects.filter(rule=rule, version__in={last, rule.version}).values_list("version", "content")
    )
    shown, now = contents.get(last), wanted or contents[rule.version]
    return shown is not None and not set(changed_fields(shown, now)[1]) - {"mode", *DESCRIPTIVE_FIELDS}


# --- figures --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """What a run at this moment would plan. `by_reason` and `left_out`: (label, people), largest first.

    `share_percent` is of the licensed people. `active_elsewhere`: matches who used another product than those the rule
    looks at within the threshold. `is_upper_bound`: access paths of product access are read by the plan only, so that
    some of these people may be left out by it.
    """

    matches: int
    people_licensed: int
    share_percent: float
    limit_text: str
    by_reason: tuple[tuple[str, int], ...]
    left_out: tuple[tuple[str, int], ...]
    active_elsewhere: int
    over_limit: bool
    is_upper_bound: bool


def estimate(organization: Organization, values: RuleInput, *, now: datetime | None = None) -> Estimate:
    """What cleaned `values` would plan now, by the planner's own query (`operations.planning.count_plan`)."""
    now = now or timezone.now()
    selection, spec = selection_for(organization, values), values.action_spec()
    counts = count_plan(organization, selection, [spec], now)
    share = 100 * counts.planned / counts.licensed if counts.licensed else 0.0
    brakes = Brakes.of(organization, values.limits())
    # What gives access is never held by number; what deletes always is.
    is_bound = values.takes_access
    is_over = is_bound and (counts.planned > brakes.max_count or share > brakes.max_share_percent)
    words = {"days": counted(values.inactive_days), "status_days": counted(values.status_days)}
    return Estimate(
        matches=counts.planned,
        people_licensed=counts.licensed,
        share_percent=share,
        limit_text=_limit_text(values, brakes, counts.planned, counts.licensed),
        by_reason=_labelled({REASON_LABELS.get(c, c).format(**words): n for c, n in counts.by_reason.items()}),
        left_out=_labelled({LEFT_OUT_LABELS.get(code, code): n for code, n in counts.left_out.items()}),
        active_elsewhere=_active_elsewhere(organization, values, now),
        over_limit=is_over,
        is_upper_bound=values.action == CleanupRule.Action.REMOVE_PRODUCT_ACCESS,
    )


@dataclass(frozen=True)
class Outlook:
    """A rule in a sentence, and what it would do at this moment."""

    sentence: str
    next_runs: list[datetime]
    estimate: Estimate
    warnings: list[str]


def outlook(organization: Organization, values: RuleInput, now: datetime, *, runs: int = 5) -> Outlook:
    """All that is said about cleaned `values` before they are saved."""
    assert values.run_at is not None, "cleaned values have a time"
    due: Scheduled = values  # type: ignore[assignment]  # run_at was just shown to be set
    return Outlook(
        sentence=sentence(values, organization=organization),
        next_runs=next_runs(due, runs, now),
        estimate=estimate(organization, values, now=now),
        warnings=warnings(organization, values),
    )


def _labelled(counts: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _limit_text(values: RuleInput, brakes: Brakes, people: int, licensed: int) -> str:
    """How near the run is to the limit that stops it first, in words."""
    if not values.takes_access:
        return "Giving access is not held by number."
    if values.action == CleanupRule.Action.DELETE:
        return "A live run that deletes always waits for an approval."
    by_share = int(brakes.max_share_percent * licensed / 100)
    limit = min(brakes.max_count, by_share)
    share = f"{brakes.max_share_percent.normalize():f} %"
    words = f"the limit of {limit:,} users" + (f" ({share})" if by_share < brakes.max_count else "")
    if people > limit:
        return f"Above {words}: a live run waits for an approval."
    return f"{100 * people // limit if limit else 0} % of {words}."


def _active_elsewhere(organization: Organization, values: RuleInput, now: datetime) -> int:
    """Matches of a rule that looks at single products who were active in any product within the threshold."""
    if not values.inactive_days or (not values.inactive_products and not values.is_per_product):
        return 0
    selection, spec = selection_for(organization, values), values.action_spec()
    cutoff_at = Context.of(organization, now=now).cutoff(values.inactive_days or 0)
    is_elsewhere = Q(last_active_at__gte=cutoff_at)
    if len(spec.products) < 2:
        product = spec.products[0] if spec.products else None
        matches = candidates(organization, selection, spec.name, now, product=product)
        return matches.filter(is_elsewhere, out=IN).count()
    people: set[int] = set()
    for product in spec.products:
        matches = candidates(organization, selection, spec.name, now, product=product)
        people |= set(matches.filter(is_elsewhere, out=IN).values_list("pk", flat=True))
    return len(people)


# --- ladders --------------------------------------------------------------------------------------------------------

# From the gentlest to the hardest rung.
RUNGS = ("remove_from_group", "remove_product_access", "suspend", "deactivate", "delete")


@dataclass(frozen=True)
class Ladder:
    """Rules that take, step by step, from the same people: gentlest first, then by their days."""

    target: str
    rungs: tuple[CleanupRule, ...]


def ladders(organization: Organization) -> list[Ladder]:
    """Every set of two or more taking rules that share a target; the last login is judged by each for itself."""
    groups: dict[str, list[CleanupRule]] = {}
    for rule in rules(organization):
        if rule.action in RUNGS:
            groups.setdefault(_target_key(rule), []).append(rule)
    found = [
        Ladder(_target_words(organization, rungs[0]), tuple(sorted(rungs, key=_rung_order)))
        for rungs in groups.values()
        if len({rule.action for rule in rungs}) > 1
    ]
    return sorted(found, key=lambda ladder: ladder.target)


def ladder_of(rule: CleanupRule) -> Ladder | None:
    """The ladder that the rule is a rung of, if any."""
    return next((found for found in ladders(rule.organization) if rule in found.rungs), None)


def _rung_order(rule: CleanupRule) -> tuple[int, int, str]:
    return RUNGS.index(rule.action), rule.inactive_days or rule.status_days or 0, rule.name


def _target_key(rule: CleanupRule) -> str:
    """What two rules have in common that are about the same people: groups, view and conditions, states left out."""
    is_for_groups = rule.target == CleanupRule.Target.SPECIFIED_GROUPS
    groups = sorted(group.pk for group in rule.target_groups.all()) if is_for_groups else []
    states = ("account_status", "membership_status", "status_days", "partition")
    conditions = [data for data in rule.conditions if data.get("name") not in states]
    return json.dumps([groups, rule.saved_view_id, sorted(conditions, key=str)], sort_keys=True)


def _target_words(organization: Organization, rule: CleanupRule) -> str:
    parts = []
    if rule.target == CleanupRule.Target.SPECIFIED_GROUPS:
        parts.append(f"Members of {joined(sorted(group.name for group in rule.target_groups.all()))}")
    parts += condition_sentences(organization, RuleInput.of(rule))
    return "; ".join(parts) or "All users except protected groups"


# --- versions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldChange:
    """One field of two versions, in words; empty for what was not said."""

    name: str
    before: str
    after: str


def versions(rule: CleanupRule) -> QuerySet[RuleVersion]:
    """What the rule said, newest first."""
    found: QuerySet[RuleVersion] = RuleVersion.objects.filter(rule=rule).order_by("-version")
    return found


def version_changes(older: RuleVersion | None, newer: RuleVersion) -> list[FieldChange]:
    """What differs between two versions, field by field; all that is said when there is no older one."""
    if older is None:
        before, after = changed_fields({}, newer.content)
    else:
        before, after = changed_fields(older.content, newer.content)
    return [FieldChange(name, _said(name, before[name]), _said(name, after[name])) for name in after]


@dataclass(frozen=True)
class VersionView:
    """A version with what changed since the one before."""

    version: int
    edited_by_text: str
    edited_at: datetime
    content: Mapping[str, Any]
    changes: Sequence[FieldChange]


def with_changes(rule: CleanupRule, found: Iterable[RuleVersion]) -> list[VersionView]:
    """The versions, each with its changes; one query for those before them."""
    rows = list(found)
    wanted = {version.version - 1 for version in rows}
    before = {one.version: one for one in RuleVersion.objects.filter(rule=rule, version__in=wanted)}
    return [
        VersionView(
            one.version,
            one.edited_by_text,
            one.edited_at,
            one.content,
            version_changes(before.get(one.version - 1), one),
        )
        for one in rows
    ]


def _said(name: str, value: Any) -> str:
    """A stored value in words."""
    if value is None or value == "" or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return str(value.get("name", ""))
    if name == "weekdays":
        return joined([WEEKDAY_NAMES[day].capitalize() for day in value], "and")
    if name == "month_day" and value == CleanupRule.LAST_DAY:
        return "last"
    if isinstance(value, list):
        return "; ".join(_item_words(part) for part in value)
    return str(value)


def _item_words(part: Any) -> str:
    if not isinstance(part, Mapping):
        return str(part)
    if "key" in part or "template" in part:
        return str(part.get("name") or part.get("template") or "")
    values = [
        ", ".join(_item_words(one) for one in value) if isinstance(value, list) else str(value)
        for key, value in part.items()
        if key not in ("name", "not") and value not in (True, [], None)
    ]
    words = " ".join([str(part.get("name", "")).replace("_", " "), *values])
    return f"not ({words})" if part.get("not") else words


# --- regret ---------------------------------------------------------------------------------------------------------

# Whom the rate is about, and what counts as coming back.
REGRET_WINDOW, REGRET_WITHIN = timedelta(days=90), timedelta(days=30)
# Below so many people one who came back says little.
REGRET_FROM = 5


@dataclass(frozen=True)
class Regret:
    """Of `reclaimed` people, from whom the rule's live runs took access in REGRET_WINDOW, `restored` got it back soon.

    Soon is within REGRET_WITHIN, by AUM or seen by a sync. `percent` is None when nobody was reclaimed.
    """

    reclaimed: int
    restored: int
    limit: int

    @property
    def percent(self) -> float | None:
        return 100 * self.restored / self.reclaimed if self.reclaimed else None

    @property
    def is_above(self) -> bool:
        return self.reclaimed >= REGRET_FROM and 100 * self.restored > self.limit * self.reclaimed


def regret(rule: CleanupRule, *, now: datetime | None = None) -> Regret:
    """How many of those whom the rule took access from got it back within 30 days, over the last 90."""
    now = now or timezone.now()
    items = OperationItem.objects.of(rule.organization)
    taken = items.filter(
        operation__rule_id=rule.pk,
        operation__mode=Operation.Mode.LIVE,
        outcome=OperationItem.Outcome.DONE,
        finished_at__gte=now - REGRET_WINDOW,
        account__isnull=False,
    )
    came_back = Q(pk=0)
    for name, action in REGISTRY.items():
        if not action.takes_access or not action.inverse:
            continue
        back = items.filter(
            account=OuterRef("account"),
            action=action.inverse,
            target=OuterRef("target"),
            outcome=OperationItem.Outcome.DONE,
            finished_at__gt=OuterRef("finished_at"),
            finished_at__lte=OuterRef("finished_at") + REGRET_WITHIN,
        )
        came_back |= Q(Exists(back), action=name)
    # Given back outside AUM: a sync saw the status change and started the idle clock anew.
    came_back |= Q(
        account__idle_floor_at__gt=F("finished_at"),
        account__idle_floor_at__lte=F("finished_at") + REGRET_WITHIN,
    )
    people = taken.filter(action__in=[name for name, action in REGISTRY.items() if action.takes_access])
    counted = people.aggregate(
        reclaimed=Count("account", distinct=True), restored=Count("account", distinct=True, filter=came_back)
    )
    return Regret(counted["reclaimed"], counted["restored"], rule.organization.max_regret_percent)


# --- what keeps a rule from running ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class GoneGroup:
    """A group that a rule names and that is no longer in Atlassian.

    `role`: target, protected, condition, added or removed, or organisation-wide protected.
    """

    name: str
    role: str


def gone_groups(rule: CleanupRule) -> list[GoneGroup]:
    """Groups whose members can no longer be told, so that the rule must not run (DECISIONS.md §9).

    The version's own list counts: a group whose row is gone as well would otherwise protect nobody without a word.
    """
    stored = version_of(rule, rule.version).content
    organization = rule.organization
    named = {
        (group["key"], group["name"], role)
        for field, role in (
            ("action_groups", "added or removed"),
            ("target_groups", "target"),
            ("protected_groups", "protected"),
        )
        # Versions from before a rule could name groups to add do not hold that field; the others always do.
        for group in (stored.get(field, []) if field == "action_groups" else stored[field])
    }
    named |= {
        (group["key"], group["name"], "condition")
        for data in stored.get("conditions", [])
        for group in data.get("groups", [])
    }
    protected = Group.objects.of(organization).filter(protection__isnull=False).values_list("pk", "name")
    named |= {(key, name, "organisation-wide protected") for key, name in protected}
    present = set(
        Group.objects.of(organization)
        .filter(pk__in={key for key, _name, _role in named}, vanished_at__isnull=True)
        .values_list("pk", flat=True)
    )
    return sorted(
        (GoneGroup(name, role) for key, name, role in named if key not in present), key=lambda g: (g.role, g.name)
    )


def view_trouble(rule: CleanupRule, *, is_live: bool) -> str:
    """Why the rule's shared view keeps it from running; empty when it does not."""
    if rule.saved_view_id is None:
        return ""
    try:
        view_conditions(rule.organization, rule.saved_view_id)
    except Missing:
        return "The shared view that the rule is bound to is no longer shared. Choose another one in the rule."
    except InvalidInput as error:
        return f"{error.fields['saved_view'][0]} Change the view, or choose another one in the rule."
    stored = version_of(rule, rule.version).content.get("saved_view") or {}
    now = content(rule)["saved_view"] or {}
    if is_live and stored.get("params") != now.get("params"):  # type: ignore[attr-defined]
        return (
            f"The shared view “{now.get('name')}” was changed since the rule was saved. "  # type: ignore[attr-defined]
            "Open the rule, check whom it matches now, and save it again."
        )
    return ""


def possible_owners(organization: Organization) -> list[tuple[str, str]]:
    """(e-mail, name) of everybody with a role here, by name: who can own a rule."""
    people = Operator.objects.filter(is_active=True, grants__organization=organization).distinct()
    return [
        (email, f"{name} ({email})" if name else email)
        for email, name in people.order_by("name", "email").values_list("email", "name")
    ]


def open_changes(rule: CleanupRule) -> QuerySet[SafeguardChange]:
    """Looser safeguards of the rule that wait for another person or for their hour."""
    return open_safeguard_changes(rule.organization).filter(rule_id=rule.pk)


def warnings(organization: Organization, values: RuleInput) -> list[str]:
    """Sentences about cleaned values that may be saved and yet look like a mistake."""
    if values.target != CleanupRule.Target.SPECIFIED_GROUPS or not values.takes_access:
        return []
    protected = {*values.protected_groups, *protected_group_ids(organization)}
    both = set(values.target_groups) & protected
    if not both:
        return []
    names = joined(sorted(group_names(organization, both).values()), "and")
    if both == set(values.target_groups):
        return [f"Every target group is also protected ({names}), so this rule can never act on anybody."]
    return [f"{names} is targeted and protected at once: protection wins, so its members are skipped."]
