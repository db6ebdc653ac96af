"""Reads what clients send: bodies, parameters, cursors. Refuses in Atlassian's words what does not fit."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any

from apps.sandbox.errors import admin_error
from apps.sandbox.http import Request, Response, json_response


def ok(value: Any) -> Response:
    return json_response(200, value)


def no_content() -> Response:
    return Response(204)


def iso(ms: int) -> str:
    """2026-11-20T08:31:05.000Z"""
    seconds, rest = divmod(ms, 1000)
    moment = time.gmtime(seconds)
    return (
        f"{moment.tm_year:04d}-{moment.tm_mon:02d}-{moment.tm_mday:02d}"
        f"T{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}.{rest:03d}Z"
    )


def iso_seconds(ms: int) -> str:
    """2026-11-20T08:31:05Z"""
    return iso(ms)[:19] + "Z"


def bad(detail: str, code: str = "ADMIN-UAM-400-1") -> Exception:
    return admin_error(code, detail)


def parsed(request: Request) -> Any:
    """The body as JSON; None when it is empty, not JSON, or nested beyond reason."""
    try:
        return json.loads(request.body or b"null")
    except (ValueError, RecursionError):
        return None


def json_body(request: Request, *, required: bool = True) -> dict[str, Any]:
    """The body as an object; refuses other media types (415) and what is no JSON object (400)."""
    if not required and not request.body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise admin_error("ADMIN-UAM-415-1", "Send application/json", request_id=request.request_id)
    value = parsed(request)
    if not isinstance(value, dict):
        raise bad("The body is not a JSON object")
    return value


def text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise bad(f"{name} is not a string")
    return value


def need(body: dict[str, Any], name: str) -> str:
    value = text(body, name)
    if not value:
        raise bad(f"{name} is required")
    return value


def strings(body: dict[str, Any], name: str, most: int, allowed: tuple[str, ...] | None = None) -> list[str] | None:
    """A list of 1 to `most` strings, or None when absent."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise bad(f"{name} is not a list of strings")
    if not 1 <= len(value) <= most:
        raise bad(f"{name} takes 1 to {most} values")
    unknown = [item for item in value if allowed is not None and item not in allowed]
    if unknown:
        raise bad(f"{name}: unknown value {unknown[0]!r}")
    return value


def number(body: dict[str, Any], name: str, default: int, most: int) -> int:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise bad(f"{name} must be 1 to {most}")
    return value


def query_number(params: dict[str, list[str]], name: str, default: int, least: int, most: int) -> int:
    value = params.get(name, [str(default)])[0]
    if not value.isdecimal() or not least <= int(value) <= most:
        raise bad(f"{name} must be {least} to {most}")
    return int(value)


def one(params: dict[str, list[str]], name: str) -> str | None:
    values = params.get(name)
    return values[0] if values else None


def make_cursor(state: dict[str, Any]) -> str:
    """An opaque cursor that carries its own state, so that it survives a restart, with a checksum against guesses."""
    text_ = base64.urlsafe_b64encode(json.dumps(state, separators=(",", ":")).encode()).decode().rstrip("=")
    return text_ + _checksum(text_)


def read_cursor(cursor: str | None, kind: str) -> dict[str, Any] | None:
    """The state of a cursor made for lists of `kind`; None for none; 400 for any other text."""
    if not cursor:
        return None
    text_ = cursor[:-_CHECKSUM_CHARS]
    if _checksum(text_) != cursor[-_CHECKSUM_CHARS:]:
        raise bad("The cursor is not one of ours", "ADMIN-400-1")
    state: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text_ + "=" * (-len(text_) % 4)))
    if state.get("kind") != kind:
        raise bad("The cursor belongs to another list", "ADMIN-400-1")
    return state


_CHECKSUM_CHARS = 8


def _checksum(text_: str) -> str:
    return hashlib.blake2b(text_.encode(), digest_size=_CHECKSUM_CHARS // 2).hexdigest()
