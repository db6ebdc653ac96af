"""Clearing, retention, imports of other logs, words to search by, and verification with progress."""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from apps.audit import registry
from apps.audit import search as searching
from apps.audit.models import (
    AuditEvent,
    AuditSearch,
    ImportedEvent,
    LogClearance,
    LogImport,
    RetentionPolicy,
    Verification,
)
from apps.audit.search import store_words, tsquery
from apps.audit.selectors import EventFilters, archive_parts, events, export_rows, lines, people_in_log
from apps.audit.services import (
    AlreadyImported,
    EventRow,
    PastEventRow,
    apply_retention,
    carry_out_clearance,
    clear_logs,
    clear_phrase,
    clearing,
    erase_identity,
    erase_imported,
    importing,
    record_many,
    resume_clearances,
    run_log_import,
    run_verification,
    seal,
    set_retention,
    start_log_import,
    start_verification,
    verify,
    verifying,
)
from apps.audit.services.importing import parse_instant
from apps.audit.services.partitions import adopt_month, build_index, months_in_default, partitions_without_index
from apps.organizations.models import Alert, Organization
from aum.common.errors import InvalidInput
from tests.audit.conftest import ANNA, attacker, row, write

pytestmark = pytest.mark.django_db

REFERENCE = """Timestamp,Operation,Rule Name,Performed By,Status,User Email,User Action,Group
"24 Sep 2026, 06:00",Scheduled Cleanup,Nightly,Automated,Success,birch@example.com,Suspend User,contractors
2026-09-24 06:00:02,Scheduled Cleanup,Nightly,Automated,Failed,clary@example.com,Suspend User,contractors
2026-09-24 06:00:02,Scheduled Cleanup,Nightly,Automated,Failed,clary@example.com,Suspend User,contractors
09/10/2026 06:00,Manual Operation,,juniper@example.com,Success,dill@example.com,Remove Access,
2026-09-25T06:00:03+02:00,Manual Operation,,juniper@example.com,Partial Failure,'=dill@example.com,Remove Access,jira
"""


def _past(event: EventRow, at: datetime) -> PastEventRow:
    return PastEventRow(**{field.name: getattr(event, field.name) for field in fields(event)}, at=at)


def clear(organization: Organization, operations: int = 0) -> LogClearance:
    return clear_logs(
        organization=organization,
        phrase=clear_phrase(organization),
        reason="New year",
        operations=operations,
        actor=ANNA,
    )


# --- clearing -------------------------------------------------------------------------------------------------------


def test_cleared_records_leave_view_and_export_and_the_chain_stays_valid(
    organization: Organization, other: Organization
) -> None:
    write(organization, 7)
    write(other, 2)

    clearance = clear(organization, operations=3)

    left = [event.action for event in events(organization)]
    assert left == ["audit.cleared"]
    assert len(list(export_rows(organization))) == 2
    assert AuditEvent.objects.of(organization).count() == 8
    carry_out_clearance(clearance.pk)
    clearance.refresh_from_db()
    assert (clearance.status, clearance.events, clearance.removed) == ("finished", 7, 7)
    assert AuditEvent.objects.of(organization).filter(target_ref="557058:1").count() == 0
    assert AuditSearch.objects.of(organization).count() == 0
    seal(organization)
    report = verify(organization)
    assert report.ok, report.first_broken
    assert report.purged_segments == 1
    assert events(other).count() == 2
    entry = AuditEvent.objects.of(organization).get(action="audit.cleared")
    assert (entry.actor.name, entry.before) == (
        "Anna Admin",
        {"events": 7, "operations": 3, "through_event": clearance.through_event_id},
    )


def test_the_archive_holds_what_was_cleared(organization: Organization) -> None:
    write(organization, 5)
    clearance = clear(organization)
    carry_out_clearance(clearance.pk)
    clearance.refresh_from_db()

    text = gzip.decompress(b"".join(archive_parts(clearance))).decode()

    rows = list(csv.DictReader(io.StringIO(text)))
    assert [cells["target_ref"] for cells in rows] == [f"557058:{number}" for number in (5, 4, 3, 2, 1)]
    assert clearance.size_bytes == sum(len(part) for part in archive_parts(clearance))


