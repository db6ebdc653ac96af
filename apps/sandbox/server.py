"""The sandbox as a thing to start and stop: by the command line, or inside a test."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from apps.sandbox.core import Core, Credentials
from apps.sandbox.http import HttpServer


class Control:
    """A client of the control address: `control.post("faults", {"kind": "reset"})`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str) -> Any:
        """The parsed answer of `GET /_control/<path>`; urllib.error.HTTPError for a refusal."""
        with urllib.request.urlopen(f"{self._url}/_control/{path}", timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The parsed answer of `POST /_control/<path>`; urllib.error.HTTPError for a refusal."""
        data = json.dumps(body or {}).encode()
        request = urllib.request.Request(f"{self._url}/_control/{path}", data=data, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


class Sandbox:
    """Serves one organisation in threads of this process, on a free loopback port unless one is given.

    With `state_dir` the organisation outlives the process; without it everything is in memory. `faults` are switched on
    before the first request. Use as a context manager, or call `close()`.
    """

    def __init__(
        self,
        *,
        people: int | None = None,
        seed: int | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        state_dir: Path | str | None = None,
        as_of: int | None = None,
        faults: list[dict[str, Any]] | None = None,
    ) -> None:
        self.core = Core(people=people, seed=seed, state_dir=Path(state_dir) if state_dir else None, as_of=as_of)
        for fault in faults or []:
            self.core.faults.add(fault)
        self._server = HttpServer(host, port, self.core.handle)
        self.port = self._server.port
        self.url = f"http://{host}:{self.port}"
        self.control = Control(self.url)

    @property
    def credentials(self) -> Credentials:
        return self.core.credentials

    def close(self) -> None:
        self._server.close()
        self.core.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
