"""Test mails: sent at once to the one who asks, and recorded as every other mail."""

from __future__ import annotations

import uuid

from django.utils import timezone

from apps.notifications import content
from apps.notifications.models import Delivery, EmailTemplate, MailSettings
from apps.notifications.services import sending
from apps.notifications.services.smtp import AnswerLost, Deferred, MailSession, Refused, ServerTrouble
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.selectors import is_copy
from aum.common.errors import DomainError


class MailNotSent(DomainError):
    """The mail server did not take the mail; the sentence repeats what it said."""

    code = "mail_not_sent"
    status = 502


def send_test(
    *,
    organization: Organization,
    operator: Operator,
    template: EmailTemplate | None = None,
    subject: str = "",
    body: str = "",
) -> Delivery:
    """Send one mail with sample values to the operator's own address; returns it with the server's answer.

    Without template and body a plain test of the settings. Raises MailNotSent. Nothing is sent to anybody else.
    """
    settings = sending.mail_settings(organization)
    if not settings.is_ready:
        raise MailNotSent("No mail server is set. Enter it under Settings, Mail, then try again.")
    if is_copy():
        raise MailNotSent("This database is a copy of another installation's: it sends no mail.")
    now = timezone.now()
    days = template.days_inactive if template else 23
    event = template.event if template else ""
    values = content.sample_values(days=days, organization=organization.name, now=now, event=event)
    made = content.render(
        subject=subject or (template.subject if template else "AUM can send mail"),
        body=body or (template.body if template else _PLAIN),
        values=values,
        keep_url="",
        footer=["This is a test mail. Placeholders are replaced with sample values, and its link leads nowhere."],
    )
    row = Delivery.objects.create(
        organization=organization,
        kind=Delivery.Kind.TEST,
        status=Delivery.Status.CLAIMED,
        template=template,
        recipient=operator.email,
        subject=made.subject,
        html=made.html,
        text=made.text,
        priority=0,
        lease_token=uuid.uuid4(),
    )
    return _send_now(row, settings)


_PLAIN = "<h1>It works</h1><p>This mail server takes the mails of {{organization}}.</p>"


def _send_now(row: Delivery, settings: MailSettings) -> Delivery:
    message = sending.compose(row, settings)

    def mark() -> None:
        row.handed_at = timezone.now()
        Delivery.objects.filter(pk=row.pk).update(
            status=Delivery.Status.SENDING, handed_at=row.handed_at, message_id=row.message_id, attempts=1
        )

    try:
        with MailSession(settings) as session:
            answer = session.hand_over(message, row.recipient, before_data=mark)
    except (ServerTrouble, Deferred, Refused, AnswerLost) as error:
        problem = Delivery.Problem.REFUSED if isinstance(error, Refused) else ""
        Delivery.objects.filter(pk=row.pk).update(
            status=Delivery.Status.IN_DOUBT if isinstance(error, AnswerLost) else Delivery.Status.CANCELLED,
            server_answer=str(error)[:500],
            problem=problem,
            lease_token=None,
        )
        MailSettings.objects.filter(pk=settings.pk).update(last_error=str(error)[:500], last_error_at=timezone.now())
        raise MailNotSent(str(error)) from error
    sending.accept(row, answer, timezone.now())
    MailSettings.objects.filter(pk=settings.pk).update(
        last_ok_at=timezone.now(), failures=0, paused_until=None, last_error="", last_error_at=None
    )
    row.refresh_from_db()
    return row
