"""Reading a whole directory into the mirror: one run per organisation at a time, resumable after a kill at any page.

`request_sync` makes a SyncRun, `run_sync` works on it under a lease: products and sites, directories, groups, what each
group grants, people page by page into staging, the count, and one merge. Each page is staged in the transaction that
moves the cursor, so after a kill the next worker goes on from there. The mirror changes in the last transaction only.
docs/decisions/0006-sync.md says why it is built so.
"""

from __future__ import annotations

import logging
import time
import uuid
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from apps.audit.services import record
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import FromFileOnly, raise_alert, reader_for, unusable_credentials
from apps.users.models import SyncRun
from apps.users.selectors.trust import latest_sync
from apps.users.services.staging import clear_staging
from apps.users.services.sync_file import FileReading
from apps.users.services.sync_reading import DirectoryReading
from apps.users.services.sync_work import LEASE, HandOn, LeaseLost, record_end
from aum.atlassian.errors import (
    AtlassianError,
    RateLimited,
    Unauthorized,
    Unavailable,
    WaitTooLong,
)
from aum.common.errors import DomainError
from aum.common.tasks import enqueue, enqueue_again, enqueue_on_commit, lease

logger = logging.getLogger(__name__)

# One call of run_sync works this long at most, then hands on: well under the broker's visibility time-out.
SLICE_SECONDS = 600.0
# Consecutive failures of the same step after which the run gives up.
MAX_FAILURES = 8
RETRY_SECONDS = (5, 15, 30, 60, 120, 240, 300, 300)


class SyncAlreadyRunning(DomainError):
    code = "sync_running"
    detail = "A sync of this organisation is already running."

    def __init__(self, sync_run: SyncRun) -> None:
        super().__init__()
        self.sync_run = sync_run


# --- asking for a sync ------------------------------------------------------------------------------------------------


def request_sync(
    *, organization: Organization, actor: Actor, initiator: str = "manual", exist_ok: bool = False
) -> SyncRun:
    """Queue a sync and return it.

    While one is open, `exist_ok` returns that one (its `was_open` is True), otherwise raises SyncAlreadyRunning, which
    carries it as `sync_run`. Two requests at once are told apart by a constraint, not by looking first. Raises
    FromFileOnly for an organisation that a file filled: there is nobody to ask.
    """
    if organization.is_from_file:
        raise FromFileOnly("This organisation comes from an export file. Upload a newer one, or connect it.")
    try:
        with transaction.atomic():
            run: SyncRun = SyncRun.objects.create(
                organization=organization, initiator=initiator, started_by=actor.name[:254]
            )
            record(
                organization=organization,
                actor=actor,
                action="sync.requested",
                target_kind="sync",
                target_ref=str(run.pk),
                target_name=str(run.pk),
            )
            enqueue_on_commit("users.sync", sync_run_id=run.pk)
    except IntegrityError:
        open_run: SyncRun | None = SyncRun.objects.of(organization).filter(status__in=SyncRun.OPEN).first()
        if open_run is None:
            raise
        if not exist_ok:
            raise SyncAlreadyRunning(open_run) from None
        open_run.was_open = True
        return open_run
    return run


def cancel_sync(*, sync_run: SyncRun, actor: Actor) -> SyncRun:
    """Stop an open sync at its next page; the mirror stays as it was. A finished one is returned as it is."""
    with transaction.atomic():
        cancelled = SyncRun.objects.filter(pk=sync_run.pk, status__in=SyncRun.OPEN).update(
            status=SyncRun.Status.CANCELLED, finished_at=timezone.now(), lease_token=None, lease_until=None
        )
        if cancelled:
            record(
                organization=sync_run.organization,
                actor=actor,
                action="sync.cancelled",
                target_kind="sync",
                target_ref=str(sync_run.pk),
                target_name=str(sync_run.pk),
            )
            clear_staging(sync_run.pk)
    sync_run.refresh_from_db()
    return sync_run


def sweep_syncs(*, now: datetime | None = None) -> int:
    """Enqueue open runs that nobody works on, and request the daily sync of organisations that are due; returns both.

    Nobody works on a run whose lease is over, or that was queued and not taken within the lease's time. A merge holds
    the row's lock, so it is never taken for dead.
    """
    now = now or timezone.now()
    idle = SyncRun.objects.filter(status__in=SyncRun.OPEN).filter(
        Q(lease_until__lt=now) | Q(lease_until__isnull=True, created_at__lt=now - lease(LEASE))
    )
    with transaction.atomic():
        pks = [run.pk for run in idle.select_for_update(skip_locked=True).only("pk")]
    for pk in pks:
        enqueue_again("users.sync", sync_run_id=pk)
    connected = Organization.objects.filter(is_from_file=False)
    due = [organization for organization in connected if _is_due(organization, now)]
    for organization in due:
        request_sync(organization=organization, actor=Actor.scheduler(), initiator="automated", exist_ok=True)
    return len(pks) + len(due)


def _is_due(organization: Organization, now: datetime) -> bool:
    """Whether the day's hour has passed and no sync was made since; an organisation is first synced by hand."""
    slot = now.replace(hour=organization.sync_hour_utc, minute=0, second=0, microsecond=0)
    if slot > now:
        slot -= timedelta(days=1)
    newest = latest_sync(organization)
    return newest is not None and newest.created_at < slot


# --- working on one ---------------------------------------------------------------------------------------------------


