"""What an edit would loosen of a rule's own safeguards waits for another person and an hour (P5, docs/safeguards.md).

A rule that was never live may change freely: nothing that it protects was ever relied on, and it needs a preview before
it can be live. From its first live version on, going back to Safe mode does not open a way around.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from apps.operations.services import end_rule_changes, propose_rule_change
from apps.operators.models import Operator
from apps.organizations.recorder import Actor
from apps.rules.models import CleanupRule, RuleVersion
from apps.rules.notice_values import ACTIONS as NOTICE_ACTIONS
from apps.rules.values import RuleInput
from apps.users.models import Group

LIMITS = ("max_count", "max_share_percent")
NOTICES = ("notices", "undeliverable", "undeliverable_days")
SAFEGUARDS = (*LIMITS, "protected_groups", *NOTICES)


def held_back(rule: CleanupRule, values: RuleInput, reason: str, actor: Actor, operator: Operator | None) -> RuleInput:
    """Cleaned `values` with what loosens put back to what is stored, and proposed. Raises InvalidInput without reason.

    A newer value of the same safeguard, looser or stricter, ends the change that waits.
    """
    if not RuleVersion.objects.filter(rule=rule, content__mode=CleanupRule.Mode.LIVE).exists():
        return values
    stored = RuleInput.of(rule)
    changes: dict[str, list[str]] = {}
    kept: dict[str, Any] = {}
    for name in LIMITS:
        before, after = getattr(stored, name), getattr(values, name)
        if before is not None and (after is None or after > before):
            changes[name], kept[name] = [str(before), "" if after is None else str(after)], before
    lost = _protecting(rule, set(stored.protected_groups) - set(values.protected_groups))
    if lost:
        changes["protected_groups"] = [_keys(stored.protected_groups), _keys(values.protected_groups)]
        kept["protected_groups"] = tuple(sorted({*values.protected_groups, *lost}))
    if values.action in NOTICE_ACTIONS:
        _notices(stored, values, changes, kept)
    touched = [name for name in SAFEGUARDS if getattr(stored, name) != getattr(values, name)]
    if touched:
        end_rule_changes(organization=rule.organization, rule_id=rule.pk, fields=touched, actor=actor)
    if changes:
        propose_rule_change(
            organization=rule.organization,
            rule_id=rule.pk,
            rule_name=rule.name,
            changes=changes,
            reason=reason,
            actor=actor,
            operator=operator,
        )
    return dataclasses.replace(values, **kept)


def end_open(rule: CleanupRule, actor: Actor) -> None:
    """The rule is deleted: what waited for it is void."""
    end_rule_changes(organization=rule.organization, rule_id=rule.pk, fields=SAFEGUARDS, actor=actor)


def _notices(stored: RuleInput, values: RuleInput, changes: dict[str, list[str]], kept: dict[str, Any]) -> None:
    """A notice less, or fewer days of it, and acting where nobody could be told are looser (P5, P10)."""
    before = {(template, audience): int(days) for template, days, audience in _steps(stored)}
    after = {(template, audience): int(days) for template, days, audience in _steps(values)}
    if any(after.get(step, 0) < days for step, days in before.items()):
        changes["notices"] = [",".join(stored.notices), ",".join(values.notices)]
        most = after | {step: max(days, after.get(step, 0)) for step, days in before.items()}
        keys = [f"{template}:{days}:{audience}" for (template, audience), days in most.items()]
        kept["notices"] = tuple(sorted(keys, key=lambda key: (-int(key.split(":")[1]), key)))
    act = CleanupRule.Undeliverable.ACT.value
    if values.undeliverable == act and stored.undeliverable != act:
        changes["undeliverable"], kept["undeliverable"] = [stored.undeliverable, act], stored.undeliverable
    elif values.undeliverable == act and values.undeliverable_days < stored.undeliverable_days:
        days = [str(stored.undeliverable_days), str(values.undeliverable_days)]
        changes["undeliverable_days"], kept["undeliverable_days"] = days, stored.undeliverable_days


def _steps(values: RuleInput) -> Iterator[list[str]]:
    return (key.split(":") for key in values.notices)


def _protecting(rule: CleanupRule, keys: set[int]) -> set[int]:
    """Those of the groups that still exist: one that is gone protects nobody, and has to be taken out."""
    present = Group.objects.of(rule.organization).filter(pk__in=keys, vanished_at__isnull=True)
    return set(present.values_list("pk", flat=True))


def _keys(groups: tuple[int, ...]) -> str:
    return ",".join(str(key) for key in sorted(groups))
