"""Writes about operators: first owner, roles, tokens."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from apps.operators.models import ApiToken, FirstOwnerLink, Grant, Operator, Role
from apps.operators.permissions import Scope
from apps.operators.selectors import first_owner_link, has_operators, has_other_operator_within, hash_secret
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor, record
from aum.common.errors import DomainError, InvalidInput, Missing

FIRST_LINK_HOURS = 24
TOKEN_PREFIX = "aum_"
DEFAULT_TOKEN_DAYS = 90
MAX_TOKEN_DAYS = 365


class LinkUsed(DomainError):
    code = "link_used"
    status = 404
    detail = "This link was used or has expired. Restart script/server to get a new one, or sign in."


class OneOperatorRefused(DomainError):
    code = "one_operator_refused"
    detail = "Another person could act here within the last 30 days, so approvals stay with a second person."


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


def _validated_operator(email: str, password: str) -> str:
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
    address = _validated_operator(email, password)
    return Operator.objects.create_user(address, password, name=name.strip(), is_staff=True)


@transaction.atomic
def create_operator(*, email: str, password: str, name: str = "") -> Operator:
    """An operator without any role. Raises InvalidInput that names the wrong field."""
    address = _validated_operator(email, password)
    return Operator.objects.create_user(address, password, name=name.strip())


@transaction.atomic
def grant_role(
    *, organization: Organization, operator: Operator, role: str, actor: Actor, is_founding: bool = False
) -> Grant:
    """Give a role. A repeated grant changes nothing; a new one starts the 24 hours without approvals."""
    if role not in Role.values:
        raise InvalidInput(fields={"role": [f"Choose one of {', '.join(Role.values)}."]})
    grant, created = Grant.objects.get_or_create(
        organization=organization,
        operator=operator,
        role=role,
        defaults={"granted_at": timezone.now(), "granted_by": actor.name, "is_founding": is_founding},
    )
    if created:
        # One-operator mode ends with the second person, and cannot be had back while they were there.
        if organization.is_one_operator and has_other_operator_within(organization, operator):
            Organization.objects.filter(pk=organization.pk).update(is_one_operator=False)
        record(
            organization=organization,
            actor=actor,
            action="operator.role_granted",
            target_kind="operator",
            target_ref=str(operator.pk),
            target_name=str(operator),
            target_email=operator.email,
            after={"role": role},
        )
    return grant


@transaction.atomic
def choose_one_operator(*, organization: Organization, operator: Operator, actor: Actor) -> None:
    """Approvals by typing the count and the password. Raises OneOperatorRefused while another person was here (P5)."""
    if has_other_operator_within(organization, operator):
        raise OneOperatorRefused
    Organization.objects.filter(pk=organization.pk).update(is_one_operator=True)
    record(
        organization=organization,
        actor=actor,
        action="organization.one_operator_mode",
        target_kind="organization",
        target_ref=organization.slug,
    )
    organization.refresh_from_db()


@transaction.atomic
def disable_operator(*, operator: Operator) -> None:
    """Nothing of theirs works any more: sign-in, sessions, tokens."""
    now = timezone.now()
    Operator.objects.filter(pk=operator.pk).update(is_active=False, disabled_at=now)
    ApiToken.objects.filter(operator=operator, revoked_at__isnull=True).update(revoked_at=now)


@transaction.atomic
def create_token(
    *,
    organization: Organization,
    operator: Operator,
    scopes: Sequence[str],
    actor: Actor,
    name: str = "",
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """(row, the token itself, which is shown once). Raises InvalidInput.

    Approve and run never sit in one token: a script that starts a plan could release it by itself.
    """
    wanted = sorted({scope.strip() for scope in scopes if scope.strip()})
    errors: dict[str, list[str]] = {}
    if not wanted or set(wanted) - set(Scope):
        errors["scopes"] = [f"Choose from {', '.join(Scope)}."]
    elif Scope.APPROVE in wanted and Scope.RUN in wanted:
        errors["scopes"] = ["A token cannot both run and approve. Make two, for two people."]
    now = timezone.now()
    ends = expires_at or now + timedelta(days=DEFAULT_TOKEN_DAYS)
    if not now < ends <= now + timedelta(days=MAX_TOKEN_DAYS, minutes=1):
        errors["expires_at"] = [f"Choose a date within the next {MAX_TOKEN_DAYS} days."]
    if errors:
        raise InvalidInput(fields=errors)
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        organization=organization,
        operator=operator,
        name=name.strip() or f"Token of {now:%d %b %Y}",
        prefix=secret[:10],
        token_hash=hash_secret(secret),
        scopes=wanted,
        expires_at=ends,
    )
    record(
        organization=organization,
        actor=actor,
        action="token.created",
        target_kind="token",
        target_ref=str(token.pk),
        target_name=token.name,
        after={"scopes": wanted},
    )
    return token, secret


@transaction.atomic
def revoke_token(*, organization: Organization, token_id: int, actor: Actor) -> None:
    """The token stops working at once. Raises Missing."""
    token = ApiToken.objects.of(organization).filter(pk=token_id).first()
    if token is None:
        raise Missing("There is no such token.")
    if ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=timezone.now()):
        record(
            organization=organization,
            actor=actor,
            action="token.revoked",
            target_kind="token",
            target_ref=str(token.pk),
            target_name=token.name,
        )
