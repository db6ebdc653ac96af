"""`script/aum …`: `manage.py aum …` in the environment of this installation, whether the server runs or not.

While `script/server` runs, its servers are used. Otherwise embedded ones are started for the length of the command.
`backup` and `restore FILE` are handled here, because they come before or beside the application.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from aum.runtime import backup, pdeath
from aum.runtime.embedded import EmbeddedServerError
from aum.runtime.environment import (
    ROOT,
    AlreadyRunningError,
    DataDirLock,
    InstallationError,
    Layout,
    read_shared_environment,
)
from aum.runtime.installation import Installation, open_installation

_WAIT_SECONDS = 120.0


def main(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    # Ctrl-C reaches the command as well; this process stays to stop the servers after it. A handler, and not SIG_IGN,
    # because the command would inherit that.
    signal.signal(signal.SIGINT, _stay)
    signal.signal(signal.SIGTERM, _exit_on_term)
    layout = Layout.from_environ(os.environ)
    try:
        layout.create()
        return _run(layout, arguments)
    except (InstallationError, EmbeddedServerError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(layout: Layout, arguments: list[str]) -> int:
    lock = DataDirLock(layout, command="script/aum")
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            lock.acquire()
        except AlreadyRunningError as error:
            # Another script/aum ends soon; a server that is starting shares its variables soon.
            shared = read_shared_environment(layout) if error.holder.get("command") == "script/server" else {}
            if shared:
                return _run_beside_server(layout, {**os.environ, **shared}, arguments)
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            break
    try:
        return _run_alone(open_installation(layout, os.environ), arguments)
    finally:
        lock.release()


def _run_beside_server(layout: Layout, environ: dict[str, str], arguments: list[str]) -> int:
    if arguments[:1] == ["backup"]:
        print(backup.dump(layout, environ["DATABASE_URL"]))
        return 0
    if arguments[:1] == ["restore"]:
        raise InstallationError("Stop script/server first: a dump is loaded into a new, empty data folder.")
    return _call(_manage("aum", *arguments), environ)


def _run_alone(installation: Installation, arguments: list[str]) -> int:
    servers = [server for server in (installation.postgres, installation.valkey) if server is not None]
    try:
        for server in servers:
            server.start()
        return _run_command(installation, arguments)
    finally:
        for server in reversed(servers):
            server.stop()


def _run_command(installation: Installation, arguments: list[str]) -> int:
    if arguments[:1] == ["backup"]:
        print(backup.dump(installation.layout, installation.database_url))
        return 0
    if arguments[:1] == ["restore"]:
        return _restore(installation, arguments[1:])
    code = _call(_manage("migrate", "--noinput", "--verbosity", "0"), installation.environ)
    return code or _call(_manage("aum", *arguments), installation.environ)


def _restore(installation: Installation, arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        raise InstallationError("Usage: script/aum restore FILE, where FILE is a dump from var/backups.")
    backup.restore(installation.layout, installation.database_url, Path(arguments[0]))
    print("Restored. Start with script/server; AUM holds everything until an owner confirms that this copy may act.")
    return 0


def _call(command: list[str], environ: dict[str, str]) -> int:
    process = subprocess.Popen(command, env=environ, preexec_fn=pdeath.child_setup(signum=signal.SIGTERM))
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return code if code >= 0 else 128 - code


def _stay(_signum: int, _frame: object) -> None:
    return None


def _exit_on_term(signum: int, _frame: object) -> None:
    raise SystemExit(128 + signum)


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "manage.py"), *arguments]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
