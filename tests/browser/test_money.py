"""Dashboard, insights, savings and prices in a real browser, and the way from a finding to exactly its people."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.operations.services import run_planning
from apps.operators.models import Operator, Role
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.pricing.services import PriceInput, add_price
from apps.rules.models import CleanupRule
from apps.rules.services import preview_rule
from apps.sandbox.server import Sandbox
from apps.savings.models import LedgerEntry
from apps.savings.selectors import insight_named
from apps.savings.services import take_snapshot
from apps.users.models import Account
from apps.users.predicates import Context
from apps.users.selectors import AccountFilters
from apps.users.services import request_sync, run_sync
from tests.browser.pages import faults_of, scrolls_sideways, sign_in

pytestmark = pytest.mark.browser


@pytest.fixture
def organization(transactional_db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    organization = connect(sandbox, max_count=200, max_share_percent=90, max_per_day=240, activity_margin_hours=0)
    run = request_sync(organization=organization, actor=Actor.system())
    run_sync(run.pk, budget_seconds=None, wait_here=True)
    for product, amount in (("jira", "7.53"), ("confluence", "6"), ("jsm", "20")):
        values = PriceInput(product=product, unit_price=amount, valid_from="2025-01-01")
        add_price(organization=organization, values=values, actor=Actor.system())
    LedgerEntry.objects.create(
        organization=organization,
        account=Account.objects.of(organization).earliest("pk"),
        product="jira",
        action="suspend",
        freed_at=timezone.now() - timedelta(days=70),
        source_name="Suspend after 60 days",
    )
    take_snapshot(organization)
    return organization


@pytest.fixture
def owner(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "juniper.testcase@example.com", Role.OWNER)


def test_pages_of_money_are_clean_for_axe_and_fit_a_narrow_screen(
    organization: Organization, owner: Operator, open_page: Callable[..., Page], live_server: LiveServer
) -> None:
    wide, narrow = open_page(), open_page(width=390, dark=True)
    for page in (wide, narrow):
        sign_in(page, owner, live_server.url)
    names = ("dashboard:dashboard", "savings:insights", "savings:savings", "savings:licences", "pricing:prices")
    found: dict[str, list[str]] = {}
    for name in (*names, "pricing:new"):
        path = reverse(name, args=[organization.slug])
        wide.goto(path)
        found[name] = faults_of(wide)
        narrow.goto(path)
        if scrolls_sideways(narrow):
            found[name].append("scrolls sideways at 390")

    assert found == {name: [] for name in found}


def test_take_action_opens_a_rule_whose_preview_lists_exactly_the_people_counted(
    organization: Organization, owner: Operator, open_page: Callable[..., Page], live_server: LiveServer
) -> None:
    page = open_page()
    sign_in(page, owner, live_server.url)
    page.goto(f"{reverse('dashboard:dashboard', args=[organization.slug])}?range=60")
    card = page.locator("article.insight", has_text="60+ days inactive everywhere")
    count = int(card.locator("a.n").inner_text().split()[0].replace(",", ""))

    card.get_by_role("link", name="Take action").click()
    expect(page.locator("[name=inactive_days]")).to_have_value("60")
    expect(page.locator("[name=mode][value=safe]")).to_be_checked()
    page.locator("button:not([aria-hidden])", has_text="Save rule").first.click()
    expect(page).to_have_url(re.compile("/rules/"))

    rule = CleanupRule.objects.get()
    plan = preview_rule(rule=rule, actor=Actor.operator(owner), operator=owner)
    run_planning(plan.pk)
    plan.refresh_from_db()
    filters, errors = AccountFilters.parse(QueryDict(insight_named(organization, "inactive_everywhere", 60).list_query))
    listed = Account.objects.of(organization).filter(filters.as_q(Context.of(organization)))
    assert errors == {}
    assert (rule.action, rule.mode) == ("suspend", "safe")
    assert set(plan.items.values_list("subject", flat=True)) == set(listed.values_list("account_id", flat=True))
    assert count == plan.people_count > 0
