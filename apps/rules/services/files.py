"""Rules as a YAML file that can be kept under version control: export, difference, import (docs/rules.md).

The file says everything of a rule but its runs. Rules are matched by name; those that the file does not name stay as
they are. Values are read as text and judged like those of a form, so that YAML's own guesses (`no` as false, `14:30`
as a number) cannot change a rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from django.db import transaction

from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.rules import selectors
from apps.rules.conflicts import refuse_conflicts
from apps.rules.models import CleanupRule
from apps.rules.services.editing import create_rule, pause_rule, refuse_unpreviewed, update_rule
from apps.rules.values import FIELDS, GROUP_FIELDS, WEEKDAY_NAMES, RuleInput, changed_fields, clean, content_of
from apps.users.models import Group
from aum.common.errors import InvalidInput

FORMAT_VERSION = 1
MAX_CHARACTERS = 1_000_000
HEADER = "# Cleanup rules of AUM. docs/rules.md describes the fields.\n"
NULLS = ("", "~", "null", "Null", "NULL")
LIST_FIELDS = (
    "inactive_products",
    "target_products",
    "target_sites",
    "weekdays",
    "blackout_dates",
    "conditions",
    *GROUP_FIELDS,
)


@dataclass(frozen=True)
class RuleError:
    """What is wrong with one rule of a file; `rule` is its name or place, `field` is empty for the rule as a whole."""

    rule: str
    field: str
    message: str


@dataclass(frozen=True)
class RuleChange:
    """What a file does to one rule. `change`: created, updated, unchanged, absent (not in the file, stays as it is).

    `before` and `after` hold the fields that differ, as versions keep them.
    """

    rule: str
    change: str
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImportReport:
    """What an import did, or would do. With errors nothing was changed at all."""

    changes: tuple[RuleChange, ...] = ()
    errors: tuple[RuleError, ...] = ()

    def _named(self, change: str) -> tuple[str, ...]:
        return tuple(entry.rule for entry in self.changes if entry.change == change)

    @property
    def created(self) -> tuple[str, ...]:
        return self._named("created")

    @property
    def updated(self) -> tuple[str, ...]:
        return self._named("updated")

    @property
    def unchanged(self) -> tuple[str, ...]:
        return self._named("unchanged")

    @property
    def absent(self) -> tuple[str, ...]:
        return self._named("absent")


def export_rules(organization: Organization) -> str:
    """All rules as YAML, by name; the same rules give the same bytes."""
    entries = [_entry(rule) for rule in selectors.rules(organization)]
    body = yaml.dump(
        {"version": FORMAT_VERSION, "rules": entries},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=1_000_000,
    )
    return HEADER + body


def diff_rules(*, organization: Organization, text: str) -> ImportReport:
    """What importing `text` would change, rules that it does not name included."""
    report, _steps = _judge(organization, text)
    return report


def import_rules(
    *,
    organization: Organization,
    text: str,
    actor: Actor,
    operator: Operator | None,
    dry_run: bool = False,
    reason: str = "",
) -> ImportReport:
    """Create and update rules as `text` says, all of them or, with any error, none. Deletes and resumes nothing.

    A rule that the file pauses is paused; one that it does not pause stays as it is, because a person resumes rules.
    Looser limits and fewer protected groups wait for another person, with `reason`, as those of an edit do.
    """
    with transaction.atomic():
        report, steps = _judge(organization, text)
        if report.errors or dry_run:
            return report
        for step in steps:
            try:
                _carry_out(organization, step, actor, operator, reason)
            except InvalidInput as error:
                # Found only now: two rules of the file contradict each other, or a looser safeguard has no reason.
                errors = [
                    RuleError(step.values.name, where, text) for where, texts in error.fields.items() for text in texts
                ]
                transaction.set_rollback(True)
                return ImportReport(errors=tuple(errors))
    return report


def _carry_out(organization: Organization, step: _Step, actor: Actor, operator: Operator | None, reason: str) -> None:
    rule = step.rule
    if rule is None:
        rule = create_rule(organization=organization, values=step.values, actor=actor, operator=operator)
    else:
        rule = update_rule(
            rule=rule,
            values=step.values,
            expected_version=rule.version,
            actor=actor,
            operator=operator,
            reason=reason,
        )
    if step.is_paused:
        pause_rule(rule=rule, reason="Paused by the imported file.", actor=actor)


# --- writing --------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Lists are indented under their key, as people write them; nothing is abbreviated by aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Notes of several lines stand as they were written."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text_node)


def _entry(rule: CleanupRule) -> dict[str, Any]:
    """One rule of the file: every field in the fixed order, groups by name and Atlassian's id."""
    entry: dict[str, Any] = dict(selectors.content(rule))
    for name in GROUP_FIELDS:
        entry[name] = [_group_entry(group) for group in entry[name]]
    entry["conditions"] = [
        {**data, "groups": [_group_entry(group) for group in data["groups"]]} if "groups" in data else data
        for data in entry["conditions"]
    ]
    entry["saved_view"] = entry["saved_view"] and entry["saved_view"]["name"]
    entry["weekdays"] = [WEEKDAY_NAMES[day] for day in entry["weekdays"]]
    if entry["notices"]:
        entry["notices"] = [{k: v for k, v in step.items() if k != "key"} for step in entry["notices"]]
    else:  # then nothing can be undeliverable either
        for name in ("notices", "undeliverable", "undeliverable_days"):
            del entry[name]
    entry["is_paused"] = rule.is_paused
    return entry


