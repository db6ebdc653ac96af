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


def kill_on_the_way(
    product: Product,
    operation: int,
    total: int,
    size: Size,
    victims: tuple[tuple[str, Which | Literal["frozen"]], ...] = (),
) -> list[str]:
    """Kill each victim in turn, evenly over the run, each after the run went on from the one before; what was done."""
    victims = victims or VICTIMS * size.rounds
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


@pytest.mark.slow
def test_a_run_survives_a_kill_of_each_of_its_servers() -> None:
    print(run_and_kill(SHORT))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_over_2000_people_survives_two_kills_of_each_of_its_servers() -> None:
    print(run_and_kill(LONG))


# --- approvals, undo, ladders -----------------------------------------------------------------------------------------

FEW: tuple[tuple[str, Which | Literal["frozen"]], ...] = (
    ("runner", "child"),
    ("runner", "main"),
    ("postgres", "main"),
)
FINAL = ("succeeded", "partial_failure", "failed", "no_effect")


def approvals_of(product: Product, operation: int) -> int:
    return int(product.query("SELECT count(*) FROM operations_approval WHERE operation_id = %s", operation)[0][0])


def kill_the_approval(product: Product, operation: int) -> None:
    """An approval that is killed before its end is none; killed right after it, it counts, and the run goes on."""
    moments = (
        ("SELECT 1 FROM operations_operation WHERE id = %s FOR UPDATE", operation),
        ("SELECT 1 FROM organizations_alert WHERE dedup_key = %s FOR UPDATE", f"held:{operation}"),
    )
    for statement, value in moments:
        with product.locked(statement, value) as is_waited_for:
            process = product.begin("approve", slug="kills", operation=operation)
            wait_for(is_waited_for, seconds=90, what="an approval under way", every=0.02)
            process.kill()
            process.communicate()
        wait_for(lambda: not is_open_transaction(product), seconds=20, what="the end of the killed one's transaction")
        assert (status(product, operation), approvals_of(product, operation)) == ("held", 0)
        assert finished(product, operation) == 0
    process = product.begin("approve", slug="kills", operation=operation)
    wait_for(lambda: status(product, operation) != "held", seconds=90, what="an approval", every=0.002)
    process.kill()
    process.communicate()
    assert approvals_of(product, operation) == 1


def is_open_transaction(product: Product) -> bool:
    """Whether somebody holds or waits for a row of an operation that a killed process had locked."""
    return bool(
        product.query(
            "SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname = 'operations_approval' "
            "AND l.mode = 'RowExclusiveLock'"
        )
    )


def end_of(product: Product, operation: int, size: Size, items: int, what: str) -> str:
    return str(
        wait_for(
            lambda: status(product, operation) if status(product, operation) in FINAL else "",
            seconds=size.pause * 2 + items * size.latency_ms / 1000,
            what=what,
        )
    )


def changes_since(sandbox: SandboxProcess, last: int) -> Counter[tuple[str, str]]:
    entries = sandbox.control.get("ledger")["entries"][last:]
    return Counter(
        (e["account"], e["path"]) for e in entries if e["effect"] == "changed" and "/_control/" not in e["path"]
    )


def planned_items(product: Product, operation: int) -> list[tuple[Any, ...]]:
    wait_for(lambda: status(product, operation) not in ("planning", ""), seconds=90, what="a plan")
    return product.query(
        "SELECT subject, target, status, outcome FROM operations_operationitem WHERE operation_id = %s", operation
    )


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_an_approval_its_run_an_undo_and_a_ladder_survive_kills() -> None:
    size = SHORT
    with (
        SandboxProcess(people=size.people, seed=3) as sandbox,
        Product(ATLASSIAN_SITE_ALLOWLIST="127.0.0.1") as product,
    ):
        limits = {"max_count": 5, "max_share_percent": 95, "max_per_day": 2000, "max_group_share_percent": 100}
        product.arrange(
            "connect", url=sandbox.url, slug="kills", settings={**limits, "calls_in_flight": size.calls_in_flight}
        )
        sandbox.control.post(
            "faults", {"kind": "latency", "ms": size.latency_ms, "path": "/suspend|/restore|users/search"}
        )
        before: dict[str, Any] = sandbox.control.get("state")

        # The approval, and the run that it frees.
        operation = product.arrange("start", slug="kills", inactive_days=45)["operation"]
        planned = [(subject, target) for subject, target, _, _ in planned_items(product, operation)]
        assert status(product, operation) == "held"
        kill_the_approval(product, operation)
        killed = kill_on_the_way(product, operation, len(planned), size, FEW)
        end_of(product, operation, size, len(planned), f"the end of the approved run after {killed}")
        assert_nothing_was_lost_or_done_twice(product, sandbox, operation, planned, before, size)
        assert approvals_of(product, operation) == 1

        # Its undo leads back to the state before, each account in one effective write.
        last = len(sandbox.control.get("ledger")["entries"])
        inverse = product.arrange("undo", operation=operation)["operation"]
        items = planned_items(product, inverse)
        done = [item for item in planned_items(product, operation) if item[3] == "done"]
        assert Counter(item[:2] for item in items) == Counter(item[:2] for item in done)
        killed = kill_on_the_way(product, inverse, len(items), size, FEW)
        assert end_of(product, inverse, size, len(items), f"the end of the undo after {killed}") == "succeeded"
        assert sandbox.control.get("state") == before
        assert set(changes_since(sandbox, last).values()) == {1}
        outcomes = Counter(item[3] for item in planned_items(product, inverse))
        assert set(outcomes) <= {"done", "already_so"}, outcomes
        audited = product.query(
            "SELECT count(*) FROM audit_auditevent WHERE operation_id = %s AND action = 'account.restore'", inverse
        )
        assert audited[0][0] == len(items)

        # Two rungs over the same people at once. Those given back are snoozed, so their time has to pass first.
        product.change("UPDATE organizations_organization SET max_count = 2000")
        product.change("UPDATE users_exemption SET until = now() - interval '1 second', ended_at = now()")
        product.change("UPDATE users_account SET idle_floor_at = NULL, status_changed_at = NULL")
        before = sandbox.control.get("state")
        last = len(sandbox.control.get("ledger")["entries"])
        runs = product.arrange("ladder", slug="kills", product="confluence", days=[60, 90])["operations"]
        rungs = {run: planned_items(product, run) for run in runs}
        longest = max(runs, key=lambda run: len(rungs[run]))
        killed = kill_on_the_way(product, longest, len(rungs[longest]), size, FEW)
        for run in runs:
            end_of(product, run, size, len(rungs[run]), f"the end of a rung after {killed}")
        assert set(changes_since(sandbox, last).values()) == {1}, "a second effective write"
        found = {run: planned_items(product, run) for run in runs}
        assert {item[2] for items in found.values() for item in items} == {"finished"}
        after = sandbox.control.get("state")
        suspended = {
            (account, f"directory:{directory}")
            for account, one in after.items()
            for directory, state in one["directories"].items()
            if state != before[account]["directories"][directory]
        }
        assert suspended == {(subject, target) for subject, target, _, outcome in found[runs[1]] if outcome == "done"}
        assert suspended
