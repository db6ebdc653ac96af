"""Sending: sessions, routes and credentials, the limiter, the error mapper, retries. One attempt = one HTTP request.

`ReadTransport` can only send a `ReadCall`; `WriteTransport` adds `write`. Redirects are not followed, environment
proxies and .netrc are not read, cookies are neither kept nor sent, and credentials go to the connection's own hosts
only.
"""

from __future__ import annotations

import base64
import json
import logging
import random
import re
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from aum.atlassian import calls
from aum.atlassian.calls import Call, ReadCall, WriteCall
from aum.atlassian.errors import (
    AtlassianError,
    BadRequest,
    LimiterUnavailable,
    LostAnswer,
    RateLimited,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    WaitTooLong,
    error_from_answer,
)
from aum.atlassian.headers import backoff_seconds, limit_reason, quota_of, request_id_of, told_wait_seconds
from aum.atlassian.limiter import ALL, Grant, LimiterLike
from aum.atlassian.schemas import Page, as_object

logger = logging.getLogger(__name__)
T = TypeVar("T")

USER_AGENT: Final = "AUM/0.1.0"
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
MAX_READ_FAILURES: Final = 3
MAX_REFUSALS: Final = 8
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# Documented for account ids: [a-zA-Z0-9_|:-]{1,128}. Other ids are no wider but for dots and @; a slash or a dot
# segment would change the address that is called.
_IDENTIFIER: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_|:.@~+-]{1,255}")
# After a longer gap than this between leave and start, e.g. a TLS handshake, the pauses are looked at again (P13: 100
# ms).
_STALE_LEAVE_SECONDS: Final = 0.02
# Absolute resets carry whole milliseconds at best: do not start within the last one.
_WAIT_MARGIN_SECONDS: Final = 0.01


@dataclass(frozen=True)
class Connection:
    """Where an organisation lives and with which credentials it is read. Secrets are hidden from `repr`.

    `organization_key` names the limiter's namespace. `api_url` and `site_url` are origins with an optional path prefix;
    https, except on loopback. Raises ValueError for an address that is none of this; the message never holds a secret.
    """

    organization_key: str
    api_url: str
    org_id: str
    api_key: str = field(repr=False)
    site_url: str | None = None
    email: str | None = None
    api_token: str | None = field(default=None, repr=False)
    cloud_id: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "api_url", checked_base(self.api_url))
        object.__setattr__(self, "site_url", checked_base(self.site_url) if self.site_url else None)


def checked_base(url: str) -> str:
    """`url` without a trailing slash, if credentials may be sent there. Raises ValueError otherwise."""
    parts = urlsplit(url.strip())
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("A base address must begin with https:// (http only on this machine).")
    if not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("A base address has a host and no user, query or fragment.")
    _ = parts.port  # raises ValueError for a port that is none
    return url.strip().rstrip("/")


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port (the default one filled in) of an address."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"https": 443, "http": 80}.get(parts.scheme)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One attempt, for logs and metrics. `status` is None when no answer came; `error_code` is "" on success."""

    call_id: str
    method: str
    family: str
    path_template: str
    status: int | None
    request_id: str | None
    started_at: datetime
    duration_ms: float
    waited_ms: float
    error_code: str = ""


Observer = Callable[[CallRecord], None]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came. `is_whole` is False when the connection broke after the headers."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    is_whole: bool
    call_id: str

    @property
    def request_id(self) -> str | None:
        return request_id_of(self.headers)

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "")

    def json(self) -> Any:
        """The body as JSON. Raises UnexpectedAnswer when it is not."""
        try:
            return json.loads(self.content)
        except ValueError:
            what = "an HTML page" if self.content.lstrip()[:1] == b"<" else "something that is not JSON"
            raise UnexpectedAnswer(f"{what[0].upper()}{what[1:]} came instead of an answer.", code="not_json") from None


# --- urllib3: know what was sent, and look at the pauses at the last moment -------------------------------------------


class _PausedMeanwhile(Exception):
    """A pause began between the leave and the start; nothing was sent."""


_latest_start: ContextVar[float | None] = ContextVar("aum_atlassian_latest_start", default=None)


@contextmanager
def starting_before(instant: float) -> Iterator[None]:
    """Within it, a request of this thread that has not started at `instant` (time.monotonic) raises Unavailable.

    For a caller whose right to write ends: a process that was frozen meanwhile would send when others have taken over.
    """
    token = _latest_start.set(instant)
    try:
        yield
    finally:
        _latest_start.reset(token)


