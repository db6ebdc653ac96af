"""What a rule says, as plain values: input from any source, judged in one place, and the content that versions keep."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal, InvalidOperation
from typing import Any, Self

from django.db.models import Q

from apps.operations.actions import REGISTRY
from apps.operations.planning import group_refusal
from apps.operations.selection import ActionSpec, IdleSelection, Limits
from apps.operations.services.gate import limits_can_trip
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.notice_values import clean_notices, notices_content
from apps.rules.schedule import MONTHLY, WEEKLY
from apps.users.models import Group, SavedView
from apps.users.predicates import (
    NOT_IN_RULES,
    Condition,
    PredicateError,
    condition_of,
    parameters_of,
    protected_group_ids,
)
from apps.users.products import product_of
from apps.users.selectors.filters import AccountFilters
from apps.users.selectors.views import saved_view_params, shared_views
from aum.common.errors import InvalidInput

MAX_DAYS = 3650
NOTES_LENGTH = 4000
MAX_CONDITIONS = 20
DEFAULT_WINDOW, MIN_WINDOW, MAX_WINDOW = 60, 5, 1440
MAX_BLACKOUTS, MAX_BLACKOUT_DAYS, MAX_YEAR = 100, 366, 2999
BLACKOUT_SENTENCE = "Write dates as 2026-12-24, and spans as 2026-12-24..2027-01-06."
DELETE_OFF_SENTENCE = "Deleting accounts by rule is switched off. It is switched on under Settings, Safeguards."
MAX_COUNT = 1_000_000
NAME_LENGTH = 120
WEEKDAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
DAYS_SENTENCE = "Enter 1 or more days, or turn this condition off."
GONE_SENTENCE = "A chosen group no longer exists in Atlassian: {names}. Take it out or choose another one."
LIMITS_SENTENCE = (
    "These limits could never stop a run at the present size of the organisation. Enter a smaller number or share."
)
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(:[0-5]\d)?", re.ASCII)


@dataclass(frozen=True)
class RuleInput:
    """All that can be entered of a rule. Making one checks nothing, so that a wrong value keeps its field.

    Values may come as text, as forms, JSON and YAML give them; `clean` returns them typed. Groups are keys of
    `users.Group`; `saved_view` is the key of a shared view; `owner` an e-mail address; weekdays 0 (Monday) to 6;
    `conditions`: `{"name", parameters, "not"}` as `users.predicates.condition_of` reads them; `timezone` empty: the
    organisation's; limits None: the organisation's.
    """

    name: str = ""
    owner: str = ""
    mode: str = CleanupRule.Mode.SAFE.value
    action: str = CleanupRule.Action.SUSPEND.value
    action_groups: tuple[int, ...] = ()
    inactive_products: tuple[str, ...] = ()
    target_products: tuple[str, ...] = ()
    target_sites: tuple[str, ...] = ()
    inactive_days: int | None = None
    include_never_active: bool = False
    never_active_days: int | None = None
    status_days: int | None = None
    saved_view: int | None = None
    conditions: tuple[Mapping[str, Any], ...] = ()
    target: str = CleanupRule.Target.ALL_EXCEPT_PROTECTED.value
    target_groups: tuple[int, ...] = ()
    protected_groups: tuple[int, ...] = ()
    recurrence: str = CleanupRule.Recurrence.DAILY.value
    weekdays: tuple[int, ...] = ()
    month_day: int | None = None
    run_at: time | None = None
    window_minutes: int = DEFAULT_WINDOW
    timezone: str = ""
    blackout_dates: tuple[str, ...] = ()
    max_count: int | None = None
    max_share_percent: Decimal | None = None
    # Steps of the notice ladder, each "<key of the template>:<days before the action>:<person or manager>".
    notices: tuple[str, ...] = ()
    undeliverable: str = CleanupRule.Undeliverable.ASK.value
    undeliverable_days: int = 14
    notes: str = ""

    @classmethod
    def of(cls, rule: CleanupRule) -> Self:
        """The rule as it stands: the base of an edit that changes some fields (`dataclasses.replace`)."""
        values: dict[str, Any] = {}
        for name in FIELDS:
            if name == "owner":
                values[name] = rule.owner.email if rule.owner else ""
                continue
            value = getattr(rule, f"{name}_id" if name == "saved_view" else name)
            if name in GROUP_FIELDS:
                value = sorted(group.pk for group in value.all())  # `all` sees what was prefetched
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    @property
    def is_per_product(self) -> bool:
        """True when each product that is taken is judged by its own last login (S152)."""
        return self.action == CleanupRule.Action.REMOVE_PRODUCT_ACCESS and not self.inactive_products

    @property
    def takes_access(self) -> bool:
        return self.action in ACTIONS and ACTIONS[self.action].takes_access

    @property
    def looks_at_login(self) -> bool:
        """Whether last login chooses people at all."""
        return bool(self.inactive_days or self.include_never_active)

    def selection(
        self, protected_group_ids: Iterable[int] = (), view_conditions: Iterable[Mapping[str, Any]] = ()
    ) -> IdleSelection:
        """Whom a plan is about; `protected_group_ids` are added to the rule's own.

        `view_conditions` are those of the shared view: `selection_for` finds both.
        """
        conditions = (*self.conditions, *view_conditions)
        states = STATES_OF[self.action]
        if self.action in GROUP_ACTIONS and any(data.get("name") in STATUS_CONDITIONS for data in conditions):
            states = "any"
        is_for_groups = self.target == CleanupRule.Target.SPECIFIED_GROUPS
        return IdleSelection(
            inactive_days=self.inactive_days,
            inactive_products=self.inactive_products,
            per_product=self.is_per_product,
            include_never_active=self.include_never_active,
            never_active_days=self.never_active_days,
            target_group_ids=self.target_groups if is_for_groups else None,
            protected_group_ids=tuple(sorted({*self.protected_groups, *protected_group_ids})),
            states=states,
            status_days=self.status_days,
            conditions=conditions,
        )

    def action_spec(self) -> ActionSpec:
        """What a plan does."""
        return ActionSpec(self.action, self.action_groups, products=self.target_products, sites=self.target_sites)

    def limits(self) -> Limits:
        """The rule's own limits."""
        return Limits(self.max_count, self.max_share_percent)


