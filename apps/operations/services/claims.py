"""Taking items for work: chunks under a lease, brakes counted under a row lock, all that stops a run read first."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q

from apps.operations.models import BrakeState, Operation, OperationItem
from apps.operations.selection import Limits
from apps.operations.selectors import DONE, FAILED
from apps.operations.services import finishing
from apps.operations.services.gate import Brakes, takes_access, used_in_last_day
from apps.organizations.selectors import connection_state, is_copy, pause_until
from apps.users.selectors import data_trust
from aum.common.clock import database_now

logger = logging.getLogger(__name__)

Status = OperationItem.Status
# A failure share is only told from a run that has tried this many people.
FAILURES_FROM = 20


@dataclass(frozen=True)
class Claim:
    """A chunk of items under one lease token; or why there is none: `wait_seconds` until asking again makes sense."""

    token: uuid.UUID
    items: tuple[OperationItem, ...] = ()
    wait_seconds: float = 0.0
    is_over: bool = False


def lease() -> timedelta:
    """How long claimed items belong to their worker without a sign of life."""
    return timedelta(seconds=settings.AUM_ITEM_LEASE_SECONDS)


@transaction.atomic
def claim_chunk(operation_id: int, size: int) -> Claim:
    """Up to `size` items to go, marked as claimed; reads kill switch, pause, trust and brakes first (DECISIONS.md §12).

    A brake that trips here holds the rest of the run.
    """
    token = uuid.uuid4()
    operation = Operation.objects.select_related("organization").get(pk=operation_id)
    organization = operation.organization
    if operation.status not in Operation.WORKING:
        return Claim(token, is_over=True)
    takes = takes_access(operation)
    if takes:
        BrakeState.objects.get_or_create(organization=organization)
        BrakeState.objects.select_for_update().get(organization=organization)
    now = database_now()
    if organization.is_killed or is_copy():
        wait(operation.pk, None, "The kill switch is on. Nothing is written until an owner releases it.")
        return Claim(token, is_over=True)
    if not connection_state(organization).is_usable:
        wait(
            operation.pk,
            None,
            "Atlassian does not accept the saved credentials. The run goes on once they are replaced.",
        )
        return Claim(token, is_over=True)
    until = pause_until(organization)
    if until is not None and until > now:
        wait(operation.pk, until, "Atlassian asked AUM to slow down. The run continues by itself.")
        return Claim(token, wait_seconds=(until - now).total_seconds())
    allowed = size
    if takes:
        trust = data_trust(organization)
        if not trust.ok:
            hold_rest(operation, "data_trust", " ".join(trust.reasons))
            return Claim(token, is_over=True)
        allowed = _allowed_by_day(operation, size, now)
        if allowed <= 0 and _has_pending(operation):
            hold_rest(operation, "per_day", f"The daily limit of {organization.max_per_day:,} people is used up.")
            return Claim(token, is_over=True)
    if _fails_too_often(operation):
        hold_rest(
            operation, "failures", f"More than {organization.max_failure_percent} % failed, so the run stopped itself."
        )
        return Claim(token, is_over=True)
    pks = _take(operation, token, max(allowed, 0), now)
    if not pks:
        return Claim(token)
    Operation.objects.filter(pk=operation.pk, status__in=Operation.WORKING).update(
        status=Operation.Status.RUNNING,
        status_detail="",
        waiting_until=None,
        started_at=operation.started_at or now,
        driven_at=now,
    )
    items = (
        OperationItem.objects.filter(pk__in=pks).select_related("account", "operation", "organization").order_by("id")
    )
    return Claim(token, tuple(items))


def _has_pending(operation: Operation) -> bool:
    return operation.items.filter(status=Status.PENDING).exists()


def _allowed_by_day(operation: Operation, size: int, now: datetime) -> int:
    """How many people the rolling day still allows; an approved plan is free of it but counts."""
    if operation.is_approved:
        return size
    brakes = Brakes.of(operation.organization, Limits.from_json(operation.frozen.get("limits", {})))
    return min(size, brakes.max_per_day - used_in_last_day(operation.organization, now))


def _fails_too_often(operation: Operation) -> bool:
    """Whether the share of failures among those tried passes the limit. An approval of the rest lifts it."""
    if operation.is_approved and any(reason["code"] == "failures" for reason in operation.held_reasons):
        return False
    counts = finishing.outcome_counts(operation)
    failed = sum(counts.get(outcome, 0) for outcome in FAILED)
    tried = failed + sum(counts.get(outcome, 0) for outcome in DONE)
    return tried >= FAILURES_FROM and failed * 100 > operation.organization.max_failure_percent * tried


def _take(operation: Operation, token: uuid.UUID, size: int, now: datetime) -> list[int]:
    """Claim in the fixed order: an item waits until every earlier one of the same person is finished.

    The rows are chosen once, by a materialised CTE: as a subquery of IN, PostgreSQL may choose anew for each row that
    it looks at, skip those that this statement took already, and so take more than `size`.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH chosen AS MATERIALIZED (
                   SELECT i.id FROM operations_operationitem i
                   WHERE i.operation_id = %s AND i.status = 'pending'
                     AND (i.next_read_at IS NULL OR i.next_read_at <= %s)
                     AND NOT EXISTS (SELECT 1 FROM operations_operationitem e
                                     WHERE e.operation_id = i.operation_id AND e.subject = i.subject
                                       AND e.rank < i.rank AND e.status <> 'finished')
                   ORDER BY i.rank, i.id LIMIT %s FOR UPDATE SKIP LOCKED)
               UPDATE operations_operationitem i
               SET status = 'claimed', lease_token = %s, lease_until = %s, claimed_at = %s
               FROM chosen WHERE i.id = chosen.id RETURNING i.id""",
            [operation.pk, now, size, token, now + lease(), now],
        )
        return [row[0] for row in cursor.fetchall()]


def wait(operation_id: int, until: datetime | None, sentence: str) -> None:
    """Show that the run waits, until when and for what; it goes on by itself."""
    Operation.objects.filter(pk=operation_id, status__in=Operation.WORKING).update(
        status=Operation.Status.WAITING, waiting_until=until, status_detail=sentence
    )


def hold_rest(operation: Operation, code: str, sentence: str) -> None:
    """Hold what is left; going on needs an approval of exactly the rest (DECISIONS.md §10)."""
    now = database_now()
    operation.held_reasons = [{"code": code, "sentence": sentence}]
    changed = Operation.objects.filter(pk=operation.pk, status__in=Operation.WORKING).update(
        status=Operation.Status.HELD,
        held_reasons=operation.held_reasons,
        is_approved=False,
        status_detail=sentence,
        # A plan that wrote something does not expire: its rest waits for a person.
        expires_at=None if operation.first_write_at else now + timedelta(days=operation.organization.held_plan_days),
    )
    if changed:
        finishing.announce_hold(operation)


def may_write(item: OperationItem, token: uuid.UUID) -> bool:
    """Just before the call, in one guarded update: the lease is ours and lasts, the run runs, no kill switch.

    From then on the item's effect is read, never guessed. Pause, stop and kill switch take effect here, within one
    call per worker.
    """
    now = database_now()
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE operations_operationitem i
               SET written_at = %s, attempts = i.attempts + 1, lease_until = %s, is_answered = false, doubt_reads = 0
               FROM operations_operation o JOIN organizations_organization g ON g.id = o.organization_id
               WHERE i.id = %s AND i.lease_token = %s AND i.lease_until > %s AND i.status = 'claimed'
                 AND o.id = i.operation_id AND o.status IN ('running', 'queued', 'waiting')
                 AND g.kill_switch_at IS NULL""",
            [now, now + lease(), item.pk, token, now],
        )
        if not cursor.rowcount:
            return False
    item.written_at = now
    item.attempts += 1
    return True


