"""Sign-in by SAML 2.0: to the identity provider and back, and the metadata that it wants of us.

An answer counts when it is signed with a key of the provider's metadata, is for us and of now, and belongs to a request
of this very browser that was not answered yet. Answers that nobody asked for, SHA-1 and unsigned ones are refused.
"""

from __future__ import annotations

import binascii
import hashlib
import logging
from typing import Any

from allauth.core.internal import httpkit
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.helpers import complete_social_login
from allauth.socialaccount.models import SocialAccount, SocialLogin
from allauth.socialaccount.providers.saml import views as allauth_saml
from allauth.socialaccount.sessions import LoginSession
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from lxml.etree import LxmlError
from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Saml
from onelogin.saml2.errors import OneLogin_Saml2_Error
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from apps.operators.models import IdentityProvider, Operator
from apps.operators.selectors import PROVIDER_ID, active_provider
from apps.operators.services.saml_metadata import refresh_metadata

logger = logging.getLogger(__name__)
MAX_ANSWER = 512 * 1024
EMAIL = (
    "email",
    "mail",
    "emailaddress",
    "urn:oid:0.9.2342.19200300.100.1.3",
    "urn:mace:dir:attribute-def:mail",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
)
NAME = (
    "displayName",
    "name",
    "cn",
    "urn:oid:2.16.840.1.113730.3.1.241",
    "urn:mace:dir:attribute-def:displayName",
    "http://schemas.microsoft.com/identity/claims/displayname",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
)
MAX_UID = 191


def _provider_row() -> IdentityProvider:
    row = active_provider()
    if row is None or row.protocol != IdentityProvider.Protocol.SAML:
        raise Http404
    return row


def callback_url(request: HttpRequest) -> str:
    """Where the provider posts its answers (assertion consumer service)."""
    return request.build_absolute_uri(reverse("saml_acs", args=[PROVIDER_ID]))


def metadata_url(request: HttpRequest) -> str:
    """Where our metadata is; also our name (entity id)."""
    return request.build_absolute_uri(reverse("saml_metadata", args=[PROVIDER_ID]))


def _settings(request: HttpRequest, row: IdentityProvider | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "strict": True,
        "sp": {
            "entityId": metadata_url(request),
            "assertionConsumerService": {"url": callback_url(request), "binding": Saml.BINDING_HTTP_POST},
            "NameIDFormat": Saml.NAMEID_UNSPECIFIED,
        },
        "security": {
            "requestedAuthnContext": False,
            "rejectDeprecatedAlgorithm": True,
            "signatureAlgorithm": Saml.RSA_SHA256,
            "digestAlgorithm": Saml.SHA256,
            "wantAttributeStatement": False,
            "allowRepeatAttributeName": True,
            "rejectUnsolicitedResponsesWithInResponseTo": True,
            "allowSingleLabelDomains": True,
        },
    }
    if row is not None:
        assert row.metadata is not None
        found["idp"] = {
            "entityId": row.issuer,
            "singleSignOnService": {"url": row.metadata["sso_url"], "binding": Saml.BINDING_HTTP_REDIRECT},
            "x509certMulti": {"signing": row.metadata["certificates"]},
        }
    return found


def _auth(request: HttpRequest, row: IdentityProvider, answer: dict[str, str] | None = None) -> OneLogin_Saml2_Auth:
    base = request.build_absolute_uri("/")
    about = {
        "https": "on" if base.startswith("https://") else "off",
        "http_host": request.get_host(),
        # The answer came to this address, not to the one that finishes.
        "script_name": reverse("saml_acs", args=[PROVIDER_ID]),
        "get_data": {},
        "post_data": answer or {},
    }
    return OneLogin_Saml2_Auth(about, _settings(request, row))


def _allauth_provider(request: HttpRequest) -> Any:
    return get_adapter().get_provider(request, PROVIDER_ID)


@require_GET
def login(request: HttpRequest, organization_slug: str) -> HttpResponseBase:
    """Send the browser to the provider; who is signed in already has to prove it there anew."""
    row = refresh_metadata(_provider_row())
    auth = _auth(request, row)
    url = auth.login(return_to="", force_authn=request.user.is_authenticated)
    _allauth_provider(request).stash_redirect_state(
        request, "login", request.GET.get("next"), state_id=auth.get_last_request_id()
    )
    return redirect(url)


