"""Tampering: whoever gets past the guards is named by verify, by kind, event and segment."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import Settings

from apps.audit.chain import ROWS_SQL, row_digest, signing_keys
from apps.audit.cli import verify_command
from apps.audit.models import AuditCheckpoint, AuditEvent, AuditIdentity, AuditSegment
from apps.audit.services import PurgeRefused, VerifyReport, anchor_heads, purge_segments, record_many, seal, verify
from apps.organizations.models import Organization
from tests.audit.conftest import ANNA, attacker, row, write

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of four events and batches of three, so that a few rows make a chain."""
    monkeypatch.setattr("apps.audit.services.sealing.SEGMENT_ROWS", 4)
    monkeypatch.setattr("apps.audit.services.verification.BATCH_ROWS", 3)


@pytest.fixture
def ids(organization: Organization) -> list[int]:
    """Ten sealed events in three segments of 4, 4 and 2."""
    write(organization, 10)
    assert seal(organization) == 3
    return list(AuditEvent.objects.of(organization).order_by("id").values_list("id", flat=True))


def named(report: VerifyReport) -> list[tuple[str, int | None, int]]:
    return [(finding.kind, finding.event_id, finding.segment) for finding in report.first_broken]


def test_untouched_log_verifies(organization: Organization, ids: list[int]) -> None:
    write(organization, 3)
    progress: list[tuple[int, int]] = []

    report = verify(organization, on_progress=lambda done, total: progress.append((done, total)))

    assert report.ok
    assert (report.segments, report.rows, report.unsealed_rows) == (3, 10, 3)
    assert report.unsealed_since == AuditEvent.objects.of(organization).order_by("-id")[2].at
    assert report.anchored_through is None
    assert progress == [(1, 3), (2, 3), (3, 3)]


def test_sealing_again_does_nothing(organization: Organization, ids: list[int]) -> None:
    assert seal(organization) == 0
    assert AuditSegment.objects.count() == 3


def test_nothing_is_sealed_when_nothing_happened(organization: Organization) -> None:
    assert seal(organization) == 0
    assert verify(organization).ok


EDITS = [
    "reason = 'harmless'",
    'before = \'{"status": "suspended"}\'',
    "after = NULL",
    "at = at + interval '1 microsecond'",
    "actor_id = target_id",
    "actor_kind = 'system'",
    "target_ref = '557058:99'",
    "outcome = 'failed'",
    "action = 'account.restored'",
    "ip_address = '192.0.2.8'",
    "correlation_id = gen_random_uuid()",
    "rule_id = 0",
    "operation_id = 0",
    "schema_version = 2",
    "request_id = ' '",
    "call_id = ' '",
    "http_request_id = ' '",
    "group_name = ' '",
    "rule_name = ' '",
    "rule_version = 1",
    "operation_number = 1",
    "target_kind = 'group'",
    "target_id = NULL",
]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_row_is_named(organization: Organization, ids: list[int], edit: str) -> None:
    with attacker() as run:
        assert run(f"UPDATE audit_auditevent SET {edit} WHERE id = %s", ids[4]) == 1

    report = verify(organization)

    assert not report.ok
    assert named(report) == [("edited", ids[4], 2)]


def test_every_column_is_covered_by_the_digest() -> None:
    columns = {field.column for field in AuditEvent._meta.concrete_fields}

    assert columns - {edit.split(" = ")[0] for edit in EDITS} == {"id", "organization_id"}


def test_removed_rows_are_named(organization: Organization, ids: list[int]) -> None:
    with attacker() as run:
        run("DELETE FROM audit_auditevent WHERE id = ANY(%s)", [ids[0], ids[9]])

    report = verify(organization)

    assert named(report) == [("removed", ids[0], 1), ("removed", ids[9], 3)]


def columns_without(*names: str) -> str:
    return ", ".join(str(field.column) for field in AuditEvent._meta.concrete_fields if field.column not in names)


