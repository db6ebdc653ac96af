"""Credentials: saved only when Atlassian accepts them, encrypted, and turned into clients here and nowhere else."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path

import redis
import requests
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email, validate_slug
from django.db import connection as database
from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify
from redis.backoff import NoBackoff
from redis.retry import Retry

from apps.organizations import crypto
from apps.organizations.addresses import clean_api_url, clean_site_url
from apps.organizations.models import CapabilityCheck, Credential, Organization, OrganizationOwned, Site
from apps.organizations.recorder import Actor, record
from apps.organizations.services.alerts import raise_alert, resolve_alert
from apps.organizations.services.safety import store_pause
from aum.atlassian.client import AtlassianClient, AtlassianReader, Connection
from aum.atlassian.limiter import Limiter
from aum.atlassian.probe import CapabilityResult, probe
from aum.common.clock import database_now
from aum.common.errors import DomainError, InvalidInput

logger = logging.getLogger(__name__)

REFERENCES = ("file:", "env:")
# Checks without which nothing can run; the others narrow what AUM can do and are shown as such.
ESSENTIAL = frozenset({"reach", "api_key", "org_id", "unscoped_key", "list_people", "groups", "api_token"})


class ConnectionRefused(DomainError):
    """Atlassian did not accept the values; `results` holds the outcome of each check."""

    code = "credentials_refused"
    status = 422
    detail = "Atlassian did not accept these values. Nothing was saved."

    def __init__(self, results: Sequence[CapabilityResult]) -> None:
        self.results = list(results)
        fields: dict[str, list[str]] = {}
        for result in results:
            if not result.ok and result.value:
                fields.setdefault(result.value, []).append(result.detail)
        super().__init__(fields=fields)


class NotConnected(DomainError):
    code = "not_connected"
    detail = "This organisation has no credentials yet. Enter them under Configure."


class FromFileOnly(NotConnected):
    code = "organization_from_file"
    detail = (
        "This organisation comes from an export file and has no connection to Atlassian: it can be looked at, and Safe "
        "previews work. Connect it before anything is changed."
    )


class AlreadyConnected(DomainError):
    code = "already_connected"
    detail = "This Atlassian organisation is already connected here. Open it instead of connecting it twice."


@dataclass(frozen=True)
class ConnectionInput:
    """What the dialog "Configure Atlassian API credentials" asks for. Secrets may be `file:…` or `env:…` references.

    An empty secret keeps the saved one when the organisation already exists.
    """

    email: str
    org_id: str
    site_url: str
    api_token: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    api_url: str = ""
    name: str = ""
    slug: str = ""
    api_key_owner: str = ""
    api_key_expires_on: date | None = None
    api_token_expires_on: date | None = None


@lru_cache(maxsize=1)
def _limiter() -> Limiter:
    # A Redis that is down must be told within moments: nothing is written without it (P13).
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
    )
    return Limiter(client, on_pause=_store_pause)


def _store_pause(organization_key: str, family: str, until: datetime) -> None:
    # The pause is as long as Atlassian said, whatever this machine's clock shows.
    lasts = until - timezone.now()
    store_pause(organization_id=int(organization_key), family=family, until=database_now() + lasts)


def _resolve(secret: str, *, field_name: str) -> str:
    """The secret itself, read from its file or variable when it is a reference. Raises InvalidInput at the field."""
    if secret.startswith("file:"):
        try:
            return Path(secret.removeprefix("file:")).read_text().strip()
        except OSError as error:
            raise InvalidInput(fields={field_name: [f"The file cannot be read: {error.strerror}."]}) from error
    if secret.startswith("env:"):
        value = os.environ.get(secret.removeprefix("env:"), "")
        if not value:
            raise InvalidInput(fields={field_name: ["This environment variable is not set."]})
        return value
    return secret.strip()


def _saved(organization: Organization, kind: str) -> str:
    row = Credential.objects.of(organization).filter(kind=kind).first()
    if row is None:
        raise NotConnected
    if row.reference:
        return _resolve(row.reference, field_name=kind)
    assert row.encrypted_value is not None  # the table's constraint: a value or a reference
    return crypto.decrypt(row.encrypted_value)


def connection_of(organization: Organization) -> Connection:
    """The saved connection, secrets included. Raises NotConnected, FromFileOnly. Stays in the process that calls it."""
    if organization.is_from_file:
        raise FromFileOnly
    site = Site.objects.of(organization).filter(is_primary=True).first()
    token = Credential.objects.of(organization).filter(kind=Credential.Kind.API_TOKEN).first()
    return Connection(
        organization_key=str(organization.pk),
        api_url=organization.api_url,
        org_id=organization.org_id,
        api_key=_saved(organization, Credential.Kind.API_KEY),
        site_url=site.url if site else None,
        email=token.owner_email if token else None,
        api_token=_saved(organization, Credential.Kind.API_TOKEN),
        cloud_id=(site.cloud_id or None) if site else None,
    )


def reader_for(organization: Organization) -> AtlassianReader:
    """A client without write methods: what previews, Safe mode and syncs hold (P3)."""
    return AtlassianReader(connection_of(organization), limiter=_limiter())


def client_for(organization: Organization) -> AtlassianClient:
    """A client that can write; only the executor of live operations asks for it."""
    return AtlassianClient(connection_of(organization), limiter=_limiter())


def _validated(values: ConnectionInput) -> ConnectionInput:
    """`values` with cleaned addresses; raises InvalidInput that names every wrong field."""
    errors: dict[str, list[str]] = {}
    site_url = api_url = ""
    try:
        validate_email(values.email.strip())
    except ValidationError:
        errors["email"] = ["Enter the e-mail address of the administrator whose API token this is."]
    if not values.org_id.strip() or not all(char.isalnum() or char in "-_" for char in values.org_id.strip()):
        errors["org_id"] = ["Enter the organisation id: the part after /o/ in the address of Atlassian Administration."]
    try:
        site_url = clean_site_url(values.site_url)
    except InvalidInput as error:
        errors.update(error.fields)
    try:
        api_url = clean_api_url(values.api_url or settings.ATLASSIAN_API_URL)
    except InvalidInput as error:
        errors.update(error.fields)
    if values.slug:
        try:
            validate_slug(values.slug)
        except ValidationError:
            errors["slug"] = ["Use lower-case letters, digits and hyphens."]
    for name in ("api_token", "api_key"):
        if not getattr(values, name).strip():
            errors[name] = ["Paste the value here; it is stored encrypted and never shown again."]
    if errors:
        raise InvalidInput(fields=errors)
    return ConnectionInput(
        email=values.email.strip().lower(),
        org_id=values.org_id.strip(),
        site_url=site_url,
        api_token=values.api_token.strip(),
        api_key=values.api_key.strip(),
        api_url=api_url,
        name=values.name.strip(),
        slug=values.slug.strip().lower(),
        api_key_owner=values.api_key_owner.strip().lower(),
        api_key_expires_on=values.api_key_expires_on,
        api_token_expires_on=values.api_token_expires_on,
    )


def _probe(values: ConnectionInput, organization_key: str) -> list[CapabilityResult]:
    return probe(
        Connection(
            organization_key=organization_key,
            api_url=values.api_url,
            org_id=values.org_id,
            api_key=_resolve(values.api_key, field_name="api_key"),
            site_url=values.site_url,
            email=values.email,
            api_token=_resolve(values.api_token, field_name="api_token"),
            cloud_id=None,
        ),
        limiter=_limiter(),
    )


def _refuse_unless_usable(results: Sequence[CapabilityResult]) -> None:
    if any(not result.ok and result.capability in ESSENTIAL for result in results):
        raise ConnectionRefused(results)


def _free_slug(wanted: str) -> str:
    base = slugify(wanted)[:40] or "organisation"
    slug, number = base, 2
    while Organization.objects.filter(slug=slug).exists():
        slug, number = f"{base}-{number}", number + 1
    return slug


def connect_organization(
    *, values: ConnectionInput, actor: Actor, is_demo: bool = False, is_one_operator: bool = False
) -> tuple[Organization, list[CapabilityResult]]:
    """Check the values against Atlassian and store the organisation only if they work (S28).

    Raises InvalidInput (wrong format), ConnectionRefused (which value failed, S29), AlreadyConnected.
    """
    values = _validated(values)
    if Organization.objects.filter(org_id=values.org_id).exists():
        raise AlreadyConnected
    if values.slug and Organization.objects.filter(slug=values.slug).exists():
        raise InvalidInput(fields={"slug": ["This short name is taken; choose another."]})
    results = _probe(values, f"new-{values.org_id}")
    _refuse_unless_usable(results)
    with transaction.atomic():
        organization = Organization.objects.create(
            slug=values.slug or _free_slug(values.name or values.org_id),
            name=values.name or "Organisation",
            org_id=values.org_id,
            api_url=values.api_url,
            is_demo=is_demo,
            is_one_operator=is_one_operator,
        )
        _store(organization, values, results, actor)
    return organization, results


def create_from_file(*, name: str, actor: Actor) -> Organization:
    """An organisation without credentials, to be filled from an uploaded export. Raises InvalidInput without a name."""
    if not name.strip():
        raise InvalidInput(fields={"name": ["Say what the organisation is called."]})
    with transaction.atomic():
        organization = Organization.objects.create(
            slug=_free_slug(name),
            name=name.strip()[:200],
            # Atlassian's own id is given when the organisation is connected.
            org_id=f"file-{uuid.uuid4()}",
            api_url=clean_api_url(settings.ATLASSIAN_API_URL),
            is_from_file=True,
        )
        record(
            organization=organization,
            actor=actor,
            action="organization.created_from_file",
            target_kind="organization",
            target_ref=organization.slug,
            target_name=organization.name,
        )
    return organization


def connect_file_organization(
    *, organization: Organization, values: ConnectionInput, actor: Actor
) -> tuple[Organization, list[CapabilityResult]]:
    """Give an organisation that a file filled its credentials, checked first; the next sync replaces the file's word.

    Its rules, exemptions and history stay. Raises InvalidInput, ConnectionRefused, AlreadyConnected; nothing is changed
    then.
    """
    if not organization.is_from_file:
        raise AlreadyConnected("This organisation is connected already.")
    values = _validated(replace(values, name=organization.name, slug=""))
    if Organization.objects.filter(org_id=values.org_id).exists():
        raise AlreadyConnected
    results = _probe(values, f"new-{values.org_id}")
    _refuse_unless_usable(results)
    with transaction.atomic():
        connected = Organization.objects.filter(pk=organization.pk, is_from_file=True).update(
            is_from_file=False, org_id=values.org_id, api_url=values.api_url
        )
        if not connected:
            raise AlreadyConnected("This organisation is connected already.")
        organization.refresh_from_db()
        _store(organization, values, results, actor)
    return organization, results


def save_credentials(*, organization: Organization, values: ConnectionInput, actor: Actor) -> list[CapabilityResult]:
    """Replace the credentials after checking them. Empty secrets keep the saved ones; the addresses are frozen.

    Raises InvalidInput, ConnectionRefused; nothing is changed then.
    """
    site = Site.objects.of(organization).filter(is_primary=True).first()
    values = ConnectionInput(
        email=values.email,
        org_id=organization.org_id,
        site_url=site.url if site else values.site_url,
        api_token=values.api_token or _reference_or_secret(organization, Credential.Kind.API_TOKEN),
        api_key=values.api_key or _reference_or_secret(organization, Credential.Kind.API_KEY),
        api_url=organization.api_url,
        name=organization.name,
        api_key_owner=values.api_key_owner,
        api_key_expires_on=values.api_key_expires_on,
        api_token_expires_on=values.api_token_expires_on,
    )
    values = _validated(values)
    results = _probe(values, str(organization.pk))
    _refuse_unless_usable(results)
    with transaction.atomic():
        _store(organization, values, results, actor)
    return results


def _reference_or_secret(organization: Organization, kind: str) -> str:
    row = Credential.objects.of(organization).filter(kind=kind).first()
    if row is None:
        return ""
    return row.reference or _saved(organization, kind)


def _store(
    organization: Organization, values: ConnectionInput, results: Sequence[CapabilityResult], actor: Actor
) -> None:
    now = timezone.now()
    host = values.site_url.split("://", 1)[1]
    Site.objects.get_or_create(
        organization=organization,
        url=values.site_url,
        defaults={"name": host.removesuffix(".atlassian.net"), "is_primary": True},
    )
    for kind, secret, owner, expires_on in (
        (Credential.Kind.API_KEY, values.api_key, values.api_key_owner or values.email, values.api_key_expires_on),
        (Credential.Kind.API_TOKEN, values.api_token, values.email, values.api_token_expires_on),
    ):
        is_reference = secret.startswith(REFERENCES)
        Credential.objects.update_or_create(
            organization=organization,
            kind=kind,
            defaults={
                "encrypted_value": None if is_reference else crypto.encrypt(secret),
                "reference": secret if is_reference else "",
                "owner_email": owner,
                "expires_on": expires_on,
                "set_at": now,
                "set_by": actor.name,
                "is_valid": True,
            },
        )
    _store_checks(organization, results)
    record(
        organization=organization,
        actor=actor,
        action="credentials.saved",
        target_kind="organization",
        target_ref=organization.slug,
        after={"checks": {result.capability: result.ok for result in results}},
    )


def _store_checks(organization: Organization, results: Sequence[CapabilityResult]) -> None:
    now = timezone.now()
    for position, result in enumerate(results):
        CapabilityCheck.objects.update_or_create(
            organization=organization,
            capability=result.capability,
            defaults={
                "position": position,
                "ok": result.ok,
                "code": result.code,
                "detail": result.detail,
                "value": result.value or "",
                "checked_at": now,
            },
        )


def check_connection(*, organization: Organization) -> list[CapabilityResult]:
    """Check the saved credentials once more, store the outcome, raise or resolve the alert. Raises NotConnected."""
    results = probe(connection_of(organization), limiter=_limiter())
    failing = [result for result in results if not result.ok and result.capability in ESSENTIAL]
    with transaction.atomic():
        _store_checks(organization, results)
        Credential.objects.of(organization).update(is_valid=True)
        for result in failing:
            kind = Credential.Kind.API_TOKEN if result.value == "api_token" else Credential.Kind.API_KEY
            unusable_credentials(organization=organization, detail=result.detail, kind=kind)
    if failing:
        logger.warning("credentials.refused", extra={"organization": organization.slug, "code": failing[0].code})
    else:
        resolve_alert(organization=organization, dedup_key="credentials")
    return results


def unusable_credentials(*, organization: Organization, detail: str, kind: str = Credential.Kind.API_KEY) -> None:
    """Atlassian refuses a credential: mark it, so that nothing runs with it, and alert."""
    Credential.objects.of(organization).filter(kind=kind).update(is_valid=False)
    raise_alert(
        organization=organization,
        kind="credentials",
        severity="error",
        title="Atlassian does not accept the saved credentials",
        detail=detail,
        link=f"/o/{organization.slug}/settings/connection/",
    )


def rotate_secrets() -> int:
    """Encrypt every saved secret anew with the newest key; how many there were. Raises SecretUnreadable."""
    with transaction.atomic():
        return crypto.rotate_column(Credential, "encrypted_value") + sum(rotate() for rotate in crypto.rotators)


def demo_values() -> ConnectionInput:
    """Credentials of the demo organisation, asked of its own server. Raises DomainError when it is not up yet."""
    if not settings.AUM_DEMO_API_URL:
        raise DemoUnavailable("This installation has no demo. Connect a real organisation instead.")
    try:
        answer = requests.get(f"{settings.AUM_DEMO_API_URL}/_control/credentials", timeout=5)
        answer.raise_for_status()
        given = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise DemoUnavailable from error
    return ConnectionInput(
        email=given["email"],
        org_id=given["org_id"],
        site_url=settings.AUM_DEMO_API_URL,
        api_token=given["api_token"],
        api_key=given["api_key"],
        api_url=settings.AUM_DEMO_API_URL,
        name=given.get("name", "Larkspur Robotics"),
        slug="demo",
    )


class DemoUnavailable(DomainError):
    code = "demo_unavailable"
    status = 503
    detail = "The demo organisation is starting. Try again in a few seconds."


def want_demo() -> None:
    """Tell the supervisor that the demo's server is needed: it starts it within seconds."""
    wish = settings.AUM_DATA_DIR / "run" / "demo-wanted"
    wish.parent.mkdir(parents=True, exist_ok=True)
    wish.touch()


