"""Rules whose time has come (DESIGN.md §7). Beat rings, a sweep looks every minute, a unique row lets a slot run once.

Both only say "look now": what is due is computed from the schedule and from the slots that were handled already, so it
does not matter who comes first, how late, or with which clock.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from apps.audit.services import record
from apps.operations.models import Operation
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert, resolve_alert
from apps.rules.models import CleanupRule, DueSlot
from apps.rules.schedule import due_between, next_run
from apps.rules.services.beat import take_off_beat
from apps.rules.services.regret import pause_if_regretted
from apps.rules.services.running import (
    GroupMissing,
    ViewChanged,
    plan_rule,
    refuse_changed_view,
    refuse_missing_groups,
    refuse_stopped_writes,
    stamp_run,
)
from aum.common.errors import DomainError

logger = logging.getLogger(__name__)


def fire_due(*, rule_id: int, due_at: datetime) -> DueSlot | None:
    """Run the rule for its slot `due_at` (aware), once, whoever asks and however often.

    Returns the slot: fired, caught up, or refused with its reason. None when nothing was to be done: the slot was
    handled already or is still to come, or the rule is paused or deleted.
    """
    with transaction.atomic():
        rule = _claimed(rule_id)
        return _fire(rule, due_at, timezone.now()) if rule else None


def fire(*, rule_id: int) -> DueSlot | None:
    """Handle everything that is due for the rule: the latest slot runs when it is recent enough, others were missed.

    Returns the slot that ran or was refused. Safe to call at any time and twice.
    """
    now = timezone.now()
    if not CleanupRule.objects.filter(pk=rule_id, deleted_at__isnull=True).exists():
        take_off_beat(rule_id)
        return None
    with transaction.atomic():
        rule = _claimed(rule_id)
        if rule is None:
            return None
        _forget_the_future(rule, now)
        due = _open_slots(rule, now)
        recent = due[-1:] if due and due[-1] >= now - catch_up_window(rule) else []
        _report_missed(rule, due[: len(due) - len(recent)])
        slot = _fire(rule, recent[0], now) if recent else None
        rule.next_run_at = None if rule.is_paused else next_run(rule, now)
        rule.save(update_fields=["next_run_at", "scheduled_from"])
        resolve_alert(organization=rule.organization, dedup_key=f"rule_silent:{rule.pk}")
    return slot


def catch_up_window(rule: CleanupRule) -> timedelta:
    """How late the rule may still run: the organisation's setting, and never less than the rule's own window."""
    return max(timedelta(hours=rule.organization.catch_up_hours), timedelta(minutes=rule.window_minutes))


def sweep() -> int:
    """Handle every rule that is due and not yet handled, whatever kept beat from ringing; returns how many ran.

    One rule's error does not keep the others from running; raises ExceptionGroup afterwards.
    """
    now = timezone.now()
    fired, errors = 0, list[Exception]()
    for rule in CleanupRule.objects.filter(deleted_at__isnull=True, is_paused=False).order_by("pk"):
        # Not what is due at `now` but what `next_run_at` should be: a changed clock or zone table shows here as well.
        if rule.scheduled_from <= now and rule.next_run_at == next_run(rule, now):
            continue
        try:
            slot = fire(rule_id=rule.pk)
        except Exception as error:
            logger.exception("rule.not_fired", extra={"rule_id": rule.pk})
            errors.append(error)
        else:
            fired += slot is not None and slot.state != DueSlot.State.REFUSED
    if errors:
        raise ExceptionGroup("rules that could not be fired", errors)
    return fired


def _claimed(rule_id: int) -> CleanupRule | None:
    """The rule, locked against edits and other firings until the transaction ends; None unless it may run."""
    return (
        CleanupRule.objects.select_for_update(of=("self",))
        .select_related("organization", "edited_by", "owner")
        .filter(pk=rule_id, deleted_at__isnull=True, is_paused=False)
        .first()
    )


def _open_slots(rule: CleanupRule, now: datetime) -> list[datetime]:
    """Slots up to `now` that nobody handled, since the last handled one or since the schedule holds."""
    handled = DueSlot.objects.filter(rule=rule, due_at__lte=now).aggregate(at=Max("due_at"))["at"]
    since = max(rule.scheduled_from, handled) if handled else rule.scheduled_from
    return due_between(rule, since, now)


def _forget_the_future(rule: CleanupRule, now: datetime) -> None:
    """Undo what a clock that ran ahead left behind: slots to come that were reported, a schedule that starts later.

    Slots to come that ran did run, and stay.
    """
    unreal = [DueSlot.State.MISSED, DueSlot.State.REFUSED]
    DueSlot.objects.filter(rule=rule, due_at__gt=now, state__in=unreal).delete()
    rule.scheduled_from = min(rule.scheduled_from, now)


def _fire(rule: CleanupRule, due_at: datetime, now: datetime) -> DueSlot | None:
    """Claim the slot and plan the run, in the caller's transaction: neither exists without the other."""
    if due_at > now:
        return None
    is_on_time = now - due_at <= timedelta(minutes=rule.window_minutes)
    state = DueSlot.State.FIRED if is_on_time else DueSlot.State.CAUGHT_UP
    slot, is_mine = DueSlot.objects.get_or_create(
        rule=rule,
        due_at=due_at,
        defaults={"organization": rule.organization, "state": state, "handled_at": now},
    )
    if not is_mine:
        return None
    if pause_if_regretted(rule):
        rule.refresh_from_db(fields=["is_paused", "paused_reason", "next_run_at"])
        slot.state, slot.detail = DueSlot.State.REFUSED, f"The rule paused itself. {rule.paused_reason}"
        slot.save(update_fields=["state", "detail"])
        return slot
    try:
        refuse_stopped_writes(rule)
        refuse_missing_groups(rule)
        refuse_changed_view(rule, is_live=rule.mode == CleanupRule.Mode.LIVE)
        with transaction.atomic():
            operation = plan_rule(
                rule,
                mode=rule.mode,
                kind=Operation.Kind.SCHEDULED_CLEANUP,
                initiator=Operation.Initiator.AUTOMATED,
                actor=Actor.scheduler(),
                operator=rule.edited_by,
            )
    except DomainError as error:
        _refuse(rule, slot, error)
        return slot
    slot.operation_number = operation.number
    slot.save(update_fields=["operation_number"])
    stamp_run(rule, operation)
    resolve_alert(organization=rule.organization, dedup_key=f"rule_refused:{rule.pk}")
    logger.info("rule.fired", extra={"rule_id": rule.pk, "operation_id": operation.pk, "due_at": due_at.isoformat()})
    return slot


