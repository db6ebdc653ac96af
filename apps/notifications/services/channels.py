"""Where alerts and events go besides the pages: making, changing and removing Slack, Teams and webhook channels."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.audit.services import record
from apps.notifications.content import clean_line
from apps.notifications.models import AlertChannel
from apps.notifications.services.webhooks import ALERT, NAMES
from apps.organizations import crypto
from apps.organizations.models import Organization
from apps.organizations.outgoing import AddressRefused, clean_url
from apps.organizations.recorder import Actor
from aum.common.errors import DomainError, InvalidInput, Missing

MAX_CHANNELS = 20
# So long a replaced secret goes on signing beside the new one.
OVERLAP = timedelta(hours=24)
MIN_SECRET = 24


class ChannelRefused(DomainError):
    """The other side did not take the message; the sentence repeats what it said."""

    code = "channel_refused"
    status = 502


@dataclass(frozen=True)
class ChannelInput:
    """All that can be entered of a channel. An empty address or secret keeps the saved one; both are for webhooks."""

    name: str = ""
    kind: str = AlertChannel.Kind.SLACK.value
    address: str = ""
    level: str = AlertChannel.Level.WARNING.value
    is_enabled: bool = True
    events: Sequence[str] = (ALERT,)
    secret: str = ""


def create_channel(*, organization: Organization, values: ChannelInput, actor: Actor) -> tuple[AlertChannel, str]:
    """A new channel, and the secret that was made for a webhook, which is shown once. Raises InvalidInput.

    The secret is empty where the caller brought one.
    """
    if AlertChannel.objects.of(organization).count() >= MAX_CHANNELS:
        raise InvalidInput(f"An organisation has at most {MAX_CHANNELS} channels. Delete one first.")
    columns = _clean(values, organization, None)
    now = timezone.now()
    is_webhook = values.kind == AlertChannel.Kind.WEBHOOK
    made = _new_secret() if is_webhook and not values.secret else ""
    try:
        with transaction.atomic():
            channel = AlertChannel(
                organization=organization,
                edited_by_text=actor.name[:254],
                edited_at=now,
                last_alert_at=now,
                **columns,
            )
            if is_webhook:
                channel.encrypted_secret, channel.secret_set_at = crypto.encrypt(made or values.secret), now
            channel.save()
            after = {"kind": channel.kind, "level": channel.level, "events": channel.events}
            record_channel(channel, actor, "alert_channel.created", after=after)
    except IntegrityError as error:
        raise InvalidInput(fields={"name": ["Another channel has this name."]}) from error
    return channel, made


def update_channel(*, channel: AlertChannel, values: ChannelInput, actor: Actor) -> AlertChannel:
    """Change a channel; its kind stays. Raises InvalidInput, Missing."""
    columns = _clean(values, channel.organization, channel)
    with transaction.atomic():
        row = _locked(channel)
        changed = [name for name, value in columns.items() if getattr(row, name) != value]
        if values.secret:
            _replace_secret(row, values.secret)
            changed.append("secret")
        if not changed:
            return row
        if "is_enabled" in changed and columns["is_enabled"]:
            row.last_alert_at = timezone.now()
        for name, value in columns.items():
            setattr(row, name, value)
        row.failures, row.paused_until = 0, None
        row.edited_by_text, row.edited_at = actor.name[:254], timezone.now()
        row.save()
        shown = {name: columns[name] for name in changed if name in columns and name != "encrypted_address"}
        if values.secret:
            shown["secret_set_at"] = row.secret_set_at
        record_channel(row, actor, "alert_channel.updated", after=shown)
    return row


def switch_channel(*, channel: AlertChannel, actor: Actor) -> AlertChannel:
    """On where it is off, and off where it is on. Raises InvalidInput, Missing."""
    values = ChannelInput(
        name=channel.name,
        kind=channel.kind,
        level=channel.level,
        events=channel.events,
        is_enabled=not channel.is_enabled,
    )
    return update_channel(channel=channel, values=values, actor=actor)


def rotate_channel_secret(*, channel: AlertChannel, actor: Actor) -> str:
    """A new secret for a signed webhook, shown once. Raises InvalidInput.

    For a day messages carry the signature of the previous secret as well.
    """
    if channel.kind != AlertChannel.Kind.WEBHOOK:
        raise InvalidInput("Only signed webhooks have a secret.")
    secret = _new_secret()
    with transaction.atomic():
        row = _locked(channel)
        _replace_secret(row, secret)
        row.save(update_fields=["encrypted_secret", "secret_set_at", "encrypted_old_secret", "old_secret_until"])
        record_channel(row, actor, "alert_channel.secret_made")
    return secret


def delete_channel(*, channel: AlertChannel, actor: Actor) -> None:
    """Remove a channel and its log. Raises Missing."""
    with transaction.atomic():
        row = _locked(channel)
        record_channel(row, actor, "alert_channel.deleted")
        row.delete()


def _locked(channel: AlertChannel) -> AlertChannel:
    found: AlertChannel | None = (
        AlertChannel.objects.select_for_update(of=("self",))
        .select_related("organization")
        .filter(pk=channel.pk)
        .first()
    )
    if found is None:
        raise Missing("This channel was deleted.")
    return found


def _replace_secret(row: AlertChannel, secret: str) -> None:
    now = timezone.now()
    row.encrypted_old_secret, row.old_secret_until = row.encrypted_secret, now + OVERLAP
    row.encrypted_secret, row.secret_set_at = crypto.encrypt(secret), now


def _new_secret() -> str:
    return f"aumw_{secrets.token_urlsafe(32)}"


def _clean(values: ChannelInput, organization: Organization, channel: AlertChannel | None) -> dict[str, Any]:
    errors: dict[str, list[str]] = {}
    name = clean_line(values.name, 101)
    others = AlertChannel.objects.of(organization).filter(name=name)
    if not name or len(name) > 100:
        errors["name"] = ["Give the channel a name of at most 100 characters."]
    elif (others.exclude(pk=channel.pk) if channel else others).exists():
        errors["name"] = ["Another channel has this name."]
    kind = channel.kind if channel else str(values.kind)
    if kind not in AlertChannel.Kind.values:
        errors["kind"] = [f"Choose one of {', '.join(AlertChannel.Kind.values)}."]
    if values.level not in AlertChannel.Level.values:
        errors["level"] = [f"Choose one of {', '.join(AlertChannel.Level.values)}."]
    events = [event for event in NAMES if event in values.events]
    if kind == AlertChannel.Kind.WEBHOOK:
        if unknown := sorted(set(values.events) - set(NAMES)):
            errors["events"] = [f"There is no event {unknown[0]}. Choose from {', '.join(NAMES)}."]
        elif not events:
            errors["events"] = ["Choose at least one event."]
        if values.secret and (len(values.secret) < MIN_SECRET or not values.secret.isascii()):
            errors["secret"] = [f"Use at least {MIN_SECRET} random characters."]
    else:
        events = [ALERT]
        if values.secret:
            errors["secret"] = ["Only signed webhooks have a secret."]
    columns: dict[str, Any] = {
        "name": name,
        "events": events,
        "level": values.level,
        "is_enabled": bool(values.is_enabled),
    }
    address = values.address.strip()
    if address:
        try:
            url = clean_url(address)
            columns |= {"encrypted_address": crypto.encrypt(url), "address_hint": _hint(url, kind)}
        except AddressRefused as error:
            errors["address"] = [error.detail]
    elif channel is None:
        errors["address"] = ["Paste the address of the webhook."]
    if errors:
        raise InvalidInput(fields=errors)
    return columns if channel else columns | {"kind": kind}


def _hint(url: str, kind: str) -> str:
    """What may be shown of an address: for Slack and Teams its host alone, because the rest is the secret."""
    parts = urlsplit(url)
    host = parts.netloc
    return (
        f"{parts.scheme}://{host}{parts.path}"[:300]
        if kind == AlertChannel.Kind.WEBHOOK
        else f"{parts.scheme}://{host}/…"
    )


def record_channel(channel: AlertChannel, actor: Actor, action: str, **fields: Any) -> None:
    record(
        organization=channel.organization,
        actor=actor,
        action=action,
        target_kind="alert_channel",
        target_ref=str(channel.pk),
        target_name=channel.name,
        **fields,
    )
