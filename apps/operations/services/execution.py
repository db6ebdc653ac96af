"""Running a live plan: claim, read again, write, read back, record. Rows are the truth; any process may die any time.

docs/decisions/0007-execution.md explains leases, doubt and why a second driver is harmless.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from apps.operations import planning
from apps.operations.actions import REGISTRY, Action, Fresh, RemoveProductAccess, Target
from apps.operations.models import Operation, OperationItem, RunDriver
from apps.operations.services import claims, finishing, invites
from apps.operations.services.approvals import approval_hash
from apps.operations.services.drivers import Seat
from apps.operations.services.outcomes import Result, finish_items
from apps.operations.services.reading import Reading, target_of
from apps.operations.services.rechecks import decide, other_paths
from apps.operations.services.undo import compare_with_before
from apps.organizations.services import client_for, unusable_credentials
from aum.atlassian.client import MAX_INVITES, AtlassianClient
from aum.atlassian.errors import (
    AtlassianError,
    Conflict,
    Forbidden,
    LostAnswer,
    NotFound,
    RateLimited,
    Unauthorized,
    Unavailable,
    WaitTooLong,
)
from aum.atlassian.transport import starting_before
from aum.common.clock import database_now
from aum.common.errors import DomainError
from aum.common.tasks import enqueue, enqueue_again

logger = logging.getLogger(__name__)

Outcome = OperationItem.Outcome
Status = OperationItem.Status

CHUNK_PER_CALL = 5
RECHECK_SECONDS = 55.0
# So many chunks in a row that had to be given back, before the run gives its worker to others.
TROUBLED_CHUNKS = 3
# A helper gives its worker back to others after so long.
HELP_SECONDS = 60.0
SEAT_WAIT_SECONDS = 0.2
MAX_ATTEMPTS = 5
MAX_DOUBT_READS = 10
MAX_DOUBT = timedelta(hours=24)
MAX_READ_GAP_SECONDS = 3 * 3600.0


@dataclass
class Written:
    """What became of one item's call. Without `result` its effect is to be read: at once when it was answered."""

    item: OperationItem
    is_answered: bool = False
    was_already: bool = False
    result: Result | None = None
    ids: dict[str, str] = field(default_factory=dict)
    # Of an invitation: the account that Atlassian named, and whether it said to have given everything.
    account_id: str | None = None
    is_granted: bool = False


@dataclass
class Pause:
    """Why a chunk stopped: until when nothing is to be sent, and what to say. `is_told`: Atlassian said how long."""

    seconds: float
    sentence: str
    is_told: bool = False


def execute_operation(operation_id: int, *, budget_seconds: float = 900.0) -> None:
    """Drive a live operation until it ends, waits, or the budget is spent (then a task goes on). Safe to call twice."""
    if not _become_driver(operation_id):
        return
    deadline = time.monotonic() + budget_seconds
    operation = Operation.objects.select_related("organization").get(pk=operation_id)
    go_on = False
    if operation.first_write_at is None and not _is_as_frozen(operation):
        Operation.objects.filter(pk=operation_id).update(driven_at=None)
        return
    try:
        with client_for(operation.organization) as client:
            go_on = _drive(operation, client, deadline)
    except DomainError as error:
        # No credentials, or none that can be read: the run waits for a person, and the sweep looks again.
        claims.wait(operation_id, database_now() + timedelta(seconds=60), error.detail)
    finally:
        Operation.objects.filter(pk=operation_id).update(driven_at=None)
    if go_on:
        enqueue("operations.execute", operation_id=operation_id)


def _is_as_frozen(operation: Operation) -> bool:
    """Before the first write: the rows are those that were frozen, and approved; else the run is held (B10)."""
    if operation.status not in Operation.WORKING:
        return True
    sentence = ""
    if planning.freeze(operation)[0] != operation.plan_hash:
        sentence = "The rows of this plan are not those that were frozen. Reject it and make a new plan."
    elif operation.is_approved:
        approval = operation.approvals.first()
        if approval is None or approval.plan_hash != approval_hash(operation)[0]:
            sentence = "This is not what was approved. It needs an approval of what it holds now."
    if not sentence:
        return True
    claims.hold_rest(operation, "plan_changed", sentence)
    return False


