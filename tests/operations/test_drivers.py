"""Several workers at one run: who may make how many calls at once, when help is asked for, and when it leaves."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.operations import services
from apps.operations.models import Operation, OperationItem, RunDriver
from apps.operations.services import execution
from apps.operations.services.drivers import Seat
from apps.organizations.models import Organization
from apps.sandbox.server import Sandbox

Plan = Callable[..., Operation]


@pytest.fixture
def seat(organization: Organization, plan: Plan) -> Iterator[Callable[..., Seat]]:
    operation = plan()
    with ExitStack() as stack:

        def take(*, leads: bool) -> Seat:
            # As a worker loads it: the setting is read once.
            return stack.enter_context(Seat(Operation.objects.get(pk=operation.pk), leads=leads))

        yield take


@pytest.mark.parametrize(("total", "leader", "helper"), [(8, 4, 4), (5, 3, 2), (1, 1, 0)])
def test_drivers_share_what_the_organisation_allows(
    organization: Organization, seat: Callable[..., Seat], total: int, leader: int, helper: int
) -> None:
    Organization.objects.filter(pk=organization.pk).update(calls_in_flight=total)
    first = seat(leads=True)
    first.pool()
    assert (first.slots, first.drivers) == (total, 1)

    second = seat(leads=False)
    # All are in use until the leader comes by again and lets some go.
    assert second.pool() is None
    first.pool()
    second.pool()
    assert (first.slots, second.slots, first.drivers) == (leader, helper, 2)

    second.__exit__()
    first.pool()
    assert (first.slots, first.drivers) == (total, 1)


def test_the_place_of_a_driver_that_gives_no_sign_of_life_is_free_again(
    organization: Organization, seat: Callable[..., Seat]
) -> None:
    first, second = seat(leads=True), seat(leads=False)
    for one in (first, second, first, second):
        one.pool()
    assert first.slots + second.slots == organization.calls_in_flight
    RunDriver.objects.filter(leads=False).update(seen_at=timezone.now() - timedelta(minutes=5))
    first.pool()
    assert first.slots == organization.calls_in_flight
    # It was frozen, not dead: when it wakes it has no calls left until the other lets some go.
    assert second.pool() is None
    RunDriver.objects.filter(leads=False).update(seen_at=timezone.now() - timedelta(minutes=5))
    services.sweep()
    assert list(RunDriver.objects.values_list("leads", flat=True)) == [True]


def in_thread(name: str, do: Callable[[], Any]) -> threading.Thread:
    def run() -> None:
        try:
            do()
        finally:
            connection.close()

    thread = threading.Thread(target=run, name=name)
    thread.start()
    return thread


def test_two_drivers_work_on_one_run_and_every_person_is_written_once(
    organization: Organization, plan: Plan, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    Organization.objects.filter(pk=organization.pk).update(calls_in_flight=4)
    asked: list[int] = []
    monkeypatch.setattr(execution, "CHUNK_PER_CALL", 1)
    monkeypatch.setattr(
        execution, "enqueue_again", lambda name, operation_id: asked.append(operation_id) if "help" in name else None
    )
    sandbox.control.post("faults", {"kind": "latency", "ms": 60, "path": "/suspend"})
    operation = plan()
    assert operation.people_count > 20
    claimed_by: dict[str, set[int]] = {"leader": set(), "helper": set()}
    seen = threading.Lock()
    claim_chunk = execution.claims.claim_chunk

    def noted(operation_id: int, size: int) -> Any:
        claim = claim_chunk(operation_id, size)
        with seen:
            claimed_by[threading.current_thread().name] |= {item.pk for item in claim.items}
        return claim

    monkeypatch.setattr(execution.claims, "claim_chunk", noted)
    leader = in_thread("leader", lambda: services.execute_operation(operation.pk))
    helper = in_thread("helper", lambda: help_until_ended(operation))
    leader.join(120)
    helper.join(120)

    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert operation.pk in asked
    assert len(claimed_by["helper"]) > 3
    assert len(claimed_by["leader"]) > 3
    assert not claimed_by["helper"] & claimed_by["leader"]
    outcomes = Counter(operation.items.values_list("outcome", flat=True))
    assert set(outcomes) <= {OperationItem.Outcome.DONE, OperationItem.Outcome.ALREADY_SO}
    writes = Counter(
        (entry["account"], entry["path"])
        for entry in sandbox.control.get("ledger")["entries"]
        if "/_control/" not in entry["path"]
    )
    assert set(writes.values()) == {1}
    assert len(writes) == outcomes[OperationItem.Outcome.DONE]
    assert not RunDriver.objects.exists()


def help_until_ended(operation: Operation) -> None:
    """What the queue does with the messages that ask for help, until the run is over."""
    until = timezone.now() + timedelta(seconds=100)
    while timezone.now() < until:
        services.help_operation(operation.pk)
        if Operation.objects.get(pk=operation.pk).status not in Operation.OPEN:
            return


@pytest.mark.parametrize("change", ["not begun", "nobody leads", "held", "over", "gone"])
def test_help_that_comes_too_early_or_too_late_does_nothing(
    organization: Organization, plan: Plan, sandbox: Sandbox, change: str
) -> None:
    operation = plan()
    values: dict[str, dict[str, Any]] = {
        "not begun": {"status": "running", "driven_at": timezone.now()},
        "nobody leads": {"status": "running", "first_write_at": timezone.now()},
        "held": {"status": "held", "driven_at": timezone.now(), "first_write_at": timezone.now()},
        "over": {"status": "succeeded", "driven_at": timezone.now(), "first_write_at": timezone.now()},
        "gone": {},
    }
    Operation.objects.filter(pk=operation.pk).update(**{"name": "Run", **values[change]})

    services.help_operation(operation.pk if change != "gone" else operation.pk + 1000)

    assert set(operation.items.values_list("status", flat=True)) == {"pending"}
    assert [e for e in sandbox.control.get("ledger")["entries"] if "/_control/" not in e["path"]] == []
    assert not RunDriver.objects.exists()
