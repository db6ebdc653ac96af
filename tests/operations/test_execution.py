"""What stops, skips and resolves single items while a run goes on, against the sandbox over HTTP."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone
from pytest_django import Settings

from apps.audit.models import AuditEvent
from apps.operations import services
from apps.operations.models import Operation, OperationItem
from apps.operations.selection import AccountsSelection, IdleSelection
from apps.operations.services import claims, execution, undo
from apps.operators.models import Operator
from apps.organizations.models import Alert, Credential, Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import client_for, release_kill_switch, turn_kill_switch_on
from apps.sandbox.server import Sandbox
from apps.users.models import Account, Group, SyncRun
from apps.users.services import protect_group, set_exemption
from tests.operations.test_journey import effective_writes

Outcome = OperationItem.Outcome
Plan = Callable[..., Operation]
Run = Callable[[Operation], Operation]
SYSTEM = Actor.system()


def first_subject(operation: Operation) -> str:
    item = operation.items.filter(reason__code="idle").order_by("id").first()
    assert item is not None
    return item.subject


def outcomes_of(operation: Operation, subject: str) -> set[str]:
    return set(operation.items.filter(subject=subject).values_list("outcome", flat=True))


def test_who_became_exempt_is_skipped(sandbox: Sandbox, organization: Organization, plan: Plan, execute: Run) -> None:
    operation = plan()
    subject = first_subject(operation)
    account = Account.objects.get(organization=organization, account_id=subject)
    set_exemption(organization=organization, account=account, reason="parental leave", until=None, actor=SYSTEM)

    execute(operation)

    assert outcomes_of(operation, subject) == {Outcome.SKIPPED_EXEMPT}
    assert subject not in {entry["account"] for entry in effective_writes(sandbox)}


def test_who_joined_a_protected_group_in_atlassian_is_skipped(
    sandbox: Sandbox, organization: Organization, plan: Plan, execute: Run
) -> None:
    operation = plan()
    subject = first_subject(operation)
    directories = sandbox.control.get(f"state/account/{subject}")["directories"]
    group = Group.objects.filter(
        organization=organization, is_synced=False, directory__directory_id__in=list(directories), granted_products=0
    ).exclude(pk__in=Account.objects.get(account_id=subject).group_ids)[0]
    protect_group(group=group, actor=SYSTEM)
    sandbox.control.post("mutate", {"account": subject, "add_group": group.group_id})

    execute(operation)

    assert outcomes_of(operation, subject) == {Outcome.SKIPPED_PROTECTED}
    assert Account.objects.get(account_id=subject).group_ids.count(group.pk) == 1


def test_kill_switch_stops_before_the_next_call_and_release_goes_on(
    sandbox: Sandbox, organization: Organization, plan: Plan, execute: Run
) -> None:
    operation = plan()
    turn_kill_switch_on(organization=organization, reason="something looks wrong", actor=SYSTEM)

    execute(operation)
    assert operation.status == Operation.Status.WAITING
    assert effective_writes(sandbox) == []

    release_kill_switch(organization=organization, reason="it was the weather", actor=SYSTEM)
    execute(operation)
    assert operation.status == Operation.Status.SUCCEEDED


def test_nobody_is_written_on_a_reading_that_is_too_old(
    sandbox: Sandbox, plan: Plan, execute: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = plan()
    with monkeypatch.context() as patched:
        patched.setattr(execution, "RECHECK_SECONDS", -1.0)
        services.execute_operation(operation.pk, budget_seconds=0.3)
    assert effective_writes(sandbox) == []
    assert not operation.items.filter(status="pending", written_at__isnull=False).exists()

    execute(operation)
    assert operation.status == Operation.Status.SUCCEEDED


def test_paused_run_writes_nothing_and_cancel_leaves_the_rest_undone(
    sandbox: Sandbox, plan: Plan, execute: Run
) -> None:
    operation = plan()
    services.pause_operation(operation=operation, actor=SYSTEM)

    execute(operation)
    assert effective_writes(sandbox) == []
    services.cancel_operation(operation=operation, actor=SYSTEM)

    operation.refresh_from_db()
    assert operation.status == Operation.Status.CANCELLED
    assert set(operation.items.values_list("outcome", flat=True)) == {Outcome.CANCELLED}


def test_daily_limit_that_trips_in_a_run_holds_the_rest_until_approved(
    sandbox: Sandbox,
    organization: Organization,
    plan: Plan,
    execute: Run,
    approver: Operator,
    author: Operator,
) -> None:
    operation = plan()
    # The limit is lowered after the plan passed its gate: the claim counts again.
    Organization.objects.filter(pk=organization.pk).update(max_per_day=10)

    execute(operation)

    assert operation.status == Operation.Status.HELD
    assert operation.held_reasons[0]["code"] == "per_day"
    assert len({entry["account"] for entry in effective_writes(sandbox)}) <= 10
    with pytest.raises(services.PlanChanged):
        services.approve_operation(
            operation=operation, plan_hash=operation.plan_hash, operator=approver, actor=Actor.operator(approver)
        )
    rest, _people = services.approval_hash(operation)
    services.approve_operation(operation=operation, plan_hash=rest, operator=approver, actor=Actor.operator(approver))
    execute(operation)
    assert operation.status == Operation.Status.SUCCEEDED


def test_data_that_lost_its_trust_holds_the_rest(
    sandbox: Sandbox, organization: Organization, plan: Plan, execute: Run, approver: Operator
) -> None:
    operation = plan()
    SyncRun.objects.filter(organization=organization).update(is_trusted=False, distrust_reasons=["Half is missing."])

    execute(operation)

    assert operation.status == Operation.Status.HELD
    assert operation.held_reasons[0]["code"] == "data_trust"
    assert effective_writes(sandbox) == []
    with pytest.raises(services.NotTrusted):
        services.approve_operation(
            operation=operation,
            plan_hash=services.approval_hash(operation)[0],
            operator=approver,
            actor=Actor.operator(approver),
        )


def test_expired_key_makes_the_run_wait_and_a_new_one_lets_it_finish(
    sandbox: Sandbox, organization: Organization, plan: Plan, execute: Run
) -> None:
    operation = plan()
    sandbox.control.post("faults", {"kind": "error", "status": 401, "body": "json", "path": "/users/search"})

    execute(operation)

    assert operation.status == Operation.Status.WAITING
    assert "credentials" in operation.status_detail
    assert not operation.items.exclude(status="pending").exists()
    sandbox.control.post("faults", {"clear": True})
    Credential.objects.filter(organization=organization).update(is_valid=True)
    execute(operation)
    assert operation.status == Operation.Status.SUCCEEDED


def test_refused_calls_fail_with_the_reason_and_retry_runs_only_them(
    sandbox: Sandbox, plan: Plan, execute: Run, author: Operator
) -> None:
    sandbox.control.post(
        "faults", {"kind": "error", "status": 400, "body": "json", "path": "/suspend", "method": "POST", "count": 3}
    )
    operation = execute(plan())
    failed = set(operation.items.filter(outcome=Outcome.FAILED).values_list("subject", flat=True))
    assert operation.status == Operation.Status.PARTIAL_FAILURE
    assert failed
    assert operation.items.filter(outcome=Outcome.FAILED).exclude(detail="").count() == 3
    alert = Alert.objects.get(organization=operation.organization, kind="run_failed")
    assert f"Run #{operation.number}" in alert.title
    assert "3 failed" in alert.title
    assert alert.link == operation.get_absolute_url()

    again = services.retry_failed(operation=operation, actor=Actor.operator(author), operator=author)
    services.run_planning(again.pk)
    execute(again)

    assert set(again.items.values_list("subject", flat=True)) == failed
    assert again.status == Operation.Status.SUCCEEDED
    assert Alert.objects.filter(kind="run_failed").count() == 1


def test_undo_shows_what_somebody_else_changed_and_leaves_it(
    sandbox: Sandbox, plan: Plan, execute: Run, author: Operator
) -> None:
    operation = execute(plan())
    subject = first_subject(operation)
    sandbox.control.post("mutate", {"account": subject, "status": "deactivated"})
    other = operation.items.exclude(subject=subject).order_by("-id")[0].subject
    sandbox.control.post("mutate", {"account": other, "status": "active"})
    # As a sync tells it that met this person active, and suspended again by somebody since.
    third = operation.items.exclude(subject__in=[subject, other]).order_by("-id")[0].subject
    Account.objects.filter(account_id=third).update(status_changed_at=timezone.now() + timedelta(minutes=2))

    undo = services.undo_operation(operation=operation, actor=Actor.operator(author), operator=author)
    services.run_planning(undo.pk)
    execute(undo)

    assert outcomes_of(undo, other) <= {Outcome.ALREADY_SO, Outcome.SKIPPED_CONFLICT}
    assert outcomes_of(undo, third) == {Outcome.SKIPPED_CONFLICT}
    assert set(sandbox.control.get(f"state/account/{third}")["directories"].values()) == {"suspended"}
    assert undo.items.filter(outcome=Outcome.DONE).count() > 10


def test_worker_that_outlived_its_lease_records_nothing(plan: Plan) -> None:
    operation = plan()
    first = claims.claim_chunk(operation.pk, 5)
    OperationItem.objects.filter(pk__in=[item.pk for item in first.items]).update(
        lease_until=timezone.now() - timedelta(seconds=1)
    )
    claims.recover_expired(operation.pk)
    second = claims.claim_chunk(operation.pk, 5)
    assert {item.pk for item in second.items} == {item.pk for item in first.items}

    assert not claims.may_write(first.items[0], first.token)
    results = [(item, execution.Result(Outcome.DONE)) for item in first.items]
    assert execution.finish_items(operation, first.token, results) == []
    assert set(operation.items.filter(pk__in=[i.pk for i in first.items]).values_list("outcome", flat=True)) == {""}


def test_written_item_of_a_dead_worker_is_read_before_anything_else(
    sandbox: Sandbox, plan: Plan, execute: Run, settings: Any
) -> None:
    operation = plan()
    claim = claims.claim_chunk(operation.pk, 1)
    item = claim.items[0]
    assert claims.may_write(item, claim.token)
    sandbox.control.post("mutate", {"account": item.subject, "status": "suspended"})
    OperationItem.objects.filter(pk=item.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    Operation.objects.filter(pk=operation.pk).update(driven_at=None)
    time.sleep(settings.AUM_READ_BACK_DELAY_SECONDS)

    execute(operation)

    assert operation.items.get(pk=item.pk).outcome == Outcome.DONE
    writes = [entry for entry in effective_writes(sandbox) if entry["account"] == item.subject]
    assert len(writes) <= 1


def test_group_that_grants_something_else_is_not_left(organization: Organization, plan: Plan) -> None:
    preview = plan(
        "remove_product_access",
        products=("jira",),
        selection=IdleSelection(inactive_days=30, per_product=True),
        mode="safe",
    )

    shared = preview.left_out_rows.filter(reason="shared_group")
    synced = preview.left_out_rows.filter(reason="handed_off")
    assert shared.exists() or synced.exists(), preview.left_out
    assert not shared.filter(detail="").exists()


def test_deactivation_leaves_out_who_is_not_managed(organization: Organization, plan: Plan) -> None:
    people = Account.objects.filter(organization=organization, claim_status=2, is_org_admin=False, kind=1)[:3]

    preview = plan("deactivate", AccountsSelection(tuple(a.account_id for a in people)), mode="safe")

    assert preview.people_count == 0
    assert set(preview.left_out) <= {"not_managed", "protected", "exempt"}
    assert preview.left_out["not_managed"] >= 1


def test_new_approver_cannot_approve(
    organization: Organization, plan: Plan, operators: Callable[..., Operator]
) -> None:
    organization.max_count = 5
    organization.save()
    operation = plan()
    newcomer = operators(organization, "new@aum.example", "approver")
    newcomer.grants.update(granted_at=timezone.now())

    with pytest.raises(services.MayNotApprove, match="24 hours"):
        services.approve_operation(
            operation=operation, plan_hash=operation.plan_hash, operator=newcomer, actor=Actor.operator(newcomer)
        )


def test_one_operator_types_the_count_and_the_password(
    organization: Organization, plan: Plan, operators: Callable[..., Operator]
) -> None:
    organization.max_count = 5
    organization.is_one_operator = True
    organization.save()
    operation = plan()
    owner = operators(organization, "owner@aum.example", "owner")
    wanted = {"operation": operation, "plan_hash": operation.plan_hash, "operator": owner}

    with pytest.raises(services.MayNotApprove, match="token"):
        services.approve_operation(
            **wanted, actor=Actor("token", "1", "script"), confirm_count=operation.people_count, password="x"
        )
    for count, password in ((operation.people_count - 1, "correct horse battery"), (operation.people_count, "wrong")):
        with pytest.raises(Exception, match="marked fields"):
            services.approve_operation(**wanted, actor=Actor.operator(owner), confirm_count=count, password=password)
    services.approve_operation(
        **wanted, actor=Actor.operator(owner), confirm_count=operation.people_count, password="correct horse battery"
    )
    operation.refresh_from_db()
    assert operation.status == Operation.Status.QUEUED
    assert operation.approvals.get().is_one_operator


def test_token_plan_above_25_people_is_held(plan: Plan) -> None:
    operation = plan(is_by_token=True)

    assert operation.people_count > 25
    assert [reason["code"] for reason in operation.held_reasons] == ["token"]


def test_second_planning_and_second_execution_change_nothing(sandbox: Sandbox, plan: Plan, execute: Run) -> None:
    operation = plan()
    digest = operation.plan_hash
    services.run_planning(operation.pk)
    execute(operation)
    writes = len(effective_writes(sandbox))
    services.run_planning(operation.pk)
    execute(operation)

    assert operation.plan_hash == digest
    assert len(effective_writes(sandbox)) == writes
    assert Counter(operation.items.values_list("status", flat=True)) == {"finished": operation.planned_count}


def test_a_worker_whose_clock_is_ahead_takes_nothing_from_one_that_lives(plan: Plan) -> None:
    operation = plan()
    claim = claims.claim_chunk(operation.pk, 5)
    assert claims.may_write(claim.items[0], claim.token)

    with time_machine.travel(timezone.now() + timedelta(minutes=15)):
        claims.recover_expired(operation.pk)
        assert not execution._become_driver(operation.pk)
        assert not claims.claim_doubts(operation.pk, 50).items

    held = operation.items.filter(lease_token=claim.token)
    assert list(held.values_list("status", flat=True).distinct()) == ["claimed"]
    assert held.count() == 5


def _stopped_halfway(sandbox: Sandbox, plan: Plan, execute: Run) -> tuple[Operation, OperationItem]:
    """A run whose key stopped working between two paths of one person's product; it waits."""
    everybody = AccountsSelection(tuple(Account.objects.filter(kind=1).values_list("account_id", flat=True)))
    preview = plan("remove_product_access", everybody, products=("jira",), mode="safe")
    item = max(preview.items.all(), key=lambda one: len(one.parameters["paths"]))
    paths = item.parameters["paths"]
    assert len(paths) > 1
    operation = plan("remove_product_access", AccountsSelection((item.subject,)), products=("jira",))
    last = paths[-1]
    where = f"/groups/{last['group']}/memberships" if last["kind"] == "group" else "/roles/revoke"
    sandbox.control.post("faults", {"kind": "error", "status": 401, "body": "json", "path": where})
    execute(operation)
    assert operation.status == Operation.Status.WAITING
    assert not operation.items.exclude(outcome="").exists()
    sandbox.control.post("faults", {"clear": True})
    Credential.objects.filter(organization=operation.organization).update(is_valid=True)
    time.sleep(1.1)
    return operation, item


