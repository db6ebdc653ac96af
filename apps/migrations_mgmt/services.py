"""Running data migrations: batch by batch, by any number of workers, killed and repeated at will.

A batch is claimed, applied and marked in one transaction. Whoever dies in between leaves nothing behind: the row is
free again, because its lock ended with the connection.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, models, transaction
from django.utils import timezone

from apps.migrations_mgmt.models import Backfill, BackfillBatch
from apps.migrations_mgmt.registry import Spec, spec_of, specs
from apps.organizations.models import Organization
from aum.common.errors import DomainError

logger = logging.getLogger(__name__)
BATCHES_AHEAD = 20
ATTEMPTS_BEFORE_SPLIT = 2
KEPT_AFTER_FINISH = timedelta(days=15)


class UnknownBackfill(DomainError):
    code = "unknown_backfill"
    status = 404
    detail = "No such data migration is registered."


class BackfillNotFinished(DomainError):
    code = "backfill_not_finished"
    detail = "A data migration that this needs has not finished."


class WrongState(DomainError):
    code = "wrong_state"
    detail = "The data migration is not in a state that allows this."


def discover() -> list[Backfill]:
    """Make a row for each registered data migration that has none; returns the rows of all of them.

    A migration of organisations has one row for each.
    """
    organizations = list(Organization.objects.order_by("pk").values_list("pk", flat=True))
    found: list[Backfill] = []
    for spec in specs():
        owners = organizations if spec.is_per_organization else [None]
        rows = Backfill.objects.filter(name=spec.name, version=spec.version)
        present = {row.organization_id: row for row in rows}
        for owner in owners:
            if owner not in present:
                present[owner] = _row_of(spec, owner)
            found.append(present[owner])
    return found


def _row_of(spec: Spec, organization_id: int | None) -> Backfill:
    owner = Organization.objects.get(pk=organization_id) if organization_id is not None else None
    row, _ = Backfill.objects.get_or_create(name=spec.name, version=spec.version, organization=owner)
    return row


def advance(*, budget_seconds: float = 20) -> int:
    """Start what waits and run batches of everything that runs, in turn, for at most about `budget_seconds`.

    Returns how many batches were tried. Two at once share the work.
    """
    ends_at = time.monotonic() + budget_seconds
    tried = 0
    for backfill in discover():
        if backfill.status == Backfill.Status.PENDING:
            start(backfill)
        while time.monotonic() < ends_at and not is_busy() and run_next_batch(backfill):
            tried += 1
    return tried


def is_busy() -> bool:
    """Whether the database works on so many statements that data migrations rest until the next round."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        active: int = cursor.fetchone()[0]
    return active > int(settings.AUM_BACKFILL_MAX_ACTIVE)


def start(backfill: Backfill) -> None:
    """Count what there is to do and begin; a no-op when it has begun. Raises UnknownBackfill when its code is gone."""
    spec = _spec(backfill)
    total = spec.count()
    started = Backfill.objects.filter(pk=backfill.pk, status=Backfill.Status.PENDING).update(
        status=Backfill.Status.RUNNING, total=total, started_at=timezone.now()
    )
    if started:
        logger.info("backfill.started", extra={"backfill": str(backfill), "rows": total})


def pause(backfill: Backfill) -> None:
    """Stop claiming batches; those being applied finish. Raises WrongState unless it waits or runs."""
    _change(backfill, Backfill.Status.PAUSED, Backfill.Status.PENDING, Backfill.Status.RUNNING)


def resume(backfill: Backfill) -> None:
    """Go on where it was paused. Raises WrongState unless it is paused."""
    backfill.refresh_from_db()
    begun = backfill.started_at is not None
    _change(backfill, Backfill.Status.RUNNING if begun else Backfill.Status.PENDING, Backfill.Status.PAUSED)


def retry_failed(backfill: Backfill) -> int:
    """Try the failed batches again; returns how many. Raises WrongState unless it failed."""
    with transaction.atomic():
        _change(backfill, Backfill.Status.RUNNING, Backfill.Status.FAILED)
        Backfill.objects.filter(pk=backfill.pk).update(failed_reason="")
        return backfill.batches.filter(status=BackfillBatch.Status.FAILED).update(
            status=BackfillBatch.Status.PENDING, attempts=0, error=""
        )


