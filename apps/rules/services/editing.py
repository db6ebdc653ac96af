"""Creating, changing, pausing and deleting rules. Each change is a version, an audit row and a changed schedule."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.audit.services import record
from apps.operations.models import Operation
from apps.operations.services import WrongState, pause_operation, resume_operation, supersede_open_of_rule
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import FromFileOnly, resolve_alert
from apps.rules.conflicts import refuse_conflicts
from apps.rules.models import CleanupRule, RuleVersion
from apps.rules.schedule import next_run
from apps.rules.selectors import has_fresh_preview
from apps.rules.services import loosening
from apps.rules.services.beat import put_on_beat, take_off_beat
from apps.rules.services.steps import set_steps
from apps.rules.values import (
    DESCRIPTIVE_FIELDS,
    FIELDS,
    GROUP_FIELDS,
    NAME_LENGTH,
    SCHEDULE_FIELDS,
    RuleInput,
    changed_fields,
    clean,
    content_of,
)
from aum.common.errors import DomainError, InvalidInput, Missing

TAKEN_SENTENCE = "Another rule has this name. Choose a different one."


LIVE_NEEDS_CONNECTION = (
    "This organisation comes from an export file: rules stay in Safe mode until it is connected to Atlassian."
)
LIVE_NEEDS_PREVIEW = (
    "Live mode needs a preview made after the last edit: save the rule in Safe mode, preview it, check the list, then "
    "switch to Live."
)
LIVE_CHANGES_NOTHING_ELSE = (
    "The preview shows the rule as it was saved, and more than the mode differs from it now. Save the changes in Safe "
    "mode, preview them, then switch to Live."
)
# Alerts of a rule that an edit or its deletion answers.
ANSWERED_BY_EDIT = ("rule_group_missing", "rule_refused", "rule_view", "rule_regret")


class LiveNeedsPreview(InvalidInput):
    code = "live_needs_preview"
    detail = LIVE_NEEDS_PREVIEW


class RuleChanged(DomainError):
    code = "rule_changed"
    detail = "Somebody else changed this rule meanwhile. Open it again, then make your change."


def create_rule(
    *, organization: Organization, values: RuleInput, actor: Actor, operator: Operator | None
) -> CleanupRule:
    """A new rule at version 1, owed nothing before this moment; who makes it owns it unless said otherwise.

    Raises InvalidInput that names each wrong field, LiveNeedsPreview for a rule that would start in Live mode,
    RulesConflict for one that contradicts another.
    """
    try:
        with transaction.atomic():
            return _create(organization, clean(values, organization), actor, operator)
    except IntegrityError as error:
        raise _name_taken(error) from error


def _create(organization: Organization, values: RuleInput, actor: Actor, operator: Operator | None) -> CleanupRule:
    refuse_unpreviewed(values, None)
    refuse_conflicts(organization, values)
    if not values.owner and operator is not None and operator.grants.filter(organization=organization).exists():
        values = dataclasses.replace(values, owner=operator.email)
    now = timezone.now()
    rule = CleanupRule(
        organization=organization,
        edited_by=operator,
        edited_by_text=actor.name[:254],
        edited_at=now,
        scheduled_from=now,
        **_columns(values),
    )
    rule.next_run_at = next_run(rule, now)
    rule.save()
    _set_groups(rule, values)
    after = content_of(values, organization)
    _keep_version(rule, after)
    put_on_beat(rule)
    _record(rule, actor, "rule.created", after=after)
    return rule


def update_rule(
    *,
    rule: CleanupRule,
    values: RuleInput,
    expected_version: int,
    actor: Actor,
    operator: Operator | None,
    reason: str = "",
) -> CleanupRule:
    """The rule with new values as its next version; the same rule when nothing changed.

    A run under way goes on with its frozen plan; plans that wrote nothing yet are void. Looser limits and fewer
    protected groups of a rule that is live or was so wait for another person, with `reason` (services.loosening);
    everything else counts at once. Raises RuleChanged when the rule is no longer at `expected_version`, Missing when
    it was deleted, LiveNeedsPreview, RulesConflict, InvalidInput.
    """
    try:
        with transaction.atomic():
            return _update(locked(rule), values, expected_version, actor, operator, reason)
    except IntegrityError as error:
        raise _name_taken(error) from error


def _update(
    rule: CleanupRule, values: RuleInput, expected_version: int, actor: Actor, operator: Operator | None, reason: str
) -> CleanupRule:
    if rule.version != expected_version:
        raise RuleChanged(
            f"{rule.edited_by_text} changed this rule at {rule.edited_at:%Y-%m-%d %H:%M} UTC. "
            "Open it again, then make your change."
        )
    values = clean(values, rule.organization, rule=rule)
    values = loosening.held_back(rule, values, reason, actor, operator)
    return save_version(rule, values, actor, operator)


def save_version(rule: CleanupRule, values: RuleInput, actor: Actor, operator: Operator | None) -> CleanupRule:
    """Cleaned `values` as the next version of a locked rule, or the rule itself when they say the same."""
    stored = RuleVersion.objects.get(rule=rule, version=rule.version).content
    content = content_of(values, rule.organization)
    before, after = changed_fields(stored, content)
    if not after:
        return rule
    refuse_unpreviewed(values, rule)
    if not rule.is_paused:
        refuse_conflicts(rule.organization, values, rule=rule)
    now = timezone.now()
    for name, value in _columns(values).items():
        setattr(rule, name, value)
    rule.version += 1
    rule.edited_by, rule.edited_by_text, rule.edited_at = operator, actor.name[:254], now
    if set(SCHEDULE_FIELDS) & set(after):
        _schedule_from(rule, now)
    rule.save()
    _set_groups(rule, values)
    _keep_version(rule, content)
    put_on_beat(rule)
    if set(after) - set(DESCRIPTIVE_FIELDS):
        supersede_open_of_rule(organization=rule.organization, rule_id=rule.pk, why=f"{actor.name} edited the rule.")
    for kind in ANSWERED_BY_EDIT:
        resolve_alert(organization=rule.organization, dedup_key=f"{kind}:{rule.pk}", by=actor.name)
    _record(rule, actor, "rule.updated", before=before, after=after)
    return rule


@transaction.atomic
def pause_rule(*, rule: CleanupRule, reason: str = "", actor: Actor) -> CleanupRule:
    """Stop all runs of the rule (S131): none starts, a waiting plan is void, a run under way pauses with it.

    Pausing a paused rule changes nothing. Raises Missing when it was deleted.
    """
    rule = locked(rule)
    if rule.is_paused:
        return rule
    rule.is_paused, rule.paused_reason, rule.next_run_at = True, reason.strip()[:300], None
    supersede_open_of_rule(organization=rule.organization, rule_id=rule.pk, why=f"{actor.name} paused the rule.")
    rule.run_paused_with_rule = _pause_run(rule, actor)
    rule.save()
    put_on_beat(rule)
    _record(rule, actor, "rule.paused", reason=rule.paused_reason)
    return rule


@transaction.atomic
def resume_rule(*, rule: CleanupRule, actor: Actor) -> CleanupRule:
    """Let the rule run again from now on; slots that passed while it was paused are not made up for.

    The run that was paused together with the rule goes on. Raises Missing when the rule was deleted, RulesConflict.
    """
    rule = locked(rule)
    if not rule.is_paused:
        return rule
    refuse_conflicts(rule.organization, RuleInput.of(rule), rule=rule)
    number, rule.run_paused_with_rule = rule.run_paused_with_rule, None
    rule.is_paused, rule.paused_reason = False, ""
    _schedule_from(rule, timezone.now())
    rule.save()
    put_on_beat(rule)
    resolve_alert(organization=rule.organization, dedup_key=f"rule_regret:{rule.pk}", by=actor.name)
    if number is not None:
        _resume_run(rule, number, actor)
    _record(rule, actor, "rule.resumed")
    return rule


@transaction.atomic
def delete_rule(*, rule: CleanupRule, actor: Actor) -> None:
    """Remove the rule for good; versions, runs and audit rows stay. Raises Missing when it is gone already.

    A run under way goes on with its frozen plan: it was approved, and can be stopped on its page.
    """
    rule = locked(rule)
    before = content_of(RuleInput.of(rule), rule.organization)
    rule.deleted_at, rule.next_run_at, rule.saved_view = timezone.now(), None, None
    rule.save(update_fields=["deleted_at", "next_run_at", "saved_view"])
    loosening.end_open(rule, actor)
    take_off_beat(rule.pk)
    supersede_open_of_rule(organization=rule.organization, rule_id=rule.pk, why=f"{actor.name} deleted the rule.")
    for kind in (*ANSWERED_BY_EDIT, "rule_missed", "rule_silent", "rule_no_effect"):
        resolve_alert(organization=rule.organization, dedup_key=f"{kind}:{rule.pk}", by=actor.name)
    _record(rule, actor, "rule.deleted", before=before)


def duplicate_rule(*, rule: CleanupRule, actor: Actor, operator: Operator | None) -> CleanupRule:
    """A copy under a free name, always in Safe mode, owned by who makes it.

    Raises InvalidInput, as when a group of the original is gone.
    """
    values = RuleInput.of(rule)
    taken = set(
        CleanupRule.objects.of(rule.organization).filter(deleted_at__isnull=True).values_list("name", flat=True)
    )
    number, name = 1, _copy_name(rule.name, 1)
    while name in taken:
        number += 1
        name = _copy_name(rule.name, number)
    copy = dataclasses.replace(values, name=name, mode=CleanupRule.Mode.SAFE.value, owner="")
    return create_rule(organization=rule.organization, values=copy, actor=actor, operator=operator)


def _copy_name(name: str, number: int) -> str:
    suffix = " (copy)" if number == 1 else f" (copy {number})"
    return name[: NAME_LENGTH - len(suffix)].rstrip() + suffix


# --- parts ----------------------------------------------------------------------------------------------------------


def locked(rule: CleanupRule) -> CleanupRule:
    """The rule's row, locked until the transaction ends; raises Missing when it was deleted."""
    found: CleanupRule | None = (
        CleanupRule.objects.select_for_update(of=("self",))
        .select_related("organization", "periodic_task")
        .filter(pk=rule.pk, deleted_at__isnull=True)
        .first()
    )
    if found is None:
        raise Missing("This rule was deleted. Its runs stay in the log.")
    return found


