"""Lists, filters, keyset pages, exports and the wall between organisations."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from apps.audit.cli import export_command
from apps.audit.models import AuditEvent
from apps.audit.selectors import (
    EXPORT_COLUMNS,
    EventFilters,
    events,
    events_of_operation,
    events_of_target,
    export_rows,
)
from apps.audit.services import Actor, record, record_many
from apps.organizations.models import Organization
from aum.common.csv import neutralise, restore_cell
from tests.audit.conftest import row, write

pytestmark = pytest.mark.django_db


@pytest.fixture
def history(organization: Organization) -> Organization:
    record_many(
        organization=organization,
        rows=[
            row(1, action="account.suspended", operation_id=5, operation_number=12, rule_name="Nightly"),
            row(2, action="account.restored", outcome="failed", reason="Atlassian said no", group_name="jira-users"),
            row(3, action="rule.updated", actor=Actor.scheduler()),
        ],
    )
    return organization


def refs(queryset: Any) -> list[str]:
    return [event.target_ref.removeprefix("557058:") for event in queryset]


def test_newest_come_first(history: Organization) -> None:
    assert refs(events(history)) == ["3", "2", "1"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (EventFilters(outcome="failed"), ["2"]),
        (EventFilters(action="account."), ["2", "1"]),
        (EventFilters(action="rule.updated"), ["3"]),
        (EventFilters(actor="anna@"), ["2", "1"]),
        (EventFilters(actor="schedul"), ["3"]),
        (EventFilters(actor="person 1"), []),
        (EventFilters(target_ref="557058:2"), ["2"]),
        (EventFilters(operation_id=5), ["1"]),
        (EventFilters(search="PERSON2@example"), ["2"]),
        (EventFilters(search="nightly"), ["1"]),
        (EventFilters(search="said no"), ["2"]),
        (EventFilters(search="#12"), ["1"]),
        (EventFilters(search="jira-u"), ["2"]),
        (EventFilters(search="restor", outcome="success"), []),
        (EventFilters(), ["3", "2", "1"]),
    ],
)
def test_filters_narrow_the_list(history: Organization, filters: EventFilters, expected: list[str]) -> None:
    assert refs(events(history, filters)) == expected
    assert [cells[EXPORT_COLUMNS.index("target_ref")] for cells in export_rows(history, filters)][1:] == [
        f"557058:{number}" for number in expected
    ]


def test_time_range_includes_its_start_and_not_its_end(history: Organization) -> None:
    second = AuditEvent.objects.order_by("id")[1].at

    assert refs(events(history, EventFilters(since=second))) == ["3", "2"]
    assert refs(events(history, EventFilters(until=second))) == ["1"]
    assert refs(events(history, EventFilters(since=second + timedelta(days=1)))) == []


def test_pages_by_keyset_show_each_event_once_when_times_are_equal(organization: Organization) -> None:
    with connection.cursor() as cursor:
        write(organization, 7)
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE audit_auditevent SET at = '2026-11-25 00:00:00+00' WHERE mod(id, 3) > 0")
        cursor.execute("SET session_replication_role = origin")
    seen: list[int] = []
    page = list(events(organization)[:2])
    while page:
        seen += [event.pk for event in page]
        page = list(events(organization, before=(page[-1].at, page[-1].pk))[:2])

    assert len(seen) == len(set(seen)) == 7


def test_events_of_an_operation_and_of_a_person(history: Organization) -> None:
    record_many(organization=history, rows=[row(1, target_name="New Name"), row(9, operation_id=5)])

    assert refs(events_of_operation(5)) == ["1", "9"]
    assert refs(events_of_target(history, "account", "557058:1")) == ["1", "1"]


def test_other_organizations_see_nothing(history: Organization, other: Organization) -> None:
    write(other, 1)

    assert refs(events(other)) == ["1"]
    assert refs(events_of_target(other, "account", "557058:2")) == []
    assert refs(events(other, EventFilters(search="nightly"))) == []
    assert len(list(export_rows(other))) == 2


@pytest.mark.parametrize("count", [2, 20])
def test_list_needs_one_query(organization: Organization, count: int, django_assert_num_queries: Any) -> None:
    write(organization, count)

    with django_assert_num_queries(1):
        assert (
            len([(event.actor.label, event.target and event.target.label) for event in events(organization)]) == count
        )


def test_export_is_csv_with_utc_times_and_harmless_cells(organization: Organization) -> None:
    event = record(
        organization=organization,
        actor=Actor("operator", "1", "=HYPERLINK(1)", "x@example.com"),
        action="rule.updated",
        reason='two\nlines, "quoted"',
        after={"name": "é"},
    )
    stream = io.StringIO(newline="")

    code = export_command(organization, stream)

    header, cells = list(csv.reader(io.StringIO(stream.getvalue(), newline="")))
    exported = dict(zip(header, cells, strict=True))
    assert code == 0
    assert exported["actor"] == "'=HYPERLINK(1)"
    assert exported["at_utc"] == event.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert exported["reason"] == 'two\nlines, "quoted"'
    assert exported["after"] == '{"name": "é"}'
    assert exported["target"] == ""


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "'=1", "''@", "'quoted'", "plain", "", "'"])
def test_neutralised_cells_are_harmless_and_come_back(text: str) -> None:
    cell = neutralise(text)

    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert restore_cell(cell) == text


@pytest.mark.parametrize("text", ["plain", "a=b", "'quoted'", ""])
def test_harmless_cells_stay_as_they_are(text: str) -> None:
    assert neutralise(text) == text
