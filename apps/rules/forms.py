"""What the rule editor shows and sends. The values are judged in one place, `apps.rules.values.clean`; this module
carries them to the page and back as they were typed, with the sentence of each wrong field beside it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict

from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.notice_forms import notices_from
from apps.rules.values import FIELDS, RuleInput
from apps.users.models import Group, Product
from apps.users.predicates import NOT_IN_RULES, REGISTRY, Partition, Predicate, parameters_of
from apps.users.products import label_of

LISTS = (
    "inactive_products",
    "target_products",
    "target_sites",
    "action_groups",
    "target_groups",
    "protected_groups",
    "weekdays",
)
# Shown as rows of their own, or not at all.
APART = ("conditions", *LISTS)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LABELS = {
    "name": "Scheduling display name",
    "mode": "Execution mode",
    "action": "Action to perform",
    "inactive_products": "Last login is measured in",
    "target_products": "Products to remove",
    "target_sites": "Sites",
    "inactive_days": "Days inactive threshold",
    "include_never_active": "Include users who have never logged in",
    "never_active_days": "Never logged in",
    "target": "Target users",
    "target_groups": "Groups",
    "protected_groups": "Protected groups",
    "recurrence": "Recurrence",
    "weekdays": "Days of the week",
    "month_day": "Day of the month",
    "run_at": "Execution time",
    "timezone": "Timezone",
    "max_count": "Ask for approval above",
    "max_share_percent": "Hold if more than",
    "notices": "Notices",
    "undeliverable": "When a notice cannot be delivered",
    "undeliverable_days": "Days after the failed delivery",
    "owner": "Owner",
    "notes": "Notes",
    "action_groups": "Groups to add or remove",
    "status_days": "Days deactivated or suspended",
    "saved_view": "Shared view",
    "conditions": "Conditions",
    "window_minutes": "Window",
    "blackout_dates": "Blackout dates",
    "reason": "Reason for a looser safeguard",
}
PARTS = {
    "values": "Any of",
    "products": "In",
    "groups": "Groups",
    "days": "Days",
    "at": "Date",
    "text": "Name or e-mail contains",
    "domains": "Domains, separated by commas",
}
WINDOWS = {30: "30 minutes", 60: "1 hour", 120: "2 hours", 240: "4 hours", 480: "8 hours"}
_ROW = re.compile(r"c([0-9]{1,2})_name", re.ASCII)


@dataclass(frozen=True)
class Field:
    """One field as the page shows it; `value` as typed, or as stored."""

    name: str
    value: Any
    errors: Sequence[str] = ()

    @property
    def id_for_label(self) -> str:
        return f"id_{self.name}"

    @property
    def label(self) -> str:
        return LABELS[self.name]


@dataclass(frozen=True)
class Choice:
    """One option of a set, as text, and whether it is chosen."""

    value: str
    label: str
    is_chosen: bool


@dataclass(frozen=True)
class Part:
    """One parameter of a condition as the page asks for it. `kind`: choices, groups, number, date or text."""

    name: str
    label: str
    kind: str
    value: str = ""
    choices: Sequence[Choice] = ()
    group_ids: Sequence[int] = ()


@dataclass(frozen=True)
class ConditionRow:
    """One condition in the editor; its inputs are named `c<place>_…`."""

    place: int
    name: str
    label: str
    is_not: bool
    parts: Sequence[Part]
    errors: Sequence[str] = ()
    is_new: bool = False

    @property
    def prefix(self) -> str:
        return f"c{self.place}"


class RuleForm:
    """The fields of the editor by name: `form["name"].value`. `version` is the one that was read.

    `reason` is what was typed for a looser safeguard; `new_condition` the place of the row that was just added.
    """

    def __init__(
        self,
        values: RuleInput,
        *,
        version: int | None = None,
        errors: Mapping[str, Sequence[str]] | None = None,
        reason: str = "",
        new_condition: int | None = None,
    ) -> None:
        self.values, self.version, self.errors = values, version, dict(errors or {})
        self.reason, self.new_condition = reason, new_condition

    def __getitem__(self, name: str) -> Field:
        if name == "reason":
            return Field(name, self.reason, self.errors.get(name, ()))
        if name not in FIELDS:
            raise KeyError(name)
        return Field(name, getattr(self.values, name), self.errors.get(name, ()))

    @property
    def faults(self) -> list[dict[str, str]]:
        """The summary above a refused form: anchor, label and sentence of each fault, in the order of the page."""
        names = [name for name in FIELDS if name in self.errors] + [n for n in self.errors if n not in FIELDS]
        return [{**self._anchor(name), "text": text} for name in names for text in self.errors[name]]

    def _anchor(self, name: str) -> dict[str, str]:
        place = name.removeprefix("conditions.")
        if place != name:
            return {"id": f"id_c{place}", "label": f"Condition {int(place) + 1}"}
        return {"id": f"id_{name}" if name in LABELS else "", "label": LABELS.get(name, "")}

    def condition_rows(self) -> list[ConditionRow]:
        """The conditions as typed or stored, in order."""
        return [self._row(place, data) for place, data in enumerate(self.values.conditions)]

    def _row(self, place: int, data: Mapping[str, Any]) -> ConditionRow:
        name = str(data.get("name", ""))
        kind = CONDITION_KINDS.get(name)
        parts = [_part(kind, key, data.get(key)) for key in parameters_of(name) if key != "value"] if kind else []
        is_not = data.get("not") in (True, "true", "1")
        if str(data.get("value", "")).lower() == "false":
            is_not = not is_not
        errors = self.errors.get(f"conditions.{place}", ())
        label = kind.label if kind else name
        return ConditionRow(place, name, label, is_not, parts, errors, place == self.new_condition)

    def owner_choices(self, people: Sequence[tuple[str, str]]) -> list[Choice]:
        """Nobody, the people with a role here as (e-mail, name), and an owner who has none any more."""
        known = dict(people)
        current = str(self.values.owner or "")
        rest = {} if not current or current in known else {current: current}
        return [
            Choice("", "Nobody" if self.version else "Whoever creates it", not current),
            *(Choice(email, name, email == current) for email, name in {**known, **rest}.items()),
        ]

    def view_choices(self, views: Sequence[tuple[int, str]]) -> list[Choice]:
        """No view, and the shared views as (key, name)."""
        current = str(self.values.saved_view or "")
        return [Choice("", "None", not current), *(Choice(str(key), name, str(key) == current) for key, name in views)]

    def window_minutes_choices(self) -> list[Choice]:
        current = str(self.values.window_minutes)
        labels = {str(minutes): label for minutes, label in WINDOWS.items()}
        if current.isdecimal() and current not in labels:
            labels[current] = f"{current} minutes"
        return [Choice(minutes, label, minutes == current) for minutes, label in labels.items()]

    @property
    def blackout_text(self) -> str:
        value: Any = self.values.blackout_dates  # the text as it was entered, or the dates
        return value if isinstance(value, str) else "\n".join(value)

    def products(self, name: str) -> list[Choice]:
        """The four products, and any other key that the rule already has, so that saving does not lose it."""
        chosen = [str(key) for key in getattr(self.values, name)]
        keys = dict.fromkeys([*Product.values, *self.values.inactive_products, *self.values.target_products])
        return [Choice(str(key), label_of(str(key)), str(key) in chosen) for key in keys]

    def weekday_choices(self) -> list[Choice]:
        chosen = {str(day) for day in self.values.weekdays}
        return [Choice(str(day), label, str(day) in chosen) for day, label in enumerate(WEEKDAYS)]

    def month_day_choices(self) -> list[Choice]:
        chosen = str(self.values.month_day)
        days = [Choice(str(day), _ordinal(day), str(day) == chosen) for day in range(1, CleanupRule.LAST_DAY)]
        last = str(CleanupRule.LAST_DAY)
        return [*days, Choice(last, "Last day", chosen == last)]

    def window_choices(self) -> list[Choice]:
        """One window an hour, and the rule's own time where it is not on the hour."""
        current = self.values.run_at
        text = f"{current:%H:%M}" if isinstance(current, time) else str(current or "")
        starts = sorted({f"{hour:02d}:00" for hour in range(24)} | ({text} if _is_time(text) else set()))
        return [
            Choice(start, f"{start} to {(int(start[:2]) + 1) % 24:02d}{start[2:]}", start == text) for start in starts
        ]

    def group_ids(self, name: str) -> list[int]:
        """Keys of the groups chosen in field `name`; text that is no key is left out."""
        texts = [str(key) for key in getattr(self.values, name)]
        return [int(text) for text in texts if is_key(text)]