@pytest.mark.parametrize("where", ["between", "before", "twin"])
def test_an_added_row_is_named(organization: Organization, ids: list[int], where: str) -> None:
    columns = ", ".join(
        str(field.column) for field in AuditEvent._meta.concrete_fields if field.column not in ("id", "at")
    )
    with attacker() as run:
        # A rolled-back transaction leaves a gap in the ids, where an event can be slipped in.
        gap = {"between": ids[5], "before": ids[0] - 1, "twin": ids[5]}[where]
        if where == "between":
            run("DELETE FROM audit_auditevent WHERE id = %s", gap)
            gap_at = "'2026-01-01'"
        else:
            gap_at = "at - interval '1 second'"
        source = ids[6]
        run(
            f"INSERT INTO audit_auditevent (id, at, {columns}) SELECT %s, {gap_at}, {columns}"
            " FROM audit_auditevent WHERE id = %s",
            gap,
            source,
        )

    report = verify(organization)

    expected = {
        "between": [("edited", ids[5], 2)],
        "before": [("added", ids[0] - 1, 1)],
        "twin": [("added", ids[5], 2)],
    }
    assert named(report) == expected[where]


def test_a_row_slipped_into_a_gap_is_named(organization: Organization, ids: list[int]) -> None:
    with attacker() as run:
        run("SELECT setval('audit_auditevent_id_seq', %s)", ids[-1] + 5)
    write(organization, 4)
    seal(organization)
    with attacker() as run:
        columns = ", ".join(
            str(field.column) for field in AuditEvent._meta.concrete_fields if field.column not in ("id",)
        )
        run(
            f"INSERT INTO audit_auditevent (id, {columns}) SELECT %s, {columns} FROM audit_auditevent WHERE id = %s",
            ids[-1] + 2,
            ids[0],
        )

    assert named(verify(organization)) == [("added", ids[-1] + 2, 4)]


def swap(first: int, second: int, columns: str) -> None:
    with attacker() as run:
        run(
            f"UPDATE audit_auditevent mine SET ({columns}) = (SELECT {columns} FROM audit_auditevent other"
            " WHERE other.id = CASE mine.id WHEN %s THEN %s ELSE %s END) WHERE mine.id IN (%s, %s)",
            first,
            second,
            first,
            first,
            second,
        )


@pytest.mark.parametrize("keeps_time", [True, False])
@pytest.mark.parametrize("other", [2, 9])
def test_swapped_rows_are_named(organization: Organization, ids: list[int], keeps_time: bool, other: int) -> None:
    columns = "target_id, target_ref, before, after" + ("" if keeps_time else ", at")
    swap(ids[1], ids[other], columns)

    report = verify(organization)

    assert [(kind, event_id) for kind, event_id, _ in named(report)] == [("swapped", ids[1]), ("swapped", ids[other])]
    assert f"carries what was sealed as event {ids[other]}" in report.first_broken[0].sentence


def test_a_row_moved_to_another_organization_is_named(
    organization: Organization, other: Organization, ids: list[int]
) -> None:
    with attacker() as run:
        run("UPDATE audit_auditevent SET organization_id = %s WHERE id = %s", other.pk, ids[3])

    assert named(verify(organization)) == [("removed", ids[3], 1)]


@pytest.mark.parametrize("column", ["name", "email"])
def test_a_changed_name_is_named(organization: Organization, ids: list[int], column: str) -> None:
    identity = AuditIdentity.objects.of(organization).get(kind="operator")
    with attacker() as run:
        run(f"UPDATE audit_auditidentity SET {column} = 'Bob' WHERE id = %s", identity.pk)

    report = verify(organization)

    assert named(report) == [("edited", ids[0], 1)]
    assert report.first_broken[0].identity_id == identity.pk


