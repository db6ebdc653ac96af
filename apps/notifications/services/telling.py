"""Telling channels: alerts are queued, and what is queued is delivered, tried again, and kept as a log.

An alert is told once to each channel that was enabled when it opened. The signature of a webhook is `v1=` +
HMAC-SHA256 of `<timestamp>.<body>` with the channel's secret, in hex (docs/webhooks.md).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings as django_settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.notifications.content import clean_line
from apps.notifications.models import AlertChannel, ChannelDelivery
from apps.notifications.services.channel_messages import signature, slack_message, teams_message
from apps.notifications.services.channels import ChannelRefused, record_channel
from apps.notifications.services.sending import back_off
from apps.notifications.services.webhooks import ALERT
from apps.organizations import crypto
from apps.organizations.models import Alert, Organization
from apps.organizations.outgoing import AddressRefused, Answer, Unreachable, send
from apps.organizations.recorder import Actor
from apps.organizations.selectors import is_copy
from apps.organizations.services import raise_alert, resolve_alert
from aum.common.errors import InvalidInput
from aum.common.tasks import enqueue

# With the pauses between them, these take about a day.
ATTEMPTS = 19
LONGEST_PAUSE_SECONDS = 7200.0
# A channel that does not answer is left alone for at most so long; the others go on meanwhile.
CHANNEL_PAUSE_SECONDS = 900.0
LEASE = timedelta(seconds=60)
# An alert that nobody could be told for so long is old news.
TOLD_WITHIN = timedelta(days=2)
KEPT = timedelta(days=30)
LEVELS = {"info": ("info", "warning", "error"), "warning": ("warning", "error"), "error": ("error",)}
Status = ChannelDelivery.Status


def queue_alerts() -> int:
    """Queue alerts that opened since their channels were enabled; returns how many messages. Safe to repeat."""
    now = timezone.now()
    queued = 0
    listening = AlertChannel.objects.filter(is_enabled=True, events__contains=[ALERT])
    for channel in listening.select_related("organization"):
        since = max(channel.last_alert_at, now - TOLD_WITHIN)
        told = ChannelDelivery.objects.filter(channel=channel, is_test=False).values_list("event_key", flat=True)
        alerts = Alert.objects.of(channel.organization).filter(
            created_at__gte=since, severity__in=LEVELS[channel.level]
        )
        known = set(told.filter(created_at__gte=since - timedelta(hours=1)))
        fresh = [alert for alert in alerts.order_by("pk")[:500] if f"alert:{alert.pk}" not in known]
        rows = ChannelDelivery.objects.bulk_create(
            [
                ChannelDelivery(
                    organization=channel.organization,
                    channel=channel,
                    event_key=f"alert:{alert.pk}",
                    title=alert.title[:200],
                    payload=_alert_payload(alert, channel.organization),
                    next_attempt_at=now,
                )
                for alert in fresh
            ],
            ignore_conflicts=True,
        )
        queued += len(rows)
    if queued or ChannelDelivery.objects.filter(status=Status.QUEUED, next_attempt_at__lte=now).exists():
        enqueue("notifications.channels")
    return queued


def _alert_payload(alert: Alert, organization: Organization) -> dict[str, Any]:
    return {
        "type": ALERT,
        "kind": alert.kind,
        "severity": alert.severity,
        "title": alert.title,
        "detail": alert.detail[:2000],
        "link": f"{django_settings.AUM_BASE_URL}{alert.link}" if alert.link else "",
        "organization": {"slug": organization.slug, "name": organization.name},
        "actor": None,
        "at": alert.created_at.isoformat(),
        "data": {"alert": {"id": alert.pk, "kind": alert.kind}},
    }


def deliver_waiting(*, seconds: float = 20.0) -> int:
    """Deliver what is queued and due; returns how many were taken. A process that dies leaves its row to be retried."""
    if is_copy():
        return 0
    ends, taken = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        row = _claim()
        if row is None:
            break
        taken += _deliver(row).status == Status.SENT
    return taken


def _claim() -> ChannelDelivery | None:
    now = timezone.now()
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=now)
    ready = Q(channel__paused_until__isnull=True) | Q(channel__paused_until__lte=now)
    with transaction.atomic():
        row = (
            ChannelDelivery.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("channel", "organization")
            .filter(free, ready, status=Status.QUEUED, next_attempt_at__lte=now)
            .order_by("next_attempt_at", "pk")
            .first()
        )
        if row is None:
            return None
        ChannelDelivery.objects.filter(pk=row.pk).update(lease_until=now + LEASE, attempts=F("attempts") + 1)
        row.attempts += 1
        found: ChannelDelivery = row
    return found


def _deliver(row: ChannelDelivery) -> ChannelDelivery:
    """One attempt, and what follows from it: done, failed for good, or tried again later."""
    now = timezone.now()
    status, said, code, wait = Status.FAILED.value, "", None, 0.0
    if not row.channel.is_enabled and not row.is_test:
        said = "The channel is disabled."
    else:
        try:
            answer = _post(row)
        except (AddressRefused, crypto.SecretUnreadable) as error:
            said = error.detail
        except Unreachable as error:
            said, status = error.detail, Status.QUEUED.value
        else:
            code, said = answer.status, answer.text
            if answer.ok:
                status = Status.SENT.value
            elif code in (408, 425, 429) or code >= 500:
                status, wait = Status.QUEUED.value, _asked_to_wait(answer.headers)
    is_trouble = status == Status.QUEUED.value
    if is_trouble and (row.is_test or row.attempts >= ATTEMPTS):
        status = Status.FAILED.value
    pause = back_off(row.attempts, first_seconds=30, most_seconds=LONGEST_PAUSE_SECONDS)
    row.status, row.http_status, row.answer = status, code, clean_line(said, 500)
    row.sent_at = now if status == Status.SENT.value else None
    row.lease_until, row.next_attempt_at = None, now + max(pause, timedelta(seconds=wait))
    with transaction.atomic():
        row.save(update_fields=["status", "http_status", "answer", "sent_at", "lease_until", "next_attempt_at"])
        if not row.is_test or status == Status.SENT.value:
            _note_health(row, is_trouble=is_trouble, wait=wait)
    return row


def _asked_to_wait(headers: dict[str, str]) -> float:
    """Seconds of a `Retry-After`, at most the longest pause; 0 without one."""
    text = headers.get("retry-after", "")
    return min(float(text), LONGEST_PAUSE_SECONDS) if text.isascii() and text.isdigit() else 0.0


def _note_health(row: ChannelDelivery, *, is_trouble: bool, wait: float) -> None:
    """Leave a channel that is down alone for a while; say so once a message could not be delivered at all."""
    channel = row.channel
    key = f"channel_failed:{channel.pk}"
    failures = channel.failures + 1 if is_trouble else 0
    if failures or channel.failures:
        pause = back_off(failures, first_seconds=30, most_seconds=CHANNEL_PAUSE_SECONDS)
        until = timezone.now() + max(pause, timedelta(seconds=wait)) if is_trouble else None
        AlertChannel.objects.filter(pk=channel.pk).update(failures=failures, paused_until=until)
    if row.status == Status.SENT:
        resolve_alert(organization=row.organization, dedup_key=key)
    elif row.status == Status.FAILED and channel.is_enabled:
        code = f" with {row.http_status}" if row.http_status else ""
        raise_alert(
            organization=row.organization,
            kind="channel_failed",
            severity="warning",
            title=f"“{channel.name}” did not take a message",
            detail=f"“{row.title}” was refused{code} after {row.attempts} attempt{'' if row.attempts == 1 else 's'}. "
            "Mend the other side, then send it again from the log.",
            link=channel.get_absolute_url(),
            dedup_key=key,
        )


def signed_request(row: ChannelDelivery) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a message as they would be sent now. Raises SecretUnreadable."""
    channel = row.channel
    make: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        AlertChannel.Kind.SLACK: slack_message,
        AlertChannel.Kind.TEAMS: teams_message,
        AlertChannel.Kind.WEBHOOK: lambda payload: {"id": str(row.uuid), **payload},
    }
    body = json.dumps(make[channel.kind](row.payload), ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json; charset=utf-8"}
    if channel.kind == AlertChannel.Kind.WEBHOOK and channel.encrypted_secret:
        stamp = str(int(time.time()))
        headers |= {
            "X-AUM-Event-Id": str(row.uuid),
            "X-AUM-Event": str(row.payload["type"]),
            "X-AUM-Timestamp": stamp,
            "X-AUM-Signature": ",".join(f"v1={signature(secret, stamp, body)}" for secret in _secrets(channel)),
        }
    return body, headers


def _post(row: ChannelDelivery) -> Answer:
    body, headers = signed_request(row)
    return send("POST", crypto.decrypt(bytes(row.channel.encrypted_address)), body=body, headers=headers)


def _secrets(channel: AlertChannel) -> list[str]:
    """The secret, and the previous one for as long as both sign."""
    assert channel.encrypted_secret is not None
    found = [bytes(channel.encrypted_secret)]
    if channel.encrypted_old_secret and channel.old_secret_until and channel.old_secret_until > timezone.now():
        found.append(bytes(channel.encrypted_old_secret))
    return [crypto.decrypt(value) for value in found]


def test_channel(*, channel: AlertChannel, actor: Actor) -> ChannelDelivery:
    """Send a test message now. Raises ChannelRefused with what the other side said; the log keeps both."""
    payload: dict[str, Any] = {
        "type": "test",
        "kind": "test",
        "severity": "info",
        "title": "AUM can reach this channel",
        "detail": f"Sent by {actor.name} to try it. Messages look like this.",
        "link": f"{django_settings.AUM_BASE_URL}/o/{channel.organization.slug}/alerts/",
        "organization": {"slug": channel.organization.slug, "name": channel.organization.name},
        "actor": {"kind": actor.kind, "name": actor.name},
        "at": timezone.now().isoformat(),
        "data": {},
    }
    row = ChannelDelivery.objects.create(
        organization=channel.organization,
        channel=channel,
        event_key=f"test:{secrets.token_hex(8)}",
        title=payload["title"],
        payload=payload,
        is_test=True,
        attempts=1,
        next_attempt_at=timezone.now(),
        lease_until=timezone.now() + LEASE,
    )
    row.channel, row.organization = channel, channel.organization
    record_channel(channel, actor, "alert_channel.tested")
    if is_copy():
        raise ChannelRefused("This database is a copy of another installation's: it sends nothing.")
    done = _deliver(row)
    if done.status != Status.SENT:
        code = f"{done.http_status}: " if done.http_status else ""
        raise ChannelRefused(f"The message was not taken. {code}{done.answer}")
    return done


def redeliver(*, delivery: ChannelDelivery, actor: Actor) -> ChannelDelivery:
    """Queue a message once more, with the id that it has. Raises InvalidInput for a test or one that still waits."""
    with transaction.atomic():
        changed = ChannelDelivery.objects.filter(
            pk=delivery.pk, status__in=[Status.FAILED, Status.SENT], is_test=False
        ).update(status=Status.QUEUED, attempts=0, next_attempt_at=timezone.now(), lease_until=None)
        if not changed:
            raise InvalidInput("Only a message that was delivered or failed can be sent again.")
        AlertChannel.objects.filter(pk=delivery.channel_id).update(failures=0, paused_until=None)
        record_channel(delivery.channel, actor, "alert_channel.redelivered", after={"title": delivery.title})
    enqueue("notifications.channels")
    delivery.refresh_from_db()
    return delivery


def forget_old_messages() -> int:
    """Delete what ended more than KEPT ago from the logs, in portions; returns how many."""
    old = ChannelDelivery.objects.exclude(status=Status.QUEUED).filter(created_at__lt=timezone.now() - KEPT)
    gone, _ = ChannelDelivery.objects.filter(
        pk__in=list(old.order_by("pk").values_list("pk", flat=True)[:2000])
    ).delete()
    return gone