def refuse_unpreviewed(values: RuleInput, rule: CleanupRule | None) -> None:
    """Raises LiveNeedsPreview when cleaned `values` would switch to Live what no preview has shown.

    Raises FromFileOnly where nothing could be changed, and a connection made later would let the rule loose.
    """
    if values.mode != CleanupRule.Mode.LIVE or (rule is not None and rule.mode == CleanupRule.Mode.LIVE):
        return
    if rule is not None and rule.organization.is_from_file:
        raise FromFileOnly(LIVE_NEEDS_CONNECTION, fields={"mode": [LIVE_NEEDS_CONNECTION]})
    sentence = LIVE_NEEDS_PREVIEW
    if rule is not None and has_fresh_preview(rule):
        if has_fresh_preview(rule, content_of(values, rule.organization)):
            return
        sentence = LIVE_CHANGES_NOTHING_ELSE
    raise LiveNeedsPreview(sentence, fields={"mode": [sentence]})


def _fields(values: RuleInput) -> dict[str, Any]:
    return {name: getattr(values, name) for name in FIELDS}


def _columns(values: RuleInput) -> dict[str, Any]:
    """Model columns of cleaned values; groups are rows of their own."""
    plain = {name: value for name, value in _fields(values).items() if name not in (*GROUP_FIELDS, "notices")}
    plain["owner"] = Operator.objects.filter(email=values.owner).first() if values.owner else None
    plain["saved_view_id"] = plain.pop("saved_view")
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def _set_groups(rule: CleanupRule, values: RuleInput) -> None:
    rule.action_groups.set(values.action_groups)
    rule.target_groups.set(values.target_groups)
    rule.protected_groups.set(values.protected_groups)
    set_steps(rule, values.notices)


