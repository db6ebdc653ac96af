"""What a queued mail says at the moment it is sent: to whom, which date it announces, which link it carries."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils import timezone

from apps.notifications import content, links
from apps.notifications.models import Audience, Delivery, KeepCode, MailSettings
from apps.notifications.registry import registry
from apps.operators.models import Grant, Role
from apps.organizations.models import Organization
from apps.users.models import Account
from apps.users.products import label_of

CODE_DIGITS = 8


class Unaddressed(Exception):
    """There is no address to send this to; `problem` as in Delivery.Problem."""

    def __init__(self, problem: str, said: str) -> None:
        super().__init__(said)
        self.problem = problem


class Unsendable(Exception):
    """The mail is no longer to be sent; the text says why."""


def prepare(row: Delivery, settings: MailSettings) -> None:
    """Set recipient, subject, bodies and dates of `row`, unsaved. Raises Unaddressed or Unsendable.

    `wire_html` and `wire_text` are what is sent; `html` and `text`, without link and code, are what is kept.
    """
    if row.kind == Delivery.Kind.NOTICE:
        _notice(row, settings)
    elif row.kind == Delivery.Kind.CODE:
        _code(row)
    elif row.kind == Delivery.Kind.ASK:
        _question(row)
    elif row.kind == Delivery.Kind.BCC and (row.template is None or not row.template.is_enabled):
        raise Unsendable("The template is disabled.")
    _checked(row.recipient)


def _checked(address: str) -> None:
    try:
        validate_email(address)
    except ValidationError as error:
        raise Unaddressed(Delivery.Problem.NO_ADDRESS, "The address is not valid.") from error
    if not address.isascii():
        raise Unaddressed(Delivery.Problem.NO_ADDRESS, "Addresses with other letters than ASCII cannot be written to.")


def _notice(row: Delivery, settings: MailSettings) -> None:
    template, account = row.template, row.account
    if template is None or template.deleted_at is not None:
        raise Unsendable("The template was deleted.")
    if not template.is_enabled:
        raise Unsendable("The template is disabled.")
    if account is None:
        raise Unsendable("The person is no longer known.")
    now = timezone.now()
    row.recipient = _recipient(row, account)
    row.announced_at = _announced(row, now)
    is_person = row.audience == Audience.PERSON
    row.keep_until = now + timedelta(days=settings.link_days) if is_person else None
    values = values_of(row, account, now)
    kept = content.render(
        subject=template.subject,
        body=template.body,
        values=values,
        keep_url="" if is_person else None,
        footer=footer_of(row.organization, account, is_person=is_person),
    )
    row.subject, row.html, row.text = kept.subject, kept.html, kept.text
    if is_person:
        sent = content.render(
            subject=template.subject,
            body=template.body,
            values=values,
            keep_url=links.keep_url(row),
            footer=footer_of(row.organization, account, is_person=True),
        )
        row.wire_html, row.wire_text = sent.html, sent.text  # type: ignore[attr-defined]  # not stored: they hold the link


def _recipient(row: Delivery, account: Account) -> str:
    if row.audience == Audience.PERSON:
        if not account.email:
            raise Unaddressed(Delivery.Problem.NO_ADDRESS, "Atlassian gives no email address for this user.")
        return account.email
    manager = getattr(getattr(account, "contact", None), "manager_email", "")
    owner = manager or next(iter(owner_addresses(row.organization)), "")
    if not owner:
        raise Unaddressed(Delivery.Problem.NO_MANAGER, "The mapping names no manager, and AUM has no owner.")
    return owner


def owner_addresses(organization: Organization) -> list[str]:
    """Addresses of the owners of this organisation in AUM, who holds the role longest first."""
    rows = Grant.objects.of(organization).filter(role=Role.OWNER, operator__is_active=True).order_by("granted_at", "pk")
    return list(rows.values_list("operator__email", flat=True))


def _announced(row: Delivery, now: datetime) -> datetime | None:
    """The rule's first run that keeps the full number of days, counted from this moment."""
    if row.rule_id is None or row.due_at is None:
        return row.due_at
    earliest = max(row.due_at, now + timedelta(days=row.days_before or 0))
    return registry.next_action_at(row.organization, row.rule_id, earliest) or earliest


