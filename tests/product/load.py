"""Load: administrators who browse while a large live run executes and tickets arrive, and what it costs.

    script/load                       50 people browsing, a run of 10,000, 500 tickets a minute, for 10 minutes
    script/load --minutes 1 --people 2000 --run 1000

Starts the product as `script/server` does, over a pretend Atlassian that answers after 100 ms. Prints and writes
(`var/load/report.json`) the times of pages and of the way in, how fast the run and the tickets went, every answer that
was not what it should be, and the memory of each process over time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from tests.product.harness import ROOT, Product, SandboxProcess, processes, wait_for

REPORT = ROOT / "var" / "load" / "report.json"
SLUG = "load"
LATENCY_MS = 100
THINK_SECONDS = (1.0, 7.0)
SERVICES = ("web", "worker", "runner", "beat", "postgres", "valkey")
# Path below the organisation, how often it is opened among the others.
PAGES = (
    ("", 4),
    ("users/", 6),
    ("users/?status=inactive", 3),
    ("users/?q=ann", 2),
    ("users/{person}/", 4),
    ("runs/{run}/", 5),
    ("runs/{run}/_progress", 6),
    ("rules/", 2),
    ("audit/", 3),
    ("activation/log/", 1),
    ("insights/", 1),
    ("savings/", 1),
    ("emails/", 1),
    ("exemptions/", 1),
)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Load:
    """Everything that happens at once, until `stop` is set."""

    def __init__(self, product: Product, sandbox: SandboxProcess, options: argparse.Namespace) -> None:
        self.product, self.sandbox, self.options = product, sandbox, options
        self.stop = threading.Event()
        self.pages: dict[str, list[float]] = defaultdict(list)
        self.hooks: list[float] = []
        self.wrong: Counter[str] = Counter()
        self.memory: list[dict[str, float]] = []
        self.run = 0
        self.run_number = 0
        self.people: list[int] = []

    def browse(self, number: int, cookie: dict[str, str]) -> None:
        """One administrator: a page, a moment to read it, the next."""
        rng = random.Random(number)
        session = requests.Session()
        # As a browser does: a connection that the server had closed for idleness is opened anew.
        session.mount("http://", HTTPAdapter(max_retries=Retry(connect=2, read=1, redirect=0)))
        session.cookies.set(cookie["name"], cookie["value"])
        paths, weights = [path for path, _ in PAGES], [weight for _, weight in PAGES]
        self.stop.wait(rng.uniform(0, THINK_SECONDS[1]))
        while not self.stop.is_set():
            path = rng.choices(paths, weights)[0]
            url = path.format(run=self.run_number, person=rng.choice(self.people))
            began = time.monotonic()
            try:
                answer = session.get(f"{self.product.url}/o/{SLUG}/{url}", timeout=60, allow_redirects=False)
            except requests.RequestException as error:
                self.wrong[f"{path or 'dashboard'}: {type(error).__name__}"] += 1
            else:
                self.pages[path or "dashboard"].append(time.monotonic() - began)
                if answer.status_code not in (200, 286):
                    self.wrong[f"{path or 'dashboard'}: {answer.status_code}"] += 1
            self.stop.wait(rng.uniform(*THINK_SECONDS))

    def send(self, url: str, secret: str, key: str) -> None:
        """One ticket's event."""
        began = time.monotonic()
        try:
            answer = requests.post(url, json={"issueKey": key}, headers={"X-AUM-Secret": secret}, timeout=60)
        except requests.RequestException as error:
            self.wrong[f"way in: {type(error).__name__}"] += 1
            return
        self.hooks.append(time.monotonic() - began)
        if answer.status_code != 202:
            self.wrong[f"way in: {answer.status_code}"] += 1

    def tickets(self, way: dict[str, Any]) -> None:
        """Tickets at the wanted pace, whatever becomes of those before."""
        people, pause = way["people"], 60 / self.options.tickets
        with ThreadPoolExecutor(16) as pool:
            due, number = time.monotonic(), 0
            while not self.stop.is_set():
                who = people[number % len(people)]
                ticket = self.sandbox.control.post("request", {"reporter": who, "requestTypeId": "11"})
                pool.submit(self.send, self.product.url + way["path"], way["secret"], ticket["key"])
                number, due = number + 1, due + pause
                self.stop.wait(max(0.0, due - time.monotonic()))

    def watch_memory(self) -> None:
        """MB of each service with its children, every five seconds."""
        while not self.stop.wait(5.0):
            self.memory.append(self.memory_now())

    def memory_now(self) -> dict[str, float]:
        """Proportional set size of each service in MB, so that what forked children share counts once."""
        alive = processes()
        found = {}
        for service in SERVICES:
            mains = set(self.product.pids(service))
            family = mains | {pid for pid, (parent, _) in alive.items() if parent in mains}
            found[service] = round(sum(_pss_mb(pid) for pid in family), 1)
        return found


