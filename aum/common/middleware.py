"""Gives each request an id that is in its log lines, its answer and its audit rows, and its sender's address."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from aum.common.logs import request_id


class RequestIdMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = request_id.set(uuid.uuid4().hex[:16])
        try:
            response = self.get_response(request)
            response["X-Request-Id"] = request_id.get()
            return response
        finally:
            request_id.reset(token)


# What no page of AUM asks a browser for; passkeys are the exception, for pages of ours.
PERMISSIONS_POLICY = (
    "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), "
    "midi=(), payment=(), usb=(), publickey-credentials-create=(self), publickey-credentials-get=(self)"
)


class PrivacyHeadersMiddleware:
    """No device of the visitor is asked for, and no shared cache keeps a page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        if not request.path.startswith(settings.STATIC_URL):
            response.setdefault("Cache-Control", "private, no-cache")
        return response


class ForwardedAddressMiddleware:
    """Behind a proxy `REMOTE_ADDR` is the proxy's; the sender's is what the nearest proxy appended (P9: who did it).

    Only the last `AUM_PROXY_HOPS` entries of X-Forwarded-For are written by proxies of ours; what stands before them
    comes from the sender, who could write anything.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if settings.AUM_PROXY_HOPS:
            hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if hop.strip()]
            if len(hops) >= settings.AUM_PROXY_HOPS:
                request.META["REMOTE_ADDR"] = hops[-settings.AUM_PROXY_HOPS]
        return self.get_response(request)
