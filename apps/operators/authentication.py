"""REST: who is asking (bearer token or session) and whether their roles and the token's scopes allow it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.operators.access import Access
from apps.operators.models import ApiToken, Operator
from apps.operators.permissions import Permission, permissions_of_scopes
from apps.operators.selectors import has_second_factor, hash_secret, organizations_of, permissions_of
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from aum.common.errors import NotAllowed

if TYPE_CHECKING:
    # REST framework loads this module while it loads its views.
    from rest_framework.views import APIView


class ApiTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer aum_…`; looked up by hash, so no comparison of secrets takes time that tells something."""

    def authenticate(self, request: Request) -> tuple[Operator, ApiToken] | None:
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
        now = timezone.now()
        token = (
            ApiToken.objects.select_related("operator", "organization")
            .filter(token_hash=hash_secret(secret.strip()))
            .first()
        )
        if token is None or token.revoked_at or token.expires_at <= now or not token.operator.is_active:
            raise AuthenticationFailed("This token is unknown, expired or revoked. Create a new one.")
        if token.networks and not _is_within(request.META.get("REMOTE_ADDR", ""), token.networks):
            raise AuthenticationFailed("This token may not be used from your address. Its owner lists the networks.")
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
        return token.operator, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def _is_within(address: str, networks: list[str]) -> bool:
    """Whether `address` lies in one of the networks; something that is no address lies in none."""
    try:
        asking = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(asking in ipaddress.ip_network(network) for network in networks)


class SecondFactorRequired(NotAllowed):
    code = "second_factor_required"
    detail = "This organisation opens only with a second factor. Set one up under Your account, Two-factor sign-in."


class OperatorSessionAuthentication(SessionAuthentication):
    """The browser session, with CSRF, for the browsable documentation and scripts of the pages."""


def access_of(request: Request, slug: str) -> Access:
    """Access of the caller to organisation `slug`. Raises NotFound for a stranger to it (P14)."""
    operator = request.user
    assert isinstance(operator, Operator)
    organization: Organization | None
    if isinstance(request.auth, ApiToken):
        organization = request.auth.organization if request.auth.organization.slug == slug else None
        allowed = permissions_of_scopes(request.auth.scopes)
    else:
        organization, allowed = organizations_of(operator).filter(slug=slug).first(), frozenset(Permission)
    held = permissions_of(operator, organization) if organization else frozenset()
    if organization is None or not held:
        raise NotFound("There is no such organisation here.")
    by_session = not isinstance(request.auth, ApiToken)
    return Access(
        organization,
        operator,
        held & allowed,
        request.META.get("REMOTE_ADDR") or None,
        lacks_second_factor=by_session and organization.is_second_factor_required and not has_second_factor(operator),
    )


def actor_of(request: Request) -> Actor:
    """The caller as audit rows name them."""
    ip_address = request.META.get("REMOTE_ADDR") or None
    if isinstance(request.auth, ApiToken):
        return Actor.token(request.auth, ip_address)
    assert isinstance(request.user, Operator)
    return Actor.operator(request.user, ip_address)


class HasPermission(BasePermission):
    """Each endpoint names its permissions: `required = {"GET": Permission.VIEW, "POST": Permission.ACT}`."""

    message = "Your role or the token's scopes do not allow this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        required: dict[str, Permission | None] = getattr(view, "required", {})
        permission = required.get("GET" if request.method in ("HEAD", "OPTIONS") else str(request.method))
        slug: Any = view.kwargs.get("org")
        if slug is None:
            return permission is None and str(request.method) in required
        access = access_of(request, slug)
        if access.lacks_second_factor:
            raise SecondFactorRequired
        request.access = access  # type: ignore[attr-defined]
        return permission is not None and access.may(permission)
