"""Taking away what is old, erasing who asked for it, and forgetting a demo; all of it leaves signed traces."""

from __future__ import annotations

import logging
import os
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from apps.audit.chain import checkpoint_message, signing_keys
from apps.audit.guards import guards_lifted
from apps.audit.locks import SEALER, lock_key
from apps.audit.models import (
    ArchivePart,
    AuditCheckpoint,
    AuditEvent,
    AuditIdentity,
    AuditSearch,
    AuditSegment,
    ImportedEvent,
    LogClearance,
    LogImport,
    RetentionPolicy,
    Verification,
)
from apps.audit.services.verification import segment_findings
from apps.audit.services.writing import record
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from aum.common.errors import DomainError

logger = logging.getLogger(__name__)
SEGMENTS_PER_TRANSACTION = 20
_OF_AN_ORGANIZATION = (
    AuditEvent,
    AuditSearch,
    AuditSegment,
    AuditCheckpoint,
    AuditIdentity,
    ImportedEvent,
    LogImport,
    ArchivePart,
    LogClearance,
    RetentionPolicy,
    Verification,
)


class PurgeRefused(DomainError):
    code = "purge_refused"
    detail = "The audit log does not verify, so nothing of it is removed. Run audit verify first."


class NotADemo(DomainError):
    code = "not_a_demo"
    detail = "Only the audit log of a demo organisation can be forgotten as a whole."


def purge_segments(
    organization: Organization, before: datetime | None, *, actor: Actor, through_event_id: int | None = None
) -> int:
    """Remove the events of all whole sealed segments that are older than `before` (aware); returns how many events.

    With `through_event_id` instead: of all whole segments that hold no later event.

    Begins at the oldest segment and stops at the first that holds a younger event. The segments stay with their heads,
    without their lists; a signed checkpoint says that they were purged on purpose, and an event says by whom. Raises
    PurgeRefused when a segment does not verify: evidence of tampering is not removed.
    """
    removed = 0
    while rows := _purge_some(organization, before, through_event_id, actor):
        removed += rows
    return removed


def _purge_some(organization: Organization, before: datetime | None, through_event_id: int | None, actor: Actor) -> int:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", lock_key(SEALER, organization.pk))
        segments = AuditSegment.objects.of(organization)
        candidates = segments.filter(purged_at=None).order_by("number")[:SEGMENTS_PER_TRANSACTION]
        chosen: list[AuditSegment] = []
        previous = segments.exclude(purged_at=None).order_by("-number").first()
        lower = previous
        for segment in candidates:
            if through_event_id is not None and segment.last_id > through_event_id:
                break
            if before is not None and _newest_at(organization, lower, segment) >= before:
                break
            if segment_findings(segment, lower):
                raise PurgeRefused(
                    f"Segment {segment.number} does not verify, so nothing is removed. Run audit verify."
                )
            chosen.append(segment)
            lower = segment
        return _remove(organization, previous, chosen, actor) if chosen else 0


def _newest_at(organization: Organization, previous: AuditSegment | None, segment: AuditSegment) -> datetime:
    events = AuditEvent.objects.of(organization).filter(id__lte=segment.last_id)
    if previous is not None:
        events = events.filter(id__gt=previous.last_id)
    newest: datetime | None = events.aggregate(newest=Max("at"))["newest"]
    return newest or segment.sealed_at


def _remove(organization: Organization, previous: AuditSegment | None, chosen: list[AuditSegment], actor: Actor) -> int:
    last = chosen[-1]
    purged_at = timezone.now()
    with guards_lifted(), connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM audit_auditevent WHERE organization_id = %s AND id > %s AND id <= %s",
            [organization.pk, previous.last_id if previous else 0, last.last_id],
        )
        rows: int = cursor.rowcount
        cursor.execute(
            "DELETE FROM audit_auditsearch WHERE organization_id = %s AND event_id <= %s",
            [organization.pk, last.last_id],
        )
        AuditSegment.objects.filter(pk__in=[segment.pk for segment in chosen]).update(digests=b"", purged_at=purged_at)
    key = signing_keys()[0]
    message = checkpoint_message(
        organization_id=organization.pk,
        number=last.number,
        last_id=last.last_id,
        head=bytes(last.head),
        rows=rows,
        purged_at=purged_at,
    )
    AuditCheckpoint.objects.create(
        organization=organization,
        number=last.number,
        last_id=last.last_id,
        head=last.head,
        rows=rows,
        purged_at=purged_at,
        signature=key.sign(message),
        key_id=key.key_id,
    )
    record(
        organization=organization,
        actor=actor,
        action="audit.purged",
        target_kind="audit_segment",
        target_ref=str(last.number),
        before={"events": rows, "segments": len(chosen), "through_event": last.last_id},
    )
    logger.info("audit.purged", extra={"organization": organization.slug, "events": rows, "segment": last.number})
    return rows


def erase_identity(*, organization: Organization, kind: str, key: str, actor: Actor, reason: str = "") -> int:
    """Erase name and e-mail of the person `key` (an account_id, an operator's id) from all events; returns how often.

    The chain stays valid: events were hashed with a salted commitment that stays, while text and salt go. Harmless to
    repeat. Free texts (reasons, before, after) are not searched.
    """
    with transaction.atomic():
        identities = list(
            AuditIdentity.objects.of(organization)
            .filter(kind=kind, key=key, erased_at=None)
            .select_for_update()
            .order_by("pk")
        )
        now = timezone.now()
        for identity in identities:
            identity.name, identity.email, identity.salt, identity.erased_at = "", "", b"", now
            identity.fingerprint = os.urandom(32)
            identity.save(update_fields=["name", "email", "salt", "erased_at", "fingerprint"])
        if identities:
            record(
                organization=organization,
                actor=actor,
                action="identity.erased",
                target_kind=kind,
                target_ref=key,
                reason=reason,
                before={"texts": len(identities)},
            )
    return len(identities)


def erase_imported(*, organization: Organization, email: str, actor: Actor, reason: str = "") -> int:
    """Erase the person `email` from imported logs, as user and as performer; returns from how many lines."""
    if not email:
        return 0
    with transaction.atomic():
        now = timezone.now()
        rows = ImportedEvent.objects.of(organization)
        touched = rows.filter(user_email__iexact=email).update(user_email="", erased_at=now)
        touched += rows.filter(performed_by__iexact=email).update(performed_by="", erased_at=now)
        if touched:
            record(
                organization=organization,
                actor=actor,
                action="identity.erased",
                target_kind="audit_import",
                reason=reason,
                before={"lines": touched},
            )
    return int(touched)


def forget_organization(organization: Organization) -> None:
    """Delete all audit rows of a demo organisation, so that it can be deleted itself. Raises NotADemo for any other."""
    if not organization.is_demo:
        raise NotADemo
    with transaction.atomic(), guards_lifted(), connection.cursor() as cursor:
        for model in _OF_AN_ORGANIZATION:
            cursor.execute(f"DELETE FROM {model._meta.db_table} WHERE organization_id = %s", [organization.pk])