FIELDS = tuple(field.name for field in dataclasses.fields(RuleInput))
GROUP_FIELDS = ("action_groups", "target_groups", "protected_groups")
SCHEDULE_FIELDS = ("recurrence", "weekdays", "month_day", "run_at", "timezone", "blackout_dates")
# What changes nothing about whom a rule acts on and when: an edit of these alone leaves plans and previews as they are.
DESCRIPTIVE_FIELDS = ("owner", "notes")
ACTIONS = {name: REGISTRY[name] for name in CleanupRule.Action.values}
GROUP_ACTIONS = (CleanupRule.Action.ADD_TO_GROUP.value, CleanupRule.Action.REMOVE_FROM_GROUP.value)
# Actions for which last login means something; who is out cannot log in.
LOGIN_ACTIONS = ("suspend", "deactivate", "remove_product_access", *GROUP_ACTIONS)
# Action → in which state people are whom it is about (`operations.planning.STATES`).
STATES_OF = {
    "suspend": "active",
    "remove_product_access": "active",
    "deactivate": "enabled",
    "restore": "suspended",
    "activate": "deactivated",
    "delete": "out",
    "add_to_group": "active",
    "remove_from_group": "active",
}
STATUS_CONDITIONS = ("account_status", "membership_status", "partition")


def view_conditions(organization: Organization, saved_view: int | None) -> list[dict[str, Any]]:
    """The filters of a shared view as conditions; none without a view.

    Raises Missing when it is gone or private, InvalidInput when it asks what a rule cannot ask.
    """
    if saved_view is None:
        return []
    filters, errors = AccountFilters.parse(saved_view_params(organization, saved_view))
    asked = [condition.name for condition in filters.conditions if condition.name in NOT_IN_RULES]
    if errors or asked:
        names = ", ".join(sorted({*asked, *errors}))
        raise InvalidInput(fields={"saved_view": [f"A rule cannot use what this view filters by: {names}."]})
    return [Condition(condition).as_json() for condition in filters.conditions]


