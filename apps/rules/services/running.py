"""Making a plan of a rule: for a preview, at the press of Run now, or because its time has come."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.operations.models import Operation
from apps.operations.selection import RuleRef
from apps.operations.services import plan_operation
from apps.operators.models import Operator
from apps.organizations.recorder import Actor
from apps.organizations.selectors import is_copy
from apps.organizations.services import raise_alert, resolve_alert
from apps.rules import selectors
from apps.rules.models import CleanupRule
from apps.rules.services.editing import locked
from apps.rules.values import DELETE_OFF_SENTENCE, RuleInput, clean, selection_for
from aum.common.errors import DomainError, InvalidInput

DAYS_WORDS = {"inactive_days": "days", "never_active_days": "days since the invite", "status_days": "days out"}


class RulePaused(DomainError):
    code = "rule_paused"
    detail = "This rule is paused. Resume it first."


class GroupMissing(DomainError):
    code = "group_missing"
    detail = "A group that this rule names no longer exists in Atlassian."


class ViewChanged(DomainError):
    code = "view_changed"
    detail = "The shared view that this rule is bound to is not what it was when the rule was saved."


class DeletionOff(DomainError):
    code = "delete_rules_off"
    detail = DELETE_OFF_SENTENCE


class WritesStopped(DomainError):
    code = "kill_switch_on"
    detail = "The kill switch is on: nothing is written to Atlassian. Release it under Settings first."


def preview_rule(*, rule: CleanupRule, actor: Actor, operator: Operator | None, is_by_token: bool = False) -> Operation:
    """A plan of the rule in Safe mode, whatever its own mode; allowed while it is paused, since it changes nothing.

    Raises Missing, GroupMissing and ViewChanged (with an alert), NotConnected, OperationAlreadyRunning.
    """
    refuse_missing_groups(rule)
    refuse_changed_view(rule, is_live=False)
    with transaction.atomic():
        return plan_rule(
            locked(rule),
            mode=Operation.Mode.SAFE,
            kind=Operation.Kind.AUTOMATION_RULE,
            initiator=Operation.Initiator.MANUAL,
            actor=actor,
            operator=operator,
            is_by_token=is_by_token,
        )


def run_rule(*, rule: CleanupRule, actor: Actor, operator: Operator | None, is_by_token: bool = False) -> Operation:
    """Run the rule now in its own mode, whatever its schedule (S133); the schedule stays as it is.

    Raises RulePaused, WritesStopped and DeletionOff for a live rule, and what `preview_rule` raises.
    """
    refuse_missing_groups(rule)
    refuse_changed_view(rule, is_live=rule.mode == CleanupRule.Mode.LIVE)
    with transaction.atomic():
        rule = locked(rule)
        if rule.is_paused:
            raise RulePaused(f"This rule is paused. {rule.paused_reason or ''} Resume it first.".replace("  ", " "))
        refuse_stopped_writes(rule)
        operation = plan_rule(
            rule,
            mode=rule.mode,
            kind=Operation.Kind.AUTOMATION_RULE,
            initiator=Operation.Initiator.MANUAL,
            actor=actor,
            operator=operator,
            is_by_token=is_by_token,
        )
        stamp_run(rule, operation)
    return operation


def what_if(
    *,
    rule: CleanupRule,
    actor: Actor,
    operator: Operator | None,
    inactive_days: int | str | None = None,
    never_active_days: int | str | None = None,
    status_days: int | str | None = None,
    is_by_token: bool = False,
) -> Operation:
    """A plan in Safe mode of the rule with other thresholds, to be compared; it can never be applied.

    Raises InvalidInput (nothing given, or not a number of days for a rule that counts them), and what
    `preview_rule` raises.
    """
    refuse_missing_groups(rule)
    refuse_changed_view(rule, is_live=False)
    given = {
        "inactive_days": inactive_days,
        "never_active_days": never_active_days,
        "status_days": status_days,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None and str(value).strip()}
    stored = RuleInput.of(rule)
    wrong = {name: ["The rule does not count these days."] for name in changes if getattr(stored, name) is None}
    if wrong or not changes:
        raise InvalidInput(fields=wrong or {"inactive_days": ["Enter the days to try."]})
    values = clean(dataclasses.replace(stored, **changes), rule.organization, rule=rule)
    tried = {name: getattr(values, name) for name in changes}
    words = ", ".join(f"{days} {DAYS_WORDS[name]}" for name, days in tried.items())
    with transaction.atomic():
        operation = plan_operation(
            organization=rule.organization,
            kind=Operation.Kind.AUTOMATION_RULE,
            mode=Operation.Mode.SAFE,
            initiator=Operation.Initiator.MANUAL,
            actor=actor,
            operator=operator,
            name=f"What if {words}: {rule.name}"[:200],
            actions=[values.action_spec()],
            selection=selection_for(rule.organization, values),
            limits=values.limits(),
            is_by_token=is_by_token,
            sentence=selectors.sentence(values, organization=rule.organization),
        )
        operation.frozen = {
            **operation.frozen,
            "what_if": {"rule_id": rule.pk, "rule_version": rule.version, "changes": tried},
        }
        operation.save(update_fields=["frozen"])
    return operation


# --- parts that firing shares ---------------------------------------------------------------------------------------


def plan_rule(
    rule: CleanupRule,
    *,
    mode: str,
    kind: str,
    initiator: str,
    actor: Actor,
    operator: Operator | None,
    is_by_token: bool = False,
) -> Operation:
    """The plan of a locked rule. Protected groups are frozen: the rule's own and those of the organisation."""
    values = RuleInput.of(rule)
    return plan_operation(
        organization=rule.organization,
        kind=kind,
        mode=mode,
        initiator=initiator,
        actor=actor,
        operator=operator,
        name=rule.name,
        actions=[values.action_spec()],
        selection=selection_for(rule.organization, values),
        rule=RuleRef(rule.pk, rule.version, rule.name, rule.edited_by_id),
        limits=values.limits(),
        is_by_token=is_by_token,
        sentence=selectors.sentence(rule),
    )


