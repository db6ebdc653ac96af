"""Who is in a group that grants administration: changed by an owner's hand alone, with a second person (P15, S7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from django.utils import timezone

from apps.operations import services
from apps.operations.actions import ADMINISTRATIVE
from apps.operations.models import Operation
from apps.operations.selection import AccountsSelection, ActionSpec, RuleRef
from apps.operators.models import Grant, Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import Account, Group, ProtectedGroup
from apps.users.services import request_sync, run_sync
from aum.common.errors import InvalidInput, NotAllowed

Run = Callable[[Operation], Operation]
Act = Callable[..., Operation]


@pytest.fixture
def owner(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "owner@aum.example", "owner")


@pytest.fixture
def change(organization: Organization, owner: Operator) -> Act:
    """Plan what an owner does by hand, unless said otherwise."""

    def make(
        action: str,
        group: Group,
        people: Sequence[Account],
        *,
        operator: Operator | None = owner,
        actor: Actor | None = None,
        mode: str = "live",
        rule: RuleRef | None = None,
    ) -> Operation:
        operation = services.plan_operation(
            organization=organization,
            kind="manual_operation",
            mode=mode,
            initiator="manual",
            actor=actor or Actor.operator(operator or owner),
            operator=operator,
            name="Administration",
            actions=[ActionSpec(action, group_ids=(group.pk,))],
            selection=AccountsSelection(tuple(account.account_id for account in people)),
            rule=rule,
        )
        services.run_planning(operation.pk)
        operation.refresh_from_db()
        return operation

    return make


@pytest.fixture
def approve(approver: Operator, execute: Run) -> Run:
    def make(operation: Operation) -> Operation:
        plan_hash, _people = services.approval_hash(operation)
        services.approve_operation(
            operation=operation, plan_hash=plan_hash, operator=approver, actor=Actor.operator(approver)
        )
        return execute(operation)

    return make


def admins(organization: Organization) -> Group:
    return Group.objects.of(organization).get(name="org-admins")


def named(organization: Organization, name: str) -> Account:
    return Account.objects.of(organization).get(name=name)


def members(sandbox: Sandbox, group: Group) -> set[str]:
    """Atlassian ids of those who are in the group, as the sandbox has it."""
    people = sandbox.control.get("state")
    return {account_id for account_id, state in people.items() if group.group_id in state["groups"]}


def test_an_owner_takes_an_admin_out_of_the_group_with_a_second_person_and_gives_it_back(
    organization: Organization, change: Act, approve: Run, owner: Operator, sandbox: Sandbox
) -> None:
    imani, group = named(organization, "Imani Okoro"), admins(organization)
    ProtectedGroup.objects.create(organization=organization, group=group, added_at=timezone.now(), added_by="Ada")

    operation = change("remove_from_admin_group", group, [imani])

    assert operation.status == Operation.Status.HELD
    assert [reason["code"] for reason in operation.held_reasons] == ["administration"]
    with pytest.raises(services.MayNotApprove):
        services.approve_operation(
            operation=operation, plan_hash=operation.plan_hash, operator=owner, actor=Actor.operator(owner)
        )
    approve(operation)
    assert operation.status == Operation.Status.SUCCEEDED
    assert imani.account_id not in members(sandbox, group)

    undone = services.undo_operation(operation=operation, actor=Actor.operator(owner), operator=owner)
    services.run_planning(undone.pk)
    undone.refresh_from_db()
    assert undone.status == Operation.Status.HELD
    approve(undone)
    assert undone.status == Operation.Status.SUCCEEDED
    assert imani.account_id in members(sandbox, group)


def test_an_owner_makes_somebody_an_admin_with_a_second_person(
    organization: Organization, change: Act, approve: Run, sandbox: Sandbox
) -> None:
    group = admins(organization)
    somebody = (
        Account.objects.of(organization)
        .filter(directory_memberships__directory=group.directory, directory_memberships__status=1, account_status=1)
        .exclude(group_ids__contains=[group.pk])
        .exclude(name="")
        .order_by("account_id")[0]
    )
    operation = change("add_to_admin_group", group, [somebody])
    assert operation.status == Operation.Status.HELD
    approve(operation)
    assert operation.status == Operation.Status.SUCCEEDED
    assert somebody.account_id in members(sandbox, group)


def test_nobody_and_nothing_else_changes_administration(
    organization: Organization, change: Act, owner: Operator, author: Operator, operators: Callable[..., Operator]
) -> None:
    helpdesk = operators(organization, "desk@aum.example", "helpdesk")
    ways = [
        (author, Actor.operator(author)),
        (helpdesk, Actor.operator(helpdesk)),
        (owner, Actor("token", "1", "Owner (token Night)")),
        (owner, Actor.cli("root", owner)),
        (None, Actor.scheduler()),
        (None, Actor.inbound("slack", "U1", "Somebody")),
    ]
    for operator, actor in ways:
        for action in ADMINISTRATIVE:
            for mode in ("live", "safe"):
                with pytest.raises(NotAllowed, match="owner"):
                    change(
                        action,
                        admins(organization),
                        [named(organization, "Imani Okoro")],
                        operator=operator,
                        actor=actor,
                        mode=mode,
                    )
    assert not Operation.objects.exists()


def test_what_an_owner_previewed_nobody_else_applies_undoes_or_retries(
    organization: Organization, change: Act, approve: Run, author: Operator, owner: Operator
) -> None:
    imani, group = named(organization, "Imani Okoro"), admins(organization)
    preview = change("remove_from_admin_group", group, [imani], mode="safe")
    other = {"actor": Actor.operator(author), "operator": author}
    with pytest.raises(NotAllowed):
        services.apply_preview(operation=preview, plan_hash=preview.plan_hash, **other)
    with pytest.raises(NotAllowed):
        services.apply_preview(
            operation=preview, plan_hash=preview.plan_hash, actor=Actor.cli("root", owner), operator=owner
        )
    applied = services.apply_preview(
        operation=preview, plan_hash=preview.plan_hash, actor=Actor.operator(owner), operator=owner
    )
    services.run_planning(applied.pk)
    applied.refresh_from_db()
    approve(applied)
    assert applied.status == Operation.Status.SUCCEEDED
    with pytest.raises(NotAllowed):
        services.undo_operation(operation=applied, **other)
    with pytest.raises(NotAllowed):
        services.undo_person(account=imani, **other)
    with pytest.raises(NotAllowed):
        services.undo_day(organization=organization, day=applied.started_at.date(), **other)
    applied.items.update(outcome="failed")
    with pytest.raises(NotAllowed):
        services.retry_failed(operation=applied, **other)


def test_two_organisation_admins_always_stay(
    organization: Organization, change: Act, approve: Run, sandbox: Sandbox
) -> None:
    imani, group = named(organization, "Imani Okoro"), admins(organization)
    # Imani and the owner of the key are left: one more than may go.
    Account.objects.filter(name="Jonas Feld").update(is_org_admin=False)
    operation = change("remove_from_admin_group", group, [imani])
    assert [reason["code"] for reason in operation.held_reasons] == ["admins_left", "administration"]

    approve(operation)

    item = operation.items.get()
    assert (item.outcome, "Fewer than 2" in item.detail) == ("skipped_protected", True)
    assert imani.account_id in members(sandbox, group)


def test_of_several_only_so_many_go_that_two_admins_stay(
    organization: Organization, change: Act, approve: Run, sandbox: Sandbox
) -> None:
    group = admins(organization)
    others = list(
        Account.objects.of(organization)
        .filter(directory_memberships__directory=group.directory, directory_memberships__status=1, account_status=1)
        .filter(kind=1, is_org_admin=False)
        .order_by("account_id")[:2]
    )
    approve(change("add_to_admin_group", group, others))
    run = request_sync(organization=organization, actor=Actor.system())
    assert run_sync(run.pk, budget_seconds=None, wait_here=True) is not None
    Account.objects.filter(name="Jonas Feld").update(is_org_admin=False)
    assert Account.objects.of(organization).filter(is_org_admin=True).count() == 4

    operation = change("remove_from_admin_group", group, [*others, named(organization, "Imani Okoro")])
    approve(operation)

    assert sorted(operation.items.values_list("outcome", flat=True)) == ["done", "done", "skipped_protected"]
    assert len(members(sandbox, group)) == 2


def test_leaving_a_group_that_makes_no_organisation_admin_counts_no_admin(
    organization: Organization, change: Act, approve: Run
) -> None:
    # Jonas administers the organisation by a role of his own; here he leaves the administrators of Jira.
    Account.objects.filter(name="Imani Okoro").update(is_org_admin=False)
    operation = change(
        "remove_from_admin_group",
        Group.objects.of(organization).get(name="jira-administrators"),
        [named(organization, "Jonas Feld")],
    )
    assert [reason["code"] for reason in operation.held_reasons] == ["administration"]
    approve(operation)
    assert operation.items.get().outcome == "done"


def test_the_owner_of_the_key_and_the_exempt_stay(organization: Organization, change: Act) -> None:
    operation = change("remove_from_admin_group", admins(organization), [named(organization, "Robin Ashdown")])
    assert (operation.left_out, operation.people_count) == ({"protected": 1}, 0)


def test_an_owner_who_lost_the_role_meanwhile_changes_nothing(
    organization: Organization, change: Act, approve: Run, owner: Operator, sandbox: Sandbox
) -> None:
    imani, group = named(organization, "Imani Okoro"), admins(organization)
    operation = change("remove_from_admin_group", group, [imani])
    Grant.objects.filter(operator=owner).update(role="admin")
    approve(operation)
    item = operation.items.get()
    assert (item.outcome, item.detail) == ("skipped_protected", "Who started this is no longer an owner.")
    assert imani.account_id in members(sandbox, group)


def test_alone_an_owner_takes_administration_and_gives_it_back_but_gives_nobody_new(
    organization: Organization, change: Act, owner: Operator, execute: Run, sandbox: Sandbox
) -> None:
    imani, group = named(organization, "Imani Okoro"), admins(organization)
    Organization.objects.filter(pk=organization.pk).update(is_one_operator=True)
    organization.refresh_from_db()
    with pytest.raises(NotAllowed, match="second person"):
        change("add_to_admin_group", group, [named(organization, "Jonas Feld")])

    def alone(operation: Operation) -> Operation:
        services.approve_operation(
            operation=operation,
            plan_hash=operation.plan_hash,
            operator=owner,
            actor=Actor.operator(owner),
            confirm_count=1,
            password="correct horse battery",
        )
        return execute(operation)

    operation = change("remove_from_admin_group", group, [imani])
    with pytest.raises(InvalidInput):
        services.approve_operation(
            operation=operation, plan_hash=operation.plan_hash, operator=owner, actor=Actor.operator(owner)
        )
    alone(operation)
    assert imani.account_id not in members(sandbox, group)
    undone = services.undo_operation(operation=operation, actor=Actor.operator(owner), operator=owner)
    services.run_planning(undone.pk)
    undone.refresh_from_db()
    alone(undone)
    assert imani.account_id in members(sandbox, group)


def test_a_plan_to_add_is_not_approved_alone_after_the_others_left(
    organization: Organization, change: Act, owner: Operator
) -> None:
    operation = change("add_to_admin_group", admins(organization), [named(organization, "Jonas Feld")])
    Organization.objects.filter(pk=organization.pk).update(is_one_operator=True)
    operation.refresh_from_db()
    refusal = services.may_approve(Operation.objects.get(pk=operation.pk), owner)
    assert refusal is not None
    assert refusal.code == "second_person"


def test_a_token_approves_no_change_of_administration(
    organization: Organization, change: Act, approver: Operator
) -> None:
    operation = change("remove_from_admin_group", admins(organization), [named(organization, "Imani Okoro")])
    with pytest.raises(services.MayNotApprove, match="signed in"):
        services.approve_operation(
            operation=operation,
            plan_hash=operation.plan_hash,
            operator=approver,
            actor=Actor("token", "1", "Approver (token Night)"),
        )


def test_plain_and_admin_groups_are_not_mixed_up(organization: Organization, change: Act) -> None:
    plain = Group.objects.of(organization).filter(is_administrative=False, is_synced=False).order_by("name")[0]
    for action, group, said in (
        ("remove_from_admin_group", plain, "grants no administration"),
        ("add_to_admin_group", plain, "grants no administration"),
        ("remove_from_group", admins(organization), "Only an owner changes who is in it"),
        ("add_to_group", admins(organization), "Only an owner changes who is in it"),
    ):
        with pytest.raises(InvalidInput) as refused:
            change(action, group, [named(organization, "Imani Okoro")])
        assert said in refused.value.fields["groups"][0]
