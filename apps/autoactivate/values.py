"""What an assignment rule says, as plain values: input from any source, judged in one place."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from apps.autoactivate.domains import clean_domain
from apps.autoactivate.models import AssignmentRule, Channel
from apps.operations.planning import group_refusal
from apps.organizations.models import Organization
from apps.users.models import Group
from aum.common.errors import InvalidInput

NAME_LENGTH = 120
MAX_NUMBER = 1_000_000
MAX_DAYS = 3650
MAX_DOMAINS = 50
# Public mail providers: whoever likes gets an address there, so a rule for one would open the groups to everybody.
OPEN_DOMAINS = frozenset(
    {"gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "yahoo.com", "icloud.com", "proton.me"}
    | {"protonmail.com", "gmx.net", "gmx.de", "web.de", "aol.com", "mail.com", "yandex.com", "zoho.com"}
)


@dataclass(frozen=True)
class AssignmentInput:
    """All that can be entered of a rule. Making one checks nothing, so that a wrong value keeps its field.

    `project` is a project key; `request_types` ids of its request types, none for any; groups keys of `users.Group`.
    Numbers may come as text; None or "" means no limit.
    """

    name: str = ""
    channels: tuple[str, ...] = (Channel.JSM.value,)
    project: str = ""
    request_types: tuple[str, ...] = ()
    method: str = AssignmentRule.Method.DOMAIN.value
    domains: tuple[str, ...] = ()
    trigger_group: Any = None
    groups: tuple[Any, ...] = ()
    max_per_day: Any = None
    seat_budget: Any = None
    expires_after_days: Any = None
    needs_approval: bool = False
    restores: bool = False

    @classmethod
    def of(cls, rule: AssignmentRule) -> Self:
        """The rule as it stands: the base of an edit."""
        return cls(
            name=rule.name,
            channels=tuple(rule.channels),
            project=rule.project_key,
            request_types=tuple(kind["id"] for kind in rule.request_types),
            method=rule.method,
            domains=tuple(rule.domains),
            trigger_group=rule.trigger_group_id,
            groups=tuple(rule.groups.order_by("pk").values_list("pk", flat=True)),
            max_per_day=rule.max_per_day,
            seat_budget=rule.seat_budget,
            expires_after_days=rule.expires_after_days,
            needs_approval=rule.needs_approval,
            restores=rule.restores,
        )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The inverse of `to_json`; fields that are missing or no longer known are left out."""
        known: dict[str, Any] = {}
        for name in FIELDS:
            if name in data:
                known[name] = tuple(data[name]) if isinstance(data[name], list) else data[name]
        return cls(**known)

    @property
    def listens_to_jsm(self) -> bool:
        return Channel.JSM.value in self.channels


FIELDS = tuple(field.name for field in dataclasses.fields(AssignmentInput))


@dataclass(frozen=True)
class KnownProject:
    """A service project as Jira gives it, and those of its request types that were chosen."""

    id: str
    key: str
    name: str
    service_desk_id: str
    request_types: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Cleaned:
    """Values that may be saved: columns of the rule, and the groups to add."""

    columns: dict[str, Any]
    groups: Sequence[Group]


def clean(
    values: AssignmentInput,
    organization: Organization,
    *,
    project: KnownProject | None,
    rule: AssignmentRule | None = None,
    only: Iterable[str] = (),
) -> Cleaned:
    """The values as columns. Raises InvalidInput that names every wrong field, or every wrong one of `only`.

    `project`: what Jira says about `values.project`; None where it does not exist or was not asked for. `rule` is the
    one being edited.
    """
    cleaner = _Cleaner(values, organization, project, rule)
    cleaned = cleaner.run()
    wanted = set(only)
    errors = {name: texts for name, texts in cleaner.errors.items() if not wanted or name in wanted}
    if errors:
        raise InvalidInput(fields=errors)
    return cleaned


