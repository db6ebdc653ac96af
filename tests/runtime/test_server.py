"""`script/server` and `script/aum` as people run them, over a data folder of their own."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from aum.runtime.embedded import free_port
from tests.runtime.conftest import ROOT, wait_for

_START_SECONDS = 90.0
_READY = "AUM runs at"

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its processes in /proc"),
]


class Started:
    """One `script/server` over `data_dir`."""

    def __init__(self, data_dir: Path, **variables: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.environ = _environ(data_dir) | {"PORT": str(self.port)} | variables
        self.log_path = data_dir.with_suffix(f".{self.port}.log")
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                ["sh", "script/server"], cwd=ROOT, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait(self) -> "Started":
        assert wait_for(lambda: _READY in self.log() or self.process.poll() is not None, seconds=_START_SECONDS)
        assert _READY in self.log(), self.log()
        return self

    def aum(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_aum(self.data_dir, *arguments)

    def shared(self) -> dict[str, str]:
        variables: dict[str, str] = json.loads((self.data_dir / "run" / "env.json").read_text())
        return variables

    def answers(self, path: str) -> int:
        """The status of the answer; 0 where none came, as of a server whose databases come back."""
        try:
            return self.get(path)
        except OSError:
            return 0

    def get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        return connection.getresponse().status

    def processes(self) -> dict[int, str]:
        """The living processes of this installation: number and command line."""
        return processes_of(self.data_dir)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert wait_for(lambda: not self.processes())


def _environ(data_dir: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(data_dir.parent), "AUM_DATA_DIR": str(data_dir)}


def run_aum(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "script/aum", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=_environ(data_dir), capture_output=True, text=True, check=False, timeout=120
    )


def processes_of(data_dir: Path) -> dict[int, str]:
    """Every process of this data folder: by its environment, or (PostgreSQL's overwrite theirs) by where it works."""
    marker = f"AUM_DATA_DIR={data_dir}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            works_here = (folder / "cwd").readlink().is_relative_to(data_dir)
        except OSError:
            continue
        if (marker in variables or works_here) and command:
            found[int(folder.name)] = command
    return found


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aum-server-"))
    folder.chmod(0o755)
    yield folder / "var"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def first(data_dir: Path) -> Iterator[Started]:
    """The first start: everything is made."""
    started = Started(data_dir).wait()
    yield started
    started.end()


def test_the_first_start_answers_and_offers_the_first_owner_link(first: Started) -> None:
    assert first.get("/healthz") == 200
    link = re.search(rf"http://localhost:{first.port}(/\S+)", first.log().split("first owner")[1])
    assert link
    assert first.get(link[1]) in {200, 302}


def test_every_process_runs_and_the_sandbox_only_when_it_is_wanted(first: Started) -> None:
    commands = " ".join(first.processes().values())
    expected = ("/postgres ", "valkey-server", "gunicorn", "celery --quiet -A aum worker", "celery --quiet -A aum beat")
    assert [name for name in expected if name not in commands] == []
    assert "apps.sandbox" not in commands

    (first.data_dir / "run" / "demo-wanted").touch()

    assert wait_for(lambda: "apps.sandbox" in " ".join(first.processes().values()))
    (first.data_dir / "run" / "demo-wanted").unlink()
    assert wait_for(lambda: "apps.sandbox" not in " ".join(first.processes().values()))


def test_no_password_is_on_a_command_line(first: Started) -> None:
    passwords = [(first.data_dir / "secrets" / f"{name}_password").read_text() for name in ("postgres", "valkey")]

    assert not [command for command in first.processes().values() if any(word in command for word in passwords)]


def test_a_second_start_on_the_same_folder_is_told_where_the_first_one_is(first: Started) -> None:
    second = Started(first.data_dir)

    assert second.process.wait(30) == 1
    assert f"already running at http://localhost:{first.port}" in second.log()
    assert first.get("/healthz") == 200


def test_commands_use_the_running_server(first: Started) -> None:
    result = first.aum("backup")

    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).stat().st_size > 0


def test_the_web_server_answers_again_when_postgres_and_valkey_were_killed(first: Started) -> None:
    for name in ("postgres", "valkey-server"):
        pid = next(pid for pid, command in sorted(first.processes().items()) if f"/{name} " in command)
        os.kill(pid, signal.SIGKILL)

    assert wait_for(lambda: first.log().count("was ended by SIGKILL") == 2)
    assert wait_for(lambda: first.answers("/readyz") in {200, 401, 403} and first.answers("/login/") == 200, seconds=40)


@pytest.mark.parametrize("name", ["gunicorn", "worker -n worker@", "worker -n runner@"])
def test_children_end_with_their_killed_master_and_it_starts_again(first: Started, name: str) -> None:
    before = {pid for pid, command in first.processes().items() if name in command}

    os.kill(min(before), signal.SIGKILL)

    assert wait_for(lambda: not before & set(first.processes()))
    assert wait_for(lambda: any(name in command for command in first.processes().values()))


def test_commands_start_what_they_need_when_no_server_runs_and_find_its_data(first: Started) -> None:
    with psycopg.connect(first.shared()["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(30) == 0
    assert first.processes() == {}

    result = run_aum(first.data_dir, "backup")

    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).stat().st_size > 0
    assert processes_of(first.data_dir) == {}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_and_the_next_start_finds_its_data(first: Started, signum: int) -> None:
    first.end()
    again = Started(first.data_dir).wait()
    try:
        with psycopg.connect(again.shared()["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (1,)

        again.process.send_signal(signum)
        again.process.wait(30)

        assert wait_for(lambda: not again.processes(), seconds=10), again.processes()
    finally:
        again.end()
