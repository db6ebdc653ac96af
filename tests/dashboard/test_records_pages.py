"""Audit pages over runs and users, Migration, Help: what an administrator sees and does there."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.audit.models import AuditEvent, LogClearance, LogImport, RetentionPolicy
from apps.audit.services import Actor, EventRow, carry_out_clearance, record_many, run_log_import
from apps.dashboard.guides import doc as document
from apps.dashboard.guides import doc_names, search_docs
from apps.dashboard.markdown import render
from apps.dashboard.models import SupportContact
from apps.migrations_mgmt.models import Backfill
from apps.migrations_mgmt.services import advance, clean_old
from apps.operations.models import Operation, OperationItem
from apps.operators.models import Role
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.services import create_rule
from apps.rules.values import RuleInput

pytestmark = pytest.mark.django_db
ClientOf = Callable[..., Client]
REFERENCE = (
    "Timestamp,Operation,Rule Name,Performed By,Status,User Email,User Action,Group\n"
    "2026-09-24 06:00:02,Scheduled Cleanup,Nightly,Automated,Failed,clary@example.com,Suspend User,contractors\n"
)


@pytest.fixture
def acme(db: None) -> Organization:
    return Organization.objects.create(slug="acme", name="Acme", org_id="acme", api_url="http://localhost")


def run(organization: Organization, number: int, kind: str, status: str, *outcomes: str, **fields: object) -> Operation:
    """A live run with an item and a log entry for each outcome."""
    operation = Operation.objects.create(
        **{
            "organization": organization,
            "number": number,
            "kind": kind,
            "mode": "live",
            "status": status,
            "initiator": "automated",
            "actor_text": "Scheduler",
            "name": f"Clean up {number}",
            "action": "suspend",
            "finished_at": timezone.now(),
            "people_count": len(outcomes),
            "planned_count": len(outcomes),
            **fields,
        }
    )
    OperationItem.objects.bulk_create(
        OperationItem(
            organization=organization,
            operation=operation,
            subject=f"p{number}.{place}@example.com",
            action="suspend",
            parameters={"name": "contractors"},
            status="finished",
            outcome=outcome,
            detail="Ask its administrator." if outcome == "failed" else "",
            finished_at=timezone.now(),
        )
        for place, outcome in enumerate(outcomes)
    )
    record_many(
        organization=organization,
        rows=[
            EventRow(
                actor=Actor("operator", "1", "Juniper", "juniper@example.com", "192.0.2.9"),
                action="account.suspend",
                outcome="failed" if outcome == "failed" else "success",
                target_kind="account",
                target_ref=f"a{number}.{place}",
                target_email=f"p{number}.{place}@example.com",
                operation_id=operation.pk,
                operation_number=number,
                rule_id=1,
                rule_name="Nightly",
                group_name="contractors",
            )
            for place, outcome in enumerate(outcomes)
        ],
    )
    return operation


@pytest.fixture
def three(acme: Organization) -> Organization:
    run(acme, 1, "scheduled_cleanup", "succeeded", "done", "done")
    run(acme, 2, "manual_operation", "partial_failure", "done", "failed")
    run(acme, 3, "bulk_csv_action", "running", "done", finished_at=None)
    return acme


def exported(client: Client, organization: Organization, query: dict[str, Any]) -> list[dict[str, str]]:
    response = client.get(reverse("dashboard:audit-export", args=[organization.slug]), query)
    text = b"".join(response.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    ("query", "runs", "people"),
    [
        ({"type": "scheduled_cleanup"}, {1}, {"p1.0", "p1.1"}),
        ({"type": ["manual_operation", "bulk_csv_action"]}, {2, 3}, {"p2.0", "p2.1", "p3.0"}),
        ({"status": "partial"}, {2}, {"p2.0", "p2.1"}),
        ({"status": "progress"}, {3}, {"p3.0"}),
        ({"q": "Clean up 2"}, {2}, {"p2.0", "p2.1"}),
        ({"q": "#3"}, {3}, {"p3.0"}),
        ({"q": "scheduled clean"}, {1}, {"p1.0", "p1.1"}),
        ({"performer": "p2.1@"}, set(), {"p2.1"}),
        ({"performer": "Juniper"}, set(), {"p1.0", "p1.1", "p2.0", "p2.1", "p3.0"}),
        ({"when": "yesterday"}, set(), set()),
        ({"type": "user_import"}, set(), set()),
    ],
)
def test_filters_hold_in_both_views_and_in_the_export(
    three: Organization, client_of: ClientOf, query: dict[str, Any], runs: set[int], people: set[str]
) -> None:
    client = client_of(three, Role.VIEWER)
    url = reverse("dashboard:audit", args=[three.slug])

    timeline = client.get(url, query).content.decode()
    detail = client.get(url, {**query, "view": "detail"}).content.decode()
    rows = exported(client, three, query)

    assert {int(number) for number in re.findall(r'class="name">Clean up (\d)', timeline)} == runs
    seen = set(re.findall(r'data-label="User email">(p\d\.\d)@', detail))
    assert seen == people
    assert {row["user_email"].partition("@")[0] for row in rows if row["user_email"].startswith("p")} == people


def test_the_detailed_view_and_the_export_have_every_column(three: Organization, client_of: ClientOf) -> None:
    client = client_of(three, Role.VIEWER)
    page = client.get(reverse("dashboard:audit", args=["acme"]), {"view": "detail", "performer": "p2.1@"})

    text = page.content.decode()
    row = exported(client, three, {"performer": "p2.1@"})[0]

    heads = re.findall(r'<th scope="col">([^<]+)</th>', text)
    assert heads == [
        "Timestamp (UTC)",
        "Operation",
        "Rule name",
        "Performed by",
        "Status",
        "User email",
        "User action",
        "Group",
        "IP address",
    ]
    assert (row["operation"], row["operation_type"], row["rule_name"]) == ("Clean up 2", "Manual Operation", "Nightly")
    assert (row["actor"], row["status"], row["user_email"]) == ("Juniper", "Failed", "p2.1@example.com")
    assert (row["user_action"], row["group"], row["ip_address"]) == ("Suspend", "contractors", "192.0.2.9")
    assert row["at_utc"].endswith("Z")


@pytest.mark.parametrize(
    ("card", "people"),
    [
        ("total", {"p1.0", "p1.1", "p2.0", "p2.1", "p3.0"}),
        ("success", {"p1.0", "p1.1"}),
        ("failed", set()),
        ("progress", {"p3.0"}),
        ("users", {"p1.0", "p1.1", "p2.0", "p3.0"}),
    ],
)
def test_each_card_opens_to_its_users(three: Organization, client_of: ClientOf, card: str, people: set[str]) -> None:
    run(three, 4, "manual_operation", "succeeded", "done", created_at=timezone.now() - timedelta(days=2))
    OperationItem.objects.filter(operation__number=4).update(finished_at=timezone.now() - timedelta(days=2))
    client = client_of(three, Role.VIEWER)

    text = client.get(reverse("dashboard:audit-card", args=["acme", card])).content.decode()
    answer = client.get(reverse("dashboard:audit-card-export", args=["acme", card]))
    lines = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))  # type: ignore[attr-defined]

    assert set(re.findall(r'<th scope="row">(p\d\.\d)@', text)) == people
    assert f"{len(people):,} user{'' if len(people) == 1 else 's'}," in text
    assert {line["user_email"].partition("@")[0] for line in lines} == people


def test_clearing_takes_runs_and_entries_out_of_every_view(three: Organization, client_of: ClientOf) -> None:
    owner = client_of(three, Role.OWNER)
    refused = client_of(three, Role.ADMIN).post(reverse("dashboard:audit-clear", args=["acme"]), {})
    wrong = owner.post(reverse("dashboard:audit-clear", args=["acme"]), {"phrase": "no", "reason": ""})

    owner.post(reverse("dashboard:audit-clear", args=["acme"]), {"phrase": "clear logs of acme", "reason": "Trial"})
    carry_out_clearance(LogClearance.objects.get().pk)

    assert (refused.status_code, wrong.status_code) == (403, 422)
    text = owner.get(reverse("dashboard:audit", args=["acme"])).content.decode()
    assert re.findall(r'class="name">Clean up (\d)', text) == ["3"]
    left = [row["user_action"] for row in exported(owner, three, {})]
    assert left == ["Audit exported", "Audit purged", "Audit cleared"]
    archive = owner.get(reverse("dashboard:audit-archive", args=["acme", LogClearance.objects.get().pk]))
    assert b"".join(archive.streaming_content)[:2] == b"\x1f\x8b"  # type: ignore[attr-defined]
    assert owner.get(reverse("operations:run", args=["acme", 1])).status_code == 200


def test_retention_is_set_by_owners_and_a_wrong_number_stands_at_its_field(
    acme: Organization, client_of: ClientOf
) -> None:
    owner = client_of(acme, Role.OWNER)
    url = reverse("organizations:retention", args=["acme"])

    wrong = owner.post(url, {"events": "soon", "syncs": "30"})
    saved = owner.post(url, {"events": "365", "syncs": ""}, follow=True)

    assert wrong.status_code == 422
    assert 'id="keep-events-error"' in wrong.content.decode()
    assert "are saved" in saved.content.decode()
    assert [(row.kind, row.days) for row in RetentionPolicy.objects.all()] == [("events", 365)]


def test_a_person_is_found_and_erased_by_an_owner(three: Organization, client_of: ClientOf) -> None:
    owner = client_of(three, Role.OWNER)
    url = reverse("dashboard:audit-erase", args=["acme"])
    found = owner.get(url, {"q": "p2.1@example"}).content.decode()

    unconfirmed = owner.post(url, {"q": "p2.1@example", "person": "account:a2.1", "confirm": ""})
    done = owner.post(url, {"q": "p2.1@example", "person": "account:a2.1", "confirm": "erase"}, follow=True)

    assert 'value="account:a2.1"' in found
    assert unconfirmed.status_code == 422
    assert "Erased: 1 text." in done.content.decode()
    assert not any("p2.1@" in row["target_email"] for row in exported(owner, three, {}))


def test_migration_shows_status_retries_one_kind_and_cleans_up(acme: Organization, client_of: ClientOf) -> None:
    admin = client_of(acme, Role.ADMIN)
    advance()
    url = reverse("dashboard:migration", args=["acme"])
    before = admin.get(url).content.decode()
    rules = Backfill.objects.get(organization=acme, name="rules.schema")

    for _ in range(2):
        admin.post(reverse("dashboard:migration-retry", args=["acme", "logs"]))
    during = admin.get(url).content.decode()
    advance()

    assert before.count(">Completed<") >= 2
    assert "In progress" in during
    assert 'hx-trigger="every 2s"' in during
    assert Backfill.objects.get(pk=rules.pk).finished_at == rules.finished_at
    assert admin.get(url).content.decode().count(">Completed<") >= 2
    assert AuditEvent.objects.of(acme).filter(action="migration.retried").count() == 1
    assert clean_old(now=timezone.now() + timedelta(days=14)) == 0
    assert clean_old(now=timezone.now() + timedelta(days=16)) >= 2
    assert "cleaned up" in admin.get(url).content.decode()
    assert client_of(acme, Role.VIEWER).get(url).status_code == 403


def test_rules_of_an_older_version_are_moved_once(acme: Organization) -> None:
    rule = create_rule(
        organization=acme,
        values=RuleInput(name="Old", inactive_days=60, run_at="06:00"),  # type: ignore[arg-type]
        actor=Actor.system(),
        operator=None,
    )
    CleanupRule.objects.filter(pk=rule.pk).update(
        schema_version=1, inactive_products=["jira-software", "Jira", "confluence"], weekdays=[3, 1, 3], month_day=4
    )

    advance()
    advance()

    rule.refresh_from_db()
    assert rule.schema_version == 2
    assert (rule.inactive_products, rule.weekdays, rule.month_day) == (["jira", "confluence"], [], None)
    assert rule.version == 1
    assert AuditEvent.objects.of(acme).filter(action="rule.migrated").count() == 1


def test_an_audit_csv_and_rules_are_brought_from_another_product(acme: Organization, client_of: ClientOf) -> None:
    admin = client_of(acme, Role.ADMIN)
    wrong = admin.post(
        reverse("dashboard:migration-import-log", args=["acme"]), {"file": SimpleUploadedFile("a.csv", b"x,y\n1,2\n")}
    )
    admin.post(
        reverse("dashboard:migration-import-log", args=["acme"]),
        {"file": SimpleUploadedFile("audit.csv", REFERENCE.encode())},
    )
    run_log_import(LogImport.objects.get().pk)
    url = reverse("dashboard:migration-import-rules", args=["acme"])
    text = b"Name,Mode,Action,Days inactive,Frequency,Weekdays,Time\nIdle,safe,Suspend,60,weekly,monday;friday,06:00\n"

    looked = admin.post(url, {"file": SimpleUploadedFile("rules.csv", text)})
    yaml = re.search(r'name="text"[^>]*>([^<]+)<', looked.content.decode())
    assert yaml is not None
    nothing_yet = CleanupRule.objects.count()
    admin.post(url, {"name": "rules.csv", "text": yaml[1].replace("&#x27;", "'"), "apply": "1"})

    assert wrong.status_code == 422
    assert "no column Timestamp" in wrong.content.decode()
    assert nothing_yet == 0
    assert [(rule.name, rule.weekdays, rule.mode) for rule in CleanupRule.objects.all()] == [("Idle", [0, 4], "safe")]
    page = admin.get(reverse("dashboard:audit", args=["acme"]), {"view": "detail", "q": "nightly"}).content.decode()
    assert "clary@example.com" in page
    assert ">Imported</span>" in page


def test_help_shows_the_contacts_that_are_set_and_hides_the_others(acme: Organization, client_of: ClientOf) -> None:
    admin = client_of(acme, Role.ADMIN)
    url = reverse("organizations:support", args=["acme"])
    wrong = admin.post(url, {"support_email": "nobody", "booking_url": "javascript:alert(1)"})
    admin.post(url, {"support_email": "help@example.com", "support_url": "https://help.example.com/"})

    text = admin.get(reverse("dashboard:help", args=["acme"])).content.decode()

    assert wrong.status_code == 422
    assert 'href="mailto:help@example.com?subject=' in text
    assert 'href="https://help.example.com/"' in text
    assert "Book a meeting" not in text
    SupportContact.objects.update(booking_url="https://book.example.com/")
    assert "Book a meeting" in admin.get(reverse("dashboard:help", args=["acme"])).content.decode()
    assert AuditEvent.objects.of(acme).get(action="organization.support_changed").after == {
        "support_email": "help@example.com",
        "support_url": "https://help.example.com/",
    }


def test_every_document_is_rendered_and_found(acme: Organization, client_of: ClientOf) -> None:
    viewer = client_of(acme, Role.VIEWER)
    base = reverse("dashboard:help-docs", args=["acme"])

    for name in doc_names():
        found = document(name, base)
        assert found is not None
        assert found.title
        for target in re.findall(r'href="(/o/acme/[^"#]+)', found.html):
            assert target.startswith(base)
    assert "segment" in viewer.get(f"{base}decisions/0005-audit-chain/").content.decode()
    assert "audit" in [entry.name for entry in search_docs("checkpoint segments", base)]
    assert viewer.get(base, {"q": "nothing of the kind"}).status_code == 200
    assert viewer.get(f"{base}../settings/").status_code == 404
    assert viewer.get(reverse("dashboard:help-glossary", args=["acme"])).status_code == 200


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("a <script>alert(1)</script>", "<p>a &lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("[x](javascript:alert(1))", "<p>x)</p>"),
        (
            '[x](https://e.example/"onclick=1)',
            '<p><a href="https://e.example/&quot;onclick=1" rel="noopener noreferrer">x</a></p>',
        ),
        ("## A *b* `c<`", '<h2 id="a-b-c">A <i>b</i> <code>c&lt;</code></h2>'),
        ("- a\n- b\n  - c", "<ul><li>a</li><li>b\n<ul><li>c</li></ul></li></ul>"),
        ("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>"),
        ("    x = <1>", '<pre class="code" tabindex="0"><code>x = &lt;1&gt;</code></pre>'),
        ("```\n**x**\n```", '<pre class="code" tabindex="0"><code>**x**</code></pre>'),
        ("> q", "<blockquote><p>q</p></blockquote>"),
        ("snake_case_name and 2*3*4", "<p>snake_case_name and 2*3*4</p>"),
    ],
)
def test_markdown_becomes_safe_html(source: str, html: str) -> None:
    assert render(source)[0] == html