def selection_for(organization: Organization, values: RuleInput) -> IdleSelection:
    """Whom a plan of cleaned values is about, with the organisation's protected groups and the shared view's filters.

    Raises Missing when the view is gone.
    """
    return values.selection(protected_group_ids(organization), view_conditions(organization, values.saved_view))


def clean(values: RuleInput, organization: Organization, *, rule: CleanupRule | None = None) -> RuleInput:
    """The values, typed and trimmed to what applies. Raises InvalidInput that names every wrong field.

    What does not apply is dropped: products of a suspension, weekdays of a daily rule. `rule` is the one being edited.
    """
    return _Cleaner(values, organization, rule).run()


class _Cleaner:
    """One judgement of one set of values; `errors` collects a sentence for each wrong field."""

    def __init__(self, values: RuleInput, organization: Organization, rule: CleanupRule | None) -> None:
        self.values, self.organization, self.rule = values, organization, rule
        self.errors: dict[str, list[str]] = {}

    def run(self) -> RuleInput:
        cleaned = RuleInput(
            name=self.name(),
            mode=self.choice("mode", CleanupRule.Mode.values),
            action=self.choice("action", CleanupRule.Action.values),
            run_at=self.run_at(),
            timezone=self.timezone(),
            max_count=self.max_count(),
            max_share_percent=self.max_share_percent(),
            protected_groups=self.groups("protected_groups"),
            **clean_notices(self.values, self.organization, self.refuse),
            owner=self.owner(),
            notes=self.notes(),
            action_groups=self.action_groups(),
            saved_view=self.saved_view(),
            conditions=self.conditions(),
            window_minutes=self.window(),
            blackout_dates=self.blackout_dates(),
            **self.last_login(),
            **self.targets(),
            **self.removed_products(),
            **self.recurrence(),
        )
        if not self.errors:
            self.judge_whom(cleaned)
        if self.errors:
            raise InvalidInput(fields=self.errors)
        self.judge_limits(cleaned)
        return cleaned

    def refuse(self, name: str, sentence: str) -> None:
        self.errors.setdefault(name, [sentence])

    def judge_limits(self, cleaned: RuleInput) -> None:
        limits = cleaned.limits()
        if limits != Limits() and not limits_can_trip(organization=self.organization, limits=limits):
            given = "max_count" if limits.max_count is not None else "max_share_percent"
            raise InvalidInput(fields={given: [LIMITS_SENTENCE]})

    def name(self) -> str:
        name = " ".join(str(self.values.name or "").split())
        if not name:
            self.refuse("name", "Give the rule a name.")
        elif len(name) > NAME_LENGTH:
            self.refuse("name", f"Use at most {NAME_LENGTH} characters.")
        elif any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            self.refuse("name", "The name holds characters that cannot be shown. Type it anew.")
        elif _is_taken(self.organization, name, self.rule):
            self.refuse("name", "Another rule has this name. Choose a different one.")
        return name

    def choice(self, name: str, allowed: Iterable[str]) -> str:
        value, choices = str(getattr(self.values, name)), list(allowed)
        if value not in choices:
            self.refuse(name, f"Choose one of {', '.join(choices)}.")
        return value

    def days(self, name: str) -> int | None:
        days = _whole_number(getattr(self.values, name))
        if days is None or days < 1:
            self.refuse(name, DAYS_SENTENCE)
        elif days > MAX_DAYS:
            self.refuse(name, f"Enter at most {MAX_DAYS:,} days.")
        return days

    def flag(self, name: str) -> bool:
        value = getattr(self.values, name)
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if word not in (*YES, *NO):
            self.refuse(name, "Answer true or false.")
        return word in YES

    def last_login(self) -> dict[str, Any]:
        """Days of inactivity where they apply, and days in the present status for a deletion."""
        if self.values.action == CleanupRule.Action.DELETE:
            return {"status_days": self.days("status_days"), "inactive_products": ()}
        if self.values.action in ACTIONS and self.values.action not in LOGIN_ACTIONS:
            return {"inactive_products": ()}
        is_included = self.flag("include_never_active")
        never_days = self.days("never_active_days") if is_included else None
        days = None
        if not _is_empty(self.values.inactive_days) or not (is_included or self.has_other_questions()):
            days = self.days("inactive_days")
        products = self.products("inactive_products") if days or is_included else ()
        return {
            "inactive_days": days,
            "include_never_active": is_included,
            "never_active_days": never_days,
            "inactive_products": products,
        }

    def has_other_questions(self) -> bool:
        """Whether something besides last login says whom the rule is about."""
        if _listed(self.values.conditions) or not _is_empty(self.values.saved_view):
            return True
        return (
            self.values.action == CleanupRule.Action.ADD_TO_GROUP
            and self.values.target == CleanupRule.Target.SPECIFIED_GROUPS
        )

    def judge_whom(self, cleaned: RuleInput) -> None:
        """Refuses what would act on people that nobody meant."""
        action = cleaned.action
        if action == CleanupRule.Action.DELETE and not self.organization.allow_delete_rules:
            self.refuse("action", DELETE_OFF_SENTENCE)
        if action in ("restore", "activate") and not (
            cleaned.conditions or cleaned.saved_view or cleaned.target == CleanupRule.Target.SPECIFIED_GROUPS
        ):
            self.refuse("conditions", "Say whom: add a condition, or choose groups. Else everybody would come back.")
        both = set(cleaned.action_groups) & set(cleaned.protected_groups)
        if action == CleanupRule.Action.REMOVE_FROM_GROUP and both:
            self.refuse("action_groups", "Members of a protected group are never taken out of it. Choose other groups.")
        for place, data in enumerate(cleaned.conditions):
            if cleaned.takes_access and data["name"] in ("activity", "partition") and "unknown" in data["values"]:
                self.refuse(
                    f"conditions.{place}", "No rule takes access from people whose last login is not known. Untick it."
                )

    def owner(self) -> str:
        email = str(self.values.owner or "").strip()
        if not email or (self.rule is not None and self.rule.owner and email == self.rule.owner.email):
            return email  # who left stays named until somebody names another one
        found = Operator.objects.filter(email__iexact=email, is_active=True, grants__organization=self.organization)
        owner = found.distinct().first()
        if owner is None:
            self.refuse("owner", "Nobody with this e-mail address has a role in this organisation.")
            return ""
        return str(owner.email)

    def notes(self) -> str:
        notes = str(self.values.notes or "").replace("\r\n", "\n").strip()
        if len(notes) > NOTES_LENGTH:
            self.refuse("notes", f"Use at most {NOTES_LENGTH:,} characters.")
        elif any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in notes):
            self.refuse("notes", "The notes hold characters that cannot be shown. Type them anew.")
        return notes

    def action_groups(self) -> tuple[int, ...]:
        """Groups that people are added to or removed from: none that grants administration or is synced (P15)."""
        if self.values.action not in GROUP_ACTIONS:
            return ()
        keys = self.groups("action_groups")
        if not keys:
            self.refuse("action_groups", "Choose at least one group.")
        groups = Group.objects.of(self.organization).filter(pk__in=keys, vanished_at__isnull=True).order_by("name")
        for group in groups:
            if refusal := group_refusal(group, self.values.action):
                self.refuse("action_groups", refusal)
        return keys

    def saved_view(self) -> int | None:
        value = getattr(self.values.saved_view, "pk", self.values.saved_view)
        if _is_empty(value):
            return None
        views = shared_views(self.organization)
        key = _whole_number(value)
        view = views.filter(pk=key).first() if key is not None and 0 < key < 2**63 else None
        view = view or views.filter(name=str(value).strip()).first()
        if view is None:
            self.refuse("saved_view", "There is no shared view like this. Choose one from the list.")
            return None
        try:
            view_conditions(self.organization, view.pk)
        except InvalidInput as error:
            self.refuse("saved_view", error.fields["saved_view"][0])
        return int(view.pk)

    def conditions(self) -> tuple[dict[str, Any], ...]:
        given = list(self.values.conditions or ())
        if len(given) > MAX_CONDITIONS:
            self.refuse("conditions", f"Use at most {MAX_CONDITIONS} conditions.")
            return ()
        return tuple(found for place, data in enumerate(given) if (found := self.condition(place, data)))

    def condition(self, place: int, data: Any) -> dict[str, Any]:
        """One condition in its one way of writing; groups as keys of present groups, in order."""
        where = f"conditions.{place}"
        if not isinstance(data, Mapping):
            self.refuse(where, "A condition is a mapping with a name and its values.")
            return {}
        groups = data.get("groups")
        if isinstance(groups, list | tuple):
            data = {**data, "groups": [part.get("key", 0) if isinstance(part, Mapping) else part for part in groups]}
        try:
            found = condition_of(data).as_json()
        except PredicateError as error:
            self.refuse(where, str(error))
            return {}
        if "groups" in found:
            found["groups"] = list(self.condition_groups(where, found["groups"]))
        return found

    def condition_groups(self, where: str, values: Sequence[str]) -> tuple[int, ...]:
        keys = {int(value) for value in values if value.isascii() and value.isdecimal() and len(value) < 19}
        chosen = Group.objects.of(self.organization).filter(Q(pk__in=keys) | Q(group_id__in=values))
        known = {str(group.pk) for group in chosen} | {group.group_id for group in chosen}
        if not set(values) <= known:
            self.refuse(where, "A chosen group does not exist in this organisation. Choose another one.")
        elif gone := [group.name for group in chosen if group.vanished_at]:
            self.refuse(where, GONE_SENTENCE.format(names=", ".join(sorted(gone))))
        return tuple(sorted(group.pk for group in chosen))

    def window(self) -> int:
        value = self.values.window_minutes
        minutes = DEFAULT_WINDOW if _is_empty(value) else _whole_number(value)
        if minutes is None or not MIN_WINDOW <= minutes <= MAX_WINDOW:
            self.refuse("window_minutes", f"Enter minutes from {MIN_WINDOW} to {MAX_WINDOW:,}.")
            return DEFAULT_WINDOW
        return minutes

    def blackout_dates(self) -> tuple[str, ...]:
        given: Any = self.values.blackout_dates  # a form gives its text
        texts = re.split(r"[,;\n]", given) if isinstance(given, str) else list(given or ())
        texts = [text for part in texts if (text := str(part).strip())]
        if len(texts) > MAX_BLACKOUTS:
            self.refuse("blackout_dates", f"Enter at most {MAX_BLACKOUTS} dates or spans.")
            return ()
        found = [self.blackout(text) for text in texts]
        return tuple(sorted({text for text in found if text}))

    def blackout(self, text: str) -> str:
        first, _, last = (part.strip() for part in text.replace(" to ", "..").partition(".."))
        try:
            start = date.fromisoformat(first)
            end = date.fromisoformat(last) if last else start
        except ValueError:
            start, end = date.max, date.min
        if not start <= end or (end - start).days > MAX_BLACKOUT_DAYS or end.year > MAX_YEAR:
            self.refuse("blackout_dates", f"“{text[:40]}” is no such date or span. {BLACKOUT_SENTENCE}")
            return ""
        return f"{start}" if start == end else f"{start}..{end}"

    def targets(self) -> dict[str, Any]:
        target = self.choice("target", CleanupRule.Target.values)
        if target != CleanupRule.Target.SPECIFIED_GROUPS:
            return {"target": target}
        groups = self.groups("target_groups")
        if not groups:
            self.refuse("target_groups", "Choose at least one group, or target all users.")
        return {"target": target, "target_groups": groups}

    def groups(self, name: str) -> tuple[int, ...]:
        """Keys of present groups of this organisation, each once, in order."""
        keys = [_whole_number(getattr(value, "pk", value)) for value in _listed(getattr(self.values, name))]
        known = {key for key in keys if key is not None and 0 < key < 2**63}
        found = {group.pk: group for group in Group.objects.of(self.organization).filter(pk__in=known)}
        if len(found) < len(set(keys)):
            self.refuse(name, "A chosen group does not exist in this organisation. Choose another one.")
        elif gone := [group.name for group in found.values() if group.vanished_at]:
            self.refuse(name, GONE_SENTENCE.format(names=", ".join(sorted(gone))))
        return tuple(sorted(found))

    def products(self, name: str) -> tuple[str, ...]:
        """Our keys of the products, in order; keys that AUM does not know stay as they come."""
        keys = dict.fromkeys(product_of(str(value)) for value in _listed(getattr(self.values, name)))
        if any(not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,59}", key, re.ASCII) for key in keys):
            self.refuse(name, "Name products by their keys, such as jira, confluence, jsm or bitbucket.")
        return tuple(sorted(keys))

    def removed_products(self) -> dict[str, Any]:
        if self.values.action != CleanupRule.Action.REMOVE_PRODUCT_ACCESS:
            return {}
        products = self.products("target_products")
        if not products:
            self.refuse("target_products", "Choose at least one product.")
        sites = tuple(sorted({str(site).strip() for site in _listed(self.values.target_sites)}))
        if any(not site or len(site) > 300 for site in sites):
            self.refuse("target_sites", "Name sites by their addresses, such as acme.atlassian.net.")
        return {"target_products": products, "target_sites": sites}

    def recurrence(self) -> dict[str, Any]:
        recurrence = self.choice("recurrence", CleanupRule.Recurrence.values)
        parts: dict[str, Any] = {"recurrence": recurrence}
        if recurrence == WEEKLY:
            parts["weekdays"] = self.weekdays()
        if recurrence == MONTHLY:
            parts["month_day"] = self.month_day()
        return parts

    def weekdays(self) -> tuple[int, ...]:
        days = [_weekday(value) for value in _listed(self.values.weekdays)]
        if not days:
            self.refuse("weekdays", "Choose at least one day of the week.")
        elif None in days:
            self.refuse("weekdays", "Name days of the week, such as monday, or 0 for Monday to 6 for Sunday.")
        return tuple(sorted({day for day in days if day is not None}))

    def month_day(self) -> int | None:
        value = self.values.month_day
        day = CleanupRule.LAST_DAY if str(value).strip().lower() == "last" else _whole_number(value)
        if day is None or not 1 <= day <= CleanupRule.LAST_DAY:
            self.refuse("month_day", "Choose a day of the month, from 1 to 31. 31 means the last day.")
        return day

    def run_at(self) -> time | None:
        value = self.values.run_at
        if isinstance(value, time):
            return value.replace(second=0, microsecond=0, tzinfo=None)
        match = _TIME.fullmatch(str(value or "").strip())
        if not match:
            self.refuse("run_at", "Enter a time such as 06:00.")
            return None
        return time(int(match[1]), int(match[2]))

    def timezone(self) -> str:
        name = str(self.values.timezone or "").strip() or self.organization.timezone
        if name not in zoneinfo.available_timezones():
            self.refuse("timezone", "Choose a timezone of the IANA list, such as Europe/Vienna or UTC.")
        return name

    def max_count(self) -> int | None:
        if _is_empty(self.values.max_count):
            return None
        count = _whole_number(self.values.max_count)
        if count is None or not 1 <= count <= MAX_COUNT:
            self.refuse("max_count", f"Enter a whole number from 1 to {MAX_COUNT:,}, or leave it empty.")
        return count

    def max_share_percent(self) -> Decimal | None:
        if _is_empty(self.values.max_share_percent):
            return None
        try:
            share = Decimal(str(self.values.max_share_percent).strip())
        except InvalidOperation:
            share = Decimal("NaN")
        # A NaN compares with nothing, and quantize cannot hold what is far too large.
        if not share.is_finite() or not 0 <= share <= 100 or share != share.quantize(Decimal("0.01")):
            self.refuse("max_share_percent", "Enter a percentage from 0 to 100, with at most two decimals.")
            return None
        return share.quantize(Decimal("0.01"))


