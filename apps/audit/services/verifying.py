"""Verification asked for on a page: done at once where the log is small, by a worker with progress where it is not."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.audit.models import AuditSegment, Verification
from apps.audit.services.verification import VerifyReport, verify
from apps.organizations.models import Organization
from aum.common.tasks import enqueue_on_commit

logger = logging.getLogger(__name__)
# About 100,000 events: a second.
AT_ONCE_SEGMENTS = 20
SHOWN_FINDINGS = 100
KEPT = 50
DEAD_AFTER = timedelta(minutes=5)


def start_verification(*, organization: Organization, by: str) -> Verification:
    """Read the chain again and return the row that tells how far it is; the running one where there is one.

    A run that a worker left without a sign of life for five minutes is ended as failed and a new one begins.
    """
    now = timezone.now()
    Verification.objects.of(organization).filter(
        status=Verification.Status.RUNNING, alive_at__lt=now - DEAD_AFTER
    ).update(status=Verification.Status.FAILED, finished_at=now, detail="The worker was ended before it was through.")
    total = AuditSegment.objects.of(organization).count()
    try:
        with transaction.atomic():
            row = Verification.objects.create(
                organization=organization, requested_by=by, started_at=now, alive_at=now, segments_total=total
            )
    except IntegrityError:
        running: Verification = Verification.objects.of(organization).get(status=Verification.Status.RUNNING)
        return running
    if total <= AT_ONCE_SEGMENTS:
        return run_verification(row.pk)
    enqueue_on_commit("audit.verify", verification_id=row.pk)
    return row


def run_verification(verification_id: int) -> Verification:
    """Do the reading of one row; a no-op when it is over already."""
    row: Verification = Verification.objects.select_related("organization").get(pk=verification_id)
    if row.status != Verification.Status.RUNNING:
        return row

    def alive(done: int, total: int) -> None:
        if done % 10 == 0 or done == total:
            Verification.objects.filter(pk=row.pk).update(
                segments_done=done, segments_total=total, alive_at=timezone.now()
            )

    try:
        report = verify(row.organization, on_progress=alive)
    except OSError as error:
        _end(row, Verification.Status.FAILED, None, f"The anchor cannot be read: {error.strerror or error}.")
    else:
        _end(row, Verification.Status.FINISHED, report, "")
    row.refresh_from_db()
    return row


def _end(row: Verification, status: str, report: VerifyReport | None, detail: str) -> None:
    Verification.objects.filter(pk=row.pk, status=Verification.Status.RUNNING).update(
        status=status,
        ok=report.ok if report else None,
        report=_json(report) if report else {},
        detail=detail,
        finished_at=timezone.now(),
        segments_done=report.segments if report else row.segments_done,
    )
    old = Verification.objects.of(row.organization).order_by("-id").values_list("pk", flat=True)[KEPT:]
    Verification.objects.filter(pk__in=list(old)).delete()
    logger.info("audit.verified", extra={"organization": row.organization.slug, "ok": report.ok if report else None})


def _json(report: VerifyReport) -> dict[str, Any]:
    found = {**asdict(report), "first_broken": [asdict(finding) for finding in report.first_broken[:SHOWN_FINDINGS]]}
    plain: dict[str, Any] = json.loads(json.dumps(found, cls=DjangoJSONEncoder))
    return plain
