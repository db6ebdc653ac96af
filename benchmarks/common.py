"""What all benchmarks share: servers, a sandbox in its own process, rounds in random order, figures and their spread.

A ratio is taken within each round and its median reported, because the machine's speed drifts between rounds: seconds
say something about this machine only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import re
import secrets
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).resolve().parent.parent


def arguments(description: str, *, people: int, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--people", type=int, default=people, help="people in the organisation (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=rounds, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of the order and of the organisation")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser


@contextlib.contextmanager
def django() -> Iterator[None]:
    """Django on a database of its own: on the servers of DATABASE_URL and REDIS_URL, or on throwaway ones."""
    # Before anything of `aum` is imported: it would choose the settings of a deployment.
    os.environ["DJANGO_SETTINGS_MODULE"] = "aum.settings_test"
    from tests.runtime_servers import postgres, valkey

    with contextlib.ExitStack() as stack:
        server = os.environ.get("DATABASE_URL") or stack.enter_context(postgres())
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
    import psycopg

    name = f"bench_{secrets.token_hex(4)}"
    parts = urlsplit(server)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
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


def in_random_order(rng: random.Random, works: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Run each once, in an order that changes from round to round: whoever came first would warm up for the others."""
    names = list(works)
    rng.shuffle(names)
    return {name: works[name]() for name in names}


def peak_memory_mb(pid: int | str = "self") -> float:
    """The most memory that the process ever held, in MB; a child starts with what its parent held at the fork."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else 0.0


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def report(title: str, figures: dict[str, Any], path: Path | None) -> None:
    """Print the figures as a table and, where asked, write them as JSON."""
    print(f"\n{title}")
    for name, value in figures.items():
        if isinstance(value, dict):
            print(f"  {name:<46} {value['median']:>10.3f}   ({value['min']:.3f} to {value['max']:.3f})")
        else:
            print(f"  {name:<46} {value:>10,.1f}" if isinstance(value, float) else f"  {name:<46} {value:>10}")
    if path is not None:
        machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
        path.write_text(
            json.dumps({"title": title, "machine": machine, "figures": figures}, indent=2), encoding="utf-8"
        )
