"""Query parameters of REST lists, read one by one; each function raises InvalidInput that names the parameter."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from django.http import QueryDict
from django.utils.dateparse import parse_date, parse_datetime

from aum.common.errors import InvalidInput


def choice(parameters: QueryDict, name: str, allowed: Collection[str]) -> str:
    """One of `allowed`, or an empty text when it is not given."""
    value = parameters.get(name, "").strip()
    if value and value not in allowed:
        raise InvalidInput(fields={name: [f"Choose one of {', '.join(allowed)}."]})
    return value


def choices(parameters: QueryDict, name: str, allowed: Collection[str]) -> tuple[str, ...]:
    """Several of `allowed`, repeated or separated by commas."""
    values = [part.strip() for text in parameters.getlist(name) for part in text.split(",") if part.strip()]
    if any(value not in allowed for value in values):
        raise InvalidInput(fields={name: [f"Choose from {', '.join(allowed)}."]})
    return tuple(dict.fromkeys(values))


def whole_number(parameters: QueryDict, name: str) -> int | None:
    """A number from 0 to 2⁶³ − 1; None when it is not given."""
    text = parameters.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < 2**63):
        raise InvalidInput(fields={name: ["Enter a whole number."]})
    return int(text)


def flag(parameters: QueryDict, name: str) -> bool | None:
    """true or false; None when it is not given."""
    text = parameters.get(name, "").strip().lower()
    if text not in ("", "true", "false"):
        raise InvalidInput(fields={name: ["Answer true or false."]})
    return text == "true" if text else None


def instant(parameters: QueryDict, name: str) -> datetime | None:
    """An ISO 8601 date or moment; UTC where it names no offset. None when it is not given."""
    text = parameters.get(name, "").strip()
    if not text:
        return None
    try:
        day = parse_date(text)
        found = datetime(day.year, day.month, day.day) if day else parse_datetime(text)
        if found is not None:
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidInput(fields={name: ["Enter a moment such as 2026-03-14T06:00:00Z."]})