def test_a_killed_clearance_goes_on_and_twice_does_no_harm(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_arguments: object, **_options: object) -> int:
        raise KeyboardInterrupt

    write(organization, 3)
    clearance = clear(organization)
    monkeypatch.setattr(clearing, "purge_segments", killed)
    with pytest.raises(KeyboardInterrupt):
        carry_out_clearance(clearance.pk)
    monkeypatch.undo()
    clearance.refresh_from_db()
    assert clearance.status == "removing"
    LogClearance.objects.update(requested_at=timezone.now() - timedelta(minutes=5))

    resume_clearances()
    carry_out_clearance(clearance.pk)
    carry_out_clearance(clearance.pk)

    clearance.refresh_from_db()
    assert (clearance.status, clearance.removed) == ("finished", 3)


def test_tampered_entries_are_hidden_and_not_removed(organization: Organization) -> None:
    write(organization, 3)
    seal(organization)
    with attacker() as run:
        run("UPDATE audit_auditevent SET reason = 'x' WHERE organization_id = %s", organization.pk)
    clearance = clear(organization)

    carry_out_clearance(clearance.pk)

    clearance.refresh_from_db()
    assert clearance.status == "failed"
    assert AuditEvent.objects.of(organization).filter(target_ref="557058:1").exists()
    assert Alert.objects.of(organization).get().kind == "audit_clear_failed"


@pytest.mark.parametrize(
    ("phrase", "reason", "field"), [("clear logs", "x", "phrase"), ("clear logs of acme", " ", "reason")]
)
def test_clearing_asks_for_phrase_and_reason(organization: Organization, phrase: str, reason: str, field: str) -> None:
    write(organization, 1)

    with pytest.raises(InvalidInput) as refused:
        clear_logs(organization=organization, phrase=phrase, reason=reason, operations=0, actor=ANNA)

    assert list(refused.value.fields) == [field]
    assert LogClearance.objects.count() == 0


# --- retention ------------------------------------------------------------------------------------------------------


def test_retention_removes_whole_old_segments_and_says_so(organization: Organization) -> None:
    write(organization, 4)
    seal(organization)
    set_retention(organization=organization, days={"events": 30}, actor=ANNA)

    assert apply_retention(organization) == {"events": 0}
    RetentionPolicy.objects.update(days=1)
    before = datetime.now(UTC)
    policy = RetentionPolicy.objects.get()
    assert policy.last_run_at is not None
    assert policy.last_run_at <= before
    # A day later the segment is old enough.
    with time_machine.travel(datetime.now(UTC) + timedelta(days=2), tick=True):
        assert apply_retention(organization)["events"] >= 4
    assert verify(organization).ok
    changed = AuditEvent.objects.of(organization).get(action="retention.changed")
    assert (changed.before, changed.after) == ({"events": None}, {"events": 30})


@pytest.mark.parametrize("days", [{"nothing": 3}, {"events": 0}, {"events": 4000}])
def test_a_wrong_period_is_refused_by_name(organization: Organization, days: dict[str, int | None]) -> None:
    with pytest.raises(InvalidInput) as refused:
        set_retention(organization=organization, days=days, actor=ANNA)

    assert list(refused.value.fields) == list(days)
    assert RetentionPolicy.objects.count() == 0


def test_a_period_that_is_taken_back_keeps_everything(organization: Organization) -> None:
    set_retention(organization=organization, days={"events": 5, "archives": 9}, actor=ANNA)
    set_retention(organization=organization, days={"events": None, "archives": 9}, actor=ANNA)

    assert [policy.kind for policy in RetentionPolicy.objects.all()] == ["archives"]
    assert AuditEvent.objects.of(organization).filter(action="retention.changed").count() == 2


# --- imports --------------------------------------------------------------------------------------------------------


def started(organization: Organization, text: str = REFERENCE) -> LogImport:
    return start_log_import(organization=organization, name="audit.csv", content=text.encode(), actor=ANNA)


