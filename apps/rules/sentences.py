"""A rule in one plain sentence, and its conditions in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.schedule import MONTHLY, WEEKLY
from apps.rules.values import GROUP_FIELDS, WEEKDAY_NAMES, RuleInput
from apps.users.models import Group
from apps.users.predicates import Context, PredicateError, condition_of
from apps.users.products import label_of
from apps.users.selectors.views import shared_views

NAMES_SHOWN = 3


def sentence(values: CleanupRule | RuleInput, *, organization: Organization | None = None) -> str:
    """The rule as one plain sentence. RuleInput names groups by key only, so it needs `organization` as well.

    Values that `clean` would refuse are said as far as they go: the editor shows the sentence while it is filled in.
    """
    if isinstance(values, CleanupRule):
        organization, values = values.organization, RuleInput.of(values)
    if organization is None:
        raise TypeError("The sentence of values needs their organisation.")
    names = group_names(organization, (key for name in GROUP_FIELDS for key in getattr(values, name)))
    text = f"{_when(values)}, {_does(values, names)} {_condition(values, organization)}".rstrip()
    if values.protected_groups and values.takes_access:
        text += f", unless they are in {_some([names[key] for key in values.protected_groups if key in names])}"
    return f"{text}."


def group_names(organization: Organization, keys: Iterable[int]) -> dict[int, str]:
    """Key → name of the groups that are known, by name."""
    return dict(Group.objects.of(organization).filter(pk__in=set(keys)).order_by("name").values_list("pk", "name"))


def joined(names: Sequence[str], joint: str = "or") -> str:
    """`a, b or c`."""
    *head, last = names or ["nothing chosen yet"]
    return f"{', '.join(head)} {joint} {last}" if head else last


def _some(names: Sequence[str]) -> str:
    return f"one of {len(names)} protected groups" if len(names) > NAMES_SHOWN else joined(sorted(names))


def counted(days: int | None) -> str:
    """`1 day`, `60 days`."""
    return "1 day" if days == 1 else f"{days or 0} days"


def _when(values: RuleInput) -> str:
    clock = f"at {values.run_at:%H:%M} {values.timezone or 'UTC'}" if values.run_at else "at no time yet"
    if values.recurrence == WEEKLY:
        return f"Every {joined([WEEKDAY_NAMES[day].capitalize() for day in values.weekdays], 'and')} {clock}"
    if values.recurrence == MONTHLY:
        if values.month_day == CleanupRule.LAST_DAY:
            return f"On the last day of each month {clock}"
        shorter = ", or on the last day of a shorter one," if (values.month_day or 0) > 28 else ""
        return f"On day {values.month_day or '?'} of each month{shorter} {clock}"
    return f"Every day {clock}"


def _does(values: RuleInput, names: dict[int, str]) -> str:
    people = _people(values, names)
    groups = joined(sorted(names[key] for key in values.action_groups if key in names), "and")
    if values.action == CleanupRule.Action.REMOVE_PRODUCT_ACCESS:
        products = joined([label_of(product) for product in values.target_products], "and")
        sites = f" on {joined(values.target_sites, 'and')}" if values.target_sites else ""
        return f"remove access to {products}{sites} from {people}"
    if values.action == CleanupRule.Action.ADD_TO_GROUP:
        return f"add {people} to {groups}"
    if values.action == CleanupRule.Action.REMOVE_FROM_GROUP:
        return f"remove {people} from {groups}"
    return f"{values.action} {people}"


PEOPLE = {
    "deactivate": "managed users",
    "restore": "suspended users",
    "activate": "deactivated managed users",
    "delete": "managed users",
}


def _people(values: RuleInput, names: dict[int, str]) -> str:
    people = PEOPLE.get(values.action, "users")
    if values.target == CleanupRule.Target.SPECIFIED_GROUPS:
        groups = joined(sorted(names[key] for key in values.target_groups if key in names))
        people = f"{people.removesuffix('users')}members of {groups}"
    return people


def _condition(values: RuleInput, organization: Organization) -> str:
    """Whom, in words: last login, state, and the conditions that hold as well."""
    parts = []
    if values.status_days:
        parts.append(f"who have been deactivated or suspended for more than {counted(values.status_days)}")
    if values.inactive_days:
        text = f"who have not logged in to {_measured(values)} for {counted(values.inactive_days)}"
        if values.include_never_active:
            text += ", or never logged in since their invite"
            if values.never_active_days != values.inactive_days:
                text += f" more than {counted(values.never_active_days)} ago"
        parts.append(text)
    elif values.include_never_active:
        since = counted(values.never_active_days)
        parts.append(f"who never logged in to {_measured(values)} since their invite more than {since} ago")
    more = condition_sentences(organization, values)
    if more:
        joint = ", and for whom this holds: " if parts else "for whom this holds: "
        return f"{' '.join(parts)}{joint}{'; '.join(more)}"
    return " ".join(parts)


def condition_sentences(organization: Organization, values: RuleInput) -> list[str]:
    """The rule's conditions in words, the shared view first; those that cannot be read are left out."""
    context = Context.of(organization)
    said = []
    if values.saved_view:
        view = shared_views(organization).filter(pk=values.saved_view).first()
        said.append(f"in the view “{view.name}”" if view else "in a view that is no longer shared")
    for data in values.conditions:
        try:
            words = condition_of(data).sentence(context)
        except PredicateError:
            continue
        said.append(words[:1].lower() + words[1:])
    return said


def _measured(values: RuleInput) -> str:
    if values.is_per_product:
        return "it" if len(values.target_products) == 1 else "the product in question"
    return (
        joined([label_of(product) for product in values.inactive_products])
        if values.inactive_products
        else "any product"
    )
