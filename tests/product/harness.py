"""The running product as its user has it: every process, over a data folder of its own, driven from outside.

    with Product() as product:
        product.url, product.first_link, product.query("SELECT …"), product.kill("runner", "child")

Nothing here imports Django: what needs its models runs in a process of its own (`arrange`), in the environment that
`script/server` shares with commands. Linux only, because processes are found in /proc.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import psycopg
import requests

from apps.sandbox.server import Control
from aum.runtime.embedded import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300.0
SERVICES = ("postgres", "valkey", "web", "worker", "runner", "beat", "sandbox")
Which = Literal["main", "child"]

# Short times for what heals itself, so that a test sees within seconds what takes minutes in a real installation.
FAST = {
    "AUM_READ_BACK_DELAY_SECONDS": "1",
    "AUM_ITEM_LEASE_SECONDS": "5",
    "AUM_DRIVER_SECONDS": "4",
    "AUM_SWEEP_SECONDS": "3",
    "AUM_LEASE_SECONDS": "5",
    "AUM_STABLE_SECONDS": "1",
}


def wait_for(condition: Callable[[], Any], *, seconds: float, what: str, every: float = 0.1) -> Any:
    """The first true value of `condition`; AssertionError naming `what` when there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(every)


def processes() -> dict[int, tuple[int, str]]:
    """Every living process: number → (parent, command line). Zombies are left out."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if fields[0] != "Z":
            found[int(folder.name)] = (int(fields[1]), command)
    return found


def environment(data_dir: Path, **variables: str) -> dict[str, str]:
    """An environment with nothing of the caller's but PATH, so that no server of the test run is used by accident."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(data_dir.parent),
        "PYTHONPATH": str(ROOT),
        "AUM_DATA_DIR": str(data_dir),
        **variables,
    }


