"""Runs a set of processes as one: one log, restarts with back-off, and nothing left behind.

Every process is the leader of its own session. On Linux each is killed by the kernel when the supervisor ends;
elsewhere the next start finds the leftovers by the pid file. Everything happens in one thread, because Linux ties the
death signal to the thread that made the process.
"""

import contextlib
import json
import os
import platform
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import IO, Any

from aum.runtime import pdeath

_BACKOFF_SECONDS = (0.3, 1.0, 2.0, 5.0, 10.0, 30.0)
# A process that stayed up this long starts again with the shortest wait.
_STABLE_SECONDS = float(os.environ.get("AUM_STABLE_SECONDS", "60"))
_TICK_SECONDS = 0.25
_WANTED_EVERY_SECONDS = 1.0
_LEFTOVER_SECONDS = 10.0
_ON_LINUX = platform.system() == "Linux"
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class StopRequestedError(Exception):
    """A signal asked the supervisor to stop."""


class ServiceFailedError(Exception):
    """A process that others depend on does not start."""


def _always() -> bool:
    return True


def _nothing() -> None:
    return None


def _bound_popen_options() -> dict[str, Any]:
    return {"start_new_session": True, "preexec_fn": pdeath.child_setup(signum=signal.SIGKILL)}


@dataclass(frozen=True)
class Service:
    """One process to keep running.

    `tier` 0 stops last (the servers that others need); `wanted` is asked every second; `before_start` runs before
    each start; `stop_signal` asks for an orderly end, and after `stop_timeout_seconds` its session is killed.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    tier: int = 1
    wanted: Callable[[], bool] = _always
    before_start: Callable[[], None] = _nothing
    popen_options: Callable[[], dict[str, Any]] = _bound_popen_options
    stop_signal: int = signal.SIGTERM
    stop_timeout_seconds: float = 8.0


class Log:
    """Writes lines with the name of their process, in colour on a terminal."""

    def __init__(self, stream: IO[str], *, width: int = 9) -> None:
        self._stream = stream
        self._width = width
        self._coloured = stream.isatty() and "NO_COLOR" not in os.environ
        self._colours: dict[str, int] = {}

    def line(self, name: str, text: str) -> None:
        clock = datetime.now().strftime("%H:%M:%S")
        prefix = f"{clock} {name:<{self._width}} |"
        if self._coloured:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        # A closed terminal must not bring the services down.
        with contextlib.suppress(OSError):
            self._stream.write(f"{prefix} {text}\n")
            self._stream.flush()

    def plain(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(f"{text}\n")
            self._stream.flush()


class _Running:
    """A service and, while it runs, its process."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.process: subprocess.Popen[bytes] | None = None
        self.partial = b""
        self.started = 0.0
        self.failures = 0
        self.start_at = 0.0
        self.stop_deadline: float | None = None
        self.once = False
        self.sink: list[str] | None = None