def _become_driver(operation_id: int) -> bool:
    """Mark the operation as driven. Several drivers are harmless (items are leased), but one is enough."""
    now = database_now()
    stale = now - timedelta(seconds=settings.AUM_DRIVER_SECONDS)
    return bool(
        Operation.objects.filter(pk=operation_id, mode=Operation.Mode.LIVE)
        .filter(Q(driven_at__isnull=True) | Q(driven_at__lt=stale))
        .exclude(status=Operation.Status.PLANNING)
        .update(driven_at=now)
    )


def _drive(operation: Operation, client: AtlassianClient, deadline: float) -> bool:
    """True when the budget is spent and work is left."""
    troubled = 0
    with Seat(operation, leads=True) as seat:
        while time.monotonic() < deadline:
            Operation.objects.filter(pk=operation.pk).update(driven_at=database_now())
            pool = seat.pool()
            if pool is None:
                time.sleep(SEAT_WAIT_SECONDS)
                continue
            claims.recover_expired(operation.pk)
            resolve_doubts(operation, client, pool)
            claim = claims.claim_chunk(operation.pk, _chunk_size(operation, seat))
            if claim.items:
                pause = _work(operation, client, claim, pool)
                troubled = 0 if pause is None or pause.is_told else troubled + 1
                if pause is not None:
                    _show_wait(operation, pause)
                elif seat.drivers < settings.AUM_RUN_DRIVERS and _is_worth_help(operation):
                    enqueue_again("operations.help", operation_id=operation.pk)
                if troubled >= TROUBLED_CHUNKS:
                    # Others need this worker meanwhile; the sweep takes the run up when its wait is over.
                    return False
                continue
            if _finish(operation):
                return False
            if seat.drivers > 1:
                # What a helper has in hand is not waited for by anybody else.
                time.sleep(SEAT_WAIT_SECONDS)
                continue
            seconds = claim.wait_seconds or claims.seconds_to_next(operation.pk)
            if seconds is None or seconds > 5.0 or (claim.is_over and not _has_doubts(operation)):
                return False
            time.sleep(min(max(seconds, 0.05), 5.0))
    return True


def _chunk_size(operation: Operation, seat: Seat) -> int:
    return seat.slots * (MAX_INVITES if operation.action == "invite" else CHUNK_PER_CALL)


def _is_worth_help(operation: Operation) -> bool:
    """Whether calls can be shared, and more is left than all of them at once would do in two chunks."""
    calls = operation.organization.calls_in_flight
    if calls < 2:
        return False
    enough = 2 * CHUNK_PER_CALL * calls
    left = operation.items.filter(status=Status.PENDING).order_by("rank", "id").values("pk")[:enough]
    return left.count() == enough


def help_operation(operation_id: int, *, budget_seconds: float = HELP_SECONDS) -> None:
    """Work beside the run's leader for a minute, or until nothing is to be claimed. Safe to call at any time.

    Whatever is more than claiming and writing chunks is the leader's: a run without one is not helped.
    """
    deadline = time.monotonic() + budget_seconds
    operation = Operation.objects.select_related("organization").filter(pk=operation_id).first()
    if operation is None:
        return
    try:
        with client_for(operation.organization) as client, Seat(operation, leads=False) as seat:
            while time.monotonic() < deadline and _is_led(operation):
                pool = seat.pool()
                if seat.drivers > settings.AUM_RUN_DRIVERS:
                    return  # asked for twice
                if pool is None:
                    time.sleep(SEAT_WAIT_SECONDS)
                    continue
                claim = claims.claim_chunk(operation.pk, _chunk_size(operation, seat))
                if not claim.items or _work(operation, client, claim, pool) is not None:
                    return
    except DomainError:
        return  # no credentials: the leader says so


