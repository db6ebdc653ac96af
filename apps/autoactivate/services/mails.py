"""The few mails of activation: confirm a request, an end that comes near. Text and HTML from the same paragraphs.

They go through the organisation's mail server; without one, through the installation's own (AUM_EMAIL_BACKEND).
"""

from __future__ import annotations

import logging
import smtplib
import uuid
from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.utils import timezone
from django.utils.html import escape

from apps.notifications.content import document
from apps.notifications.models import MailSettings
from apps.notifications.services.sending import mail_settings
from apps.notifications.services.smtp import AnswerLost, Deferred, MailSession, Refused, ServerTrouble
from apps.organizations.models import Organization
from apps.organizations.selectors import is_copy
from aum.common.errors import DomainError

logger = logging.getLogger(__name__)

SMTP_BACKEND = "django.core.mail.backends.smtp.EmailBackend"


class MailNotSent(DomainError):
    code = "mail_not_sent"
    detail = "The mail server did not take the mail. AUM tries again by itself."


def send(
    *, organization: Organization, to: str, subject: str, paragraphs: Sequence[str], link: str = "", button: str = ""
) -> None:
    """Hand one mail to the mail server. Raises MailNotSent."""
    if is_copy():
        raise MailNotSent("This database is a copy of another installation's: it sends no mail.")
    # One line, whatever a name holds: a header cannot be added through it.
    subject = " ".join(subject.split())[:200]
    text = "\n\n".join([*paragraphs, *([f"{button}: {link}"] if link else [])]) + "\n"
    html = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs)
    if link:
        html += f'<p><a href="{escape(link)}">{escape(button)}</a></p>'
        html += f"<p>If that does not open, use this address: {escape(link)}</p>"
    html = document(subject, html)
    own = mail_settings(organization)
    try:
        if own.is_ready:
            _by_own_server(own, to, subject, text, html)
        elif settings.EMAIL_BACKEND == SMTP_BACKEND:
            raise MailNotSent("No mail server is set. Enter it under Settings, Mail; then the mail is sent by itself.")
        else:
            _by_installation(to, subject, text, html)
    except AnswerLost:
        # The whole mail was handed over: it may have arrived, and a second one would only confuse.
        logger.warning("activation.mail_in_doubt", extra={"organization": organization.slug})
    except (ServerTrouble, Deferred, Refused, OSError, smtplib.SMTPException, ValueError) as error:
        logger.warning(
            "activation.mail_not_sent", extra={"organization": organization.slug, "error": type(error).__name__}
        )
        said = str(error) if isinstance(error, ServerTrouble | Deferred | Refused) else ""
        raise MailNotSent(f"The mail could not be sent. {said} AUM tries again.".replace("  ", " ")) from error


def _by_own_server(own: MailSettings, to: str, subject: str, text: str, html: str) -> None:
    message = EmailMessage()
    message["From"] = Address(own.from_name, addr_spec=own.from_address)
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = format_datetime(timezone.now())
    message["Message-ID"] = f"<{uuid.uuid4()}@{own.from_address.rpartition('@')[2].lower() or 'aum.invalid'}>"
    if own.reply_to:
        message["Reply-To"] = own.reply_to
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text, cte="quoted-printable")
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    with MailSession(own) as session:
        session.hand_over(message, to, before_data=lambda: None)


def _by_installation(to: str, subject: str, text: str, html: str) -> None:
    message = EmailMultiAlternatives(
        subject, text, settings.DEFAULT_FROM_EMAIL, [to], headers={"Auto-Submitted": "auto-generated"}
    )
    message.attach_alternative(html, "text/html")
    message.send()