def test_a_new_commitment_for_a_changed_name_breaks_every_event_that_shows_it(
    organization: Organization, ids: list[int]
) -> None:
    identity = AuditIdentity.objects.of(organization).get(key="557058:6")
    with attacker() as run:
        run("UPDATE audit_auditidentity SET commitment = %s WHERE id = %s", bytes(32), identity.pk)

    assert ("edited", ids[5], 2) in named(verify(organization))


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ("digests = set_byte(digests, 20, get_byte(digests, 20) # 1)", {"segment_broken"}),
        ("root = set_byte(root, 0, get_byte(root, 0) # 1)", {"segment_broken"}),
        ("head = set_byte(head, 0, get_byte(head, 0) # 1)", {"segment_broken", "signature"}),
        ("previous_head = set_byte(previous_head, 0, get_byte(previous_head, 0) # 1)", {"segment_broken"}),
        ("sealed_at = sealed_at + interval '1 day'", {"segment_broken"}),
        ("first_id = first_id - 1", {"segment_broken"}),
        ("signature = set_byte(signature, 0, get_byte(signature, 0) # 1)", {"signature"}),
        ("key_id = 'ffffffffffffffff'", {"signature"}),
        ("purged_at = now()", {"segment_broken"}),
    ],
)
def test_a_changed_segment_is_named(organization: Organization, ids: list[int], change: str, kinds: set[str]) -> None:
    with attacker() as run:
        assert run(f"UPDATE audit_auditsegment SET {change} WHERE number = 2") == 1

    report = verify(organization)

    assert {finding.kind for finding in report.first_broken if finding.segment == 2} == kinds
    assert {finding.segment for finding in report.first_broken} <= {2, 3}


def test_a_row_edited_together_with_its_digest_is_named_by_its_segment(
    organization: Organization, ids: list[int]
) -> None:
    segment = AuditSegment.objects.get(number=2)
    with attacker() as run:
        run("UPDATE audit_auditevent SET reason = 'x' WHERE id = %s", ids[5])
        with connection.cursor() as cursor:
            cursor.execute(f"{ROWS_SQL} WHERE e.id = %s", [ids[5]])
            digest = row_digest(cursor.fetchone()[1:])
        digests = bytes(segment.digests)
        forged = digests[:48] + digest + digests[80:]
        run("UPDATE audit_auditsegment SET digests = %s WHERE number = 2", forged)

    assert named(verify(organization)) == [("segment_broken", None, 2)]


def test_a_chain_written_anew_without_the_key_is_named(
    organization: Organization, ids: list[int], settings: Settings
) -> None:
    with attacker() as run:
        run("UPDATE audit_auditevent SET reason = 'x' WHERE id = %s", ids[5])
        run("DELETE FROM audit_auditsegment WHERE number >= 2")
    mine = settings.AUM_AUDIT_SIGNING_KEY
    settings.AUM_AUDIT_SIGNING_KEY = "22" * 32
    seal(organization)

    settings.AUM_AUDIT_SIGNING_KEY = mine

    assert named(verify(organization)) == [("signature", None, 2), ("signature", None, 3)]


def test_old_segments_verify_when_the_key_was_rotated(
    organization: Organization, ids: list[int], settings: Settings
) -> None:
    settings.AUM_AUDIT_SIGNING_KEY = "22" * 32 + "," + settings.AUM_AUDIT_SIGNING_KEY
    write(organization, 2)

    seal(organization)

    assert verify(organization).ok
    assert AuditSegment.objects.get(number=4).key_id == signing_keys()[0].key_id != signing_keys()[1].key_id


@pytest.mark.parametrize("number", [1, 2])
def test_a_removed_segment_is_named(organization: Organization, ids: list[int], number: int) -> None:
    with attacker() as run:
        run("DELETE FROM audit_auditsegment WHERE number = %s", number)

    assert ("segment_broken", None, number) in named(verify(organization))


