"""Every way in, tried with what automation must not do: give administration (P15), loosen a safeguard at once (P5)."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from apps.autoactivate.models import InboundEvent
from apps.dashboard.cli.main import run as command
from apps.operations.models import Operation, SafeguardChange
from apps.operators.models import Operator
from apps.operators.services import create_token
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.rules.models import CleanupRule
from apps.sandbox.server import Sandbox
from apps.users.models import Account, Group, ProtectedGroup
from apps.users.services.imports import read_import
from tests.autoactivate.conftest import addable, domain_rule, drive, open_way
from tests.autoactivate.test_journey import plain_person, post_ticket, raise_ticket
from tests.rules.conftest import made_live

ROOT = "/api/v1/organizations/acme"


@pytest.fixture
def owner(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "owner@aum.example", "owner")


@pytest.fixture
def admins(organization: Organization) -> Group:
    """Makes organisation admins; unique by name."""
    return Group.objects.of(organization).get(name="org-admins")


@pytest.fixture
def pages(owner: Operator) -> Client:
    client = Client()
    client.force_login(owner)
    return client


@pytest.fixture
def rest(owner: Operator) -> APIClient:
    """An owner in a browser's session."""
    client = APIClient()
    client.force_login(owner)
    return client


@pytest.fixture
def token(organization: Organization, owner: Operator) -> APIClient:
    """An owner's script that may do all that scripts may."""
    made = create_token(
        organization=organization,
        operator=owner,
        name="Night",
        scopes=["read", "preview", "run", "admin"],
        actor=Actor.operator(owner),
    )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {made[1]}")
    return client


def aum(*words: str, stdin: str = "") -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    code = command(list(words), stdin=io.StringIO(stdin), stdout=out, stderr=err)
    return code, out.getvalue() + err.getvalue()


def writes(sandbox: Sandbox) -> list[str]:
    entries = sandbox.control.get("ledger")["entries"]
    return [entry["path"] for entry in entries if entry["effect"] == "changed" and "/_control/" not in entry["path"]]


# --- nothing gives administration ------------------------------------------------------------------------------------


def test_bulk_actions_over_rest_add_nobody_to_an_admin_group(
    organization: Organization, rest: APIClient, token: APIClient, admins: Group, sandbox: Sandbox
) -> None:
    person = Account.objects.of(organization).filter(account_status=1, is_org_admin=False)[0]
    body = {"accounts": [person.account_id], "groups": [admins.group_id]}
    for mode in ("preview", "live"):
        for client in (rest, token):
            plain = client.post(f"{ROOT}/bulk-actions/", {**body, "action": "add_to_group", "mode": mode}, "json")
            assert plain.status_code == 422, plain.content
            assert "grants administration" in plain.json()["fields"]["groups"][0]
        for action in ("add_to_admin_group", "remove_from_admin_group"):
            refused = token.post(f"{ROOT}/bulk-actions/", {**body, "action": action, "mode": mode}, "json")
            assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed"), refused.content
    assert not Operation.objects.exists()
    assert writes(sandbox) == []


def test_the_users_page_takes_it_from_owners_alone(
    organization: Organization, pages: Client, admins: Group, operators: Callable[..., Operator]
) -> None:
    person = Account.objects.of(organization).filter(account_status=1, is_org_admin=False)[0]
    asked = {"accounts": str(person.pk), "groups": str(admins.pk), "group_action": "add_to_admin_group"}
    for role in ("admin", "helpdesk"):
        client = Client()
        client.force_login(operators(organization, f"{role}-2@aum.example", role))
        page = client.get("/o/acme/users/").content.decode()
        assert "admin group" not in page
        refused = client.post("/o/acme/runs/new/", asked, follow=True)
        assert "Only an owner" in refused.content.decode()
    mixed = pages.post("/o/acme/runs/new/", {**asked, "group_action": "add_to_group"})
    assert "Only an owner changes who is in it" in mixed.content.decode()
    assert not Operation.objects.exists()

    assert "Add user to admin group" in pages.get("/o/acme/users/").content.decode()
    pages.post("/o/acme/runs/new/", asked)
    assert Operation.objects.get().action == "add_to_admin_group"


def test_rules_never_have_an_admin_group_as_target(
    organization: Organization, rest: APIClient, token: APIClient, admins: Group
) -> None:
    body = {"name": "Idle", "inactive_days": 60, "run_at": "06:00"}
    for client in (rest, token):
        refused = client.post(
            f"{ROOT}/rules/", {**body, "action": "add_to_group", "action_groups": [admins.group_id]}, "json"
        )
        assert refused.status_code == 422, refused.content
        assert "grants administration" in str(refused.json()["fields"]["action_groups"])
        refused = client.post(f"{ROOT}/rules/", {**body, "action": "add_to_admin_group"}, "json")
        assert refused.status_code in (400, 422), refused.content
    text = (
        "version: 1\nrules:\n  - name: Idle\n    inactive_days: 60\n    run_at: '06:00'\n"
        "    action: {}\n    action_groups: [org-admins]\n"
    )
    for action in ("add_to_group", "add_to_admin_group"):
        code, said = aum("rules", "import", "-", "--as", "owner@aum.example", stdin=text.format(action))
        assert code not in (0, None), said
    assert not CleanupRule.objects.exists()


