"""Writes about invitations: one link, shown once, with which a person chooses a password and gets roles."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from apps.operators.models import Invitation, Operator, Role
from apps.operators.selectors import hash_secret, open_invitation
from apps.operators.services.people import LinkUsed, create_operator
from apps.operators.services.roles import grant_role
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor, record
from aum.common.errors import InvalidInput, Missing, NotAllowed

INVITATION_DAYS = 7


@transaction.atomic
def invite(
    *, organization: Organization, email: str, name: str = "", roles: Sequence[str], actor: Actor
) -> tuple[Invitation, str]:
    """(row, secret of the link `/invite/<secret>/`, which is shown once). An open one of the same address ends.

    Raises InvalidInput.
    """
    address = email.strip().lower()
    errors: dict[str, list[str]] = {}
    try:
        validate_email(address)
    except ValidationError:
        errors["email"] = ["Enter an e-mail address."]
    wanted = sorted(set(roles))
    if not wanted or set(wanted) - set(Role.values):
        errors["roles"] = ["Choose at least one role."]
    disabled = Operator.objects.filter(email__iexact=address, is_active=False)
    if not errors and disabled.exists():
        errors["email"] = ["This person was disabled here. Enable them again instead."]
    if errors:
        raise InvalidInput(fields=errors)
    now = timezone.now()
    open_ones = Invitation.objects.of(organization).filter(
        email__iexact=address, accepted_at__isnull=True, revoked_at__isnull=True
    )
    open_ones.update(revoked_at=now)
    secret = secrets.token_urlsafe(32)
    row = Invitation.objects.create(
        organization=organization,
        email=address,
        name=name.strip(),
        roles=wanted,
        token_hash=hash_secret(secret),
        created_by=actor.name,
        expires_at=now + timedelta(days=INVITATION_DAYS),
    )
    _record(row, actor, "operator.invited")
    return row, secret


@transaction.atomic
def accept_invitation(
    *, secret: str, signed_in: Operator | None, name: str = "", password: str = "", ip_address: str | None = None
) -> Operator:
    """The operator with the invited roles. Raises LinkUsed, InvalidInput (name, password), NotAllowed.

    Somebody who signs in here already accepts while signed in: the link alone gives nothing to another account.
    """
    row = open_invitation(secret)
    if row is None:
        raise LinkUsed("This invitation was used, withdrawn or has expired. Ask for a new one.")
    existing = Operator.objects.filter(email__iexact=row.email).first()
    if existing is not None and (signed_in is None or signed_in.pk != existing.pk):
        raise NotAllowed(f"Sign in as {row.email} to accept this invitation.")
    if not Invitation.objects.filter(pk=row.pk, accepted_at__isnull=True, revoked_at__isnull=True).update(
        accepted_at=timezone.now()
    ):
        raise LinkUsed("This invitation was used a moment ago.")
    operator = existing or create_operator(email=row.email, name=name or row.name, password=password)
    actor = Actor.operator(operator, ip_address)
    for role in row.roles:
        grant_role(organization=row.organization, operator=operator, role=role, actor=actor)
    _record(row, actor, "operator.invitation_accepted")
    return operator


@transaction.atomic
def revoke_invitation(*, organization: Organization, invitation_id: int, actor: Actor) -> None:
    """The link stops working at once. Raises Missing."""
    row = Invitation.objects.of(organization).filter(pk=invitation_id).first()
    if row is None:
        raise Missing("There is no such invitation.")
    if Invitation.objects.filter(pk=row.pk, accepted_at__isnull=True, revoked_at__isnull=True).update(
        revoked_at=timezone.now()
    ):
        _record(row, actor, "operator.invitation_revoked")


def _record(row: Invitation, actor: Actor, action: str) -> None:
    record(
        organization=row.organization,
        actor=actor,
        action=action,
        target_kind="invitation",
        target_ref=str(row.pk),
        target_name=row.name,
        target_email=row.email,
        after={"roles": row.roles},
    )