def _keep_version(rule: CleanupRule, content: dict[str, Any]) -> None:
    RuleVersion.objects.create(
        organization=rule.organization,
        rule=rule,
        version=rule.version,
        content=content,
        edited_by_text=rule.edited_by_text,
        edited_at=rule.edited_at,
    )


def _schedule_from(rule: CleanupRule, now: datetime) -> None:
    """From `now` on slots are owed; what an older schedule or a pause left open is not."""
    rule.scheduled_from = now
    rule.next_run_at = None if rule.is_paused else next_run(rule, now)


def _pause_run(rule: CleanupRule, actor: Actor) -> int | None:
    run = (
        Operation.objects.of(rule.organization)
        .filter(rule_id=rule.pk, status__in=Operation.WORKING)
        .select_related("organization")
        .first()
    )
    if run is None:
        return None
    try:
        return int(pause_operation(operation=run, actor=actor).number)
    except WrongState:  # it finished meanwhile
        return None


def _resume_run(rule: CleanupRule, number: int, actor: Actor) -> None:
    run = Operation.objects.of(rule.organization).filter(number=number).select_related("organization").first()
    if run is None or run.status != Operation.Status.PAUSED:
        return
    try:
        resume_operation(operation=run, actor=actor)
    except WrongState:  # somebody stopped it meanwhile
        return


def _name_taken(error: IntegrityError) -> DomainError:
    """The refusal for a name that another transaction took first; any other error travels up."""
    if "rule_name_once" not in str(error):
        raise error
    return InvalidInput(fields={"name": [TAKEN_SENTENCE]})


def _record(rule: CleanupRule, actor: Actor, action: str, **fields: Any) -> None:
    record(
        organization=rule.organization,
        actor=actor,
        action=action,
        target_kind="rule",
        target_ref=str(rule.pk),
        target_name=rule.name,
        rule_id=rule.pk,
        rule_name=rule.name,
        rule_version=rule.version,
        **fields,
    )