def values_of(row: Delivery, account: Account, now: datetime) -> dict[str, str]:
    """Values of the placeholders for one person."""
    since = row.last_active_at
    products = ", ".join(label_of(product) for product in row.products)
    return {
        "username": account.name or account.email or "user",
        "email": account.email or "",
        "inactivity_days": str(max(0, (now - (since or row.spell_at or now)).days)),
        "last_login_date": content.day_text(since) if since else "never",
        "product": products or "Atlassian",
        "action": action_words(row.action, products),
        "action_date": content.day_text(row.announced_at) if row.announced_at else "",
        "rule": row.rule_name,
        "organization": row.organization.name,
    }


def action_words(action: str, products: str = "") -> str:
    """`suspension of your account`, `removal of your access to Jira Software`."""
    words = content.ACTION_WORDS.get(action, action.replace("_", " "))
    return f"{words} to {products}" if action == "remove_product_access" and products else words


def footer_of(organization: Organization, account: Account, *, is_person: bool) -> list[str]:
    """Why this mail came: below every notice, whatever the template says."""
    if is_person:
        return [
            f"Sent to you by the administrators of {organization.name}, because you have an Atlassian account there."
        ]
    who = account.name or account.email or account.account_id
    return [f"Sent to you by the administrators of {organization.name}, about {who}: you are named as the one to ask."]


# --- codes ------------------------------------------------------------------------------------------------------------


def code_of(code: KeepCode) -> str:
    """The code, derived from the row and the installation's secret: no table holds it."""
    digest = hmac.new(django_settings.SECRET_KEY.encode(), f"aum.keep-code:{code.uuid}".encode(), hashlib.sha256)
    return str(int.from_bytes(digest.digest()[:8], "big") % 10**CODE_DIGITS).zfill(CODE_DIGITS)


def _code(row: Delivery) -> None:
    code = KeepCode.objects.filter(mail=row).order_by("-pk").first()
    account = row.account
    if code is None or code.expires_at <= timezone.now() or code.used_at is not None:
        raise Unsendable("The code has expired.")
    if account is None or not account.email:
        raise Unaddressed(Delivery.Problem.NO_ADDRESS, "Atlassian gives no email address for this user.")
    row.recipient = account.email
    what = {"release": "give your access back", "return": "get your access again"}[code.choice]
    body = (
        "<p>Dear {{username}},</p><p>somebody opened the link of your mail and asked to " + what + ". "
        "If that was you, enter this code on that page:</p><h2>{{code}}</h2>"
        "<p>It is good for 15 minutes. If it was not you, do nothing: without the code nothing happens.</p>"
    )
    name = account.name or account.email
    subject = f"Your code for {row.organization.name}"
    for attribute, shown in (("wire_", code_of(code)), ("", "•" * CODE_DIGITS)):
        made = content.render(subject=subject, body=body, values={"username": name, "code": shown}, keep_url=None)
        setattr(row, f"{attribute}html", made.html)
        setattr(row, f"{attribute}text", made.text)
    row.subject = subject


# --- questions to managers --------------------------------------------------------------------------------------------


def _question(row: Delivery) -> None:
    account, failed = row.account, row.copy_of
    if account is None or failed is None or failed.status not in Delivery.FAILED:
        raise Unsendable("The question has settled itself.")
    values = {
        "username": account.name or account.account_id,
        "organization": row.organization.name,
        "action": action_words(failed.action, ", ".join(label_of(p) for p in failed.products)).replace("your", "their"),
        "rule": failed.rule_name,
        "problem": str(Delivery.Problem(failed.problem).label) if failed.problem else "",
    }
    made = content.render(
        subject="{{username}} could not be told about a planned change",
        body=(
            "<p>{{username}} was to be told that without a login the {{action}} follows at {{organization}}, and the "
            "mail could not be delivered: {{problem}}.</p><p>Nothing happens to the account until this is settled. "
            "Please tell the administrators of {{organization}} whether the access is still needed, or give them a "
            "working address.</p>"
        ),
        values=values,
        keep_url=None,
        footer=[f"You are named as the manager of {values['username']}."],
    )
    row.subject, row.html, row.text = made.subject, made.html, made.text
