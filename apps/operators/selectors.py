"""Reads about operators: what they may do where, who could approve, whether the installation is still empty."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone

from apps.operators.models import FirstOwnerLink, Grant, Operator, Role, roles_of
from apps.operators.permissions import ROLE_PERMISSIONS, Permission, permissions_of_roles
from apps.organizations.models import Organization

# A person who was just given a role could be the author's second account (DECISIONS.md §11).
APPROVER_WAIT = timedelta(hours=24)


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
