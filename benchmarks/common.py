"""What all benchmarks share: servers, a sandbox in its own process, rounds in random order, figures and their spread.

A module of this folder becomes `script/bench <name>` by holding one `BENCHMARK`:

    def measure(run: Run) -> None:                      # Django is set up, on an empty database of its own
        fill(run.size)
        run.compare("rule count", aum=ours, limit=bare, limit_is="the scan alone", target=at_most(2.0))
        run.figure("peak memory", peak_memory_mb(), "MB")

    BENCHMARK = Benchmark("rules", "Counting who a rule matches", measure)

Modules are imported before Django is set up, so they import `apps` inside their functions. A ratio is taken within each
round and its median reported, because the machine's speed drifts between rounds: seconds say something about this
machine only. Compare results before times: a benchmark asserts that both sides did the same work.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import platform
import random
import re
import secrets
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SIZES = (10_000, 100_000, 1_000_000)
# The evaluation server's cache is for a thousand people; this is what docs/deploy.md recommends for a million.
POSTGRES = {"shared_buffers": "2GB"}


@dataclass(frozen=True)
class Target:
    """What a line should reach: a bound of its ratio, or of its own value where there is no limit beside it."""

    bound: float
    is_least: bool

    def holds(self, value: float) -> bool:
        return value >= self.bound if self.is_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.is_least else '≤'} {self.bound:g}"


def at_most(times: float) -> Target:
    """AUM may take this many times as long as the limit (of a figure: be this large)."""
    return Target(times, is_least=False)


def at_least(share: float) -> Target:
    """AUM reaches this share of the limit's speed (of a figure: is this large)."""
    return Target(share, is_least=True)


@dataclass
class Line:
    """One row of the table. `ratio` is AUM ÷ limit in time, or with an `at_least` target the share of its speed."""

    name: str
    unit: str
    aum: dict[str, float]
    limit_is: str = ""
    limit: dict[str, float] | None = None
    ratio: dict[str, float] | None = None
    target: str = ""
    holds: bool | None = None
    others: dict[str, dict[str, float]] = field(default_factory=dict)
    curve: bool = True


class Run:
    """One benchmark at one size: what it is given (`size`, `rounds`, `rng`, `seed`), and where its lines go."""

    def __init__(self, *, size: int, rounds: int, seed: int) -> None:
        self.size, self.rounds, self.seed = size, rounds, seed
        self.rng = random.Random(seed)
        self.lines: list[Line] = []

    def compare(
        self,
        name: str,
        *,
        aum: Callable[[], float],
        limit: Callable[[], float],
        limit_is: str,
        target: Target | None = None,
        others: Mapping[str, Callable[[], float]] | None = None,
        rounds: int | None = None,
        curve: bool = True,
    ) -> Line:
        """Run AUM, its limit and `others` once a round, in random order; each returns its own seconds (see `timed`).

        `curve` says whether docs/performance.md draws how the line grows with the size.
        """
        works = {"aum": aum, "limit": limit, **(others or {})}
        found = [in_random_order(self.rng, works) for _ in range(rounds or self.rounds)]
        return self.add(
            name,
            aum=[one["aum"] for one in found],
            limit=[one["limit"] for one in found],
            limit_is=limit_is,
            target=target,
            others={other: [one[other] for one in found] for other in others or {}},
            curve=curve,
        )

    def add(
        self,
        name: str,
        *,
        aum: Sequence[float],
        limit: Sequence[float],
        limit_is: str,
        target: Target | None = None,
        others: Mapping[str, Sequence[float]] | None = None,
        unit: str = "s",
        curve: bool = True,
    ) -> Line:
        """A line of rounds that the benchmark itself ran: the n-th of `aum` and of `limit` are of one round.

        In seconds or milliseconds, where less is better; with another unit (`"calls/s"`) more is better.
        """
        is_time = unit in {"s", "ms"}
        is_share = target is not None and target.is_least
        pairs = list(zip(aum, limit, strict=True))
        ratios = [(b / a if is_share == is_time else a / b) for a, b in pairs]
        line = Line(
            name,
            unit,
            aum=summary(aum),
            limit_is=limit_is,
            limit=summary(limit),
            ratio=summary(ratios),
            target=str(target or ""),
            holds=target.holds(statistics.median(ratios)) if target else None,
            others={other: summary(values) for other, values in (others or {}).items()},
            curve=curve,
        )
        return self._keep(line)

    def figure(self, name: str, value: float | Sequence[float], unit: str, target: Target | None = None) -> Line:
        """A figure with no limit beside it: one value, or those of the rounds."""
        values = [value] if isinstance(value, (int, float)) else list(value)
        holds = target.holds(statistics.median(values)) if target else None
        return self._keep(Line(name, unit, aum=summary(values), target=str(target or ""), holds=holds))

    def _keep(self, line: Line) -> Line:
        self.lines.append(line)
        print(printed(line), flush=True)
        return line


