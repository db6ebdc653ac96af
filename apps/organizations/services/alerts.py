"""The alert outbox: lower layers say what a person must see; the in-app list and later channels deliver it."""

from __future__ import annotations

from django.db.models import F
from django.utils import timezone

from apps.organizations.models import Alert, Organization


def raise_alert(
    *,
    organization: Organization,
    kind: str,
    severity: str,
    title: str,
    detail: str = "",
    link: str = "",
    dedup_key: str = "",
) -> Alert:
    """Open an alert, or count up the open one with the same `dedup_key` (default: the kind)."""
    now = timezone.now()
    key = dedup_key or kind
    alert, created = Alert.objects.get_or_create(
        organization=organization,
        dedup_key=key,
        resolved_at=None,
        defaults={
            "kind": kind,
            "severity": severity,
            "title": title[:200],
            "detail": detail,
            "link": link,
            "created_at": now,
            "last_at": now,
        },
    )
    if not created:
        Alert.objects.filter(pk=alert.pk).update(
            repeats=F("repeats") + 1, last_at=now, title=title[:200], detail=detail, link=link, severity=severity
        )
    return alert


def resolve_alert(*, organization: Organization, dedup_key: str, by: str = "AUM") -> None:
    """Close the open alert with this key; nothing happens when there is none."""
    Alert.objects.of(organization).filter(dedup_key=dedup_key, resolved_at__isnull=True).update(
        resolved_at=timezone.now(), resolved_by=by
    )
