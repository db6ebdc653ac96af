"""Who is asking, for which organisation, with which permissions; and the decorator that pages are guarded by."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from allauth.account.authentication import get_authentication_records

# The one way to tell allauth of a sign-in that does not go through its form (set-up link, invitation).
from allauth.account.internal.flows.login import record_authentication
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode

from apps.operators.models import Operator
from apps.operators.permissions import Permission
from apps.operators.selectors import (
    has_second_factor,
    organizations_of,
    permissions_of,
    provider_sign_in_url,
)
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor

P = ParamSpec("P")
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"
# What a person was about to do when they had to confirm who they are: {"path", "label", "fields"}.
PENDING = "aum_pending"
# Never kept in a session; a form with such fields asks before it is shown.
SECRET_FIELDS = ("password", "secret", "token", "api_key", "api_token")


@dataclass(frozen=True)
class Access:
    """One request's organisation and permissions. `organization` is None outside `/o/<org>/`."""

    organization: Organization | None
    operator: Operator | None
    permissions: frozenset[Permission]
    ip_address: str | None = None
    # The organisation asks for a second factor and the operator has none: nothing of it opens.
    lacks_second_factor: bool = False

    @classmethod
    def none(cls) -> Access:
        return cls(None, None, frozenset())

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    @property
    def actor(self) -> Actor:
        """The operator as audit rows name them."""
        assert self.operator is not None
        return Actor.operator(self.operator, self.ip_address)


class OrganizationRequest(HttpRequest):
    """A request that `require` has let through: typed for views."""

    access: Access
    user: Operator
    htmx: Any


def access_for(request: HttpRequest, slug: str) -> Access:
    """Access of the signed-in operator to organisation `slug`; `Access.none()` for a stranger to it."""
    operator = request.user
    if not isinstance(operator, Operator) or not operator.is_active:
        return Access.none()
    organization = organizations_of(operator).filter(slug=slug).first()
    if organization is None:
        return Access.none()
    ip_address = request.META.get("REMOTE_ADDR") or None
    return Access(
        organization,
        operator,
        permissions_of(operator, organization),
        ip_address,
        lacks_second_factor=organization.is_second_factor_required and not has_second_factor(operator),
    )


def organization_of(request: HttpRequest) -> Organization:
    """The request's organisation; raises Http404 for a stranger to it."""
    access: Access = request.access  # type: ignore[attr-defined]
    if access.organization is None:
        raise Http404
    return access.organization


def require(
    permission: Permission,
) -> Callable[[Callable[Concatenate[Any, P], HttpResponseBase]], Callable[..., HttpResponseBase]]:
    """Guard a page under `/o/<org>/`: sign-in first, 404 for strangers, a page that explains for the wrong role.

    The view is called without `org`; it takes an `OrganizationRequest` and reads `request.access`.
    """

    def decorate(view: Callable[Concatenate[Any, P], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            kwargs.pop("org", None)
            if not request.user.is_authenticated:
                return _to_login(request)
            access: Access = request.access  # type: ignore[attr-defined]
            if access.organization is None:
                raise Http404
            if access.lacks_second_factor:
                text = f"{access.organization} opens only with a second factor. Set up an app or a passkey to go on."
                messages.warning(request, text)
                return _redirect(request, reverse("mfa_index"))
            if not access.may(permission):
                return render(request, "operators/refused.html", {"permission": permission}, status=403)
            return view(request, *args, **kwargs)

        guarded.required_permission = permission  # type: ignore[attr-defined]
        return guarded

    return decorate


def fresh(
    label: str, *, on_get: bool = False
) -> Callable[[Callable[Concatenate[Any, P], HttpResponseBase]], Callable[Concatenate[Any, P], HttpResponseBase]]:
    """Guard what is dangerous: who last proved who they are too long ago does so again before the POST is done.

    What was sent is kept and offered again afterwards ("Go on: <label>"). `on_get`: the form itself opens only after
    that, for forms whose fields must not be kept. Goes below `require`.
    """

    def decorate(view: Callable[Concatenate[Any, P], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if not (request.method == "POST" or (on_get and request.method == "GET")):
                return view(request, *args, **kwargs)
            return proof_first(request, label) or view(request, *args, **kwargs)

        return guarded

    return decorate


def proof_first(request: HttpRequest, label: str) -> HttpResponseBase | None:
    """What `fresh` does, for a view that is dangerous in some cases only: an answer that asks, or None to go on."""
    if is_fresh(request):
        if request.method == "POST":
            request.session.pop(PENDING, None)
        return None
    following = request.get_full_path()
    if request.method == "POST":
        names = [name for name in request.POST if name != "csrfmiddlewaretoken"]
        if not any(secret in name for name in names for secret in SECRET_FIELDS):
            request.session[PENDING] = {
                "path": request.get_full_path(),
                "label": label,
                "fields": {name: request.POST.getlist(name) for name in names},
            }
            following = reverse("operators:go-on")
    return _redirect(request, _proof_address(request, following))


def _proof_address(request: HttpRequest, following: str) -> str:
    """Where the person proves again who they are: by password or code, else by signing in through the provider."""
    operator = request.user
    assert isinstance(operator, Operator)
    page = reverse("account_reauthenticate")
    if not operator.has_usable_password():
        by_code = has_second_factor(operator)
        page = reverse("mfa_reauthenticate") if by_code else provider_sign_in_url()
    return f"{page}?{urlencode({'next': following})}"


def is_fresh(request: HttpRequest) -> bool:
    """Whether the person of this session proved who they are within `AUM_REAUTHENTICATE_MINUTES`."""
    records = get_authentication_records(request, request.user)
    newest = max((float(record.get("at", 0)) for record in records), default=0.0)
    return bool(time.time() - newest < settings.AUM_REAUTHENTICATE_MINUTES * 60)


def sign_in(request: HttpRequest, operator: Operator) -> None:
    """Start a session for somebody who came by a one-time link and just chose a password."""
    login(request, operator, backend=BACKEND)
    record_authentication(request, operator, method="password")


def _to_login(request: HttpRequest) -> HttpResponseBase:
    return _redirect(request, redirect_to_login(request.get_full_path())["Location"], htmx_status=401)


def _redirect(request: HttpRequest, url: str, *, htmx_status: int = 200) -> HttpResponseBase:
    """To `url`; a fragment's request makes the whole page go there."""
    if request.headers.get("HX-Request"):
        answer = HttpResponse(status=htmx_status)
        answer["HX-Redirect"] = url
        return answer
    return redirect(url)
