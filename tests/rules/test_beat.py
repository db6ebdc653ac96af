"""Beat's scheduler, and what piles up while no worker runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from django_celery_beat.models import PeriodicTask

from apps.operations import tasks
from apps.rules.scheduler import WatchfulScheduler
from aum.celery import app
from aum.common.tasks import enqueue_again

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tasks that beat hands over."""
    names: list[str] = []
    # It would close the connection of the test.
    monkeypatch.setattr(WatchfulScheduler, "schedule_changed", lambda _self: False)
    monkeypatch.setattr("django_celery_beat.schedulers.close_old_connections", lambda: None)
    monkeypatch.setattr(WatchfulScheduler, "apply_async", lambda _self, entry, **_kwargs: names.append(entry.task))
    return names


def ticks(scheduler: WatchfulScheduler) -> None:
    for _ in range(60):
        scheduler.tick()


def test_beat_goes_on_after_the_clock_was_put_back(sent: list[str]) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        scheduler = WatchfulScheduler(app=app)
        clock.shift(timedelta(minutes=15))
        ticks(scheduler)
        assert "operations.sweep" in sent
        sent.clear()

        clock.move_to(NOW)
        ticks(scheduler)
        clock.shift(timedelta(seconds=61))
        ticks(scheduler)

    assert {"operations.sweep", "users.sync_sweep", "rules.sweep"} <= set(sent)


def test_beat_that_starts_after_the_clock_was_put_back_does_not_wait_for_the_later_time(sent: list[str]) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        WatchfulScheduler(app=app)
        PeriodicTask.objects.update(last_run_at=NOW + timedelta(hours=1))
        scheduler = WatchfulScheduler(app=app)
        ticks(scheduler)
        clock.shift(timedelta(seconds=61))
        ticks(scheduler)

    assert "operations.sweep" in sent


def as_from_beat(task: Any) -> None:
    """Run a task as a worker does with beat's message."""
    task.push_request(periodic_task_name=task.name)
    try:
        task()
    finally:
        task.pop_request()


def test_of_sweeps_that_piled_up_one_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[int] = []
    monkeypatch.setattr(tasks, "services", SimpleNamespace(sweep=lambda: swept.append(1)))

    for _ in range(100):
        as_from_beat(tasks.sweep)
    assert len(swept) == 1

    # One that a person or a service asks for is no repetition.
    tasks.sweep()
    assert len(swept) == 2


def test_a_sweep_does_not_ask_again_for_what_still_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr("aum.common.tasks.current_app", SimpleNamespace(send_task=lambda *_a, **k: sent.append(k)))
    monkeypatch.setattr(tasks, "services", SimpleNamespace(execute_operation=lambda _operation: None))

    for _ in range(5):
        enqueue_again("operations.execute", operation_id=7)
    enqueue_again("operations.execute", operation_id=8)
    assert [one["kwargs"] for one in sent] == [{"operation_id": 7}, {"operation_id": 8}]

    # A worker took it up, and may have died since.
    tasks.execute.apply(kwargs={"operation_id": 7})
    enqueue_again("operations.execute", operation_id=7)
    assert len(sent) == 3
