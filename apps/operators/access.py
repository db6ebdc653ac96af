"""Who is asking, for which organisation, with which permissions; and the decorator that pages are guarded by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from apps.operators.models import Operator
from apps.operators.permissions import Permission
from apps.operators.selectors import organizations_of, permissions_of
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor

P = ParamSpec("P")


@dataclass(frozen=True)
class Access:
    """One request's organisation and permissions. `organization` is None outside `/o/<org>/`."""

    organization: Organization | None
    operator: Operator | None
    permissions: frozenset[Permission]
    ip_address: str | None = None

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
    return Access(organization, operator, permissions_of(operator, organization), ip_address)


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
            if not access.may(permission):
                return render(request, "operators/refused.html", {"permission": permission}, status=403)
            return view(request, *args, **kwargs)

        guarded.required_permission = permission  # type: ignore[attr-defined]
        return guarded

    return decorate


def _to_login(request: HttpRequest) -> HttpResponse:
    response = redirect_to_login(request.get_full_path())
    if request.headers.get("HX-Request"):
        answer = HttpResponse(status=401)
        answer["HX-Redirect"] = response["Location"]
        return answer
    return response