class Supervisor:
    """Keeps services running until a signal asks it to stop. Use it from the main thread only."""

    def __init__(self, *, pid_file: Path, log: Log | None = None, cwd: Path | None = None) -> None:
        self.log = log or Log(sys.stdout)
        self._pid_file = pid_file
        self._cwd = cwd
        self._running: list[_Running] = []
        self._selector = selectors.DefaultSelector()
        self._stop_requests = 0
        self._stopping = False
        self._wanted_at = 0.0
        self._timers: list[tuple[float, Callable[[], None], list[float]]] = []
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)

    # Signals

    def install_signals(self) -> None:
        """Stop on Ctrl-C, SIGTERM and a closed terminal; a second request kills."""
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, self._request_stop)
        signal.signal(signal.SIGTERM, self._request_stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asked to stay
            signal.signal(signal.SIGHUP, self._request_stop)
        signal.signal(signal.SIGCHLD, _on_child)

    def _request_stop(self, _signum: int, _frame: FrameType | None) -> None:
        self._stop_requests += 1

    # Starting and watching

    def add(self, *services: Service) -> None:
        """Start the services that are wanted, and keep them running from now on."""
        for service in services:
            running = _Running(service)
            self._running.append(running)
            if service.wanted():
                self._start(running)

    def every(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` from the loop about every `seconds`; it must return quickly."""
        self._timers.append((seconds, action, [time.monotonic() + seconds]))

    def wait_until(self, ready: Callable[[], bool], *, what: str, timeout_seconds: float, service: str) -> None:
        """Work until `ready()`; raises ServiceFailedError on timeout or when `service` ended three times before."""
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            failures = max(
                (running.failures for running in self._running if running.service.name == service), default=0
            )
            if failures >= 3 or time.monotonic() > deadline:
                raise ServiceFailedError(f'{what} does not start. The lines of "{service}" above say why.')
            self._turn(0.02)

    def run_once(self, service: Service, *, capture: bool = False) -> tuple[int, list[str]]:
        """Run a command to its end while the others run; returns its exit code and, if `capture`, its output lines."""
        running = self._start_once(service, sink=[] if capture else None)
        process = running.process
        while running.process is not None:
            self._turn(0.05)
        return (process.returncode if process else 1), running.sink or []

    def start_once(self, service: Service) -> None:
        """Run a command beside the others and forget it when it ends."""
        self._start_once(service)

    def _start_once(self, service: Service, *, sink: list[str] | None = None) -> _Running:
        running = _Running(service)
        running.once = True
        running.sink = sink
        self._running.append(running)
        self._start(running)
        return running

    def run_forever(self) -> None:
        """Work until a signal asks to stop (StopRequestedError)."""
        while True:
            self._turn(_TICK_SECONDS)

    def _turn(self, timeout_seconds: float) -> None:
        if self._stop_requests and not self._stopping:
            raise StopRequestedError
        self._read_events(timeout_seconds)
        self._reap()
        if not self._stopping:
            self._start_and_stop_as_wanted()
            now = time.monotonic()
            for seconds, action, due in self._timers:
                if now >= due[0]:
                    due[0] = now + seconds
                    action()

    def _start(self, running: _Running) -> None:
        service = running.service
        try:
            service.before_start()
            process = subprocess.Popen(
                list(service.command),
                env={**os.environ, **service.env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                **{"cwd": self._cwd, **service.popen_options()},
            )
        except (OSError, subprocess.SubprocessError) as error:
            self.log.line(service.name, f"cannot be started: {error}")
            self._after_end(running)
            return
        running.process = process
        running.started = time.monotonic()
        running.stop_deadline = None
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, running)
        self._write_pid_file()

    def _start_and_stop_as_wanted(self) -> None:
        now = time.monotonic()
        ask = now >= self._wanted_at
        if ask:
            self._wanted_at = now + _WANTED_EVERY_SECONDS
        for running in list(self._running):
            if running.process is None:
                if now >= running.start_at and (
                    running.service.wanted is _always or (ask and running.service.wanted())
                ):
                    self._start(running)
            elif running.stop_deadline is not None:
                if now >= running.stop_deadline:
                    _kill_session(running.process)
            elif ask and not running.service.wanted():
                self._ask_to_stop(running)

    def _after_end(self, running: _Running) -> None:
        """Plan the next start of a service that ended by itself; a command that ran once is done."""
        if running.once:
            self._running.remove(running)
            return
        if self._stopping or running.stop_deadline is not None:
            return
        wait_seconds = _BACKOFF_SECONDS[min(running.failures, len(_BACKOFF_SECONDS) - 1)]
        running.failures += 1
        running.start_at = time.monotonic() + wait_seconds
        self.log.line("aum", f"{running.service.name} starts again in {wait_seconds:g} s")

    # Output and ends

    def _read_events(self, timeout_seconds: float) -> None:
        for key, _mask in self._selector.select(timeout_seconds):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(4096)
            else:
                self._read_output(key.data)

    def _read_output(self, running: _Running) -> bool:
        """Pass on what the process wrote; False at the end of its output."""
        assert running.process is not None
        assert running.process.stdout is not None
        try:
            data = os.read(running.process.stdout.fileno(), 65536)
        except BlockingIOError:
            return True
        *lines, running.partial = (running.partial + data).split(b"\n")
        if not data and running.partial:
            lines, running.partial = [*lines, running.partial], b""
        for line in lines:
            text = line.decode(errors="replace").rstrip("\r")
            if running.sink is not None:
                running.sink.append(text)
            elif text:
                self.log.line(running.service.name, text)
        if not data:
            with contextlib.suppress(KeyError):
                self._selector.unregister(running.process.stdout)
        return bool(data)

    def _reap(self) -> None:
        for running in list(self._running):
            process = running.process
            if process is None or process.poll() is None:
                continue
            # What it started and left in its session ends with it; then its output ends too.
            _kill_session(process)
            deadline = time.monotonic() + 1.0
            while process.stdout in self._open_files() and time.monotonic() < deadline and self._read_output(running):
                self._selector.select(0.01)
            self._forget(running)
            if not running.once and not self._stopping and running.stop_deadline is None:
                self._report_end(running, process.returncode)
            self._after_end(running)

    def _open_files(self) -> list[Any]:
        return [key.fileobj for key in self._selector.get_map().values()]

    def _forget(self, running: _Running) -> None:
        assert running.process is not None
        if running.process.stdout is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(running.process.stdout)
            running.process.stdout.close()
        running.process = None
        running.partial = b""
        self._write_pid_file()

    def _report_end(self, running: _Running, returncode: int) -> None:
        if time.monotonic() - running.started >= _STABLE_SECONDS:
            running.failures = 0
        how = f"was ended by {signal.Signals(-returncode).name}" if returncode < 0 else f"ended with code {returncode}"
        self.log.line("aum", f"{running.service.name} {how}")

    def _ask_to_stop(self, running: _Running) -> None:
        assert running.process is not None
        running.stop_deadline = time.monotonic() + running.service.stop_timeout_seconds
        with contextlib.suppress(ProcessLookupError):
            running.process.send_signal(running.service.stop_signal)

    # Stopping

    def stop(self) -> None:
        """End every process: the higher tiers first, in good order, killing what takes too long."""
        self._stopping = True
        self._stop_requests = 0
        for tier in sorted({running.service.tier for running in self._running}, reverse=True):
            members = [running for running in self._running if running.service.tier == tier]
            for running in members:
                if running.process is not None:
                    self._ask_to_stop(running)
            while any(running.process is not None for running in members):
                for running in members:
                    late = running.stop_deadline is not None and time.monotonic() >= running.stop_deadline
                    if running.process is not None and (late or self._stop_requests):
                        _kill_session(running.process)
                self._turn(0.05)
        self._pid_file.unlink(missing_ok=True)

    # Leftovers of a killed supervisor

    def _write_pid_file(self) -> None:
        entries = [
            {"pid": running.process.pid, "began": process_began(running.process.pid), "name": running.service.name}
            for running in self._running
            if running.process is not None
        ]
        building = self._pid_file.with_suffix(".new")
        building.write_text(json.dumps(entries), encoding="utf-8")
        building.replace(self._pid_file)

    def end_leftovers(self) -> None:
        """End the processes that an earlier supervisor left behind, if any still live.

        On Linux they are ending by themselves already; this waits for them.
        """
        try:
            entries = json.loads(self._pid_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        alive = [entry for entry in entries if entry["began"] and process_began(entry["pid"]) == entry["began"]]
        if alive:
            self.log.line("aum", f"ending what an earlier run left: {', '.join(entry['name'] for entry in alive)}")
        for signum in (None, signal.SIGINT, signal.SIGKILL):
            for entry in alive:
                if signum is not None:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(entry["pid"], signum)
            deadline = time.monotonic() + (1.0 if signum is None else _LEFTOVER_SECONDS)
            while alive and time.monotonic() < deadline:
                alive = [entry for entry in alive if process_began(entry["pid"]) == entry["began"]]
                time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)


def _on_child(_signum: int, _frame: FrameType | None) -> None:
    """Only so that the signal writes to the wake-up socket."""


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def process_began(pid: int) -> str | None:
    """A text that tells this process from a later one with the same number; None when there is none."""
    if _ON_LINUX:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, check=False, text=True)
    return found.stdout.strip() or None