def delete_demo(*, organization: Organization) -> None:
    """Delete a demo, or an organisation that only a file filled, with everything of it. Raises NotADemo for others.

    Foreign keys are checked at the commit, so the order of tables does not matter. The audit rows go as well: they are
    of people who never existed, or of an organisation in which AUM could change nothing.
    """
    if not (organization.is_demo or organization.is_from_file):
        raise NotADemo
    owned = [model for model in apps.get_models() if issubclass(model, OrganizationOwned)]
    with transaction.atomic(), database.cursor() as cursor:
        cursor.execute("SET LOCAL aum.audit_purge = 'on'")
        for model in owned:
            for relation in model._meta.many_to_many:
                through = getattr(model, relation.name).through
                cursor.execute(
                    f'DELETE FROM "{through._meta.db_table}" WHERE "{relation.m2m_column_name()}" IN '
                    f'(SELECT id FROM "{model._meta.db_table}" WHERE organization_id = %s)',
                    [organization.pk],
                )
        for model in owned:
            cursor.execute(f'DELETE FROM "{model._meta.db_table}" WHERE organization_id = %s', [organization.pk])
        cursor.execute("DELETE FROM organizations_organization WHERE id = %s", [organization.pk])
    if not organization.is_demo:
        return
    try:
        requests.post(f"{organization.api_url}/_control/reset", timeout=5)
    except requests.RequestException as error:
        # The next demo then starts from what this one changed; nothing else depends on it.
        logger.warning("demo.not_reset", extra={"error": type(error).__name__})
    (settings.AUM_DATA_DIR / "run" / "demo-wanted").unlink(missing_ok=True)


class NotADemo(DomainError):
    code = "not_a_demo"
    detail = "Only a demo, or an organisation that was filled from a file, can be deleted in one action."