def test_product_access_of_several_paths_goes_on_after_the_key_was_replaced_halfway(
    sandbox: Sandbox, plan: Plan, execute: Run
) -> None:
    operation, item = _stopped_halfway(sandbox, plan, execute)

    execute(operation)

    assert outcomes_of(operation, item.subject) == {Outcome.DONE}
    assert operation.status == Operation.Status.SUCCEEDED


def test_a_run_that_is_stopped_halfway_through_a_person_says_so_and_can_be_undone(
    sandbox: Sandbox, plan: Plan, execute: Run, settings: Settings
) -> None:
    settings.AUM_READ_BACK_DELAY_SECONDS = 3600
    operation, item = _stopped_halfway(sandbox, plan, execute)
    in_part = operation.items.get(subject=item.subject, status="in_doubt")

    services.cancel_operation(operation=operation, actor=Actor.system())
    settings.AUM_READ_BACK_DELAY_SECONDS = 0
    operation.items.update(next_read_at=timezone.now())
    execute(operation)

    in_part.refresh_from_db()
    assert in_part.outcome == Outcome.UNRESOLVED
    assert "half done" in in_part.detail
    assert in_part in undo.changed_items([operation])
    assert operation.status == Operation.Status.CANCELLED


def test_what_is_half_done_and_waits_for_its_next_try_is_not_said_to_be_cancelled(
    sandbox: Sandbox, plan: Plan, execute: Run
) -> None:
    operation, item = _stopped_halfway(sandbox, plan, execute)
    with client_for(operation.organization) as client, ThreadPoolExecutor(2) as pool:
        execution.resolve_doubts(operation, client, pool)
    waiting = operation.items.get(subject=item.subject)
    assert (waiting.status, waiting.is_half_done) == ("pending", True)

    services.cancel_operation(operation=operation, actor=Actor.system())

    waiting.refresh_from_db()
    assert waiting.outcome == Outcome.UNRESOLVED
    assert "half done" in waiting.detail
    assert waiting in undo.changed_items([operation])