def _is_led(operation: Operation) -> bool:
    """Whether the run has begun to write, and somebody drives it."""
    alive = database_now() - timedelta(seconds=settings.AUM_DRIVER_SECONDS)
    led = Operation.objects.filter(pk=operation.pk, mode=Operation.Mode.LIVE, status=Operation.Status.RUNNING)
    return led.filter(driven_at__gt=alive, first_write_at__isnull=False).exists()


def _has_doubts(operation: Operation) -> bool:
    return operation.items.filter(status=Status.IN_DOUBT).exists()


def _show_wait(operation: Operation, pause: Pause) -> None:
    claims.wait(operation.pk, database_now() + timedelta(seconds=pause.seconds), pause.sentence)
    time.sleep(min(pause.seconds, 2.0))


def _finish(operation: Operation) -> bool:
    """Close the operation when every item has its outcome."""
    if not Operation.objects.filter(pk=operation.pk, status__in=Operation.OPEN).exists():
        # Given back after the run was stopped: nobody takes them up any more.
        finishing.finish_pending(operation, Outcome.CANCELLED, "The run was stopped before this was done.")
    if operation.items.exclude(status=Status.FINISHED).exists():
        return False
    if operation.is_undo and operation.verification is None:
        compare_with_before(operation)
    counts = finishing.outcome_counts(operation)
    if not finishing.close(operation, finishing.status_of(counts), ""):
        # Stopped earlier: its counts still have to include what was under way then.
        Operation.objects.filter(pk=operation.pk).exclude(status__in=Operation.OPEN).update(outcomes=counts)
    return True


# --- one chunk ------------------------------------------------------------------------------------------------------


def _work(operation: Operation, client: AtlassianClient, claim: claims.Claim, pool: ThreadPoolExecutor) -> Pause | None:
    """Recheck, write and read back one chunk. Returns why the run has to wait, if it has to."""
    items = list(claim.items)
    reading = invites.reading_for(operation, items)
    try:
        reading.read(client, pool, with_roles=_with_roles(items))
    except AtlassianError as error:
        return _give_back(operation, items, claim, error)
    with transaction.atomic():
        reading.mirror()
        results = decide(operation, items, reading)
        finish_items(operation, claim.token, [(item, results[item.pk]) for item in items if item.pk in results])
    to_write = [item for item in items if item.pk not in results]
    for item in to_write:
        item.before = reading.fresh(item.subject).as_before()
    if not to_write:
        return None
    if operation.first_write_at is None:
        operation.first_write_at = timezone.now()
        Operation.objects.filter(pk=operation.pk, first_write_at__isnull=True).update(
            first_write_at=operation.first_write_at, expires_at=None
        )
    _store_before(to_write, claim)
    if operation.action == "invite":
        sending = invites.send(client, claim, to_write, pool)
        _settle(operation, client, claim, [_of_invite(one) for one in sending.sent], pool)
        return None if sending.error is None else _give_back(operation, [], claim, sending.error)
    pauses: list[Pause] = []
    # Items of one person follow each other; different people go side by side.
    written = [
        one
        for some in pool.map(_threaded(operation, client, claim, reading, pauses), _by_person(to_write))
        for one in some
    ]
    _settle(operation, client, claim, written, pool)
    return pauses[0] if pauses else None


def _of_invite(sent: invites.Sent) -> Written:
    return Written(
        sent.item,
        is_answered=sent.is_answered,
        result=sent.result,
        ids=sent.ids,
        account_id=sent.account_id,
        is_granted=sent.is_granted,
    )


def _with_roles(items: Sequence[OperationItem]) -> list[str]:
    return sorted({item.subject for item in items if REGISTRY[item.action].reads_roles})


def _by_person(items: Sequence[OperationItem]) -> list[list[OperationItem]]:
    people: dict[str, list[OperationItem]] = {}
    for item in items:
        people.setdefault(item.subject, []).append(item)
    return list(people.values())


