"""Keep links (B8, DECISIONS.md §17): what scanners cannot press, what a link alone may do, and what needs a code."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client, override_settings
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.notifications import links
from apps.notifications.models import Delivery, EmailTemplate, KeepDecision, MailSettings
from apps.notifications.services import keep as keeping
from apps.operations.models import Operation, OperationItem
from apps.operations.services import run_planning
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.users.models import Account, Exemption
from tests.notifications.conftest import Mailbox, send_all
from tests.notifications.test_ladder import fresh_sync, make_live, plan, tell  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db


@pytest.fixture
def link(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
) -> str:
    """The path of the link in the mail that John got."""
    make_account("john", idle_days=24)
    make_live(f"{make_template().pk}:7:person")
    tell(organization)
    body = mailbox.mails()[0].get_body(("plain",))
    assert body is not None
    found = re.search(r"http://[^/]+(/k/\S+/)", body.get_content())
    assert found is not None
    return found[1]


@pytest.mark.parametrize("times", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_thousand_scanners_change_nothing_and_one_confirmed_post_keeps_the_access_once(
    times: int, link: str, organization: Organization
) -> None:
    scanner = Client(headers={"user-agent": "Mimecast"})
    statuses = {scanner.get(link, REMOTE_ADDR=f"10.0.{number // 250}.1").status_code for number in range(times)}
    scanner.head(link)
    unchanged = (KeepDecision.objects.count(), Exemption.objects.count())
    events = AuditEvent.objects.filter(action__startswith="keep_link").count()
    person = Client(enforce_csrf_checks=True)
    kept = person.post(link, {"choice": "keep", "reason": "On parental leave until spring"})
    again = person.post(link, {"choice": "keep", "reason": "On parental leave until spring"})
    shown = person.get(link)

    assert statuses == {200}
    assert unchanged == (0, 0)
    assert events == 0
    assert kept.status_code == 200
    assert b"Your access is kept" in kept.content
    assert (again.status_code, shown.status_code) == (410, 410)
    snooze = Exemption.objects.get()
    assert snooze.until is not None
    assert timedelta(days=29) < snooze.until - timezone.now() <= timedelta(days=30)
    audited = AuditEvent.objects.get(action="keep_link.keep")
    assert audited.reason == "On parental leave until spring"
    assert plan(CleanupRule.objects.get())[0] == set()


def test_the_page_needs_no_sign_in_shows_no_name_and_leaves_no_trace(link: str, client: Client) -> None:
    answer = client.get(link)
    page = answer.content.decode()

    assert "john" not in page.lower()
    assert "Acme" in page
    assert answer["Referrer-Policy"] == "no-referrer"
    assert "no-store" in answer["Cache-Control"]
    assert answer.cookies == {}
    assert "script" not in page
    assert "http" not in re.sub(r"https?://\S+/k/", "", page).replace("http-equiv", "")


@pytest.mark.parametrize("change", ["flip", "cut", "other", "words", "long"])
def test_a_link_that_was_altered_does_not_exist(change: str, link: str, client: Client) -> None:
    token = link.split("/")[2]
    altered = {
        "flip": ("B" if token[0] != "B" else "C") + token[1:],
        "cut": token[:-1],
        "other": f"{token.partition('.')[0]}.{'A' * 27}",
        "words": "please-let-me-in",
        "long": "A" * 5000,
    }[change]

    assert client.get(f"/k/{altered}/").status_code == 404
    assert client.post(f"/k/{altered}/", {"choice": "keep", "reason": "because"}).status_code == 404
    assert not KeepDecision.objects.exists()


def test_expired_links_a_missing_reason_and_the_limit_of_a_year_are_refused(
    link: str, client: Client, organization: Organization
) -> None:
    no_reason = client.post(link, {"choice": "keep", "reason": " "})
    MailSettings.objects.update(keep_per_year=0)
    limited = client.post(link, {"choice": "keep", "reason": "I need it"})
    MailSettings.objects.update(keep_per_year=2)
    Delivery.objects.update(keep_until=timezone.now() - timedelta(seconds=1))
    expired = client.post(link, {"choice": "keep", "reason": "I need it"})

    assert (no_reason.status_code, limited.status_code, expired.status_code) == (422, 409, 410)
    assert not KeepDecision.objects.exists()


def newest_code(mailbox: Mailbox) -> str:
    body = mailbox.mails()[-1].get_body(("plain",))
    assert body is not None
    found = re.search(r"\b(\d{8})\b", body.get_content())
    assert found is not None
    return found[1]


def test_giving_up_needs_the_code_that_was_mailed_to_the_present_address(
    link: str, client: Client, organization: Organization, mailbox: Mailbox
) -> None:
    Account.objects.filter(account_id="john").update(email="john.new@example.com")
    asked = client.post(link, {"choice": "release"})
    send_all(organization)
    code = newest_code(mailbox)
    wrong = client.post(link, {"choice": "release", "code": str((int(code) + 1) % 10**8).zfill(8)})
    before = Operation.objects.count()
    right = client.post(link, {"choice": "release", "code": f"{code[:4]} {code[4:]}"})
    again = client.post(link, {"choice": "release", "code": code})
    operation = Operation.objects.get()

    frozen, action = operation.frozen["selection"]["account_ids"], operation.action
    suspended_by_rule(organization)
    taken = client.get(link).content

    assert b"Enter the code" in asked.content
    assert b"You gave it up on" in taken
    assert b"because there was no login" not in taken
    assert mailbox.recipients[-1] == "john.new@example.com"
    assert (wrong.status_code, before) == (422, 0)
    assert right.status_code == 200
    assert again.status_code == 410
    assert (frozen, action) == (["john"], "suspend")
    assert not any(code in row.html + row.text for row in Delivery.objects.all())


def test_five_wrong_codes_end_a_code(link: str, client: Client, organization: Organization, mailbox: Mailbox) -> None:
    client.post(link, {"choice": "release"})
    send_all(organization)
    code = newest_code(mailbox)
    for number in range(5):
        client.post(link, {"choice": "release", "code": f"0000000{number}"})

    assert client.post(link, {"choice": "release", "code": code}).status_code == 422
    assert not KeepDecision.objects.exists()


def suspended_by_rule(organization: Organization, **fields: Any) -> OperationItem:
    """John was suspended by the rule: what a run leaves behind."""
    rule, john, now = CleanupRule.objects.get(), Account.objects.get(account_id="john"), timezone.now()
    Account.objects.filter(pk=john.pk).update(membership_status=2, status_changed_at=now)
    operation = Operation.objects.create(
        organization=organization,
        number=900,
        kind="scheduled_cleanup",
        mode="live",
        status="succeeded",
        initiator="automated",
        actor_text="Scheduler",
        name=rule.name,
        action="suspend",
        rule_id=rule.pk,
        finished_at=now,
    )
    values: dict[str, Any] = {"finished_at": now} | fields
    item: OperationItem = OperationItem.objects.create(
        organization=organization,
        operation=operation,
        account=john,
        subject="john",
        action="suspend",
        target="directory:dir-acme",
        parameters={"directory": "dir-acme"},
        status="finished",
        outcome="done",
        **values,
    )
    return item


def ask_back(link: str, client: Client, organization: Organization, mailbox: Mailbox) -> KeepDecision:
    client.post(link, {"choice": "return"})
    send_all(organization)
    answer = client.post(link, {"choice": "return", "code": newest_code(mailbox), "reason": "Back from leave"})
    assert answer.status_code == 200
    return KeepDecision.objects.get(choice="return")


def test_access_taken_by_the_rule_comes_back_by_itself_within_30_days_and_the_rule_goes_on(
    link: str, client: Client, organization: Organization, mailbox: Mailbox
) -> None:
    suspended_by_rule(organization)
    page = client.get(link).content
    decision = ask_back(link, client, organization, mailbox)
    operation = Operation.objects.get(pk=decision.operation_id)
    run_planning(operation.pk)
    operation.refresh_from_db()

    assert b"Request access again" in page
    assert decision.status == "applied"
    assert operation.status == "queued"
    assert list(operation.items.values_list("subject", "action")) == [("john", "restore")]
    assert not CleanupRule.objects.get().is_paused


@pytest.mark.parametrize("why", ["old", "changed", "seats"])
def test_otherwise_the_return_waits_for_an_approval(
    why: str, link: str, client: Client, organization: Organization, mailbox: Mailbox
) -> None:
    from apps.pricing.models import LicenceAlert
    from apps.users.models import ProductAccess

    old = {"finished_at": timezone.now() - timedelta(days=31)} if why == "old" else {}
    if why == "old":
        Delivery.objects.update(created_at=timezone.now() - timedelta(days=40))
    suspended_by_rule(organization, **old)
    john = Account.objects.get(account_id="john")
    if why == "changed":
        Account.objects.filter(pk=john.pk).update(status_changed_at=timezone.now() + timedelta(hours=1))
    if why == "seats":
        ProductAccess.objects.create(
            organization=organization, account=john, product="jira", resource="ari:x", activity=3
        )
        LicenceAlert.objects.create(
            organization=organization, product="jira", above=0, set_by="test", set_at=timezone.now()
        )
    decision = ask_back(link, client, organization, mailbox)
    operation = Operation.objects.get(pk=decision.operation_id)
    run_planning(operation.pk)
    operation.refresh_from_db()

    assert decision.status == "approval"
    assert operation.status == "held"
    assert [reason["code"] for reason in operation.held_reasons] == ["return_request"]


@override_settings(ROOT_URLCONF="aum.public_urls", AUM_SURFACE="public", AUM_ENCRYPTION_KEYS=[])
def test_the_public_surface_serves_the_link_writes_one_row_and_leaves_the_rest_to_a_private_process(
    link: str, organization: Organization
) -> None:
    client = Client()
    others = {path: client.get(path).status_code for path in ("/", "/o/acme/", "/login/", "/api/v1/", "/admin/")}
    style = {
        client.get(f"/{place}/{name}").status_code for place in ("k", "hooks") for name in ("style.css", "icon.svg")
    }
    kept = client.post(link, {"choice": "keep", "reason": "I need it"})
    waiting = KeepDecision.objects.get().status
    snoozed = Exemption.objects.count()
    keeping.carry_out_waiting()

    assert set(others.values()) == {404}
    assert (style, kept.status_code, waiting, snoozed) == ({200}, 200, "waiting", 0)
    assert KeepDecision.objects.get().status == "applied"
    assert Exemption.objects.count() == 1


def test_a_link_names_one_mail_only(link: str) -> None:
    row = Delivery.objects.get(kind="notice")

    assert links.delivery_uuid(links.token_of(row)) == row.uuid
    assert links.delivery_uuid(link.split("/")[2]) == row.uuid