def test_a_dropped_end_shows_as_unsealed_when_there_is_no_anchor(organization: Organization, ids: list[int]) -> None:
    with attacker() as run:
        run("DELETE FROM audit_auditsegment WHERE number = 3")

    report = verify(organization)

    assert (report.ok, report.unsealed_rows, report.anchored_through) == (True, 2, None)


def test_a_dropped_end_is_named_when_there_is_an_anchor(
    organization: Organization, anchor: Path, ids: list[int]
) -> None:
    with attacker() as run:
        run("DELETE FROM audit_auditsegment WHERE number = 3")
        run("DELETE FROM audit_auditevent WHERE id = %s", ids[9])

    report = verify(organization)

    assert named(report) == [("segment_broken", None, 3)]
    assert "it was removed" in report.first_broken[0].sentence
    assert report.anchored_through == 2


def test_a_chain_written_anew_with_the_key_is_named_when_there_is_an_anchor(
    organization: Organization, anchor: Path, ids: list[int]
) -> None:
    with attacker() as run:
        run("UPDATE audit_auditevent SET reason = 'x' WHERE id = %s", ids[5])
        run("DELETE FROM audit_auditsegment WHERE number >= 2")
    seal(organization)

    report = verify(organization)

    assert named(report) == [("segment_broken", None, 2), ("segment_broken", None, 3)]
    assert "written anew" in report.first_broken[0].sentence
    assert report.anchored_through == 1


def test_each_head_is_anchored_once_and_lines_of_strangers_do_not_count(
    organization: Organization, other: Organization, anchor: Path, ids: list[int]
) -> None:
    write(other, 1)
    seal(other)
    entries = [json.loads(line) for line in anchor.read_text().splitlines()]
    forged = entries[0] | {"segment": 7, "head": "00" * 32}
    anchor.open("a").write(json.dumps(forged) + "\nnot json\n[]\n")

    report = verify(organization)

    assert [(entry["organization"], entry["segment"]) for entry in entries] == [
        (organization.pk, 1),
        (organization.pk, 2),
        (organization.pk, 3),
        (other.pk, 1),
    ]
    assert anchor_heads(organization) == 0
    assert report.ok
    assert report.anchored_through == 3


def test_heads_are_anchored_later_when_the_file_could_not_be_written(
    organization: Organization, anchor: Path, settings: Settings
) -> None:
    settings.AUM_AUDIT_ANCHOR_FILE = str(anchor / "missing" / "folder")
    write(organization, 2)
    seal(organization)

    settings.AUM_AUDIT_ANCHOR_FILE = str(anchor)
    seal(organization)

    assert len(anchor.read_text().splitlines()) == 1
    assert verify(organization).anchored_through == 1


def future() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


def test_purge_removes_whole_segments_and_the_rest_still_verifies(organization: Organization, ids: list[int]) -> None:
    boundary = AuditEvent.objects.get(pk=ids[6]).at

    removed = purge_segments(organization, boundary, actor=ANNA)

    left = AuditEvent.objects.of(organization).order_by("id").values_list("id", flat=True)
    report = verify(organization)
    assert removed == 4
    assert list(left)[:6] == ids[4:]
    assert (report.ok, report.segments, report.purged_segments) == (True, 3, 1)
    assert AuditEvent.objects.of(organization).get(action="audit.purged").before == {
        "events": 4,
        "segments": 1,
        "through_event": ids[3],
    }
    seal(organization)
    assert verify(organization).ok


def test_purge_continues_where_the_last_one_ended(organization: Organization, ids: list[int]) -> None:
    purge_segments(organization, AuditEvent.objects.get(pk=ids[6]).at, actor=ANNA)
    purge_segments(organization, future(), actor=ANNA)

    report = verify(organization)

    assert (report.ok, report.purged_segments) == (True, 3)
    assert [checkpoint.number for checkpoint in AuditCheckpoint.objects.all()] == [1, 3]
    assert AuditEvent.objects.of(organization).filter(id__lte=ids[-1]).count() == 0


