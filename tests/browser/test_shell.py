from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from apps.operators.models import Operator, Role
from apps.operators.services import make_first_owner_link
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert
from apps.sandbox.server import Sandbox
from apps.users.models import SyncRun
from apps.users.services import request_sync, run_sync
from tests.browser.pages import faults_of, scrolls_sideways, sign_in

pytestmark = pytest.mark.browser

PATHS = (
    "/o/acme/",
    "/o/acme/alerts/",
    "/o/acme/audit/",
    "/o/acme/audit/?view=detail",
    "/o/acme/audit/verify/",
    "/o/acme/help/",
    "/o/acme/first-sync/",
    "/o/acme/first-rule/",
    "/o/acme/settings/general/",
    "/o/acme/settings/connection/",
    "/o/acme/settings/people/",
    "/o/acme/settings/safeguards/",
    "/o/acme/settings/groups/",
    "/o/acme/settings/stop/",
    "/o/acme/api-access/",
    "/me/",
    "/me/password/",
    "/setup/",
    "/setup/connect/",
    "/o/acme/nothing-here/",
)


@pytest.fixture
def synced(transactional_db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    organization = connect(sandbox)
    run = request_sync(organization=organization, actor=Actor.system())
    run_sync(run.pk, budget_seconds=None, wait_here=True)
    raise_alert(organization=organization, kind="x", severity="warning", title="Look here", detail="Something is odd.")
    return organization


@pytest.fixture
def owner(synced: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(synced, "juniper.testcase@example.com", Role.OWNER)


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_pages_have_no_fault_that_axe_finds_and_do_not_scroll_sideways(
    owner: Operator, live_server: LiveServer, open_page: Callable[..., Page], width: int, dark: bool
) -> None:
    page = open_page(width, dark=dark)
    sign_in(page, owner, live_server.url)
    found: list[str] = []

    for path in PATHS:
        page.goto(path)
        page.wait_for_load_state("networkidle")
        found += [f"{path}: {fault}" for fault in faults_of(page)]
        if scrolls_sideways(page):
            found.append(f"{path}: scrolls sideways")

    assert found == []


def test_first_run_leads_from_the_link_to_the_first_rule(
    transactional_db: None,
    settings: Settings,
    tmp_path: Path,
    sandbox: Sandbox,
    open_page: Callable[..., Page],
) -> None:
    settings.AUM_DEMO_API_URL = sandbox.url
    settings.AUM_DATA_DIR = tmp_path
    page = open_page()

    page.goto(f"/setup/{make_first_owner_link()}/")
    page.get_by_label("Name").fill("Juniper Testcase")
    page.get_by_label("Email").fill("juniper@example.com")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Create owner").click()
    page.get_by_label("I work alone here").check()
    page.get_by_role("button", name="Start the demo").click()
    page.wait_for_url("**/first-sync/")
    run_sync(SyncRun.objects.get().pk, budget_seconds=None, wait_here=True)
    page.get_by_role("link", name="Create your first rule").click()
    page.get_by_role("link", name="Create this rule in Safe mode").click()

    expect(page).to_have_url(re.compile(r"/rules/new/\?action="))
    page.goto("/o/demo/")
    expect(page.get_by_text("One-operator mode.")).to_be_visible()
    expect(page.get_by_text("Demo organisation.")).to_be_visible()


def test_everything_is_reached_without_script(
    owner: Operator, live_server: LiveServer, open_page: Callable[..., Page]
) -> None:
    page = open_page(script=False)
    sign_in(page, owner, live_server.url)

    page.goto("/o/acme/")
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_text("people read, waiting for a worker").first).to_be_visible()
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("link", name="Organisation connection").click()
    page.get_by_role("link", name="Replace").click()
    expect(page.get_by_role("heading", name="Configure Atlassian API credentials")).to_be_visible()
    page.goto("/o/acme/audit/?view=detail")
    expect(page.get_by_text("Sync finished").first).to_be_visible()


def test_keyboard_menu_dialog_and_drawer(
    owner: Operator, live_server: LiveServer, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    sign_in(page, owner, live_server.url)
    page.goto("/o/acme/")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("a")
    page.wait_for_url("**/audit/")
    page.keyboard.press("/")
    expect(page.get_by_label("Search operations")).to_be_focused()
    page.keyboard.type("g a ?")
    expect(page.get_by_label("Search operations")).to_have_value("g a ?")

    narrow = open_page(390, 844)
    sign_in(narrow, owner, live_server.url)
    narrow.goto("/o/acme/")
    expect(narrow.get_by_role("link", name="Audit Logs")).to_be_hidden()
    narrow.get_by_role("button", name="Open navigation").click()
    narrow.get_by_role("link", name="Audit Logs").click()
    narrow.wait_for_url("**/audit/")


def test_log_filters_and_rows_work_in_place(
    owner: Operator, live_server: LiveServer, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    sign_in(page, owner, live_server.url)
    page.goto("/o/acme/audit/")

    page.get_by_label("Search operations").fill("nothing like it")
    page.get_by_label("Search operations").press("Enter")
    expect(page.get_by_text("No operation matches these filters")).to_be_visible()
    assert "q=nothing" in page.url
    page.get_by_role("link", name="Clear all").click()
    expect(page.locator(".oprow .name", has_text="Directory sync")).to_be_visible()


def test_refused_credentials_reopen_the_dialog_at_the_field(
    owner: Operator, live_server: LiveServer, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    sign_in(page, owner, live_server.url)
    page.goto("/o/acme/")

    page.get_by_role("link", name="Configure").click()
    expect(page.get_by_label("Email ID")).not_to_have_value("")
    page.get_by_label("API key", exact=True).fill("wrong")
    page.get_by_role("button", name="Save configuration").click()

    dialog = page.get_by_role("dialog", name="Configure Atlassian API credentials")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("alert")).to_be_focused()
    expect(page.get_by_label("API key", exact=True)).to_have_attribute("aria-invalid", "true")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_api_reference_runs_under_the_policy(
    owner: Operator, live_server: LiveServer, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    sign_in(page, owner, live_server.url)

    page.goto("/api/docs/")

    expect(page.get_by_text("Automated User Management for Atlassian Cloud.")).to_be_visible()
