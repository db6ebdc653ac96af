"""How much of a quota AUM uses: suspensions from 16 threads under the sandbox's own limit, beside that limit.

    script/bench quota

The limit is 100 calls in 2 seconds. A few windows are spent on learning it; the rest is measured. Target of
PERFORMANCE.md: at least 95 % of the quota, less than 1 % of the answers 429.
"""

from __future__ import annotations

import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from json import dumps, loads
from typing import Any

from benchmarks import common

LIMIT, WINDOW_SECONDS, LEARNING_SECONDS, MEASURED_SECONDS, THREADS = 100, 2.0, 6.0, 10.0, 16


def _control(url: str, path: str, body: Any = None) -> Any:
    data = None if body is None else dumps(body).encode()
    request = urllib.request.Request(f"{url}/_control/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return loads(answer.read())


def _round(given: dict[str, Any]) -> tuple[float, float]:
    """(share of the quota used, share of 429) of one round."""
    import redis
    from django.conf import settings

    from aum.atlassian.client import AtlassianClient, Connection
    from aum.atlassian.errors import AtlassianError
    from aum.atlassian.limiter import Limiter

    url = given["api_url"]
    _control(url, "faults", {"clear": True})
    state = _control(url, "state")
    people = [
        (account, directory)
        for account, one in state.items()
        for directory, status in one["directories"].items()
        if status == "active"
    ]
    _control(
        url, "faults", {"kind": "quota", "limit": LIMIT, "window_ms": int(WINDOW_SECONDS * 1000), "path": "/suspend"}
    )
    connection = Connection(
        organization_key=f"bench-{time.monotonic_ns()}",
        api_url=url,
        org_id=given["org_id"],
        api_key=given["api_key"],
        site_url=None,
        email=None,
        api_token=None,
        cloud_id=None,
    )
    began = time.monotonic() + LEARNING_SECONDS
    stop = began + MEASURED_SECONDS
    answers: list[tuple[float, bool]] = []

    def work(number: int) -> None:
        while time.monotonic() < stop:
            account, directory = people[number % len(people)]
            try:
                client.suspend(account, directory)
                answers.append((time.monotonic(), True))
            except AtlassianError:
                answers.append((time.monotonic(), False))

    limiter = Limiter(redis.Redis.from_url(settings.REDIS_URL))
    with (
        AtlassianClient(connection, limiter=limiter, max_wait_seconds=30) as client,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        list(pool.map(work, range(THREADS)))
    done = sum(at >= began and ok for at, ok in answers)
    refused = sum(entry["status"] == 429 for entry in _control(url, "requests?path=suspend")["requests"])
    used = done / (LIMIT / WINDOW_SECONDS * (time.monotonic() - began))
    return used, refused / max(len(answers), 1)


def measure(run: common.Run) -> None:
    with common.sandbox(run.size, run.seed) as given:
        rounds = [_round(given) for _ in range(run.rounds)]
    run.figure("share of the quota used", [used for used, _ in rounds], "", common.at_least(0.95))
    run.figure("share of answers 429", [refused for _, refused in rounds], "", common.at_most(0.01))


BENCHMARK = common.Benchmark("quota", "Writes under a quota of 50 a second", measure, sizes=(400,), default_size=400)
