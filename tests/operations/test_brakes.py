"""Brakes beyond count, share and day: a group's share, admins left, rows held back, rows changed behind an approval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operations import selectors, services
from apps.operations.models import Operation, OperationItem
from apps.operations.selection import Limits
from apps.operations.services import gate
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import Account, Group, GroupMembership, ProductAccess, ProtectedGroup
from aum.common.errors import InvalidInput

Plan = Callable[..., Operation]
Run = Callable[[Operation], Operation]


def held_codes(operation: Operation) -> list[str]:
    return [reason["code"] for reason in operation.held_reasons]


def test_share_of_one_group_holds_a_plan_and_a_rule_can_only_tighten_it(organization: Organization, plan: Plan) -> None:
    selected = plan(mode="safe")
    some = list(Account.objects.filter(pk__in=selected.items.values("account")).order_by("pk")[:12])
    others = Account.objects.of(organization).filter(vanished_at=None, account_status=1, membership_status=1)
    recent = others.filter(last_active_at__gt=timezone.now() - timedelta(days=20))
    rest = list(recent.exclude(pk__in=selected.items.values("account")).order_by("pk")[:12])
    group = Group.objects.of(organization).filter(is_administrative=False).order_by("pk")[0]
    GroupMembership.objects.filter(group=group).delete()
    for account in Account.objects.of(organization).filter(group_ids__contains=[group.pk]):
        Account.objects.filter(pk=account.pk).update(group_ids=[pk for pk in account.group_ids if pk != group.pk])
    for account in (*some, *rest):
        GroupMembership.objects.create(organization=organization, account=account, group=group)
        Account.objects.filter(pk=account.pk).update(group_ids=sorted({*account.group_ids, group.pk}))
    ProtectedGroup.objects.filter(group=group).delete()

    def held(of_organization: int, of_rule: int | None) -> list[str]:
        organization.max_group_share_percent = of_organization
        organization.save()
        operation = plan(limits=Limits(max_group_share_percent=of_rule))
        found = [reason["sentence"] for reason in operation.held_reasons if reason["code"] == "group_share"]
        services.cancel_operation(operation=operation, actor=Actor.system())
        return [sentence for sentence in found if group.name in sentence]

    assert held(49, None) == [f"12 of the 24 people in {group.name} are more than the limit of 49 % of one group."]
    assert held(50, None) == []
    assert held(90, 40) != []
    assert held(40, 90) != []


def test_fewer_than_two_admins_are_never_left(organization: Organization, plan: Plan) -> None:
    operation = plan(mode="safe")
    chosen = [item.account_id for item in operation.items.order_by("pk")[:2]]
    Account.objects.of(organization).update(is_org_admin=False)
    Account.objects.filter(pk__in=chosen).update(is_org_admin=True)

    assert "admins_left" in {reason["code"] for reason in gate.gate_plan(operation)}
    Account.objects.of(organization).exclude(pk__in=operation.items.values("account")).update(is_org_admin=True)
    assert "admins_left" not in {reason["code"] for reason in gate.gate_plan(operation)}


def test_rows_are_held_back_and_the_approval_is_for_exactly_the_rest(
    sandbox: Sandbox,
    organization: Organization,
    plan: Plan,
    execute: Run,
    author: Operator,
    approver: Operator,
    client: Client,
) -> None:
    organization.max_count = 5
    organization.save()
    operation = plan()
    whole, seats = services.approval_hash(operation), operation.seats
    subjects = list(dict.fromkeys(operation.items.order_by("pk").values_list("subject", flat=True)))[:3]
    client.force_login(approver)
    page = f"{operation.get_absolute_url()}hold-back/?account={subjects[0]}&account={subjects[1]}"
    assert "Hold 2 users back" in client.get(page).content.decode()
    assert client.post(page, {"reason": " "}).status_code == 422

    assert client.post(page, {"reason": "On parental leave"}).status_code == 302

    rest, count = services.approval_hash(operation)
    assert (count, rest != whole[0]) == (operation.people_count - 2, True)
    shown = client.get(operation.get_absolute_url()).content.decode()
    assert "Held back by Approver: On parental leave" in shown
    assert f"<b>{count}</b><span>will be suspended" in shown
    assert "<b>2</b><span>held back from the approval</span>" in shown
    assert f"Suspend {count} users" in client.get("/o/acme/approvals/").content.decode()
    held = operation.items.filter(outcome="skipped_held_row").values("account")
    licences = Counter(ProductAccess.objects.filter(account__in=held).values_list("product", flat=True).distinct())
    operation.refresh_from_db()
    assert licences
    assert all(operation.seats.get(product, 0) < seats[product] for product in licences)
    rows = operation.items.filter(outcome="skipped_held_row").count()
    assert AuditEvent.objects.filter(operation_id=operation.pk, target_ref__in=subjects[:2]).count() == rows
    with pytest.raises(services.PlanChanged):
        services.approve_operation(
            operation=operation, plan_hash=whole[0], operator=approver, actor=Actor.operator(approver)
        )
    services.approve_operation(operation=operation, plan_hash=rest, operator=approver, actor=Actor.operator(approver))
    execute(operation)
    assert operation.status == Operation.Status.SUCCEEDED
    assert set(operation.items.filter(outcome="skipped_held_row").values_list("subject", flat=True)) == set(
        subjects[:2]
    )
    touched = {entry["account"] for entry in sandbox.control.get("ledger")["entries"] if entry["effect"] == "changed"}
    assert not touched & set(subjects[:2])
    assert subjects[2] in touched


def test_author_may_narrow_but_nobody_empties_a_plan(
    organization: Organization, plan: Plan, author: Operator, operators: Callable[..., Operator]
) -> None:
    organization.max_count = 5
    organization.save()
    operation = plan()
    everybody = list(operation.items.values_list("subject", flat=True))
    by = {"operator": author, "actor": Actor.operator(author)}

    services.hold_rows(operation=operation, account_ids=everybody[:1], reason="Mine", **by)
    with pytest.raises(InvalidInput):
        services.hold_rows(operation=operation, account_ids=everybody, reason="All", **by)
    viewer = operators(organization, "viewer@aum.example", "viewer")
    with pytest.raises(services.MayNotApprove):
        services.hold_rows(
            operation=operation, account_ids=everybody[1:2], reason="No", operator=viewer, actor=Actor.operator(viewer)
        )


@pytest.mark.parametrize("when", ["held", "approved"])
def test_row_changed_behind_the_plan_blocks_it(
    sandbox: Sandbox, organization: Organization, plan: Plan, execute: Run, approver: Operator, when: str
) -> None:
    organization.max_count = 5
    organization.save()
    operation = plan()
    by = {"plan_hash": operation.plan_hash, "operator": approver, "actor": Actor.operator(approver)}
    if when == "approved":
        services.approve_operation(operation=operation, **by)
    item = operation.items.order_by("pk").first()
    assert item is not None
    OperationItem.objects.filter(pk=item.pk).update(parameters={**item.parameters, "directory": "elsewhere"})

    if when == "held":
        with pytest.raises(services.PlanChanged):
            services.approve_operation(operation=operation, **by)
    execute(operation)

    assert operation.status == Operation.Status.HELD
    assert when == "held" or held_codes(operation) == ["plan_changed"]
    assert not [entry for entry in sandbox.control.get("ledger")["entries"] if entry["effect"] == "changed"]


def test_changed_protection_voids_a_held_plan(organization: Organization, plan: Plan, approver: Operator) -> None:
    organization.max_count = 5
    organization.save()
    operation = plan()
    group = Group.objects.of(organization).filter(protection=None).order_by("pk")[0]
    ProtectedGroup.objects.create(organization=organization, group=group, added_at=timezone.now(), added_by="test")

    with pytest.raises(services.PlanChanged, match="protected groups"):
        services.approve_operation(
            operation=operation, plan_hash=operation.plan_hash, operator=approver, actor=Actor.operator(approver)
        )


def test_plan_says_seats_and_the_time_of_the_last_runs(
    organization: Organization, plan: Plan, execute: Run, author: Operator, client: Client
) -> None:
    first = plan(mode="safe")
    assert first.seats
    assert all(0 < count <= first.people_count for count in first.seats.values())
    assert selectors.expected_seconds(first) is None
    run = execute(plan())
    Operation.objects.filter(pk=run.pk).update(finished_at=run.started_at + timedelta(seconds=10))
    assert selectors.expected_seconds(first) == int(first.planned_count / (run.planned_count / 10)) + 1
    client.force_login(author)
    page = client.get(first.get_absolute_url()).content.decode()
    assert "freed" in page
    assert "expected, at the rate of the last runs" in page
