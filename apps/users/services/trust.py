"""Judging a sync against the last one that was trusted, and accepting a new baseline (P11)."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.audit.services import record
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert, resolve_alert
from apps.users.models import Account, SyncRun
from apps.users.selectors.trust import MERGED, last_trusted_sync, latest_merged_sync
from aum.common.errors import DomainError, InvalidInput

ALERT_KEY = "data_trust"


class BaselineRefused(DomainError):
    code = "baseline_refused"
    detail = "Only the newest sync, finished and not trusted, can be accepted as the new baseline."


def figures(run: SyncRun) -> dict[str, int]:
    """What trust is judged by, read from the mirror right after the merge of `run`.

    people: accounts that are there; with_activity: of them, with a known date; unknown_activity: with a held product
    whose activity is unknown. people_lost and activity_lost count what went missing in this and earlier syncs since the
    last trusted one, which `base_*` describe; changes that AUM made itself are not among them.
    """
    accounts = Account.objects.of(run.organization)
    baseline = last_trusted_sync(run.organization, before=run.pk)
    since = baseline.pk if baseline else 0
    live = accounts.filter(vanished_at__isnull=True)
    return {
        "people": live.count(),
        "with_activity": live.filter(last_active_at__isnull=False).count(),
        "unknown_activity": live.filter(has_unknown_activity=True).count(),
        "people_lost": accounts.filter(vanished_at__isnull=False, vanished_in_run__gt=since).count() if baseline else 0,
        "activity_lost": live.filter(activity_lost_in_run__gt=since).count() if baseline else 0,
        "base_run": since,
        "base_people": int(baseline.trust.get("people", 0)) if baseline else 0,
        "base_with_activity": int(baseline.trust.get("with_activity", 0)) if baseline else 0,
    }


def reasons(organization: Organization, trust: dict[str, Any]) -> list[str]:
    """Why the figures are not to be trusted, in sentences with numbers; empty when they are."""
    found = []
    lost, base = trust["people_lost"], trust["base_people"]
    if base and lost * 100 > base * organization.max_people_lost_percent:
        found.append(
            f"{lost:,} of {base:,} people are no longer in Atlassian's answers ({_share(lost, base)}; the limit is "
            f"{organization.max_people_lost_percent} %)."
        )
    lost, base = trust["activity_lost"], trust["base_with_activity"]
    if base and lost * 100 > base * organization.max_activity_lost_percent:
        found.append(
            f"{lost:,} of {base:,} people lost a date of last activity ({_share(lost, base)}; the limit is "
            f"{organization.max_activity_lost_percent} %)."
        )
    return found


def _share(part: int, whole: int) -> str:
    return f"{part * 100 / whole:.1f} %"


def tell(run: SyncRun) -> None:
    """Raise the alert of a sync that is not trusted, or close it."""
    if run.is_trusted:
        resolve_alert(organization=run.organization, dedup_key=ALERT_KEY)
        return
    raise_alert(
        organization=run.organization,
        kind="data_trust",
        severity="error",
        title="The last sync is not trusted: live rules that take access are held",
        detail=" ".join(run.distrust_reasons),
        link=f"/o/{run.organization.slug}/",
        dedup_key=ALERT_KEY,
    )


@transaction.atomic
def accept_baseline(*, sync_run: SyncRun, reason: str, actor: Actor) -> SyncRun:
    """Take the state of this sync as the new normal, once, with a reason; live rules work again.

    Raises InvalidInput without a reason, BaselineRefused unless it is the newest merged sync and not trusted.
    """
    if not reason.strip():
        raise InvalidInput(fields={"reason": ["Say why the new state is right."]})
    run: SyncRun = SyncRun.objects.select_for_update().select_related("organization").get(pk=sync_run.pk)
    newest = latest_merged_sync(run.organization)
    if run.status not in MERGED or run.is_trusted or newest is None or newest.pk != run.pk:
        raise BaselineRefused
    run.is_trusted = True
    run.baseline_accepted_by = actor.name
    run.baseline_accepted_at = timezone.now()
    run.baseline_reason = reason.strip()[:500]
    run.save(update_fields=["is_trusted", "baseline_accepted_by", "baseline_accepted_at", "baseline_reason"])
    record(
        organization=run.organization,
        actor=actor,
        action="sync.baseline_accepted",
        target_kind="sync",
        target_ref=str(run.pk),
        target_name=str(run.pk),
        reason=run.baseline_reason,
        before={"is_trusted": False, "reasons": run.distrust_reasons},
        after={"is_trusted": True, "figures": run.trust},
    )
    tell(run)
    return run