def test_another_products_log_is_taken_over_and_found_by_the_same_filters(organization: Organization) -> None:
    found = run_log_import(started(organization).pk)

    assert (found.status, found.lines, found.done, found.added, found.refused) == ("finished", 5, 5, 4, 1)
    assert found.errors[0]["line"] == 5
    shown = lines(organization, EventFilters(kinds=("scheduled_cleanup",), statuses=("failed",)), 10)
    assert [(line.user, line.status_label, line.is_imported) for line in shown] == [
        ("clary@example.com", "Failed", True)
    ] * 2
    by_person = lines(organization, EventFilters(person="dill@"), 10)
    assert [(line.at, line.group, line.badge) for line in by_person] == [
        (datetime(2026, 9, 25, 4, 0, 3, tzinfo=UTC), "jira", "partial")
    ]
    assert len(lines(organization, EventFilters(search="nightly contractors"), 10)) == 3
    assert verify(organization).rows == 0


def test_the_same_file_is_refused_and_the_same_lines_are_taken_over_once(organization: Organization) -> None:
    run_log_import(started(organization).pk)
    with pytest.raises(AlreadyImported):
        started(organization)

    again = run_log_import(started(organization, REFERENCE + "2026-10-01 00:00:00,Migration,,x,Success,,,\n").pk)

    assert again.added == 1
    assert ImportedEvent.objects.count() == 5


def test_a_killed_import_goes_on_where_it_was(organization: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_LINES", 2)
    row_ = started(organization)
    real = importing._take
    calls: list[int] = []

    def killed(*arguments: object) -> bool:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(importing, "_take", killed)
    with pytest.raises(KeyboardInterrupt):
        run_log_import(row_.pk)
    row_.refresh_from_db()
    assert (row_.status, row_.done) == ("running", 2)
    monkeypatch.setattr(importing, "_take", real)

    finished = run_log_import(row_.pk)

    assert (finished.status, finished.done, finished.added) == ("finished", 5, 4)
    assert finished.content is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"Name,Mail\nx,y\n", "no column Timestamp and no Operation and no Status"),
        ("Timestamp,Operation,Status\n2026,\xff".encode("latin-1"), "UTF-8"),
    ],
)
def test_a_file_that_is_no_audit_log_says_what_is_missing(
    organization: Organization, content: bytes, sentence: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        start_log_import(organization=organization, name="x.csv", content=content, actor=ANNA)

    assert sentence in refused.value.fields["file"][0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T11:50:00Z", datetime(2026, 11, 24, 11, 50, tzinfo=UTC)),
        ("24 Nov 2026, 11:50 UTC", datetime(2026, 11, 24, 11, 50, tzinfo=UTC)),
        ("Nov 24, 2026 11:50:08 PM", datetime(2026, 11, 24, 23, 50, 8, tzinfo=UTC)),
        ("03/04/2026 10:00", None),
        ("2026-11-24", None),
        ("", None),
        ("0001-01-01 00:00:00", None),
    ],
)
def test_times_are_read_without_guessing(text: str, expected: datetime | None) -> None:
    assert parse_instant(text) == expected


# --- words, erasure, verification, layout ---------------------------------------------------------------------------


# How a search goes about it: (words of sealed entries are stored, how often among the newest is frequent, how many
# matches are named one by one).
WAYS = {"collected": (True, 99, 99), "walked": (True, 0, 99), "judged": (True, 99, 0), "without": (False, 99, 99)}


def search_by(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    is_complete, often, most = WAYS[way]
    monkeypatch.setattr(registry, "_words_complete", lambda _organization: is_complete)
    monkeypatch.setattr(searching, "FREQUENT_IN_SAMPLE", often)
    monkeypatch.setattr(searching, "MOST_FOUND", most)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("suspend", ["3", "2", "1"]),
        ("REASON ten", ["2"]),
        ("jira-soft", ["2"]),
        ("person2@exam", ["2"]),
        ("557058:3", ["3"]),
        ("nothing", []),
        ("' & !", []),
        ("100%", []),
    ],
)
def test_words_find_the_same_with_the_index_and_without(
    organization: Organization, monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str], way: str
) -> None:
    search_by(monkeypatch, way)
    write(organization, 1)
    record_many(organization=organization, rows=[row(2, reason="Reason: ten days", group_name="jira-software-users")])
    seal(organization)
    write_third = [row(3)]
    record_many(organization=organization, rows=write_third)

    found = events(organization, EventFilters(search=text))

    assert [event.target_ref.removeprefix("557058:") for event in found] == expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("others", [{}, {"statuses": ("success",)}])
