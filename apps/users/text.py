"""How names are folded for sorting and searching."""

from __future__ import annotations

import unicodedata

# Combining marks of Latin, Greek and Cyrillic: "José" is found as "jose". Other scripts' marks are letters and stay.
_DIACRITICS = dict.fromkeys(range(0x300, 0x370))
LIMIT = 500


def fold(text: str) -> str:
    """`text` without case and diacritics, spaces collapsed, at most LIMIT characters."""
    plain = (
        text
        if text.isascii()
        else unicodedata.normalize("NFC", unicodedata.normalize("NFKD", text).translate(_DIACRITICS))
    )
    return " ".join(plain.casefold().split())[:LIMIT]


def like_pattern(text: str, *, before: str = "", after: str = "") -> str:
    """`text` with LIKE's own signs escaped, between `before` and `after` (such as "%")."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{before}{escaped}{after}"
