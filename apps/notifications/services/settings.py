"""The mail server, sender, pace and link policy of an organisation; its password is encrypted and never shown."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.audit.services import record
from apps.notifications.content import clean_line
from apps.notifications.models import MailSettings
from apps.notifications.services.sending import mail_settings
from apps.notifications.services.templates import clean_addresses
from apps.operators.selectors import hash_secret
from apps.organizations import crypto
from apps.organizations.models import Organization
from apps.organizations.outgoing import AddressRefused, resolve
from apps.organizations.recorder import Actor
from aum.common.errors import InvalidInput

# How long the old secret of the provider's events is still taken after a new one was made.
OVERLAP = timedelta(hours=24)
_RANGES = {
    "port": (1, 65535),
    "per_minute": (1, 60000),
    "keep_days": (1, 365),
    "keep_per_year": (0, 12),
    "link_days": (1, 180),
}


@dataclass(frozen=True)
class MailInput:
    """All that can be entered. An empty `password` keeps the saved one; `without_password` removes it."""

    host: str = ""
    port: Any = 587
    security: str = MailSettings.Security.STARTTLS.value
    username: str = ""
    password: str = ""
    without_password: bool = False
    from_name: str = ""
    from_address: str = ""
    reply_to: str = ""
    per_minute: Any = 300
    keep_days: Any = 30
    keep_per_year: Any = 2
    link_days: Any = 60
    is_digest_on: bool = True


def save_mail_settings(*, organization: Organization, values: MailInput, actor: Actor) -> MailSettings:
    """Save the settings; the password only when one is given. Raises InvalidInput that names each wrong field."""
    current = mail_settings(organization)
    columns = _clean(values, current)
    with transaction.atomic():
        row: MailSettings = MailSettings.objects.select_for_update().get(pk=current.pk)
        before = {name: getattr(row, name) for name in columns}
        after = {name: value for name, value in columns.items() if before[name] != value}
        is_new_server = "host" in after or "port" in after
        if is_new_server and row.encrypted_password and not values.password and columns["username"]:
            raise InvalidInput(
                fields={"password": ["Enter the password again: a saved one is not sent to another server."]}
            )
        for name, value in columns.items():
            setattr(row, name, value)
        changes: dict[str, Any] = dict(after)
        if values.password:
            row.encrypted_password = crypto.encrypt(values.password)
            row.password_set_at, row.password_set_by = timezone.now(), actor.name[:254]
            changes["password"] = "set"
        elif (values.without_password or not columns["username"]) and row.encrypted_password:
            row.encrypted_password, row.password_set_at, row.password_set_by = None, None, ""
            changes["password"] = "removed"
        if not changes:
            return row
        # A changed server is tried at once.
        row.failures, row.paused_until, row.last_error, row.last_error_at = 0, None, "", None
        row.save()
        record(
            organization=organization,
            actor=actor,
            action="mail_settings.updated",
            target_kind="organization",
            target_ref=str(organization.pk),
            target_name=organization.name,
            before={name: before[name] for name in after},
            after=changes,
        )
    return row


def _clean(values: MailInput, current: MailSettings) -> dict[str, Any]:
    errors: dict[str, list[str]] = {}
    numbers: dict[str, int] = {}
    for name, (least, most) in _RANGES.items():
        text = str(getattr(values, name)).strip()
        if text.isascii() and text.isdecimal() and len(text) < 7 and least <= int(text) <= most:
            numbers[name] = int(text)
        else:
            errors[name] = [f"Enter a whole number from {least} to {most:,}."]
    host = values.host.strip().lower()
    if host and "port" in numbers:
        try:
            resolve(host, numbers["port"])
        except AddressRefused as error:
            errors["host"] = [error.detail]
    if values.security not in MailSettings.Security.values:
        errors["security"] = [f"Choose one of {', '.join(MailSettings.Security.values)}."]
    username = values.username.strip()
    if len(username) > 254 or any(not character.isprintable() for character in username):
        errors["username"] = ["This name cannot be used."]
    if username and values.security == MailSettings.Security.NONE and not _is_loopback(host):
        errors["security"] = ["A password is not sent without encryption. Choose STARTTLS or TLS."]
    if username and not values.password and not current.encrypted_password:
        errors["password"] = ["Enter the password that belongs to this user name."]
    if len(values.password) > 1000 or "\x00" in values.password:
        errors["password"] = ["This password cannot be used."]
    addresses: dict[str, str] = {}
    for name in ("from_address", "reply_to"):
        found, fault = clean_addresses(str(getattr(values, name)), limit=1)
        if fault:
            errors[name] = ["Enter one email address, such as it-support@example.com."]
        addresses[name] = found[0] if found else ""
    if host and not addresses["from_address"] and "from_address" not in errors:
        errors["from_address"] = ["Enter the address that mails are sent from."]
    from_name = clean_line(values.from_name, 101)
    if len(from_name) > 100:
        errors["from_name"] = ["Use at most 100 characters."]
    if errors:
        raise InvalidInput(fields=errors)
    return {
        "host": host,
        "security": values.security,
        "username": username,
        "from_name": from_name,
        "is_digest_on": bool(values.is_digest_on),
        **numbers,
        **addresses,
    }


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1")


def rotate_bounce_secret(*, organization: Organization, actor: Actor) -> str:
    """A new secret for the provider's events, shown once; the old one is taken for another day."""
    row = mail_settings(organization)
    secret = f"aumb_{secrets.token_urlsafe(32)}"
    now = timezone.now()
    with transaction.atomic():
        row = MailSettings.objects.select_for_update().get(pk=row.pk)
        row.bounce_old_hash, row.bounce_old_until = row.bounce_hash, now + OVERLAP if row.bounce_hash else None
        row.bounce_hash, row.bounce_set_at = hash_secret(secret), now
        row.save(update_fields=["bounce_old_hash", "bounce_old_until", "bounce_hash", "bounce_set_at"])
        record(
            organization=organization,
            actor=actor,
            action="mail_settings.bounce_secret_made",
            target_kind="organization",
            target_ref=str(organization.pk),
            target_name=organization.name,
        )
    return secret


INPUT_FIELDS = tuple(entry.name for entry in fields(MailInput))
