"""The supervisor leaves nothing behind, restarts what dies, and follows what is wanted."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.conftest import ROOT, is_alive, wait_for

_NAMES = ("database", "plain", "stubborn", "parent", "grandchild", "crasher")


class Run:
    """A supervisor over the fake services of fake_server.py."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        with self.output.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.runtime.fake_server", str(folder)],
                cwd=ROOT,
                stdout=stream,
                stderr=stream,
            )
        assert wait_for(lambda: all(self.pids(name) for name in _NAMES)), self.output.read_text()

    def pids(self, name: str) -> list[int]:
        """Every process id that service `name` has had, oldest first."""
        path = self.folder / name
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def all_pids(self) -> list[int]:
        return [pid for name in (*_NAMES, "wanted") for pid in self.pids(name)]

    def survivors(self) -> list[int]:
        return [pid for pid in self.all_pids() if is_alive(pid)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    if run.process.poll() is None:
        run.process.kill()
    run.process.wait()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_no_process_is_left_when_a_signal_asks_to_stop(run: Run, signum: int) -> None:
    run.process.send_signal(signum)

    assert run.process.wait(10) == 0
    assert run.survivors() == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the next start ends the leftovers")
def test_no_process_is_left_when_the_supervisor_is_killed(run: Run) -> None:
    run.process.kill()
    run.process.wait()

    assert wait_for(lambda: run.survivors() == [], seconds=5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the child's watcher needs a second")
def test_a_grandchild_ends_when_its_parent_is_killed(run: Run) -> None:
    grandchild = run.pids("grandchild")[0]

    os.kill(run.pids("parent")[0], signal.SIGKILL)

    assert wait_for(lambda: not is_alive(grandchild), seconds=5)


def test_a_process_starts_again_when_it_died(run: Run) -> None:
    os.kill(run.pids("database")[0], signal.SIGKILL)

    assert wait_for(lambda: len(run.pids("database")) == 2)
    assert is_alive(run.pids("plain")[0])
    assert "database was ended by SIGKILL" in run.output.read_text()


def test_restarts_wait_longer_each_time_when_a_process_keeps_crashing(run: Run) -> None:
    assert wait_for(lambda: "crasher starts again in 2 s" in run.output.read_text())

    assert "crasher ended with code 3" in run.output.read_text()
    assert len(run.pids("crasher")) == 3


def test_a_service_runs_only_while_it_is_wanted(run: Run) -> None:
    assert run.pids("wanted") == []

    (run.folder / "wish").touch()
    assert wait_for(lambda: len(run.pids("wanted")) == 1)
    (run.folder / "wish").unlink()

    assert wait_for(lambda: not is_alive(run.pids("wanted")[0]))


def test_the_next_start_ends_what_a_killed_run_left(tmp_path: Path) -> None:
    # A shell that runs this in the background has SIGINT ignored, which would be handed down.
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); print('up', flush=True); time.sleep(600)"
    leftover = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
    assert leftover.stdout is not None
    assert leftover.stdout.readline() == b"up\n"
    from aum.runtime.supervisor import process_began

    entry = f'[{{"pid": {leftover.pid}, "began": "{process_began(leftover.pid)}", "name": "leftover"}}]'
    (tmp_path / "processes.json").write_text(entry)

    run = Run(tmp_path)

    assert leftover.wait(5) == -signal.SIGINT
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(10) == 0


def test_a_foreign_process_with_a_recorded_number_is_left_alone(tmp_path: Path) -> None:
    foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    (tmp_path / "processes.json").write_text(f'[{{"pid": {foreign.pid}, "began": "1", "name": "web"}}]')

    run = Run(tmp_path)

    assert foreign.poll() is None
    foreign.kill()
    foreign.wait()
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(10) == 0


def test_lines_carry_the_name_of_their_process_without_colour_when_not_on_a_terminal(run: Run) -> None:
    assert wait_for(lambda: "plain     | up" in run.output.read_text())

    assert "\x1b" not in run.output.read_text()