def retry(backfill: Backfill) -> bool:
    """Reset the status and start again from the first row, whatever became of it; False when it runs already.

    Asking twice starts it once. Its batches are repeated, which changes nothing that is right already.
    """
    with transaction.atomic():
        locked = Backfill.objects.select_for_update().get(pk=backfill.pk)
        if locked.status in (Backfill.Status.PENDING, Backfill.Status.RUNNING):
            return False
        # Waits for a batch that is being applied; its count is reset with the rest.
        BackfillBatch.objects.filter(backfill_id=locked.pk).delete()
        Backfill.objects.filter(pk=locked.pk).update(
            status=Backfill.Status.PENDING,
            total=0,
            done=0,
            cursor=None,
            is_cut=False,
            started_at=None,
            finished_at=None,
            failed_reason="",
            hidden_at=None,
        )
    backfill.refresh_from_db()
    logger.info("backfill.retried", extra={"backfill": str(backfill)})
    return True


def clean_old(*, now: datetime | None = None) -> int:
    """Clean away what finished more than 15 days ago; returns how many (S276)."""
    before = (now or timezone.now()) - KEPT_AFTER_FINISH
    old = Backfill.objects.filter(status=Backfill.Status.FINISHED, hidden_at=None, finished_at__lt=before)
    for backfill in old:
        clean(backfill)
    return len(old)


def clean(backfill: Backfill) -> None:
    """Hide a finished data migration and drop its batches; name, version and finish stay (DECISIONS.md §21)."""
    with transaction.atomic():
        hidden = Backfill.objects.filter(pk=backfill.pk, status=Backfill.Status.FINISHED, hidden_at=None).update(
            hidden_at=timezone.now()
        )
        if hidden:
            BackfillBatch.objects.filter(backfill_id=backfill.pk).delete()


def ensure_finished(name: str, *, version: int | None = None, timeout_seconds: float = 3600) -> None:
    """Return once the data migration `name` has finished, running its batches here and now where nobody else does.

    The newest registered version where none is given. Raises UnknownBackfill, and BackfillNotFinished with the reason
    when it failed, is paused, or took longer than `timeout_seconds`.
    """
    known = [spec for spec in specs() if spec.name == name and version in (None, spec.version)]
    if not known:
        raise UnknownBackfill(f"No data migration {name} is registered.")
    spec = max(known, key=lambda one: one.version)
    if spec.is_per_organization:
        raise UnknownBackfill(f"The data migration {name} has a row for each organisation.")
    backfill, _ = Backfill.objects.get_or_create(name=spec.name, version=spec.version, organization=None)
    ends_at = time.monotonic() + timeout_seconds
    while True:
        start(backfill)
        worked = run_next_batch(backfill)
        backfill.refresh_from_db()
        if backfill.status == Backfill.Status.FINISHED:
            return
        if backfill.status != Backfill.Status.RUNNING or time.monotonic() > ends_at:
            reason = backfill.failed_reason or f"It is {backfill.get_status_display().lower()}."
            raise BackfillNotFinished(f"The data migration {backfill} has not finished. {reason}")
        if not worked:
            time.sleep(0.2)  # another worker has the last batch


def run_next_batch(backfill: Backfill) -> bool:
    """Claim one batch and apply it; False when there is none to claim, so that nobody waits for another's.

    A batch that fails is tried once more, then split in two; a single row that fails is marked and the others go on.
    The data migration ends as finished, or as failed with the first error.
    """
    spec = _spec(backfill)
    while Backfill.objects.filter(pk=backfill.pk, status=Backfill.Status.RUNNING).exists():
        if _try_one(backfill, spec):
            return True
        if not _cut(backfill, spec):
            _finish(backfill)
            return False
    return False


def _try_one(backfill: Backfill, spec: Spec) -> bool:
    """Apply one free batch; False when none is free."""
    batch: BackfillBatch | None = None
    try:
        with transaction.atomic():
            batch = _free_batch(backfill)
            if batch is None:
                return False
            _apply(batch, spec)
    except Exception as error:
        # Whatever the migration's own code raises is recorded and shown, and stops nothing but this batch.
        if batch is None:
            raise
        logger.exception("backfill.batch_failed", extra={"backfill": str(backfill), "batch": str(batch)})
        _record_failure(batch, error)
    return True


