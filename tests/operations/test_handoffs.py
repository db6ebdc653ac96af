"""Hand-off to the identity provider: opened by a run, closed by a sync, flagged when the access comes back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operations.models import HandOff, LeftOut, Operation, OperationItem
from apps.operations.services import handoffs
from apps.operators.models import Operator
from apps.organizations.models import Alert, Organization
from apps.users.models import Account, ManagementSource, MembershipStatus, SyncRun
from tests.users.conftest import make_account, plain_organization

_numbers = iter(range(1, 1000))


@pytest.fixture
def plain(db: None) -> Organization:
    return plain_organization("plain")


@pytest.fixture
def person(plain: Organization) -> Account:
    return make_account(plain, name="Sam Synced", management_source=ManagementSource.SYNCED, products=1)


def run_of(organization: Organization, account: Account, outcome: str, **fields: Any) -> Operation:
    operation = Operation.objects.create(
        organization=organization,
        number=next(_numbers),
        kind="automation_rule",
        mode="live",
        initiator="manual",
        actor_text="x",
        name="Idle",
        action="suspend",
        status="succeeded",
        **fields,
    )
    if outcome:
        now = timezone.now()
        OperationItem.objects.create(
            organization=organization,
            operation=operation,
            account=account,
            subject=account.account_id,
            action="suspend",
            target="directory:d-plain",
            status="finished" if outcome != "pending" else "pending",
            outcome="" if outcome == "pending" else outcome,
            finished_at=None if outcome == "pending" else now,
            written_at=None if outcome == "pending" else now,
            detail="Managed elsewhere.",
        )
    return operation


def sync(organization: Organization) -> None:
    later = timezone.now() + timedelta(seconds=1)
    run = SyncRun.objects.create(organization=organization, status="succeeded", is_trusted=True, started_at=later)
    handoffs.settle_after_sync(run)


def set_status(person: Account, status: MembershipStatus) -> None:
    Account.objects.filter(pk=person.pk).update(membership_status=status)


def test_line_is_opened_once_closed_by_the_sync_and_flagged_when_it_comes_back(
    plain: Organization, person: Account
) -> None:
    operation = run_of(plain, person, "handed_off")
    handoffs.note_finished(operation)
    handoffs.note_finished(run_of(plain, person, "handed_off"))
    line = HandOff.objects.get()
    assert (line.state, line.operation_id, line.detail) == ("open", operation.pk, "Managed elsewhere.")
    assert Alert.objects.of(plain).filter(kind="hand_off").count() == 1
    sync(plain)
    assert HandOff.objects.get().state == "open"

    set_status(person, MembershipStatus.SUSPENDED)
    sync(plain)
    assert HandOff.objects.get().state == "done"
    HandOff.objects.update(changed_at=timezone.now() - timedelta(hours=1))
    set_status(person, MembershipStatus.ACTIVE)
    sync(plain)
    assert HandOff.objects.get().state == "came_back"
    assert Alert.objects.of(plain).get(kind="came_back").title == "Access of 1 user came back"
    assert list(
        AuditEvent.objects.filter(action__startswith="hand_off.").order_by("pk").values_list("action", flat=True)
    ) == [
        "hand_off.done",
        "hand_off.came_back",
    ]


def test_access_that_the_provider_gives_again_is_not_fought_over(plain: Organization, person: Account) -> None:
    run_of(plain, person, "done")
    set_status(person, MembershipStatus.SUSPENDED)
    sync(plain)
    assert not HandOff.objects.exists()
    set_status(person, MembershipStatus.ACTIVE)
    sync(plain)
    sync(plain)
    assert HandOff.objects.get().state == "came_back"

    by_rule = run_of(plain, person, "pending", rule_id=7)
    handoffs.leave_to_provider(by_rule)
    assert not by_rule.items.exists()
    assert LeftOut.objects.get(operation=by_rule).reason == "came_back"
    by_hand = run_of(plain, person, "pending")
    handoffs.leave_to_provider(by_hand)
    assert by_hand.items.count() == 1


def test_page_lists_downloads_and_closes(
    plain: Organization, person: Account, operators: Callable[..., Operator], client: Client
) -> None:
    handoffs.note_finished(run_of(plain, person, "handed_off"))
    line = HandOff.objects.get()
    client.force_login(operators(plain, "helper@aum.example", "helpdesk"))
    page = client.get("/o/plain/hand-offs/").text
    assert "AUM can act on 0 of 1 people itself" in page
    assert "Sam Synced" in page
    body = b"".join(client.get("/o/plain/hand-offs/export/?state=open")).decode("utf-8-sig")
    assert "Sam Synced" in body
    client.post(f"/o/plain/hand-offs/{line.pk}/close/")
    line.refresh_from_db()
    assert (line.state, line.changed_by) == ("closed", "Helper")
    other = plain_organization("other")
    client.force_login(operators(other, "other@aum.example", "owner"))
    assert client.post(f"/o/other/hand-offs/{line.pk}/close/").status_code == 404