def _refuse(rule: CleanupRule, slot: DueSlot, error: DomainError) -> None:
    slot.state, slot.detail = DueSlot.State.REFUSED, error.detail
    slot.save(update_fields=["state", "detail"])
    if not isinstance(error, GroupMissing | ViewChanged):  # which raised an alert of their own
        raise_alert(
            organization=rule.organization,
            kind="rule_refused",
            severity="error",
            title=f"{rule.name} did not run",
            detail=f"It was due at {slot.due_at:%Y-%m-%d %H:%M} UTC. {error.detail}",
            link=f"/o/{rule.organization.slug}/rules/{rule.pk}/edit/",
            dedup_key=f"rule_refused:{rule.pk}",
        )
    _record(rule, "rule.refused", slot.due_at, error.detail)
    logger.warning("rule.refused", extra={"rule_id": rule.pk, "code": error.code})


def _report_missed(rule: CleanupRule, slots: Sequence[datetime]) -> None:
    """Rows, an audit row and an alert for slots that went by too long ago to be made up for."""
    if not slots:
        return
    detail = "AUM was not running at that time, and noticed too late to make up for it."
    DueSlot.objects.bulk_create(
        [
            DueSlot(organization=rule.organization, rule=rule, due_at=at, state=DueSlot.State.MISSED, detail=detail)
            for at in slots
        ],
        ignore_conflicts=True,
        batch_size=1000,
    )
    times = f"at {slots[0]:%Y-%m-%d %H:%M} UTC"
    if len(slots) > 1:
        times = f"{len(slots)} times, from {slots[0]:%Y-%m-%d %H:%M} to {slots[-1]:%Y-%m-%d %H:%M} UTC"
    raise_alert(
        organization=rule.organization,
        kind="rule_missed",
        severity="error",
        title=f"{rule.name} should have run and did not",
        detail=f"It was due {times}. {detail} Use Run now, or wait for its next time.",
        link=f"/o/{rule.organization.slug}/rules/{rule.pk}/edit/",
        dedup_key=f"rule_missed:{rule.pk}",
    )
    _record(rule, "rule.missed", slots[-1], f"Due {times}. {detail}")
    logger.warning("rule.missed", extra={"rule_id": rule.pk, "slots": len(slots)})


def _record(rule: CleanupRule, action: str, due_at: datetime, reason: str) -> None:
    record(
        organization=rule.organization,
        actor=Actor.scheduler(),
        action=action,
        target_kind="rule",
        target_ref=str(rule.pk),
        target_name=rule.name,
        outcome="warning",
        reason=reason,
        after={"due_at": due_at.isoformat()},
        rule_id=rule.pk,
        rule_name=rule.name,
        rule_version=rule.version,
    )
