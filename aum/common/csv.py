"""Cells that a spreadsheet would run as a formula: made harmless in exports, given back as they were by imports."""

from __future__ import annotations

DANGEROUS = ("=", "+", "-", "@", "\t", "\r")


def neutralise(value: str) -> str:
    """`value` with a leading apostrophe where a spreadsheet would take it for a formula (DECISIONS.md §19).

    A text that already looks neutralised gets one too, so that `restore_cell` gives back exactly what went in.
    """
    return "'" + value if value.lstrip("'").startswith(DANGEROUS) else value


def restore_cell(value: str) -> str:
    """The text that `neutralise` was given; any other text unchanged."""
    if value.startswith("'") and value.lstrip("'").startswith(DANGEROUS):
        return value[1:]
    return value
