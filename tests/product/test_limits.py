"""Told to wait, nobody asks: two live runs in two worker processes against one Atlassian that refuses (P13)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.product.harness import Product, SandboxProcess, wait_for

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its processes in /proc"),
]

GRACE_MS = 100
TOLD_SECONDS = 2.0
# What AUM waits at least when a 429 does not say how long.
SILENT_SECONDS = 0.5
PEOPLE_PER_RUN = 15


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(people=500, seed=5) as running:
        running.control.post("faults", {"kind": "latency", "ms": 20})
        yield running


@pytest.fixture(scope="module")
def product(sandbox: SandboxProcess) -> Iterator[Product]:
    with Product(ATLASSIAN_SITE_ALLOWLIST="127.0.0.1", AUM_WORKER_PROCESSES="2") as running:
        running.arrange(
            "connect",
            url=sandbox.url,
            slug="limits",
            settings={"max_count": 450, "max_share_percent": 95, "max_per_day": 2000, "calls_in_flight": 4},
        )
        yield running


@pytest.fixture(scope="module")
def idle(product: Product) -> list[str]:
    """Account ids that a suspension can take, from a preview."""
    preview = product.arrange("start", slug="limits", mode="safe")["operation"]
    wait_for(lambda: status(product, preview) == "previewed", seconds=30, what="the preview")
    rows = product.query(
        "SELECT subject FROM operations_operationitem WHERE operation_id = %s GROUP BY 1 ORDER BY 1", preview
    )
    return [subject for (subject,) in rows]


def status(product: Product, operation: int) -> str:
    return str(product.query("SELECT status FROM operations_operation WHERE id = %s", operation)[0][0])


def span(product: Product, operation: int) -> tuple[Any, Any]:
    return product.query("SELECT started_at, finished_at FROM operations_operation WHERE id = %s", operation)[0]


def too_early(rows: list[dict[str, Any]]) -> list[str]:
    """Requests that started more than GRACE_MS after a 429 and before the wait was over, told or not."""
    found = []
    for refusal in rows:
        if refusal["status"] != 429:
            continue
        seconds = refusal["wait_seconds"] or SILENT_SECONDS
        told_at = refusal["finished_mono_ms"]
        found += [
            f"{row['path']} started {row['started_mono_ms'] - told_at:.0f} ms after 429, told {seconds} s"
            for row in rows
            if told_at + GRACE_MS < row["started_mono_ms"] < told_at + seconds * 1000
        ]
    return found


@pytest.mark.parametrize(("style", "turn"), [("retry_after", 0), ("reset", 1), ("none", 2)])
def test_no_request_starts_while_told_to_wait(
    product: Product, sandbox: SandboxProcess, idle: list[str], style: str, turn: int
) -> None:
    """The two runs are driven by two processes; what one of them is told holds for the other."""
    people = idle[turn * 2 * PEOPLE_PER_RUN :][: 2 * PEOPLE_PER_RUN]
    assert len(people) == 2 * PEOPLE_PER_RUN
    since = sandbox.control.get("info")["requests"]
    sandbox.control.post(
        "faults",
        {
            "clear": True,
            "set": [
                {"kind": "latency", "ms": 60},
                {
                    **{"kind": "rate_limit", "style": style, "seconds": TOLD_SECONDS, "skip": 4, "count": 3},
                    "path": "/suspend$",
                },
            ],
        },
    )

    halves = people[:PEOPLE_PER_RUN], people[PEOPLE_PER_RUN:]
    runs = product.arrange("start_all", slug="limits", lists=halves)["operations"]
    wait_for(
        lambda: all(status(product, run) == "succeeded" for run in runs),
        seconds=60,
        what=f"the end of runs {runs}: {[status(product, run) for run in runs]}",
    )

    rows = [
        row
        for row in sandbox.control.get(f"requests?since={since}")["requests"]
        if "/_control/" not in row["path"] and row["finished_mono_ms"] is not None
    ]
    refused = [row for row in rows if row["status"] == 429]
    assert refused
    assert {bool(row["wait_seconds"]) for row in refused} == {style != "none"}
    assert too_early(rows) == []
    early = sandbox.control.get(f"early?grace_ms={GRACE_MS}&scope=all&since={since}")
    assert early["early"] == []
    (first_start, first_end), (second_start, second_end) = (span(product, run) for run in runs)
    assert max(first_start, second_start) < min(first_end, second_end), "the runs did not overlap"
    done = product.query(
        "SELECT count(*) FROM operations_operationitem WHERE operation_id = ANY(%s) AND outcome = 'done'", runs
    )
    assert done[0][0] >= len(people) - 1
