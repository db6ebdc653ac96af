"""The network between AUM and Atlassian, as a proxy on loopback that can be cut."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

Break = Literal["refused", "silent", "half"]


class Wire:
    """Forwards connections to `target` until it is broken. Use as a context manager.

    *refused*: nobody listens; *silent*: connections are taken, nothing gets through; *half*: requests get through and
    answers do not, so work is done of which AUM never hears. `mend` ends what hangs with a reset.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener: socket.socket | None = None
        self._port = 0
        self._broken: Break | None = None
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._listen()
        self.url = f"http://127.0.0.1:{self._port}"

    def cut(self, how: Break) -> None:
        """Break it; what is under way breaks with it."""
        self._broken = how
        if how == "refused":
            self._close_listener()
        if how != "half":
            self._reset_all()

    def mend(self) -> None:
        """As before."""
        if self._broken is None:
            return
        self._broken = None
        self._reset_all()
        if self._listener is None:
            self._listen()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close_listener()
        self._reset_all()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=64)
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _close_listener(self) -> None:
        if self._listener is not None:
            # A blocked accept keeps a closed socket listening; shutting it down wakes it.
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _reset_all(self) -> None:
        with self._guard:
            ends, self._open = self._open, set()
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target, timeout=10)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        with self._guard:
            self._open |= {near, far}
        threading.Thread(target=self._pass_on, args=(near, far, False), daemon=True).start()
        self._pass_on(far, near, True)

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._broken == "silent" or (self._broken == "half" and is_answer):
                    continue
                sink.sendall(data)
        # A half-closed HTTP connection has no use.
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with self._guard:
                self._open.discard(end)
