"""Reads about operators: what they may do where, who could approve, whether the installation is still empty."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from allauth.mfa.models import Authenticator
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from apps.operators.models import FirstOwnerLink, Grant, IdentityProvider, Invitation, Operator, Role, roles_of
from apps.operators.permissions import ROLE_PERMISSIONS, Permission, permissions_of_roles
from apps.organizations.models import Organization

# A person who was just given a role could be the author's second account (DECISIONS.md §11).
APPROVER_WAIT = timedelta(hours=24)
# The one identity provider's name in addresses.
PROVIDER_ID = "sso"


def hash_secret(secret: str) -> str:
    """SHA-256 of a random secret of 256 bits: no salt is needed, and equality can be looked up."""
    return hashlib.sha256(secret.encode()).hexdigest()


def permissions_of(operator: Operator, organization: Organization) -> frozenset[Permission]:
    """What the operator's roles in this organisation allow."""
    return permissions_of_roles(roles_of(operator, organization))


def organizations_of(operator: Operator) -> QuerySet[Organization]:
    """Organisations in which the operator holds any role."""
    if not operator.is_active:
        return Organization.objects.none()
    return Organization.objects.filter(pk__in=Grant.objects.filter(operator=operator).values("organization_id"))


def highest_role_label(operator: Operator, organization: Organization) -> str:
    """The role to show under the name: the one that allows most."""
    roles = sorted(roles_of(operator, organization), key=lambda role: len(ROLE_PERMISSIONS[role]), reverse=True)
    return str(Role(roles[0]).label) if roles else ""


def approvers(organization: Organization, *, not_operator_id: int | None = None) -> QuerySet[Operator]:
    """Operators who may approve a plan whose author is `not_operator_id`, new or re-roled ones left out."""
    ripe = Q(grants__granted_at__lte=timezone.now() - APPROVER_WAIT) | Q(grants__is_founding=True)
    roles = [role for role, allowed in ROLE_PERMISSIONS.items() if Permission.APPROVE in allowed]
    return (
        Operator.objects.filter(ripe, grants__organization=organization, grants__role__in=roles, is_active=True)
        .exclude(pk=not_operator_id or 0)
        .distinct()
    )


def has_other_operator_within(organization: Organization, operator: Operator, *, days: int = 30) -> bool:
    """True when another operator could act in this organisation within the last `days` days (P5)."""
    since = timezone.now() - timedelta(days=days)
    return (
        Grant.objects.of(organization)
        .exclude(operator=operator)
        .filter(Q(operator__is_active=True) | Q(operator__disabled_at__gte=since))
        .exists()
    )


def has_operators() -> bool:
    """False on a fresh installation: then the first-owner link is valid."""
    return Operator.objects.exists()


def first_owner_link(secret: str, *, now: datetime | None = None) -> FirstOwnerLink | None:
    """The unused, unexpired link of this secret while no operator exists; else None."""
    if has_operators():
        return None
    return FirstOwnerLink.objects.filter(
        token_hash=hash_secret(secret), used_at__isnull=True, expires_at__gt=now or timezone.now()
    ).first()


def open_invitation(secret: str) -> Invitation | None:
    """The invitation of this secret that can still be accepted; else None."""
    return (
        Invitation.objects.select_related("organization")
        .filter(
            token_hash=hash_secret(secret),
            accepted_at__isnull=True,
            revoked_at__isnull=True,
            expires_at__gt=timezone.now(),
        )
        .first()
    )


def open_invitations(organization: Organization) -> QuerySet[Invitation]:
    """Invitations that can still be accepted, newest first."""
    return Invitation.objects.of(organization).filter(
        accepted_at__isnull=True, revoked_at__isnull=True, expires_at__gt=timezone.now()
    )


@dataclass(frozen=True)
class Member:
    """One person of an organisation with the roles held there."""

    operator: Operator
    grants: list[Grant]
    has_second_factor: bool


def members_of(organization: Organization) -> list[Member]:
    """Everybody with a role, disabled ones too, by address."""
    grants: dict[int, list[Grant]] = {}
    for grant in Grant.objects.of(organization).select_related("operator").order_by("operator__email", "role"):
        grants.setdefault(grant.operator_id, []).append(grant)
    secured = set(with_second_factor(Operator.objects.filter(pk__in=grants)).values_list("pk", flat=True))
    return [Member(rows[0].operator, rows, pk in secured) for pk, rows in grants.items()]


def has_second_factor(operator: Operator) -> bool:
    """True with a TOTP app or a passkey; recovery codes alone are none."""
    return with_second_factor(Operator.objects.filter(pk=operator.pk)).exists()


def with_second_factor(operators: QuerySet[Operator]) -> QuerySet[Operator]:
    """Those of `operators` who have a TOTP app or a passkey."""
    kinds = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]
    return operators.filter(pk__in=Authenticator.objects.filter(type__in=kinds).values("user_id"))


def identity_provider() -> IdentityProvider | None:
    """The single sign-on of this installation, switched on or not."""
    return IdentityProvider.objects.select_related("break_glass").first()


def active_provider() -> IdentityProvider | None:
    """The single sign-on that people can use now."""
    provider = identity_provider()
    return provider if provider is not None and provider.is_active else None


def provider_sign_in_url() -> str:
    """Where signing in through the identity provider begins, by the protocol that it speaks."""
    row = active_provider()
    is_saml = row is not None and row.protocol == IdentityProvider.Protocol.SAML
    return reverse("saml_login" if is_saml else "openid_connect_login", args=[PROVIDER_ID])
