"""Whether the mirror may be acted upon (P11), and the syncs that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from apps.organizations.models import Organization
from apps.users.models import SyncRun

# Runs that wrote to the mirror; a failed one leaves it as it was.
MERGED = (SyncRun.Status.SUCCEEDED, SyncRun.Status.PARTIAL)


@dataclass(frozen=True)
class DataTrust:
    """`ok` is False when live rules that take access must refuse; `reasons` are sentences for people.

    `code` is "" or the first reason's: from_file, never_synced, partial, distrusted, too_old. `sync_run` is the run
    that the mirror shows, `age` how long ago it began to read.
    """

    ok: bool
    code: str
    reasons: tuple[str, ...]
    sync_run: SyncRun | None
    age: timedelta | None


def _syncs(organization: Organization) -> QuerySet[SyncRun]:
    """The newest first. By key, not by a clock that may have been wrong; so a demo's invented past is left out."""
    rows = SyncRun.objects.of(organization).order_by("-id")
    return rows.exclude(started_by=SyncRun.DEMO_PAST) if organization.is_demo else rows


def latest_sync(organization: Organization) -> SyncRun | None:
    """The newest sync, open or finished."""
    return _syncs(organization).first()


def latest_merged_sync(organization: Organization) -> SyncRun | None:
    """The newest sync that the mirror shows."""
    return _syncs(organization).filter(status__in=MERGED).first()


def last_trusted_sync(organization: Organization, *, before: int | None = None) -> SyncRun | None:
    """The baseline: the newest trusted or accepted sync, older than the run `before` where that is given.

    What a file filled is none: nothing that Atlassian gives later can have been lost since.
    """
    runs = SyncRun.objects.of(organization).filter(status__in=MERGED, is_trusted=True, source=SyncRun.Source.API)
    return (runs.filter(pk__lt=before) if before else runs).order_by("-id").first()


def data_trust(organization: Organization, *, now: datetime | None = None) -> DataTrust:
    """Judge the mirror as it is at `now`: never synced, partial, suddenly poorer, or too old (P11)."""
    now = now or timezone.now()
    run = latest_merged_sync(organization)
    if organization.is_from_file:
        reason = "The people come from an export file. Connect the organisation before anything is changed."
        return DataTrust(False, "from_file", (reason,), run, None)
    if run is None or run.source == SyncRun.Source.FILE:
        reason = "This organisation was never synced. Start a sync, then try again."
        return DataTrust(False, "never_synced", (reason,), None, None)
    began_at = run.started_at or run.created_at
    age = max(now - began_at, timedelta(0))
    code, reasons = "", list[str]()
    if not run.is_trusted:
        code = "partial" if run.status == SyncRun.Status.PARTIAL else "distrusted"
        reasons += run.distrust_reasons or ["The last sync is not trusted."]
    if age > timedelta(hours=organization.max_data_age_hours):
        code = code or "too_old"
        hours = int(age.total_seconds() // 3600)
        reasons.append(
            f"The last sync began {hours:,} hours ago; live rules need one of the last "
            f"{organization.max_data_age_hours:,} hours. Start a sync, then try again."
        )
    return DataTrust(not reasons, code, tuple(reasons), run, age)