def _store_before(items: Sequence[OperationItem], claim: claims.Claim) -> None:
    """Keep the state before the write, once: a second attempt must not overwrite it with the half-done one."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE operations_operationitem i SET before = v.before
               FROM unnest(%s::bigint[], %s::jsonb[]) AS v(id, before)
               WHERE i.id = v.id AND i.lease_token = %s AND i.before IS NULL""",
            [[item.pk for item in items], [json.dumps(item.before) for item in items], claim.token],
        )


def _give_back(
    operation: Operation, items: Sequence[OperationItem], claim: claims.Claim, error: AtlassianError
) -> Pause:
    """Nothing of this chunk was sent: release it and say what the run waits for."""
    claims.release(items, claim.token)
    if isinstance(error, Unauthorized):
        unusable_credentials(organization=operation.organization, detail=_said(error))
        return Pause(5.0, "Atlassian does not accept the saved credentials.")
    return _pause_for(error)


def _said(error: AtlassianError) -> str:
    """What Atlassian said and what to do about it, as two sentences."""
    return f"{error.detail.strip().rstrip('.')}. {error.advice}"


def _pause_for(error: AtlassianError) -> Pause:
    if isinstance(error, RateLimited | WaitTooLong):
        sentence = "Atlassian asked AUM to slow down. The run continues by itself."
        return Pause(max(error.wait_seconds, 0.2), sentence, is_told=True)
    return Pause(5.0, "Atlassian could not be reached. The run continues by itself; nothing was lost.")


def _threaded(
    operation: Operation, client: AtlassianClient, claim: claims.Claim, reading: Reading, pauses: list[Pause]
) -> Callable[[list[OperationItem]], list[Written]]:
    def work(items: list[OperationItem]) -> list[Written]:
        try:
            return [
                written
                for item in items
                if (written := _write_one(operation, client, claim, reading, item, pauses)) is not None
            ]
        finally:
            connection.close()

    return work


def _write_one(
    operation: Operation,
    client: AtlassianClient,
    claim: claims.Claim,
    reading: Reading,
    item: OperationItem,
    pauses: list[Pause],
) -> Written | None:
    """One item's calls. None when it was given back: paused, stopped, too late after the recheck, or nothing sent."""
    too_old = (timezone.now() - reading.read_at).total_seconds() > RECHECK_SECONDS
    # Counted from before the lease is renewed: whoever is frozen beyond it sends nothing when it wakes.
    latest_start = time.monotonic() + claims.lease().total_seconds()
    if pauses or too_old or not claims.may_write(item, claim.token):
        claims.release([item], claim.token)
        return None
    action = REGISTRY[item.action]
    try:
        with starting_before(latest_start):
            if isinstance(action, RemoveProductAccess):
                return _write_paths(operation, client, claim, reading, item, action, pauses)
            answer = action.call(client, target_of(item))
    except AtlassianError as error:
        return _after_error(operation, claim, item, error, pauses)
    return Written(item, is_answered=True, was_already=answer.already, ids=_ids(answer.request_id, answer.call_id))


def _ids(request_id: str | None, call_id: str) -> dict[str, str]:
    return {"atlassian_request_id": request_id or "", "call_id": call_id}


def _after_error(
    operation: Operation, claim: claims.Claim, item: OperationItem, error: AtlassianError, pauses: list[Pause]
) -> Written | None:
    """What an error means for the item: finished with a reason, to be read, or given back because nothing was sent."""
    ids = _ids(error.request_id, error.call_id)
    if isinstance(error, LostAnswer):
        return Written(item, is_answered=False, ids=ids)
    if isinstance(error, RateLimited | WaitTooLong | Unavailable | Unauthorized):
        pauses.append(_give_back(operation, [item], claim, error))
        return None
    if isinstance(error, NotFound):
        # Already gone, or no such target: only the state tells which (API.md §2).
        return Written(item, is_answered=True, ids=ids)
    if isinstance(error, Conflict):
        if error.licence_limit:
            return Written(item, result=Result(Outcome.FAILED_LICENCE_LIMIT, error.advice), ids=ids)
        return Written(item, is_answered=True, was_already=True, ids=ids)
    if isinstance(error, Forbidden) and error.managed_elsewhere:
        return Written(item, result=Result(Outcome.HANDED_OFF, _said(error)), ids=ids)
    return Written(item, result=Result(Outcome.FAILED, f"{_said(error)} [{error.code}]"), ids=ids)


