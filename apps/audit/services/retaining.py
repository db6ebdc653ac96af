"""Retention periods: how long each kind of record is kept, and the daily removal of what is older."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.db import DatabaseError, transaction
from django.utils import timezone

from apps.audit import retention
from apps.audit.models import ImportedEvent, LogClearance, LogImport, RetentionPolicy
from apps.audit.services.clearing import remove_archive
from apps.audit.services.purging import PurgeRefused, purge_segments
from apps.audit.services.writing import record
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert, resolve_alert
from aum.common.errors import InvalidInput

logger = logging.getLogger(__name__)
MAX_DAYS = 3650
PURGE_FAILED = "audit_retention_failed"


def set_retention(*, organization: Organization, days: Mapping[str, int | None], actor: Actor) -> None:
    """Keep each kind for so many days; None keeps it for good. Kinds that are not named stay as they are.

    Raises InvalidInput that names each wrong kind.
    """
    errors = {}
    for key, value in days.items():
        if retention.kind_of(key) is None:
            errors[key] = ["There is no such kind of record."]
        elif value is not None and not 1 <= value <= MAX_DAYS:
            errors[key] = [f"Enter 1 to {MAX_DAYS:,} days, or leave it empty to keep these records."]
    if errors:
        raise InvalidInput(fields=errors)
    with transaction.atomic():
        present = {
            policy.kind: policy
            for policy in RetentionPolicy.objects.of(organization).select_for_update().order_by("pk")
        }
        before: dict[str, int | None] = {}
        after: dict[str, int | None] = {}
        for key, value in days.items():
            old = present[key].days if key in present else None
            if old == value:
                continue
            before[key], after[key] = old, value
            if value is None:
                present[key].delete()
            else:
                RetentionPolicy.objects.update_or_create(
                    organization=organization,
                    kind=key,
                    defaults={"days": value, "set_by": actor.name, "set_at": timezone.now()},
                )
        if after:
            record(
                organization=organization,
                actor=actor,
                action="retention.changed",
                target_kind="organization",
                target_ref=organization.slug,
                target_name=organization.name,
                before=before,
                after=after,
            )


def apply_retention(organization: Organization) -> dict[str, int]:
    """Remove what is older than its period; returns how many records of each kind. Harmless to repeat."""
    removed = {}
    for policy in RetentionPolicy.objects.of(organization).order_by("kind"):
        kind = retention.kind_of(policy.kind)
        if kind is None:
            continue
        now = timezone.now()
        try:
            removed[policy.kind] = kind.remove(organization, now - timedelta(days=policy.days))
        except PurgeRefused as error:
            raise_alert(
                organization=organization,
                kind=PURGE_FAILED,
                severity="error",
                title="Old log entries were not removed",
                detail=str(error),
                dedup_key=PURGE_FAILED,
            )
            continue
        if policy.kind == EVENTS.key:
            resolve_alert(organization=organization, dedup_key=PURGE_FAILED)
        RetentionPolicy.objects.filter(pk=policy.pk).update(last_run_at=now, last_removed=removed[policy.kind])
    return removed


def apply_all_retention() -> None:
    """Every organisation; trouble in one is logged and does not stop the others."""
    for organization in Organization.objects.order_by("pk"):
        try:
            apply_retention(organization)
        except DatabaseError:
            logger.exception("audit.retention_failed", extra={"organization": organization.slug})


def _remove_events(organization: Organization, before: datetime) -> int:
    return purge_segments(organization, before, actor=Actor.scheduler())


def _remove_imported(organization: Organization, before: datetime) -> int:
    """Entries by their own time; an import without entries left goes with them."""
    removed = ImportedEvent.objects.of(organization).filter(at__lt=before).delete()[0]
    LogImport.objects.of(organization).filter(
        status=LogImport.Status.FINISHED, finished_at__lt=before, events=None
    ).delete()
    return removed


def _remove_archives(organization: Organization, before: datetime) -> int:
    old = LogClearance.objects.of(organization).filter(finished_at__lt=before, archive_removed_at=None)
    found = list(old)
    for clearance in found:
        remove_archive(clearance)
    return len(found)


EVENTS = retention.RetentionKind(
    "events",
    "Audit log",
    "Whole sealed segments are removed, and a signed checkpoint says so: the chain stays valid.",
    _remove_events,
)
IMPORTED = retention.RetentionKind(
    "imported", "Imported logs", "Entries taken over from another product, by their own date.", _remove_imported
)
ARCHIVES = retention.RetentionKind(
    "archives", "Archives of cleared logs", "The files that Clear logs leaves behind.", _remove_archives
)


def register_kinds() -> None:
    """Make the kinds of this app known; `AuditConfig.ready` does it."""
    for kind in (EVENTS, IMPORTED, ARCHIVES):
        retention.register(kind)
