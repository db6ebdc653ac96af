"""Writes about API tokens."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_network

from django.db import transaction
from django.utils import timezone

from apps.operators.models import ApiToken, Operator
from apps.operators.permissions import Scope
from apps.operators.selectors import hash_secret
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor, record
from aum.common.errors import InvalidInput, Missing

TOKEN_PREFIX = "aum_"
DEFAULT_TOKEN_DAYS = 90
MAX_TOKEN_DAYS = 365


@transaction.atomic
def create_token(
    *,
    organization: Organization,
    operator: Operator,
    scopes: Sequence[str],
    actor: Actor,
    name: str = "",
    expires_at: datetime | None = None,
    networks: Sequence[str] = (),
) -> tuple[ApiToken, str]:
    """(row, the token itself, which is shown once). Raises InvalidInput.

    `networks`: addresses or networks (CIDR) that the token may be used from; none: from anywhere.

    Approve and run never sit in one token: a script that starts a plan could release it by itself.
    """
    wanted = sorted({scope.strip() for scope in scopes if scope.strip()})
    errors: dict[str, list[str]] = {}
    if not wanted or set(wanted) - set(Scope):
        errors["scopes"] = [f"Choose from {', '.join(Scope)}."]
    elif Scope.APPROVE in wanted and Scope.RUN in wanted:
        errors["scopes"] = ["A token cannot both run and approve. Make two, for two people."]
    try:
        allowed = [str(ip_network(network.strip())) for network in networks if network.strip()]
    except ValueError as error:
        allowed = []
        errors["networks"] = [f"{error}. Write addresses such as 203.0.113.7 or networks such as 203.0.113.0/24."]
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
        networks=allowed,
        expires_at=ends,
    )
    record(
        organization=organization,
        actor=actor,
        action="token.created",
        target_kind="token",
        target_ref=str(token.pk),
        target_name=token.name,
        after={"scopes": wanted, "networks": allowed},
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
