"""What the rule editor shows and sends. The values are judged in one place, `apps.rules.values.clean`; this module
carries them to the page and back as they were typed, with the sentence of each wrong field beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict

from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.values import FIELDS, RuleInput
from apps.users.models import Group, Product
from apps.users.products import label_of

LISTS = ("inactive_products", "target_products", "target_sites", "target_groups", "protected_groups", "weekdays")
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
}


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


class RuleForm:
    """The fields of the editor by name: `form["name"].value`. `version` is the one that was read."""

    def __init__(
        self, values: RuleInput, *, version: int | None = None, errors: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.values, self.version, self.errors = values, version, dict(errors or {})

    def __getitem__(self, name: str) -> Field:
        if name not in FIELDS:
            raise KeyError(name)
        return Field(name, getattr(self.values, name), self.errors.get(name, ()))

    @property
    def faults(self) -> list[dict[str, str]]:
        """The summary above a refused form: anchor, label and sentence of each fault, in the order of the page."""
        names = [name for name in FIELDS if name in self.errors] + [n for n in self.errors if n not in FIELDS]
        return [
            {"id": f"id_{name}" if name in FIELDS else "", "label": LABELS.get(name, ""), "text": text}
            for name in names
            for text in self.errors[name]
        ]

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
    typed: dict[str, Any] = {name: data.get(name, "") for name in FIELDS if name not in LISTS}
    typed |= {name: tuple(data.getlist(name)) for name in LISTS}
    typed["include_never_active"] = "include_never_active" in data
    typed["timezone"] = base.timezone if base else ""
    typed["target_sites"] = base.target_sites if base else ()
    return RuleInput(**typed)


def start_values(query: QueryDict) -> RuleInput:
    """A new rule's values, filled from the address: `action, products, days, name` (S51); unknown words are ignored."""
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
    return RuleInput(**typed)


def groups_matching(organization: Organization, text: str, chosen: Sequence[int], *, limit: int = 6) -> list[Group]:
    """The first `limit` present groups whose name contains `text`, by name; those of `chosen` are left out."""
    groups: QuerySet[Group] = Group.objects.of(organization).filter(vanished_at__isnull=True).exclude(pk__in=chosen)
    if words := text.strip()[:120].replace("\x00", ""):
        groups = groups.filter(name__icontains=words)
    return list(groups.order_by("name", "pk")[:limit])
