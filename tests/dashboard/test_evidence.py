"""The evidence pack of a run: complete, verified by its own script alone, refused after one changed byte."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.audit.services import Actor, EventRow, erase_identity, record_many, seal
from apps.dashboard.evidence import NotEnded, stream_evidence
from apps.dashboard.evidence.verify import signature_is_valid, verify
from apps.notifications.models import Delivery
from apps.operations.models import Approval, Operation, OperationItem
from apps.operations.planning import freeze
from apps.operators.models import Role
from apps.organizations.models import Organization
from apps.users.models import Account

pytestmark = pytest.mark.django_db
PEOPLE = 500


@pytest.fixture
def acme(db: None) -> Organization:
    return Organization.objects.create(slug="acme", name="Acme & Söhne", org_id="acme", api_url="http://localhost")


def make_run(organization: Organization, people: int = PEOPLE, **fields: object) -> Operation:
    """A finished live run with an approval, an outcome and a log entry for each person."""
    now = timezone.now()
    values: dict[str, object] = {
        "number": 7,
        "kind": Operation.Kind.SCHEDULED_CLEANUP,
        "mode": Operation.Mode.LIVE,
        "status": Operation.Status.SUCCEEDED,
        "initiator": Operation.Initiator.AUTOMATED,
        "actor_text": "Scheduler",
        "name": "Idle <contractors>",
        "action": "suspend",
        "created_at": now,
        "planned_at": now,
        "started_at": now,
        "finished_at": now,
        "people_count": people,
        "planned_count": people,
        "outcomes": {"done": people - 1, "failed": 1},
        "left_out": {"protected": 3},
    }
    operation = Operation.objects.create(organization=organization, **(values | fields))
    OperationItem.objects.bulk_create(
        OperationItem(
            organization=organization,
            operation=operation,
            subject=f"557058:{number:04}",
            action="suspend",
            target="directory:d1",
            parameters={"name": "Diré—ctory", "n": number},
            reason={"code": "idle", "last_active_at": "2026-01-01T00:00:00+00:00"},
            status="finished",
            outcome="failed" if number == 0 else "done",
            detail="Ask its administrator." if number == 0 else "",
            finished_at=now,
            atlassian_request_id=f"request-{number}",
        )
        for number in range(people)
    )
    operation.plan_hash = freeze(operation)[0]
    operation.save()
    Approval.objects.create(
        organization=organization,
        operation=operation,
        plan_hash=operation.plan_hash,
        decision="approved",
        decided_by_text="Ben Second",
        decided_at=now,
        reason="Looked at",
        count=people,
    )
    record_many(
        organization=organization,
        rows=(
            EventRow(
                actor=Actor.scheduler(),
                action="account.suspend",
                target_kind="account",
                target_ref=f"557058:{number:04}",
                target_name=f"Person {number}",
                target_email=f"person{number}@example.com",
                operation_id=operation.pk,
                operation_number=operation.number,
                before={"status": "active"},
                after={"status": "suspended", "n": 1.50},
            )
            for number in range(people)
        ),
    )
    return operation


def pack_of(operation: Operation, path: Path) -> Path:
    path.write_bytes(b"".join(stream_evidence(operation, made_by="Juniper")))
    return path


def test_the_pack_of_500_is_complete_and_verified_by_its_script_alone(acme: Organization, tmp_path: Path) -> None:
    record_many(organization=acme, rows=[EventRow(actor=Actor.system(), action="x.y")] * 3)
    operation = make_run(acme)
    pack = pack_of(operation, tmp_path / "pack.zip")

    with zipfile.ZipFile(pack) as archive:
        archive.extractall(tmp_path / "out")
    answers = [
        subprocess.run(
            [sys.executable, "-I", "-S", str(tmp_path / "out" / "verify.py"), *arguments],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        for arguments in ([str(pack)], [])
    ]

    assert [answer.returncode for answer in answers] == [0, 0], answers
    assert "500 log entries, 1 segments." in answers[0].stdout
    outcomes = [json.loads(line) for line in (tmp_path / "out/outcomes.jsonl").read_text().splitlines()]
    assert len(outcomes) == PEOPLE
    assert outcomes[0]["outcome_words"] == "Failed. Ask its administrator."
    assert json.loads((tmp_path / "out/approvals.json").read_text())[0]["plan_hash"] == operation.plan_hash
    page = (tmp_path / "out/index.html").read_text()
    assert page.count('<tr><th scope="row">') == PEOPLE
    assert "Idle &lt;contractors&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_one_changed_byte_anywhere_is_refused(acme: Organization, tmp_path: Path) -> None:
    pack = pack_of(make_run(acme, people=12), tmp_path / "pack.zip")
    good = pack.read_bytes()
    chance = random.Random(5)
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        starts = [info.header_offset for info in archive.infolist()]
    # In each file's header, contents, and everywhere; the last bytes are the zip's own directory.
    places = [start + chance.randrange(60) for start in starts]
    places += [chance.randrange(len(good)) for _ in range(60)] + [len(good) - number for number in (1, 5, 20, 40)]
    passed = []
    for place in places:
        changed = bytearray(good)
        changed[place] ^= 1 << chance.randrange(8)
        pack.write_bytes(bytes(changed))
        if not verify(str(pack), write=lambda _line: None):
            passed.append(place)

    assert passed == []
    pack.write_bytes(good)
    assert verify(str(pack), write=lambda _line: None) == []


def test_an_edited_row_that_was_listed_anew_is_named(acme: Organization, tmp_path: Path) -> None:
    """Somebody who edits the database before the pack is made: the manifest is right, the chain is not."""
    operation = make_run(acme, people=5)
    seal(acme)
    event = AuditEvent.objects.filter(operation_id=operation.pk).order_by("pk")[2]
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE audit_auditevent SET outcome = 'failed' WHERE id = %s", [event.pk])
        cursor.execute("SET session_replication_role = origin")

    wrong = verify(str(pack_of(operation, tmp_path / "pack.zip")), write=lambda _line: None)

    assert wrong == [f"log entry {event.pk} is not as it was sealed"]


def test_another_key_is_refused_and_an_erased_person_is_not(acme: Organization, tmp_path: Path) -> None:
    operation = make_run(acme, people=3)
    erase_identity(organization=acme, kind="account", key="557058:0001", actor=Actor.system())
    pack = pack_of(operation, tmp_path / "pack.zip")

    assert verify(str(pack), write=lambda _line: None) == []
    assert verify(str(pack), trusted_key="ab" * 32, write=lambda _line: None) == [
        "the pack is signed with another key than the one given"
    ]
    assert "person1@example.com" not in pack.read_bytes().decode("utf-8", "replace")


def test_a_signature_of_the_rfc_is_valid_and_a_changed_one_is_not() -> None:
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )

    assert signature_is_valid(public, b"\x72", signature)
    assert not signature_is_valid(public, b"\x73", signature)
    assert not signature_is_valid(public, b"\x72", signature[:-1] + b"\x10")


def test_an_open_run_has_no_pack_and_a_viewer_may_download_one(
    acme: Organization, client_of: Callable[..., Client]
) -> None:
    open_run = make_run(acme, people=1, status=Operation.Status.RUNNING, finished_at=None)
    client = client_of(acme, Role.VIEWER)
    with pytest.raises(NotEnded):
        stream_evidence(open_run, made_by="x")
    refused = client.get(reverse("dashboard:evidence", args=["acme", open_run.number]))
    Operation.objects.update(status=Operation.Status.SUCCEEDED, finished_at=timezone.now())

    answer = client.get(reverse("dashboard:evidence", args=["acme", open_run.number]))

    assert refused.status_code == 302
    assert answer["Content-Type"] == "application/zip"
    assert b"".join(answer.streaming_content)[:2] == b"PK"  # type: ignore[attr-defined]
    assert AuditEvent.objects.of(acme).filter(action="operation.evidence_exported").exists()
    assert client.get(reverse("dashboard:evidence", args=["acme", 99])).status_code == 404


def test_notices_that_were_sent_before_the_run_are_in_the_pack(acme: Organization, tmp_path: Path) -> None:
    operation = make_run(acme, 3, rule_id=5)
    account = Account.objects.create(
        organization=acme,
        account_id="557058:0001",
        name="Ada",
        sort_name="ada",
        account_status=1,
        membership_status=1,
        claim_status=1,
    )
    OperationItem.objects.filter(subject="557058:0001").update(account=account)
    known = {"organization": acme, "account": account, "rule_id": 5, "status": "accepted", "recipient": "ada@x.example"}
    earlier = timezone.now() - timedelta(days=7)
    for kind, subject, rule_id in (("notice", "Your access ends", 5), ("code", "Your code", 5), ("notice", "Other", 6)):
        Delivery.objects.create(
            **{**known, "rule_id": rule_id}, kind=kind, subject=subject, created_at=earlier, accepted_at=earlier
        )

    pack = pack_of(operation, tmp_path / "pack.zip")
    with zipfile.ZipFile(pack) as opened:
        notices = json.loads(opened.read("notices.json"))
        page = opened.read("index.html").decode()

    assert [(notice["subject"], notice["account_id"]) for notice in notices] == [("Your access ends", "557058:0001")]
    assert "Your access ends" in page
