"""The ways in: their addresses, secrets with overlap, and what they may name. Each change is an audit row."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.audit.services import record
from apps.autoactivate import crypto, slack_api
from apps.autoactivate.domains import clean_domain
from apps.autoactivate.inbound.teams import key_of
from apps.autoactivate.models import IdentityMapping, InboundSource
from apps.organizations import crypto as credentials
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import Account
from aum.common.errors import DomainError, InvalidInput

OVERLAP = timedelta(hours=24)
Kind = InboundSource.Kind
# Secrets that AUM makes and shows once; the others are made by the sender and entered.
OWN_SECRETS = (Kind.JIRA, Kind.JIRA_WEBHOOK, Kind.INTRANET)
ENTERED_SECRETS = (Kind.SLACK, Kind.TEAMS)
_SLACK_SECRET = re.compile(r"[0-9a-f]{32}", re.ASCII)
_BOT_TOKEN = re.compile(r"xoxb-[A-Za-z0-9-]{10,250}", re.ASCII)
MAX_MAPPINGS = 5000


class NoSecret(DomainError):
    code = "no_secret"
    detail = "This way in has no secret of AUM’s."


def ensure_source(*, organization: Organization, kind: str) -> InboundSource:
    """The way in of this kind; made without a secret, and polling switched off, where it does not exist."""
    source, _created = InboundSource.objects.get_or_create(
        organization=organization,
        kind=kind,
        defaults={"key": secrets.token_urlsafe(24), "is_enabled": kind != Kind.POLL},
    )
    return source


@transaction.atomic
def rotate_secret(*, source: InboundSource, actor: Actor, ends_now: bool = False) -> tuple[InboundSource, str]:
    """A new secret, given back once; the old one stays valid for 24 hours, or not at all with `ends_now`.

    Raises NoSecret for a way in whose secret its sender makes.
    """
    if source.kind not in OWN_SECRETS:
        raise NoSecret
    secret = crypto.new_secret()
    # Jira Automation shows its header's value, so a hash is enough; who signs needs the secret itself.
    encrypted = None if source.kind == Kind.JIRA else crypto.encrypt(secret)
    return _replace(source, crypto.hash_of(secret), encrypted, actor, ends_now), secret


@transaction.atomic
def save_secret(*, source: InboundSource, secret: str, actor: Actor, ends_now: bool = False) -> InboundSource:
    """Keep the secret that Slack or Teams shows; an earlier one stays valid for 24 hours.

    Raises InvalidInput, NoSecret.
    """
    if source.kind not in ENTERED_SECRETS:
        raise NoSecret
    secret = secret.strip()
    if source.kind == Kind.SLACK and not _SLACK_SECRET.fullmatch(secret):
        raise InvalidInput(fields={"secret": ["Paste the signing secret: 32 characters from 0 to 9 and a to f."]})
    if source.kind == Kind.TEAMS:
        try:
            is_key = len(key_of(secret)) >= 16
        except ValueError:
            is_key = False
        if not is_key:
            raise InvalidInput(fields={"secret": ["Paste the security token as Teams shows it, with its last =."]})
    return _replace(source, crypto.hash_of(secret), crypto.encrypt(secret), actor, ends_now)


def _replace(
    source: InboundSource, secret_hash: str, encrypted: bytes | None, actor: Actor, ends_now: bool
) -> InboundSource:
    current: InboundSource = InboundSource.objects.select_for_update().select_related("organization").get(pk=source.pk)
    now = timezone.now()
    had_one = bool(current.secret_hash)
    if had_one and not ends_now:
        current.previous_hash, current.previous_encrypted = current.secret_hash, current.encrypted_secret
        current.previous_until = now + OVERLAP
    else:
        current.previous_hash, current.previous_encrypted, current.previous_until = "", None, None
    current.secret_hash, current.encrypted_secret = secret_hash, encrypted
    current.secret_set_at, current.secret_set_by = now, actor.name[:254]
    current.save()
    after = {"overlap_until": current.previous_until.isoformat() if current.previous_until else None}
    _record(current, actor, "inbound.rotated" if had_one else "inbound.key_set", after=after)
    return current


@transaction.atomic
def end_previous_secret(*, source: InboundSource, actor: Actor) -> InboundSource:
    """End the overlap: only the newest secret is believed from now on."""
    current: InboundSource = InboundSource.objects.select_for_update().select_related("organization").get(pk=source.pk)
    if current.previous_hash:
        current.previous_hash, current.previous_encrypted, current.previous_until = "", None, None
        current.save(update_fields=["previous_hash", "previous_encrypted", "previous_until"])
        _record(current, actor, "inbound.overlap_ended")
    return current


def save_bot_token(*, source: InboundSource, token: str, actor: Actor) -> str:
    """Keep Slack's bot token once Slack accepts it; returns the workspace's name. Empty: forget the token.

    Raises InvalidInput, and SlackUnavailable when Slack cannot be asked.
    """
    token = token.strip()
    team = ""
    if token:
        if not _BOT_TOKEN.fullmatch(token):
            raise InvalidInput(fields={"bot_token": ["Paste the bot token: it begins with xoxb-."]})
        try:
            team = slack_api.check_token(token)
        except slack_api.SlackRefused as error:
            raise InvalidInput(fields={"bot_token": [f"{error.detail} Copy the token again."]}) from error
    with transaction.atomic():
        InboundSource.objects.filter(pk=source.pk).update(
            api_token=credentials.encrypt(token) if token else None,
            api_token_set_at=timezone.now() if token else None,
        )
        _record(source, actor, "inbound.bot_set" if token else "inbound.bot_removed", after={"workspace": team})
    return team


@transaction.atomic
def set_domains(*, source: InboundSource, domains: Sequence[str], actor: Actor) -> InboundSource:
    """Whose addresses the intranet may name. Raises InvalidInput."""
    words = [word for text in domains for word in re.split(r"[\s,;]+", text) if word]
    cleaned = [clean_domain(word) for word in words]
    if None in cleaned:
        wrong = words[cleaned.index(None)]
        raise InvalidInput(fields={"domains": [f"“{wrong[:80]}” is not a domain such as employer.com."]})
    before = list(source.domains)
    source.domains = sorted({domain for domain in cleaned if domain})
    if source.domains != before:
        source.save(update_fields=["domains"])
        _record(source, actor, "inbound.domains_set", before={"domains": before}, after={"domains": source.domains})
    return source


@transaction.atomic
def switch_source(*, source: InboundSource, is_enabled: bool, actor: Actor) -> InboundSource:
    """Open or close a way in. Polling takes the tickets created from the moment it is switched on."""
    if source.is_enabled == is_enabled:
        return source
    source.is_enabled = is_enabled
    if source.kind == Kind.POLL and is_enabled:
        source.polled_from, source.polled_at, source.poll_error = timezone.now(), None, ""
    source.save(update_fields=["is_enabled", "polled_from", "polled_at", "poll_error"])
    _record(source, actor, "inbound.opened" if is_enabled else "inbound.closed")
    return source


# --- who outside ids are --------------------------------------------------------------------------------------------


def save_mappings(*, organization: Organization, channel: str, lines: str, actor: Actor) -> int:
    """Who outside ids are, one a line: id, comma, e-mail of a person in the directory. Returns how many.

    All or none. Raises InvalidInput that names the first wrong line.
    """
    pairs: dict[str, str] = {}
    for number, line in enumerate(lines.splitlines(), start=1):
        if not line.strip():
            continue
        external_id, comma, email = (part.strip() for part in line.partition(","))
        if not comma or not external_id or "@" not in email or len(external_id) > 128:
            raise InvalidInput(fields={"lines": [f"Line {number}: write the id, a comma and the e-mail."]})
        pairs[external_id.lower()] = email.lower()
    if not pairs or len(pairs) > MAX_MAPPINGS:
        raise InvalidInput(fields={"lines": [f"Enter 1 to {MAX_MAPPINGS:,} lines."]})
    people: dict[str, list[int]] = {}
    rows = (
        Account.objects.of(organization)
        .filter(vanished_at__isnull=True)
        .extra(where=["lower(email) = ANY(%s)"], params=[list(pairs.values())])
    )
    for pk, email in rows.values_list("pk", "email"):
        people.setdefault(email.lower(), []).append(pk)
    unknown = [email for email in pairs.values() if len(people.get(email, [])) != 1]
    if unknown:
        raise InvalidInput(fields={"lines": [f"{unknown[0][:120]} is not the e-mail of exactly one user here."]})
    now = timezone.now()
    with transaction.atomic():
        IdentityMapping.objects.bulk_create(
            [
                IdentityMapping(
                    organization=organization,
                    channel=channel,
                    external_id=external_id,
                    account_id=people[email][0],
                    set_at=now,
                    set_by=actor.name[:254],
                )
                for external_id, email in pairs.items()
            ],
            update_conflicts=True,
            unique_fields=["organization", "channel", "external_id"],
            update_fields=["account", "set_at", "set_by"],
        )
        record(
            organization=organization,
            actor=actor,
            action="inbound.people_mapped",
            target_kind="inbound_source",
            target_ref=channel,
            after={"lines": len(pairs)},
        )
    return len(pairs)


@transaction.atomic
def remove_mapping(*, mapping: IdentityMapping, actor: Actor) -> None:
    """Forget who an outside id is."""
    record(
        organization=mapping.organization,
        actor=actor,
        action="inbound.mapping_removed",
        target_kind="account",
        target_ref=mapping.account.account_id,
        target_name=mapping.account.name,
        target_email=mapping.account.email or "",
        before={"channel": mapping.channel, "external_id": mapping.external_id},
    )
    mapping.delete()


def hashes_of(source: InboundSource) -> list[str]:
    """Hashes of the secrets in force: the newest, and the one before it until its overlap ends."""
    found = [source.secret_hash]
    if source.previous_until and source.previous_until > timezone.now():
        found.append(source.previous_hash)
    return [one for one in found if one]


def secrets_of(source: InboundSource) -> list[str]:
    """The secrets in force, decrypted with the inbound key. Raises SecretUnreadable."""
    found = [source.encrypted_secret]
    if source.previous_until and source.previous_until > timezone.now():
        found.append(source.previous_encrypted)
    return [crypto.decrypt(bytes(one)) for one in found if one]


def bot_token_of(source: InboundSource) -> str:
    """Slack's bot token; "" where none is saved. Raises SecretUnreadable. Only workers hold the key."""
    return credentials.decrypt(bytes(source.api_token)) if source.api_token else ""


def _record(source: InboundSource, actor: Actor, action: str, **fields: Any) -> None:
    record(
        organization=source.organization,
        actor=actor,
        action=action,
        target_kind="inbound_source",
        target_ref=source.kind,
        target_name=str(source),
        **fields,
    )


def renew_encryption() -> int:
    """Encrypt the secrets of all ways in anew with the newest keys; how many there were."""
    return (
        credentials.rotate_column(InboundSource, "encrypted_secret", crypto.rotate)
        + credentials.rotate_column(InboundSource, "previous_encrypted", crypto.rotate)
        + credentials.rotate_column(InboundSource, "api_token")
    )
