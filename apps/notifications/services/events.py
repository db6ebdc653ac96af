"""Bounces and confirmations of the mail provider: stored as they come, believed only with the secret, read by a worker.

Understood are the plain form `{"event": "bounce", "message_id": "…", "reason": "…"}`, one or a list of them, and the
webhooks of Postmark, SendGrid, Mailgun and Amazon SES (also inside an SNS envelope).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.notifications.models import Delivery, MailEvent, MailSettings
from apps.notifications.services.sending import accept, undeliverable
from apps.operators.selectors import hash_secret
from apps.organizations.models import Organization
from aum.common.errors import InvalidInput

logger = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024
BOUNCES = {
    "bounce",
    "bounced",
    "hardbounce",
    "dropped",
    "failed",
    "permanent_fail",
    "complaint",
    "spamcomplaint",
    "blocked",
}
ARRIVALS = {"delivered", "delivery"}
_ID = re.compile(r"<?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})[@>]", re.IGNORECASE)


@dataclass(frozen=True)
class Report:
    """One event: which mail, what became of it, in whose words."""

    message_id: str
    is_bounce: bool
    reason: str


def settings_for(organization: Organization, secret: str) -> MailSettings | None:
    """The mail settings whose event secret this is, the previous one included while it overlaps; else None."""
    row: MailSettings | None = MailSettings.objects.of(organization).first()
    if row is None or not secret:
        return None
    given = hash_secret(secret)
    if row.bounce_hash and compare_digest(row.bounce_hash, given):
        return row
    is_old = row.bounce_old_hash and row.bounce_old_until and row.bounce_old_until > timezone.now()
    return row if is_old and compare_digest(row.bounce_old_hash, given) else None


def receive(organization: Organization, body: bytes) -> MailEvent:
    """Store what came. Raises InvalidInput unless it is JSON of a bearable size."""
    if len(body) > MAX_BYTES:
        raise InvalidInput("The body is too large.")
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("The body is not JSON.") from error
    if not isinstance(payload, dict | list) or "\\u0000" in json.dumps(payload):
        raise InvalidInput("Send one event or a list of events.")
    event: MailEvent = MailEvent.objects.create(organization=organization, payload=payload)
    return event


def process_events(limit: int = 200) -> int:
    """Read what arrived; returns how many. Reading one twice changes nothing more."""
    rows = MailEvent.objects.filter(processed_at__isnull=True).select_related("organization").order_by("pk")[:limit]
    done = 0
    for row in rows:
        results = [_apply(row.organization, report) for report in reports(row.payload)]
        MailEvent.objects.filter(pk=row.pk).update(
            processed_at=timezone.now(), result="; ".join(filter(None, results))[:300] or "nothing understood"
        )
        done += 1
    return done


def reports(payload: Any) -> Iterator[Report]:
    """The events of a payload that name one of our mails and say something final about it."""
    entries = payload if isinstance(payload, list) else [payload]
    for entry in entries[:1000]:
        if not isinstance(entry, Mapping):
            continue
        if isinstance(entry.get("Message"), str):  # Amazon SNS around Amazon SES
            try:
                yield from reports(json.loads(entry["Message"]))
            except ValueError:
                continue
            continue
        found = _report(entry)
        if found is not None:
            yield found


def _report(entry: Mapping[str, Any]) -> Report | None:
    data = entry.get("event-data") if isinstance(entry.get("event-data"), Mapping) else entry  # Mailgun
    assert isinstance(data, Mapping)
    word = str(
        data.get("event") or data.get("RecordType") or data.get("eventType") or data.get("notificationType") or ""
    ).lower()
    severity = str(data.get("severity") or data.get("Type") or "").lower()
    bounce = data.get("bounce")
    if word == "bounce" and isinstance(bounce, Mapping) and str(bounce.get("bounceType", "")).lower() == "transient":
        return None
    if severity in ("temporary", "softbounce", "transient"):
        return None
    match = _ID.search(_message_id(data) + ">")
    if match is None or word not in BOUNCES | ARRIVALS:
        return None
    reason = data.get("reason") or data.get("Description") or data.get("response") or data.get("description") or word
    return Report(match[1].lower(), word in BOUNCES, str(reason)[:300])


def _message_id(data: Mapping[str, Any]) -> str:
    for name in ("message_id", "message-id", "Message-Id", "smtp-id", "MessageID", "messageId"):
        if isinstance(data.get(name), str):
            return str(data[name])
    message, mail = data.get("message"), data.get("mail")
    if isinstance(message, Mapping) and isinstance(message.get("headers"), Mapping):
        return str(message["headers"].get("message-id", ""))
    if isinstance(mail, Mapping):
        headers = mail.get("commonHeaders")
        if isinstance(headers, Mapping):
            return str(headers.get("messageId", ""))
    return ""


def _apply(organization: Organization, report: Report) -> str:
    row = (
        Delivery.objects.of(organization)
        .select_related("organization", "account", "template")
        .filter(uuid=report.message_id)
        .first()
    )
    if row is None:
        return "no such mail"
    with transaction.atomic():
        if report.is_bounce and row.status in (Delivery.Status.ACCEPTED, Delivery.Status.IN_DOUBT):
            undeliverable(row, Delivery.Problem.BOUNCED, report.reason, status=Delivery.Status.BOUNCED)
            return f"mail {row.pk} bounced"
        if not report.is_bounce and row.status == Delivery.Status.IN_DOUBT:
            accept(row, f"Confirmed by the mail provider: {report.reason}", row.handed_at or timezone.now())
            return f"mail {row.pk} confirmed"
    return f"mail {row.pk} unchanged"