@dataclass(slots=True)
class _Flight:
    granted_at: float
    pause_remaining: Callable[[], float]
    phase: str = ""

    def before_sending(self) -> None:
        if time.monotonic() - self.granted_at > _STALE_LEAVE_SECONDS and self.pause_remaining() > 0:
            raise _PausedMeanwhile
        latest = _latest_start.get()
        if latest is not None and time.monotonic() > latest:
            raise Unavailable("The call was not sent: it would have come too late.", code="too_late")
        self.phase = "sent"


_flight: ContextVar[_Flight | None] = ContextVar("aum_atlassian_flight", default=None)


class _WatchedConnection(HTTPConnection):
    def connect(self) -> None:
        if (flight := _flight.get()) is not None:
            flight.phase = "opening"
        super().connect()

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.is_closed:
            self.connect()
        if (flight := _flight.get()) is not None:
            flight.before_sending()
        super().request(*args, **kwargs)


class _WatchedTlsConnection(_WatchedConnection, HTTPSConnection):
    pass


class _WatchedPool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _WatchedTlsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTlsConnection


class _WatchedAdapter(HTTPAdapter):
    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _WatchedPool, "https": _WatchedTlsPool}


def default_session() -> requests.Session:
    """A session for one thread: no environment proxies, no .netrc, certificates checked, no retries of its own."""
    session = requests.Session()
    session.trust_env = False
    session.verify = True
    adapter = _WatchedAdapter(pool_connections=4, pool_maxsize=2, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


# --- transport --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Trip:
    """One logical call over its attempts. Seconds waited count over all of them."""

    call: Call
    path: Mapping[str, str]
    query: Mapping[str, Any] | None
    body: Any
    via_gateway: bool
    call_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    waited: float = 0.0
    refusals: int = 0
    failures: int = 0
    refused: RateLimited | None = None


class ReadTransport:
    """Sends `ReadCall`s and nothing else. Usable from many threads: each has its own session.

    `timeout` is (connect, between bytes) in seconds. `max_wait_seconds` bounds what one call may wait in all, for the
    limiter and between tries.
    """

    def __init__(
        self,
        connection: Connection,
        limiter: LimiterLike,
        *,
        timeout: tuple[float, float] = (5.0, 60.0),
        max_wait_seconds: float = 60.0,
        session_factory: Callable[[], requests.Session] = default_session,
        observer: Observer | None = None,
    ) -> None:
        self.connection = connection
        self._limiter = limiter
        self._timeout = timeout
        self._max_wait = max_wait_seconds
        self._session_factory = session_factory
        self._observer = observer
        self._local = threading.local()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._sessions_lock = threading.Lock()
        self._cloud_id = connection.cloud_id
        self._site_via_gateway = False
        self._struck: set[str] = set()
        self._sunset_told: set[str] = set()

    def read(
        self,
        call: ReadCall,
        parse: Callable[[Any], T],
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> T:
        """Send a read and parse its JSON. Tries again, within limits, when refused for the rate or not answered.

        Raises AtlassianError subclasses; an answer that `parse` does not recognise is an UnexpectedAnswer.
        """
        if not isinstance(call, ReadCall):
            raise TypeError("A reader can only send reads.")
        trip = self._trip(call, path, query, body)
        while True:
            try:
                reply = self._attempt(trip)
            except Unauthorized:
                if not self._switch_to_gateway(trip):
                    raise
                continue
            except RateLimited as refused:
                self._note_refusal(trip, refused)
                continue
            except LimiterUnavailable:
                raise
            except Unavailable as failure:
                self._wait_to_try_again(trip, failure)
                continue
            if trip.via_gateway:
                self._site_via_gateway = True
            return self._parsed(reply, parse)

    def cloud_id(self) -> str:
        """The site's cloud id, asked of the site itself when it was not given. Needs no credential."""
        if self._cloud_id is None:
            self._cloud_id = self.read(calls.TENANT_INFO, _parse_cloud_id)
        return self._cloud_id

    def close(self) -> None:
        """Close every thread's connections. The transport may be used again afterwards."""
        with self._sessions_lock:
            sessions = list(self._sessions)
            self._sessions.clear()
        self._local = threading.local()
        for session in sessions:
            session.close()

    # -- one attempt

    def _trip(self, call: Call, path: Mapping[str, str] | None, query: Mapping[str, Any] | None, body: Any) -> _Trip:
        return _Trip(call, path or {}, query, body, via_gateway=call.host == calls.SITE and self._site_via_gateway)

    def _attempt(self, trip: _Trip) -> Reply:
        """One request and its answer, which is a success. Raises the error for anything else."""
        try:
            request = self._prepared(trip)
        except AtlassianError as error:
            error.call_id = trip.call_id
            raise
        host = urlsplit(request.url or "").netloc
        bucket = f"{host}/{trip.call.family}"
        while True:
            grant = self._leave(trip, bucket)
            try:
                reply = self._send(trip, request, bucket, grant)
            except _PausedMeanwhile:
                continue
            return reply

    def _leave(self, trip: _Trip, bucket: str) -> Grant:
        began = time.monotonic()
        try:
            grant = self._limiter.acquire(bucket, max(0.0, self._max_wait - trip.waited))
        except WaitTooLong as too_long:
            if trip.refused is not None:
                trip.refused.wait_seconds = max(trip.refused.wait_seconds, too_long.wait_seconds)
                raise trip.refused from None
            too_long.call_id = trip.call_id
            raise
        except LimiterUnavailable as error:
            error.call_id = trip.call_id
            raise
        finally:
            trip.waited += time.monotonic() - began
        return grant

    def _send(self, trip: _Trip, request: requests.PreparedRequest, bucket: str, grant: Grant) -> Reply:
        started_at, began = datetime.now(UTC), time.monotonic()
        status, request_id, code = None, None, ""
        flight = _Flight(time.monotonic(), lambda: self._limiter.pause_remaining(bucket))
        try:
            reply = self._round_trip(trip, request, flight, bucket, grant)
            status, request_id = reply.status, reply.request_id
            self._raise_for(trip, reply)
        except AtlassianError as error:
            code = error.code
            raise
        except _PausedMeanwhile:
            code = "paused_meanwhile"
            raise
        finally:
            self._report(
                CallRecord(
                    call_id=trip.call_id,
                    method=trip.call.method,
                    family=trip.call.family,
                    path_template=trip.call.path,
                    status=status,
                    request_id=request_id,
                    started_at=started_at,
                    duration_ms=(time.monotonic() - began) * 1000,
                    waited_ms=grant.waited_seconds * 1000,
                    error_code=code,
                )
            )
        return reply

    def _round_trip(
        self, trip: _Trip, request: requests.PreparedRequest, flight: _Flight, bucket: str, grant: Grant
    ) -> Reply:
        """Send, and hear the limits as soon as the headers are there, before the body is read."""
        failure: AtlassianError
        token = _flight.set(flight)
        try:
            response = self._session().send(
                request, timeout=self._timeout, allow_redirects=False, stream=True, verify=True
            )
        except requests.RequestException as error:
            failure = self._failure(trip, error, flight)
        else:
            self._hear(trip, response, bucket, grant)
            content, is_whole = _read_body(response)
            return Reply(response.status_code, response.headers, content, is_whole, trip.call_id)
        finally:
            _flight.reset(token)
        # Raised outside of the handler: the exception of requests holds the request with its Authorization header.
        raise failure

    def _failure(self, trip: _Trip, error: requests.RequestException, flight: _Flight) -> AtlassianError:
        kind = type(error).__name__
        host = urlsplit(error.request.url or "").netloc if error.request is not None else "Atlassian"
        was_sent = not (
            flight.phase == "opening" or isinstance(error, requests.ConnectTimeout) or _never_connected(error)
        )
        if not was_sent:
            code = "tls_failed" if isinstance(error, requests.exceptions.SSLError) else "connect_failed"
            return Unavailable(f"{host} could not be reached ({kind}).", code=code, call_id=trip.call_id)
        if trip.call.is_write:
            return LostAnswer(f"The answer of {host} never came ({kind}).", call_id=trip.call_id)
        return Unavailable(f"{host} did not answer ({kind}).", code="no_answer", call_id=trip.call_id)

    def _raise_for(self, trip: _Trip, reply: Reply) -> None:
        """Raise unless the answer is a whole success."""
        is_write = trip.call.is_write
        if 200 <= reply.status < 300:
            if not reply.is_whole and not is_write:
                raise Unavailable("The answer broke off.", code="no_answer", status=reply.status, call_id=trip.call_id)
            return
        now = datetime.now(UTC)
        raise error_from_answer(
            status=reply.status,
            content=self._scrubbed(reply.content),
            content_type=reply.content_type,
            request_id=reply.request_id,
            call_id=trip.call_id,
            is_write=is_write,
            wait_seconds=(told_wait_seconds(reply.headers, now) or 0.0) if reply.status == 429 else 0.0,
            reason=limit_reason(reply.headers),
        )

    # -- limits

    def _hear(self, trip: _Trip, response: requests.Response, bucket: str, grant: Grant) -> None:
        """Pass on what an answer says about limits. Never fails: an answer must not be lost for want of Redis.

        If Redis is away the next `acquire` refuses, so nothing is sent during the wait either.
        """
        headers, now = response.headers, datetime.now(UTC)
        try:
            if response.status_code == 429:
                self._pause(trip, bucket, told_wait_seconds(headers, now), limit_reason(headers))
                return
            if response.status_code == 503 and headers.get("Retry-After"):
                self._pause(trip, bucket, told_wait_seconds(headers, now), "")
                return
            if (quota := quota_of(headers, now)) is not None:
                self._limiter.observe(
                    bucket,
                    limit=quota.limit,
                    remaining=quota.remaining,
                    reset_seconds=quota.reset_seconds,
                    serial=grant.serial,
                )
            if bucket in self._struck:
                self._struck.discard(bucket)
                self._limiter.succeeded(bucket)
        except LimiterUnavailable:
            logger.warning("atlassian.limit_not_shared", extra={"call_id": trip.call_id, "bucket": bucket})
        self._note_sunset(trip, headers)

    def _pause(self, trip: _Trip, bucket: str, wait: float | None, reason: str) -> None:
        """Hold the host, or only the family where it is known that only that one is meant.

        A 429 without a time is answered by back-off. A reset that is over already was rounded down: a moment will do.
        """
        if wait == 0:
            wait = random.uniform(0.1, 0.5)
        elif wait is None:
            self._struck.add(bucket)
            wait = backoff_seconds(self._limiter.penalise(bucket))
        is_narrow = trip.call.is_narrow or reason.startswith(("jira-burst", "jira-per-issue"))
        reach = bucket if is_narrow else f"{bucket.rpartition('/')[0]}/{ALL}"
        self._limiter.pause(reach, wait + _WAIT_MARGIN_SECONDS)
        logger.warning(
            "atlassian.told_to_wait",
            extra={"call_id": trip.call_id, "reach": reach, "wait_seconds": round(wait, 3), "reason": reason},
        )

    def _note_refusal(self, trip: _Trip, refused: RateLimited) -> None:
        """Count a 429, and raise it once waiting has had its chance."""
        trip.refused, trip.refusals = refused, trip.refusals + 1
        if trip.refusals >= MAX_REFUSALS:
            raise refused

    def _wait_to_try_again(self, trip: _Trip, failure: Unavailable) -> None:
        trip.failures += 1
        pause = random.uniform(0.1, 0.5) * 2**trip.failures
        if trip.failures >= MAX_READ_FAILURES or trip.waited + pause > self._max_wait:
            raise failure
        trip.waited += pause
        time.sleep(pause)

    # -- routes and credentials

    def _prepared(self, trip: _Trip) -> requests.PreparedRequest:
        base, headers = self._route(trip)
        url = base + _filled(trip.call.path, trip.path)
        data = None
        if trip.body is not None:
            data = json.dumps(trip.body, ensure_ascii=True).encode()
            headers["Content-Type"] = "application/json"
        query = {k: v for k, v in (trip.query or {}).items() if v is not None}
        return requests.Request(trip.call.method, url, params=query, data=data, headers=headers).prepare()

    def _route(self, trip: _Trip) -> tuple[str, dict[str, str]]:
        headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
        here = self.connection
        if trip.call.host == calls.API:
            headers["Authorization"] = f"Bearer {_credential(here.api_key, 'organisation API key')}"
            return here.api_url, headers
        if here.site_url is None:
            raise BadRequest("No site address is set.", code="no_site", advice="Enter the site's address in Settings.")
        if trip.call.host == calls.OPEN:
            return here.site_url, headers
        pair = f"{_credential(here.email, 'e-mail', ascii_only=False)}:{_credential(here.api_token, 'API token')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        if trip.via_gateway:
            return f"{here.api_url}/ex/jira/{_checked_identifier(self.cloud_id())}", headers
        return here.site_url, headers

    def _switch_to_gateway(self, trip: _Trip) -> bool:
        """After a 401 of the site: whether to try again through the gateway, where scoped personal tokens belong."""
        if trip.call.host != calls.SITE or trip.via_gateway:
            return False
        try:
            self.cloud_id()
        except AtlassianError:
            return False
        trip.via_gateway = True
        return True

    def _scrubbed(self, content: bytes) -> bytes:
        """An error body without our credentials, should it echo them."""
        for secret in (self.connection.api_key, self.connection.api_token):
            if secret:
                content = content.replace(secret.encode(), b"[hidden]")
        return content

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._session_factory()
            self._local.session = session
            with self._sessions_lock:
                self._sessions.add(session)
        return session

    # -- answers

    def _parsed(self, reply: Reply, parse: Callable[[Any], T]) -> T:
        try:
            result = parse(reply.json())
        except UnexpectedAnswer as error:
            error.status, error.request_id, error.call_id = reply.status, reply.request_id, reply.call_id
            raise
        if isinstance(result, Page):
            return cast(T, replace(result, call_id=reply.call_id, request_id=reply.request_id))
        return result

    def _report(self, record: CallRecord) -> None:
        """Tell the observer. Its failure must not cost the answer to a write, so it is logged and goes no further."""
        if self._observer is None:
            return
        try:
            self._observer(record)
        except Exception:
            logger.exception("atlassian.observer_failed", extra={"call_id": record.call_id})

    def _note_sunset(self, trip: _Trip, headers: Mapping[str, str]) -> None:
        """Log once when Atlassian announces the end of an endpoint."""
        said = headers.get("Sunset") or headers.get("Deprecation")
        if said and trip.call.name not in self._sunset_told:
            self._sunset_told.add(trip.call.name)
            logger.warning("atlassian.endpoint_ends", extra={"call": trip.call.name, "said": said[:100]})


class WriteTransport(ReadTransport):
    """Sends writes too. A write is sent again only after a 429, which had no effect."""

    def write(self, call: WriteCall, *, path: Mapping[str, str], body: Any = None) -> Reply:
        """Send a write. Its body is `{}` at least for POST: without one the gateway answers 415 (API.md §2).

        Raises Unavailable if nothing was sent, LostAnswer if the effect is unknown, RateLimited if the wait is too
        long.
        """
        trip = self._trip(call, path, None, {} if body is None and call.method == "POST" else body)
        while True:
            try:
                reply = self._attempt(trip)
            except RateLimited as refused:
                self._note_refusal(trip, refused)
                continue
            self._check_is_api(reply)
            return reply

    def _check_is_api(self, reply: Reply) -> None:
        """Raise LostAnswer for a success with a page or some text: a proxy or a log-in wall answered in between."""
        if not reply.is_whole or not reply.content.strip():
            return
        try:
            reply.json()
        except UnexpectedAnswer as error:
            raise LostAnswer(
                error.detail, status=reply.status, request_id=reply.request_id, call_id=reply.call_id
            ) from None


# --- pieces -----------------------------------------------------------------------------------------------------------


def _parse_cloud_id(body: Any) -> str:
    cloud_id = as_object(body, what="tenant_info").get("cloudId")
    if not isinstance(cloud_id, str) or not _IDENTIFIER.fullmatch(cloud_id):
        raise UnexpectedAnswer("The site did not name its cloud id.", code="no_cloud_id")
    return cloud_id


def _credential(value: str | None, what: str, *, ascii_only: bool = True) -> str:
    """`value`, if it can stand in a header. Raises Unauthorized, without the value, before anything is sent."""
    text = (value or "").strip()
    if not text:
        raise Unauthorized(f"No {what} is set.", code="credential_missing", advice=f"Enter the {what} in Settings.")
    if not text.isprintable() or (ascii_only and not (text.isascii() and " " not in text)):
        raise Unauthorized(
            f"The {what} holds characters that none has.",
            code="credential_unreadable",
            advice=f"Copy the {what} again, from its first to its last character, and paste it in Settings.",
        )
    return text


def _checked_identifier(value: str) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise BadRequest("An identifier holds characters that Atlassian's do not.", code="invalid_identifier")
    return value


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The path with its identifiers, each checked, so that none can point to another address."""
    return template.format_map({name: quote(_checked_identifier(value), safe=":") for name, value in values.items()})


def _never_connected(error: BaseException) -> bool:
    """Whether a requests exception wraps urllib3's NewConnectionError (name resolution included), at any depth."""
    seen: list[Any] = [error]
    while seen:
        item = seen.pop()
        if isinstance(item, NewConnectionError):
            return True
        seen += [a for a in getattr(item, "args", ()) if isinstance(a, BaseException)]
        seen += [r for r in [getattr(item, "reason", None)] if isinstance(r, BaseException)]
    return False


def _read_body(response: requests.Response) -> tuple[bytes, bool]:
    """The body, and whether it is whole. A body beyond MAX_BODY_BYTES counts as broken off."""
    chunks, size = [], 0
    try:
        for chunk in response.iter_content(65536):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                return b"", False
    except requests.RequestException:
        return b"".join(chunks), False
    finally:
        response.close()
    return b"".join(chunks), True
