"""Data migrations over a real table: cut, claimed, killed, repeated, paused, split, waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection, connections

from apps.migrations_mgmt import registry, services
from apps.migrations_mgmt.models import Backfill, BackfillBatch
from apps.migrations_mgmt.registry import Spec, register, unregister
from apps.migrations_mgmt.selectors import backfills, failed_batches
from apps.migrations_mgmt.services import BackfillNotFinished, UnknownBackfill, WrongState, ensure_finished
from apps.organizations.models import Organization

pytestmark = pytest.mark.django_db
ROWS = 23
Apply = Callable[[int, int], int]


def make_rows() -> list[int]:
    """23 organisations with gaps in their ids; returns the ids."""
    for number in range(ROWS * 2):
        Organization.objects.create(slug=f"o{number}", name="x", org_id=str(number), api_url="http://localhost")
    Organization.objects.filter(pk__in=list(Organization.objects.values_list("pk", flat=True))[::2]).delete()
    return list(Organization.objects.order_by("pk").values_list("pk", flat=True))


def count_up(first_pk: int, last_pk: int) -> int:
    """Not idempotent on purpose: a row that is touched twice shows."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE organizations_organization SET snooze_days = snooze_days + 1 WHERE id BETWEEN %s AND %s",
            [first_pk, last_pk],
        )
        return int(cursor.rowcount)


@pytest.fixture(autouse=True)
def _none_of_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product's own data migrations stay out of what is counted here."""
    monkeypatch.setattr(registry, "_specs", {})


@pytest.fixture
def registered() -> Iterator[Callable[..., Spec]]:
    made: list[Spec] = []

    def make(
        apply_batch: Apply = count_up, *, name: str = "organizations.snooze", version: int = 1, **options: Any
    ) -> Spec:
        values: dict[str, Any] = {"table": "organizations_organization", "batch_size": 5} | options
        made.append(register(name, version, description="Counts up", apply_batch=apply_batch, **values))
        return made[-1]

    yield make
    for spec in made:
        unregister(spec)


def touched() -> list[int]:
    return [snooze - 30 for snooze in Organization.objects.order_by("pk").values_list("snooze_days", flat=True)]


def the_backfill() -> Backfill:
    return Backfill.objects.get()


def test_every_row_is_migrated_once(registered: Callable[..., Spec]) -> None:
    make_rows()
    registered()

    tried = services.advance()

    backfill = the_backfill()
    assert tried == 5
    assert touched() == [1] * ROWS
    assert (backfill.status, backfill.total, backfill.done, backfill.percent) == ("finished", ROWS, ROWS, 100)
    assert backfill.finished_at is not None
    assert [batch.status for batch in backfill.batches.all()] == ["finished"] * 5


def test_nothing_happens_when_it_runs_again(registered: Callable[..., Spec]) -> None:
    make_rows()
    registered()
    services.advance()

    assert services.advance() == 0
    assert touched() == [1] * ROWS


