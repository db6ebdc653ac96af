"""Which test runs which lines: gathered once, kept by test, gathered again where a test or a module changed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Traced:
    """One test: how long it took, whether it passed, and the lines that it ran, by file."""

    nodeid: str
    seconds: float
    passed: bool
    lines: dict[str, frozenset[int]]
    # Contents of the test's file and of all files in `lines` when it was traced.
    print: str


def fingerprint(files: Iterable[str]) -> str:
    """Changes when one of these files (relative to the root) changes or is gone."""
    whole = hashlib.sha256()
    for name in sorted(files):
        path = ROOT / name
        whole.update(name.encode() + (path.read_bytes() if path.is_file() else b"gone"))
    return whole.hexdigest()[:16]


class Map:
    """The traced tests, as lines of a file that is only appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tests: dict[str, Traced] = {}
        prints: dict[tuple[str, ...], str] = {}
        for row in rows(path):
            lines = {name: frozenset(numbers) for name, numbers in row["lines"].items()}
            files = (row["nodeid"].partition("::")[0], *sorted(lines))
            if files not in prints:
                prints[files] = fingerprint(files)
            if prints[files] == row["print"]:
                self.tests[row["nodeid"]] = Traced(row["nodeid"], row["seconds"], row["passed"], lines, row["print"])
            else:
                self.tests.pop(row["nodeid"], None)

    def add(self, nodeid: str, seconds: float, passed: bool, lines: dict[str, set[int]]) -> None:
        kept = {name: frozenset(numbers) for name, numbers in lines.items()}
        traced = Traced(nodeid, seconds, passed, kept, fingerprint((nodeid.partition("::")[0], *kept)))
        self.tests[nodeid] = traced
        append(self.path, {**traced.__dict__, "lines": {name: sorted(numbers) for name, numbers in kept.items()}})


class Tracer:
    """A pytest plugin that traces the lines of some files in all threads, and adds each test to the map."""

    def __init__(self, known: Map, files: Iterable[str]) -> None:
        self.known = known
        self.names = {str(ROOT / name): name for name in files}
        self.lines: dict[str, set[int]] = {}
        self.passed = True

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        todo = [item for item in items if item.nodeid not in self.known.tests]
        print(f"{len(items) - len(todo)} tests are known, {len(todo)} are to be traced", flush=True)
        items[:] = todo

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.lines, self.passed = {}, True
        began = time.monotonic()
        threading.settrace(self._call)
        sys.settrace(self._call)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            self.known.add(item.nodeid, round(time.monotonic() - began, 3), self.passed, self.lines)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed = self.passed and not report.failed

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = self.names.get(frame.f_code.co_filename)
        if name is None:
            return None
        numbers = self.lines.setdefault(name, set())

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            numbers.add(frame.f_lineno)
            return line

        numbers.add(frame.f_lineno)
        return line


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a last line that was cut off is left out."""
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def append(path: Path, row: dict[str, Any]) -> None:
    """Add one line, in one write: two processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    try:
        os.write(file, f"{json.dumps(row)}\n".encode())
    finally:
        os.close(file)
