"""Rules that somebody re-enters as a CSV file, one rule a line, turned into the YAML that rules are imported by."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import yaml

from aum.common.csv import restore_cell
from aum.common.errors import InvalidInput

# Column of the file → field of a rule (docs/rules.md). The reference product's words are accepted beside ours.
COLUMNS = {
    "name": "name",
    "scheduling display name": "name",
    "rule name": "name",
    "mode": "mode",
    "execution mode": "mode",
    "action": "action",
    "cleanup action": "action",
    "products": "products",
    "product": "products",
    "days inactive": "inactive_days",
    "days inactive threshold": "inactive_days",
    "inactive days": "inactive_days",
    "include never active": "include_never_active",
    "never active days": "never_active_days",
    "target": "target",
    "target groups": "target_groups",
    "groups": "target_groups",
    "protected groups": "protected_groups",
    "recurrence": "recurrence",
    "frequency": "recurrence",
    "weekdays": "weekdays",
    "days of week": "weekdays",
    "day of month": "month_day",
    "time": "run_at",
    "execution time": "run_at",
    "timezone": "timezone",
    "time zone": "timezone",
    "paused": "is_paused",
}
EXAMPLE = (
    "Name,Mode,Action,Products,Days inactive,Include never active,Never active days,Target groups,Protected groups,"
    "Frequency,Weekdays,Day of month,Time,Timezone\r\n"
    "Contractors,safe,suspend,,60,true,60,contractors,jira-admins,weekly,monday;thursday,,06:00,Europe/Vienna\r\n"
)
_ACTIONS = {
    "suspend": "suspend",
    "suspend users": "suspend",
    "suspend users (all users)": "suspend",
    "deactivate": "deactivate",
    "deactivate users": "deactivate",
    "deactivate (managed users only)": "deactivate",
    "remove product access": "remove_product_access",
    "remove access": "remove_product_access",
}
_LISTS = ("products", "target_groups", "protected_groups", "weekdays")
_SEPARATORS = re.compile(r"[;|\n]")
MAX_RULES = 1000


def yaml_of_csv(text: str) -> str:
    """The same rules as a YAML file of version 1. Raises InvalidInput that says what in the file is wrong."""
    first = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=max(",;\t", key=first.count))
    try:
        table = [row for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise _wrong(f"This is not a valid CSV file: {error}.") from error
    if len(table) < 2:
        raise _wrong("The file has no rule. Its first line names the columns, each further line is a rule.")
    if len(table) > MAX_RULES + 1:
        raise _wrong(f"The file has more than {MAX_RULES:,} rules.")
    headings = [cell.strip().lower().lstrip("\ufeff") for cell in table[0]]
    if unknown := [name for name in headings if name and name not in COLUMNS]:
        raise _wrong(f"There is no column called {unknown[0]}. Columns are: {', '.join(sorted(COLUMNS))}.")
    if "name" not in {COLUMNS.get(name) for name in headings}:
        raise _wrong("The first line has no column Name.")
    fields = [COLUMNS.get(name, "") for name in headings]
    rules = [_rule(dict(zip(fields, row, strict=False))) for row in table[1:]]
    return yaml.safe_dump({"version": 1, "rules": rules}, allow_unicode=True, sort_keys=False)


def _rule(given: dict[str, str]) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    for name, cell in given.items():
        value = restore_cell(cell).strip()
        if not name or not value:
            continue
        if name in _LISTS:
            rule[name] = [part.strip() for part in _SEPARATORS.split(value) if part.strip()]
        else:
            rule[name] = value
    if action := rule.get("action"):
        rule["action"] = _ACTIONS.get(action.lower(), action.lower().replace(" ", "_"))
    for name in ("mode", "recurrence", "include_never_active", "is_paused"):
        if name in rule:
            rule[name] = {"yes": "true", "no": "false", "safe mode": "safe", "live mode": "live"}.get(
                rule[name].lower(), rule[name].lower()
            )
    if "weekdays" in rule:
        rule["weekdays"] = [day.lower() for day in rule["weekdays"]]
    if products := rule.pop("products", None):
        removes = rule.get("action") == "remove_product_access"
        rule["target_products" if removes else "inactive_products"] = products
    if rule.get("target_groups"):
        rule.setdefault("target", "specified_groups")
    return rule


def _wrong(sentence: str) -> InvalidInput:
    return InvalidInput(fields={"file": [sentence]})