def _write_paths(
    operation: Operation,
    client: AtlassianClient,
    claim: claims.Claim,
    reading: Reading,
    item: OperationItem,
    action: RemoveProductAccess,
    pauses: list[Pause],
) -> Written | None:
    """All paths of one product on one site, or none: what was changed is put back when a later path is refused.

    Where Atlassian only asks to wait, cannot be reached, or does not know the key any more, what is left follows later.
    """
    target, fresh = target_of(item), reading.fresh(item.subject)
    changed: list[Mapping[str, str]] = []
    ids: dict[str, str] = {}
    for path in target.paths:
        if action.path_is_so(path, fresh):
            continue
        if changed and not claims.may_write(item, claim.token):
            # Stopped between two paths: what is half done is told by reading, and finished or left from there.
            return Written(item, is_answered=False, ids=ids)
        try:
            answer = action.call_path(client, target, path)
        except LostAnswer as error:
            return Written(item, is_answered=False, ids=_ids(error.request_id, error.call_id))
        except AtlassianError as error:
            if isinstance(error, NotFound) or (isinstance(error, Conflict) and error.already_member):
                continue
            if isinstance(error, RateLimited | WaitTooLong | Unavailable | Unauthorized):
                pauses.append(_give_back(operation, [] if changed else [item], claim, error))
                return Written(item, is_answered=False, ids=ids) if changed else None
            return Written(item, result=_put_back(client, target, action, changed, error), ids=ids)
        changed.append(path)
        ids = _ids(answer.request_id, answer.call_id)
    return Written(item, is_answered=True, ids=ids)


def _put_back(
    client: AtlassianClient,
    target: Target,
    action: RemoveProductAccess,
    changed: Sequence[Mapping[str, str]],
    error: AtlassianError,
) -> Result:
    """Undo the paths that were changed before `error`; says so, or names what is left changed."""
    inverse = REGISTRY[action.inverse or ""]
    assert isinstance(inverse, RemoveProductAccess)
    left: list[str] = []
    for path in reversed(changed):
        try:
            inverse.call_path(client, target, path)
        except AtlassianError:
            left.append(path.get("name") or path.get("role", ""))
    if left:
        return Result(
            Outcome.UNRESOLVED,
            f"{error.detail.rstrip('.')}. Changed before that and not put back: {', '.join(left)}. "
            "Check this person in Atlassian.",
        )
    outcome = Outcome.FAILED
    if isinstance(error, Forbidden) and error.managed_elsewhere:
        outcome = Outcome.HANDED_OFF
    elif isinstance(error, Conflict) and error.licence_limit:
        outcome = Outcome.FAILED_LICENCE_LIMIT
    return Result(outcome, f"{_said(error)} Nothing was changed.")


# --- after the calls ------------------------------------------------------------------------------------------------