def test_files_and_invitations_give_no_administration(
    organization: Organization, rest: APIClient, admins: Group
) -> None:
    person = Account.objects.of(organization).filter(email__isnull=False, is_org_admin=False, account_status=1)[0]
    content = f"Email,Groups\n{person.email},org-admins\nnew@larkspur.example,org-admins\n"
    upload = rest.post(
        f"{ROOT}/imports/", {"file": SimpleUploadedFile("list.csv", content.encode(), "text/csv")}, "multipart"
    )
    assert upload.status_code == 202, upload.content
    pk = upload.json()["id"]
    read_import(pk)
    rest.post(f"{ROOT}/imports/{pk}/check/", {}, "json")
    for action in ("add_to_group", "add_to_admin_group", "remove_from_admin_group"):
        refused = rest.post(f"{ROOT}/imports/{pk}/apply/", {"action": action, "groups": [admins.group_id]}, "json")
        assert refused.status_code in (400, 422), (action, refused.content)
    invited = rest.post(f"{ROOT}/imports/{pk}/apply/", {"action": "invite", "use_file_grants": True}, "json")
    if invited.status_code == 202:
        operation = Operation.objects.get(pk=invited.json()["id"])
        assert "org-admins" not in str(list(operation.items.values_list("parameters", flat=True)))
    refused = rest.post(
        f"{ROOT}/accounts/invite/", {"emails": ["new@larkspur.example"], "groups": [admins.group_id]}, "json"
    )
    assert refused.status_code == 422
    assert "grants administration" in str(refused.json()["fields"]["groups"])


def test_a_request_from_outside_gives_no_administration_even_where_the_group_gained_it_after_the_rule(
    organization: Organization, admins: Group, sandbox: Sandbox
) -> None:
    (group,) = addable(organization, 1)
    rule = domain_rule(organization, group, domain="larkspur.example")
    person = plain_person(organization, group, domain="larkspur.example")
    resource = admins.grants[0]["resource"]
    sandbox.control.post("mutate", {"group": group.group_id, "add_grant": [resource, "atlassian/org-admin"]})
    before = writes(sandbox)

    post_ticket(Client(), open_way(organization), raise_ticket(sandbox, person))
    drive(organization)

    assert rule.pk
    event = InboundEvent.objects.get()
    assert event.status != "done", event.outcome
    assert writes(sandbox) == before
    assert group.pk not in Account.objects.get(pk=person.pk).group_ids


# --- nothing loosens a safeguard at once -----------------------------------------------------------------------------


def test_limits_of_a_live_rule_are_loosened_at_once_by_no_way(
    organization: Organization, owner: Operator, rest: APIClient, token: APIClient, pages: Client
) -> None:
    group = addable(organization, 1)[0]
    made = rest.post(
        f"{ROOT}/rules/",
        {
            "name": "Idle",
            "inactive_days": 60,
            "run_at": "06:00",
            "max_count": 10,
            "protected_groups": [group.group_id],
        },
        "json",
    )
    assert made.status_code == 201, made.content
    rule = made_live(CleanupRule.objects.get())
    looser: dict[str, Any] = {"max_count": 50, "reason": "More"}

    def unchanged() -> bool:
        found = CleanupRule.objects.get()
        return found.max_count == 10 and list(found.protected_groups.all()) == [group]

    rest.patch(f"{ROOT}/rules/{rule.pk}/", looser, "json")
    assert unchanged()
    answer = token.patch(f"{ROOT}/rules/{rule.pk}/", looser, "json")
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    assert unchanged()
    rest.patch(f"{ROOT}/rules/{rule.pk}/", {"protected_groups": [], "reason": "More"}, "json")
    assert unchanged()
    _code, text = aum("rules", "export")
    code, said = aum(
        "rules",
        "import",
        "-",
        "--as",
        "owner@aum.example",
        stdin=text.replace("max_count: 10", "max_count: 50"),
    )
    assert unchanged(), (code, said)
    assert all(change.status != "applied" for change in SafeguardChange.objects.all())


def test_marks_and_protection_end_at_once_by_no_way(
    organization: Organization, rest: APIClient, token: APIClient, pages: Client
) -> None:
    group = addable(organization, 1)[0]
    ProtectedGroup.objects.create(organization=organization, group=group, added_at=timezone.now(), added_by="Ada")
    for kind in ("unprotect_group", "licence_only"):
        body = {"kind": kind, "group": group.pk, "reason": "Now"}
        assert token.post(f"{ROOT}/safeguard-changes/", body, "json").status_code == 403
        assert rest.post(f"{ROOT}/safeguard-changes/", body, "json").status_code == 201
    group.refresh_from_db()
    assert not group.is_licence_only
    assert ProtectedGroup.objects.filter(group=group).exists()
    assert {change.status for change in SafeguardChange.objects.all()} == {"pending"}
    for change in SafeguardChange.objects.all():
        # Nobody approves what they proposed, and no script approves anything.
        assert rest.post(f"{ROOT}/safeguard-changes/{change.pk}/approve/").status_code == 403
        assert token.post(f"{ROOT}/safeguard-changes/{change.pk}/approve/").status_code == 403
