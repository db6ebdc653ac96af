"""The steps of `script/test`: each has a header and its time; all run, and one line a step closes the whole."""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTEST_CLOSING = re.compile(r"(passed|failed|skipped|error|errors|deselected|no tests ran).* in [\d.]+s")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Result:
    name: str
    outcome: str
    seconds: float
    last_line: str = ""

    @property
    def failed(self) -> bool:
        return self.outcome.startswith("FAILED")


def main(arguments: list[str]) -> int:
    options, pytest_arguments = parse(arguments)
    sys.path.insert(0, str(ROOT))
    from tests.runtime_servers import postgres, valkey

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        # Beside the start of the servers and the migration, which leave a core free; told when all of them are done.
        beside = stack.enter_context(ThreadPoolExecutor(1))
        told: list[str] = []
        static = beside.submit(lambda: [run(name, command, say=told.append) for name, command in static_steps()])
        environ = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "aum.settings_test",
            "DATABASE_URL": stack.enter_context(postgres()),
            "REDIS_URL": stack.enter_context(valkey()),
        }
        environ["AUM_TEST_TEMPLATE"] = environ["DATABASE_URL"].rpartition("/")[2]
        if options.full:
            environ.setdefault("AUM_EXAMPLES", "2000")  # tests/examples.py
        prepared = [run(name, command, environ) for name, command in preparing_steps()]
        results = static.result() + prepared
        say_at_once("".join(told))
        results += [run(name, command, environ) for name, command in testing_steps(options, pytest_arguments)]
        if not options.fast:
            results.extend(run_browser_tests(options, pytest_arguments, environ))
    print_summary(results, time.monotonic() - began)
    return int(any(result.failed for result in results))


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    pytest_arguments: list[str] = []
    if "--" in arguments:
        split = arguments.index("--")
        arguments, pytest_arguments = arguments[:split], arguments[split + 1 :]
    parser = argparse.ArgumentParser(prog="script/test", usage="script/test [--fast | --full] [-- pytest arguments]")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--fast", action="store_true", help="leave the browser tests out")
    size.add_argument("--full", action="store_true", help="run the tests marked slow as well")
    return parser.parse_args(arguments), pytest_arguments


def static_steps() -> Iterator[tuple[str, list[str]]]:
    """The checks that need no server."""
    yield "ruff check", [str(BIN / "ruff"), "check", "."]
    yield "ruff format", [str(BIN / "ruff"), "format", "--check", "--quiet", "."]
    yield "mypy", [str(BIN / "mypy")]
    yield "import-linter", [str(BIN / "lint-imports")]
    if any((ROOT / "templates").rglob("*.html")):
        yield "djlint", [str(BIN / "djlint"), "templates", "--lint", "--quiet"]


def preparing_steps() -> Iterator[tuple[str, list[str]]]:
    """The checks of the application before its tests."""
    manage = [sys.executable, "manage.py"]
    yield "migrations", [*manage, "makemigrations", "--check", "--dry-run"]
    # Once; the databases of all test processes are copies of it.
    yield "migrate", [*manage, "migrate", "--verbosity", "0"]
    yield "django check", [*manage, "check", "--fail-level", "WARNING"]


def testing_steps(options: argparse.Namespace, pytest_arguments: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The tests without a browser."""
    marks = "not browser" if options.full else "not browser and not slow"
    # More than cores: many tests wait for processes that they started, above all those that come last.
    processes = str(min(4, (os.cpu_count() or 1) + 2))
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", marks, "--durations=15"]
    # By file: some modules are a story that is told in order. Groups of xdist do nothing under pytest 9.2.
    by_file = ["-n", processes, "--dist", "loadfile", "--no-loadscope-reorder"]
    yield "pytest", [*pytest, *by_file, "--ignore=tests/product", *pytest_arguments]
    if not pytest_arguments:
        # The running product wants both cores for itself.
        yield "product tests", [*pytest, "tests/product"]


def say_at_once(text: str) -> None:
    print(text, end="", flush=True)


def run(
    name: str, command: list[str], environ: dict[str, str] | None = None, say: Callable[[str], None] = say_at_once
) -> Result:
    say(f"\n=== {name} ".ljust(100, "=") + "\n")
    began = time.monotonic()
    line = ""
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            say(line)
    seconds = time.monotonic() - began
    outcome = "ok" if process.returncode == 0 else f"FAILED (exit code {process.returncode})"
    say(f"--- {name}: {outcome}, {seconds:.1f} s\n")
    return Result(name, outcome, seconds, line.strip("= \n"))


def run_browser_tests(
    options: argparse.Namespace, pytest_arguments: list[str], environ: dict[str, str]
) -> list[Result]:
    """The browser tests. Without a browser: skipped with a visible line, and in CI a failure."""
    began = time.monotonic()
    browser = find_or_install_chromium()
    if browser is None:
        outcome = "FAILED (no chromium)" if os.environ.get("CI") else "SKIPPED: chromium is not installed"
        print(f"\n=== browser tests: {outcome}. On Debian and Ubuntu: apt-get install chromium", flush=True)
        return [Result("browser tests", outcome, time.monotonic() - began)]
    marks = "browser" if options.full else "browser and not slow"
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", marks, "--durations=5"]
    environ = {**environ, "AUM_CHROMIUM": browser}
    if pytest_arguments:
        return [run("browser tests", [*pytest, *pytest_arguments], environ)]
    # The journey drives a browser of its own, which another one in the same process would not allow.
    return [
        run("browser tests", [*pytest, "-n", "2", "--dist", "loadfile", "tests/browser"], environ),
        run("journey", [*pytest, "tests/product"], environ),
    ]


def find_or_install_chromium() -> str | None:
    """The path of a chromium; installed by apt when there is none and we are root."""
    found = find_chromium()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("\nInstalling chromium by apt-get for the browser tests ...", flush=True)
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *arguments], env=environ, check=False, stdout=subprocess.DEVNULL)
        found = find_chromium()
    return found


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def print_summary(results: list[Result], seconds: float) -> None:
    print("\n" + "=" * 100)
    for result in results:
        closing = f"   {result.last_line}" if PYTEST_CLOSING.search(result.last_line) else ""
        print(f"{result.name:<16} {result.seconds:7.1f} s  {result.outcome}{closing}")
    failed = [result.name for result in results if result.failed]
    verdict = f"FAILED: {', '.join(failed)}" if failed else "all passed"
    print(f"script/test: {verdict} in {seconds / 60:.1f} min", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
