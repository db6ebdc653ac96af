"""What the internet may reach (AUM_SURFACE=public): keep links and hooks. Everything else does not exist there."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("k/", include("apps.notifications.public_urls")),
    path("hooks/", include("apps.autoactivate.hook_urls")),
]


def not_found(_request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """A bare 404: the usual page would need a session."""
    return HttpResponse("Not found", status=404, content_type="text/plain")


def server_error(_request: HttpRequest) -> HttpResponse:
    """A bare 500."""
    return HttpResponse("This did not work. Try again later.", status=500, content_type="text/plain")


handler404 = not_found
handler500 = server_error