CONDITION_KINDS = {name: kind for name, kind in REGISTRY.items() if name not in NOT_IN_RULES}


def condition_choices() -> list[Choice]:
    """What the list offers to add, by label."""
    pairs = sorted((kind.label, name) for name, kind in CONDITION_KINDS.items() if name not in NOT_IN_RULES)
    return [Choice(name, label, False) for label, name in pairs]


def _part(kind: type[Predicate], key: str, value: Any) -> Part:
    texts = [str(part) for part in value] if isinstance(value, list | tuple) else ([str(value)] if value else [])
    label = PARTS.get(key, key)
    if key == "groups":
        return Part(key, label, "groups", group_ids=[int(text) for text in texts if is_key(text)])
    if key == "products":
        keys = dict.fromkeys([*Product.values, *texts])
        return Part(key, label, "choices", choices=[Choice(k, label_of(k), k in texts) for k in keys])
    if key == "values":
        return Part(key, label, "choices", choices=[Choice(word, text, word in texts) for word, text in _words(kind)])
    if key == "at":
        return Part(key, label, "date", texts[0][:10] if texts else "")
    return Part(key, label, "number" if key == "days" else "text", ", ".join(texts))


def _words(kind: type[Predicate]) -> list[tuple[str, str]]:
    """The values that a condition offers, each with its label."""
    words: Any = getattr(kind, "words", dict(Partition.choices))
    return [(word, str(said[0] if isinstance(said, tuple) else said)) for word, said in words.items()]