def test_more_batches_are_cut_than_fit_one_look_ahead(
    registered: Callable[..., Spec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "BATCHES_AHEAD", 2)
    make_rows()
    registered(batch_size=3)

    assert services.advance() == 8
    assert touched() == [1] * ROWS


def test_empty_table_finishes_at_once(registered: Callable[..., Spec]) -> None:
    registered()

    services.advance()

    assert (the_backfill().status, the_backfill().percent) == ("finished", 100)


def test_work_stops_when_its_time_is_over_and_goes_on_later(registered: Callable[..., Spec]) -> None:
    make_rows()
    registered()

    services.advance(budget_seconds=0)
    assert (the_backfill().status, touched()) == ("running", [0] * ROWS)

    services.advance()
    assert touched() == [1] * ROWS


def test_paused_migration_waits_until_it_is_resumed(registered: Callable[..., Spec]) -> None:
    make_rows()
    registered()
    services.advance(budget_seconds=0)
    services.run_next_batch(the_backfill())

    services.pause(the_backfill())
    services.advance()
    during = touched()
    services.resume(the_backfill())
    services.advance()

    assert during == [1] * 5 + [0] * (ROWS - 5)
    assert touched() == [1] * ROWS


def test_paused_before_its_start_it_starts_after_resume(registered: Callable[..., Spec]) -> None:
    make_rows()
    registered()
    [backfill] = services.discover()

    services.pause(backfill)
    services.advance()
    assert touched() == [0] * ROWS
    services.resume(backfill)
    services.advance()

    assert (touched(), the_backfill().total) == ([1] * ROWS, ROWS)


@pytest.mark.parametrize("change", [services.pause, services.resume, services.retry_failed])
def test_finished_migration_refuses_to_be_paused_resumed_or_retried(
    registered: Callable[..., Spec], change: Callable[[Backfill], object]
) -> None:
    registered()
    services.advance()

    with pytest.raises(WrongState, match="finished"):
        change(the_backfill())


def test_bad_row_stands_alone_and_the_others_are_migrated(registered: Callable[..., Spec]) -> None:
    ids = make_rows()
    bad = ids[7]

    def apply(first_pk: int, last_pk: int) -> int:
        rows = count_up(first_pk, last_pk)
        if first_pk <= bad <= last_pk:
            raise ValueError("bad row")
        return rows

    registered(apply)

    services.advance()

    backfill = the_backfill()
    assert touched() == [0 if pk == bad else 1 for pk in ids]
    assert [(batch.first_pk, batch.last_pk) for batch in failed_batches(backfill)] == [(bad, bad)]
    assert backfill.status == "failed"
    assert backfill.failed_reason == f"Failed rows: 1. The first, {bad}: ValueError: bad row"
    assert backfill.done == ROWS - 1


def test_retry_migrates_the_failed_rows_when_their_trouble_is_gone(registered: Callable[..., Spec]) -> None:
    ids = make_rows()
    trouble = {ids[3], ids[20]}

    def apply(first_pk: int, last_pk: int) -> int:
        if any(first_pk <= pk <= last_pk for pk in trouble):
            raise ValueError("bad row")
        return count_up(first_pk, last_pk)

    registered(apply)
    services.advance()
    trouble.clear()

    retried = services.retry_failed(the_backfill())
    services.advance()

    assert retried == 2
    assert touched() == [1] * ROWS
    assert (the_backfill().status, the_backfill().failed_reason) == ("finished", "")


def test_batch_that_fails_once_is_tried_again_whole(registered: Callable[..., Spec]) -> None:
    make_rows()
    calls: list[tuple[int, int]] = []

    def apply(first_pk: int, last_pk: int) -> int:
        calls.append((first_pk, last_pk))
        if len(calls) == 1:
            raise DatabaseError("deadlock")
        return count_up(first_pk, last_pk)

    registered(apply)
    services.advance()

    assert calls[0] == calls[1]
    assert len(calls) == 6
    assert touched() == [1] * ROWS
    assert the_backfill().status == "finished"


def test_ensure_finished_runs_it_here_and_now(registered: Callable[..., Spec]) -> None:
    make_rows()
    registered()

    ensure_finished("organizations.snooze")

    assert touched() == [1] * ROWS


def test_ensure_finished_takes_the_newest_version(registered: Callable[..., Spec]) -> None:
    make_rows()
    registered()
    registered(version=2)

    ensure_finished("organizations.snooze")

    assert list(Backfill.objects.values_list("version", "status")) == [(2, "finished")]


def test_ensure_finished_says_why_not(registered: Callable[..., Spec]) -> None:
    make_rows()

    def apply(first_pk: int, last_pk: int) -> int:
        raise ValueError("bad row")

    registered(apply)
    with pytest.raises(BackfillNotFinished, match=r"Failed rows: \d+\. The first, \d+: ValueError: bad row"):
        ensure_finished("organizations.snooze")

    registered(name="organizations.other")
    services.discover()
    services.pause(Backfill.objects.get(name="organizations.other"))
    with pytest.raises(BackfillNotFinished, match="paused"):
        ensure_finished("organizations.other")

    with pytest.raises(UnknownBackfill):
        ensure_finished("nobody.knows")


def test_row_stays_when_its_code_is_gone(registered: Callable[..., Spec]) -> None:
    make_rows()
    spec = registered()
    services.advance(budget_seconds=0)
    unregister(spec)

    assert services.advance() == 0
    assert the_backfill().status == "running"
    with pytest.raises(UnknownBackfill):
        services.run_next_batch(the_backfill())


def test_cleaned_migration_keeps_name_version_and_finish(registered: Callable[..., Spec]) -> None:
    make_rows()
    registered()
    services.advance(budget_seconds=0)
    services.clean(the_backfill())
    assert list(backfills()) == [the_backfill()]
    services.advance()

    services.clean(the_backfill())
    services.advance()

    assert list(backfills()) == []
    assert [one.finished_at is not None for one in backfills(with_hidden=True)] == [True]
    assert not BackfillBatch.objects.exists()
    assert touched() == [1] * ROWS


def test_two_registrations_of_one_version_are_refused(registered: Callable[..., Spec]) -> None:
    registered()

    with pytest.raises(ImproperlyConfigured, match="twice"):
        registered()
    with pytest.raises(ImproperlyConfigured, match="needs a table"):
        register("x", 1, description="", apply_batch=count_up)


WORKER = """
import time
import django
django.setup()
from django.db import connection
from apps.migrations_mgmt import registry, services
from apps.migrations_mgmt.models import Backfill

def apply(first_pk, last_pk):
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE organizations_organization SET snooze_days = 99 WHERE id BETWEEN %s AND %s", [first_pk, last_pk]
        )
    print("inside", flush=True)
    time.sleep(60)

registry.register("organizations.snooze", 1, description="", apply_batch=apply, table="organizations_organization")
services.run_next_batch(Backfill.objects.get())
"""


@pytest.mark.django_db(transaction=True)
def test_killed_worker_leaves_nothing_behind(registered: Callable[..., Spec]) -> None:
    make_rows()
    registered()
    services.advance(budget_seconds=0)
    database = connection.settings_dict
    url = (
        f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    )
    environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE}
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=environment, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "inside\n"
    batch = BackfillBatch.objects.order_by("first_pk").first()

    worker.kill()
    worker.wait(20)
    ensure_finished("organizations.snooze", timeout_seconds=30)

    assert batch is not None
    assert touched() == [1] * ROWS
    assert BackfillBatch.objects.get(pk=batch.pk).attempts == 0


@pytest.mark.django_db(transaction=True)
def test_two_workers_share_the_batches(registered: Callable[..., Spec]) -> None:
    ids = make_rows()
    inside, go_on = threading.Event(), threading.Event()

    def apply(first_pk: int, last_pk: int) -> int:
        rows = count_up(first_pk, last_pk)
        if first_pk == ids[0]:
            inside.set()
            go_on.wait(20)
        return rows

    registered(apply)
    services.advance(budget_seconds=0)

    def worker() -> None:
        try:
            services.run_next_batch(the_backfill())
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(worker)
        assert inside.wait(20)
        tried = services.advance()
        while_held = (the_backfill().status, touched())
        go_on.set()
        slow.result(timeout=30)
    services.advance()

    assert tried == 4
    assert while_held == ("running", [0] * 5 + [1] * (ROWS - 5))
    assert touched() == [1] * ROWS
    assert (the_backfill().status, the_backfill().done) == ("finished", ROWS)
