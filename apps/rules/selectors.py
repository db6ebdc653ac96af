"""Reads about rules: lists, the plain sentence, the estimate beside the editor, what keeps a rule from running."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet
from django.utils import timezone

from apps.operations.models import Operation
from apps.operations.planning import IN, LEFT_OUT_LABELS, candidates, count_plan
from apps.operations.services.gate import Brakes
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule, RuleVersion
from apps.rules.schedule import MONTHLY, WEEKLY, next_run, next_runs
from apps.rules.values import WEEKDAY_NAMES, RuleInput, content_of
from apps.users.models import Group
from apps.users.predicates import Context, protected_group_ids
from apps.users.products import label_of
from aum.common.errors import InvalidInput, Missing

__all__ = [
    "Estimate",
    "GoneGroup",
    "content",
    "estimate",
    "gone_groups",
    "has_fresh_preview",
    "next_run_at",
    "next_runs",
    "rule_by_id",
    "rule_counts",
    "rules",
    "sentence",
    "version_of",
    "warnings",
]

REASON_LABELS = {"idle": "Not logged in for {days}", "never_active": "Never logged in"}
ACTION_WORDS = {"suspend": "suspend", "deactivate": "deactivate", "remove_product_access": "remove access to"}
NAMES_SHOWN = 3
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
        .select_related("organization", "edited_by")
        .prefetch_related("target_groups", "protected_groups")
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


def has_fresh_preview(rule: CleanupRule) -> bool:
    """Whether a plan was made of the rule's present version: what the editor asks for before Live mode."""
    return (
        Operation.objects.of(rule.organization)
        .filter(rule_id=rule.pk, rule_version=rule.version, planned_at__isnull=False)
        .exists()
    )


# --- words ----------------------------------------------------------------------------------------------------------


def sentence(values: CleanupRule | RuleInput, *, organization: Organization | None = None) -> str:
    """The rule as one plain sentence. RuleInput names groups by key only, so it needs `organization` as well.

    Values that `clean` would refuse are said as far as they go: the editor shows the sentence while it is filled in.
    """
    if isinstance(values, CleanupRule):
        organization, values = values.organization, RuleInput.of(values)
    if organization is None:
        raise TypeError("The sentence of values needs their organisation.")
    names = _group_names(organization, (*values.target_groups, *values.protected_groups))
    text = f"{_when(values)}, {_does(values, names)} {_condition(values)}"
    if values.protected_groups:
        text += f", unless they are in {_some([names[key] for key in values.protected_groups if key in names])}"
    return f"{text}."


def _group_names(organization: Organization, keys: Iterable[int]) -> dict[int, str]:
    return dict(Group.objects.of(organization).filter(pk__in=set(keys)).order_by("name").values_list("pk", "name"))


def _joined(names: Sequence[str], joint: str = "or") -> str:
    *head, last = names or ["nothing chosen yet"]
    return f"{', '.join(head)} {joint} {last}" if head else last


def _some(names: Sequence[str]) -> str:
    return f"one of {len(names)} protected groups" if len(names) > NAMES_SHOWN else _joined(sorted(names))


def _counted(days: int | None) -> str:
    return "1 day" if days == 1 else f"{days or 0} days"


def _when(values: RuleInput) -> str:
    clock = f"at {values.run_at:%H:%M} {values.timezone or 'UTC'}" if values.run_at else "at no time yet"
    if values.recurrence == WEEKLY:
        return f"Every {_joined([WEEKDAY_NAMES[day].capitalize() for day in values.weekdays], 'and')} {clock}"
    if values.recurrence == MONTHLY:
        if values.month_day == CleanupRule.LAST_DAY:
            return f"On the last day of each month {clock}"
        shorter = ", or on the last day of a shorter one," if (values.month_day or 0) > 28 else ""
        return f"On day {values.month_day or '?'} of each month{shorter} {clock}"
    return f"Every day {clock}"


