"""Clearing the log: hidden at once, archived, then removed with a signed checkpoint. Every step can be repeated."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import logging
from collections.abc import Iterator
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.utils import timezone

from apps.audit.locks import CLEARING, lock_key
from apps.audit.models import ArchivePart, AuditEvent, ImportedEvent, LogClearance, LogImport
from apps.audit.selectors import EXPORT_COLUMNS, cleared_through, export_of
from apps.audit.services.purging import PurgeRefused, purge_segments
from apps.audit.services.sealing import seal
from apps.audit.services.writing import record
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert
from aum.common.errors import DomainError, InvalidInput
from aum.common.tasks import enqueue_on_commit

logger = logging.getLogger(__name__)
PART_BYTES = 1_000_000
# A worker that gave no sign for so long was killed; the sweep starts the work anew.
RESTART_AFTER = timedelta(minutes=3)


class NothingToClear(DomainError):
    code = "nothing_to_clear"
    detail = "The log holds nothing that could be cleared."


def clear_phrase(organization: Organization) -> str:
    """What must be typed to clear the log of `organization`."""
    return f"clear logs of {organization.slug}"


def clear_logs(*, organization: Organization, phrase: str, reason: str, operations: int, actor: Actor) -> LogClearance:
    """Hide everything logged so far from every view and export, and have it archived and removed.

    `operations` is how many runs leave the views, for the entry that stays behind: it names who cleared, and how much.
    Raises InvalidInput unless `phrase` is the one asked for and a reason is given, NothingToClear for an empty log.
    """
    errors: dict[str, list[str]] = {}
    if phrase.strip() != clear_phrase(organization):
        errors["phrase"] = [f"Type exactly: {clear_phrase(organization)}"]
    if not reason.strip():
        errors["reason"] = ["Say why; the entry that stays names it."]
    if errors:
        raise InvalidInput(fields=errors)
    # What is sealed ends with a whole segment, so that all of it can be removed.
    seal(organization)
    with transaction.atomic():
        _lock(organization)
        since = cleared_through(organization)
        shown = AuditEvent.objects.of(organization).filter(id__gt=since)
        through = shown.order_by("-id").values_list("id", flat=True).first()
        if through is None:
            raise NothingToClear
        clearance = LogClearance.objects.create(
            organization=organization,
            requested_by=actor.name,
            requested_at=timezone.now(),
            reason=reason.strip()[:500],
            through_event_id=through,
            events=shown.filter(id__lte=through).count() + ImportedEvent.objects.of(organization).count(),
            operations=operations,
        )
        record(
            organization=organization,
            actor=actor,
            action="audit.cleared",
            target_kind="organization",
            target_ref=organization.slug,
            target_name=organization.name,
            reason=clearance.reason,
            before={"events": clearance.events, "operations": operations, "through_event": through},
        )
        enqueue_on_commit("audit.clear", clearance_id=clearance.pk)
    return clearance


def carry_out_clearance(clearance_id: int) -> None:
    """Archive and remove what one clearance hid. Does nothing when that is done, or when another worker is at it."""
    clearance: LogClearance = LogClearance.objects.select_related("organization").get(pk=clearance_id)
    organization = clearance.organization
    if clearance.status == LogClearance.Status.ARCHIVING:
        _archive(clearance)
    if clearance.status != LogClearance.Status.REMOVING:
        return
    try:
        removed = purge_segments(organization, None, actor=Actor.system(), through_event_id=clearance.through_event_id)
    except (PurgeRefused, ImproperlyConfigured) as error:
        _refused(clearance, str(error))
        return
    with transaction.atomic():
        foreign = ImportedEvent.objects.of(organization).filter(log_import__created_at__lt=clearance.requested_at)
        removed += foreign.delete()[0]
        LogImport.objects.of(organization).filter(created_at__lt=clearance.requested_at).exclude(
            status=LogImport.Status.RUNNING
        ).delete()
        LogClearance.objects.filter(pk=clearance.pk, status=LogClearance.Status.REMOVING).update(
            status=LogClearance.Status.FINISHED, removed=removed, finished_at=timezone.now()
        )
    logger.info("audit.cleared", extra={"organization": organization.slug, "events": removed})


def resume_clearances() -> None:
    """Start anew what a killed worker left; every minute."""
    open_ones = LogClearance.objects.filter(status__in=[LogClearance.Status.ARCHIVING, LogClearance.Status.REMOVING])
    for pk in open_ones.filter(requested_at__lt=timezone.now() - RESTART_AFTER).values_list("pk", flat=True):
        enqueue_on_commit("audit.clear", clearance_id=pk)


def remove_archive(clearance: LogClearance) -> None:
    """Delete the archive of a clearance; its figures and its hash stay."""
    with transaction.atomic():
        ArchivePart.objects.filter(clearance=clearance).delete()
        LogClearance.objects.filter(pk=clearance.pk).update(archive_removed_at=timezone.now())


def _archive(clearance: LogClearance) -> None:
    """Write what was hidden as a packed CSV in pieces of a megabyte; a half-written one is begun anew."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", lock_key(CLEARING, clearance.organization_id))
            if not cursor.fetchone()[0]:
                return
        ArchivePart.objects.filter(clearance=clearance).delete()
        digest, size = hashlib.sha256(), 0
        for number, data in enumerate(_packed(clearance), start=1):
            ArchivePart.objects.create(
                organization_id=clearance.organization_id, clearance=clearance, number=number, data=data
            )
            digest.update(data)
            size += len(data)
        clearance.sha256, clearance.size_bytes = digest.hexdigest(), size
        clearance.status = LogClearance.Status.REMOVING
        clearance.save(update_fields=["sha256", "size_bytes", "status"])


def _packed(clearance: LogClearance) -> Iterator[bytes]:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed:
        text = io.TextIOWrapper(packed, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(EXPORT_COLUMNS)
        for row in export_of(clearance.organization, clearance):
            writer.writerow(row)
            if buffer.tell() >= PART_BYTES:
                yield buffer.getvalue()
                buffer.seek(0)
                buffer.truncate()
        text.flush()
        text.detach()
    yield buffer.getvalue()


def _refused(clearance: LogClearance, sentence: str) -> None:
    LogClearance.objects.filter(pk=clearance.pk).update(
        status=LogClearance.Status.FAILED, detail=sentence, finished_at=timezone.now()
    )
    raise_alert(
        organization=clearance.organization,
        kind="audit_clear_failed",
        severity="error",
        title="The cleared log was hidden, not removed",
        detail=sentence,
        dedup_key=f"clear:{clearance.pk}",
    )


def _lock(organization: Organization) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", lock_key(CLEARING, organization.pk))
