"""The silence alarm: a rule that should have run and about which nothing happened (B25).

Workers cannot say that no worker runs, so beat asks as well (`apps.rules.scheduler`), and so does every probe of
/readyz: whichever of the processes lives raises the alert.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from apps.operations.models import Operation
from apps.organizations.models import Alert
from apps.organizations.services import raise_alert, resolve_alert
from apps.rules.models import CleanupRule

logger = logging.getLogger(__name__)

# Alerts come within 5 minutes of the due time, beat's minute and the sweep's included.
SILENT_AFTER = timedelta(minutes=3)


def report_silence() -> int:
    """Raise an alert for each rule that was due and not looked at, and each of its runs that no worker took up.

    Returns how many are silent now. What is no longer silent is resolved. Safe to call from any process, at any time.
    """
    now = timezone.now()
    late = now - SILENT_AFTER
    rules = CleanupRule.objects.filter(deleted_at__isnull=True, is_paused=False, next_run_at__lt=late)
    silent: dict[str, tuple[CleanupRule | Operation, str, str, str]] = {}
    for rule in rules.select_related("organization"):
        silent[f"rule_silent:{rule.pk}"] = (
            rule,
            f"{rule.name} should have run and nothing happened",
            f"It was due at {rule.next_run_at:%Y-%m-%d %H:%M} UTC.",
            f"/o/{rule.organization.slug}/rules/{rule.pk}/edit/",
        )
    waiting = Operation.objects.filter(
        Q(driven_at__isnull=True) | Q(driven_at__lt=late),
        rule_id__isnull=False,
        status__in=[Operation.Status.PLANNING, Operation.Status.QUEUED],
        created_at__lt=late,
    )
    for run in waiting.select_related("organization"):
        silent[f"run_silent:{run.pk}"] = (
            run,
            f"Run #{run.number} {run.name} does not begin",
            f"It was asked for at {run.created_at:%Y-%m-%d %H:%M} UTC.",
            run.get_absolute_url(),
        )
    open_alerts = Alert.objects.filter(kind="rule_silent", resolved_at__isnull=True).select_related("organization")
    known = {alert.dedup_key: alert for alert in open_alerts}
    for key, (row, title, detail, link) in silent.items():
        if key in known:
            continue
        raise_alert(
            organization=row.organization,
            kind="rule_silent",
            severity="error",
            title=title,
            detail=f"{detail} No worker has taken it up. Check that a worker and beat run (script/aum doctor).",
            link=link,
            dedup_key=key,
        )
        logger.error("rule.silent", extra={"key": key})
    for key, alert in known.items():
        if key not in silent:
            resolve_alert(organization=alert.organization, dedup_key=key)
    return len(silent)
