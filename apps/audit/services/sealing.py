"""Sealing: events become segments, each hashed, chained to the one before and signed (P9)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils import timezone

from apps.audit.chain import GENESIS, ROWS_SQL, row_digest, segment_head, segment_root, signing_keys
from apps.audit.locks import SEALER, WRITERS, lock_key
from apps.audit.models import AuditSegment
from apps.audit.search import store_words
from apps.audit.services.anchoring import anchor_heads
from apps.organizations.models import Organization

logger = logging.getLogger(__name__)
SEGMENT_ROWS = 5000
# Writers queue behind a sealer that waits, so it waits briefly and comes back in a minute.
LOCK_TIMEOUT = "500ms"


def seal(organization: Organization) -> int:
    """Seal all events that are committed now; returns how many segments were made.

    A no-op when there is nothing new, when another sealer of the organisation is at work, and when a writer kept its
    transaction open for too long; each is right the next minute.
    """
    newest_id = _newest_committed_id(organization.pk)
    made = 0
    while newest_id is not None and _seal_next(organization, newest_id):
        made += 1
    anchor_heads(organization)
    return made


def seal_all() -> None:
    """Seal every organisation; trouble in one is logged and does not stop the others."""
    for organization in Organization.objects.order_by("pk"):
        try:
            seal(organization)
        except DatabaseError:
            logger.exception("audit.seal_failed", extra={"organization": organization.slug})


def _newest_committed_id(organization_id: int) -> int | None:
    """The newest event id below which nothing is still uncommitted; None when there is none or writers are busy.

    Writers draw ids only while they hold the lock shared and keep it until commit: whoever has it alone knows that
    every id drawn so far is committed or gone. The id is read by a second statement, because the first one's snapshot
    is from before the wait.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", lock_key(WRITERS, organization_id))
            cursor.execute("SELECT set_config('lock_timeout', '0', true)")
            cursor.execute("SELECT max(id) FROM audit_auditevent WHERE organization_id = %s", [organization_id])
            newest: int | None = cursor.fetchone()[0]
            return newest
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") != "55P03":  # lock_not_available
            raise
        logger.info("audit.seal_postponed", extra={"organization_id": organization_id})
        return None


def _seal_next(organization: Organization, newest_id: int) -> bool:
    """Make the next segment of at most SEGMENT_ROWS events up to `newest_id`; False when there is nothing to do."""
    with transaction.atomic():
        if not _try_lock(organization.pk):
            return False
        last = AuditSegment.objects.of(organization).order_by("-number").defer("digests").first()
        rows = _rows(organization.pk, last.last_id if last else None, newest_id)
        if not rows:
            return False
        segment = _segment(organization, last, rows)
        segment.save(force_insert=True)
        store_words(organization.pk, segment.first_id, segment.last_id)
    logger.info(
        "audit.sealed", extra={"organization": organization.slug, "segment": segment.number, "events": segment.count}
    )
    return True


def _try_lock(organization_id: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", lock_key(SEALER, organization_id))
        return bool(cursor.fetchone()[0])


def _rows(organization_id: int, after_id: int | None, newest_id: int) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"{ROWS_SQL} WHERE e.organization_id = %s AND e.id <= %s AND (%s::bigint IS NULL OR e.id > %s)"
            " ORDER BY e.id, e.at LIMIT %s",
            [organization_id, newest_id, after_id, after_id, SEGMENT_ROWS],
        )
        return list(cursor.fetchall())


def _segment(organization: Organization, last: AuditSegment | None, rows: Sequence[tuple[Any, ...]]) -> AuditSegment:
    digests = b"".join(row[0].to_bytes(8, "big", signed=True) + row_digest(row[1:]) for row in rows)
    root = segment_root(digests)
    number = last.number + 1 if last else 1
    previous_head = bytes(last.head) if last else GENESIS
    sealed_at = timezone.now()
    head = segment_head(
        organization_id=organization.pk,
        number=number,
        first_id=rows[0][0],
        last_id=rows[-1][0],
        count=len(rows),
        root=root,
        previous_head=previous_head,
        sealed_at=sealed_at,
    )
    key = signing_keys()[0]
    return AuditSegment(
        organization=organization,
        number=number,
        first_id=rows[0][0],
        last_id=rows[-1][0],
        count=len(rows),
        digests=digests,
        root=root,
        previous_head=previous_head,
        head=head,
        signature=key.sign(head),
        key_id=key.key_id,
        sealed_at=sealed_at,
    )
