"""Screens of imports, invitations, exemptions and hand-off in a real browser: axe, widths and themes, no script."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.operations.models import HandOff, Operation
from apps.operations.services.imports import check_file
from apps.operators.models import Operator, Role
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.services import set_exemption
from apps.users.services.imports import read_import, upload_import
from tests.browser.pages import faults_of, scrolls_sideways, sign_in
from tests.users.conftest import make_account, plain_organization

pytestmark = pytest.mark.browser

EXPORT = (
    "User id,User name,email,User status,Added to org,Groups,Jira - one,Last seen in Jira - one\n"
    "557058:ada,Ada,ada@x.example,Suspended,3 Jan 2024,team-a,User,28 Apr 2026\n"
    ",New,new@x.example,Active,,no-such-group,User,31 Feb 2026\n,,broken,,,,,\n"
)


@pytest.fixture
def organization(transactional_db: None) -> Organization:
    return plain_organization("acme")


@pytest.fixture
def owner(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "juniper.testcase@example.com", Role.OWNER)


@pytest.mark.parametrize(("width", "dark"), [(1440, False), pytest.param(390, True, marks=pytest.mark.slow)])
def test_screens_pass_axe_fit_their_window_and_work_without_script(
    open_page: Callable[..., Page],
    live_server: LiveServer,
    organization: Organization,
    owner: Operator,
    width: int,
    dark: bool,
) -> None:
    actor = Actor.operator(owner)
    ada = make_account(organization, account_id="557058:ada", name="Ada", email="ada@x.example", products=1)
    make_account(organization, name="svc-build", email="svc-build@x.example")
    file = upload_import(organization=organization, name="export.csv", content=EXPORT.encode(), actor=actor)
    read_import(file.pk)
    file.refresh_from_db()
    file = check_file(file=file, mapping=file.mapping)
    until = timezone.now() + timedelta(days=5)
    for subject in ({"account": ada}, {"domain": "x.example"}):
        made = set_exemption(organization=organization, reason="Leave", until=until, actor=actor, **subject)
    operation = Operation.objects.create(
        organization=organization,
        number=1,
        kind="automation_rule",
        mode="live",
        initiator="manual",
        actor_text="x",
        name="Idle",
        action="suspend",
        status="succeeded",
    )
    HandOff.objects.create(organization=organization, operation=operation, account=ada, action="suspend")
    base = "/o/acme/"
    paths = [
        *("imports/", "imports/invite/", f"imports/{file.pk}/", f"imports/{file.pk}/?step=map"),
        *(f"imports/{file.pk}/people/", f"imports/{file.pk}/invite/", "exemptions/", "hand-offs/"),
        *(f"exemptions/new/?scope={scope}" for scope in ("group", "domain", "kind")),
        *(f"users/{ada.pk}/exempt/", f"exemptions/{made.pk}/extend/"),
    ]
    if width > 1000:  # CI's minutes are few: the other width tries all of them
        paths = [path for path in paths if path.startswith((f"imports/{file.pk}", "exemptions/", "hand"))][:7]
    page = open_page(width, dark=dark)
    sign_in(page, owner, live_server.url)
    for path in paths:
        answer = page.goto(live_server.url + base + path)
        assert answer is not None
        assert answer.status == 200, path
        assert faults_of(page) == [], path
        assert not scrolls_sideways(page), (path, width)

    plain = open_page(script=False)
    sign_in(plain, owner, live_server.url)
    plain.goto(live_server.url + base + "exemptions/new/?scope=domain")
    plain.get_by_label("Domain of the e-mail address").fill("partner.example")
    plain.get_by_label("Reason").fill("Audit")
    plain.get_by_role("button", name="Exempt", exact=True).click()
    expect(plain.get_by_text("partner.example").first).to_be_visible()