def test_what_a_worker_gives_back_after_the_stop_is_ended_though_another_run_is_open(plan: Plan, execute: Run) -> None:
    plan("deactivate")
    stopped = plan()
    claim = claims.claim_chunk(stopped.pk, 3)
    services.cancel_operation(operation=stopped, actor=SYSTEM)
    claims.release(claim.items, claim.token)
    Operation.objects.filter(pk=stopped.pk).update(driven_at=None)  # its worker died here

    assert stopped.pk in execution.forgotten_runs(timezone.now())
    execute(stopped)

    assert stopped.pk not in execution.forgotten_runs(timezone.now())
    given_back = stopped.items.filter(pk__in=[item.pk for item in claim.items])
    assert set(given_back.values_list("status", "outcome")) == {("finished", Outcome.CANCELLED)}
    assert sum(stopped.outcomes.values()) == stopped.items.count()


def test_the_end_of_a_run_is_one_row_of_the_audit_log_with_its_figures(plan: Plan, execute: Run) -> None:
    operation = plan()

    execute(operation)

    row = AuditEvent.objects.get(
        operation_id=operation.pk, action__startswith="operation.", outcome="success", after__has_key="done"
    )
    assert row.after["people"] == operation.people_count
    assert row.after["done"] == operation.items.filter(outcome=Outcome.DONE).count() > 0


def test_who_is_exempted_while_half_done_is_not_said_to_be_untouched(
    sandbox: Sandbox, plan: Plan, execute: Run
) -> None:
    operation, item = _stopped_halfway(sandbox, plan, execute)
    account = Account.objects.get(account_id=item.subject)
    set_exemption(organization=operation.organization, account=account, reason="leave", until=None, actor=SYSTEM)

    execute(operation)

    found = operation.items.get(subject=item.subject)
    assert found.outcome == Outcome.UNRESOLVED
    assert found in undo.changed_items([operation])


def test_a_run_whose_atlassian_is_out_of_reach_gives_its_worker_to_others(
    sandbox: Sandbox, plan: Plan, execute: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "TROUBLED_CHUNKS", 1)
    operation = plan()
    sandbox.control.post("faults", {"kind": "reset", "path": "users/search"})

    execute(operation)

    assert operation.status == Operation.Status.WAITING
    assert operation.waiting_until is not None
    assert operation.driven_at is None
    assert not operation.items.exclude(status="pending").exists()
