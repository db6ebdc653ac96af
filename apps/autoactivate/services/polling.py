"""Looking for tickets every minute: the way that needs no route in from the internet (DESIGN.md §2).

The same ticket may also come by Jira Automation: its key makes both one event.
"""

from __future__ import annotations

import logging
import math
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from apps.autoactivate.inbound.base import Received
from apps.autoactivate.inbound.jira import issue_key
from apps.autoactivate.models import AssignmentRule, Channel, InboundSource
from apps.autoactivate.services.receiving import receive
from apps.organizations.models import Organization
from apps.organizations.selectors import is_copy
from apps.organizations.services import raise_alert, reader_for, resolve_alert
from aum.atlassian.errors import AtlassianError
from aum.common.errors import DomainError
from aum.common.tasks import enqueue

logger = logging.getLogger(__name__)

EVERY = timedelta(seconds=60)
# Jira's search index lags behind; what was seen before is recognised by its key.
OVERLAP = timedelta(minutes=5)
# After a longer silence older tickets are no request of today any more (as when they come by webhook).
MOST = timedelta(days=7)
ALERT_AFTER = timedelta(minutes=15)


def poll_all() -> None:
    """Start the polling of each organisation that wants it and is due."""
    if is_copy():
        return
    due = Q(polled_at__isnull=True) | Q(polled_at__lte=timezone.now() - EVERY + timedelta(seconds=5))
    for pk in InboundSource.objects.filter(due, kind=InboundSource.Kind.POLL, is_enabled=True).values_list(
        "pk", flat=True
    ):
        enqueue("autoactivate.poll_one", source_id=pk)


def poll(source_id: int) -> int:
    """Store the tickets created since the last look; returns how many were new. Trouble is kept and alerted."""
    source = (
        InboundSource.objects.select_related("organization")
        .filter(pk=source_id, kind=InboundSource.Kind.POLL, is_enabled=True)
        .first()
    )
    if source is None or source.polled_from is None:
        return 0
    started_at = timezone.now()
    try:
        new = _poll(source, started_at)
    except (AtlassianError, DomainError) as error:
        advice = getattr(error, "advice", "")
        said = f"{error.detail.strip().rstrip('.')}. {advice}".strip()
        InboundSource.objects.filter(pk=source.pk).update(poll_error=said)
        if source.polled_at is None or started_at - source.polled_at > ALERT_AFTER:
            raise_alert(
                organization=source.organization,
                kind="activation_poll",
                severity="error",
                title="Tickets cannot be read from Jira",
                detail=f"{said} Requests wait until they can.",
                link=f"/o/{source.organization.slug}/activation/setup/",
            )
        logger.warning("poll.failed", extra={"organization": source.organization.slug, "code": error.code})
        return 0
    # Up to the start of this look: what was created meanwhile is found by the next one.
    InboundSource.objects.filter(pk=source.pk).update(polled_at=started_at, poll_error="")
    resolve_alert(organization=source.organization, dedup_key="activation_poll")
    return new


def _poll(source: InboundSource, now: datetime) -> int:
    assert source.polled_from is not None
    organization = source.organization
    since = max(source.polled_from, (source.polled_at or source.polled_from) - OVERLAP, now - MOST)
    minutes = math.ceil((now - since).total_seconds() / 60) + 1
    new = 0
    with reader_for(organization) as reader:
        keys = _projects(organization) or [desk.project_key for desk in reader.service_desks()]
        if not keys:
            return 0
        quoted = ", ".join(f'"{key}"' for key in keys)
        for issue in reader.iter_issues(f"project in ({quoted}) AND created >= -{minutes}m ORDER BY created ASC"):
            if issue.created_at is None or issue.created_at < source.polled_from or not issue_key(issue.key):
                continue
            received = Received("ticket", f"issue:{issue.key.upper()}", {"issue_key": issue.key.upper()})
            _event, is_new = receive(source=source, received=received, size_bytes=0, ip_address=None)
            new += is_new
    return new


def _projects(organization: Organization) -> list[str]:
    """Keys of the projects that rules are for, switched off ones among them: their first ticket proves the set-up."""
    rules = AssignmentRule.objects.of(organization).filter(
        deleted_at__isnull=True, channels__contains=[Channel.JSM.value]
    )
    return sorted(set(rules.exclude(project_key="").values_list("project_key", flat=True)))