@csrf_exempt
@require_POST
def acs(request: HttpRequest, organization_slug: str) -> HttpResponseBase:
    """The provider's answer. It comes from its page, so without our cookies: it is kept, and `finish` reads it."""
    _provider_row()
    if len(request.body) > MAX_ANSWER:
        raise PermissionDenied
    answer: HttpResponseBase = allauth_saml.acs(request, organization_slug=organization_slug)
    return answer


@require_GET
def finish(request: HttpRequest, organization_slug: str) -> HttpResponseBase:
    """Judge the answer, then sign the person in as single sign-on does."""
    row = _provider_row()
    kept = LoginSession(request, "saml_acs_session", "saml-acs-session")
    stored = kept.store.get("request")
    kept.delete()
    if not stored:
        return _refused(request, "There is no answer of the identity provider. Sign in again.")
    answer = httpkit.deserialize_request(stored, HttpRequest())
    auth = _auth(request, row, {"SAMLResponse": answer.POST.get("SAMLResponse", "")})
    try:
        auth.process_response()
        reason = auth.get_last_error_reason() if auth.get_errors() else ""
    except (OneLogin_Saml2_Error, LxmlError, binascii.Error, ValueError, TypeError, AttributeError) as error:
        reason = str(error)
    if reason or auth.get_errors() or not auth.is_authenticated():
        logger.warning("single_sign_on.saml_refused", extra={"reason": reason or "not authenticated"})
        return _refused(request, f"AUM does not accept the answer of {row.name}. The server’s log says why.")
    provider = _allauth_provider(request)
    request_id = auth.get_last_response_in_response_to()
    if not request_id:
        return _refused(request, "Nobody here asked for this answer. Begin at AUM’s sign-in page.")
    try:
        state = provider.unstash_redirect_state(request, request_id)
    except PermissionDenied:
        return _refused(request, "This answer was used already, or belongs to another browser. Sign in again.")
    sociallogin = _social_login(provider, row, auth)
    if sociallogin is None:
        return _refused(request, "The answer names nobody: it holds neither a lasting name nor an e-mail address.")
    sociallogin.state = state
    done: HttpResponseBase = complete_social_login(request, sociallogin)
    return done


def _social_login(provider: Any, row: IdentityProvider, auth: OneLogin_Saml2_Auth) -> SocialLogin | None:
    """The person as `SocialAdapter.pre_social_login` reads it; None when the answer names nobody."""
    attributes = auth.get_attributes()
    name_id, is_lasting = str(auth.get_nameid() or ""), auth.get_nameid_format() != Saml.NAMEID_TRANSIENT

    def first(names: tuple[str, ...]) -> str:
        return next((str(attributes[name][0]) for name in names if attributes.get(name)), "")

    email = first(EMAIL) or (name_id if is_lasting and "@" in name_id else "")
    # A name that is another one each time says nothing about who somebody is.
    key = name_id if is_lasting and name_id else email.lower()
    if not key:
        return None
    claims = {
        "email": email,
        # Whoever an owner made the identity provider of everybody vouches for addresses.
        "email_verified": True,
        "name": first(NAME),
        row.groups_claim: [str(group) for group in attributes.get(row.groups_claim) or []],
    }
    uid = key if len(key) <= MAX_UID else hashlib.sha256(key.encode()).hexdigest()
    account = SocialAccount(provider=provider.sub_id, uid=uid, extra_data={"userinfo": claims})
    return SocialLogin(provider=provider, user=Operator(email=email), account=account, email_addresses=[])


def _refused(request: HttpRequest, detail: str) -> HttpResponse:
    return render(request, "operators/sso_refused.html", {"refusal": detail}, status=403)


@require_GET
def metadata(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Our metadata, for the provider's settings; there before the provider is known here."""
    found = OneLogin_Saml2_Settings(settings=_settings(request, None), sp_validation_only=True).get_sp_metadata()
    return HttpResponse(found, content_type="application/samlmetadata+xml")