def _settle(
    operation: Operation,
    client: AtlassianClient,
    claim: claims.Claim,
    written: Sequence[Written],
    pool: ThreadPoolExecutor,
) -> None:
    """Read answered items back and give each its outcome; what cannot be told yet is in doubt."""
    delay = settings.AUM_READ_BACK_DELAY_SECONDS
    final = [(one.item, _with_ids(one.result, one.ids)) for one in written if one.result is not None]
    answered = [one for one in written if one.result is None and one.is_answered]
    for one in written:
        if one.result is None and not one.is_answered:
            claims.put_in_doubt(one.item, claim.token, is_answered=False, seconds=delay, **one.ids)
    reading = invites.reading_for(operation, [one.item for one in answered])
    if isinstance(reading, invites.InviteReading):
        reading.ids = {one.item.subject: one.account_id for one in answered if one.account_id}
        reading.granted = {one.item.subject for one in answered if one.is_granted}
    try:
        if answered:
            reading.read(client, pool, with_roles=_with_roles([one.item for one in answered]))
    except AtlassianError:
        for one in answered:
            claims.put_in_doubt(one.item, claim.token, is_answered=True, seconds=delay, **one.ids)
        answered = []
    with transaction.atomic():
        reading.mirror(overrides_pending=True)
        for one in answered:
            result = read_back(one.item, reading, was_already=one.was_already)
            if result is None:
                claims.put_in_doubt(one.item, claim.token, is_answered=True, seconds=delay, **one.ids)
            else:
                final.append((one.item, _with_ids(result, one.ids)))
        finish_items(operation, claim.token, final)


def _with_ids(result: Result, ids: Mapping[str, str]) -> Result:
    result.ids.update(ids)
    return result


def read_back(item: OperationItem, reading: Reading, *, was_already: bool = False) -> Result | None:
    """The outcome that the state read from Atlassian proves; None when it proves none yet."""
    action, target = REGISTRY[item.action], target_of(item)
    fresh = reading.fresh(item.subject)
    if not fresh.exists:
        if action.name == "invite":
            return None  # not to be seen yet
        gone = action.name in ("remove_from_directory", "cancel_invite", "delete")
        return Result(Outcome.DONE if gone else Outcome.SKIPPED_GONE, "" if gone else "No longer in Atlassian.")
    state = action.is_so(target, fresh)
    if not state:
        return None
    kept = _kept_path(item, action)
    if kept:
        return Result(Outcome.NO_EFFECT_SEAT_KEPT, kept, after=fresh.as_before())
    return Result(Outcome.ALREADY_SO if was_already else Outcome.DONE, "", after=fresh.as_before())


def _kept_path(item: OperationItem, action: Action) -> str:
    """Another path that still gives the product after all planned ones were left; empty when none does."""
    if action.name != "remove_product_access" or item.account is None:
        return ""
    return other_paths(item)


def resolve_doubts(operation: Operation, client: AtlassianClient, pool: ThreadPoolExecutor) -> None:
    """Read the items in doubt that are due. A lost write is repeated only when its effect is surely absent (P7)."""
    claim = claims.claim_doubts(operation.pk, 50)
    if not claim.items:
        return
    reading = invites.reading_for(operation, claim.items)
    try:
        reading.read(client, pool, with_roles=_with_roles(claim.items))
    except AtlassianError as error:
        logger.warning("operation.doubt_unreadable", extra={"operation_id": operation.pk, "code": error.code})
        for item in claim.items:
            _read_later(item, claim, counted=False)
        return
    with transaction.atomic():
        reading.mirror(overrides_pending=True)
        final: list[tuple[OperationItem, Result]] = []
        for item in claim.items:
            result = read_back(item, reading)
            if result is not None:
                final.append((item, result))
            elif _is_surely_absent(item):
                _write_again(item, claim, reading.fresh(item.subject))
            else:
                _read_later(item, claim, counted=True)
        finish_items(operation, claim.token, final)


def _is_surely_absent(item: OperationItem) -> bool:
    """A write without an answer, not visible after the time that reads may lag behind writes."""
    assert item.written_at is not None
    delay = timedelta(seconds=settings.AUM_READ_BACK_DELAY_SECONDS)
    return not item.is_answered and database_now() - item.written_at >= delay


