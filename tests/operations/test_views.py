"""Pages of plans, runs and approvals: what they show, who may press what, what is checked before it happens."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operations.models import LeftOut, Operation, OperationItem
from apps.operations.planning import LEFT_OUT_LABELS
from apps.operations.selection import AccountsSelection
from apps.operations.services import apply_preview, run_planning
from apps.operators.models import Operator
from apps.organizations.models import Credential, Directory, Organization, RatePause
from apps.organizations.recorder import Actor
from apps.users.models import (
    Account,
    AccountStatus,
    ClaimStatus,
    DirectoryMembership,
    Group,
    MembershipStatus,
    SyncRun,
)

HTMX = {"HX-Request": "true"}


@pytest.fixture
def organization(db: None) -> Organization:
    """Connected in name only, with 25 idle people and two protected ones: plans are made without a call."""
    now = timezone.now()
    organization = Organization.objects.create(
        slug="acme",
        name="Acme",
        org_id="acme",
        api_url="http://127.0.0.1:1",
        activity_margin_hours=0,
        max_share_percent=90,
    )
    for kind in Credential.Kind.values:
        Credential.objects.create(
            organization=organization, kind=kind, reference="env:NOTHING", set_at=now, set_by="test"
        )
    directory = Directory.objects.create(organization=organization, directory_id="main", name="Main", seen_at=now)
    for number in range(27):
        seen_at = now - timedelta(days=90 + number)
        account = Account.objects.create(
            organization=organization,
            account_id=f"557058:{number}",
            name=f"An Example {number}",
            sort_name=f"an example {number}",
            email=f"an{number}@example.com",
            account_status=AccountStatus.ACTIVE,
            membership_status=MembershipStatus.ACTIVE,
            claim_status=ClaimStatus.MANAGED,
            products=1,
            jira_activity=3,
            jira_last_active_at=seen_at,
            last_active_at=seen_at,
            added_to_org_at=now - timedelta(days=400),
            is_activity_read=True,
            is_org_admin=number > 24,
        )
        DirectoryMembership.objects.create(
            organization=organization, account=account, directory=directory, status=MembershipStatus.ACTIVE
        )
    SyncRun.objects.create(
        organization=organization, status=SyncRun.Status.SUCCEEDED, is_trusted=True, started_at=now, finished_at=now
    )
    return organization


@pytest.fixture
def sign_in() -> Callable[[Operator], Client]:
    def make(operator: Operator) -> Client:
        client = Client()
        client.force_login(operator)
        return client

    return make


@pytest.fixture
def browser(author: Operator, sign_in: Callable[[Operator], Client]) -> Client:
    """The admin who plans and runs."""
    return sign_in(author)


@pytest.fixture
def viewer(
    organization: Organization, operators: Callable[..., Operator], sign_in: Callable[[Operator], Client]
) -> Client:
    return sign_in(operators(organization, "viewer@aum.example", "viewer"))


def people(organization: Organization, count: int) -> list[Account]:
    """Active, managed, unprotected people."""
    found = Account.objects.of(organization).filter(
        account_status=AccountStatus.ACTIVE,
        membership_status=MembershipStatus.ACTIVE,
        claim_status=ClaimStatus.MANAGED,
        is_org_admin=False,
        is_site_admin=False,
        is_connection_owner=False,
        kind=1,
        directory_memberships__status=MembershipStatus.ACTIVE,
    )
    return list(found.distinct().order_by("pk")[:count])


def page_of(operation: Operation, what: str = "") -> str:
    return f"/o/acme/runs/{operation.number}/{what}"


def some(organization: Organization, count: int = 3) -> AccountsSelection:
    return AccountsSelection(tuple(account.account_id for account in people(organization, count)))


# --- planning from the users list -----------------------------------------------------------------------------------


def test_selected_people_become_a_preview_and_nothing_is_written(organization: Organization, browser: Client) -> None:
    chosen = people(organization, 2)

    answer = browser.post(
        "/o/acme/runs/new/", {"action": "suspend", "scope": "all", "accounts": [row.pk for row in chosen]}
    )

    operation = Operation.objects.get()
    run_planning(operation.pk)
    page = browser.get(answer["Location"]).content.decode()
    assert (operation.mode, operation.name) == ("safe", "Suspend: 2 selected users")
    assert "Suspend 2 users…" in page
    assert "Nothing has been changed." in page
    assert not OperationItem.objects.filter(written_at__isnull=False).exists()


def test_everybody_who_matches_is_planned_by_the_filter(organization: Organization, browser: Client) -> None:
    browser.post("/o/acme/runs/new/", {"action": "deactivate", "all": "1", "filters": "claim_status=managed&search=an"})

    frozen = Operation.objects.get().frozen["selection"]
    assert frozen["kind"] == "filter"
    assert frozen["params"] == {"search": ["an"], "claim_status": ["managed"]}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"action": "suspend"}, "Select at least one user."),
        ({"action": "suspend", "accounts": ["<x>", "99999999999999999999"]}, "Select at least one user."),
        ({"action": ""}, "Choose a user action or a group action."),
        ({"action": "", "group_action": "", "accounts": ["1"]}, "Choose a user action or a group action."),
        ({"action": "explode", "accounts": ["1"]}, "Choose a user action from the list."),
        ({"group_action": "suspend", "accounts": ["1"]}, "Choose a group action from the list."),
        ({"group_action": "add_to_group"}, "Select at least one user."),
        ({"only": "suspend:"}, "Select at least one user."),
        ({"action": "suspend", "all": "1", "filters": "inactive_days=x"}, "The filters could not be read."),
    ],
)
def test_senseless_selection_says_what_is_missing(
    organization: Organization, browser: Client, data: dict[str, object], sentence: str
) -> None:
    answer = browser.post("/o/acme/runs/new/", data, follow=True)

    assert answer.redirect_chain[-1][0] == "/o/acme/users/"
    assert sentence in answer.content.decode()
    assert not Operation.objects.exists()


def test_person_of_another_organisation_cannot_be_selected(
    organization: Organization,
    browser: Client,
) -> None:
    other = Organization.objects.create(slug="other", name="Other", org_id="other", api_url="http://localhost")
    foreign = Account.objects.create(
        organization=other,
        account_id="foreign",
        name="Foreign",
        sort_name="foreign",
        account_status=1,
        membership_status=1,
        claim_status=1,
    )

    browser.post("/o/acme/runs/new/", {"action": "suspend", "scope": "all", "accounts": [foreign.pk]})

    assert not Operation.objects.exists()


@pytest.mark.parametrize("what", ["apply", "approve", "pause", "resume", "stop", "undo", "undo-preview", "retry"])
def test_viewer_cannot_press_any_button(plan: Callable[..., Operation], viewer: Client, what: str) -> None:
    operation = plan(mode="safe")

    answer = viewer.post(page_of(operation, f"{what}/"), {"plan_hash": operation.plan_hash})

    assert answer.status_code == 403
    assert Operation.objects.count() == 1


def test_helpdesk_cannot_apply_the_preview_of_a_rule(
    plan: Callable[..., Operation],
    organization: Organization,
    operators: Callable[..., Operator],
    sign_in: Callable[[Operator], Client],
) -> None:
    operation = plan(mode="safe")
    Operation.objects.filter(pk=operation.pk).update(rule_id=77)
    helpdesk = sign_in(operators(organization, "help@aum.example", "helpdesk"))

    answer = helpdesk.post(
        page_of(operation, "apply/"),
        {"plan_hash": operation.plan_hash, "confirm_count": str(operation.people_count)},
    )

    assert answer.status_code == 403
    assert "Only Admins and Owners run rules." in helpdesk.get(page_of(operation)).content.decode()


def test_operation_of_another_organisation_does_not_exist(
    plan: Callable[..., Operation], operators: Callable[..., Operator], sign_in: Callable[[Operator], Client]
) -> None:
    operation = plan(mode="safe")
    other = Organization.objects.create(slug="other", name="Other", org_id="other", api_url="http://localhost")
    owner = sign_in(operators(other, "owner@other.example", "owner"))

    answers = [
        owner.get(f"/o/{slug}/runs/{operation.number}/{what}")
        for slug in ("acme", "other")
        for what in ("", "export/", "_progress", "undo/")
    ]

    assert {answer.status_code for answer in answers} == {404}


# --- groups and products that the actions need ----------------------------------------------------------------------


def a_group(organization: Organization, name: str, **fields: object) -> Group:
    directory = Directory.objects.of(organization).get()
    return Group.objects.create(
        organization=organization, directory=directory, group_id=name, name=name, **{"are_grants_known": True, **fields}
    )


ACT = "/o/acme/runs/new/"
SELECTOR = "/o/acme/runs/new/groups/"


def test_groups_are_asked_for_on_a_page_that_carries_the_selection(organization: Organization, browser: Client) -> None:
    chosen, group = people(organization, 2), a_group(organization, "jira-users")
    data = {"action": "suspend", "group_action": "remove_from_group", "accounts": [row.pk for row in chosen]}

    page = browser.post(ACT, data)

    assert page.status_code == 200
    assert not Operation.objects.exists()
    for account in chosen:
        assert f'name="accounts" value="{account.pk}"' in page.content.decode()
    assert "jira-users" in page.content.decode()

    answer = browser.post(ACT, {**data, "scope": "all", "groups": [group.pk], "answered": "1"})
    operation = Operation.objects.get()
    assert answer["Location"] == page_of(operation)
    assert operation.action == "remove_from_group+suspend"
    assert operation.name == "Remove user from group, Suspend: 2 selected users"


def test_suspension_can_be_limited_to_products_in_the_same_dialog(organization: Organization, browser: Client) -> None:
    data = {"action": "suspend", "accounts": [row.pk for row in people(organization, 2)]}

    page = browser.post(ACT, data).content.decode()

    assert "Only the products ticked below" in page
    assert not Operation.objects.exists()
    refused = browser.post(ACT, {**data, "scope": "products", "answered": "1"})
    assert refused.status_code == 422
    assert "Choose at least one product." in refused.content.decode()
    browser.post(ACT, {**data, "scope": "products", "products": ["jira"], "answered": "1"})
    operation = Operation.objects.get()
    assert (operation.action, operation.mode) == ("remove_product_access", "safe")
    assert operation.frozen["actions"][0]["products"] == ["jira"]


def test_buttons_name_all_actions_of_a_plan(organization: Organization, browser: Client) -> None:
    groups = [a_group(organization, "one"), a_group(organization, "two")]
    browser.post(
        ACT,
        {
            "action": "suspend",
            "scope": "all",
            "group_action": "add_to_group",
            "groups": [group.pk for group in groups],
            "accounts": [row.pk for row in people(organization, 14)],
        },
    )
    operation = Operation.objects.get()
    run_planning(operation.pk)

    page = browser.get(page_of(operation)).content.decode()

    assert "Add to 2 groups and suspend 14 users…" in page
    assert "will be added to groups and will be suspended, in 42 changes" in page


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"group_action": "add_to_group"}, "Choose at least one group."),
        ({"group_action": "add_to_group", "groups": ["x", "-1", "<b>"]}, "Choose at least one group."),
        ({"group_action": "add_to_group", "groups": ["987654321"]}, "A chosen group no longer exists."),
        ({"action": "remove_product_access"}, "Choose at least one product."),
        ({"action": "remove_product_access", "products": ["notes"]}, "Choose at least one product."),
    ],
)
def test_missing_targets_are_said_at_the_field(
    organization: Organization, browser: Client, data: dict[str, object], sentence: str
) -> None:
    (account,) = people(organization, 1)

    page = browser.post(ACT, {**data, "accounts": [account.pk], "answered": "1"})

    assert page.status_code == 422
    assert sentence in page.content.decode()
    assert not Operation.objects.exists()


def test_groups_that_grant_administration_are_refused_at_the_field(organization: Organization, browser: Client) -> None:
    (account,), group = people(organization, 1), a_group(organization, "org-admins", is_administrative=True)

    page = browser.post(
        ACT, {"group_action": "add_to_group", "groups": [group.pk], "accounts": [account.pk], "answered": "1"}
    )

    assert page.status_code == 422
    assert "org-admins grants administration." in page.content.decode()
    assert not Operation.objects.exists()


def test_groups_of_another_organisation_are_unknown(organization: Organization, browser: Client) -> None:
    other = Organization.objects.create(slug="other", name="Other", org_id="other", api_url="http://127.0.0.1:1")
    Directory.objects.create(organization=other, directory_id="far", name="Far", seen_at=timezone.now())
    foreign = a_group(other, "foreign-group")
    (account,) = people(organization, 1)

    page = browser.post(
        ACT, {"group_action": "add_to_group", "groups": [foreign.pk], "accounts": [account.pk], "answered": "1"}
    )
    found = browser.get(f"{SELECTOR}?group_action=add_to_group&group_search=foreign&groups={foreign.pk}")

    assert page.status_code == 422
    assert "foreign-group" not in page.content.decode()
    assert f'value="{foreign.pk}"' not in found.content.decode()
    assert not Operation.objects.exists()


def test_selector_searches_keeps_what_is_chosen_and_confirms_into_the_bar(
    organization: Organization, browser: Client
) -> None:
    kept, found = a_group(organization, "kept-group"), a_group(organization, "sought")
    a_group(organization, "elsewhere")
    query = f"?group_action=add_to_group&group_search=sou&groups={kept.pk}"

    listed = browser.get(f"{SELECTOR}{query}&list=1", headers=HTMX).content.decode()
    confirmed = browser.get(f"{SELECTOR}{query}&groups={found.pk}&done=1", headers=HTMX)
    none = browser.get(f"{SELECTOR}?group_action=&groups={kept.pk}", headers=HTMX).content.decode()

    assert "kept-group" in listed
    assert "sought" in listed
    assert "elsewhere" not in listed
    assert confirmed.content.decode().count('name="groups"') == 2
    assert 'name="groups"' not in none


def test_one_person_is_offered_the_groups_that_they_are_in(organization: Organization, browser: Client) -> None:
    (account,), held = people(organization, 1), a_group(organization, "held-group")
    a_group(organization, "not-held")
    Account.objects.filter(pk=account.pk).update(group_ids=[held.pk])

    page = browser.post(ACT, {"only": f"remove_from_group:{account.pk}"}).content.decode()

    assert "held-group" in page
    assert "not-held" not in page


def test_search_for_groups_works_without_script(organization: Organization, browser: Client) -> None:
    (account,) = people(organization, 1)
    a_group(organization, "sought")
    a_group(organization, "elsewhere")

    page = browser.post(
        ACT,
        {"group_action": "add_to_group", "accounts": [account.pk], "answered": "1", "find": "1", "group_search": "sou"},
    )

    assert page.status_code == 200
    assert "sought" in page.content.decode()
    assert "elsewhere" not in page.content.decode()


def test_selector_asks_the_same_number_of_questions_for_2_and_30_groups(
    organization: Organization, browser: Client
) -> None:
    query = {"group_action": "add_to_group", "list": "1"}
    for number in range(2):
        a_group(organization, f"few-{number}")
    browser.get(SELECTOR, query, headers=HTMX)
    with CaptureQueriesContext(connection) as few:
        browser.get(SELECTOR, query, headers=HTMX)
    for number in range(28):
        a_group(organization, f"more-{number}")
    with CaptureQueriesContext(connection) as many:
        browser.get(SELECTOR, query, headers=HTMX)

    assert len(many) == len(few)


def test_refusal_of_the_bar_keeps_the_list_behind_a_dialog(organization: Organization, browser: Client) -> None:
    answer = browser.post(ACT, {"action": "suspend"}, headers=HTMX)

    assert answer.status_code == 422
    assert "<dialog" in answer.content.decode()
    assert "Select at least one user." in answer.content.decode()


@pytest.mark.parametrize("action", ["delete", "remove_from_directory"])
def test_what_cannot_be_undone_needs_the_count_and_a_tick(
    organization: Organization, browser: Client, action: str
) -> None:
    wanted, other = people(organization, 3)[:1], people(organization, 3)[1:]
    managed = ClaimStatus.MANAGED if action == "delete" else ClaimStatus.UNMANAGED
    Account.objects.of(organization).update(claim_status=managed)
    left_out = ClaimStatus.UNMANAGED if action == "delete" else ClaimStatus.MANAGED
    Account.objects.filter(pk__in=[row.pk for row in other]).update(claim_status=left_out)
    browser.post(ACT, {"action": action, "accounts": [row.pk for row in [*wanted, *other]]})
    preview = Operation.objects.get()
    run_planning(preview.pk)
    preview.refresh_from_db()
    url = page_of(preview, "apply/")

    question = browser.get(url).content.decode()

    count = 1 if action == "delete" else 2
    assert f"{count} of the 3 users selected" in question
    assert "I know this cannot be undone" in question
    if action == "delete":
        assert "14 days" in question
    sent = {"plan_hash": preview.plan_hash, "confirm_count": "1"}
    assert browser.post(url, sent).status_code == 422
    assert browser.post(url, {**sent, "tick": "1", "confirm_count": "2"}).status_code == 422
    assert not Operation.objects.filter(mode="live").exists()
    assert browser.post(url, {**sent, "tick": "1"}).status_code == 302
    live = Operation.objects.get(mode="live")
    run_planning(live.pk)
    live.refresh_from_db()
    assert (live.status == "held") is (action == "delete")


# --- previews -------------------------------------------------------------------------------------------------------


def test_preview_gives_a_reason_for_each_person_and_for_those_left_out(
    plan: Callable[..., Operation], browser: Client
) -> None:
    operation = plan(mode="safe")

    changes = browser.get(page_of(operation)).content.decode()
    skipped = browser.get(page_of(operation, "?tab=skipped")).content.decode()

    assert "days since the last login" in changes
    assert f"<b>{operation.people_count}</b><span>will be suspended" in changes
    assert "Protected" in skipped


def test_preview_compares_with_the_one_before(
    plan: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    first = plan(mode="safe", selection=some(organization, 3))
    second = plan(mode="safe", selection=AccountsSelection(tuple(a.account_id for a in people(organization, 4)[1:])))
    Operation.objects.filter(pk__in=[first.pk, second.pk]).update(rule_id=77)
    new, gone = people(organization, 4)[3], people(organization, 1)[0]

    page = browser.get(page_of(second)).content.decode()
    only_new = browser.get(page_of(second, "?tab=new")).content.decode()
    only_gone = browser.get(page_of(second, "?tab=gone")).content.decode()

    assert "no longer match" in page
    assert f"/o/acme/users/{new.pk}/" in only_new
    assert f"/o/acme/users/{gone.pk}/" not in only_new
    assert f"/o/acme/users/{gone.pk}/" in only_gone
    assert "No longer meets the conditions" in only_gone


def test_plan_in_the_making_is_polled_and_then_opens(
    plan: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    browser.post(
        "/o/acme/runs/new/", {"action": "suspend", "scope": "all", "accounts": [people(organization, 1)[0].pk]}
    )
    operation = Operation.objects.get()

    page = browser.get(page_of(operation)).content.decode()
    waiting = browser.get(page_of(operation, "_progress"), headers=HTMX)
    run_planning(operation.pk)
    ready = browser.get(page_of(operation, "_progress"), headers=HTMX)

    assert "Finding who is affected" in page
    assert b"every 2s" in waiting.content
    assert ready["HX-Refresh"] == "true"


@pytest.mark.parametrize("path", ["", "?tab=skipped", "?tab=new"])
def test_preview_asks_the_same_number_of_questions_for_2_and_20(
    plan: Callable[..., Operation], browser: Client, organization: Organization, path: str
) -> None:
    small, large = (plan(mode="safe", selection=some(organization, count)) for count in (2, 20))
    browser.get(page_of(small, path))

    with CaptureQueriesContext(connection) as few:
        browser.get(page_of(small, path))
    with CaptureQueriesContext(connection) as many:
        browser.get(page_of(large, path))

    assert len(many) == len(few)


@pytest.mark.parametrize("path", ["?tab=nothing", "?after=x", "?after=99999999999999999999999", "?search=%00"])
def test_bad_values_in_the_address_break_nothing(plan: Callable[..., Operation], browser: Client, path: str) -> None:
    operation = plan(mode="safe")

    assert browser.get(page_of(operation, path)).status_code == 200


def test_export_holds_every_person_and_those_left_out(plan: Callable[..., Operation], viewer: Client) -> None:
    operation = plan(mode="safe")

    answer = viewer.get(page_of(operation, "export/"))
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))  # type: ignore[arg-type]

    assert sum(row["status"] != "left_out" for row in rows) == operation.planned_count
    assert sum(row["status"] == "left_out" for row in rows) == sum(operation.left_out.values())
    assert AuditEvent.objects.filter(action="operation.exported").count() == 1


# --- applying and deciding ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["", "2", "many", "-3"])
def test_preview_is_not_applied_when_the_count_is_wrong(
    plan: Callable[..., Operation], browser: Client, organization: Organization, count: str
) -> None:
    operation = plan(mode="safe", selection=some(organization, 3))

    answer = browser.post(
        page_of(operation, "apply/"), {"plan_hash": operation.plan_hash, "confirm_count": count}, headers=HTMX
    )

    assert answer.status_code == 422
    assert b"Type 3, the number of users." in answer.content
    assert Operation.objects.count() == 1


def test_preview_is_not_applied_when_the_plan_is_another_one(
    plan: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    operation = plan(mode="safe", selection=some(organization, 3))

    answer = browser.post(page_of(operation, "apply/"), {"plan_hash": "0" * 64, "confirm_count": "3"})

    assert answer.status_code == 409
    assert b"This is not the plan that you saw." in answer.content


def test_applied_preview_leads_to_its_run_and_cannot_be_applied_twice(
    plan: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    operation = plan(mode="safe", selection=some(organization, 3))
    confirmed = {"plan_hash": operation.plan_hash, "confirm_count": "3"}

    answer = browser.post(page_of(operation, "apply/"), confirmed)
    again = browser.post(page_of(operation, "apply/"), confirmed)

    live = Operation.objects.get(applies=operation)
    assert answer["Location"] == page_of(live)
    assert again.status_code == 409
    assert f"This preview was applied by run #{live.number}." in browser.get(page_of(operation)).content.decode()


def held(plan: Callable[..., Operation], organization: Organization, author: Operator) -> Operation:
    """A live plan for three people that waits, because two are allowed."""
    organization.max_count = 2
    organization.save()
    preview = plan(mode="safe", selection=some(organization, 3))
    live = apply_preview(operation=preview, plan_hash=preview.plan_hash, actor=Actor.operator(author), operator=author)
    run_planning(live.pk)
    live.refresh_from_db()
    assert live.status == Operation.Status.HELD
    return live


def test_held_plan_says_why_and_who_can_approve(
    plan: Callable[..., Operation],
    organization: Organization,
    author: Operator,
    approver: Operator,
    browser: Client,
) -> None:
    live = held(plan, organization, author)

    page = browser.get(page_of(live)).content.decode()
    waiting = browser.get("/o/acme/approvals/").content.decode()

    assert "3 people are more than the limit of 2" in page
    assert "Approver can approve." in page
    assert "Your role does not include approvals." in page
    assert "Suspend 3 users" in waiting
    assert "Yours: another person decides." in waiting


def test_another_person_approves_and_the_decision_is_listed(
    plan: Callable[..., Operation],
    organization: Organization,
    author: Operator,
    approver: Operator,
    sign_in: Callable[[Operator], Client],
) -> None:
    live = held(plan, organization, author)
    client = sign_in(approver)

    answer = client.post(page_of(live, "approve/"), {"plan_hash": live.plan_hash, "reason": "seen"})

    live.refresh_from_db()
    assert answer["Location"] == page_of(live)
    assert live.status == Operation.Status.QUEUED
    assert "seen" in client.get("/o/acme/approvals/?view=decided").content.decode()


def test_author_cannot_approve_but_withdraw(
    plan: Callable[..., Operation],
    organization: Organization,
    operators: Callable[..., Operator],
    sign_in: Callable[[Operator], Client],
) -> None:
    owner = operators(organization, "owner@aum.example", "owner")
    live = held(plan, organization, owner)
    client = sign_in(owner)

    approved = client.post(page_of(live, "approve/"), {"plan_hash": live.plan_hash}, headers=HTMX)
    without_reason = client.post(page_of(live, "reject/"), {"reason": ""}, headers=HTMX)
    withdrawn = client.post(page_of(live, "reject/"), {"reason": "Wrong list"}, headers=HTMX)

    live.refresh_from_db()
    assert approved.status_code == 422  # what htmx shows in place
    assert b"Nobody approves a plan of their own." in approved.content
    assert without_reason.status_code == 422
    assert withdrawn["HX-Redirect"] == page_of(live)
    assert live.status == Operation.Status.REJECTED


def test_one_operator_types_the_count_and_the_password(
    plan: Callable[..., Operation],
    organization: Organization,
    operators: Callable[..., Operator],
    sign_in: Callable[[Operator], Client],
) -> None:
    owner = operators(organization, "owner@aum.example", "owner")
    live = held(plan, organization, owner)
    organization.is_one_operator = True
    organization.save()
    client = sign_in(owner)
    asked = {"plan_hash": live.plan_hash, "confirm_count": "3"}

    question = client.get(page_of(live, "approve/")).content.decode()
    wrong = client.post(page_of(live, "approve/"), asked | {"password": "guess"})
    right = client.post(page_of(live, "approve/"), asked | {"password": "correct horse battery"})

    assert "Type 3 to confirm" in question
    assert wrong.status_code == 422
    assert b"Enter your password once more." in wrong.content
    assert b"guess" not in wrong.content
    assert right.status_code == 302


# --- runs -----------------------------------------------------------------------------------------------------------


def test_run_is_paused_resumed_and_stopped(
    plan: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    operation = plan(selection=some(organization, 3))

    browser.post(page_of(operation, "pause/"))
    paused = Operation.objects.get(pk=operation.pk).status
    browser.post(page_of(operation, "resume/"))
    resumed = Operation.objects.get(pk=operation.pk).status
    question = browser.get(page_of(operation, "stop/"), headers=HTMX).content.decode()
    browser.post(page_of(operation, "stop/"))

    assert (paused, resumed) == ("paused", "queued")
    assert "What is done stays done" in question
    assert Operation.objects.get(pk=operation.pk).status == "cancelled"


@pytest.mark.parametrize(
    "model",
    [
        "users/account",
        "users/exemption",
        "users/syncrun",
        "operations/operation",
        "operations/operationitem",
        "operations/approval",
        "rules/cleanuprule",
        "rules/ruleversion",
    ],
)
def test_support_staff_may_look_at_rows_and_not_change_them(
    plan: Callable[..., Operation], sign_in: Callable[[Operator], Client], model: str
) -> None:
    plan(mode="safe")
    staff = sign_in(Operator.objects.create_superuser("support@aum.example", "correct horse battery"))

    looked = staff.get(f"/admin/{model}/")
    added = staff.get(f"/admin/{model}/add/")

    assert looked.status_code == 200
    assert added.status_code == 403


def test_run_that_was_told_to_wait_says_for_how_long(
    plan: Callable[..., Operation], browser: Client, organization: Organization
) -> None:
    operation = plan(mode="live", selection=some(organization, 2))
    Operation.objects.filter(pk=operation.pk).update(status=Operation.Status.RUNNING, started_at=timezone.now())
    until = timezone.now() + timedelta(seconds=40)
    RatePause.objects.create(organization=organization, family="write", until=until)

    page = browser.get(page_of(operation)).content.decode()

    assert "Atlassian asked AUM to slow down." in page
    assert "continues by itself in 40 s" in page or "continues by itself in 39 s" in page


def test_a_run_that_took_nobody_says_who_was_left_out_and_why(organization: Organization, viewer: Client) -> None:
    operation = Operation.objects.create(
        organization=organization,
        number=99,
        kind="automation_rule",
        mode="live",
        status="no_effect",
        initiator="manual",
        actor_text="Juniper",
        name="Idle",
        action="suspend",
        planned_at=timezone.now(),
        finished_at=timezone.now(),
        left_out={"notice_missing": 1},
    )
    account = Account.objects.of(organization).order_by("pk")[0]
    LeftOut.objects.create(
        organization=organization, operation=operation, account=account, reason="notice_missing", detail=""
    )

    page = viewer.get(f"/o/{organization.slug}/runs/99/").content.decode()

    assert account.name in page
    assert LEFT_OUT_LABELS["notice_missing"] in page
    assert "Left out of the plan" in page
    assert "Nobody was in the plan" in viewer.get(f"/o/{organization.slug}/runs/99/?tab=all").content.decode()