def stamp_run(rule: CleanupRule, operation: Operation) -> None:
    """Show `operation` as the rule's last run from its beginning on, so that a held one is found too."""
    rule.last_run_at, rule.last_operation_number = timezone.now(), operation.number
    rule.save(update_fields=["last_run_at", "last_operation_number"])


def refuse_stopped_writes(rule: CleanupRule) -> None:
    """Raises WritesStopped for a live rule while the kill switch is on, and for any rule of a copied database."""
    if is_copy():
        raise WritesStopped("This database is a copy of another installation's: nothing runs until an Owner confirms.")
    if rule.mode != CleanupRule.Mode.LIVE:
        return
    if rule.organization.is_killed:
        raise WritesStopped
    if rule.action == CleanupRule.Action.DELETE and not rule.organization.allow_delete_rules:
        raise DeletionOff


def refuse_changed_view(rule: CleanupRule, *, is_live: bool) -> None:
    """Raises ViewChanged, with an alert, when the rule's shared view is gone, or for a live run, says something else.

    A live rule means what it meant when a person saved it: others may change the view without knowing of the rule.
    """
    key = f"rule_view:{rule.pk}"
    sentence = selectors.view_trouble(rule, is_live=is_live)
    if not sentence:
        resolve_alert(organization=rule.organization, dedup_key=key)
        return
    raise_alert(
        organization=rule.organization,
        kind="rule_view",
        severity="error",
        title=f"{rule.name} cannot run: its shared view changed",
        detail=sentence,
        link=f"/o/{rule.organization.slug}/rules/{rule.pk}/edit/",
        dedup_key=key,
    )
    raise ViewChanged(sentence)


def refuse_missing_groups(rule: CleanupRule) -> None:
    """Raises GroupMissing when a group of the rule is gone; the alert about it outlives the refusal."""
    gone = selectors.gone_groups(rule)
    key = f"rule_group_missing:{rule.pk}"
    if not gone:
        resolve_alert(organization=rule.organization, dedup_key=key)
        return
    names = ", ".join(f"{group.name} ({group.role})" for group in gone)
    detail = (
        f"No longer in Atlassian: {names}. Without it, AUM cannot tell whom the rule may touch. "
        "Take it out of the rule or choose another group."
    )
    raise_alert(
        organization=rule.organization,
        kind="rule_group_missing",
        severity="error",
        title=f"{rule.name} cannot run: a group is gone",
        detail=detail,
        link=f"/o/{rule.organization.slug}/rules/{rule.pk}/edit/",
        dedup_key=key,
    )
    raise GroupMissing(detail)
