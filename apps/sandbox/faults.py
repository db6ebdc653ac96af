"""Faults on demand: what an API does on a bad day, at places and times that a test chooses.

A fault is a dict with `kind` and, all optional, where it strikes: `path` (regular expression searched in the full
path), `method`, `skip` (let this many matching requests through first), `count` (strike this often, then never again),
`probability` with `seed` (the same requests in the same order are struck again). The kinds and their own fields are in
`KINDS`. Those marked *before* answer without doing the work; those marked *after* do it first.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from apps.sandbox.http import Request, Response, json_response
from apps.sandbox.reading import parsed
from apps.sandbox.world import Person, stable_fraction

if TYPE_CHECKING:
    from apps.sandbox.core import Core

# kind: (its own fields with their defaults, what it does)
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "latency": ({"ms": 100, "jitter_ms": 0}, "before: wait"),
    "rate_limit": (
        {"seconds": 1.0, "style": "retry_after"},
        "before: 429; style retry_after, reset (X-RateLimit-Reset only), none (no header) or html",
    ),
    "quota": (
        {"limit": 100, "window_ms": 60_000},
        "before: a real quota per key and endpoint family, reported in X-RateLimit-* on every answer, 429 beyond it",
    ),
    "error": ({"status": 503, "body": "json", "retry_after": None}, "before: a server error; body json, html or none"),
    "reset": ({}, "before: the connection is reset and nothing was done"),
    "lost_answer": ({"how": "close"}, "after: the work is done, then the connection ends without an answer"),
    "slow_answer": ({"ms": 1000}, "after: the work is done at once, the answer comes late"),
    "html": ({}, "after: the answer's body is an HTML page"),
    "malformed": ({}, "after: the JSON is cut in the middle"),
    "repeat_cursor": ({}, "after: a list's next cursor is the one that was sent, for ever"),
    "repeat_page": ({}, "after: a list shows its first page again, with a new cursor"),
    "truncated_list": ({"keep": 10}, "after: a list keeps its first rows and claims to be complete"),
    "unknown_enum": ({"value": "quantum"}, "after: statuses and sources hold a word that no document knows"),
    "nulls": ({}, "after: optional fields are null"),
    "drop_activity": ({"percent": 30}, "after: this share of people has lost the dates of last activity"),
    "drop_people": ({"percent": 30}, "after: this share of people is missing from lists"),
    "key_expires": ({"after": 0}, "the organisation key is refused after this many more requests with it"),
    "lag": ({"ms": 2000}, "reads see a write only after this time (lists, groups, roles); strikes everywhere"),
}
_SCOPE = {"path": "", "method": "", "skip": 0, "count": None, "probability": 1.0, "seed": 0}
_ENUM_FIELDS = ("status", "accountStatus", "membershipStatus", "claimStatus", "managementSource", "managedBy")
_NULL_FIELDS = (
    *("email", "nickname", "addedToOrg", "managementSource", "mfaEnabled", "department", "jobTitle", "location"),
    *("timeZone", "description", "picture", "avatar", "emailAddress", "displayName"),
)
_HTML = b"<!DOCTYPE html><html><head><title>Oops</title></head><body><h1>Something went wrong</h1></body></html>"


class Faults:
    """The active faults of one sandbox. Thread-safe."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._guard = threading.Lock()
        self._ids = itertools.count(1)
        self._active: list[dict[str, Any]] = []
        self._windows: dict[tuple[int, str], tuple[float, int]] = {}

    # -- setting

    def add(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Switch a fault on; ValueError for an unknown kind or field. Returns it with its id."""
        kind = wanted.get("kind")
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; known: {', '.join(KINDS)}")
        fields = KINDS[kind][0]
        unknown = set(wanted) - set(fields) - set(_SCOPE) - {"kind"}
        if unknown:
            raise ValueError(f"{kind} has no field {sorted(unknown)[0]!r}")
        fault = {**_SCOPE, **fields, **wanted, "id": next(self._ids), "seen": 0, "struck": 0}
        re.compile(fault["path"])
        fault["_random"] = random.Random(fault["seed"])
        with self._guard:
            self._active.append(fault)
        if kind == "lag":
            self._core.world.lag_ms = int(fault["ms"])
        return _shown(fault)

    def clear(self, ids: list[int] | None = None) -> None:
        with self._guard:
            self._active = [] if ids is None else [f for f in self._active if f["id"] not in ids]
            self._windows.clear()
            lagging = any(f["kind"] == "lag" for f in self._active)
        if not lagging:
            self._core.world.lag_ms = 0

    def shown(self) -> list[dict[str, Any]]:
        with self._guard:
            return [_shown(fault) for fault in self._active]

    # -- striking

    def before(self, request: Request, entry: dict[str, Any]) -> Response | None:
        """Wait, or answer in place of the handler."""
        if not self._active:
            return None
        for fault in list(self._active):
            kind = fault["kind"]
            if kind not in _BEFORE or not self._strikes(fault, request):
                continue
            if kind == "latency":
                time.sleep((fault["ms"] + fault["_random"].random() * fault["jitter_ms"]) / 1000)
                continue
            answer = self._quota(fault, request) if kind == "quota" else _BEFORE[kind](fault, request)
            if answer is not None:
                entry["fault"] = kind
                return answer
        return None

    def after(self, request: Request, response: Response, entry: dict[str, Any]) -> Response:
        """Spoil the answer to work that was done."""
        if not self._active:
            return response
        for fault in list(self._active):
            kind = fault["kind"]
            if kind not in _AFTER or not self._strikes(fault, request):
                continue
            entry["fault"] = kind
            response = _AFTER[kind](fault, request, response)
        return response

    def _strikes(self, fault: dict[str, Any], request: Request) -> bool:
        if fault["method"] and fault["method"].upper() != request.method:
            return False
        if fault["path"] and not re.search(fault["path"], request.full_path):
            return False
        with self._guard:
            fault["seen"] += 1
            if fault["seen"] <= fault["skip"]:
                return False
            if fault["count"] is not None and fault["struck"] >= fault["count"]:
                return False
            if fault["probability"] < 1 and fault["_random"].random() >= fault["probability"]:
                return False
            fault["struck"] += 1
            return True

    # -- quota

    def _quota(self, fault: dict[str, Any], request: Request) -> Response | None:
        family = endpoint_family(request)
        window = fault["window_ms"] / 1000
        with self._guard:
            start, used = self._windows.get((fault["id"], family), (time.time(), 0))
            if time.time() >= start + window:
                start, used = time.time(), 0
            refused = used >= fault["limit"]
            self._windows[fault["id"], family] = (start, used if refused else used + 1)
        if not refused:
            return None
        reset = start + window
        answer = too_many(request, max(0.0, reset - time.time()), "retry_after")
        answer.headers.update(_limits(fault["limit"], 0, reset))
        return answer

    def limit_headers(self, request: Request) -> dict[str, str]:
        """X-RateLimit-* of an answer: those of the quota when one is set, else a limit nobody reaches."""
        for fault in self._active:
            if fault["kind"] == "quota" and _in_scope(fault, request):
                start, used = self._windows.get((fault["id"], endpoint_family(request)), (time.time(), 0))
                reset = start + fault["window_ms"] / 1000
                return _limits(fault["limit"], max(0, fault["limit"] - used), reset)
        return _limits(100_000, 99_999, (time.time() // 60 + 1) * 60)

    # -- faults that live inside the handlers

    def activity_loss(self) -> Callable[[Person], bool] | None:
        """Tells who has lost the dates of last activity; None while nobody has."""
        return self._share_of_people("drop_activity")

    def hides_person(self, person: Person) -> bool:
        losing = self._share_of_people("drop_people")
        return losing is not None and losing(person)

    def _share_of_people(self, kind: str) -> Callable[[Person], bool] | None:
        for fault in self._active:
            if fault["kind"] == kind:
                share, seed = fault["percent"] / 100, fault["seed"]
                return lambda person: stable_fraction(kind, seed, person.account_id) < share
        return None

    def key_has_expired(self, request: Request) -> bool:
        for fault in list(self._active):
            if fault["kind"] == "key_expires" and _in_scope(fault, request):
                with self._guard:
                    fault["seen"] += 1
                    expired: bool = fault["seen"] > fault["after"]
                    fault["struck"] += expired
                if expired:
                    return True
        return False


def endpoint_family(request: Request) -> str:
    """The path with identifiers taken out, with the key: what Atlassian counts limits by."""
    path = re.sub(r"/(?:(?=[^/]*\d)[0-9a-k-]{8,}|[^/]*:[^/]*|-)(?=/|$)", "/*", request.full_path)
    return f"{request.key} {request.method} {path}"


def too_many(request: Request, seconds: float, style: str) -> Response:
    """A 429 that tells the wait in the chosen way."""
    if style == "html":
        return Response(429, _HTML, "text/html", {"Retry-After": str(_up(seconds))})
    body: Any = {"code": 429, "message": "Too many requests"}
    if request.path.startswith("/admin/v2/") and not request.path.endswith("/workspaces"):
        one = {"id": request.request_id, "code": "ADMIN-429-1", "status": "429", "title": "Rate limit exceeded"}
        body = {"errors": [{**one, "detail": "Too many requests"}]}
    elif request.path.startswith("/rest/"):
        body = {"errorMessages": ["Rate limit exceeded."], "errors": {}}
    response = json_response(429, body)
    if request.path.startswith("/rest/") and style != "none":
        response.headers["RateLimit-Reason"] = "jira-burst-based"
    if style == "retry_after":
        response.headers["Retry-After"] = str(_up(seconds))
    if style in ("retry_after", "reset"):
        response.headers.update(_limits(100, 0, time.time() + seconds))
    return response


def _up(seconds: float) -> int:
    return int(seconds) + (seconds > int(seconds))


def _limits(limit: int, remaining: int, reset: float) -> dict[str, str]:
    # Whole seconds rounded up: a client that waits for the reset must not come early.
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_up(reset)))
    return {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(remaining), "X-RateLimit-Reset": stamp}


def _in_scope(fault: dict[str, Any], request: Request) -> bool:
    if fault["method"] and fault["method"].upper() != request.method:
        return False
    return not fault["path"] or re.search(fault["path"], request.full_path) is not None


def _shown(fault: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fault.items() if not name.startswith("_")}


# -- before


def _rate_limit(fault: dict[str, Any], request: Request) -> Response:
    return too_many(request, float(fault["seconds"]), fault["style"])


def _error(fault: dict[str, Any], request: Request) -> Response:
    status = int(fault["status"])
    headers = {} if fault["retry_after"] is None else {"Retry-After": str(fault["retry_after"])}
    if fault["body"] == "html":
        return Response(status, _HTML, "text/html", headers)
    if fault["body"] == "none":
        return Response(status, headers=headers)
    one = {"id": request.request_id, "code": f"ADMIN-{status}-1", "status": str(status), "title": "Internal error"}
    return json_response(status, {"errors": [{**one, "detail": "Asked for by a fault"}]}, headers)


def _reset(fault: dict[str, Any], request: Request) -> Response:
    return Response(0, drop="reset")


# -- after


def _lost(fault: dict[str, Any], request: Request, response: Response) -> Response:
    return Response(response.status, drop=fault["how"])


def _slow(fault: dict[str, Any], request: Request, response: Response) -> Response:
    time.sleep(fault["ms"] / 1000)
    return response


def _html(fault: dict[str, Any], request: Request, response: Response) -> Response:
    return Response(response.status, _HTML, "text/html", response.headers)


def _malformed(fault: dict[str, Any], request: Request, response: Response) -> Response:
    response.body = response.body[: max(1, len(response.body) * 2 // 3)]
    return response


def _rewrite(change: Callable[[dict[str, Any], Request, dict[str, Any]], None]) -> Callable[..., Response]:
    """A fault that edits the JSON of a successful answer."""

    def spoil(fault: dict[str, Any], request: Request, response: Response) -> Response:
        if response.status >= 300 or not response.body.startswith((b"{", b"[")):
            return response
        value = json.loads(response.body)
        if isinstance(value, dict):
            change(fault, request, value)
        else:
            change(fault, request, {"values": value})
        response.body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return response

    return spoil


def _repeat_cursor(fault: dict[str, Any], request: Request, value: dict[str, Any]) -> None:
    links = value.get("links")
    if isinstance(links, dict) and ("next" in links or _sent_cursor(request)):
        links["next"] = _sent_cursor(request) or links.get("self") or links["next"]


def _sent_cursor(request: Request) -> str | None:
    params = request.params()
    if "cursor" in params:
        return params["cursor"][0]
    body = parsed(request)
    cursor = body.get("cursor") if isinstance(body, dict) else None
    return cursor if isinstance(cursor, str) else None


def _repeat_page(fault: dict[str, Any], request: Request, value: dict[str, Any]) -> None:
    first = fault.setdefault("_first", {})
    rows = value.get("data")
    if isinstance(rows, list):
        place = f"{request.method} {request.path}"
        if not _sent_cursor(request):
            first[place] = rows
        elif place in first:
            value["data"] = first[place]


def _truncated(fault: dict[str, Any], request: Request, value: dict[str, Any]) -> None:
    for name in ("data", "values"):
        if isinstance(value.get(name), list):
            del value[name][int(fault["keep"]) :]
    if isinstance(value.get("links"), dict):
        value["links"].pop("next", None)
    if "isLast" in value:
        value["isLast"] = True
        value.pop("nextPage", None)


def _rows(value: dict[str, Any]) -> list[dict[str, Any]]:
    for name in ("data", "values"):
        rows = value.get(name)
        if isinstance(rows, list):
            return [row for row in rows if isinstance(row, dict)]
        if isinstance(rows, dict):
            return [rows]
    return [value]


def _unknown_enum(fault: dict[str, Any], request: Request, value: dict[str, Any]) -> None:
    for row in _rows(value):
        for name in _ENUM_FIELDS:
            if name in row:
                row[name] = fault["value"]


def _nulls(fault: dict[str, Any], request: Request, value: dict[str, Any]) -> None:
    for row in _rows(value):
        for name in _NULL_FIELDS:
            if name in row:
                row[name] = None


_BEFORE: dict[str, Callable[[dict[str, Any], Request], Response | None]] = {
    "latency": lambda fault, request: None,
    "quota": lambda fault, request: None,
    "rate_limit": _rate_limit,
    "error": _error,
    "reset": _reset,
}
_AFTER: dict[str, Callable[[dict[str, Any], Request, Response], Response]] = {
    "html": _html,
    "malformed": _malformed,
    "repeat_cursor": _rewrite(_repeat_cursor),
    "repeat_page": _rewrite(_repeat_page),
    "truncated_list": _rewrite(_truncated),
    "unknown_enum": _rewrite(_unknown_enum),
    "nulls": _rewrite(_nulls),
    "slow_answer": _slow,
    "lost_answer": _lost,
}
