"""A thin threaded HTTP/1.1 server: keep-alive, one thread per connection, no framework between socket and handler.

The standard library's `http.server` spends several times longer on a request than the sandbox needs to answer it, and
gives no way to drop a connection after the work is done, which is what a lost answer is.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import IO, Any, cast
from urllib.parse import parse_qsl, unquote

MAX_BODY_BYTES = 5 * 1024 * 1024
MAX_HEADERS = 100
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Request:
    """One request. Header names are lower case; `started_mono_ms` is CLOCK_MONOTONIC, comparable between processes."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    started_mono_ms: float
    started_wall_ms: int
    # Filled on the way in.
    full_path: str = ""
    site: int = 0
    through_gateway: bool = False
    key: str = "-"
    request_id: str = ""

    def params(self) -> dict[str, list[str]]:
        """Query parameters, each as the list of its values."""
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.query, keep_blank_values=True):
            found.setdefault(name, []).append(value)
        return found

    @property
    def base_url(self) -> str:
        return f"http://{self.headers.get('host', '127.0.0.1')}"


@dataclass(slots=True)
class Response:
    """`body` is sent as it is. `drop`: close instead of answering ("close" quietly, "reset" with RST)."""

    status: int
    body: bytes = b""
    content_type: str = "application/json;charset=UTF-8"
    headers: dict[str, str] = field(default_factory=dict)
    drop: str | None = None


def json_response(status: int, value: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(
        status, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), headers=headers or {}
    )


class HttpServer:
    """Listens at once when made; `close()` ends it and every connection without waiting for clients."""

    def __init__(self, host: str, port: int, handler: Callable[[Request], Response]) -> None:
        self._handler = handler
        self._listener = socket.create_server((host, port), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._connections: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="sandbox-accept", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._guard:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if self._stopping.is_set():
                    return
                time.sleep(0.05)  # out of file descriptors: let some connections end
                continue
            threading.Thread(target=self._serve, args=(connection,), name="sandbox-http", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._guard:
            self._connections.add(connection)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with cast(IO[bytes], connection.makefile("rb", 65536)) as stream:
                while not self._stopping.is_set() and self._one_request(connection, stream):
                    pass
        except (OSError, ValueError):
            pass  # the client went away or sent no HTTP; nothing is owed to it
        finally:
            with self._guard:
                self._connections.discard(connection)
            connection.close()

    def _one_request(self, connection: socket.socket, stream: IO[bytes]) -> bool:
        """Read, handle and answer one request; False when the connection is to be closed."""
        line = stream.readline(65537)
        started_mono_ms, started_wall_ms = time.monotonic() * 1000, int(time.time() * 1000)
        if line in (b"\r\n", b"\n"):
            return True
        if not line:
            return False
        method, target, version = line.decode("latin-1").split()
        headers = _read_headers(stream)
        body = _read_body(connection, stream, headers)
        path, _, query = target.partition("?")
        request = Request(method, unquote(path), query, headers, body, started_mono_ms, started_wall_ms)
        response = self._handler(request)
        if response.drop:
            if response.drop == "reset":
                # A linger of zero seconds makes close() send RST.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        connection.sendall(_head(response, keep) + (b"" if method == "HEAD" else response.body))
        return keep


def _read_headers(stream: IO[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    while True:
        line = stream.readline(65537)
        if line in (b"\r\n", b"\n"):
            return headers
        if not line or len(headers) >= MAX_HEADERS:
            raise ValueError("headers")
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()


def _read_body(connection: socket.socket, stream: IO[bytes], headers: dict[str, str]) -> bytes:
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        chunks = []
        size = 0
        while True:
            length = int(stream.readline(1024).split(b";")[0], 16)
            size += length
            if size > MAX_BODY_BYTES:
                raise ValueError("body")
            chunks.append(stream.read(length))
            stream.readline(1024)
            if not length:
                return b"".join(chunks)
    length = int(headers.get("content-length", "0") or "0")
    if not 0 <= length <= MAX_BODY_BYTES:
        raise ValueError("body")
    body = stream.read(length) if length else b""
    if len(body) < length:
        raise ValueError("body cut short")
    return body


def _head(response: Response, keep: bool) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}"]
    if response.body:
        lines.append(f"Content-Type: {response.content_type}")
    if response.status != 204:
        lines.append(f"Content-Length: {len(response.body)}")
    if not keep:
        lines.append("Connection: close")
    lines.append(f"Date: {formatdate(usegmt=True)}")
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
