"""Screens of people, rules, plans, runs and approvals in a real browser: axe, narrow windows, dark, no script."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.operations.models import Operation
from apps.operations.selection import AccountsSelection, ActionSpec
from apps.operations.services import apply_preview, execute_operation, plan_operation, run_planning
from apps.operators.models import Operator, Role
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.rules.models import CleanupRule
from apps.rules.services import RuleInput, create_rule, preview_rule
from apps.sandbox.server import Sandbox
from apps.users.models import Account, AccountStatus, ClaimStatus, Group, MembershipStatus
from apps.users.services import request_sync, run_sync, set_exemption
from tests.browser.pages import faults_of, scrolls_sideways, sign_in

pytestmark = pytest.mark.browser


@pytest.fixture
def organization(transactional_db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    organization = connect(sandbox, max_count=200, max_share_percent=90, max_per_day=240, activity_margin_hours=0)
    run = request_sync(organization=organization, actor=Actor.system())
    run_sync(run.pk, budget_seconds=None, wait_here=True)
    return organization


@pytest.fixture
def owner(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "juniper.testcase@example.com", Role.OWNER)


@pytest.fixture
def rule(organization: Organization, owner: Operator) -> CleanupRule:
    protected = Group.objects.of(organization).get(name="jira-administrators")
    values = RuleInput(
        name="Suspend after 60 days",
        inactive_days=60,
        include_never_active=True,
        never_active_days=60,
        recurrence="weekly",
        weekdays=(3,),
        run_at="06:00",  # type: ignore[arg-type]  # as a form gives it
        protected_groups=(protected.pk,),
    )
    return create_rule(organization=organization, values=values, actor=Actor.operator(owner), operator=owner)


def chosen(organization: Organization, count: int) -> list[Account]:
    """Active, managed people whom nothing protects."""
    found = Account.objects.of(organization).filter(
        account_status=AccountStatus.ACTIVE,
        membership_status=MembershipStatus.ACTIVE,
        claim_status=ClaimStatus.MANAGED,
        is_org_admin=False,
        is_site_admin=False,
        is_connection_owner=False,
        kind=1,
    )
    return list(found.order_by("pk")[:count])


@pytest.fixture
def numbers(organization: Organization, owner: Operator, rule: CleanupRule) -> dict[str, int]:
    """Numbers of a preview, a held plan and a finished run."""
    actor = Actor.operator(owner)
    preview = preview_rule(rule=rule, actor=actor, operator=owner)
    run_planning(preview.pk)
    ids = tuple(account.account_id for account in chosen(organization, 3))
    small = plan_operation(
        organization=organization,
        kind=Operation.Kind.MANUAL_OPERATION,
        mode=Operation.Mode.LIVE,
        initiator=Operation.Initiator.MANUAL,
        actor=actor,
        operator=owner,
        name="Suspend: 3 selected users",
        actions=[ActionSpec("suspend")],
        selection=AccountsSelection(ids),
    )
    run_planning(small.pk)
    execute_operation(small.pk)
    organization.max_count = 2
    organization.save()
    preview.refresh_from_db()
    held = apply_preview(operation=preview, plan_hash=preview.plan_hash, actor=actor, operator=owner)
    run_planning(held.pk)
    return {"preview": preview.number, "run": small.number, "held": held.number}


@pytest.mark.parametrize(
    ("width", "dark"),
    [
        (1440, False),
        pytest.param(1440, True, marks=pytest.mark.slow),
        pytest.param(390, False, marks=pytest.mark.slow),
        pytest.param(390, True, marks=pytest.mark.slow),
    ],
)
def test_every_screen_passes_axe_and_fits_its_window(
    open_page: Callable[..., Page],
    live_server: LiveServer,
    organization: Organization,
    owner: Operator,
    rule: CleanupRule,
    numbers: dict[str, int],
    width: int,
    dark: bool,
) -> None:
    account = chosen(organization, 1)[0]
    set_exemption(organization=organization, account=account, reason="Parental leave", until=None, actor=Actor.system())
    paths = [
        "users/",
        "users/?claim_status=managed&search=an",
        "users/?search=nobody-is-called-so",
        f"users/?user={account.pk}",
        f"users/{account.pk}/",
        f"users/{account.pk}/exempt/",
        "users/views/new/?claim_status=managed",
        "users/exports/",
        "exemptions/?who=an",
        "exemptions/?view=ended",
        "rules/",
        "rules/new/?action=remove_product_access&products=jira&days=30&name=Jira",
        f"rules/{rule.pk}/edit/",
        f"rules/{rule.pk}/delete/",
        f"runs/{numbers['preview']}/",
        f"runs/{numbers['preview']}/?tab=skipped",
        f"runs/{numbers['held']}/",
        f"runs/{numbers['run']}/",
        f"runs/{numbers['run']}/undo/",
        f"users/{account.pk}/runs/",
        "approvals/",
        "approvals/?view=decided",
    ]
    page = open_page(width=width, dark=dark)
    sign_in(page, owner, live_server.url)

    found: dict[str, list[str]] = {}
    for path in paths:
        answer = page.goto(f"/o/acme/{path}")
        assert answer is not None
        assert answer.ok, path
        faults = faults_of(page)
        if scrolls_sideways(page):
            faults.append("scrolls sideways")
        if faults:
            found[path] = faults

    assert found == {}


def test_users_are_filtered_looked_at_and_planned_for(
    open_page: Callable[..., Page], live_server: LiveServer, organization: Organization, owner: Operator
) -> None:
    page = open_page()
    sign_in(page, owner, live_server.url)
    page.goto("/o/acme/users/")

    page.click("#filter-claim_status")
    page.check("input[name=claim_status][value=managed]")
    expect(page).to_have_url(re.compile(r"/users/\?claim_status=managed$"))
    expect(page.locator("#filter-claim_status")).to_contain_text("Managed")
    page.keyboard.press("Escape")
    first = page.locator("tbody tr").first
    name = first.locator("th a").inner_text().splitlines()[0]
    first.locator("th a").click()
    expect(page.locator("#person-name")).to_be_focused()
    expect(page.locator("#person-name")).to_contain_text(name.rstrip("…"))
    page.keyboard.press("Escape")
    expect(page.locator("#person-name")).to_have_count(0)
    expect(first.locator("th a")).to_be_focused()

    expect(page.locator(".bulk")).to_be_hidden()
    page.locator("tbody input[name=accounts]").nth(3).check()
    expect(page.locator(".bulk [role=status]")).to_have_text("1 selected")
    page.locator("tbody input[name=accounts]").nth(5).click(modifiers=["Shift"])
    expect(page.locator(".bulk [role=status]")).to_have_text("3 selected")
    page.select_option(".bulk select", "suspend")
    page.click("text=Preview actions")
    page.click("text=Confirm and preview")
    expect(page.locator("h1")).to_contain_text("Suspend: 3 selected users")
    expect(page.locator("#progress")).to_be_visible()
    run_planning(Operation.objects.get().pk)
    expect(page.locator(".sum")).to_be_visible(timeout=10_000)  # the page has polled and opened the plan by itself


def test_last_rows_menu_is_not_cut_off(
    open_page: Callable[..., Page], live_server: LiveServer, owner: Operator, rule: CleanupRule
) -> None:
    page = open_page()
    sign_in(page, owner, live_server.url)
    page.goto("/o/acme/rules/")

    page.click("tbody details.menu summary")
    page.click("text=Delete rule… >> visible=true")

    expect(page.locator("dialog[open] #confirm-name")).to_be_focused()
    page.fill("#confirm-name", "something else")
    page.click("dialog button.danger")
    expect(page.locator("dialog .err")).to_contain_text("exactly as it is shown")
    page.fill("#confirm-name", rule.name)
    page.click("dialog button.danger")
    expect(page.locator(".empty h2")).to_have_text("No rules yet")


def test_editor_counts_while_one_types(
    open_page: Callable[..., Page], live_server: LiveServer, owner: Operator, rule: CleanupRule
) -> None:
    page = open_page()
    sign_in(page, owner, live_server.url)
    page.goto(f"/o/acme/rules/{rule.pk}/edit/")
    before = page.locator("#summary .stat-n").inner_text()

    page.fill("#id_inactive_days", "400")
    expect(page.locator("#summary .sentence")).to_contain_text("for 400 days")
    expect(page.locator("#summary .stat-n")).not_to_have_text(before)
    page.fill("#id_inactive_days", "0")
    expect(page.locator("#summary .sentence")).to_contain_text("not complete")
    page.click("aside button:has-text('Save rule')")
    expect(page.locator(".form-errors")).to_be_focused()
    page.click(".form-errors a")
    expect(page.locator("#id_inactive_days")).to_be_focused()


def test_held_plan_is_confirmed_in_a_dialog_and_the_run_moves_to_its_end(
    open_page: Callable[..., Page],
    live_server: LiveServer,
    organization: Organization,
    operators: Callable[..., Operator],
    numbers: dict[str, int],
) -> None:
    approver = operators(organization, "tansy.mockname@example.com", Role.APPROVER)
    page = open_page()
    sign_in(page, approver, live_server.url)
    page.goto("/o/acme/approvals/")

    page.click("tbody a.btn")
    page.click("text=Approve…")
    page.fill("dialog #confirm-reason", "Looks right")
    page.click("dialog button.danger")
    expect(page.locator("#progress-title")).to_contain_text("0 of")
    execute_operation(Operation.objects.get(number=numbers["held"]).pk)

    expect(page.locator("#progress-title")).to_contain_text("Success", timeout=15_000)
    expect(page.locator("#progress")).not_to_have_attribute("hx-trigger", re.compile("every"))
    expect(page.locator("#items tbody")).to_contain_text("Suspended")
    expect(page.locator("#run-side")).to_contain_text("Approved")


def test_everything_works_without_script(
    open_page: Callable[..., Page],
    live_server: LiveServer,
    organization: Organization,
    owner: Operator,
    rule: CleanupRule,
) -> None:
    page = open_page(script=False)
    sign_in(page, owner, live_server.url)

    page.goto("/o/acme/users/")
    page.fill("#q", "an")
    page.click("#filters button[type=submit]:has-text('Search')")
    assert "search=an" in page.url
    page.locator("tbody th a").first.click()
    expect(page.locator("aside.panel h2")).to_be_visible()
    page.click("aside.panel a[aria-label=Close]")
    person = chosen(organization, 1)[0]
    page.goto(f"/o/acme/users/{person.pk}/")
    page.click("button:has-text('Suspend user')")
    operation = Operation.objects.get()
    run_planning(operation.pk)
    page.reload()
    page.click("a:has-text('Suspend 1 user…')")
    page.click("button:has-text('Suspend 1 user')")
    live = Operation.objects.get(applies=operation)
    run_planning(live.pk)
    execute_operation(live.pk)
    page.reload()
    expect(page.locator("#progress-title")).to_contain_text("Success")

    page.goto(f"/o/acme/rules/{rule.pk}/delete/")
    page.fill("#confirm-name", rule.name)
    page.click("button:has-text('Delete rule')")
    expect(page.locator(".empty h2")).to_have_text("No rules yet")
