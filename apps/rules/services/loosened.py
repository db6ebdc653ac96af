"""The effect of a looser safeguard of a rule, an hour after another person approved it."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

from apps.operations.models import SafeguardChange
from apps.organizations.recorder import Actor
from apps.rules.conflicts import refuse_conflicts
from apps.rules.models import CleanupRule
from apps.rules.services.editing import locked, save_version
from apps.rules.values import RuleInput, clean
from aum.common.errors import InvalidInput


def obstacle(change: SafeguardChange) -> str:
    """Why the change cannot be made as it was approved; empty when it can."""
    rule = _rule(change)
    if rule is None:
        return "The rule was deleted."
    stored = RuleInput.of(rule)
    for name, (before, _after) in change.changes.items():
        if _value(name, before) != getattr(stored, name):
            return "The rule's safeguards were changed since it was proposed."
    try:
        values = clean(_wanted(rule, change), rule.organization, rule=rule)
        if not rule.is_paused:
            refuse_conflicts(rule.organization, values, rule=rule)
    except InvalidInput as error:
        return " ".join(dict.fromkeys(text for texts in error.fields.values() for text in texts))
    return ""


def apply(change: SafeguardChange) -> None:
    """The rule's next version, edited by who proposed it, so that they do not approve its plans either."""
    rule = _rule(change)
    assert rule is not None  # `obstacle` said so in this transaction
    rule = locked(rule)
    values = clean(_wanted(rule, change), rule.organization, rule=rule)
    save_version(rule, values, Actor.scheduler(), change.proposed_by)


def _rule(change: SafeguardChange) -> CleanupRule | None:
    rules = CleanupRule.objects.of(change.organization).filter(deleted_at__isnull=True)
    found: CleanupRule | None = rules.select_related("organization", "owner").filter(pk=change.rule_id).first()
    return found


def _wanted(rule: CleanupRule, change: SafeguardChange) -> RuleInput:
    after = {name: _value(name, text) for name, (_before, text) in change.changes.items()}
    return dataclasses.replace(RuleInput.of(rule), **after)


def _value(name: str, text: str) -> Any:
    if name == "protected_groups":
        return tuple(int(key) for key in text.split(",") if key)
    if name == "notices":
        return tuple(key for key in text.split(",") if key)
    if name == "undeliverable":
        return text
    if not text:
        return None
    return int(text) if name in ("max_count", "undeliverable_days") else Decimal(text)