def _free_batch(backfill: Backfill) -> BackfillBatch | None:
    """The next batch that nobody works on, locked until the transaction ends."""
    return (
        BackfillBatch.objects.select_for_update(skip_locked=True)
        .filter(backfill_id=backfill.pk, status=BackfillBatch.Status.PENDING)
        .order_by("first_pk")
        .first()
    )


def _apply(batch: BackfillBatch, spec: Spec) -> None:
    rows = spec.apply_batch(batch.first_pk, batch.last_pk)
    batch.status, batch.error, batch.finished_at = BackfillBatch.Status.FINISHED, "", timezone.now()
    batch.save(update_fields=["status", "error", "finished_at"])
    # Last, because the parent row is locked from here to the commit.
    Backfill.objects.filter(pk=batch.backfill_id).update(done=models.F("done") + rows)


def _record_failure(batch: BackfillBatch, error: Exception) -> None:
    """Count the attempt; split or mark the batch after the second. A no-op when another worker took it meanwhile."""
    with transaction.atomic():
        current = (
            BackfillBatch.objects.select_for_update(skip_locked=True)
            .filter(pk=batch.pk, attempts=batch.attempts, last_pk=batch.last_pk, status=BackfillBatch.Status.PENDING)
            .first()
        )
        if current is None:
            return
        current.attempts += 1
        current.error = f"{type(error).__name__}: {error}"
        if current.attempts >= ATTEMPTS_BEFORE_SPLIT:
            if current.first_pk == current.last_pk:
                current.status = BackfillBatch.Status.FAILED
            else:
                _split(current)
        current.save(update_fields=["attempts", "error", "status", "last_pk"])


def _split(batch: BackfillBatch) -> None:
    middle = (batch.first_pk + batch.last_pk) // 2
    BackfillBatch.objects.create(backfill_id=batch.backfill_id, first_pk=middle + 1, last_pk=batch.last_pk)
    batch.last_pk, batch.attempts = middle, 0


def _cut(backfill: Backfill, spec: Spec) -> bool:
    """Cut up to BATCHES_AHEAD new batches; False when there is nothing left or another worker is cutting."""
    with transaction.atomic():
        locked = (
            Backfill.objects.select_for_update(skip_locked=True, no_key=True)
            .filter(pk=backfill.pk, is_cut=False)
            .first()
        )
        if locked is None:
            return False
        batches: list[BackfillBatch] = []
        while len(batches) < BATCHES_AHEAD and not locked.is_cut:
            bounds = spec.next_batch(locked.cursor, spec.batch_size)
            if bounds is None:
                locked.is_cut = True
            else:
                batches.append(BackfillBatch(backfill_id=backfill.pk, first_pk=bounds[0], last_pk=bounds[1]))
                locked.cursor = bounds[1]
        BackfillBatch.objects.bulk_create(batches)
        locked.save(update_fields=["cursor", "is_cut"])
        return bool(batches)


def _finish(backfill: Backfill) -> None:
    """End the data migration when nothing is left to cut and no batch is open; batches being applied count as open."""
    if backfill.batches.filter(status=BackfillBatch.Status.PENDING).exists():
        return
    failed = backfill.batches.filter(status=BackfillBatch.Status.FAILED)
    first = failed.first()
    ended = Backfill.objects.filter(pk=backfill.pk, status=Backfill.Status.RUNNING, is_cut=True).update(
        status=Backfill.Status.FAILED if first else Backfill.Status.FINISHED,
        failed_reason=f"Failed rows: {failed.count()}. The first, {first.first_pk}: {first.error}" if first else "",
        finished_at=None if first else timezone.now(),
    )
    if ended:
        logger.info("backfill.ended", extra={"backfill": str(backfill), "failed": failed.count()})


def _change(backfill: Backfill, to: Backfill.Status, *allowed: Backfill.Status) -> None:
    if not Backfill.objects.filter(pk=backfill.pk, status__in=allowed).update(status=to):
        backfill.refresh_from_db()
        raise WrongState(f"The data migration {backfill} is {backfill.get_status_display().lower()}.")
    logger.info("backfill.changed", extra={"backfill": str(backfill), "status": to.value})


def _spec(backfill: Backfill) -> Spec:
    spec = spec_of(backfill.name, backfill.version)
    if spec is None:
        raise UnknownBackfill(f"The installed code does not know the data migration {backfill} any more.")
    return spec.for_organization(backfill.organization_id)
