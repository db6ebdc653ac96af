"""What rules do besides suspending idle people: other actions, other questions, ladders, conflicts, regret, silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operations.models import LeftOut, Operation, OperationItem, SafeguardChange
from apps.operations.planning import STATES
from apps.operations.services import ChangeImpossible, NotApplicable, apply_preview, approve_change, run_planning
from apps.operators.models import Grant, Operator, Role
from apps.operators.permissions import ROLE_PERMISSIONS
from apps.organizations.models import Alert, Directory, Organization
from apps.organizations.recorder import Actor
from apps.rules import compare, selectors
from apps.rules.listeners import gentler_rule_gate, note_finished_run
from apps.rules.models import CleanupRule, DueSlot
from apps.rules.people import bound_to_view
from apps.rules.services import (
    LiveNeedsPreview,
    RuleInput,
    RulesConflict,
    ViewChanged,
    create_rule,
    delete_rule,
    fire,
    loosened,
    pause_rule,
    preview_rule,
    report_silence,
    resume_rule,
    run_rule,
    update_rule,
    what_if,
)
from apps.rules.services.running import DeletionOff
from apps.rules.values import STATES_OF, clean
from apps.users.models import (
    Account,
    AccountStatus,
    Activity,
    ClaimStatus,
    DirectoryMembership,
    Group,
    MembershipStatus,
    SavedView,
    SyncRun,
)
from apps.users.products import bits_of
from apps.users.services import ViewInUse, change_view, delete_view
from aum.common.errors import InvalidInput, NotAllowed
from tests.rules.conftest import ACTOR, WEDNESDAY, made_live, rule_input

MakeRule = Callable[..., CleanupRule]
MakeAccount = Callable[..., Account]
MakeGroup = Callable[..., Group]
SUSPENDED: dict[str, Any] = {"membership_status": MembershipStatus.SUSPENDED}
DEACTIVATED: dict[str, Any] = {"account_status": AccountStatus.INACTIVE}

pytestmark = pytest.mark.usefixtures("trusted_sync")


def planned(rule: CleanupRule, operator: Operator) -> set[str]:
    """Whom a preview of the rule holds."""
    operation = preview_rule(rule=rule, actor=ACTOR, operator=operator)
    run_planning(operation.pk)
    return set(operation.items.values_list("subject", flat=True))


def edit(rule: CleanupRule, operator: Operator | None = None, reason: str = "", **fields: Any) -> CleanupRule:
    values = dataclasses.replace(RuleInput.of(rule), **fields)
    return update_rule(
        rule=rule, values=values, expected_version=rule.version, actor=ACTOR, operator=operator, reason=reason
    )


def suspended(account: Account) -> Account:
    account.directory_memberships.update(status=MembershipStatus.SUSPENDED)
    return account


def in_external(values: tuple[str, ...] = ("unmanaged",)) -> dict[str, Any]:
    return {"name": "claim_status", "values": values}


# --- actions --------------------------------------------------------------------------------------------------------


def test_a_rule_restores_those_suspended_people_whom_its_conditions_mean(
    make_rule: MakeRule, make_account: MakeAccount, operator: Operator
) -> None:
    suspended(make_account("back", email="back@corp.example", **SUSPENDED))
    suspended(make_account("other", email="other@else.example", **SUSPENDED))
    make_account("working", email="working@corp.example")

    rule = make_rule(action="restore", conditions=({"name": "domain", "domains": "corp.example"},), inactive_days=None)

    assert planned(rule, operator) == {"back"}
    assert selectors.sentence(rule) == (
        "Every day at 06:00 UTC, restore suspended users for whom this holds: e-mail at corp.example."
    )


def test_a_rule_activates_managed_people_of_its_groups(
    make_rule: MakeRule, make_account: MakeAccount, make_group: MakeGroup, operator: Operator
) -> None:
    seasonal = make_group("seasonal")
    make_account("back", groups=[seasonal], **DEACTIVATED)
    make_account("external", groups=[seasonal], claim_status=ClaimStatus.UNMANAGED, **DEACTIVATED)
    make_account("elsewhere", **DEACTIVATED)

    rule = make_rule(action="activate", target="specified_groups", target_groups=(seasonal.pk,), inactive_days=None)

    assert planned(rule, operator) == {"back"}


def test_group_rules_change_exactly_their_groups(
    make_rule: MakeRule, make_account: MakeAccount, make_group: MakeGroup, operator: Operator
) -> None:
    licence, idle = make_group("licence", are_grants_known=True), make_group("idle-people", are_grants_known=True)
    make_account("idle", groups=[licence])
    make_account("busy", groups=[licence], idle_days=1)

    takes = make_rule(name="Take", action="remove_from_group", action_groups=(licence.pk,))
    gives = make_rule(name="Mark", action="add_to_group", action_groups=(idle.pk,))

    assert planned(takes, operator) == {"idle"}
    assert planned(gives, operator) == {"idle"}
    targets = OperationItem.objects.order_by("pk").values_list("action", "target")
    assert list(targets) == [
        ("remove_from_group", "group:dir-acme/id-licence"),
        ("add_to_group", "group:dir-acme/id-idle-people"),
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"is_administrative": True}, "grants administration"), ({"is_synced": True}, "identity provider")],
)
@pytest.mark.parametrize("action", ["add_to_group", "remove_from_group"])
def test_a_rule_never_names_a_group_that_grants_administration_or_is_synced(
    make_rule: MakeRule, make_group: MakeGroup, action: str, fields: dict[str, Any], words: str
) -> None:
    group = make_group("admins", are_grants_known=True, **fields)

    with pytest.raises(InvalidInput) as refused:
        make_rule(action=action, action_groups=(group.pk,))

    assert words in refused.value.fields["action_groups"][0]


def test_deletion_is_off_until_it_is_allowed_and_then_always_held(
    make_rule: MakeRule, make_account: MakeAccount, organization: Organization, operator: Operator
) -> None:
    long_ago, lately = timezone.now() - timedelta(days=91), timezone.now() - timedelta(days=89)
    make_account("gone", status_changed_at=long_ago, **DEACTIVATED)
    suspended(make_account("asleep", status_changed_at=long_ago, **SUSPENDED))
    make_account("lately", status_changed_at=lately, **DEACTIVATED)
    make_account("external", status_changed_at=long_ago, claim_status=ClaimStatus.UNMANAGED, **DEACTIVATED)
    make_account("admin", status_changed_at=long_ago, is_org_admin=True, **DEACTIVATED)
    with pytest.raises(InvalidInput, match="marked fields"):
        make_rule(action="delete", status_days=90)
    Organization.objects.update(allow_delete_rules=True)
    organization.refresh_from_db()

    rule = made_live(make_rule(action="delete", status_days=90))
    run = run_rule(rule=rule, actor=ACTOR, operator=operator)
    run_planning(run.pk)

    run.refresh_from_db()
    assert set(run.items.values_list("subject", flat=True)) == {"gone", "asleep"}
    assert run.status == "held"
    assert "delete" in [reason["code"] for reason in run.held_reasons]
    Organization.objects.update(allow_delete_rules=False)
    with pytest.raises(DeletionOff):
        run_rule(rule=CleanupRule.objects.get(), actor=ACTOR, operator=operator)


def test_giving_access_is_not_held_by_number(
    make_rule: MakeRule, make_account: MakeAccount, organization: Organization, operator: Operator
) -> None:
    Organization.objects.update(max_count=1)
    for number in range(4):
        suspended(make_account(f"back{number}", **SUSPENDED))
    rule = made_live(
        make_rule(action="restore", conditions=({"name": "status_days", "days": 0 + 1},), inactive_days=None)
    )
    Account.objects.update(status_changed_at=timezone.now() - timedelta(days=9))

    run = run_rule(rule=rule, actor=ACTOR, operator=operator)
    run_planning(run.pk)

    run.refresh_from_db()
    assert (run.people_count, run.status) == (4, "queued")


def test_every_action_is_about_people_in_a_known_state() -> None:
    assert set(STATES_OF) == set(CleanupRule.Action.values)
    assert set(STATES_OF.values()) <= set(STATES)


# --- conditions -----------------------------------------------------------------------------------------------------


def test_conditions_all_hold_and_unknown_is_neither_yes_nor_no(
    make_rule: MakeRule, make_account: MakeAccount, make_group: MakeGroup, operator: Operator
) -> None:
    vip = make_group("vip")
    make_account("in", claim_status=ClaimStatus.UNMANAGED, email="in@agency.example")
    make_account("hidden", claim_status=ClaimStatus.UNMANAGED, email=None)
    make_account("ours", email="ours@agency.example")
    make_account("vip", claim_status=ClaimStatus.UNMANAGED, email="vip@agency.example", groups=[vip])
    make_account("corp", claim_status=ClaimStatus.UNMANAGED, email="x@corp.example")
    conditions = (
        in_external(),
        {"name": "domain", "domains": ["corp.example"], "not": True},
        {"name": "group_none", "groups": [vip.pk]},
    )

    assert planned(make_rule(conditions=conditions), operator) == {"in"}


def test_a_rule_of_conditions_alone_leaves_out_by_name_whose_login_is_not_known(
    make_rule: MakeRule, make_account: MakeAccount, operator: Operator
) -> None:
    make_account("idle")
    make_account("unknown", has_unknown_activity=True, jira_activity=Activity.UNKNOWN)
    make_account("busy", idle_days=2)

    rule = make_rule(inactive_days=None, conditions=({"name": "active_days", "days": 30, "not": True},))

    assert planned(rule, operator) == {"idle"}
    assert list(LeftOut.objects.values_list("account__account_id", "reason")) == [("unknown", "unknown_activity")]
    assert OperationItem.objects.get().reason["code"] == "conditions"


def test_a_rule_with_a_condition_about_a_gone_group_does_not_run(
    make_rule: MakeRule, make_group: MakeGroup, operator: Operator
) -> None:
    group = make_group("vip")
    rule = make_rule(conditions=({"name": "group_none", "groups": [group.pk]},))
    Group.objects.update(vanished_at=timezone.now())

    assert [(gone.name, gone.role) for gone in selectors.gone_groups(rule)] == [("vip", "condition")]


@pytest.fixture
def view(organization: Organization) -> SavedView:
    made: SavedView = SavedView.objects.create(
        organization=organization,
        name="Externals",
        owner_text="Ada",
        is_shared=True,
        params={"claim_status": ["external"]},
    )
    return made


def test_a_shared_view_narrows_a_rule_and_a_changed_one_stops_it_when_live(
    make_rule: MakeRule, make_account: MakeAccount, view: SavedView, operator: Operator
) -> None:
    make_account("external", claim_status=ClaimStatus.UNMANAGED)
    make_account("ours")
    rule = make_rule(saved_view=view.pk)
    assert planned(rule, operator) == {"external"}
    assert "in the view “Externals”" in selectors.sentence(rule)
    made_live(rule)

    SavedView.objects.update(params={"claim_status": ["managed"]})

    with pytest.raises(ViewChanged, match="was changed since"):
        run_rule(rule=rule, actor=ACTOR, operator=operator)
    assert Alert.objects.get(kind="rule_view").resolved_at is None
    rule = edit(rule, operator)  # saved again as it is: the view of now is meant
    assert (rule.version, selectors.view_trouble(rule, is_live=True)) == (2, "")


def test_a_view_that_is_no_longer_shared_stops_a_rule_that_it_narrows(
    make_rule: MakeRule, view: SavedView, operator: Operator
) -> None:
    rule = make_rule(saved_view=view.pk)
    SavedView.objects.update(is_shared=False)

    with pytest.raises(ViewChanged, match="no longer shared"):
        preview_rule(rule=rule, actor=ACTOR, operator=operator)
    with pytest.raises(InvalidInput):
        edit(rule, operator, inactive_days=30)


def test_a_deleted_rule_holds_no_view(make_rule: MakeRule, view: SavedView) -> None:
    rule = make_rule(name="Externals out", saved_view=view.pk)
    assert bound_to_view(rule.organization, view.pk) == ["rule “Externals out”"]

    CleanupRule.objects.filter(pk=rule.pk).update(deleted_at=timezone.now())

    assert bound_to_view(rule.organization, view.pk) == []


def test_a_view_that_a_rule_uses_is_kept_and_changed_only_by_who_edits_rules(
    make_rule: MakeRule, view: SavedView, operator: Operator
) -> None:
    rule = make_rule(name="Externals out", saved_view=view.pk)
    view.owner = operator
    view.save()
    admin, desk = ROLE_PERMISSIONS[Role.ADMIN], ROLE_PERMISSIONS[Role.HELPDESK]

    with pytest.raises(ViewInUse, match="Externals out"):
        delete_view(view=view, operator=operator, permissions=admin, actor=ACTOR)
    with pytest.raises(ViewInUse, match="Externals out"):
        change_view(view=view, operator=operator, permissions=admin, changes={"is_shared": False}, actor=ACTOR)
    with pytest.raises(NotAllowed, match="Externals out"):
        change_view(view=view, operator=operator, permissions=desk, changes={"params": {}}, actor=ACTOR)
    delete_rule(rule=rule, actor=ACTOR)
    delete_view(view=view, operator=operator, permissions=admin, actor=ACTOR)

    assert not SavedView.objects.exists()


# --- boundaries -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("margin_hours", "fields", "is_planned"),
    [
        (0, {"idle_days": 60}, False),  # exactly N days
        (0, {"idle_days": 60 + 1 / 86400}, True),
        (48, {"idle_days": 61.9}, False),  # inside the margin
        (48, {"idle_days": 62.1}, True),
        (0, {"idle_days": None, "added_days": 60}, False),
        (0, {"idle_days": None, "added_days": 60 + 1 / 86400}, True),  # never, past the invite
        (0, {"idle_days": None, "added_days": 0}, False),  # invited today
        (0, {"has_unknown_activity": True, "jira_activity": Activity.UNKNOWN}, False),
        (0, {"idle_floor_at": WEDNESDAY - timedelta(days=1)}, False),  # restored yesterday
        (0, {"membership_status": MembershipStatus.SUSPENDED}, False),
        (0, {"products": ("jira", "confluence"), "confluence_last_active_at": WEDNESDAY - timedelta(days=59)}, False),
    ],
)
@time_machine.travel(WEDNESDAY, tick=False)
def test_the_boundaries_of_a_suspension_after_60_days(
    organization: Organization,
    make_account: MakeAccount,
    margin_hours: int,
    fields: dict[str, Any],
    is_planned: bool,
) -> None:
    Organization.objects.update(activity_margin_hours=margin_hours)
    if newest := fields.get("confluence_last_active_at"):
        fields = {**fields, "last_active_at": newest}
    make_account("ann", **fields)
    organization.refresh_from_db()
    values = clean(rule_input(include_never_active=True, never_active_days=60), organization)

    assert selectors.estimate(organization, values, now=WEDNESDAY).matches == is_planned


def test_who_is_suspended_in_one_directory_is_planned_for_the_other_one_alone(
    organization: Organization,
    make_rule: MakeRule,
    make_account: MakeAccount,
    trusted_sync: SyncRun,
    operator: Operator,
) -> None:
    second = Directory.objects.create(
        organization=organization, directory_id="second", name="Second", seen_at=timezone.now()
    )
    for name, status in (("both", MembershipStatus.ACTIVE), ("half", MembershipStatus.SUSPENDED)):
        DirectoryMembership.objects.create(
            organization=organization, account=make_account(name), directory=second, status=status
        )

    assert planned(make_rule(), operator) == {"both", "half"}

    places = OperationItem.objects.order_by("subject", "target").values_list("subject", "target")
    assert list(places) == [
        ("both", "directory:dir-acme"),
        ("both", "directory:second"),
        ("half", "directory:dir-acme"),
    ]


# --- ladders --------------------------------------------------------------------------------------------------------


def test_rules_that_share_a_target_are_a_ladder_from_the_gentlest_rung_on(
    make_rule: MakeRule, make_group: MakeGroup, organization: Organization
) -> None:
    group = make_group("contractors")
    make_rule(name="Out", action="deactivate", inactive_days=90)
    make_rule(name="Asleep", inactive_days=60)
    make_rule(name="No Jira", action="remove_product_access", target_products=("jira",), inactive_days=30)
    make_rule(name="Contractors", target="specified_groups", target_groups=(group.pk,))

    (ladder,) = selectors.ladders(organization)

    assert ladder.target == "All users except protected groups"
    assert [rung.name for rung in ladder.rungs] == ["No Jira", "Asleep", "Out"]


def test_rungs_of_one_action_stand_by_their_days(make_rule: MakeRule, organization: Organization) -> None:
    for name, days in (("C", 90), ("B", 120), ("A", 100)):
        make_rule(name=name, action="suspend", inactive_days=days)
    make_rule(name="Out", action="deactivate", inactive_days=60)

    (ladder,) = selectors.ladders(organization)

    assert [rung.name for rung in ladder.rungs] == ["C", "A", "B", "Out"]


@time_machine.travel(WEDNESDAY, tick=False)
def test_a_suspended_person_reaches_the_next_rung_and_a_restore_resets_it(
    make_rule: MakeRule, make_account: MakeAccount, operator: Operator
) -> None:
    person = suspended(make_account("ann", idle_days=95, **SUSPENDED))
    deactivate = make_rule(name="Out", action="deactivate", inactive_days=90)
    assert planned(deactivate, operator) == {"ann"}

    Account.objects.filter(pk=person.pk).update(
        membership_status=MembershipStatus.ACTIVE, idle_floor_at=WEDNESDAY - timedelta(days=2)
    )

    assert planned(deactivate, operator) == set()
    assert planned(make_rule(name="Asleep", inactive_days=60), operator) == set()


# --- contradictions -------------------------------------------------------------------------------------------------


def test_rules_that_contradict_each_other_are_refused_with_both_names_and_the_count(
    make_rule: MakeRule, make_account: MakeAccount
) -> None:
    for number in range(3):
        make_account(f"ext{number}", claim_status=ClaimStatus.UNMANAGED)
    make_account("ours")
    make_rule(name="Suspend idle")

    with pytest.raises(RulesConflict) as refused:
        make_rule(name="Welcome back", action="restore", conditions=(in_external(),), inactive_days=None)

    assert "“Welcome back” and “Suspend idle” contradict each other about 3 people" in refused.value.detail
    assert not CleanupRule.objects.filter(name="Welcome back").exists()


def test_paused_rules_may_contradict_until_they_are_resumed(make_rule: MakeRule, make_account: MakeAccount) -> None:
    make_account("ext", claim_status=ClaimStatus.UNMANAGED)
    first = pause_rule(rule=make_rule(name="Suspend idle"), actor=ACTOR)
    make_rule(name="Welcome back", action="restore", conditions=(in_external(),), inactive_days=None)

    with pytest.raises(RulesConflict, match="1 person"):
        resume_rule(rule=first, actor=ACTOR)


def test_groups_contradict_only_where_they_are_the_same(
    make_rule: MakeRule, make_account: MakeAccount, make_group: MakeGroup
) -> None:
    one, two = make_group("one", are_grants_known=True), make_group("two", are_grants_known=True)
    make_account("ann", groups=[one])
    make_rule(name="Take", action="remove_from_group", action_groups=(one.pk,))
    make_rule(name="Give other", action="add_to_group", action_groups=(two.pk,))

    with pytest.raises(RulesConflict):
        make_rule(name="Give same", action="add_to_group", action_groups=(one.pk, two.pk))


def test_taking_a_product_contradicts_only_a_group_that_gives_it(
    make_rule: MakeRule, make_account: MakeAccount, make_group: MakeGroup
) -> None:
    jira, wiki = (
        make_group(name, are_grants_known=True, granted_products=bits_of([name])) for name in ("jira", "confluence")
    )
    make_account("ann", products=("jira", "confluence"))
    make_rule(name="No Jira", action="remove_product_access", target_products=("jira",))
    make_rule(name="Give wiki", action="add_to_group", action_groups=(wiki.pk,))

    with pytest.raises(RulesConflict):
        make_rule(name="Give Jira", action="add_to_group", action_groups=(jira.pk,))


def test_at_run_time_the_gentler_rule_wins_and_it_is_logged(
    make_rule: MakeRule, make_account: MakeAccount, organization: Organization, operator: Operator
) -> None:
    take = make_rule(name="Suspend idle")
    give = made_live(make_rule(name="Welcome back", action="restore", conditions=(in_external(),), inactive_days=None))
    external = make_account("ext", claim_status=ClaimStatus.UNMANAGED)  # came after both were saved
    make_account("ours")

    assert planned(take, operator) == {"ours"}

    row = LeftOut.objects.get()
    assert (row.account, row.reason) == (external, "gentler_rule")
    event = AuditEvent.objects.get(action="rule.yielded")
    assert event.after is not None
    assert (event.rule_id, event.after["gentler_rule"], event.after["people"]) == (take.pk, give.pk, 1)
    # The same is asked once more just before the write.
    operation = Operation.objects.get()
    everybody = list(Account.objects.values_list("pk", flat=True))
    skipped = gentler_rule_gate(organization, operation, everybody, timezone.now())
    assert {pk: code for pk, (code, _words) in skipped.items()} == {external.pk: "skipped_conflict"}


# --- live, versions, loosening --------------------------------------------------------------------------------------


def test_no_way_of_editing_makes_a_rule_live_without_a_preview_of_exactly_it(
    organization: Organization, operator: Operator, make_account: MakeAccount
) -> None:
    make_account("ann")
    with pytest.raises(LiveNeedsPreview):
        create_rule(organization=organization, values=rule_input(mode="live"), actor=ACTOR, operator=operator)
    rule = create_rule(organization=organization, values=rule_input(), actor=ACTOR, operator=operator)
    with pytest.raises(LiveNeedsPreview):
        edit(rule, operator, mode="live")
    run_planning(preview_rule(rule=rule, actor=ACTOR, operator=operator).pk)
    with pytest.raises(LiveNeedsPreview, match="more than the mode differs"):
        edit(rule, operator, mode="live", inactive_days=30)

    rule = edit(rule, operator, mode="live", notes="Agreed.")

    assert (rule.mode, rule.version) == ("live", 2)


def test_versions_say_field_by_field_what_changed(make_rule: MakeRule, make_group: MakeGroup) -> None:
    group = make_group("vip")
    rule = edit(
        make_rule(),
        inactive_days=90,
        recurrence="weekly",
        weekdays=(0, 3),
        conditions=({"name": "group", "groups": [group.pk], "not": True},),
    )
    newest, first = selectors.versions(rule)

    changes = {change.name: (change.before, change.after) for change in selectors.version_changes(first, newest)}

    assert changes == {
        "inactive_days": ("60", "90"),
        "recurrence": ("daily", "weekly"),
        "weekdays": ("", "Monday and Thursday"),
        "conditions": ("", "not (group vip)"),
    }


def test_looser_safeguards_of_a_live_rule_wait_and_count_an_hour_after_the_approval(
    make_rule: MakeRule, make_account: MakeAccount, make_group: MakeGroup, operator: Operator
) -> None:
    make_account("ann")
    group = make_group("vip")
    rule = make_rule(max_count=20, protected_groups=(group.pk,))
    assert edit(rule, operator, max_count=30).max_count == 30  # never live: nobody relies on it yet
    rule = made_live(CleanupRule.objects.get())
    with pytest.raises(InvalidInput) as refused:
        edit(rule, operator, max_count=50)
    assert list(refused.value.fields) == ["reason"]

    rule = edit(rule, operator, reason="More people now", max_count=50, protected_groups=(), inactive_days=70)

    assert (rule.max_count, list(rule.protected_groups.all()), rule.inactive_days) == (30, [group], 70)
    change = SafeguardChange.objects.get()
    assert (change.kind, change.rule_id, change.changes["max_count"]) == ("rule", rule.pk, ["30", "50"])
    assert [line.sentence for line in _lines(change)] == [
        "Rule Suspend after 60 days: hold a run above: 30 → 50 people",
        "Rule Suspend after 60 days: no longer protect vip",
    ]
    assert loosened.obstacle(change) == ""
    loosened.apply(change)
    rule = CleanupRule.objects.get()
    assert (rule.max_count, list(rule.protected_groups.all()), rule.edited_by) == (50, [], operator)
    assert loosened.obstacle(change) == "The rule's safeguards were changed since it was proposed."


def test_a_looser_safeguard_of_a_deleted_rule_cannot_be_approved(
    make_rule: MakeRule, operator: Operator, operators: Callable[..., Operator]
) -> None:
    rule = made_live(make_rule(max_count=20))
    edit(rule, operator, reason="More", max_count=50)
    change, approver = SafeguardChange.objects.get(), operators(rule.organization, "eve@example.com", "approver")
    CleanupRule.objects.update(deleted_at=timezone.now())

    with pytest.raises(ChangeImpossible, match=r"The rule was deleted\. Propose the change again\."):
        approve_change(change=change, operator=approver, actor=Actor.operator(approver))


def test_a_tighter_value_counts_at_once_and_ends_the_looser_one_that_waits(
    make_rule: MakeRule, operator: Operator
) -> None:
    rule = made_live(make_rule(max_count=20))
    edit(rule, operator, reason="More", max_count=50)

    rule = edit(CleanupRule.objects.get(), operator, max_count=10)

    assert (rule.max_count, SafeguardChange.objects.get().status) == (10, "superseded")


def _lines(change: SafeguardChange) -> Any:
    from apps.operations.reasons import safeguard_lines

    return safeguard_lines(change)


def test_who_makes_a_rule_owns_it_and_stays_named_after_leaving(organization: Organization, operator: Operator) -> None:
    grant = Grant.objects.create(
        organization=organization, operator=operator, role=Role.ADMIN, granted_at=timezone.now(), granted_by="test"
    )
    rule = create_rule(organization=organization, values=rule_input(), actor=ACTOR, operator=operator)
    assert rule.owner == operator

    grant.delete()

    assert edit(rule, operator, inactive_days=90).owner == operator
    with pytest.raises(InvalidInput):
        create_rule(
            organization=organization,
            values=rule_input(name="Other", owner="ada@example.com"),
            actor=ACTOR,
            operator=operator,
        )


# --- what if, differences -------------------------------------------------------------------------------------------


def test_other_days_are_planned_beside_the_rule_and_never_applied(
    make_rule: MakeRule, make_account: MakeAccount, operator: Operator
) -> None:
    make_account("long", idle_days=90)
    make_account("short", idle_days=50)
    rule = make_rule()
    planned(rule, operator)

    tried = what_if(rule=rule, actor=ACTOR, operator=operator, inactive_days="45")
    run_planning(tried.pk)

    newer, older = compare.plans_of(rule)
    assert (newer.pk, newer.name) == (tried.pk, "What if 45 days: Suspend after 60 days")
    assert compare.counts(newer, older) == {"added": 1, "removed": 0, "changed": 0, "unchanged": 1}
    assert [entry.subject for entry in compare.all_differences(newer, older)] == ["short"]
    assert [entry.subject for entry in compare.all_differences(older, newer)] == ["short"]
    with pytest.raises(NotApplicable, match="other days"):
        apply_preview(operation=newer, plan_hash=newer.plan_hash, actor=ACTOR, operator=operator)
    assert CleanupRule.objects.get().inactive_days == 60
    assert not selectors.has_fresh_preview(edit(rule, operator, inactive_days=45))


@pytest.mark.parametrize("days", [{}, {"inactive_days": "0"}, {"inactive_days": "many"}, {"status_days": 9}])
def test_what_if_needs_days_that_the_rule_counts(make_rule: MakeRule, operator: Operator, days: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        what_if(rule=make_rule(), actor=ACTOR, operator=operator, **days)


# --- regret ---------------------------------------------------------------------------------------------------------


def took(rule: CleanupRule, accounts: list[Account], *, days_ago: float) -> Operation:
    """A finished live run of the rule that suspended these people."""
    at = timezone.now() - timedelta(days=days_ago)
    number = Operation.objects.count() + 1
    run: Operation = Operation.objects.create(
        organization=rule.organization,
        number=number,
        kind="scheduled_cleanup",
        mode="live",
        status="succeeded",
        initiator="automated",
        name=rule.name,
        action=rule.action,
        rule_id=rule.pk,
        rule_version=1,
    )
    for account in accounts:
        item(run, account, "suspend", at)
    return run


def item(run: Operation, account: Account, action: str, at: Any) -> None:
    OperationItem.objects.create(
        organization=run.organization,
        operation=run,
        account=account,
        subject=account.account_id,
        action=action,
        target="directory:dir-acme",
        status="finished",
        outcome="done",
        finished_at=at,
    )


def test_the_regret_rate_counts_who_came_back_within_30_days(
    make_rule: MakeRule, make_account: MakeAccount, organization: Organization
) -> None:
    rule = made_live(make_rule())
    people = [make_account(f"p{number}", idle_days=200) for number in range(10)]
    took(rule, people, days_ago=40)
    undo = took(rule, [], days_ago=0)
    Operation.objects.filter(pk=undo.pk).update(rule_id=None, action="restore")
    now = timezone.now()
    item(undo, people[0], "restore", now - timedelta(days=40 - 29))
    item(undo, people[1], "restore", now - timedelta(days=40 - 31))  # too late to be regretted
    Account.objects.filter(pk=people[2].pk).update(idle_floor_at=now - timedelta(days=30))  # seen by a sync
    took(rule, [make_account("old", idle_days=300)], days_ago=91)  # outside the 90 days

    found = selectors.regret(rule)

    assert (found.reclaimed, found.restored, found.percent, found.is_above) == (10, 2, 20.0, True)


def test_a_rule_above_the_rate_pauses_itself_when_its_time_comes_and_names_its_owner(
    make_rule: MakeRule, make_account: MakeAccount, operator: Operator, organization: Organization
) -> None:
    with time_machine.travel(WEDNESDAY, tick=False):
        rule = made_live(make_rule())
        CleanupRule.objects.update(owner=operator)
        people = [make_account(f"p{number}", idle_days=200) for number in range(5)]
        took(rule, people, days_ago=3)
        Account.objects.filter(pk=people[0].pk).update(idle_floor_at=WEDNESDAY - timedelta(days=1))
    with time_machine.travel(WEDNESDAY + timedelta(hours=18, minutes=1), tick=False):
        slot = fire(rule_id=rule.pk)

    assert slot is not None
    assert (slot.state, DueSlot.objects.get().operation_number) == ("refused", None)
    rule.refresh_from_db()
    assert (rule.is_paused, rule.next_run_at) == (True, None)
    assert "1 of the 5 people" in rule.paused_reason
    assert "Owner: Ada." in Alert.objects.get(kind="rule_regret").detail


def test_few_people_who_came_back_pause_no_rule(make_rule: MakeRule, make_account: MakeAccount) -> None:
    rule = made_live(make_rule())
    people = [make_account(f"p{number}", idle_days=200) for number in range(4)]
    took(rule, people, days_ago=3)
    Account.objects.update(idle_floor_at=timezone.now() - timedelta(days=1))

    assert not selectors.regret(rule).is_above


# --- silence --------------------------------------------------------------------------------------------------------


def test_a_rule_that_was_due_and_not_looked_at_raises_one_alert_until_it_is(make_rule: MakeRule) -> None:
    with time_machine.travel(WEDNESDAY, tick=False):
        rule = make_rule()
    due = WEDNESDAY + timedelta(hours=18)
    with time_machine.travel(due + timedelta(minutes=2), tick=False):
        assert report_silence() == 0
    with time_machine.travel(due + timedelta(minutes=4), tick=False):
        assert report_silence() == 1
        assert report_silence() == 1
    alert = Alert.objects.get()
    assert (alert.kind, alert.repeats, alert.resolved_at) == ("rule_silent", Alert.repeats.field.default, None)

    with time_machine.travel(due + timedelta(minutes=6), tick=False):
        fire(rule_id=rule.pk)

    alert.refresh_from_db()
    assert alert.resolved_at is not None


def test_a_run_that_no_worker_takes_up_is_named(make_rule: MakeRule, operator: Operator) -> None:
    run = preview_rule(rule=make_rule(), actor=ACTOR, operator=operator)
    Operation.objects.update(created_at=timezone.now() - timedelta(minutes=4))

    assert report_silence() == 1

    assert Alert.objects.get().title == f"Run #{run.number} Suspend after 60 days does not begin"
    run_planning(run.pk)
    assert report_silence() == 0


def test_a_run_that_changed_nobody_is_no_success_and_says_so(
    make_rule: MakeRule, make_account: MakeAccount, trusted_sync: SyncRun
) -> None:
    run = took(made_live(make_rule()), [make_account("ann")], days_ago=0)
    Operation.objects.update(status="no_effect", people_count=1)
    run.refresh_from_db()

    note_finished_run(run)

    assert Alert.objects.get().title == f"Run #{run.number} Suspend after 60 days had no effect"
    run.status = "succeeded"
    note_finished_run(run)
    assert Alert.objects.get().resolved_at is not None
