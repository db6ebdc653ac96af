"""What goes on around a product during a trial: tickets that arrive, mails that are taken, somebody who browses."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import requests
from aiosmtpd.controller import Controller

from aum.runtime.embedded import free_port


class Mailbox:
    """A mail server that counts what it took, by recipient and message id."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self._controller.start()
        self.port: int = self._controller.port

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        # Slow enough that a strike meets a mail that was handed over and not answered.
        await asyncio.sleep(0.15)
        lines = bytes(envelope.content).split(b"\n\n")[0].replace(b"\r", b"").split(b"\n")
        message_id = next((line for line in lines if line.lower().startswith(b"message-id:")), b"")
        self.taken += [(address, message_id.partition(b":")[2].strip().decode()) for address in envelope.rcpt_tos]
        await asyncio.sleep(0.15)
        return "250 OK"

    def close(self) -> None:
        self._controller.stop()


class Tickets(threading.Thread):
    """Sends each ticket to the way in as Jira does: again and again until it is taken. Two out of three come twice."""

    def __init__(self, url: str, secret: str, keys: Sequence[str], *, every_seconds: float = 0.15) -> None:
        super().__init__(daemon=True)
        self._url, self._secret, self._every = url, secret, every_seconds
        self._keys = [key for number, key in enumerate(keys) for _ in range(2 if number % 3 else 1)]
        self.taken: Counter[str] = Counter()
        self.tries = 0

    def run(self) -> None:
        for key in self._keys:
            deadline = time.monotonic() + 45
            while time.monotonic() < deadline:
                self.tries += 1
                try:
                    answer = requests.post(
                        self._url, json={"issueKey": key}, headers={"X-AUM-Secret": self._secret}, timeout=10
                    )
                    if answer.status_code == 202:
                        self.taken[key] += 1
                        break
                except requests.RequestException:
                    pass
                time.sleep(0.3)
            time.sleep(self._every)


class Browser(threading.Thread):
    """An administrator who looks at one page after the other; counts what came back."""

    def __init__(self, url: str, cookie: dict[str, str], pages: Sequence[str], *, every_seconds: float = 1.0) -> None:
        super().__init__(daemon=True)
        self._url, self._pages, self._every = url, pages, every_seconds
        self._session = requests.Session()
        self._session.cookies.set(cookie["name"], cookie["value"])
        self._stop_asked = threading.Event()
        self.seen: Counter[str] = Counter()

    def look(self, page: str) -> str:
        """The status of one page, or the kind of error."""
        try:
            return str(self._session.get(self._url + page, timeout=20, allow_redirects=False).status_code)
        except requests.RequestException as error:
            return type(error).__name__

    def run(self) -> None:
        while not self._stop_asked.is_set():
            for page in self._pages:
                self.seen[self.look(page)] += 1
                if self._stop_asked.wait(self._every):
                    return

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(30)