def run_sync(
    sync_run_id: int, *, budget_seconds: float | None = SLICE_SECONDS, wait_here: bool = False
) -> SyncRun | None:
    """Work on a run until it is finished or `budget_seconds` are over; then the rest is enqueued.

    Returns the run as it stands, or None when another worker has it or it is over. `wait_here` keeps working in this
    process instead (commands, tests): waits are slept through. What Atlassian refuses ends up on the run, not here.
    """
    while True:
        token = _take_lease(sync_run_id)
        if token is None:
            return None
        run: SyncRun = SyncRun.objects.select_related("organization").get(pk=sync_run_id)
        deadline = time.monotonic() + budget_seconds if budget_seconds is not None else None
        wait_seconds = _work(run, token, deadline)
        run.refresh_from_db()
        if wait_seconds is None:
            return run
        if not wait_here:
            enqueue("users.sync", countdown_seconds=wait_seconds, sync_run_id=run.pk)
            return run
        time.sleep(wait_seconds)


def _take_lease(sync_run_id: int) -> uuid.UUID | None:
    """A token for the run, if it is open and nobody works on it. A row that is locked is being merged."""
    now = timezone.now()
    token = uuid.uuid4()
    with transaction.atomic():
        run = (
            SyncRun.objects.select_for_update(skip_locked=True)
            .filter(pk=sync_run_id, status__in=SyncRun.OPEN)
            .filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now) | Q(lease_token__isnull=True))
            .first()
        )
        if run is None:
            return None
        SyncRun.objects.filter(pk=run.pk).update(
            status=SyncRun.Status.RUNNING,
            started_at=run.started_at or now,
            lease_token=token,
            lease_until=now + lease(LEASE),
        )
    return token


def _work(run: SyncRun, token: uuid.UUID, deadline: float | None) -> float | None:
    """One slice. None when there is nothing more to do here, else the seconds to wait before the next slice."""
    try:
        if run.source == SyncRun.Source.FILE:
            FileReading(run, token, deadline).go()
        else:
            with reader_for(run.organization) as reader:
                DirectoryReading(run, token, reader, deadline).go()
    except LeaseLost:
        logger.info("sync.lease_lost", extra={"sync_run_id": run.pk})
    except HandOn as handed_on:
        return _release(run, token, handed_on.wait_seconds)
    except (RateLimited, WaitTooLong, Unavailable) as error:
        return _try_again(run, token, error)
    except AtlassianError as error:
        _fail(run, token, error.code, error.detail, error.advice, credentials=isinstance(error, Unauthorized))
    except DomainError as error:
        _fail(run, token, error.code, error.detail, "")
    return None


def _release(run: SyncRun, token: uuid.UUID, wait_seconds: float) -> float | None:
    """Give the lease back; a sweep picks the run up once it is overdue. None when the lease was lost."""
    released = SyncRun.objects.filter(pk=run.pk, lease_token=token, status=SyncRun.Status.RUNNING).update(
        lease_token=None, lease_until=timezone.now() + timedelta(seconds=wait_seconds) + lease(LEASE)
    )
    return wait_seconds if released else None


def _try_again(run: SyncRun, token: uuid.UUID, error: AtlassianError) -> float | None:
    failures = int(run.cursor.get("failures", 0)) + 1
    if failures > MAX_FAILURES:
        _fail(run, token, error.code, error.detail, error.advice)
        return None
    wait = max(getattr(error, "wait_seconds", 0.0), float(RETRY_SECONDS[failures - 1]))
    if isinstance(error, RateLimited | WaitTooLong):
        # Atlassian is there and said when: no failure of this run.
        wait, failures = max(getattr(error, "wait_seconds", 0.0), 1.0), failures - 1
    logger.warning("sync.waits", extra={"sync_run_id": run.pk, "error": error.code, "wait_seconds": wait})
    SyncRun.objects.filter(pk=run.pk, lease_token=token).update(cursor={**run.cursor, "failures": failures})
    return _release(run, token, wait)


def _fail(run: SyncRun, token: uuid.UUID, code: str, detail: str, advice: str, *, credentials: bool = False) -> None:
    """End a run that cannot go on: nothing was merged, the mirror is as it was; a person is told."""
    sentence = " ".join(f"{part.strip().rstrip('.')}." for part in (detail, advice) if part.strip())
    with transaction.atomic():
        ended = SyncRun.objects.filter(pk=run.pk, lease_token=token, status=SyncRun.Status.RUNNING).update(
            status=SyncRun.Status.FAILED,
            error_code=code[:60],
            error_detail=sentence,
            is_trusted=False,
            distrust_reasons=[
                f"The {'file could not be read' if run.source == SyncRun.Source.FILE else 'sync failed'}: {sentence}"
            ],
            finished_at=timezone.now(),
            lease_token=None,
            lease_until=None,
        )
        if not ended:
            return
        clear_staging(run.pk)
        run.refresh_from_db()
        record_end(run, outcome="failed", reason=sentence)
    if credentials:
        unusable_credentials(organization=run.organization, detail=sentence)
    raise_alert(
        organization=run.organization,
        kind="sync_failed",
        severity="error",
        title="The file could not be read"
        if run.source == SyncRun.Source.FILE
        else "The sync failed; the people shown are those of the last one",
        detail=sentence,
        link=f"/o/{run.organization.slug}/",
    )
    logger.error("sync.failed", extra={"sync_run_id": run.pk, "code": code})
