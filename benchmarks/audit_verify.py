"""The audit log at a large size: appended, sealed, verified, filtered and exported, beside limits of the same run.

    script/bench audit --size 1000000

Appending is held against a bare COPY of the same rows into the same table; verification against a bare reading of the
same rows with one SHA-256 each; each page of the detailed view against the same page of the first 10,000 rows
(targets of PERFORMANCE.md: 0.6 of COPY, pages at most twice as long and 100 ms of SQL). Asserts that the log verifies
and that the filters find what was written.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import common

SMALL = 10_000
ACTIONS = ("account.suspend", "account.restore", "account.remove_from_group", "account.deactivate")


def _rows(count: int, start: int = 0) -> Iterator[Any]:
    from apps.audit.services import Actor, EventRow

    actors = [Actor("operator", str(number), f"Admin {number}", f"admin{number}@example.com") for number in range(5)]
    for number in range(start, start + count):
        yield EventRow(
            actor=actors[number % 5],
            action=ACTIONS[number % 4],
            outcome="failed" if number % 97 == 0 else "success",
            target_kind="account",
            target_ref=f"557058:{number % 50_000}",
            target_name=f"Person {number % 50_000}",
            target_email=f"person{number % 50_000}@example.com",
            operation_id=number // 500 + 1,
            operation_number=number // 500 + 1,
            rule_name="Nightly cleanup of contractors" if number % 3 else "",
            group_name="jira-software-users",
            reason="Quarterly heliotrope review." if number % 20_011 == 7 else "",
            before={"status": "active"},
            after={"status": "suspended", "target": f"directory:d{number % 7}"},
        )


def _append(organization: Any, count: int) -> float:
    from django.db import transaction

    from apps.audit.services import record_many

    def work() -> None:
        with transaction.atomic():
            record_many(organization=organization, rows=_rows(count))

    return common.timed(work)


def _bare_copy(organization: Any, count: int) -> float:
    """The same rows by COPY alone, their values made beforehand; taken back."""
    from django.db import connection, transaction

    from apps.audit.services import writing

    rows = list(_rows(count))
    identities = writing._lock_and_resolve(organization.pk, rows)
    values = list(writing._values(organization.pk, rows, identities))
    with transaction.atomic():
        seconds = common.timed(lambda: writing._copy(values))
        transaction.set_rollback(True)
    connection.close()
    return seconds


def _bare_read(organization: Any) -> float:
    from django.db import connection

    from apps.audit.chain import ROWS_SQL

    def work() -> None:
        after = 0
        while True:
            with connection.cursor() as cursor:
                cursor.execute(
                    f"{ROWS_SQL} WHERE e.organization_id = %s AND e.id > %s ORDER BY e.id LIMIT 5000",
                    [organization.pk, after],
                )
                rows = cursor.fetchall()
            for row in rows:
                hashlib.sha256(repr(row).encode()).digest()
            if len(rows) < 5000:
                return
            after = rows[-1][0]

    return common.timed(work)


def _pages() -> dict[str, Any]:
    from apps.audit.selectors import EventFilters

    return {
        "first page": EventFilters(),
        "failed": EventFilters(statuses=("failed",)),
        "one person": EventFilters(person="person4711@"),
        "one performer": EventFilters(person="admin3@"),
        "frequent words": EventFilters(search="nightly cleanup"),
        "rare word": EventFilters(search="heliotrope"),
        "word that nobody wrote": EventFilters(search="zirconium"),
    }


def _page_seconds(organization: Any, filters: Any, rounds: int) -> float:
    from apps.audit.selectors import lines

    times = [common.timed(lambda: lines(organization, filters, 50)) for _ in range(rounds + 1)]
    return statistics.median(times[1:])


def _filled(slug: str, count: int) -> tuple[Any, float]:
    """An organisation with `count` sealed events, their words stored, and the seconds of appending them."""
    from django.db import connection

    from apps.audit.services import seal
    from apps.organizations.models import Organization

    organization = Organization.objects.create(slug=slug, name=slug, org_id=slug, api_url="http://localhost")
    seconds = _append(organization, count)
    sealing = common.timed(lambda: seal(organization))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE audit_auditevent, audit_auditidentity, audit_auditsearch")
    print(f"{slug}: {count:,} appended in {seconds:.1f} s, sealed with their words in {sealing:.1f} s", flush=True)
    return organization, seconds


def measure(run: common.Run) -> None:
    from apps.audit import registry
    from apps.audit.selectors import export_rows, lines
    from apps.audit.services import verify

    registry.register_words_complete(lambda _organization: True)
    small, _ = _filled("small", SMALL)
    large, _ = _filled("large", run.size)
    third, _ = _filled("third", 100)
    sample = min(run.size, 100_000) // 10
    run.compare(
        "appended in bulk",
        aum=lambda: _append(third, sample),
        limit=lambda: _bare_copy(third, sample),
        limit_is="bare COPY into the same indexes",
        target=common.at_least(0.6),
    )

    def verified() -> float:
        began = time.perf_counter()
        result = verify(large)
        assert result.ok, result.first_broken[:3]
        assert result.rows == run.size
        return time.perf_counter() - began

    run.compare(
        "verified, every entry named that differs",
        aum=verified,
        limit=lambda: _bare_read(large),
        limit_is="reading the rows with one SHA-256 each",
        rounds=1,
    )
    for name, filters in _pages().items():
        run.add(
            f"page: {name}",
            aum=[_page_seconds(large, filters, run.rounds)],
            limit=[_page_seconds(small, filters, run.rounds)],
            limit_is=f"of {SMALL:,} entries",
            target=common.at_most(2),
            curve=False,
        )
    assert len(lines(large, _pages()["rare word"], 500)) == sum(1 for n in range(run.size) if n % 20_011 == 7)
    assert lines(large, _pages()["word that nobody wrote"], 50) == []
    exported = 0

    def export() -> None:
        nonlocal exported
        exported = sum(1 for _ in export_rows(large))

    run.figure("exported, rows a second", run.size / common.timed(export), "")
    assert exported == run.size + 1
    run.figure("peak memory", common.peak_memory_mb(), "MB")


BENCHMARK = common.Benchmark(
    "audit", "The audit log", measure, sizes=(100_000, 1_000_000, 10_000_000), default_size=100_000, size_is="entries"
)
