"""The owners' digest: who was warned, who could not be told, what people answered. At most once in 24 hours."""

from __future__ import annotations

from datetime import datetime, timedelta
from html import escape

from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from apps.notifications import content
from apps.notifications.models import Delivery, KeepDecision, MailSettings
from apps.notifications.services.messages import owner_addresses
from apps.notifications.services.sending import queue_waiting
from apps.organizations.models import Organization

EVERY = timedelta(hours=24)
NAMES = 20


def send_digests(now: datetime | None = None) -> int:
    """Queue a digest for each organisation where something happened since its last one; returns how many mails."""
    at = now or timezone.now()
    sent = 0
    for row in MailSettings.objects.filter(is_digest_on=True).exclude(host="").select_related("organization"):
        if row.digest_sent_at is not None and at - row.digest_sent_at < EVERY:
            continue
        since = row.digest_sent_at or at - EVERY
        body = _body(row.organization, since, at)
        owners = owner_addresses(row.organization)
        if not body or not owners:
            continue
        with transaction.atomic():
            taken = MailSettings.objects.filter(pk=row.pk, digest_sent_at=row.digest_sent_at).update(digest_sent_at=at)
            if not taken:
                continue
            subject = f"Notices at {row.organization.name}"
            made = content.render(
                subject=subject, body=body, values={}, keep_url=None, footer=["Sent to owners by AUM."]
            )
            Delivery.objects.bulk_create(
                Delivery(
                    organization=row.organization,
                    kind=Delivery.Kind.DIGEST,
                    recipient=address,
                    subject=made.subject,
                    html=made.html,
                    text=made.text,
                )
                for address in owners
            )
            queue_waiting(row.organization)
        sent += len(owners)
    return sent


def _body(organization: Organization, since: datetime, now: datetime) -> str:
    """HTML of what happened in (since, now]; empty when nothing did."""
    notices = Delivery.objects.of(organization).filter(kind=Delivery.Kind.NOTICE)
    parts = []
    warned = notices.filter(accepted_at__gt=since, accepted_at__lte=now).order_by()
    rows = list(warned.values("rule_name").annotate(n=Count("account", distinct=True)).order_by("rule_name"))
    if rows:
        items = "".join(f"<li>{_safe(row['rule_name'])}: {row['n']:,} users warned</li>" for row in rows)
        parts.append(f"<h2>Warned</h2><ul>{items}</ul>")
    failed = notices.filter(status__in=Delivery.FAILED, release_at__isnull=True, failed_at__gt=since)
    if count := failed.count():
        names = ", ".join(
            _safe(name or "no name") for name in failed.order_by("-pk").values_list("account__name", flat=True)[:NAMES]
        )
        more = f" and {count - NAMES:,} more" if count > NAMES else ""
        parts.append(
            f"<h2>Could not be told</h2><p>{count:,} notices could not be delivered, and their users are not acted "
            f"upon until somebody decides: {names}{more}.</p>"
        )
    answers = KeepDecision.objects.of(organization).filter(decided_at__gt=since, decided_at__lte=now).order_by()
    given = list(answers.values("choice").annotate(n=Count("pk")).order_by("choice"))
    if given:
        labels = dict(KeepDecision.Choice.choices)
        items = "".join(f"<li>{_safe(str(labels[row['choice']]))}: {row['n']:,}</li>" for row in given)
        parts.append(f"<h2>Answers</h2><ul>{items}</ul>")
    return "".join(parts)


def _safe(text: str) -> str:
    """A name inside our own HTML: no tags, and no braces that would look like a placeholder."""
    return escape(content.clean_line(text, 120).replace("{", "(").replace("}", ")"), quote=False)
