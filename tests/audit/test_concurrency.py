"""Writers and sealers at the same time, with real commits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.db import connection, connections, transaction

from apps.audit.locks import SEALER, lock_key
from apps.audit.models import AuditEvent, AuditIdentity, AuditSegment
from apps.audit.services import ensure_partitions, purge_segments, record_many, seal, verify
from apps.organizations.models import Organization
from tests.audit.conftest import ANNA, make_organization, row, write
from tests.audit.test_chain import future

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` on a connection of its own beside the block; its exception is raised at the end."""

    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        future_result = pool.submit(run)
        try:
            yield
        finally:
            future_result.result(timeout=30)


def sealed_ids(organization: Organization) -> list[int]:
    ids = []
    for segment in AuditSegment.objects.of(organization).order_by("number"):
        digests = bytes(segment.digests)
        ids += [int.from_bytes(digests[start : start + 8], "big") for start in range(0, len(digests), 40)]
    return ids


def test_no_event_is_left_behind_when_a_writer_commits_late() -> None:
    organization = make_organization("acme")
    written, may_commit = threading.Event(), threading.Event()
    # The people are known before, or the second writer would wait for the first one's new identities.
    write(organization, 3)

    def slow_writer() -> None:
        with transaction.atomic():
            write(organization, 1)
            written.set()
            may_commit.wait(10)

    with in_thread(slow_writer):
        assert written.wait(10)
        write(organization, 3)
        early = seal(organization)
        may_commit.set()

    late = seal(organization)
    assert (early, late) == (0, 1)
    assert sealed_ids(organization) == list(AuditEvent.objects.order_by("id").values_list("id", flat=True))
    assert verify(organization).ok


def test_writers_of_one_organization_do_not_hold_up_the_sealing_of_another() -> None:
    organization, other = make_organization("acme"), make_organization("other")
    write(other, 2)

    with transaction.atomic():
        write(organization, 1)
        with in_thread(lambda: seal(other)):
            pass

    assert AuditSegment.objects.of(other).count() == 1


def test_every_event_is_sealed_once_when_writers_and_sealers_race(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.audit.services.sealing.SEGMENT_ROWS", 25)
    organization = make_organization("acme")
    ends_at = time.monotonic() + 3
    batches = [3, 60, 1]

    def writer(batch: int) -> None:
        number = 0
        while time.monotonic() < ends_at:
            with transaction.atomic():
                # People overlap between the writers, so identities race as well.
                record_many(organization=organization, rows=[row(number + n) for n in range(batch)])
                record_many(organization=organization, rows=[row(number)])
            number += batch

    def sealer() -> None:
        while time.monotonic() < ends_at:
            seal(organization)

    def closing(work: Callable[[], object]) -> None:
        try:
            work()
        finally:
            connections.close_all()

    jobs: list[Callable[[], object]] = [sealer, sealer]
    jobs += [lambda batch=batch: writer(batch) for batch in batches]  # type: ignore[misc]
    with ThreadPoolExecutor(len(jobs)) as pool:
        for result in [pool.submit(closing, job) for job in jobs]:
            result.result(timeout=60)
    seal(organization)

    ids = list(AuditEvent.objects.order_by("id").values_list("id", flat=True))
    assert len(ids) > 100
    assert sealed_ids(organization) == ids
    assert verify(organization).ok
    keys = list(AuditIdentity.objects.values_list("kind", "key"))
    assert len(keys) == len(set(keys))


def test_second_sealer_does_nothing_when_one_is_at_work() -> None:
    organization = make_organization("acme")
    write(organization, 2)
    results: list[int] = []

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", lock_key(SEALER, organization.pk))
        with in_thread(lambda: results.append(seal(organization))):
            pass

    assert results == [0]
    assert seal(organization) == 1


def test_verify_accepts_a_purge_that_happens_while_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.audit.services.sealing.SEGMENT_ROWS", 4)
    organization = make_organization("acme")
    write(organization, 10)
    seal(organization)
    purged: list[int] = []

    def purge_once(done: int, _total: int) -> None:
        if done == 1:
            purged.append(purge_segments(organization, future(), actor=ANNA))

    report = verify(organization, on_progress=purge_once)

    assert purged == [10]
    assert report.ok
    assert report.purged_segments == 2


def test_verify_accepts_a_purge_between_a_segment_and_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    organization = make_organization("acme")
    write(organization, 10)
    seal(organization)
    from apps.audit.services import verification

    read = verification._batches
    purged: list[int] = []

    def batches(*arguments: int) -> object:
        if not purged:
            purged.append(0)
            with in_thread(lambda: purged.append(purge_segments(organization, future(), actor=ANNA))):
                pass
        return read(*arguments)

    monkeypatch.setattr(verification, "_batches", batches)

    assert verify(organization).ok
    assert purged == [0, 10]


def test_partitions_are_made_once_when_two_make_them() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_auditevent'::regclass")
        before = cursor.fetchone()[0]
    created: list[str] = []

    def make() -> None:
        try:
            created.extend(ensure_partitions(5))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(3) as pool:
        for result in [pool.submit(make) for _ in range(3)]:
            result.result(timeout=30)

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_auditevent'::regclass")
        assert cursor.fetchone()[0] == before + len(created) == before + len(set(created))