def _pss_mb(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def figures(load: Load, seconds: float, finished: int, events: dict[str, int], drained: float) -> dict[str, Any]:
    """What was measured."""
    times = [one for some in load.pages.values() for one in some]
    half = len(load.memory) // 2
    return {
        "seconds": round(seconds),
        "load_average": Path("/proc/loadavg").read_text(encoding="ascii").split()[:3],
        "pages": len(times),
        "pages_p50_ms": round(percentile(times, 0.5) * 1000),
        "pages_p95_ms": round(percentile(times, 0.95) * 1000),
        "pages_p99_ms": round(percentile(times, 0.99) * 1000),
        "p95_ms_by_page": {p: round(percentile(t, 0.95) * 1000) for p, t in sorted(load.pages.items())},
        "events": len(load.hooks),
        "events_p95_ms": round(percentile(load.hooks, 0.95) * 1000),
        "events_by_status": events,
        "events_drained_seconds": round(drained),
        "run_items_finished": finished,
        "run_items_per_second": round(finished / seconds, 1),
        "wrong": dict(load.wrong),
        "memory_mb": {
            service: {
                "first": load.memory[0][service],
                "median_of_first_half": statistics.median(one[service] for one in load.memory[:half]),
                "median_of_second_half": statistics.median(one[service] for one in load.memory[half:]),
                "most": max(one[service] for one in load.memory),
            }
            for service in SERVICES
        },
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start everything, let it run for the wanted time, stop, and count."""
    with (
        SandboxProcess(people=options.people, seed=21) as sandbox,
        Product(ATLASSIAN_SITE_ALLOWLIST="127.0.0.1", AUM_DEMO_API_URL="", is_quick=False) as product,
    ):
        product.arrange(
            "connect",
            url=sandbox.url,
            slug=SLUG,
            settings={
                "max_count": options.people,
                "max_share_percent": 95,
                "max_per_day": 1_000_000,
                "max_group_share_percent": 100,
                "max_failure_percent": 100,
                "calls_in_flight": 8,
            },
        )
        load = Load(product, sandbox, options)
        sandbox.control.post("faults", {"kind": "latency", "ms": LATENCY_MS})
        way = product.arrange("way_in", slug=SLUG, seed=1, people=options.people // 4)
        load.run = product.arrange(
            "begin", slug=SLUG, seed=2, runs=[{"action": "suspend", "people": options.run, "leaving": way["people"]}]
        )["operations"][0]
        wait_for(lambda: status(product, load.run) in ("running", "succeeded"), seconds=180, what="the run")
        load.run_number = product.query("SELECT number FROM operations_operation WHERE id = %s", load.run)[0][0]
        load.people = [row[0] for row in product.query("SELECT id FROM users_account ORDER BY id LIMIT 500")]
        cookies = [product.arrange("session", slug=SLUG) for _ in range(options.administrators)]
        threads = [threading.Thread(target=load.browse, args=(n, cookie)) for n, cookie in enumerate(cookies)]
        threads += [threading.Thread(target=load.tickets, args=(way,)), threading.Thread(target=load.watch_memory)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while time.monotonic() - began < options.minutes * 60:
            time.sleep(10)
            line = {"at": round(time.monotonic() - began), "finished": finished(product, load.run)}
            print(json.dumps(line | load.memory_now() | {"wrong": dict(load.wrong)}), flush=True)
        load.stop.set()
        for thread in threads:
            thread.join(90)
        seconds = time.monotonic() - began
        done = finished(product, load.run)
        began = time.monotonic()
        wait_for(lambda: not open_events(product), seconds=900, what="the end of all events", every=1.0)
        events = dict(product.query("SELECT status, count(*) FROM autoactivate_inboundevent GROUP BY 1"))
        return vars(options) | figures(load, seconds, done, events, time.monotonic() - began)


def status(product: Product, operation: int) -> str:
    rows = product.try_query("SELECT status FROM operations_operation WHERE id = %s", operation)
    return str(rows[0][0]) if rows else ""


def finished(product: Product, operation: int) -> int:
    rows = product.query(
        "SELECT count(*) FROM operations_operationitem WHERE operation_id = %s AND status = 'finished'", operation
    )
    return int(rows[0][0])


def open_events(product: Product) -> int:
    rows = product.query(
        "SELECT count(*) FROM autoactivate_inboundevent WHERE status IN ('received', 'working', 'waiting')"
    )
    return int(rows[0][0])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="script/load", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--administrators", type=int, default=50, help="who browse (default: %(default)s)")
    parser.add_argument("--people", type=int, default=20_000, help="size of the organisation (default: %(default)s)")
    parser.add_argument("--run", type=int, default=10_000, help="people in the live run (default: %(default)s)")
    parser.add_argument("--tickets", type=int, default=500, help="tickets a minute (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    found = measure(options)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=2), encoding="utf-8")
    print(json.dumps(found, indent=2))
    return int(bool(found["wrong"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
