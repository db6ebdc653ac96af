"""Puts the organisation of the address and what the operator may do in it on the request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse

from apps.operators.access import Access, access_for


class OrganizationMiddleware:
    """For addresses with an `org` slug: `request.access`. A stranger to the organisation gets 404 (P14)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.access = Access.none()  # type: ignore[attr-defined]
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: list[Any], kwargs: dict[str, Any]
    ) -> None:
        slug = kwargs.get("org")
        if slug and request.user.is_authenticated:
            request.access = access_for(request, slug)  # type: ignore[attr-defined]
