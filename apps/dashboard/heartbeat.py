"""A sign of life of beat and a worker together: beat sends a task every half minute, a worker notes that it came."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import requests
from django.conf import settings
from django.core.cache import cache
from django.utils import timezone

from apps.organizations.models import Organization
from apps.users.models import SyncRun

logger = logging.getLogger(__name__)
KEY = "heartbeat"
KEPT_SECONDS = 3600
# Older than this, beat or every worker of the short queue is gone.
SILENT_AFTER = timedelta(minutes=3)
# The daily sync may come late by half a day before it counts as missing.
SYNC_OLD_AFTER = timedelta(hours=36)


def beat() -> None:
    """Note the sign of life; where `AUM_HEARTBEAT_URL` is set, tell it, unless a sync is missing."""
    cache.set(KEY, timezone.now().timestamp(), KEPT_SECONDS)
    if not settings.AUM_HEARTBEAT_URL or old_syncs():
        return
    try:
        requests.get(settings.AUM_HEARTBEAT_URL, timeout=5, allow_redirects=False)
    except requests.RequestException as error:
        logger.warning("heartbeat.not_told", extra={"error": type(error).__name__})


def last_heartbeat_at() -> datetime | None:
    """When beat and a worker last worked together; None when not within the last hour."""
    stamp = cache.get(KEY)
    return datetime.fromtimestamp(float(stamp), tz=UTC) if stamp is not None else None


def is_alive() -> bool:
    """Whether beat and a worker worked within `SILENT_AFTER`."""
    at = last_heartbeat_at()
    return at is not None and timezone.now() - at < SILENT_AFTER


def old_syncs() -> list[str]:
    """Short names of organisations that were read before and not within `SYNC_OLD_AFTER`."""
    since = timezone.now() - SYNC_OLD_AFTER
    whole = SyncRun.objects.filter(status=SyncRun.Status.SUCCEEDED)
    fresh = whole.filter(finished_at__gte=since).values("organization_id")
    read = whole.values("organization_id")
    connected = Organization.objects.filter(is_from_file=False)
    return list(connected.filter(pk__in=read).exclude(pk__in=fresh).values_list("slug", flat=True))
