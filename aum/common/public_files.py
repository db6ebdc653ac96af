"""The two files of the pages without sign-in, as views: the public surface serves no others."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe


@require_safe
def stylesheet(_request: HttpRequest) -> HttpResponse:
    """The look of these pages."""
    return _file("css/aum.css", "text/css; charset=utf-8")


@require_safe
def icon(_request: HttpRequest) -> HttpResponse:
    """Browsers ask for one; without it each opened page would leave a 404 in the log."""
    return _file("img/aum.svg", "image/svg+xml")


def _file(name: str, content_type: str) -> HttpResponse:
    content = (Path(settings.BASE_DIR) / "static" / name).read_bytes()
    return HttpResponse(content, content_type=content_type, headers={"Cache-Control": "public, max-age=3600"})
