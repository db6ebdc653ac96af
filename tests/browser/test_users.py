"""The users list by keyboard and across pages in a real browser, with and without script, as axe sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.users.models import Account, SavedView, SyncRun
from tests.browser.pages import faults_of, scrolls_sideways, sign_in
from tests.users.conftest import make_account, make_group, plain_organization

pytestmark = pytest.mark.browser


@pytest.fixture
def plain(transactional_db: None) -> Organization:
    """Sixty people and a group, connected to nothing."""
    organization = plain_organization("plain")
    group = make_group(organization, "contractors")
    for number in range(60):
        make_account(organization, name=f"Person {number:02}", group_ids=[group.pk] if number % 2 else [])
    now = timezone.now()
    SyncRun.objects.create(
        organization=organization, status=SyncRun.Status.SUCCEEDED, is_trusted=True, started_at=now, finished_at=now
    )
    return organization


def test_list_is_worked_by_keyboard_and_keeps_what_is_picked(
    open_page: Callable[..., Page], live_server: LiveServer, plain: Organization, operators: Callable[..., Operator]
) -> None:
    page = open_page()
    sign_in(page, operators(plain, "anna@aum.example", "admin"), live_server.url)
    page.goto("/o/plain/users/?limit=25")
    selected = page.locator(".bulk [role=status] b")

    for key in ("j", "j", "x", "j", "j", "Shift+X"):
        page.keyboard.press(key)
    expect(selected).to_have_text("3 selected")
    page.locator("tbody input[name=accounts]").nth(6).focus()
    page.keyboard.press("Shift+Space")
    expect(selected).to_have_text("6 selected")
    page.keyboard.press("Enter")  # must not send the form
    page.click("[rel=next]")
    expect(page.locator(".bulk")).to_contain_text("6 on other pages")
    page.locator("tbody input[name=accounts]").first.check()
    expect(selected).to_have_text("7 selected")
    page.fill("#q", "person 0")
    expect(page.locator(".resultline b").first).to_have_text("10 users")
    expect(selected).to_have_text("7 selected")
    page.locator("[name=all]").check()
    expect(selected).to_have_text("10 selected")
    page.locator("[name=all]").uncheck()
    page.locator("h1").click()
    with page.expect_download() as download:
        page.keyboard.press("e")
    assert len(download.value.path().read_text(encoding="utf-8-sig").splitlines()) == 8
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("#person-name")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.click("[name=clear]")
    expect(page.locator(".bulk")).to_be_hidden()


def test_filters_columns_and_views_are_set_on_the_page(
    open_page: Callable[..., Page], live_server: LiveServer, plain: Organization, operators: Callable[..., Operator]
) -> None:
    people = Account.objects.filter(name__in=["Person 01", "Person 03"])
    people.update(products=1, jira_activity=2, is_activity_read=True)
    page = open_page()
    sign_in(page, operators(plain, "anna@aum.example", "admin"), live_server.url)
    page.goto("/o/plain/users/")

    page.click("#filter-login")
    page.select_option("[name=login_op_jira]", "never")
    expect(page.locator(".resultline b").first).to_have_text("2 users")
    assert faults_of(page) == []
    page.click("#filter-more")
    page.check("[name=kind][value=person]")
    expect(page.locator("#filter-more")).to_contain_text("1")
    expect(page.locator(".resultline .chip")).to_have_count(2)
    page.keyboard.press("Escape")
    page.click("summary:has-text('Columns')")
    page.check("[name=column][value=source]")
    assert faults_of(page) == []
    page.click("text=Show these")
    expect(page.locator("thead th", has_text="Synced by")).to_be_visible()
    expect(page.locator(".resultline b").first).to_have_text("2 users")

    page.click("#views >> text=Save view")
    page.fill("#id_name", "Never in Jira")
    page.check("[name=sharing][value=shared]")
    page.click("button:has-text('Save view')")
    expect(page.locator("#views [aria-current]")).to_contain_text("Never in Jira")
    page.locator(".resultline .chip .x").first.click()
    expect(page.locator("#views [aria-current]")).to_contain_text("(changed)")
    page.click("text=Update view")
    expect(page.locator("#views [aria-current]")).not_to_contain_text("(changed)")
    assert SavedView.objects.get().params != {}
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("tbody input[name=accounts]").first.check()
    expect(page.locator(".bulk")).to_be_visible()
    assert faults_of(page) == []
    assert not scrolls_sideways(page)


def test_selection_is_kept_without_script(
    open_page: Callable[..., Page], live_server: LiveServer, plain: Organization, operators: Callable[..., Operator]
) -> None:
    page = open_page(script=False)
    sign_in(page, operators(plain, "anna@aum.example", "admin"), live_server.url)
    page.goto("/o/plain/users/?limit=25")

    page.locator("tbody input[name=accounts]").first.check()
    page.click("text=Keep the selection, next page")
    page.locator("tbody input[name=accounts]").first.check()
    page.click("text=Keep the selection, previous page")

    expect(page.locator("tbody input[name=accounts]").first).to_be_checked()
    expect(page.locator(".bulk [role=status]")).to_contain_text("1 on other pages")
    with page.expect_download() as download:
        page.click(".bulk >> text=Export")
    assert len(download.value.path().read_text(encoding="utf-8-sig").splitlines()) == 3