class SandboxProcess:
    """A pretend Atlassian of its own size, outside the product: `python -m apps.sandbox`. Use as a context manager."""

    def __init__(self, *, people: int, seed: int = 7, faults: Sequence[dict[str, Any]] = ()) -> None:
        command = [sys.executable, "-m", "apps.sandbox", "--port", "0", "--people", str(people), "--seed", str(seed)]
        for fault in faults:
            command += ["--fault", json.dumps(fault)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"the sandbox says: {line!r}"
        self.url = found[0]
        self.control = Control(self.url)

    def __enter__(self) -> SandboxProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Assistant:
    """A process with Django beside the product, started once, which does what tests arrange."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.product.arrange"],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str, **values: Any) -> Any:
        """The answer of one function; AssertionError with what it raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, values]) + "\n")
        self._process.stdin.flush()
        # Settings and libraries may print; an answer is one line of JSON with one of two names.
        for line in self._process.stdout:
            if line.startswith('{"error"'):
                raise AssertionError(json.loads(line)["error"])
            if line.startswith('{"answer"'):
                return json.loads(line)["answer"]
        raise AssertionError(f"the assistant ended with {self._process.wait(10)}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Reads:
    """Queries over one connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a read."""
        return self._connection.execute(statement.encode(), values).fetchall()


def migrated() -> Path:
    """A data folder with a database that is up to date and empty, made once for each state of the migrations.

    A product that starts over a copy of it saves most of its first start.
    """
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted((*ROOT.glob("apps/*/migrations/*.py"), *ROOT.glob("aum/runtime/*.py"))):
        digest.update(path.name.encode() + path.read_bytes())
    # Root's PostgreSQL is nobody and has to pass through.
    folder = Path(tempfile.gettempdir()) / f"aum-migrated-{os.getuid()}-{digest.hexdigest()[:16]}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "var").is_dir():
            folder.mkdir(mode=0o755, exist_ok=True)
            with Product(folder / "building"):
                pass
            (folder / "building").rename(folder / "var")
    return folder / "var"


class Product:
    """One `script/server` with `variables`, over FAST if `is_quick`, in `data_dir`, else in a copy of `migrated`.

    Entering starts it and waits until it answers. Leaving stops it and asserts that none of its processes is left.
    """

    def __init__(self, data_dir: Path | None = None, *, is_quick: bool = True, **variables: str) -> None:
        self._folder: Path | None = None
        self._is_copy = data_dir is None
        if data_dir is None:
            self._folder = Path(tempfile.mkdtemp(prefix="aum-product-"))
            # Root's PostgreSQL is nobody and has to pass through.
            self._folder.chmod(0o755)
            data_dir = self._folder / "var"
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self._environ = environment(data_dir, PORT=str(self.port), **((FAST if is_quick else {}) | variables))
        self._log_path = data_dir.with_suffix(f".{self.port}.log")
        self.process: subprocess.Popen[bytes] | None = None
        self._assistant: Assistant | None = None

    # Start and stop

    def start(self) -> Product:
        """Start and wait until the page answers; AssertionError with the log when it does not."""
        if self._is_copy and not self.data_dir.exists():
            self.data_dir.mkdir(mode=0o711)
            for name in ("postgres", "secrets"):
                # Keeps the owner, which may be nobody; copytree does not.
                subprocess.run(["cp", "-a", migrated() / name, self.data_dir / name], check=True)
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "aum.runtime.server"],
                cwd=ROOT,
                env=self._environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process = self.process
        wait_for(
            lambda: "AUM runs at" in self.log() or process.poll() is not None, seconds=START_SECONDS, what="the start"
        )
        assert "AUM runs at" in self.log(), self.log()
        return self

    def stop(self, signum: int = signal.SIGINT) -> None:
        """Send `signum` to the parent and assert that it ends, in good order unless killed, and leaves no process."""
        assert self.process is not None
        self._dismiss_assistant()
        if self.process.poll() is None:
            self.process.send_signal(signum)
        code = self.process.wait(40)
        assert signum == signal.SIGKILL or code == 0, self.log()[-4000:]
        wait_for(lambda: not self.all_processes(), seconds=10, what=f"no process left of {self.data_dir}")

    def __enter__(self) -> Product:
        try:
            return self.start()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            print(f"--- log of the product\n{self.log()[-12000:]}")
            self._end()
            return
        try:
            self.stop()
        finally:
            self._end()

    def _end(self) -> None:
        """Whatever happened: nothing of this product lives on."""
        self._dismiss_assistant()
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
        for pid in self.all_processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    # What it says

    def log(self) -> str:
        """What this start wrote."""
        return self._log_path.read_text(encoding="utf-8", errors="replace") if self._log_path.exists() else ""

    @property
    def first_link(self) -> str:
        """The one-time address for the first owner, as the start printed it."""
        found = re.search(r"http://\S+/setup/\S+", self.log())
        assert found, self.log()
        return found[0]

    def shared(self) -> dict[str, str]:
        """The variables that the server shares with commands beside it."""
        variables: dict[str, str] = json.loads((self.data_dir / "run" / "env.json").read_text(encoding="utf-8"))
        return variables

    @property
    def sandbox(self) -> Control:
        """The control address of the demo's sandbox."""
        return Control(self.shared()["AUM_DEMO_API_URL"])

    def status(self, path: str) -> int:
        """The HTTP status of a page without signing in; redirects are not followed."""
        return requests.get(f"{self.url}{path}", allow_redirects=False, timeout=20).status_code

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a read of its database."""
        with psycopg.connect(self.shared()["DATABASE_URL"], connect_timeout=5, autocommit=True) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    @contextmanager
    def reading(self) -> Iterator[Reads]:
        """Reads of one moment over one connection."""
        with psycopg.connect(self.shared()["DATABASE_URL"], connect_timeout=5, autocommit=True) as connection:
            yield Reads(connection)

    def set(self, name: str, value: str) -> None:
        """Give its processes one more variable, before the start."""
        self._environ[name] = value

    def change(self, statement: str, *values: Any) -> int:
        """Change its database behind its back, as days that pass do; the number of rows."""
        with psycopg.connect(self.shared()["DATABASE_URL"], connect_timeout=5, autocommit=True) as connection:
            return connection.execute(statement.encode(), values).rowcount

    def try_query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The same, and no rows while the database is down."""
        try:
            return self.query(statement, *values)
        except psycopg.OperationalError:
            return []

    def arrange(self, what: str, **values: Any) -> Any:
        """Call a function of `tests.product.arrange` beside the running product; its JSON answer."""
        if self._assistant is None:
            self._assistant = Assistant(self._environ | self.shared())
        return self._assistant.ask(what, **values)

    def begin(self, what: str, **values: Any) -> subprocess.Popen[str]:
        """The same without waiting for its end, so that it can be killed on the way."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.product.arrange", what, json.dumps(values)],
            cwd=ROOT,
            env=self._environ | self.shared(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def locked(self, statement: str, *values: Any) -> Iterator[Callable[[], bool]]:
        """Hold the rows that `statement` (SELECT … FOR UPDATE) names; gives a test whether somebody waits for them."""
        with psycopg.connect(self.shared()["DATABASE_URL"], connect_timeout=5) as connection:
            connection.execute(statement.encode(), values)
            pid = connection.info.backend_pid

            def is_waited_for() -> bool:
                blocked = "SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
                return bool(self.query(blocked, pid))

            yield is_waited_for
            connection.rollback()

    def _dismiss_assistant(self) -> None:
        if self._assistant is not None:
            self._assistant.close()
            self._assistant = None

    # Its processes

    def all_processes(self) -> dict[int, str]:
        """Every living process of this data folder: by environment, or (PostgreSQL hides its own) by working folder."""
        marker = f"AUM_DATA_DIR={self.data_dir}".encode()
        found = {}
        for pid, (_parent, command) in processes().items():
            folder = Path(f"/proc/{pid}")
            try:
                is_ours = marker in (folder / "environ").read_bytes().split(b"\0")
                is_ours = is_ours or (folder / "cwd").readlink().is_relative_to(self.data_dir)
            except OSError:
                continue
            if is_ours and pid != os.getpid():
                found[pid] = command
        return found

    def pids(self, name: str, which: Which = "main") -> list[int]:
        """Processes of the service `name` of SERVICES: its main process, or that one's living children."""
        assert name in SERVICES, name
        entries = json.loads((self.data_dir / "run" / "processes.json").read_text(encoding="utf-8"))
        alive = processes()
        mains = [entry["pid"] for entry in entries if entry["name"] == name and entry["pid"] in alive]
        if which == "main":
            return mains
        return [pid for pid, (parent, _command) in alive.items() if parent in mains]

    def kill(self, name: str, which: Which = "main", *, when: Callable[[], Any] = lambda: True) -> int:
        """kill -9 the main process of a service, or the child that used most time, when `when` is true; its number."""
        pid = self._strike(name, which, when, signal.SIGKILL)
        wait_for(lambda: pid not in processes(), seconds=10, what=f"the end of {name} {pid}", every=0.01)
        return pid

    def freeze(self, name: str, which: Which = "child", *, when: Callable[[], Any] = lambda: True) -> int:
        """Stop a process where it stands, as a machine does that sleeps; `thaw` lets it go on."""
        return self._strike(name, which, when, signal.SIGSTOP)

    def thaw(self, pid: int) -> None:
        """Let a frozen process go on, if it is still there."""
        if pid in processes():
            os.kill(pid, signal.SIGCONT)

    def _strike(self, name: str, which: Which, when: Callable[[], Any], signum: int) -> int:
        pids = wait_for(lambda: self.pids(name, which), seconds=30, what=f"a {which} process of {name}")
        pid: int = max(pids, key=_ticks)
        wait_for(when, seconds=30, what=f"the moment to strike {name}", every=0.002)
        os.kill(pid, signum)
        return pid


def _ticks(pid: int) -> int:
    """Processor time that a process used, in clock ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return -1
    return int(fields[11]) + int(fields[12])
