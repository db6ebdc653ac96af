"""A support person's journey in the Django admin: find, look, follow, and stop what may be stopped; nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.audit.models import AuditEvent
from apps.operators.models import ApiToken, Operator, Role
from apps.operators.services import create_token
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from tests.browser.pages import sign_in

pytestmark = pytest.mark.browser


def test_support_finds_looks_and_revokes_and_is_recorded(
    transactional_db: None,
    live_server: LiveServer,
    open_page: Callable[..., Page],
    operators: Callable[..., Operator],
) -> None:
    acme = Organization.objects.create(slug="acme", name="Acme", org_id="a-1", api_url="http://127.0.0.1:1")
    owner = operators(acme, "owner@aum.example", Role.OWNER)
    token, secret = create_token(
        organization=acme, operator=owner, name="nightly", scopes=["read"], actor=Actor.operator(owner)
    )
    support = Operator.objects.create_user("support@aum.example", "correct horse battery", is_staff=True)
    page = open_page()
    sign_in(page, support, live_server.url)

    page.goto("/admin/")
    page.get_by_role("link", name="Api tokens").first.click()
    page.locator("#searchbar").fill("nightly")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.locator("#result_list tbody th a").click()
    text = page.locator("#content").inner_text()
    assert secret not in text
    assert token.token_hash not in text
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    expect(page.get_by_role("link", name="Delete")).to_have_count(0)

    page.go_back()
    page.locator("#result_list input[name=_selected_action]").check()
    page.locator("select[name=action]").select_option("revoke")
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).first.click()
    page.wait_for_load_state()
    assert ApiToken.objects.get().revoked_at is not None
    assert AuditEvent.objects.filter(action="token.revoked", actor__email="support@aum.example").exists()

    # What support may not: the organisation's own pages.
    assert page.goto("/o/acme/").status == 404  # type: ignore[union-attr]