def release(items: Sequence[OperationItem], token: uuid.UUID, *, delay_seconds: float = 0.0) -> None:
    """Give items back that were not written: they are to go again, after a delay where one is given."""
    later = database_now() + timedelta(seconds=delay_seconds) if delay_seconds else None
    OperationItem.objects.filter(pk__in=[item.pk for item in items], lease_token=token, status=Status.CLAIMED).update(
        status=Status.PENDING, lease_token=None, lease_until=None, written_at=None, next_read_at=later
    )


def put_in_doubt(item: OperationItem, token: uuid.UUID, *, is_answered: bool, seconds: float, **ids: Any) -> None:
    """The item's effect has to be read from Atlassian, first in `seconds`."""
    OperationItem.objects.filter(pk=item.pk, lease_token=token).update(
        status=Status.IN_DOUBT,
        is_answered=is_answered,
        lease_token=None,
        lease_until=None,
        next_read_at=database_now() + timedelta(seconds=seconds),
        **ids,
    )


def recover_expired(operation_id: int) -> None:
    """Items of a worker that is gone: unwritten ones are to go again, written ones are in doubt."""
    now = database_now()
    expired = OperationItem.objects.filter(operation_id=operation_id, status=Status.CLAIMED, lease_until__lt=now)
    expired.filter(written_at__isnull=True).update(status=Status.PENDING, lease_token=None, lease_until=None)
    expired.filter(written_at__isnull=False).update(
        status=Status.IN_DOUBT,
        lease_token=None,
        lease_until=None,
        next_read_at=F("written_at") + timedelta(seconds=settings.AUM_READ_BACK_DELAY_SECONDS),
    )


@transaction.atomic
def claim_doubts(operation_id: int, size: int) -> Claim:
    """Items in doubt whose next reading is due, under a lease."""
    token, now = uuid.uuid4(), database_now()
    due = list(
        OperationItem.objects.select_for_update(skip_locked=True, of=("self",))
        .filter(operation_id=operation_id, status=Status.IN_DOUBT, next_read_at__lte=now)
        .filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now))
        .order_by("next_read_at", "id")
        .values_list("pk", flat=True)[:size]
    )
    if not due:
        return Claim(token)
    OperationItem.objects.filter(pk__in=due).update(lease_token=token, lease_until=now + lease())
    items = (
        OperationItem.objects.filter(pk__in=due).select_related("account", "operation", "organization").order_by("id")
    )
    return Claim(token, tuple(items))


def seconds_to_next(operation_id: int) -> float | None:
    """Seconds until something of the operation is due again; None when nothing is open."""
    now = database_now()
    rows = OperationItem.objects.filter(operation_id=operation_id).exclude(status=Status.FINISHED)
    nexts: list[float] = []
    for status, next_read_at, lease_until in rows.values_list("status", "next_read_at", "lease_until")[:2000]:
        if status == Status.CLAIMED:
            nexts.append((lease_until - now).total_seconds() if lease_until else 0.0)
        else:
            nexts.append(max(0.0, (next_read_at - now).total_seconds()) if next_read_at else 0.0)
    return min(nexts) if nexts else None
