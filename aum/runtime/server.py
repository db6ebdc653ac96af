"""`script/server`: the whole product as one command.

Embedded PostgreSQL and Valkey (unless DATABASE_URL and REDIS_URL are given), migrations, web, worker, beat, and the
sandbox while a demo organisation exists. README.md and docs/deploy.md describe it for people.
"""

import json
import os
import signal
import socket
import sys
import time
from datetime import datetime

import psycopg

from aum.runtime import backup
from aum.runtime.embedded import EmbeddedPostgres, EmbeddedServerError, EmbeddedValkey, free_port, port_is_free
from aum.runtime.environment import (
    ROOT,
    DataDirLock,
    InstallationError,
    Layout,
    holder_of,
    write_private,
)
from aum.runtime.installation import Installation, open_installation, set_aside
from aum.runtime.supervisor import Log, Service, ServiceFailedError, StopRequestedError, Supervisor

_DEFAULT_PORT = 8000
_WISH_SECONDS = 300.0
_BACKUP_CHECK_SECONDS = 300.0
_START_SECONDS = 120.0


class Server:
    """One run of `script/server` over one data folder."""

    def __init__(self, layout: Layout, log: Log) -> None:
        self._layout = layout
        self._log = log
        self._lock = DataDirLock(layout, command="script/server")
        self._supervisor = Supervisor(pid_file=layout.run_dir / "processes.json", log=log, cwd=ROOT)
        self._began = time.monotonic()
        self._demo_watch: DemoWatch | None = None

    def run(self) -> int:
        """Run until a signal asks to stop; returns the exit code. Raises AlreadyRunningError for a taken folder."""
        # script/aum may hold the folder for the length of a command.
        is_command = holder_of(self._layout).get("command") == "script/aum"
        self._lock.acquire(wait_seconds=60.0 if is_command else 0.0)
        # A killed run leaves its word of servers that are gone.
        self._layout.shared_environment_path.unlink(missing_ok=True)
        self._supervisor.install_signals()
        try:
            self._supervisor.end_leftovers()
            self._serve()
        except StopRequestedError:
            self._log.line("aum", "stopping")
        except (InstallationError, EmbeddedServerError, ServiceFailedError) as error:
            self._log.plain(f"\n{error}\n")
            return 1
        finally:
            self._layout.shared_environment_path.unlink(missing_ok=True)
            if self._demo_watch is not None:
                self._demo_watch.close()
            self._supervisor.stop()
            self._lock.release()
        return 0

    def _serve(self) -> None:
        self._web_port = _web_port(os.environ)
        self._address = os.environ.get("AUM_BASE_URL") or f"http://localhost:{self._web_port}"
        self._lock.describe(address=self._address)
        self._installation = open_installation(self._layout, os.environ)
        self._demo_port = self._choose_demo_port()
        self._variables = self._process_variables()
        self._start_servers()
        self._share_environment()
        self._migrate()
        self._supervisor.add(*self._services())
        link = self._first_owner_link()
        self._supervisor.wait_until(
            self._web_answers, what="The web server", timeout_seconds=_START_SECONDS, service="web"
        )
        self._announce(link)
        if self._installation.postgres is not None:
            self._supervisor.every(_BACKUP_CHECK_SECONDS, self._back_up_when_due)
        self._supervisor.run_forever()

    # The environment

    def _process_variables(self) -> dict[str, str]:
        variables = {
            **self._installation.variables,
            "PORT": str(self._web_port),
            "AUM_BASE_URL": self._address,
            "AUM_STOP_SECONDS": os.environ.get("AUM_STOP_SECONDS", "5"),
        }
        if self._demo_port is not None:
            variables["AUM_DEMO_API_URL"] = f"http://127.0.0.1:{self._demo_port}"
        return variables

    def _choose_demo_port(self) -> int | None:
        """The sandbox's port, kept over restarts because the demo organisation stores its address.

        None when AUM_DEMO_API_URL is set already: it then names somebody else's, or (empty) forbids the demo.
        """
        if "AUM_DEMO_API_URL" in os.environ:
            return None
        path = self._layout.run_dir / "demo-port"
        kept = path.read_text(encoding="ascii").strip() if path.exists() else ""
        if kept.isdigit():
            if port_is_free(int(kept)):
                return int(kept)
            self._log.line("aum", f"port {kept} of the demo organisation is taken; it gets another one")
        port = free_port()
        write_private(path, str(port))
        return port

    def _share_environment(self) -> None:
        write_private(self._layout.shared_environment_path, json.dumps(self._variables))

    # The servers and the database

    def _start_servers(self) -> None:
        postgres, valkey = self._installation.postgres, self._installation.valkey
        if postgres is not None:
            postgres.prepare()
            self._supervisor.add(_server_service("postgres", postgres))
        if valkey is not None:
            valkey.prepare()
            self._supervisor.add(_server_service("valkey", valkey))
            self._wait_for_valkey(valkey)
        if postgres is not None:
            self._supervisor.wait_until(
                postgres.is_ready, what="PostgreSQL", timeout_seconds=_START_SECONDS, service="postgres"
            )
            postgres.ensure_database()

    def _wait_for_valkey(self, valkey: EmbeddedValkey) -> None:
        """Wait for Valkey; a queue that it cannot read any more is set aside, because the truth is in PostgreSQL."""
        try:
            self._supervisor.wait_until(valkey.is_ready, what="Valkey", timeout_seconds=30, service="valkey")
        except ServiceFailedError:
            aside = set_aside(valkey.data_dir)
            self._log.line("aum", f"Valkey cannot read its files; they are now in {aside}, and it starts empty")
            valkey.prepare()
            self._supervisor.wait_until(valkey.is_ready, what="Valkey", timeout_seconds=60, service="")

    def _migrate(self) -> None:
        began = time.monotonic()
        code, _ = self._supervisor.run_once(
            Service("migrate", _manage("migrate", "--noinput", "--verbosity", "0"), self._variables)
        )
        if code != 0:
            raise ServiceFailedError('The database cannot be brought up to date. The lines of "migrate" above say why.')
        self._log.line("aum", f"database is up to date ({time.monotonic() - began:.1f} s)")

    # The processes

    def _services(self) -> list[Service]:
        python = sys.executable
        celery = [python, "-m", "celery", "--quiet", "-A", "aum"]
        worker_processes = os.environ.get("AUM_WORKER_PROCESSES", "2")
        services = [
            Service(
                "web",
                [python, "-m", "gunicorn", "-c", "python:aum.runtime.gunicorn_conf"],
                self._variables,
            ),
            # Short work never waits behind long work: sweeps, plans and mails have a worker of their own.
            *(
                Service(
                    name,
                    [
                        *(*celery, "worker", "-n", f"{name}@%h", "-Q", queues, "-c", processes),
                        *("--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
                    ],
                    # Root is said to be dangerous because of pickle, which we do not accept.
                    {**self._variables, "PYTHONWARNINGS": "ignore:You're running the worker with superuser"},
                )
                for name, queues, processes in (
                    ("worker", "default,mail", "1"),
                    ("runner", "operations,sync", worker_processes),
                )
            ),
            Service(
                "beat",
                [
                    *(*celery, "beat", "--scheduler", "apps.rules.scheduler:WatchfulScheduler"),
                    *("--loglevel", "WARNING", "--pidfile", ""),
                ],
                self._variables,
            ),
        ]
        if self._demo_port is not None:
            self._demo_watch = DemoWatch(self._installation, self._layout)
            command = [python, "-m", "apps.sandbox", "--port", str(self._demo_port)]
            services.append(
                Service(
                    "sandbox",
                    [*command, "--state-dir", str(self._layout.sandbox_dir)],
                    self._variables,
                    wanted=self._demo_watch.is_wanted,
                )
            )
        return services

    def _first_owner_link(self) -> str:
        """The path that makes the first owner; empty when there is one."""
        code, lines = self._supervisor.run_once(
            Service("first-link", _manage("first_link"), self._variables), capture=True
        )
        if code != 0:
            for line in lines:
                self._log.line("first-link", line)
            return ""
        return next((line.strip() for line in lines if line.strip().startswith(("/", "http"))), "")

    def _web_answers(self) -> bool:
        try:
            with socket.create_connection((_connect_host(os.environ), self._web_port), timeout=0.5):
                return True
        except OSError:
            return False

    def _announce(self, link: str) -> None:
        lines = [f"AUM runs at {self._address}   (started in {time.monotonic() - self._began:.1f} s)"]
        if link:
            first = link if link.startswith("http") else f"{self._address}{link}"
            lines += ["", "Nobody has an account yet. Open this link once to make the first owner:", f"    {first}"]
        lines += ["", "Stop it with Ctrl-C."]
        self._log.plain("\n" + "\n".join(f"  {line}".rstrip() for line in lines) + "\n")

    def _back_up_when_due(self) -> None:
        if backup.is_due(now=datetime.now(), newest_at=backup.newest_at(self._layout)):
            self._supervisor.start_once(
                Service("backup", [sys.executable, "-m", "aum.runtime.backup"], self._variables, stop_timeout_seconds=1)
            )


class DemoWatch:
    """Says whether the sandbox has somebody to serve: a demo organisation, or a web process about to make one."""

    def __init__(self, installation: Installation, layout: Layout) -> None:
        self._installation = installation
        self._wish_path = layout.demo_wish_path
        self._connection: psycopg.Connection | None = None
        self._exists = False

    def is_wanted(self) -> bool:
        """True while a demo organisation exists, and for five minutes after the wish file was written."""
        return self._is_wished() or self._organisation_exists()

    def _is_wished(self) -> bool:
        try:
            return time.time() - self._wish_path.stat().st_mtime < _WISH_SECONDS
        except OSError:
            return False

    def _organisation_exists(self) -> bool:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self._installation.database_url, autocommit=True, connect_timeout=2, application_name="aum-demo"
                )
            query = "SELECT EXISTS (SELECT 1 FROM organizations_organization WHERE is_demo)"
            row = self._connection.execute(query).fetchone()
            self._exists = bool(row and row[0])
        except psycopg.Error:
            # The database is restarting: what was true is still true.
            self.close()
        return self._exists

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _server_service(name: str, server: EmbeddedPostgres | EmbeddedValkey) -> Service:
    return Service(
        name,
        server.command(),
        tier=0,
        before_start=server.prepare,
        popen_options=server.popen_options,
        stop_signal=server.stop_signal,
        stop_timeout_seconds=20.0,
    )


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "manage.py"), *arguments]


def _web_port(environ: os._Environ[str]) -> int:
    """PORT, else 8000 or, when that is taken, any free one. Raises InstallationError when PORT cannot be used."""
    text = environ.get("PORT", "")
    if not text:
        return _DEFAULT_PORT if port_is_free(_DEFAULT_PORT) else free_port()
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise InstallationError(f"PORT={text} is not a port number (1 to 65535).")
    if not port_is_free(int(text)):
        raise InstallationError(f"Port {text} is taken. Give another PORT, or none to take a free one.")
    return int(text)


def _connect_host(environ: os._Environ[str]) -> str:
    bind = environ.get("AUM_BIND", "127.0.0.1")
    return "127.0.0.1" if bind == "0.0.0.0" else bind


def main() -> int:
    """Entry point of `script/server`."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    layout = Layout.from_environ(os.environ)
    try:
        layout.create()
        return Server(layout, Log(sys.stdout)).run()
    except InstallationError as error:
        print(f"\n{error}\n", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