def is_key(text: str) -> bool:
    """Whether `text` can be a primary key."""
    return text.isascii() and text.isdecimal() and len(text) < 19


def _is_time(text: str) -> bool:
    return len(text) == 5 and text[2] == ":" and text[:2].isdecimal() and text[3:].isdecimal() and int(text[:2]) < 24


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def values_from(data: QueryDict, *, base: RuleInput | None = None) -> RuleInput:
    """What was sent, as typed. `base` gives what the page has no field for: the timezone and the sites."""
    typed: dict[str, Any] = {name: data.get(name, "") for name in FIELDS if name not in APART}
    typed["conditions"] = conditions_from(data)
    typed |= {name: tuple(data.getlist(name)) for name in LISTS}
    typed["notices"] = notices_from(data)
    typed["include_never_active"] = "include_never_active" in data
    typed["timezone"] = base.timezone if base else ""
    typed["target_sites"] = base.target_sites if base else ()
    return RuleInput(**typed)


def conditions_from(data: QueryDict) -> tuple[dict[str, Any], ...]:
    """The rows of conditions as typed, in order; a row of an unknown kind keeps its name."""
    places = sorted(int(match[1]) for key in data if (match := _ROW.fullmatch(key)))
    found = []
    for place in places:
        name = data.get(f"c{place}_name", "")
        row: dict[str, Any] = {"name": name}
        for key, is_several in (parameters_of(name) if name in CONDITION_KINDS else {}).items():
            given = data.getlist(f"c{place}_{key}")
            row[key] = (given if key != "domains" else ",".join(given)) if is_several else "".join(given[:1])
        if data.get(f"c{place}_not") == "1":
            row["not"] = True
        if "value" in row:
            row["value"] = True
        found.append(row)
    return tuple(found)


def with_conditions_changed(values: RuleInput, command: str, added: str) -> tuple[RuleInput, int | None]:
    """The values after the button of the list: "add" appends `added`, "remove-2" takes the third away.

    Also the place of the new row, or None.
    """
    rows = list(values.conditions)
    if command == "add" and added in CONDITION_KINDS:
        rows.append({"name": added})
        return dataclasses.replace(values, conditions=tuple(rows)), len(rows) - 1
    place = command.removeprefix("remove-")
    if place.isdecimal() and int(place) < len(rows):
        del rows[int(place)]
    return dataclasses.replace(values, conditions=tuple(rows)), None


def start_values(query: QueryDict) -> RuleInput:
    """A new rule's values, filled from the address: `action, products, days, never_days, name` (S51).

    Unknown words are ignored; with an empty `days` the last login does not matter.
    """
    products = tuple(dict.fromkeys(key for text in query.getlist("products") for key in text.split(",") if key))
    action = query.get("action", "")
    if action not in CleanupRule.Action.values:
        action = CleanupRule.Action.SUSPEND
    takes_products = action == CleanupRule.Action.REMOVE_PRODUCT_ACCESS
    typed: dict[str, Any] = {
        "name": query.get("name", "")[:120],
        "action": action,
        "target_products": products if takes_products else (),
        "inactive_products": () if takes_products else products,
        "inactive_days": query.get("days", "60"),
        "recurrence": CleanupRule.Recurrence.WEEKLY.value,
        "weekdays": (0,),
        "month_day": 1,
        "run_at": "06:00",
    }
    if never := query.get("never_days", ""):
        typed |= {"include_never_active": True, "never_active_days": never}
    return RuleInput(**typed)


def groups_matching(organization: Organization, text: str, chosen: Sequence[int], *, limit: int = 6) -> list[Group]:
    """The first `limit` present groups whose name contains `text`, by name; those of `chosen` are left out."""
    groups: QuerySet[Group] = Group.objects.of(organization).filter(vanished_at__isnull=True).exclude(pk__in=chosen)
    if words := text.strip()[:120].replace("\x00", ""):
        groups = groups.filter(name__icontains=words)
    return list(groups.order_by("name", "pk")[:limit])