def test_purge_refuses_when_a_segment_was_tampered_with(organization: Organization, ids: list[int]) -> None:
    with attacker() as run:
        run("UPDATE audit_auditevent SET reason = 'x' WHERE id = %s", ids[5])

    with pytest.raises(PurgeRefused):
        purge_segments(organization, future(), actor=ANNA)

    assert AuditEvent.objects.of(organization).count() == 10
    assert not AuditCheckpoint.objects.exists()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("DELETE FROM audit_auditcheckpoint", "segment_broken"),
        ("UPDATE audit_auditcheckpoint SET number = 3", "signature"),
        ("UPDATE audit_auditcheckpoint SET rows = 1", "signature"),
    ],
)
def test_a_forged_purge_is_named(organization: Organization, ids: list[int], change: str, kind: str) -> None:
    purge_segments(organization, AuditEvent.objects.get(pk=ids[6]).at, actor=ANNA)
    with attacker() as run:
        run(change)

    assert kind in {finding.kind for finding in verify(organization).first_broken}


def test_a_purged_segment_that_goes_is_missed_by_its_checkpoint(organization: Organization, ids: list[int]) -> None:
    purge_segments(organization, AuditEvent.objects.get(pk=ids[6]).at, actor=ANNA)
    with attacker() as run:
        run("DELETE FROM audit_auditsegment WHERE number = 1")

    sentences = [finding.sentence for finding in verify(organization).first_broken]

    assert sentences[0] == "Segment 1 is missing."
    assert sentences[-1] == "The purge checkpoint names another segment 1 than the chain holds."


def test_a_row_put_back_into_a_purged_segment_is_named(organization: Organization, ids: list[int]) -> None:
    purge_segments(organization, AuditEvent.objects.get(pk=ids[6]).at, actor=ANNA)
    with attacker() as run:
        run("UPDATE audit_auditevent SET id = %s WHERE id = %s", ids[1], ids[5])

    assert named(verify(organization)) == [("added", ids[1], 1), ("removed", ids[5], 2)]


def test_organizations_have_chains_of_their_own(
    organization: Organization, other: Organization, ids: list[int]
) -> None:
    for number in range(6):
        write(other if number % 2 else organization, 3)
    seal(other)
    seal(organization)

    with attacker() as run:
        run("DELETE FROM audit_auditevent WHERE organization_id = %s AND target_ref = '557058:2'", other.pk)

    assert verify(organization).ok
    assert {finding.kind for finding in verify(other).first_broken} == {"removed"}


def test_findings_are_counted_beyond_those_that_are_kept(
    organization: Organization, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.audit.services.verification.MAX_FINDINGS", 2)
    with attacker() as run:
        run("UPDATE audit_auditevent SET reason = 'x'")

    report = verify(organization)

    assert (report.findings, len(report.first_broken)) == (10, 2)


def test_command_says_what_it_found_and_ends_with_one_when_tampered(organization: Organization, ids: list[int]) -> None:
    lines: list[str] = []
    intact = verify_command(organization, lines.append)
    with attacker() as run:
        run("DELETE FROM audit_auditevent WHERE id = %s", ids[2])

    broken = verify_command(organization, lines.append)

    assert (intact, broken) == (0, 1)
    assert f"removed: Event {ids[2]} was removed." in lines
    assert lines[-1] == "The audit log was TAMPERED with."


def test_numbers_are_hashed_to_the_last_digit(organization: Organization) -> None:
    record_many(organization=organization, rows=[row(1, after={"amount": 1.10}), row(2, after={"amount": 10**25 + 1})])
    seal(organization)
    with attacker() as run:
        changed = '{"amount": 10000000000000000000000002}'
        run("UPDATE audit_auditevent SET after = %s WHERE target_ref = '557058:2'", changed)

    assert [finding.kind for finding in verify(organization).first_broken] == ["edited"]
