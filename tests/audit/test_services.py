"""Appending: what a row keeps, that bulk equals single, and that nothing changes afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import ProtectedError

from apps.audit.models import AuditCheckpoint, AuditEvent, AuditIdentity, AuditSegment
from apps.audit.services import (
    Actor,
    NotADemo,
    ensure_partitions,
    erase_identity,
    forget_organization,
    record,
    record_many,
    seal,
    verify,
)
from apps.audit.services.writing import MASK
from apps.organizations import recorder
from apps.organizations.models import Organization
from aum.common.logs import request_id
from tests.audit.conftest import ANNA, make_organization, row, write

pytestmark = pytest.mark.django_db


def contents(organization: Organization) -> Iterator[dict[str, Any]]:
    """Each event without what two events never share."""
    for event in AuditEvent.objects.of(organization).order_by("id").values():
        yield {name: value for name, value in event.items() if name not in ("id", "at")}


def test_record_keeps_who_what_why_and_which_call(organization: Organization) -> None:
    correlation_id = uuid.uuid4()

    event = record(
        organization=organization,
        actor=ANNA,
        action="account.suspended",
        target_kind="account",
        target_ref="557058:1",
        target_name="Zoë Жук",
        target_email="zoe@example.com",
        before={"status": "active"},
        after={"status": "suspended"},
        reason="Idle for 60 days",
        correlation_id=correlation_id,
        operation_id=5,
        operation_number=3,
        rule_id=2,
        rule_name="Suspend",
        rule_version=4,
        group_name="jira-users",
        request_id="atl-1",
        call_id="call-1",
    )

    stored = AuditEvent.objects.select_related("actor", "target").get(pk=event.pk)
    assert (stored.actor.name, stored.actor.email, stored.actor.key) == ("Anna Admin", "anna@example.com", "7")
    assert stored.target is not None
    assert (stored.target.name, stored.target.email) == ("Zoë Жук", "zoe@example.com")
    assert (stored.before, stored.after) == ({"status": "active"}, {"status": "suspended"})
    assert (stored.correlation_id, stored.ip_address, stored.outcome) == (correlation_id, "192.0.2.7", "success")
    assert (stored.operation_id, stored.operation_number, stored.rule_id, stored.rule_version) == (5, 3, 2, 4)
    assert (stored.reason, stored.rule_name, stored.group_name) == ("Idle for 60 days", "Suspend", "jira-users")
    assert (stored.request_id, stored.call_id) == ("atl-1", "call-1")
    assert stored.at == event.at
    assert abs(stored.at - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("count", [1, 49, 50, 120])
def test_record_many_writes_what_record_writes_when_few_or_many(
    organization: Organization, other: Organization, count: int
) -> None:
    rows = [
        row(
            number,
            reason='tab\there, back\\slash, "quotes", new\nline, \\N',
            before=None if number % 2 else {"a": [1, None, True, 1.5], "é": "\\"},
            correlation_id=uuid.UUID(int=number) if number % 3 else None,
            rule_id=number if number % 5 else None,
            group_name="=группа",
        )
        for number in range(count)
    ]

    written = record_many(organization=organization, rows=rows)
    for each in rows:
        record(organization=other, **{name: getattr(each, name) for name in each.__slots__})

    def comparable(owner: Organization) -> list[dict[str, Any]]:
        texts = {identity.pk: str(identity.key) for identity in AuditIdentity.objects.of(owner)}
        return [
            event | {"organization_id": 0, "actor_id": texts[event["actor_id"]], "target_id": texts[event["target_id"]]}
            for event in contents(owner)
        ]

    assert written == count
    assert comparable(organization) == comparable(other)


@pytest.mark.parametrize("count", [1, 60])
def test_event_is_stored_when_texts_are_odd(organization: Organization, count: int) -> None:
    odd = "nul\x00 half\ud800 " + "🦊" * 400

    record_many(
        organization=organization,
        rows=[row(n, target_name=odd, reason=odd, after={odd: odd}, rule_name=odd) for n in range(count)],
    )

    event = AuditEvent.objects.of(organization).select_related("target").first()
    assert event is not None
    assert event.target is not None
    assert len(event.rule_name) == 200
    assert event.rule_name.startswith("nul� half? 🦊")
    assert event.rule_name.endswith("🦊…")
    assert event.reason.count("🦊") == 400
    assert len(event.target.name) == 300


def test_secrets_are_masked_when_before_or_after_hold_them(organization: Organization) -> None:
    event = record(
        organization=organization,
        actor=ANNA,
        action="credentials.saved",
        after={"api_key": "ATCTT-secret", "nested": [{"Token": "xyz", "owner": "anna"}], "password": ""},
    )

    event.refresh_from_db()
    assert event.after == {"api_key": MASK, "nested": [{"Token": MASK, "owner": "anna"}], "password": ""}


def test_values_that_are_equal_in_python_stay_apart_in_a_bulk(organization: Organization) -> None:
    given: list[dict[str, Any]] = [{"x": 1}, {"x": True}, {"x": 1.0}, {"x": "1"}, {"x": "1"}, {}, {"token": "1"}]

    record_many(organization=organization, rows=[row(number, after=after) for number, after in enumerate(given)])

    kept = AuditEvent.objects.of(organization).order_by("id").values_list("after", flat=True)
    assert [repr(after) for after in kept] == [repr(after) for after in [*given[:-1], {"token": MASK}]]


def test_http_request_id_is_added_when_there_is_one(organization: Organization) -> None:
    token = request_id.set("req-1")
    try:
        event = record(organization=organization, actor=ANNA, action="rule.updated")
    finally:
        request_id.reset(token)

    assert AuditEvent.objects.get(pk=event.pk).http_request_id == "req-1"


def test_lower_layers_write_through_the_recorder(organization: Organization) -> None:
    recorder.record(organization=organization, actor=recorder.Actor.system(), action="sync.started")

    event = AuditEvent.objects.of(organization).select_related("actor").get()
    assert (event.action, event.actor.label) == ("sync.started", "AUM")


def test_an_outcome_outside_the_list_is_refused(organization: Organization) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        record(organization=organization, actor=ANNA, action="x.y", outcome="maybe")


def test_nothing_stays_when_the_transaction_is_rolled_back(organization: Organization) -> None:
    with transaction.atomic():
        record(organization=organization, actor=ANNA, action="x.y")
        transaction.set_rollback(True)

    assert not AuditEvent.objects.of(organization).exists()
    assert not AuditIdentity.objects.of(organization).exists()


def test_same_person_is_stored_once_and_anew_when_renamed(organization: Organization) -> None:
    write(organization, 2)
    write(organization, 2)
    record_many(organization=organization, rows=[row(1, target_name="Renamed")])

    names = AuditIdentity.objects.of(organization).order_by("pk").values_list("name", flat=True)
    assert sorted(names) == ["Anna Admin", "Person 1", "Person 2", "Renamed"]


def test_few_statements_are_needed_when_people_are_known(
    organization: Organization, django_assert_num_queries: Any
) -> None:
    write(organization, 20)

    with django_assert_num_queries(2):
        record(organization=organization, **{name: getattr(row(1), name) for name in row(1).__slots__})
    with django_assert_num_queries(2):
        write(organization, 20)


@pytest.mark.parametrize(
    ("actor", "expected"),
    [
        (Actor.system(), ("system", "system", "AUM", "")),
        (Actor.scheduler(), ("scheduler", "scheduler", "Scheduler", "")),
        (Actor.cli("root"), ("cli", "cli:root", "cli:root", "")),
        (Actor.inbound("jira", "HELP-1", "Bob", "bob@x.org"), ("inbound", "jira:HELP-1", "Bob", "bob@x.org")),
    ],
)
def test_actors_name_themselves(actor: Actor, expected: tuple[str, ...]) -> None:
    assert (actor.kind, actor.ref, actor.name, actor.email) == expected


STATEMENTS = [
    "UPDATE audit_auditevent SET reason = 'x'",
    "UPDATE {partition} SET reason = 'x'",
    "DELETE FROM audit_auditevent",
    "DELETE FROM {partition}",
    "TRUNCATE audit_auditevent",
    "TRUNCATE {partition}",
    "UPDATE audit_auditidentity SET name = 'Bob'",
    "UPDATE audit_auditidentity SET erased_at = now(), name = '', email = '', salt = '', commitment = '\\x00'",
    "DELETE FROM audit_auditidentity",
    "TRUNCATE audit_auditidentity",
    "UPDATE audit_auditsegment SET digests = ''",
    "UPDATE audit_auditsegment SET anchored_at = now(), count = 7",
    "DELETE FROM audit_auditsegment",
    "TRUNCATE audit_auditsegment",
    "UPDATE audit_auditcheckpoint SET rows = 1",
    "DELETE FROM audit_auditcheckpoint",
    "TRUNCATE audit_auditcheckpoint",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_database_refuses_every_change_of_what_was_written(organization: Organization, statement: str) -> None:
    write(organization, 3)
    seal(organization)
    AuditCheckpoint.objects.create(
        organization=organization,
        number=9,
        last_id=1,
        head=b"",
        rows=0,
        purged_at=datetime.now(UTC),
        signature=b"",
        key_id="",
    )
    partition = f"audit_auditevent_y{datetime.now(UTC):%Ym%m}"

    with connection.cursor() as cursor:
        # Deferred checks would make TRUNCATE fail before it reaches the guard.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(IntegrityError, match="refused"), transaction.atomic():
            cursor.execute(statement.format(partition=partition))


def test_django_refuses_to_delete_an_organization_when_it_has_audit_rows(organization: Organization) -> None:
    write(organization, 1)

    with pytest.raises(ProtectedError):
        organization.delete()


def test_only_a_demo_is_forgotten(organization: Organization) -> None:
    demo = make_organization("demo", is_demo=True)
    write(organization, 3)
    write(demo, 3)
    seal(demo)

    forget_organization(demo)
    demo.delete()
    with pytest.raises(NotADemo):
        forget_organization(organization)

    assert AuditEvent.objects.count() == 3
    assert not AuditSegment.objects.exists()
    with pytest.raises(DatabaseError), transaction.atomic():
        AuditEvent.objects.of(organization).delete()


def test_names_go_and_the_chain_stays_valid_when_a_person_is_erased(organization: Organization) -> None:
    write(organization, 3)
    record_many(organization=organization, rows=[row(2, target_name="Married Name")])
    seal(organization)
    before = AuditIdentity.objects.of(organization).filter(key="557058:2").values_list("fingerprint", flat=True)
    fingerprints = [bytes(fingerprint) for fingerprint in before]

    erased = erase_identity(organization=organization, kind="account", key="557058:2", actor=ANNA, reason="Request 7")

    identities = AuditIdentity.objects.of(organization).filter(key="557058:2", erased_at__isnull=False)
    assert erased == 2
    assert [identity.label for identity in identities] == ["Erased person"] * 2
    assert {(i.name, i.email, bytes(i.salt)) for i in identities} == {("", "", b"")}
    assert not {bytes(i.fingerprint) for i in identities} & set(fingerprints)
    assert verify(organization).ok
    assert seal(organization) == 1
    assert verify(organization).ok
    event = AuditEvent.objects.of(organization).get(action="identity.erased")
    assert (event.target_ref, event.before) == ("557058:2", {"texts": 2})
    assert erase_identity(organization=organization, kind="account", key="557058:2", actor=ANNA) == 1


def test_erasure_of_one_organization_leaves_the_other_alone(organization: Organization, other: Organization) -> None:
    write(organization, 2)
    write(other, 2)

    erase_identity(organization=organization, kind="account", key="557058:2", actor=ANNA)

    assert AuditIdentity.objects.of(other).get(key="557058:2").name == "Person 2"


def partition_of(event_id: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM audit_auditevent WHERE id = %s", [event_id])
        return str(cursor.fetchone()[0])


def test_rows_lie_in_the_partition_of_their_month(organization: Organization) -> None:
    event = record(organization=organization, actor=ANNA, action="x.y")

    assert partition_of(event.pk) == f"audit_auditevent_y{event.at:%Ym%m}"
    assert ensure_partitions() == []


def test_an_insert_never_fails_and_is_moved_when_its_month_gets_a_partition(organization: Organization) -> None:
    now = datetime.now(UTC)
    months_ahead = 7
    year, month = divmod(now.year * 12 + now.month - 1 + months_ahead, 12)
    late = datetime(year, month + 1, 15, tzinfo=UTC)
    event = AuditEvent(organization=organization, actor_id=1, actor_kind="system", action="x.y", at=late)
    event.save(force_insert=True)
    before = partition_of(event.pk)

    created = ensure_partitions(months_ahead)

    assert before == "audit_auditevent_default"
    assert len(created) == 4
    assert partition_of(event.pk) == f"audit_auditevent_y{late:%Ym%m}" == created[-1]
    with pytest.raises(IntegrityError, match="refused"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {created[-1]}")


def test_guards_are_back_after_they_were_lifted(organization: Organization) -> None:
    demo = make_organization("demo", is_demo=True)
    write(organization, 1)

    forget_organization(demo)

    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_auditevent")
