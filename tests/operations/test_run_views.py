"""Pages of runs that were really carried out against the sandbox."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.operations.models import Operation
from apps.operations.selection import AccountsSelection
from apps.operations.services import run_planning
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.users.models import Account, MembershipStatus
from tests.operations.test_views import HTMX, page_of, people, some


@pytest.fixture
def browser(author: Operator) -> Client:
    """The admin who plans and runs."""
    client = Client()
    client.force_login(author)
    return client


def test_run_shows_results_and_ends_its_polling(
    plan: Callable[..., Operation], execute: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    operation = plan(selection=some(organization, 3))
    queued = browser.get(page_of(operation, "_progress?seen=0"), headers=HTMX)
    execute(operation)

    page = browser.get(page_of(operation)).content.decode()
    finished = browser.get(page_of(operation, "_progress?seen=0"), headers=HTMX)

    assert b"every 2s" in queued.content
    assert b"every" not in finished.content.replace(b"everything", b"")
    assert finished["HX-Trigger-After-Settle"] == "run-changed"
    assert 'hx-swap-oob="true"' in finished.content.decode()
    assert "Suspended" in page
    assert "Undo run…" in page
    assert 'aria-valuenow="3"' in page or f'aria-valuenow="{operation.planned_count}"' in page


@pytest.mark.parametrize("tab", ["all", "success", "failed", "skipped", "todo", "other"])
def test_tabs_of_a_run_filter_its_people(
    plan: Callable[..., Operation],
    execute: Callable[..., Operation],
    browser: Client,
    organization: Organization,
    tab: str,
) -> None:
    operation = execute(plan(selection=some(organization, 2)))

    page = browser.get(page_of(operation, f"?tab={tab}")).content.decode()

    assert ("/o/acme/users/" + str(people_of(operation)[0]) in page) == (tab in ("all", "success", "other"))


def people_of(operation: Operation) -> list[int]:
    return list(operation.items.order_by("pk").values_list("account_id", flat=True))


def test_run_asks_the_same_number_of_questions_for_2_and_20(
    plan: Callable[..., Operation], execute: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    many_people = people(organization, 22)
    small = execute(plan(selection=AccountsSelection(tuple(a.account_id for a in many_people[:2]))))
    large = execute(plan(selection=AccountsSelection(tuple(a.account_id for a in many_people[2:]))))
    browser.get(page_of(small))

    with CaptureQueriesContext(connection) as few:
        browser.get(page_of(small))
    with CaptureQueriesContext(connection) as many:
        browser.get(page_of(large))

    assert len(many) == len(few)


def test_button_of_a_page_that_is_out_of_date_says_so(
    plan: Callable[..., Operation], execute: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    operation = execute(plan(selection=some(organization, 2)))

    answer = browser.post(page_of(operation, "pause/"), follow=True)

    assert "no longer in a state that allows this" in answer.content.decode()


def test_undo_asks_for_the_count_and_links_both_ways(
    plan: Callable[..., Operation], execute: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    chosen = [account.pk for account in people(organization, 3)]
    operation = execute(plan(selection=some(organization, 3)))

    wrong = browser.post(page_of(operation, "undo/"), {"confirm_count": "1"})
    right = browser.post(page_of(operation, "undo/"), {"confirm_count": "3"})
    undo = Operation.objects.get(undo_of=operation)
    run_planning(undo.pk)
    undo.refresh_from_db()
    execute(undo)

    assert wrong.status_code == 422
    assert right["Location"] == page_of(undo)
    assert page_of(undo) in browser.get(page_of(operation)).content.decode()
    assert page_of(operation) in browser.get(page_of(undo)).content.decode()
    assert {row.membership_status for row in Account.objects.filter(pk__in=chosen)} == {MembershipStatus.ACTIVE}


def test_one_person_is_undone_with_a_plain_confirmation(
    plan: Callable[..., Operation], execute: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    operation = execute(plan(selection=some(organization, 3)))
    subject = operation.items.order_by("pk")[0].subject
    url = page_of(operation, f"undo/?account={subject}")

    question = browser.get(url).content.decode()
    browser.post(url)
    undo = Operation.objects.get(undo_of=operation)
    run_planning(undo.pk)

    assert "to confirm" not in question
    assert set(undo.items.values_list("subject", flat=True)) == {subject}


def test_undo_can_be_previewed_first(
    plan: Callable[..., Operation], execute: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    operation = execute(plan(selection=some(organization, 2)))

    answer = browser.post(page_of(operation, "undo-preview/"))
    preview = Operation.objects.get(undo_of=operation)
    run_planning(preview.pk)

    assert preview.mode == "safe"
    assert "Restore 2 users…" in browser.get(answer["Location"]).content.decode()


def test_retry_of_a_run_without_failures_says_so(
    plan: Callable[..., Operation], execute: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    operation = execute(plan(selection=some(organization, 2)))

    answer = browser.post(page_of(operation, "retry/"), follow=True)

    assert "Nothing failed in this run." in answer.content.decode()


def test_previews_and_runs_of_one_person_are_listed(
    plan: Callable[..., Operation], execute: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    account = people(organization, 1)[0]
    plan(mode="safe", selection=some(organization, 1))
    execute(plan(selection=some(organization, 1)))

    page = browser.get(f"/o/acme/users/{account.pk}/runs/").content.decode()
    timeline = browser.get(f"/o/acme/users/{account.pk}/").content.decode()

    assert "Found by preview" in page
    assert "Suspended" in page
    assert "run #2" in timeline
