"""Writes about operators themselves: the first owner, new ones, ending and opening their access."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from apps.operators.models import ApiToken, FirstOwnerLink, Grant, Operator, Role
from apps.operators.selectors import first_owner_link, has_operators, hash_secret
from apps.operators.services.roles import LastOwner, lock_owners
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor, record
from aum.common.errors import DomainError, InvalidInput

FIRST_LINK_HOURS = 24


class LinkUsed(DomainError):
    code = "link_used"
    status = 404
    detail = "This link was used or has expired. Restart script/server to get a new one, or sign in."


def make_first_owner_link() -> str | None:
    """A new secret for `/setup/<secret>/`; None when operators exist. Earlier links stop working."""
    if has_operators():
        return None
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        FirstOwnerLink.objects.filter(used_at__isnull=True).delete()
        FirstOwnerLink.objects.create(
            token_hash=hash_secret(secret), expires_at=timezone.now() + timedelta(hours=FIRST_LINK_HOURS)
        )
    return secret


def validated_address(email: str, password: str) -> str:
    errors: dict[str, list[str]] = {}
    address = email.strip().lower()
    try:
        validate_email(address)
        if Operator.objects.filter(email__iexact=address).exists():
            errors["email"] = ["An operator with this address exists already."]
    except ValidationError:
        errors["email"] = ["Enter an e-mail address."]
    try:
        validate_password(password, Operator(email=address))
    except ValidationError as error:
        errors["password"] = list(error.messages)
    if errors:
        raise InvalidInput(fields=errors)
    return address


@transaction.atomic
def create_first_owner(*, secret: str, email: str, name: str, password: str) -> Operator:
    """The first owner of the installation. Raises LinkUsed, InvalidInput."""
    link = first_owner_link(secret)
    if link is None or not FirstOwnerLink.objects.filter(pk=link.pk, used_at__isnull=True).update(
        used_at=timezone.now()
    ):
        raise LinkUsed
    address = validated_address(email, password)
    return Operator.objects.create_user(address, password, name=name.strip(), is_staff=True)


@transaction.atomic
def create_operator(*, email: str, password: str, name: str = "") -> Operator:
    """An operator without any role. Raises InvalidInput that names the wrong field."""
    address = validated_address(email, password)
    return Operator.objects.create_user(address, password, name=name.strip())


@transaction.atomic
def disable_operator(*, operator: Operator, actor: Actor) -> None:
    """Nothing of theirs works any more: sign-in, sessions, tokens. One audit row in each of their organisations.

    Raises LastOwner where nobody else could manage people and credentials afterwards.
    """
    organizations = list(
        Organization.objects.filter(pk__in=Grant.objects.filter(operator=operator).values("organization"))
    )
    for organization in organizations:
        others = lock_owners(organization) - {operator.pk}
        is_owner = Grant.objects.of(organization).filter(operator=operator, role=Role.OWNER).exists()
        if is_owner and not others:
            raise LastOwner(f"{operator} is the last owner of {organization.name}. Make somebody else an owner first.")
    now = timezone.now()
    if not Operator.objects.filter(pk=operator.pk, is_active=True).update(is_active=False, disabled_at=now):
        return
    ApiToken.objects.filter(operator=operator, revoked_at__isnull=True).update(revoked_at=now)
    for organization in organizations:
        _record(organization, operator, actor, "operator.disabled")


@transaction.atomic
def enable_operator(*, operator: Operator, actor: Actor) -> None:
    """Sign-in works again with the roles kept. Tokens stay revoked; approving waits 24 hours as for a new role."""
    if not Operator.objects.filter(pk=operator.pk, is_active=False).update(is_active=True, disabled_at=None):
        return
    Grant.objects.filter(operator=operator).update(granted_at=timezone.now(), is_founding=False)
    for organization in Organization.objects.filter(
        pk__in=Grant.objects.filter(operator=operator).values("organization")
    ):
        _record(organization, operator, actor, "operator.enabled")


def _organizations_of(operator: Operator) -> list[Organization]:
    """Where the operator holds a role, disabled or not."""
    return list(Organization.objects.filter(pk__in=Grant.objects.filter(operator=operator).values("organization")))


def _record(organization: Organization, operator: Operator, actor: Actor, action: str) -> None:
    record(
        organization=organization,
        actor=actor,
        action=action,
        target_kind="operator",
        target_ref=str(operator.pk),
        target_name=str(operator),
        target_email=operator.email,
    )