@dataclass(frozen=True)
class Benchmark:
    """What `script/bench <name>` runs. `size_is` says what `--size` counts."""

    name: str
    title: str
    measure: Callable[[Run], None]
    sizes: tuple[int, ...] = SIZES
    default_size: int = 10_000
    rounds: int = 5
    size_is: str = "people"


def benchmarks() -> dict[str, Benchmark]:
    """Every benchmark of this folder, by name."""
    found = {}
    for module in pkgutil.iter_modules([str(ROOT / "benchmarks")]):
        benchmark = getattr(importlib.import_module(f"benchmarks.{module.name}"), "BENCHMARK", None)
        if benchmark is not None:
            found[benchmark.name] = benchmark
    return dict(sorted(found.items()))


def execute(benchmark: Benchmark, *, size: int, rounds: int | None, seed: int, folder: Path = RESULTS) -> Path:
    """Run one benchmark at one size in this process, and write its lines and the machine to `folder`."""
    run = Run(size=size, rounds=rounds or benchmark.rounds, seed=seed)
    print(f"\n{benchmark.title}: {size:,} {benchmark.size_is}, {run.rounds} rounds", flush=True)
    load = os.getloadavg()[0]
    began = time.monotonic()
    with django():
        benchmark.measure(run)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{benchmark.name}-{size}.json"
    content = {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "size": size,
        "size_is": benchmark.size_is,
        "rounds": run.rounds,
        "seed": seed,
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "took_seconds": round(time.monotonic() - began, 1),
        "machine": {**machine(), "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1)},
        "lines": [asdict(line) for line in run.lines],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """What ran: cores, memory and versions; nothing that names the machine."""
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / 1024**2) if memory else None,
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def printed(line: Line) -> str:
    """A line as the terminal shows it."""
    text = f"  {line.name:<52} {_spread(line.aum)} {line.unit}"
    if line.limit is not None and line.ratio is not None:
        text += f"   {line.limit_is}: {_spread(line.limit)}   ratio {_spread(line.ratio)}"
    if line.target:
        text += f"   target {line.target}: {'held' if line.holds else 'MISSED'}"
    return text + "".join(f"\n      {other}: {_spread(values)} {line.unit}" for other, values in line.others.items())


def _spread(values: Mapping[str, float]) -> str:
    if values["min"] == values["max"]:
        return f"{values['median']:.3g}"
    return f"{values['median']:.3g} ({values['min']:.3g} to {values['max']:.3g})"


@contextlib.contextmanager
def django() -> Iterator[None]:
    """Django on a database of its own: on the servers of DATABASE_URL and REDIS_URL, or on throwaway ones."""
    # Before anything of `aum` is imported: it would choose the settings of a deployment.
    os.environ["DJANGO_SETTINGS_MODULE"] = "aum.settings_test"
    from tests.runtime_servers import postgres, valkey

    with contextlib.ExitStack() as stack:
        server = os.environ.get("DATABASE_URL") or stack.enter_context(postgres(**POSTGRES))
        os.environ["REDIS_URL"] = os.environ.get("REDIS_URL") or stack.enter_context(valkey())
        os.environ["DATABASE_URL"] = stack.enter_context(_database(server))
        import django as framework

        framework.setup()
        from django.conf import settings
        from django.core.management import call_command
        from django.db import connections

        # A statement that psycopg prepared on its sixth run keeps its plan while the tables grow a thousandfold.
        settings.DATABASES["default"]["OPTIONS"]["prepare_threshold"] = None
        call_command("migrate", verbosity=0, skip_checks=True)
        try:
            yield
        finally:
            connections.close_all()


@contextlib.contextmanager
def _database(server: str) -> Iterator[str]:
    """A new database: a copy of the migrated one that AUM_TEST_TEMPLATE names, or an empty one."""
    import psycopg

    name = f"bench_{secrets.token_hex(4)}"
    parts = urlsplit(server)
    template = os.environ.get("AUM_TEST_TEMPLATE") or "template1"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE {name} TEMPLATE "{template}" STRATEGY FILE_COPY')
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def sandbox(people: int, seed: int) -> Iterator[dict[str, Any]]:
    """A sandbox in a process of its own; yields its credentials with `api_url`."""
    command = [sys.executable, "-m", "apps.sandbox", "--people", str(people), "--seed", str(seed), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = None
        for line in process.stdout:
            found = re.search(r"http://[\d.]+:\d+", line)
            if found:
                break
        if found is None:
            raise RuntimeError("The sandbox did not start.")
        with urllib.request.urlopen(f"{found[0]}/_control/credentials", timeout=60) as answer:
            yield json.load(answer)
    finally:
        process.terminate()
        process.wait()


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_random_order(rng: random.Random, works: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Run each once, in an order that changes from round to round: whoever came first would warm up for the others."""
    names = list(works)
    rng.shuffle(names)
    return {name: works[name]() for name in names}


def p95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]


def peak_memory_mb(pid: int | str = "self") -> float:
    """The most memory that the process ever held, in MB; a child starts with what its parent held at the fork."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else 0.0


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