def _does(values: RuleInput, names: dict[int, str]) -> str:
    is_managed_only = values.action == CleanupRule.Action.DEACTIVATE
    people = "managed users" if is_managed_only else "users"
    if values.target == CleanupRule.Target.SPECIFIED_GROUPS:
        groups = _joined(sorted(names[key] for key in values.target_groups if key in names))
        people = f"managed members of {groups}" if is_managed_only else f"members of {groups}"
    if values.action == CleanupRule.Action.REMOVE_PRODUCT_ACCESS:
        products = _joined([label_of(product) for product in values.target_products], "and")
        sites = f" on {_joined(values.target_sites, 'and')}" if values.target_sites else ""
        return f"remove access to {products}{sites} from {people}"
    return f"{ACTION_WORDS.get(values.action, values.action)} {people}"


def _condition(values: RuleInput) -> str:
    text = f"who have not logged in to {_measured(values)} for {_counted(values.inactive_days)}"
    if values.include_never_active:
        text += ", or never logged in since their invite"
        if values.never_active_days != values.inactive_days:
            text += f" more than {_counted(values.never_active_days)} ago"
    return text


def _measured(values: RuleInput) -> str:
    if values.is_per_product:
        return "it" if len(values.target_products) == 1 else "the product in question"
    return (
        _joined([label_of(product) for product in values.inactive_products])
        if values.inactive_products
        else "any product"
    )


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
    selection, spec = values.selection(protected_group_ids(organization)), values.action_spec()
    counts = count_plan(organization, selection, [spec], now)
    share = 100 * counts.planned / counts.licensed if counts.licensed else 0.0
    brakes = Brakes.of(organization, values.limits())
    is_over = counts.planned > brakes.max_count or share > brakes.max_share_percent
    days = _counted(values.inactive_days)
    return Estimate(
        matches=counts.planned,
        people_licensed=counts.licensed,
        share_percent=share,
        limit_text=_limit_text(brakes, counts.planned, counts.licensed),
        by_reason=_labelled({REASON_LABELS.get(c, c).format(days=days): n for c, n in counts.by_reason.items()}),
        left_out=_labelled({LEFT_OUT_LABELS.get(code, code): n for code, n in counts.left_out.items()}),
        active_elsewhere=_active_elsewhere(organization, values, now),
        over_limit=is_over,
        is_upper_bound=values.action == CleanupRule.Action.REMOVE_PRODUCT_ACCESS,
    )


def _labelled(counts: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _limit_text(brakes: Brakes, people: int, licensed: int) -> str:
    """How near the run is to the limit that stops it first, in words."""
    by_share = int(brakes.max_share_percent * licensed / 100)
    limit = min(brakes.max_count, by_share)
    share = f"{brakes.max_share_percent.normalize():f} %"
    words = f"the limit of {limit:,} users" + (f" ({share})" if by_share < brakes.max_count else "")
    if people > limit:
        return f"Above {words}: a live run waits for an approval."
    return f"{100 * people // limit if limit else 0} % of {words}."


def _active_elsewhere(organization: Organization, values: RuleInput, now: datetime) -> int:
    """Matches of a rule that looks at single products who were active in any product within the threshold."""
    if not values.inactive_products and not values.is_per_product:
        return 0
    selection, spec = values.selection(protected_group_ids(organization)), values.action_spec()
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


# --- what keeps a rule from running ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class GoneGroup:
    """A group that a rule names and that is no longer in Atlassian. `role`: target, protected, or protected here.

    The last is protected for the whole organisation.
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
        for field, role in (("target_groups", "target"), ("protected_groups", "protected"))
        for group in stored[field]
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


def warnings(organization: Organization, values: RuleInput) -> list[str]:
    """Sentences about cleaned values that may be saved and yet look like a mistake."""
    if values.target != CleanupRule.Target.SPECIFIED_GROUPS:
        return []
    protected = {*values.protected_groups, *protected_group_ids(organization)}
    both = set(values.target_groups) & protected
    if not both:
        return []
    names = _joined(sorted(_group_names(organization, both).values()), "and")
    if both == set(values.target_groups):
        return [f"Every target group is also protected ({names}), so this rule can never act on anybody."]
    return [f"{names} is targeted and protected at once: protection wins, so its members are skipped."]
