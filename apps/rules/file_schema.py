"""The JSON schema of a rules file, for editors and for checks of pull requests (docs/rules.schema.json)."""

from __future__ import annotations

from typing import Any

from apps.rules.models import CleanupRule
from apps.rules.values import MAX_BLACKOUTS, MAX_CONDITIONS, MAX_COUNT, MAX_DAYS, MAX_WINDOW, MIN_WINDOW, WEEKDAY_NAMES
from apps.users.predicates import NOT_IN_RULES, REGISTRY, Partition, parameters_of

SCHEMA_ADDRESS = "https://json-schema.org/draft/2020-12/schema"


def rules_schema() -> dict[str, Any]:
    """What a file may hold. The service says more: whether groups exist, and what contradicts what."""
    return {
        "$schema": SCHEMA_ADDRESS,
        "title": "Cleanup rules of AUM",
        "type": "object",
        "additionalProperties": False,
        "required": ["version", "rules"],
        "properties": {"version": {"const": 1}, "rules": {"type": "array", "items": _rule()}},
        "$defs": {"group": _group(), "days": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_DAYS}},
    }


def _rule() -> dict[str, Any]:
    days: dict[str, Any] = {"$ref": "#/$defs/days"}
    words: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    groups: dict[str, Any] = {"type": "array", "items": {"$ref": "#/$defs/group"}}
    date = r"^\d{4}-\d{2}-\d{2}(\.\.\d{4}-\d{2}-\d{2})?$"
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "run_at"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 120},
            "owner": {"type": "string"},
            "mode": {"enum": list(CleanupRule.Mode.values)},
            "action": {"enum": list(CleanupRule.Action.values)},
            "action_groups": groups,
            "inactive_products": words,
            "target_products": words,
            "target_sites": words,
            "inactive_days": days,
            "include_never_active": {"type": "boolean"},
            "never_active_days": days,
            "status_days": days,
            "saved_view": {"type": ["string", "null"]},
            "conditions": {"type": "array", "maxItems": MAX_CONDITIONS, "items": {"oneOf": _conditions()}},
            "target": {"enum": list(CleanupRule.Target.values)},
            "target_groups": groups,
            "protected_groups": groups,
            "recurrence": {"enum": list(CleanupRule.Recurrence.values)},
            "weekdays": {"type": "array", "items": {"enum": list(WEEKDAY_NAMES)}},
            "month_day": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 31}, {"enum": ["last", None]}]},
            "run_at": {"type": "string", "pattern": r"^([01]?\d|2[0-3]):[0-5]\d$"},
            "window_minutes": {"type": "integer", "minimum": MIN_WINDOW, "maximum": MAX_WINDOW},
            "timezone": {"type": "string"},
            "blackout_dates": {
                "type": "array",
                "maxItems": MAX_BLACKOUTS,
                "items": {"type": "string", "pattern": date},
            },
            "max_count": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_COUNT},
            "max_share_percent": {"type": ["string", "number", "null"]},
            "notes": {"type": "string", "maxLength": 4000},
            "notices": {"type": "array", "items": {"type": "object"}},
            "undeliverable": {"type": "string"},
            "undeliverable_days": {"type": "integer", "minimum": 1},
            "is_paused": {"type": "boolean"},
        },
    }


def _group() -> dict[str, Any]:
    text = {"type": "string"}
    fields = {"name": text, "id": text, "directory": text}
    by_parts = {"type": "object", "additionalProperties": False, "minProperties": 1, "properties": fields}
    return {"anyOf": [text, by_parts]}


def _conditions() -> list[dict[str, Any]]:
    """One shape for each predicate that a rule may ask."""
    return [_condition(name) for name in sorted(REGISTRY) if name not in NOT_IN_RULES]


def _condition(name: str) -> dict[str, Any]:
    properties: dict[str, Any] = {"name": {"const": name}, "not": {"type": "boolean"}}
    words = list(getattr(REGISTRY[name], "words", Partition.values if name == "partition" else ()))
    for key, is_several in parameters_of(name).items():
        if key == "groups":
            properties[key] = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/group"}}
        elif key == "values":
            properties[key] = {"type": "array", "minItems": 1, "items": {"enum": [str(word) for word in words]}}
        elif is_several:
            properties[key] = {"type": "array", "items": {"type": "string"}}
        elif key == "days":
            properties[key] = {"type": "integer", "minimum": 1, "maximum": MAX_DAYS}
        else:
            properties[key] = {"type": "boolean"} if key == "value" else {"type": "string"}
    required = ["name", *(key for key in parameters_of(name) if key not in ("products", "days", "value"))]
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}