def _group_entry(group: Mapping[str, Any]) -> dict[str, str]:
    return {key: group[key] for key in ("name", "id", "directory")}


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """One rule to write: `rule` None means a new one."""

    rule: CleanupRule | None
    values: RuleInput
    is_paused: bool


class _Refused(Exception):
    """The file, or one rule of it, cannot be read; `field` as in RuleError."""

    def __init__(self, message: str, field_name: str = "") -> None:
        super().__init__(message)
        self.field = field_name


class _Loader(yaml.BaseLoader):
    """Texts, lists and mappings only: no types, no aliases (a small file could grow without end), no repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _value in node.value:
            if str(key_node.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key_node.value!r} is given twice", problem_mark=key_node.start_mark
                )
            seen.add(str(key_node.value))
        return super().construct_mapping(node, deep)


def _judge(organization: Organization, text: str) -> tuple[ImportReport, list[_Step]]:
    """The report on `text` and the steps that carry it out; reads only."""
    try:
        entries = _entries(text)
    except _Refused as error:
        return ImportReport(errors=(RuleError("", error.field, str(error)),)), []
    present = {rule.name: rule for rule in selectors.rules(organization)}
    changes: list[RuleChange] = []
    errors: list[RuleError] = []
    steps: list[_Step] = []
    for place, entry in enumerate(entries, start=1):
        name = " ".join(str(entry.get("name", "")).split()) if isinstance(entry, Mapping) else ""
        label = name or f"rule {place}"
        if name and name in {change.rule for change in changes}:
            errors.append(RuleError(label, "name", "This name is given twice. Each rule has its own."))
            continue
        try:
            step = _step(organization, entry, present.get(name))
        except InvalidInput as error:
            errors += [RuleError(label, where, sentence) for where, list_ in error.fields.items() for sentence in list_]
            continue
        except _Refused as error:
            errors.append(RuleError(label, error.field, str(error)))
            continue
        changes.append(_change(organization, step))
        steps.append(step)
    named = {change.rule for change in changes} | {error.rule for error in errors}
    changes += [RuleChange(name, "absent") for name in present if name not in named]
    return ImportReport(tuple(changes), tuple(errors)), steps


def _entries(text: str) -> Sequence[Any]:
    if len(text) > MAX_CHARACTERS:
        raise _Refused(f"The file is longer than {MAX_CHARACTERS:,} characters.")
    try:
        data = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise _Refused(f"This is not valid YAML{where}: {getattr(error, 'problem', None) or error}.") from error
    if not isinstance(data, Mapping) or not isinstance(data.get("rules"), list):
        raise _Refused("The file needs a list called rules, as an export has it.", "rules")
    if data.get("version") != str(FORMAT_VERSION):
        raise _Refused(f"Only files with version: {FORMAT_VERSION} can be read.", "version")
    if unknown := sorted(set(data) - {"version", "rules"}):
        raise _Refused(f"There is no field called {unknown[0]}.", unknown[0])
    entries: list[Any] = data["rules"]
    return entries


def _step(organization: Organization, entry: Any, rule: CleanupRule | None) -> _Step:
    """The cleaned values of one entry. Raises _Refused or InvalidInput."""
    if not isinstance(entry, Mapping):
        raise _Refused("A rule is a mapping of fields, such as name and action.")
    if unknown := sorted(set(entry) - {*FIELDS, "is_paused"}):
        raise _Refused(f"There is no field called {unknown[0]}.", unknown[0])
    given: dict[str, Any] = {}
    for name, value in entry.items():
        if name == "conditions":
            given[name] = tuple(_condition(organization, place, data) for place, data in enumerate(_list(name, value)))
        elif name in GROUP_FIELDS:
            given[name] = tuple(_group_key(organization, name, group) for group in _list(name, value))
        elif name == "notices":
            given[name] = tuple(_notice(part) for part in _list(name, value))
        elif name in LIST_FIELDS:
            given[name] = tuple(_text(name, part) for part in _list(name, value))
        else:
            text = _text(name, value)
            if name == "name" or text not in NULLS:
                given[name] = text
    paused = given.pop("is_paused", "false").lower()
    if paused not in ("true", "false"):
        raise _Refused("Answer true or false.", "is_paused")
    values = clean(RuleInput(**given), organization, rule=rule)
    if rule is not None and not values.owner:
        values = dataclasses.replace(values, owner=RuleInput.of(rule).owner)
    if rule is None or changed_fields(selectors.content(rule), content_of(values, organization))[1]:
        refuse_unpreviewed(values, rule)
        if not (paused == "true" or (rule and rule.is_paused)):
            refuse_conflicts(organization, values, rule=rule)
    return _Step(rule, values, paused == "true")


def _condition(organization: Organization, place: int, data: Any) -> dict[str, Any]:
    """A condition with the keys of its groups; what else is wrong with it is for `clean` to say."""
    where = f"conditions.{place}"
    if not isinstance(data, Mapping):
        raise _Refused("A condition is a mapping with a name and its values.", where)
    found = dict(data)
    if "groups" in found:
        found["groups"] = tuple(_group_key(organization, where, group) for group in _list(where, found["groups"]))
    return found


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _Refused("Give a single value here.", name)
    return value


def _list(name: str, value: Any) -> list[Any]:
    if isinstance(value, str) and value in NULLS:
        return []
    if not isinstance(value, list):
        raise _Refused("Give a list here.", name)
    return value


def _notice(step: Any) -> dict[str, str]:
    """One notice: template by name, and days_before or days_inactive."""
    if not isinstance(step, Mapping) or set(step) - {"template", "days_before", "days_inactive", "audience"}:
        raise _Refused("Give notices by template, days_before and, where it is not the user, audience.", "notices")
    return {str(key): _text("notices", part) for key, part in step.items()}


def _group_key(organization: Organization, name: str, group: Any) -> int:
    """Our key of a group given by name, or by a mapping with name, id and directory of which one may be enough."""
    given = {"name": group} if isinstance(group, str) else group
    if not isinstance(given, Mapping) or not given or set(given) - {"name", "id", "directory"}:
        raise _Refused("Give groups by name, or by name, id and directory.", name)
    columns = {"name": "name", "id": "group_id", "directory": "directory__directory_id"}
    # The id names a group for good; its name may have changed since.
    keys = [key for key in ("id", "directory") if key in given] if "id" in given else list(given)
    wanted = {columns[key]: _text(name, given[key]) for key in keys}
    found = list(Group.objects.of(organization).filter(vanished_at__isnull=True, **wanted)[:2])
    label = str(given.get("name") or given.get("id"))
    if not found:
        raise _Refused(f"There is no group called {label} in this organisation.", name)
    if len(found) > 1:
        raise _Refused(f"Several groups are called {label}. Add the group's id and directory.", name)
    return int(found[0].pk)


def _change(organization: Organization, step: _Step) -> RuleChange:
    after = content_of(step.values, organization)
    if step.rule is None:
        return RuleChange(step.values.name, "created", {}, after | {"is_paused": step.is_paused})
    before, changed = changed_fields(selectors.content(step.rule), after)
    if step.is_paused and not step.rule.is_paused:
        before, changed = before | {"is_paused": False}, changed | {"is_paused": True}
    return RuleChange(step.values.name, "updated" if changed else "unchanged", before, changed)
