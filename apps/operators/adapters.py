"""What of django-allauth is switched on: signing in, not signing up; second factors and single sign-on.

Their secrets are kept as credentials are, and the identity provider is reached through the guard of outgoing addresses.
"""

from __future__ import annotations

import qrcode
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from django.http import HttpRequest
from django.shortcuts import render
from qrcode.image.svg import SvgPathImage

from apps.operators.guarded_session import GuardedSession
from apps.operators.models import IdentityProvider, Operator
from apps.operators.selectors import PROVIDER_ID, active_provider, organizations_of
from apps.operators.services import operator_of_claims
from apps.organizations.crypto import decrypt, encrypt, rotate, rotate_column
from aum.common.errors import DomainError


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Operators are made by the first-owner link, an invitation or the command line."""
        return False


class MfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Second factors: secrets are stored as credentials are (P12), and the last one cannot go where one is due."""

    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "cannot_delete_authenticator": (
            "An organisation that you work in requires a second factor. Add another one before you remove this."
        ),
        "incorrect_code": "This code is not right. Codes change every 30 seconds: type the one shown now.",
    }

    def encrypt(self, text: str) -> str:
        return encrypt(text).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return decrypt(encrypted_text.encode())

    def can_delete_authenticator(self, authenticator: Authenticator) -> bool:
        """False for the last second factor of an operator in an organisation that requires one."""
        operator = authenticator.user
        others = Authenticator.objects.filter(user_id=operator.pk).exclude(pk=authenticator.pk)
        if others.exclude(type=Authenticator.Type.RECOVERY_CODES).exists():
            return True
        return not (
            isinstance(operator, Operator)
            and organizations_of(operator).filter(is_second_factor_required=True).exists()
        )

    def build_totp_svg(self, url: str) -> str:
        """The QR code as SVG to stand in the page itself: the policy allows no `data:` images."""
        return str(qrcode.make(url, image_factory=SvgPathImage).to_string(encoding="unicode"))

    def generate_authenticator_name(self, user: Operator, type: Authenticator.Type) -> str:
        """A name for a new key, to be changed by its owner."""
        return f"Key {Authenticator.objects.filter(user_id=user.pk, type=type).count() + 1}"


class SocialAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """Single sign-on by the one identity provider of the installation."""

    def list_apps(
        self, request: HttpRequest, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """The provider as allauth wants it, made anew for each request, so that its secret is stored nowhere else."""
        row = active_provider()
        if row is None:
            return []
        if row.protocol == IdentityProvider.Protocol.SAML:
            apps = [SocialApp(provider="saml", provider_id=PROVIDER_ID, name=row.name, client_id=PROVIDER_ID)]
        else:
            apps = [
                SocialApp(
                    provider="openid_connect",
                    provider_id=PROVIDER_ID,
                    name=row.name,
                    client_id=row.client_id,
                    secret=decrypt(bytes(row.encrypted_client_secret or b"")),
                    settings={"server_url": row.issuer, "oauth_pkce_enabled": True},
                )
            ]
        return [
            app for app in apps if provider in (None, app.provider, PROVIDER_ID) and client_id in (None, app.client_id)
        ]

    def get_requests_session(self) -> GuardedSession:
        return GuardedSession()

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Find or make the operator and follow the groups; a refusal says why."""
        row = active_provider()
        assert row is not None
        data = sociallogin.account.extra_data
        claims = {**(data.get("id_token") or {}), **(data.get("userinfo") or {})}
        groups = claims.get(row.groups_claim) or []
        try:
            operator = operator_of_claims(
                known=sociallogin.user if sociallogin.is_existing else None,
                email=str(claims.get("email") or ""),
                # Some providers write the word.
                is_verified=claims.get("email_verified") in (True, "true"),
                name=str(claims.get("name") or ""),
                groups={str(group) for group in groups} if isinstance(groups, list) else {str(groups)},
            )
        except DomainError as refusal:
            page = render(request, "operators/sso_refused.html", {"refusal": refusal.detail}, status=refusal.status)
            raise ImmediateHttpResponse(page) from refusal
        if not sociallogin.is_existing:
            sociallogin.connect(request, operator)

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Operators are made by `pre_social_login`, never by a form."""
        return False


def rotate_secrets() -> int:
    """Encrypt the provider's secret and those of authenticator apps anew; how many there were."""
    count = rotate_column(IdentityProvider, "encrypted_client_secret")
    kinds = (Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES)
    for row in Authenticator.objects.select_for_update().filter(type__in=kinds):
        for name, value in row.data.items():
            if isinstance(value, str) and value:
                row.data[name] = rotate(value.encode()).decode()
                count += 1
        row.save(update_fields=["data"])
    return count