def _write_again(item: OperationItem, claim: claims.Claim, fresh: Fresh) -> None:
    """Back to the items to go (`_finish` ends them if the run was stopped), unless a person has to decide."""
    item.is_half_done = _is_half_done(item, fresh)
    if item.attempts >= MAX_ATTEMPTS:
        result = Result(Outcome.FAILED, f"No effect after {item.attempts} attempts. Try again later.")
        finish_items(item.operation, claim.token, [(item, result)])
        return
    OperationItem.objects.filter(pk=item.pk, lease_token=claim.token, status=Status.IN_DOUBT).update(
        status=Status.PENDING,
        lease_token=None,
        lease_until=None,
        written_at=None,
        next_read_at=None,
        is_half_done=item.is_half_done,
    )


def _is_half_done(item: OperationItem, fresh: Fresh) -> bool:
    """Whether some of the paths of a product are changed already, and others not yet."""
    action = REGISTRY[item.action]
    if not isinstance(action, RemoveProductAccess):
        return False
    return any(action.path_is_so(path, fresh) for path in target_of(item).paths)


def _read_later(item: OperationItem, claim: claims.Claim, *, counted: bool) -> None:
    """Read again after a growing gap; after a day or ten readings nobody guesses: unresolved."""
    reads = item.doubt_reads + (1 if counted else 0)
    since: datetime = item.written_at or item.claimed_at or database_now()
    if reads >= MAX_DOUBT_READS or database_now() - since > MAX_DOUBT:
        finish_items(
            item.operation,
            claim.token,
            [
                (
                    item,
                    Result(
                        Outcome.UNRESOLVED,
                        "Atlassian accepted or lost the call, and its effect cannot be seen. Check this person there.",
                    ),
                )
            ],
        )
        return
    gap = min(settings.AUM_READ_BACK_DELAY_SECONDS * 2**reads, MAX_READ_GAP_SECONDS)
    OperationItem.objects.filter(pk=item.pk, lease_token=claim.token).update(
        lease_token=None, lease_until=None, doubt_reads=reads, next_read_at=database_now() + timedelta(seconds=gap)
    )


# --- what the sweep finds -------------------------------------------------------------------------------------------


def sweep() -> None:
    """Take up what a dead worker or a lost message left: plans, runs, doubts; expire held plans. Every 15 seconds."""
    now = database_now()
    stale = now - timedelta(seconds=settings.AUM_DRIVER_SECONDS)
    undriven = Q(driven_at__isnull=True) | Q(driven_at__lt=stale)
    for pk in Operation.objects.filter(undriven, status=Operation.Status.PLANNING).values_list("pk", flat=True):
        enqueue_again("operations.plan", operation_id=pk)
    for pk in forgotten_runs(now):
        enqueue_again("operations.execute", operation_id=pk)
    RunDriver.objects.filter(seen_at__lt=stale).delete()  # of drivers that died: they count no more
    for operation in Operation.objects.filter(status=Operation.Status.HELD, expires_at__lte=now):
        finishing.close(operation, Operation.Status.EXPIRED, "Nobody approved the plan in time.")


def forgotten_runs(now: datetime) -> set[int]:
    """Keys of the runs that have something to do and that nobody drives."""
    undriven = Q(driven_at__isnull=True) | Q(driven_at__lt=now - timedelta(seconds=settings.AUM_DRIVER_SECONDS))
    due = Q(waiting_until__isnull=True) | Q(waiting_until__lte=now)
    runs = Operation.objects.filter(undriven, due, status__in=Operation.WORKING, mode=Operation.Mode.LIVE)
    unfinished = OperationItem.objects.filter(
        Q(status=Status.IN_DOUBT, next_read_at__lte=now)
        | Q(status=Status.CLAIMED, lease_until__lte=now)
        # Given back after the run was stopped, by a worker that died before it ended them.
        | Q(status=Status.PENDING, operation__status=Operation.Status.CANCELLED)
    )
    doubtful = Operation.objects.filter(undriven, mode=Operation.Mode.LIVE, pk__in=unfinished.values("operation_id"))
    return {*runs.values_list("pk", flat=True), *doubtful.values_list("pk", flat=True)}
