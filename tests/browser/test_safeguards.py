"""A looser safeguard in a real browser: proposed without script by one person, approved by another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.operations.models import SafeguardChange
from apps.operations.services import propose_unprotect
from apps.operators.models import Operator, Role
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import Group
from apps.users.services import protect_group, request_sync, run_sync
from tests.browser.pages import faults_of, scrolls_sideways, sign_in

pytestmark = pytest.mark.browser


@pytest.fixture
def synced(transactional_db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    organization = connect(sandbox)
    run = request_sync(organization=organization, actor=Actor.system())
    run_sync(run.pk, budget_seconds=None, wait_here=True)
    return organization


@pytest.fixture
def juniper(synced: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(synced, "juniper@example.com", Role.OWNER)


@pytest.fixture
def robin(synced: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(synced, "robin@example.com", Role.APPROVER)


@pytest.mark.parametrize(("width", "dark", "script"), [(1440, False, True), (390, True, False)])
def test_one_proposes_and_another_approves(
    synced: Organization,
    juniper: Operator,
    robin: Operator,
    live_server: LiveServer,
    open_page: Callable[..., Page],
    width: int,
    dark: bool,
    script: bool,
) -> None:
    page = open_page(width, dark=dark, script=script)
    sign_in(page, juniper, live_server.url)
    page.goto("/o/acme/settings/safeguards/")
    page.locator("#id_max_count").fill("1600")
    page.get_by_label("Reason").fill("Quarter end")
    page.get_by_role("button", name="Save safeguards").click()
    expect(page.get_by_text("500 → 1,600 people")).to_be_visible()
    expect(page.get_by_text("Nobody approves a change of their own.")).to_be_visible()

    other = open_page(width, dark=dark, script=script)
    sign_in(other, robin, live_server.url)
    other.goto("/o/acme/approvals/")
    other.get_by_role("link", name="Approve change").click()
    other.get_by_role("button", name="Approve the change").click()

    expect(other.get_by_text("takes effect in one hour")).to_be_visible()
    assert SafeguardChange.objects.get().status == "approved"
    synced.refresh_from_db()
    assert synced.max_count == 500


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_pages_of_changes_have_no_fault_that_axe_finds(
    synced: Organization,
    juniper: Operator,
    robin: Operator,
    live_server: LiveServer,
    open_page: Callable[..., Page],
    width: int,
    dark: bool,
) -> None:
    group = Group.objects.of(synced).order_by("pk")[0]
    protect_group(group=group, actor=Actor.operator(juniper))
    change = propose_unprotect(group=group, reason="Not used", actor=Actor.operator(juniper), operator=juniper)
    found: list[str] = []

    base = f"approvals/safeguards/{change.pk}"
    for operator, paths in (
        (juniper, ("settings/safeguards/", "settings/groups/", f"{base}/withdraw/")),
        (robin, ("approvals/", f"{base}/approve/", f"{base}/reject/")),
    ):
        page = open_page(width, dark=dark)
        sign_in(page, operator, live_server.url)
        for path in paths:
            page.goto(f"/o/acme/{path}")
            found += [f"{path}: {fault}" for fault in faults_of(page)]
            if scrolls_sideways(page):
                found.append(f"{path}: scrolls sideways")

    assert found == []