def test_pages_of_a_search_show_each_entry_once_within_their_moments(
    organization: Organization, monkeypatch: pytest.MonkeyPatch, way: str, others: dict[str, Any]
) -> None:
    search_by(monkeypatch, way)
    organization.is_demo = True
    organization.save()
    noon = datetime(2026, 5, 4, 12, tzinfo=UTC)
    # Two of one moment each, out of order, the newest not sealed; every third is about something else.
    moments = [noon + timedelta(minutes=minutes // 2) for minutes in (7, 2, 5, 0, 9, 3, 8, 1, 4, 6)]
    told = [_past(row(number, reason="" if number % 3 else "heliotrope"), at) for number, at in enumerate(moments)]
    record_many(organization=organization, rows=told[:8])
    seal(organization)
    record_many(organization=organization, rows=told[8:])
    filters = EventFilters(
        search="helio", since=noon + timedelta(minutes=1), until=noon + timedelta(minutes=5), **others
    )

    seen: list[str] = []
    place = None
    while page := lines(organization, filters, 1, place)[:1]:
        seen.append(str(AuditEvent.objects.get(pk=page[0].event_id).target_ref))
        place = (page[0].at, page[0].key)

    assert seen == ["557058:6", "557058:9", "557058:0"]
    assert seen == [event.target_ref for event in events(organization, filters)]


def test_words_of_old_entries_are_written_anew(organization: Organization) -> None:
    write(organization, 3)
    seal(organization)
    ids = list(AuditEvent.objects.of(organization).order_by("id").values_list("id", flat=True))
    AuditSearch.objects.all().delete()

    assert store_words(organization.pk, ids[0], ids[-1]) == 3
    assert store_words(organization.pk, ids[0], ids[-1]) == 3
    assert AuditSearch.objects.count() == 3
    assert tsquery("Said 'no'") == "'said':* & 'no':*"


def test_a_person_is_erased_from_entries_and_imports_without_breaking_the_chain(organization: Organization) -> None:
    write(organization, 2)
    run_log_import(started(organization).pk)
    seal(organization)
    person = people_in_log(organization, "person1@")[0]

    erase_identity(organization=organization, kind=person.kind, key=person.key, actor=ANNA)
    assert erase_imported(organization=organization, email="Clary@example.com", actor=ANNA) == 2

    assert people_in_log(organization, "person1@") == []
    text = "\n".join(",".join(cells) for cells in export_rows(organization))
    assert "person1@example.com" not in text
    assert "clary@example.com" not in text
    assert verify(organization).ok


def test_a_long_verification_is_handed_to_a_worker_and_names_the_row(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "AT_ONCE_SEGMENTS", 0)
    write(organization, 3)
    seal(organization)
    event = AuditEvent.objects.of(organization).order_by("id")[1]
    with attacker() as run:
        run("UPDATE audit_auditevent SET group_name = 'x' WHERE id = %s", event.pk)

    first = start_verification(organization=organization, by="Anna")
    second = start_verification(organization=organization, by="Ben")
    done = run_verification(first.pk)

    assert first.pk == second.pk
    assert (done.status, done.ok, done.segments_done) == ("finished", False, 1)
    assert done.report["first_broken"][0]["event_id"] == event.pk
    assert run_verification(first.pk).finished_at == done.finished_at
    stale = start_verification(organization=organization, by="Ben")
    Verification.objects.filter(pk=stale.pk).update(alive_at=timezone.now() - timedelta(minutes=9))
    assert start_verification(organization=organization, by="Cleo").pk != stale.pk


def test_a_month_in_the_default_partition_gets_its_own_and_the_chain_stays_valid(organization: Organization) -> None:
    Organization.objects.filter(pk=organization.pk).update(is_demo=True)
    organization.refresh_from_db()
    past = datetime(2019, 3, 5, tzinfo=UTC)
    record_many(organization=organization, rows=[_past(row(number), past) for number in range(1, 4)])
    seal(organization)
    assert months_in_default() == [201903]

    assert adopt_month(201903) == 3
    assert adopt_month(201903) == 0
    for oid in partitions_without_index():
        build_index(oid)

    assert months_in_default() == []
    assert partitions_without_index() == []
    assert verify(organization).ok
    assert [event.at for event in events(organization)] == [past] * 3
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM audit_auditevent_y2019m03")
        assert cursor.fetchone()[0] == 3
