"""What a rule says, as plain values: input from any source, judged in one place, and the content that versions keep."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
import zoneinfo
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import time
from decimal import Decimal, InvalidOperation
from typing import Any, Self

from apps.operations.selection import ActionSpec, IdleSelection, Limits
from apps.operations.services.gate import limits_can_trip
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.schedule import MONTHLY, WEEKLY
from apps.users.models import Group
from apps.users.products import product_of
from aum.common.errors import InvalidInput

MAX_DAYS = 3650
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
    `users.Group`; weekdays 0 (Monday) to 6; `timezone` empty: the organisation's; limits None: the organisation's.
    """

    name: str = ""
    mode: str = CleanupRule.Mode.SAFE.value
    action: str = CleanupRule.Action.SUSPEND.value
    inactive_products: tuple[str, ...] = ()
    target_products: tuple[str, ...] = ()
    target_sites: tuple[str, ...] = ()
    inactive_days: int | None = None
    include_never_active: bool = False
    never_active_days: int | None = None
    target: str = CleanupRule.Target.ALL_EXCEPT_PROTECTED.value
    target_groups: tuple[int, ...] = ()
    protected_groups: tuple[int, ...] = ()
    recurrence: str = CleanupRule.Recurrence.DAILY.value
    weekdays: tuple[int, ...] = ()
    month_day: int | None = None
    run_at: time | None = None
    timezone: str = ""
    max_count: int | None = None
    max_share_percent: Decimal | None = None

    @classmethod
    def of(cls, rule: CleanupRule) -> Self:
        """The rule as it stands: the base of an edit that changes some fields (`dataclasses.replace`)."""
        values: dict[str, Any] = {}
        for name in FIELDS:
            value = getattr(rule, name)
            if name in GROUP_FIELDS:
                value = value.order_by("pk").values_list("pk", flat=True)
            values[name] = tuple(value) if isinstance(value, list) or name in GROUP_FIELDS else value
        return cls(**values)

    @property
    def is_per_product(self) -> bool:
        """True when each product that is taken is judged by its own last login (S152)."""
        return self.action == CleanupRule.Action.REMOVE_PRODUCT_ACCESS and not self.inactive_products

    def selection(self, protected_group_ids: Iterable[int] = ()) -> IdleSelection:
        """Whom a plan is about; `protected_group_ids` are added to the rule's own."""
        is_for_groups = self.target == CleanupRule.Target.SPECIFIED_GROUPS
        return IdleSelection(
            inactive_days=self.inactive_days or 0,
            inactive_products=self.inactive_products,
            per_product=self.is_per_product,
            include_never_active=self.include_never_active,
            never_active_days=self.never_active_days,
            target_group_ids=self.target_groups if is_for_groups else None,
            protected_group_ids=tuple(sorted({*self.protected_groups, *protected_group_ids})),
        )

    def action_spec(self) -> ActionSpec:
        """What a plan does."""
        return ActionSpec(self.action, products=self.target_products, sites=self.target_sites)

    def limits(self) -> Limits:
        """The rule's own limits."""
        return Limits(self.max_count, self.max_share_percent)


FIELDS = tuple(field.name for field in dataclasses.fields(RuleInput))
GROUP_FIELDS = ("target_groups", "protected_groups")
SCHEDULE_FIELDS = ("recurrence", "weekdays", "month_day", "run_at", "timezone")


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
            inactive_days=self.days("inactive_days"),
            run_at=self.run_at(),
            timezone=self.timezone(),
            max_count=self.max_count(),
            max_share_percent=self.max_share_percent(),
            inactive_products=self.products("inactive_products"),
            protected_groups=self.groups("protected_groups"),
            **self.never_active(),
            **self.targets(),
            **self.removed_products(),
            **self.recurrence(),
        )
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

    def never_active(self) -> dict[str, Any]:
        is_included = self.flag("include_never_active")
        days = self.days("never_active_days") if is_included else None
        return {"include_never_active": is_included, "never_active_days": days}

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
    keys = {*values.target_groups, *values.protected_groups}
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
        if name in GROUP_FIELDS:
            content[name] = sorted((groups[key] for key in value if key in groups), key=_group_order)
        else:
            content[name] = _plain(value)
    return content


def _group_order(group: Mapping[str, Any]) -> tuple[str, str, str]:
    return group["name"], group["id"], group["directory"]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, time):
        return f"{value:%H:%M}"
    return str(value) if isinstance(value, Decimal) else value


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parts of two contents that differ, before and after. A group that only got another name is the same group."""
    names = [name for name in FIELDS if _comparable(before.get(name)) != _comparable(after.get(name))]
    return {name: before.get(name) for name in names}, {name: after.get(name) for name in names}


def _comparable(value: Any) -> Any:
    if isinstance(value, list):
        return sorted((part["key"] if isinstance(part, Mapping) else part) for part in value)
    return value