class _Cleaner:
    def __init__(
        self,
        values: AssignmentInput,
        organization: Organization,
        project: KnownProject | None,
        rule: AssignmentRule | None,
    ) -> None:
        self.values, self.organization, self.project, self.rule = values, organization, project, rule
        self.errors: dict[str, list[str]] = {}

    def refuse(self, name: str, sentence: str) -> None:
        self.errors.setdefault(name, [sentence])

    def run(self) -> Cleaned:
        groups = self.groups()
        method, domains, trigger = self.trigger(groups)
        columns: dict[str, Any] = {
            "name": self.name(),
            "channels": self.channels(),
            "method": method,
            "domains": domains,
            "trigger_group": trigger,
            "max_per_day": self.number("max_per_day", "people"),
            "seat_budget": self.number("seat_budget", "people"),
            "expires_after_days": self.number("expires_after_days", "days", most=MAX_DAYS),
            "needs_approval": bool(self.values.needs_approval),
            "restores": bool(self.values.restores),
            **self.place(),
        }
        return Cleaned(columns, groups)

    def name(self) -> str:
        name = " ".join(str(self.values.name or "").split())
        if not name:
            self.refuse("name", "Give the rule a name.")
        elif len(name) > NAME_LENGTH:
            self.refuse("name", f"Use at most {NAME_LENGTH} characters.")
        elif any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            self.refuse("name", "The name holds characters that cannot be shown. Type it anew.")
        elif self._same_name(name):
            self.refuse("name", "Another rule has this name. Choose a different one.")
        return name

    def _same_name(self, name: str) -> bool:
        others = AssignmentRule.objects.of(self.organization).filter(name=name, deleted_at__isnull=True)
        return bool(others.exclude(pk=self.rule.pk if self.rule else None).exists())

    def channels(self) -> list[str]:
        chosen = list(dict.fromkeys(str(channel) for channel in self.values.channels))
        if not chosen:
            self.refuse("channels", "Choose at least one way in.")
        elif any(channel not in Channel.values for channel in chosen):
            self.refuse("channels", f"Choose from {', '.join(Channel.values)}.")
        return [channel for channel in Channel.values if channel in chosen]

    def place(self) -> dict[str, Any]:
        empty = {"project_id": "", "project_key": "", "project_name": "", "service_desk_id": "", "request_types": []}
        if not self.values.listens_to_jsm:
            return empty
        if not str(self.values.project or "").strip():
            self.refuse("project", "Choose a service project.")
            return empty
        if self.project is None:
            self.refuse("project", "Jira shows no such service project to AUM’s token. Choose another one.")
            return empty
        names = dict(self.project.request_types)
        unknown = [kind for kind in self.values.request_types if kind not in names]
        if unknown:
            self.refuse("request_types", "A chosen request type is no longer in this project. Choose again.")
        return {
            "project_id": self.project.id,
            "project_key": self.project.key,
            "project_name": self.project.name[:255],
            "service_desk_id": self.project.service_desk_id,
            "request_types": [
                {"id": kind, "name": names[kind]} for kind in dict.fromkeys(self.values.request_types) if kind in names
            ],
        }

    def groups(self) -> list[Group]:
        groups = self._found("groups", self.values.groups)
        if not groups and "groups" not in self.errors:
            self.refuse("groups", "Choose at least one group to add.")
        refusals = [refusal for group in groups if (refusal := group_refusal(group, "add_to_group"))]
        if refusals:
            self.refuse("groups", " ".join(refusals))
        return groups

    def _found(self, name: str, keys: Iterable[Any]) -> list[Group]:
        """Present groups of this organisation by key, each once, by name."""
        numbers = {number for key in keys if (number := whole(key)) is not None}
        asked = [key for key in keys if key not in (None, "")]
        found = list(Group.objects.of(self.organization).filter(pk__in=numbers).order_by("name", "pk"))
        if len(found) < len({str(key) for key in asked}):
            self.refuse(name, "A chosen group does not exist in this organisation. Choose another one.")
        elif gone := [group.name for group in found if group.vanished_at]:
            self.refuse(name, f"No longer in Atlassian: {', '.join(gone)}. Choose another one.")
        return found

    def trigger(self, groups: Sequence[Group]) -> tuple[str, list[str], Group | None]:
        method = str(self.values.method)
        if method == AssignmentRule.Method.DOMAIN:
            return method, self.domains(), None
        if method != AssignmentRule.Method.GROUP:
            self.refuse("method", f"Choose one of {', '.join(AssignmentRule.Method.values)}.")
            return AssignmentRule.Method.DOMAIN.value, [], None
        found = self._found("trigger_group", [self.values.trigger_group])
        if not found:
            self.refuse("trigger_group", "Choose the group that the requester is already in.")
            return method, [], None
        if found[0] in groups:
            self.refuse("trigger_group", "Its members are in this group already. Choose two different groups.")
        return method, [], found[0]

    def domains(self) -> list[str]:
        words = [word for text in self.values.domains for word in re.split(r"[\s,;]+", str(text)) if word]
        cleaned = {word: clean_domain(word) for word in words}
        wrong = [word for word, domain in cleaned.items() if domain is None]
        if not words:
            self.refuse("domains", "Enter a domain, such as employer.com.")
        elif wrong:
            hint = "Write letters outside ASCII in the form that begins with xn--." if not wrong[0].isascii() else ""
            self.refuse("domains", f"“{wrong[0][:80]}” is not a domain such as employer.com. {hint}".strip())
        elif len(words) > MAX_DOMAINS:
            self.refuse("domains", f"Enter at most {MAX_DOMAINS} domains.")
        elif opened := sorted(OPEN_DOMAINS & set(cleaned.values())):
            self.refuse("domains", f"Anybody can get an address at {opened[0]}. Enter a domain of your own.")
        return sorted({domain for domain in cleaned.values() if domain})

    def number(self, name: str, unit: str, most: int = MAX_NUMBER) -> int | None:
        value = getattr(self.values, name)
        if value in (None, ""):
            return None
        number = whole(value)
        if number is None or not 1 <= number <= most:
            self.refuse(name, f"Enter 1 to {most:,} {unit}, or leave it empty.")
            return None
        return number


def whole(value: object) -> int | None:
    """A whole number from 0 to 2⁶³ − 1 given as such or as ASCII digits; None for anything else."""
    if isinstance(value, bool):
        return None
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def content_of(columns: dict[str, Any], groups: Sequence[Group]) -> dict[str, Any]:
    """A rule's columns as versions and audit rows keep them: groups by name."""
    trigger = columns["trigger_group"]
    content = {name: value for name, value in columns.items() if name not in ("trigger_group", "project_id")}
    content["trigger_group"] = trigger.name if trigger else None
    content["groups"] = sorted(group.name for group in groups)
    content["request_types"] = [kind["name"] for kind in columns["request_types"]]
    return content
