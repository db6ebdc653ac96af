"""One person: what gives and what frees a seat, and everything that happened, in order."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.audit.services import record
from apps.operations.models import LeftOut, Operation, OperationItem
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import Account, Activity, ProductAccess
from apps.users.registries import TimelineEntry, timeline_sources
from apps.users.selectors import person_detail
from apps.users.selectors.timeline import timeline, whole_timeline
from apps.users.services import set_exemption
from aum.common.errors import InvalidInput
from tests.users.conftest import make_account, make_group

pytestmark = pytest.mark.django_db
SYSTEM = Actor.system()


@pytest.fixture
def notices() -> Iterator[list[TimelineEntry]]:
    """What another app tells of everybody."""
    told: list[TimelineEntry] = []

    def source(account: Account, before: datetime | None, limit: int) -> Sequence[TimelineEntry]:
        found = [entry for entry in told if before is None or entry.at < before]
        return sorted(found, key=lambda entry: entry.at, reverse=True)[:limit]

    timeline_sources.append(source)
    yield told
    timeline_sources.remove(source)


def access(account: Account, product: str, **fields: object) -> ProductAccess:
    values = {"site": "acme", "resource": f"ari:{product}", "activity": Activity.KNOWN, **fields}
    row: ProductAccess = ProductAccess.objects.create(
        organization=account.organization, account=account, product=product, **values
    )
    return row


def happened(account: Account, action: str, outcome: str = "success", **fields: Any) -> None:
    record(
        organization=account.organization,
        actor=SYSTEM,
        action=action,
        outcome=outcome,
        target_kind="account",
        target_ref=account.account_id,
        target_name=account.name,
        **fields,
    )


def operation(organization: Organization, number: int, mode: str) -> Operation:
    made: Operation = Operation.objects.create(
        organization=organization,
        number=number,
        kind=Operation.Kind.MANUAL_OPERATION,
        mode=mode,
        status=Operation.Status.PREVIEWED if mode == "safe" else Operation.Status.HELD,
        initiator=Operation.Initiator.MANUAL,
        actor_text="Anna",
        name="Clean up",
        action="suspend",
        planned_at=timezone.now(),
    )
    return made


def test_timeline_tells_everything_newest_first(plain: Organization, notices: list[TimelineEntry]) -> None:
    now = timezone.now()
    account = make_account(plain, added_to_org_at=now - timedelta(days=400), first_seen_at=now - timedelta(days=300))
    access(account, "jira", last_active_at=now - timedelta(days=90), source="export.csv")
    happened(account, "account.suspend", reason="idle")
    happened(account, "account.remove_from_group", "failed", group_name="staff")
    set_exemption(organization=plain, account=account, reason="leave", until=None, actor=SYSTEM)
    preview, plan = operation(plain, 1, "safe"), operation(plain, 2, "live")
    for holder in (preview, plan):
        OperationItem.objects.create(
            organization=plain, operation=holder, account=account, subject=account.account_id, action="suspend"
        )
    LeftOut.objects.create(organization=plain, operation=preview, account=account, reason="protected")
    notices.append(TimelineEntry(now - timedelta(days=2), "notice", "Warned by mail"))

    entries = list(whole_timeline(account))

    assert [entry.at for entry in entries] == sorted((entry.at for entry in entries), reverse=True)
    titles = {entry.title: entry for entry in entries}
    assert titles.keys() == {
        "Joined the organisation", "First seen by a sync", "Last login to Jira Software on acme", "Suspended",
        "Removed from group: failed: staff", "Exempted", "Found by preview: Suspend", "In a plan: Suspend",
        "Left out: protected", "Warned by mail",
    }  # fmt: skip
    assert titles["Last login to Jira Software on acme"].detail == "from export.csv"
    assert titles["Found by preview: Suspend"].url == "/o/plain/runs/1/"
    kinds = {entry.kind for entry in timeline(account, kinds=["failure", "exemption"]).entries}
    assert kinds == {"failure", "exemption"}
    with pytest.raises(InvalidInput):
        timeline(account, kinds=["gossip"])


def test_pages_of_a_timeline_lose_nothing_although_moments_are_equal(
    plain: Organization, notices: list[TimelineEntry]
) -> None:
    account = make_account(plain)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    notices += [TimelineEntry(start + timedelta(hours=n // 3), "notice", f"Mail {n}") for n in range(700)]

    seen, before = [], None
    while True:
        page = timeline(account, kinds=["notice"], before=before, limit=50)
        seen += [entry.title for entry in page.entries]
        before = page.older
        if before is None:
            break

    assert len(seen) == len(set(seen)) == 700


def test_finished_item_of_a_run_is_told_once_by_its_audit_event(plain: Organization) -> None:
    account = make_account(plain)
    OperationItem.objects.create(
        organization=plain,
        operation=operation(plain, 1, "live"),
        account=account,
        subject=account.account_id,
        action="suspend",
        status="finished",
        outcome="done",
        finished_at=timezone.now(),
    )

    assert timeline(account, kinds=["preview"]).entries == []


def test_page_of_a_person_filters_and_exports_the_timeline(
    plain: Organization, operators: Callable[..., Operator]
) -> None:
    account = make_account(plain, name="=cmd")
    happened(account, "account.suspend", reason="=HYPERLINK()")
    set_exemption(organization=plain, account=account, reason="leave", until=None, actor=SYSTEM)
    client = Client()
    client.force_login(operators(plain, "v@aum.example", "viewer"))

    page = client.get(f"/o/plain/users/{account.pk}/?kind=exemption").content.decode()
    answer = client.get(f"/o/plain/users/{account.pk}/timeline/?kind=action&kind=nonsense")

    card = page.partition('id="timeline-card"')[2]
    assert "Exempted" in card
    assert "<b>Suspended</b>" not in card
    rows = list(csv.DictReader(io.StringIO(b"".join(answer).decode("utf-8-sig"))))
    assert [(row["kind"], row["title"], row["detail"]) for row in rows] == [("action", "Suspended", "'=HYPERLINK()")]
    assert AuditEvent.objects.get(action="timeline.exported").after == {"kinds": ["action"]}


def test_what_frees_a_seat_is_said_as_far_as_it_is_known(plain: Organization) -> None:
    grant = {"product": "jira", "resource": "ari:jira", "site": "acme", "role": "user"}
    more = {"product": "confluence", "resource": "ari:confluence", "site": "acme", "role": "user"}
    staff = make_group(plain, "staff", grants=[grant, more], are_grants_known=True)
    synced = make_group(plain, "synced", grants=[grant], are_grants_known=True, is_synced=True)
    account = make_account(plain, group_ids=[staff.pk, synced.pk], products=15)
    no, yes = ProductAccess.Direct.NO, ProductAccess.Direct.YES
    access(account, "bitbucket", direct=no)
    access(account, "confluence", direct=yes, group_ids=[staff.pk])
    access(account, "jira", direct=no, group_ids=[staff.pk, synced.pk])
    access(account, "jsm", direct=yes)
    access(account, "trello")

    said = {path.use.product: " ".join(path.frees) for path in person_detail(plain, account.pk).paths}

    assert said == {
        "bitbucket": "Not known. Neither a group nor a direct role gives it; a product's default access may.",
        "confluence": "Leaving staff, and the direct role. staff also gives Jira Software, which goes with it.",
        "jira": "Leaving all of staff and synced. staff also gives Confluence, which goes with it. synced is kept by "
        "the identity provider: the user has to leave it there.",
        "jsm": "Removing the direct role.",
        "trello": "Not known. No group gives it; a direct role or a product's default access may.",
    }
