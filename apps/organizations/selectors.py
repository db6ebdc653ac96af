"""Reads about organisations: connection state, credentials (never their values), alerts, pauses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from django.conf import settings
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from apps.organizations.models import (
    Alert,
    CapabilityCheck,
    Credential,
    Installation,
    Organization,
    RatePause,
    Site,
)
from aum.common.errors import Missing

EXPIRY_WARNING_DAYS = 14


@dataclass(frozen=True)
class CredentialState:
    """What may be shown of a saved secret: that it is set, since when, by whom, until when."""

    kind: str
    label: str
    set_at: datetime
    set_by: str
    owner_email: str
    expires_on: date | None
    is_valid: bool

    @property
    def days_left(self) -> int | None:
        """Whole days until the secret expires; negative afterwards, None without a date."""
        return (self.expires_on - timezone.now().date()).days if self.expires_on else None


@dataclass(frozen=True)
class ConnectionState:
    """The dashboard's configuration banner: `code` is from_file, not_configured, invalid, expiring or complete."""

    code: str
    title: str
    detail: str
    failing: tuple[CapabilityCheck, ...] = ()

    @property
    def is_usable(self) -> bool:
        """True when automation may run (S22)."""
        return self.code in ("complete", "expiring")


def organization_by_slug(slug: str) -> Organization:
    """The organisation; raises Missing."""
    organization = Organization.objects.filter(slug=slug).first()
    if organization is None:
        raise Missing("There is no such organisation here.")
    return organization


def credential_states(organization: Organization) -> list[CredentialState]:
    """State of each saved secret, API key first."""
    rows = {row.kind: row for row in Credential.objects.of(organization)}
    return [
        CredentialState(
            kind=kind,
            label=str(label),
            set_at=rows[kind].set_at,
            set_by=rows[kind].set_by,
            owner_email=rows[kind].owner_email,
            expires_on=rows[kind].expires_on,
            is_valid=rows[kind].is_valid,
        )
        for kind, label in Credential.Kind.choices
        if kind in rows
    ]


def connection_state(organization: Organization) -> ConnectionState:
    """Whether both secrets are saved and their last checks passed (S21–S23)."""
    if organization.is_from_file:
        return ConnectionState(
            "from_file",
            "Filled from an export file, not connected",
            "Look around and preview rules. Nothing can be changed in Atlassian until the organisation is connected.",
        )
    credentials = credential_states(organization)
    if {state.kind for state in credentials} != set(Credential.Kind.values):
        return ConnectionState(
            "not_configured", "Connect your organisation", "Enter the API token and the organisation API key."
        )
    failing = tuple(check for check in CapabilityCheck.objects.of(organization) if not check.ok)
    if failing or not all(state.is_valid for state in credentials):
        detail = failing[0].detail if failing else "Atlassian no longer accepts the saved credentials."
        return ConnectionState("invalid", "The credentials need your attention", detail, failing)
    expiring = [
        state for state in credentials if state.days_left is not None and state.days_left <= EXPIRY_WARNING_DAYS
    ]
    if expiring:
        first = min(expiring, key=lambda state: state.days_left or 0)
        days = first.days_left or 0
        when = f"expires in {days} days" if days > 0 else "has expired" if days < 0 else "expires today"
        return ConnectionState("expiring", f"{first.label} {when}", "Create a new one and save it before that day.")
    return ConnectionState("complete", "Configuration complete", "The API token and API key are valid.")


def primary_site(organization: Organization) -> Site | None:
    """The site that the personal token is used on."""
    return Site.objects.of(organization).filter(is_primary=True).first()


def open_alerts(organization: Organization) -> QuerySet[Alert]:
    """Alerts that nobody has resolved, newest first."""
    return Alert.objects.of(organization).filter(resolved_at__isnull=True).order_by("-last_at")


def pause_until(organization: Organization) -> datetime | None:
    """The latest instant before which Atlassian said to wait; None when it may be called."""
    return (
        RatePause.objects.of(organization)
        .filter(until__gt=Now())
        .order_by("-until")
        .values_list("until", flat=True)
        .first()
    )


def is_copy() -> bool:
    """True when this database belongs to another installation: then nothing may act (DESIGN.md §2)."""
    stored = Installation.objects.values_list("instance_id", flat=True).first()
    return stored is not None and stored != settings.AUM_INSTANCE_ID
