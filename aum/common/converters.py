"""Converters of URL patterns."""

from __future__ import annotations

from django.urls.converters import StringConverter


class AnyPathConverter(StringConverter):
    """Whatever is left of an address. `path` stops at a line break, which a client may send encoded."""

    regex = r"[\s\S]+"
