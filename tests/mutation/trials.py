"""Run one mutant after the other against the tests that can notice it, each in a process of its own."""

from __future__ import annotations

import gc
import math
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType, FunctionType

import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.mutants import Mutant
from tests.mutation.tracing import ROOT, Map, Traced, append

RESULTS = ROOT / "var" / "mutation" / "results.jsonl"
# What the last mutant's tests said; one for each process.
LOG = ROOT / "var" / "mutation" / f"last-{os.getpid()}.log"
# A test that takes so much longer than when it was traced does not end.
PATIENCE_FACTOR = 8
PATIENCE_SECONDS = 40.0
NO_LIMIT = 1e9
MIGRATIONS = "manage.py makemigrations --check"
Place = tuple[str, int]


class Unmoved(Exception):
    """The mutant cannot be put into the running process."""


@dataclass(frozen=True)
class Verdict:
    """How a handful of tests ended: `failed` names the one that noticed, `ran` counts them."""

    status: str
    failed: str = ""
    ran: int = 0


class Trials:
    """A pytest plugin: collects as usual, then runs mutants instead of the tests."""

    def __init__(
        self, known: Map, sources: dict[str, bytes], mutants: list[Mutant], limit: float, total_seconds: float
    ) -> None:
        self.tests = {nodeid: test for nodeid, test in known.tests.items() if test.passed}
        self.sources = sources
        self.mutants = mutants
        self.limit = limit
        self.until = time.monotonic() + total_seconds if total_seconds else NO_LIMIT
        self.items: dict[str, pytest.Item] = {}
        self.functions: dict[str, dict[Place, list[FunctionType]]] = {}
        self.kills: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.distrusted: set[str] = set()
        self.words = {
            name: set(re.findall(r"\w+", (ROOT / name).read_text()))
            for name in {nodeid.partition("::")[0] for nodeid in self.tests}
        }

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items if item.nodeid in self.tests}
        self._warm_up()
        self.functions = functions_of(self.sources)
        gc.freeze()  # a fork copies no page only because the collector looked at it
        for number, mutant in enumerate(self.mutants, 1):
            if time.monotonic() > self.until:
                break
            began = time.monotonic()
            candidates = [test for test in self._candidates(mutant) if test.nodeid in self.items]
            verdict = self._try(mutant, candidates)
            seconds = round(time.monotonic() - began, 1)
            if verdict.status == "killed":
                self.kills[mutant.path, mutant.scope].insert(0, verdict.failed)
            append(
                RESULTS,
                {
                    "key": mutant.key,
                    "digest": mutant.digest,
                    "mutant": str(mutant),
                    "scope": mutant.scope,
                    "status": verdict.status,
                    "test": verdict.failed,
                    "ran": verdict.ran,
                    "of": len(candidates),
                    "seconds": seconds,
                },
            )
            print(f"{number}/{len(self.mutants)} {verdict.status:<9} {seconds:5.1f} s  {mutant}", flush=True)
        return True

    def _warm_up(self) -> None:
        """Set the database up here, once; forks inherit that it is there.

        By a test with real commits: it empties the tables of what an interrupted run left behind.
        """
        known = sorted(self.items.values(), key=lambda item: self.tests[item.nodeid].seconds)
        committing = (item for item in known if "transactional_db" in getattr(item, "fixturenames", ()))
        self.cleaner = next(committing, known[0])
        folder = self.cleaner.nodeid.split("/")[1]
        self.elsewhere = next((item for item in known if item.nodeid.split("/")[1] != folder), known[-1])
        runtestprotocol(self.cleaner, log=False, nextitem=self.elsewhere)

        from django.db import connections

        connections.close_all()

    # -- which tests

    def _candidates(self, mutant: Mutant) -> list[Traced]:
        """The tests that run the mutant's lines, or the lines that use its names, in the order of promise."""
        if mutant.at_call or mutant.operator == "decorator":
            wanted = {(mutant.path, number) for number in range(mutant.line, mutant.last_line + 1)}
            found = self._running(wanted)
            if mutant.at_call:
                return self._ordered(mutant, [found])
            return self._ordered(mutant, [found, self._touching(mutant)])
        tiers = [self._running(self._uses(name)) for name in mutant.names]
        tiers.append(self._touching(mutant))
        if not any(tiers):
            tiers.append(list(self.tests.values()))
        return self._ordered(mutant, tiers)

    def _running(self, places: set[Place]) -> list[Traced]:
        by_file: dict[str, set[int]] = defaultdict(set)
        for name, number in places:
            by_file[name].add(number)
        return [
            test
            for test in self.tests.values()
            if any(not numbers.isdisjoint(test.lines.get(name, ())) for name, numbers in by_file.items())
        ]

    def _touching(self, mutant: Mutant) -> list[Traced]:
        return [test for test in self.tests.values() if test.lines.get(mutant.path)]

    def _uses(self, word: str) -> set[Place]:
        pattern = re.compile(rf"\b{re.escape(word)}\b")
        return {
            (name, number)
            for name, source in self.sources.items()
            for number, line in enumerate(source.decode().splitlines(), 1)
            if pattern.search(line)
        }

    def _ordered(self, mutant: Mutant, tiers: Iterable[list[Traced]]) -> list[Traced]:
        """Those that noticed others here first; then quick ones that run little else; each once, tier by tier."""
        killers = self.kills[mutant.path, mutant.scope]
        names = {*mutant.scope.split("."), *mutant.names}

        def promise(test: Traced) -> tuple[bool, float]:
            breadth = sum(map(len, test.lines.values()))
            mentioned = bool(names & self.words[test.nodeid.partition("::")[0]])
            return test.nodeid not in killers, (test.seconds + 0.2) * math.log(breadth + 3) / (1 + mentioned)

        ordered: dict[str, Traced] = {}
        for tier in tiers:
            for test in sorted(tier, key=promise):
                ordered.setdefault(test.nodeid, test)
        return [test for test in ordered.values() if test.nodeid not in self.distrusted]

    def _within_limit(self, candidates: list[Traced]) -> list[Traced]:
        chosen, seconds = [], 0.0
        for test in candidates:
            if chosen and seconds + test.seconds > self.limit:
                continue
            chosen.append(test)
            seconds += test.seconds
        return chosen

    # -- one mutant

    def _try(self, mutant: Mutant, candidates: list[Traced]) -> Verdict:
        """Killed only by a test that passes without the mutant."""
        if mutant.path.endswith("models.py") and not mutant.at_call and self._in_fresh_process(mutant, None):
            return Verdict("killed", MIGRATIONS, 1)
        chosen = self._within_limit(candidates)
        if not chosen:
            return Verdict("untested")
        while True:
            chosen = [test for test in chosen if test.nodeid not in self.distrusted]
            if not chosen:
                return Verdict("untested")
            verdict = self._run(mutant, chosen)
            if verdict.status == "survived" or not verdict.failed:
                return verdict
            alone = [self.tests[verdict.failed]]
            if self._in_fork(None, alone).status == "survived":
                return verdict
            self.distrusted.add(verdict.failed)
            print(f"  set aside, it fails without a mutant: {verdict.failed}", flush=True)

    def _run(self, mutant: Mutant, chosen: list[Traced]) -> Verdict:
        if mutant.at_call:
            with suppress(Unmoved):
                return self._in_fork(mutant, chosen)
        failed = self._in_fresh_process(mutant, chosen)
        if failed is None:
            return Verdict("survived", ran=len(chosen))
        names = [test.nodeid for test in chosen]
        return Verdict("killed", failed, names.index(failed) + 1 if failed in names else 1)

    def _in_fork(self, mutant: Mutant | None, chosen: list[Traced], clean: bool = True) -> Verdict:
        swaps = self._swaps(mutant) if mutant else []
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.setpgid(0, 0)
            self._run_here(swaps, chosen, writing)
        os.close(writing)
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, child)
        verdict = self._watch(reading, chosen)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        if clean and verdict.status in ("timeout", "died"):
            self._clean()
        return verdict

    def _swaps(self, mutant: Mutant) -> list[tuple[FunctionType, CodeType]]:
        """The functions of the module that differ, with their new code."""
        source = self.sources[mutant.path]
        filename = str(ROOT / mutant.path)
        old = codes_of(compile(source, filename, "exec", dont_inherit=True))
        new = codes_of(compile(mutant.apply(source), filename, "exec", dont_inherit=True))
        swaps: list[tuple[FunctionType, CodeType]] = []
        for place, functions in self.functions[mutant.path].items():
            before, after = old.get(place, []), new.get(place, [])
            if before == after:
                continue
            if len(before) != len(after):
                raise Unmoved
            for function in functions:
                index = next((i for i, code in enumerate(before) if code == function.__code__), None)
                if index is None:
                    raise Unmoved
                if after[index].co_freevars != function.__code__.co_freevars:
                    raise Unmoved
                if after[index] != before[index]:
                    swaps.append((function, after[index]))
        if not swaps:
            raise Unmoved
        return swaps

    def _run_here(self, swaps: list[tuple[FunctionType, CodeType]], chosen: list[Traced], writing: int) -> None:
        """In the fork: swap, run, tell each start and the first failure, and leave without a goodbye."""
        code = 3
        try:
            log = os.open(LOG, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            for function, new in swaps:
                function.__code__ = new
            items = [self.items[test.nodeid] for test in chosen]
            for index, item in enumerate(items):
                os.write(writing, b"s")
                following = items[index + 1] if index + 1 < len(items) else self.elsewhere
                reports = runtestprotocol(item, log=False, nextitem=following)
                failed = [report for report in reports if report.failed]
                if failed:
                    os.write(log, f"{item.nodeid}\n{failed[0].longreprtext}\n".encode())
                    os.write(writing, b"f")
                    break
            else:
                os.write(writing, b"e")
            code = 0
        finally:
            os._exit(code)

    def _watch(self, reading: int, chosen: list[Traced]) -> Verdict:
        started = -1
        while True:
            expected = chosen[max(started, 0)].seconds
            ready, _, _ = select.select([reading], [], [], PATIENCE_FACTOR * expected + PATIENCE_SECONDS)
            if not ready:
                return Verdict("timeout", chosen[max(started, 0)].nodeid, started + 1)
            for letter in os.read(reading, 100) or b"x":
                match chr(letter):
                    case "s":
                        started += 1
                    case "e":
                        return Verdict("survived", ran=started + 1)
                    case told:
                        status = "killed" if told == "f" else "died"
                        return Verdict(status, chosen[max(started, 0)].nodeid, started + 1)

    def _in_fresh_process(self, mutant: Mutant, chosen: list[Traced] | None) -> str | None:
        """The test that failed, or None; `chosen` None asks whether a migration would be missing instead."""
        environ = {
            **os.environ,
            "AUM_MUTANT_FILE": str(ROOT / mutant.path),
            "AUM_MUTANT_SOURCE": str(LOG.with_suffix(".py")),
        }
        LOG.with_suffix(".py").write_bytes(mutant.apply(self.sources[mutant.path]))
        if chosen is None:
            command = [sys.executable, "-m", "tests.mutation.fresh", "makemigrations", "--check", "--dry-run"]
            seconds = PATIENCE_SECONDS
        else:
            command = [sys.executable, "-m", "tests.mutation.fresh", "pytest", *(test.nodeid for test in chosen)]
            seconds = PATIENCE_SECONDS + PATIENCE_FACTOR * sum(test.seconds for test in chosen)
        with (
            LOG.open("w") as log,
            subprocess.Popen(
                command, cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            ) as process,
        ):
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = 1
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if code == 0:
            return None
        told = LOG.read_text(errors="replace")
        failed = re.search(r"^FAILED-TEST (\S.*)$", told, re.MULTILINE)
        return failed.group(1) if failed else chosen[0].nodeid if chosen else MIGRATIONS

    def _clean(self) -> None:
        """A process that was ended could not empty its tables; a test with real commits does, however it ends."""
        self._in_fork(None, [self.tests[self.cleaner.nodeid]], clean=False)


def functions_of(sources: dict[str, bytes]) -> dict[str, dict[Place, list[FunctionType]]]:
    """All living functions of these files by name and first line."""
    names = {str(ROOT / name): name for name in sources}
    found: dict[str, dict[Place, list[FunctionType]]] = {name: defaultdict(list) for name in sources}
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType):
            name = names.get(thing.__code__.co_filename)
            if name is not None:
                found[name][thing.__code__.co_qualname, thing.__code__.co_firstlineno].append(thing)
    return found


def codes_of(code: CodeType) -> dict[Place, list[CodeType]]:
    """All code of a module, also what is nested, by name and first line."""
    found: dict[Place, list[CodeType]] = defaultdict(list)
    waiting = [code]
    while waiting:
        one = waiting.pop()
        found[one.co_qualname, one.co_firstlineno].append(one)
        waiting.extend(const for const in one.co_consts if isinstance(const, CodeType))
    return found
