"""Pages of Scheduler & Cleanup: list, editor, buttons."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operations.models import LeftOut, Operation
from apps.operations.services import run_planning
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.rules.forms import condition_choices
from apps.rules.models import CleanupRule
from apps.rules.services import LIVE_NEEDS_PREVIEW, run_rule
from apps.users.models import Account, Group, SyncRun
from tests.rules.conftest import ACTOR, make_organization


@pytest.fixture
def sign_in(organization: Organization, operators: Callable[..., Operator]) -> Callable[..., Client]:
    """A browser in which somebody with these roles is signed in."""

    def make(*roles: str, of: Organization | None = None) -> Client:
        client = Client()
        client.force_login(operators(of or organization, f"{'-'.join(roles)}@aum.example", *roles))
        return client

    return make


def typed(**fields: Any) -> dict[str, Any]:
    """What the editor sends: the documented example, in Safe mode."""
    values: dict[str, Any] = {
        "name": "Jira idle 60 days",
        "mode": "safe",
        "action": "suspend",
        "inactive_products": ["jira"],
        "inactive_days": "60",
        "target": "all_except_protected",
        "recurrence": "weekly",
        "weekdays": ["3"],
        "month_day": "1",
        "run_at": "06:00",
        "never_active_days": "",
        "max_count": "",
        "max_share_percent": "",
    }
    return {name: value for name, value in (values | fields).items() if value is not None}


def edited(rule: CleanupRule, **fields: Any) -> dict[str, Any]:
    """What the editor sends for `rule` as it stands (made by `make_rule`), with changes."""
    stored = typed(
        name=rule.name,
        mode=rule.mode,
        inactive_products=[],
        recurrence="daily",
        weekdays=[],
        month_day="",
        version=str(rule.version),
        rule=str(rule.pk),
    )
    return {name: value for name, value in (stored | fields).items() if value is not None}


# --- the list -------------------------------------------------------------------------------------------------------


def test_empty_list_offers_the_first_rule(organization: Organization, sign_in: Callable[..., Client]) -> None:
    page = sign_in("admin").get("/o/acme/rules/").content.decode()

    assert "No rules yet" in page
    assert "/o/acme/rules/new/" in page


def test_list_says_what_each_rule_does(
    make_rule: Callable[..., CleanupRule],
    make_group: Callable[..., Group],
    sign_in: Callable[..., Client],
) -> None:
    groups = [make_group(name) for name in ("jira-admins", "exec", "break-glass")]
    make_rule(
        name="JSM agents",
        action="remove_product_access",
        target_products=("jsm",),
        recurrence="monthly",
        month_day=31,
        protected_groups=tuple(group.pk for group in groups),
    )
    make_rule(name="Everybody", inactive_days=90)

    page = sign_in("viewer").get("/o/acme/rules/").content.decode()

    assert "JSM" in page
    assert "Monthly, last day" in page
    assert "break-glass, exec +1" in page
    assert "Runs globally" in page
    assert "90 days" in page
    assert "Never run" in page


def test_list_says_how_often_and_about_whom(
    make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client]
) -> None:
    external, people = {"name": "claim_status", "values": ("unmanaged",)}, {"name": "kind", "values": ("person",)}
    make_rule(name="Weekly one", recurrence="weekly", weekdays=(0, 4), conditions=(external,))
    make_rule(name="Monthly two", recurrence="monthly", month_day=15, conditions=(external, people))

    page = sign_in("admin").get("/o/acme/rules/").content.decode()

    for words in ("Weekly, Mon, Fri", "Monthly, ", "1 condition<", "2 conditions<"):
        assert words in page, words


def test_live_is_refused_with_the_reason_until_there_is_a_preview(
    make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client], operator: Operator, trusted_sync: Any
) -> None:
    admin, rule = sign_in("admin"), make_rule(timezone="Asia/Kolkata")
    address = reverse("rules:edit", args=["acme", rule.pk])
    before = admin.get(address).content.decode()
    operation = run_rule(rule=rule, actor=ACTOR, operator=operator)
    run_planning(operation.pk)
    after = admin.get(address).content.decode()

    assert LIVE_NEEDS_PREVIEW in before
    assert LIVE_NEEDS_PREVIEW not in after
    # The rule's own hour beside the one in UTC.
    assert re.search(r"00:30 UTC \(\w{3} 06:00 Asia/Kolkata\)", after)


def test_views_show_only_their_rules(make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client]) -> None:
    make_rule(name="Safe one")
    make_rule(name="Live one", mode="live")
    client = sign_in("viewer")

    live = client.get("/o/acme/rules/?view=live").content.decode()
    unknown = client.get("/o/acme/rules/?view=other")

    assert "Live one" in live
    assert "Safe one" not in live
    assert unknown.status_code == 200


def test_list_asks_the_same_number_of_questions_for_2_and_20(
    make_rule: Callable[..., CleanupRule], make_group: Callable[..., Group], sign_in: Callable[..., Client]
) -> None:
    group = make_group("jira-admins")
    client = sign_in("owner")
    for number in range(2):
        make_rule(name=f"Rule {number}", protected_groups=(group.pk,))
    client.get("/o/acme/rules/")
    with CaptureQueriesContext(connection) as few:
        client.get("/o/acme/rules/")
    for number in range(2, 20):
        make_rule(name=f"Rule {number}", protected_groups=(group.pk,))
    client.get("/o/acme/rules/")  # the figures of the navigation are remembered for some seconds only
    with CaptureQueriesContext(connection) as many:
        client.get("/o/acme/rules/")

    assert len(many) == len(few)


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["viewer", "helpdesk", "approver"])
@pytest.mark.parametrize("button", ["run", "pause", "resume", "duplicate", "delete", "edit"])
def test_other_roles_cannot_press_the_buttons(
    make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client], role: str, button: str
) -> None:
    rule = make_rule()

    answer = sign_in(role).post(f"/o/acme/rules/{rule.pk}/{button}/", edited(rule, name="Taken over"))

    assert answer.status_code == 403
    rule.refresh_from_db()
    assert (rule.name, rule.is_paused, rule.deleted_at) == ("Suspend after 60 days", False, None)


def test_viewer_reads_a_rule_and_the_reason_why_it_cannot_be_saved(
    make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client]
) -> None:
    rule = make_rule()
    client = sign_in("viewer")

    page = client.get(f"/o/acme/rules/{rule.pk}/edit/").content.decode()

    assert "Only Admins and Owners save rules." in page
    assert client.get("/o/acme/rules/new/").status_code == 403


@pytest.mark.parametrize("path", ["edit", "delete"])
def test_rule_of_another_organisation_does_not_exist(
    make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client], path: str
) -> None:
    rule = make_rule(of=make_organization("other"))
    client = sign_in("owner")

    shown = client.get(f"/o/acme/rules/{rule.pk}/{path}/")
    pressed = [client.post(f"/o/acme/rules/{rule.pk}/{button}/") for button in ("run", "preview", "pause", "delete")]

    assert shown.status_code == 404
    assert {answer.status_code for answer in pressed} == {404}


# --- the editor -----------------------------------------------------------------------------------------------------


def test_documented_example_is_created(
    organization: Organization, make_group: Callable[..., Group], sign_in: Callable[..., Client]
) -> None:
    admins = make_group("jira-admins")

    answer = sign_in("admin").post("/o/acme/rules/new/", typed(protected_groups=[admins.pk]))

    rule = CleanupRule.objects.get()
    assert answer["Location"] == "/o/acme/rules/"
    assert (rule.action, rule.inactive_products, rule.inactive_days, rule.weekdays) == ("suspend", ["jira"], 60, [3])
    assert [group.name for group in rule.protected_groups.all()] == ["jira-admins"]
    assert AuditEvent.objects.filter(action="rule.created").count() == 1


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": ""}, "Give the rule a name."),
        ({"inactive_days": "0"}, "Enter 1 or more days"),
        ({"inactive_days": "-3"}, "Enter 1 or more days"),
        ({"inactive_days": "soon"}, "Enter 1 or more days"),
        ({"inactive_days": "99999999999999999999"}, "Enter"),
        ({"include_never_active": "on", "never_active_days": "0"}, "Enter 1 or more days"),
        ({"action": "explode"}, "Choose one of"),
        ({"action": "remove_product_access"}, "Choose at least one product."),
        ({"target": "specified_groups"}, "Choose at least one group"),
        ({"protected_groups": ["999999"]}, "does not exist in this organisation"),
        ({"protected_groups": ["<script>"]}, "does not exist in this organisation"),
        ({"weekdays": []}, "Choose at least one day of the week."),
        ({"recurrence": "monthly", "month_day": "32"}, "Choose a day of the month"),
        ({"run_at": "25:99"}, "Enter a time such as 06:00."),
        ({"max_share_percent": "lots"}, "Enter a percentage"),
        ({"max_count": "0"}, "Enter a whole number"),
        ({"mode": "live"}, "Live mode needs a preview"),
    ],
)
def test_impossible_values_are_named_at_their_field_and_kept(
    organization: Organization, sign_in: Callable[..., Client], fields: dict[str, Any], sentence: str
) -> None:
    answer = sign_in("admin").post("/o/acme/rules/new/", typed(**fields))

    page = answer.content.decode()
    assert answer.status_code == 422
    assert page.count(sentence) >= 2  # in the summary and at the field
    assert 'value="Jira idle 60 days"' in page or fields.get("name") == ""
    assert not CleanupRule.objects.exists()


def test_taken_name_is_refused(make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client]) -> None:
    make_rule(name="Jira idle 60 days")

    answer = sign_in("admin").post("/o/acme/rules/new/", typed())

    assert answer.status_code == 422
    assert b"Another rule has this name." in answer.content


def test_address_fills_in_a_new_rule(organization: Organization, sign_in: Callable[..., Client]) -> None:
    page = sign_in("admin").get("/o/acme/rules/new/?action=suspend&products=jira&days=30&name=Jira+30").content.decode()

    assert 'value="Jira 30"' in page
    assert 'name="inactive_days" inputmode="numeric" value="30"' in page
    assert 'name="inactive_products" value="jira" checked' in page


def test_summary_counts_by_reason_and_says_who_is_left_out(
    organization: Organization,
    make_account: Callable[..., Account],
    make_group: Callable[..., Group],
    trusted_sync: SyncRun,
    sign_in: Callable[..., Client],
) -> None:
    admins = make_group("jira-admins")
    make_account("idle", idle_days=90)
    make_account("admin", idle_days=90, groups=[admins])
    make_account("busy", idle_days=1)

    answer = sign_in("admin").post("/o/acme/rules/_estimate", typed(protected_groups=[admins.pk], name=""))

    page = answer.content.decode()
    assert "<b>1</b> user" in page
    assert "Skipped: protected" in page
    assert "Every Thursday at 06:00 UTC, suspend users" in page
    assert 'id="next-cleanup"' in page


def test_summary_of_impossible_values_counts_nothing(
    organization: Organization, sign_in: Callable[..., Client]
) -> None:
    answer = sign_in("admin").post("/o/acme/rules/_estimate", typed(inactive_days="x"))

    assert answer.status_code == 200
    assert "Matches now" not in answer.content.decode()


def test_find_button_searches_groups_without_script_and_keeps_what_was_chosen(
    organization: Organization, make_group: Callable[..., Group], sign_in: Callable[..., Client]
) -> None:
    chosen = make_group("jira-admins")
    for number in range(20):
        make_group(f"aaa-{number:02}")
    make_group("zebra")

    answer = sign_in("admin").post(
        "/o/acme/rules/new/",
        typed(protected_groups=[chosen.pk], find="protected_groups", protected_groups_search="zeb"),
    )

    page = answer.content.decode()
    assert answer.status_code == 200
    assert "zebra" in page
    assert "aaa-00" not in page, "groups are offered where somebody looks for them"
    assert f'name="protected_groups" value="{chosen.pk}" checked' in page
    assert not CleanupRule.objects.exists()


def test_group_search_shows_only_groups_of_the_organisation(
    organization: Organization, make_group: Callable[..., Group], sign_in: Callable[..., Client]
) -> None:
    make_group("contractors")
    make_group("contractors-elsewhere", of=make_organization("other"))
    client = sign_in("viewer")

    found = client.get("/o/acme/rules/_groups?field=target_groups&target_groups_search=contr").content.decode()

    assert "contractors" in found
    assert "elsewhere" not in found
    assert client.get("/o/acme/rules/_groups?field=name").status_code == 404


def test_edit_is_refused_when_somebody_else_was_faster(
    make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client]
) -> None:
    rule = make_rule()
    client = sign_in("admin")
    client.post(f"/o/acme/rules/{rule.pk}/edit/", edited(rule, inactive_days="70"))

    late = client.post(f"/o/acme/rules/{rule.pk}/edit/", edited(rule, inactive_days="80"))

    rule.refresh_from_db()
    assert late.status_code == 409
    assert b"changed this rule" in late.content
    assert (rule.inactive_days, rule.version) == (70, 2)


def test_live_needs_a_preview_of_exactly_the_saved_rule(
    make_rule: Callable[..., CleanupRule],
    trusted_sync: SyncRun,
    sign_in: Callable[..., Client],
) -> None:
    rule = make_rule()
    client = sign_in("admin")

    before = client.post(f"/o/acme/rules/{rule.pk}/edit/", edited(rule, mode="live"))
    previewed = client.post(f"/o/acme/rules/{rule.pk}/preview/")
    run_planning(Operation.objects.get().pk)
    with_change = client.post(f"/o/acme/rules/{rule.pk}/edit/", edited(rule, mode="live", inactive_days="30"))
    after = client.post(f"/o/acme/rules/{rule.pk}/edit/", edited(rule, mode="live"))

    rule.refresh_from_db()
    assert before.status_code == 422
    assert b"Live mode needs a preview" in before.content
    assert previewed["Location"] == "/o/acme/runs/1/"
    assert with_change.status_code == 422
    assert b"more than the mode differs" in with_change.content
    assert after.status_code == 302
    assert rule.mode == "live"


# --- buttons --------------------------------------------------------------------------------------------------------


def test_switch_pauses_and_resumes_and_answers_with_the_list(
    make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client]
) -> None:
    rule = make_rule()
    client = sign_in("admin")

    paused = client.post(f"/o/acme/rules/{rule.pk}/pause/", headers={"HX-Request": "true"})

    assert b"<html" not in paused.content
    assert b"is paused. It does not run until it is resumed." in paused.content
    CleanupRule.objects.filter(pk=rule.pk).update(paused_reason="12 of 40 came back.")
    assert b"Paused: 12 of 40 came back." in client.get("/o/acme/rules/").content
    editor = client.get(f"/o/acme/rules/{rule.pk}/edit/").content
    assert b"12 of 40 came back." in editor
    assert b"Next cleanup once it is resumed" in editor
    assert client.post(f"/o/acme/rules/{rule.pk}/resume/")["Location"] == "/o/acme/rules/"
    rule.refresh_from_db()
    assert not rule.is_paused


def test_run_now_of_a_paused_rule_says_why_not(
    make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client]
) -> None:
    rule = make_rule()
    client = sign_in("admin")
    client.post(f"/o/acme/rules/{rule.pk}/pause/")

    answer = client.post(f"/o/acme/rules/{rule.pk}/run/", follow=True)

    assert answer.redirect_chain[-1][0] == "/o/acme/rules/"
    assert "paused" in answer.content.decode()
    assert not Operation.objects.exists()


def test_copy_opens_in_the_editor_in_safe_mode(
    make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client]
) -> None:
    rule = make_rule(mode="live")

    answer = sign_in("admin").post(f"/o/acme/rules/{rule.pk}/duplicate/")

    copy = CleanupRule.objects.exclude(pk=rule.pk).get()
    assert answer["Location"] == f"/o/acme/rules/{copy.pk}/edit/"
    assert copy.mode == "safe"


def test_deleting_needs_the_name_of_the_rule(
    make_rule: Callable[..., CleanupRule], sign_in: Callable[..., Client]
) -> None:
    rule = make_rule()
    client = sign_in("admin")
    url = f"/o/acme/rules/{rule.pk}/delete/"

    dialog = client.get(url, headers={"HX-Request": "true"})
    wrong = client.post(url, {"confirm_name": "suspend after 60 days"})
    right = client.post(url, {"confirm_name": rule.name})

    rule.refresh_from_db()
    assert dialog.content.strip().startswith(b"<dialog")
    assert wrong.status_code == 422
    assert right.status_code == 302
    assert rule.deleted_at is not None
    assert timezone.now() - rule.deleted_at < timedelta(minutes=1)
    assert client.get(f"/o/acme/rules/{rule.pk}/edit/").status_code == 404


# --- conditions, history --------------------------------------------------------------------------------------------


def test_conditions_are_added_and_removed_by_buttons_without_script(
    organization: Organization, sign_in: Callable[..., Client]
) -> None:
    admin = sign_in("admin")
    address = reverse("rules:new", args=["acme"])

    page = admin.post(address, typed(conditions="add", add_condition="domain")).content.decode()
    assert 'name="c0_name" value="domain"' in page
    row = {"c0_name": "domain", "c0_domains": "corp.example", "c0_not": "1"}
    page = admin.post(address, typed(conditions="add", add_condition="kind", **row)).content.decode()
    assert 'value="corp.example"' in page
    assert 'name="c1_values" value="bot"' in page
    page = admin.post(address, typed(conditions="remove-0", c1_name="kind", c1_values="bot", **row)).content.decode()
    assert "corp.example" not in page
    assert not CleanupRule.objects.exists()
    refused = admin.post(address, typed(c0_name="domain", c0_not="0"))
    assert (refused.status_code, b"Enter a domain such as example.com." in refused.content) == (422, True)

    admin.post(address, typed(**row))

    assert CleanupRule.objects.get().conditions == [{"name": "domain", "domains": ["corp.example"], "not": True}]


def test_every_condition_of_the_list_can_be_added_and_shown(
    organization: Organization, sign_in: Callable[..., Client]
) -> None:
    admin = sign_in("admin")
    names = [choice.value for choice in condition_choices()]
    rows = {f"c{place}_name": name for place, name in enumerate(names)}

    page = admin.post(reverse("rules:new", args=["acme"]), typed(conditions="stay", **rows)).content.decode()

    assert page.count('aria-label="Condition ') == len(names) > 20


def test_rule_page_leads_to_its_versions_ladder_and_what_if(
    organization: Organization, sign_in: Callable[..., Client], make_rule: Callable[..., CleanupRule], trusted_sync: Any
) -> None:
    admin = sign_in("admin")
    rule = make_rule()
    make_rule(name="Out", action="deactivate", inactive_days=90)
    admin.post(reverse("rules:edit", args=["acme", rule.pk]), edited(rule, inactive_days="45"))
    page = admin.get(reverse("rules:edit", args=["acme", rule.pk])).content.decode()
    assert "Its ladder" in page
    assert "Regret rate" in page

    versions = admin.get(reverse("rules:versions", args=["acme", rule.pk])).content.decode()
    ladders = admin.get(reverse("rules:ladders", args=["acme"])).content.decode()
    tried = admin.post(reverse("rules:what-if", args=["acme", rule.pk]), {"what_if_inactive_days": "30"})
    waiting = admin.get(tried["Location"]).content.decode()
    for operation in Operation.objects.all():
        run_planning(operation.pk)
    done = admin.get(tried["Location"]).content.decode()

    assert "<del>60</del>" in versions
    assert "Out" in ladders
    assert "Planning" in waiting
    assert "There is no older plan of the rule itself" in done
    wrong = admin.post(reverse("rules:what-if", args=["acme", rule.pk]), {"what_if_inactive_days": ""}, follow=True)
    assert b"What if: Enter the days to try." in wrong.content


def test_two_plans_are_compared_and_the_difference_exported(
    organization: Organization,
    sign_in: Callable[..., Client],
    make_rule: Callable[..., CleanupRule],
    make_account: Callable[..., Account],
    trusted_sync: Any,
) -> None:
    admin = sign_in("admin")
    make_account("long", idle_days=90)
    rule = make_rule()
    for _ in range(2):
        admin.post(reverse("rules:preview", args=["acme", rule.pk]))
        run_planning(Operation.objects.latest("pk").pk)
        make_account(f"later{Operation.objects.count()}", idle_days=70)

    page = admin.get(reverse("rules:compare", args=["acme", rule.pk])).content.decode()
    exported = admin.get(reverse("rules:compare-export", args=["acme", rule.pk]) + "?new=2&old=1")

    assert "Later1" in page
    lines = b"".join(exported.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    assert [line.split(",")[:2] for line in lines[1:]] == [["added", "later1"]]
    # Seen from the other side somebody is gone, and the page says why.
    reasons = reverse("rules:compare", args=["acme", rule.pk]) + "?new=1&old=2"
    assert "No longer meets the conditions. Before: 70 days since" in admin.get(reasons).content.decode()
    LeftOut.objects.create(
        organization=organization,
        operation=Operation.objects.get(number=1),
        account=Account.objects.get(account_id="later1"),
        reason="exempt",
    )
    assert "Left out: exempt. Before: 70 days since" in admin.get(reasons).content.decode()
