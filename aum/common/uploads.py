"""Refusing uploads that are too large before anything is made of them."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse

# A file of 20 MB and the frame around it.
MAX_BODY_BYTES = 22 * 1024 * 1024
# Beyond this the connection is closed instead of being read to its end.
MAX_DISCARDED_BYTES = 512 * 1024 * 1024
_PATHS = re.compile(r"/(?:o|api/v1/organizations)/[^/]+/(?:imports|look-first)/\Z|/setup/look-first/\Z")
_SENTENCE = "The file is larger than 20 MB. Split it, or leave out columns that are not needed."


class RefuseLargeUploads:
    """Answers a POST whose announced length is too much, from its headers: nothing is parsed, stored or kept.

    Its bytes are read and thrown away in small pieces, since browsers show no answer to an upload that was cut off.
    Comes before the CSRF check, which would parse the body.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        length = request.META.get("CONTENT_LENGTH") or "0"
        is_large = length.isdecimal() and int(length) > MAX_BODY_BYTES
        if request.method != "POST" or not is_large or not _PATHS.search(request.path):
            return self.get_response(request)
        left = min(int(length), MAX_DISCARDED_BYTES)
        while left > 0:
            piece = request.read(min(left, 256 * 1024))
            if not piece:
                break
            left -= len(piece)
        if request.path.startswith("/api/"):
            return JsonResponse({"code": "too_large", "detail": _SENTENCE, "fields": {"file": [_SENTENCE]}}, status=413)
        return HttpResponseRedirect(f"{request.path}?too-large=1", status=303)