def _is_taken(organization: Organization, name: str, rule: CleanupRule | None) -> bool:
    others = CleanupRule.objects.of(organization).filter(name=name, deleted_at__isnull=True)
    return (others.exclude(pk=rule.pk) if rule else others).exists()


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _whole_number(value: Any) -> int | None:
    """An integer from an int or from its digits; None for anything else, True and 6.5 among them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None


def _listed(value: Any) -> list[Any]:
    """Several values; a single text or nothing is a list too."""
    if _is_empty(value):
        return []
    return [value] if isinstance(value, str | int) else list(value)


def _weekday(value: Any) -> int | None:
    day = _whole_number(value)
    if day is not None:
        return day if 0 <= day <= 6 else None
    word = str(value).strip().lower()
    matches = [n for n, name in enumerate(WEEKDAY_NAMES) if word in (name, name[:3])]
    return matches[0] if matches else None


# --- what versions, audit rows and files keep -----------------------------------------------------------------------


def content_of(values: RuleInput, organization: Organization) -> dict[str, Any]:
    """Cleaned values as JSON, in the order of FIELDS. Groups: [{"key", "id", "directory", "name"}], by name.

    Names and Atlassian's ids stand beside our keys, so that a version stays readable after its groups are gone.
    """
    keys = {key for name in GROUP_FIELDS for key in getattr(values, name)}
    keys |= {key for data in values.conditions for key in data.get("groups", ())}
    groups = {
        group.pk: {
            "key": group.pk,
            "id": group.group_id,
            "directory": group.directory.directory_id,
            "name": group.name,
        }
        for group in Group.objects.of(organization).filter(pk__in=keys).select_related("directory")
    }
    content: dict[str, Any] = {}
    for name in FIELDS:
        value = getattr(values, name)
        if name == "notices":
            content[name] = notices_content(value, organization)
        elif name in GROUP_FIELDS:
            content[name] = sorted((groups[key] for key in value if key in groups), key=_group_order)
        elif name == "conditions":
            content[name] = [_with_groups(data, groups) for data in value]
        elif name == "saved_view":
            content[name] = _view_content(organization, value)
        else:
            content[name] = _plain(value)
    return content


def _with_groups(data: Mapping[str, Any], groups: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    # The database gives the keys in an order of its own; a file is to have the same bytes each time.
    keys = ["name", *parameters_of(str(data["name"])), "not"]
    data = {key: data[key] for key in keys if key in data}
    if "groups" not in data:
        return data
    return {**data, "groups": sorted((groups[key] for key in data["groups"] if key in groups), key=_group_order)}


def _view_content(organization: Organization, key: int | None) -> dict[str, Any] | None:
    """The view as it stands: a later change of its filters shows as a difference."""
    view = SavedView.objects.of(organization).filter(pk=key).first() if key else None
    return {"key": view.pk, "name": view.name, "params": view.params} if view else None


def _group_order(group: Mapping[str, Any]) -> tuple[str, str, str]:
    return group["name"], group["id"], group["directory"]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, time):
        return f"{value:%H:%M}"
    return str(value) if isinstance(value, Decimal) else value


DEFAULTS: Mapping[str, Any] = {f.name: _plain(f.default) for f in dataclasses.fields(RuleInput)}


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parts of two contents that differ, before and after. A group that only got another name is the same group."""
    # A version from before a field was there says what the field's default says.
    before, after = {**DEFAULTS, **before}, {**DEFAULTS, **after}
    names = [name for name in FIELDS if _comparable(before[name]) != _comparable(after[name])]
    return {name: before[name] for name in names}, {name: after[name] for name in names}


def _comparable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _comparable(part) for key, part in value.items() if key != "name" or "params" not in value}
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        is_groups = all("key" in part for part in value)
        return sorted(part["key"] for part in value) if is_groups else [_comparable(part) for part in value]
    return sorted(value) if isinstance(value, list) else value
