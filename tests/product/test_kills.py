"""kill -9 in the middle of a live run, again and again: it finishes without help, and nothing is done twice (P7).

The run is planned over an Atlassian outside the product, so that the ledger of what took effect outlives every kill.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from tests.product.harness import FAST, Product, SandboxProcess, Which, wait_for

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its processes in /proc"),
]

# A frozen child is the other half of the promise: it wakes when another has its work, and must not go on with it.
VICTIMS: tuple[tuple[str, Which | Literal["frozen"]], ...] = (
    ("runner", "frozen"),
    ("runner", "child"),
    ("runner", "main"),
    ("postgres", "main"),
    ("valkey", "main"),
)


@dataclass(frozen=True)
class Size:
    """How large a trial is. `least`: people that the plan has at least; `pause`: seconds that a recovery may take."""

    people: int
    least: int
    latency_ms: int
    calls_in_flight: int
    rounds: int
    pause: float = 40.0

    @property
    def calls_cut_off(self) -> int:
        """Calls that frozen workers can send late at most: those already past the last look at their lease.

        Nothing on Atlassian's side refuses a call that comes too late, so this remainder cannot be brought to nothing.
        """
        return self.calls_in_flight * self.rounds


SHORT = Size(people=500, least=120, latency_ms=150, calls_in_flight=3, rounds=1)
LONG = Size(people=9000, least=2000, latency_ms=150, calls_in_flight=8, rounds=2)


def finished(product: Product, operation: int) -> int:
    rows = product.try_query(
        "SELECT count(*) FROM operations_operationitem WHERE operation_id = %s AND status = 'finished'", operation
    )
    return int(rows[0][0]) if rows else -1


def writes_under_way(product: Product, operation: int) -> bool:
    """Whether a call is out whose end is not recorded yet: the worst moment."""
    return bool(
        product.try_query(
            "SELECT 1 FROM operations_operationitem WHERE operation_id = %s AND status = 'claimed' "
            "AND written_at > now() - interval '100 milliseconds' LIMIT 1",
            operation,
        )
    )


def status(product: Product, operation: int) -> str:
    rows = product.try_query("SELECT status FROM operations_operation WHERE id = %s", operation)
    return str(rows[0][0]) if rows else ""


def kill_on_the_way(product: Product, operation: int, total: int, size: Size) -> list[str]:
    """Kill each victim in turn, evenly over the run, each after the run went on from the one before; what was done."""
    victims = VICTIMS * size.rounds
    done: list[str] = []

    def at_least(count: int, what: str) -> int:
        seconds = size.pause + total * size.latency_ms / 1000
        found = wait_for(
            lambda: [number for number in [finished(product, operation)] if number >= count],
            seconds=seconds,
            what=f"{count} of {total} finished, {what}, after {done}",
        )
        return int(found[0])

    def over() -> bool:
        return status(product, operation) not in ("", "queued", "running", "waiting")

    def moment() -> bool:
        return writes_under_way(product, operation) or over()

    for number, (service, which) in enumerate(victims, start=1):
        at_least(total * number // (len(victims) + 2), "before the next kill")
        if which == "frozen":
            pid = product.freeze(service, when=moment)
        else:
            product.kill(service, which, when=moment)
        began = time.monotonic()
        if which == "frozen":
            # Until its lease is over and others have its people, then long enough to do wrong before the next kill.
            time.sleep(float(FAST["AUM_ITEM_LEASE_SECONDS"]) + float(FAST["AUM_SWEEP_SECONDS"]) + 1.0)
            product.thaw(pid)
            time.sleep(2.0)
        at = at_least(0, "the database answers")
        if over():
            # A quick machine can be done before the last strike; what was struck until then has to be most of it.
            assert len(done) >= len(victims) - 2, done
            break
        at_least(at + 1, "the run goes on")
        done.append(f"{service} {which} at {at}, went on after {time.monotonic() - began:.1f} s")
    return done


def run_and_kill(size: Size) -> str:
    """One trial with all its assertions; a line that says how it went."""
    faults = [{"kind": "latency", "ms": size.latency_ms, "path": "/suspend|users/search"}]
    with (
        SandboxProcess(people=size.people, seed=3) as sandbox,
        Product(ATLASSIAN_SITE_ALLOWLIST="127.0.0.1") as product,
    ):
        product.arrange(
            "connect",
            url=sandbox.url,
            slug="kills",
            settings={
                "max_count": size.people - 50,
                "max_share_percent": 95,
                "max_per_day": size.people - 50,
                "calls_in_flight": size.calls_in_flight,
            },
        )
        for fault in faults:
            sandbox.control.post("faults", fault)
        before: dict[str, Any] = sandbox.control.get("state")
        operation = product.arrange("start", slug="kills", inactive_days=45)["operation"]
        wait_for(lambda: status(product, operation) not in ("planning", ""), seconds=60, what="a plan of the live run")
        planned = product.query(
            "SELECT subject, target FROM operations_operationitem WHERE operation_id = %s", operation
        )
        assert status(product, operation) in ("queued", "running"), status(product, operation)
        assert len({subject for subject, _target in planned}) >= size.least, len(planned)

        began = time.monotonic()
        killed = kill_on_the_way(product, operation, len(planned), size)
        wait_for(
            lambda: status(product, operation) in ("succeeded", "partial_failure", "failed", "no_effect"),
            seconds=size.pause + len(planned) * size.latency_ms / 1000,
            what=f"the end of the run after {killed}",
        )
        seconds = time.monotonic() - began

        assert_nothing_was_lost_or_done_twice(product, sandbox, operation, planned, before, size)
        read = product.query(
            "SELECT count(*) FROM operations_operationitem WHERE operation_id = %s AND outcome = 'done' "
            "AND atlassian_request_id = ''",
            operation,
        )[0][0]
    assert read, "no kill met a call whose answer was lost: the trial proves little"
    return f"{len(planned)} items in {seconds:.0f} s, {read} told by reading; " + "; ".join(killed)


def assert_nothing_was_lost_or_done_twice(
    product: Product,
    sandbox: SandboxProcess,
    operation: int,
    planned: list[tuple[Any, ...]],
    before: dict[str, Any],
    size: Size,
) -> None:
    items = product.query(
        "SELECT subject, target, status, outcome FROM operations_operationitem WHERE operation_id = %s", operation
    )
    assert Counter((subject, target) for subject, target, _, _ in items) == Counter(planned)
    assert {status for _, _, status, _ in items} == {"finished"}
    assert {outcome for _, _, _, outcome in items} <= {"done", "already_so"}, Counter(item[3] for item in items)

    entries = [e for e in sandbox.control.get("ledger")["entries"] if "/_control/" not in e["path"]]
    changes = Counter((entry["account"], entry["path"]) for entry in entries if entry["effect"] == "changed")
    assert [write for write, number in changes.items() if number > 1] == [], "a second effective write"
    assert {entry["account"] for entry in entries} <= {subject for subject, _target in planned}
    # Suspending the suspended changes nothing, so a repeat does not show among the changes.
    repeats = [entry for entry in entries if entry["effect"] != "changed"]
    assert len(repeats) <= size.calls_cut_off, f"{len(repeats)} writes were repeated"
    after = sandbox.control.get("state")
    suspended = {
        (account, f"directory:{directory}")
        for account, one in after.items()
        for directory, state in one["directories"].items()
        if state != before[account]["directories"][directory]
    }
    assert suspended == {(subject, target) for subject, target, _, outcome in items if outcome == "done"}, (
        "what changed in Atlassian is not what the run says it did"
    )
    assert len(changes) == len(suspended)
    audit = product.query(
        "SELECT target_ref, after->>'target', after->>'outcome' FROM audit_auditevent "
        "WHERE operation_id = %s AND action = 'account.suspend'",
        operation,
    )
    assert Counter(audit) == Counter((subject, target, outcome) for subject, target, _, outcome in items)


def test_a_run_survives_a_kill_of_each_of_its_servers() -> None:
    print(run_and_kill(SHORT))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_over_2000_people_survives_two_kills_of_each_of_its_servers() -> None:
    print(run_and_kill(LONG))
