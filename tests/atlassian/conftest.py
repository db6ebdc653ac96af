"""Servers for the client's tests: a Valkey of their own, the sandbox, and a server that answers what a test says."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from apps.sandbox.server import Sandbox
from aum.atlassian.client import AtlassianClient, Connection
from aum.atlassian.limiter import NullLimiter, SharedLimiter
from tests.runtime_servers import valkey

API_KEY = "org-key-5ecret"
API_TOKEN = "personal-token-5ecret"


def redis_nowhere() -> redis.Redis:
    """A Redis that does not answer, found out at once."""
    return redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.2, retry=Retry(NoBackoff(), 0))


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with valkey() as url:
        yield url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """An empty Redis."""
    with contextlib.closing(redis.Redis.from_url(redis_url, socket_timeout=2)) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox(people=120) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox in its first state, without faults."""
    shared_sandbox.control.post("reset")
    yield shared_sandbox
    shared_sandbox.control.post("faults", {"clear": True})


def sandbox_connection(sandbox: Sandbox, **changes: Any) -> Connection:
    given = sandbox.credentials
    values: dict[str, Any] = {
        "organization_key": "sandbox",
        "api_url": sandbox.url,
        "org_id": given.org_id,
        "api_key": given.api_key,
        "site_url": sandbox.url,
        "email": given.email,
        "api_token": given.api_token,
    }
    return Connection(**{**values, **changes})


@dataclass
class Answer:
    """What the scripted server sends; `drop` closes the connection instead of answering."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    drop: bool = False
    content_length: int | None = None
    body_delay_seconds: float = 0.0


@dataclass
class Seen:
    """A request as the scripted server got it. `at` is time.monotonic() of its arrival."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """A real HTTP server on loopback; `answer` is called with each request, in the thread that serves it."""

    def __init__(self, answer: Callable[[Seen], Answer]) -> None:
        self.seen: list[Seen] = []
        self.answer = answer
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                return

            def _serve(self) -> None:
                at = time.monotonic()
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.command, self.path, headers, self.rfile.read(length), at)
                outer.seen.append(seen)
                answer = outer.answer(seen)
                if answer.drop:
                    self.close_connection = True
                    self.connection.close()
                    return
                text = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                content = b"" if answer.body is None else text
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.status != 204:
                    self.send_header("Content-Type", answer.content_type)
                    self.send_header("Content-Length", str(answer.content_length or len(content)))
                self.end_headers()
                if answer.status != 204:
                    self.wfile.flush()
                    time.sleep(answer.body_delay_seconds)
                    self.wfile.write(content)
                if answer.content_length is not None:
                    self.close_connection = True

            do_GET = do_POST = do_DELETE = do_PUT = _serve

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


ServerFactory = Callable[[Callable[[Seen], Answer]], ScriptedServer]


@pytest.fixture
def serve() -> Iterator[ServerFactory]:
    """`serve(answer)` starts a scripted server, stopped at the end of the test."""
    with contextlib.ExitStack() as stack:

        def start(answer: Callable[[Seen], Answer]) -> ScriptedServer:
            server = ScriptedServer(answer)
            stack.callback(server.close)
            return server

        yield start


def client_for(url: str, limiter: SharedLimiter | None = None, **options: Any) -> AtlassianClient:
    """A client whose API and site are both `url`."""
    connection = Connection("org-1", url, "org-1", API_KEY, url, "admin@example.com", API_TOKEN)
    return AtlassianClient(connection, limiter=limiter or NullLimiter(), **options)
