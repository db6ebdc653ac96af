"""A plan from selection to undo, over real HTTP against the sandbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from apps.audit.models import AuditEvent
from apps.operations import services
from apps.operations.models import Operation, OperationItem
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox

Plan = Callable[..., Operation]
Run = Callable[[Operation], Operation]


def effective_writes(sandbox: Sandbox) -> list[dict[str, Any]]:
    entries = sandbox.control.get("ledger")["entries"]
    return [entry for entry in entries if entry["effect"] == "changed" and "/_control/" not in entry["path"]]


def test_preview_writes_nothing_and_names_a_reason_for_each(sandbox: Sandbox, plan: Plan) -> None:
    preview = plan(mode="safe")

    assert preview.status == Operation.Status.PREVIEWED
    assert preview.people_count > 10
    assert not preview.items.exclude(reason__code__in=["idle", "never_active"]).exists()
    assert preview.left_out["protected"] > 0
    assert effective_writes(sandbox) == []


def test_live_run_changes_exactly_the_plan_and_undo_gives_it_back(
    sandbox: Sandbox, plan: Plan, execute: Run, author: Operator
) -> None:
    before = sandbox.control.get("state")
    operation = plan()
    assert operation.status == Operation.Status.QUEUED, operation.held_reasons
    planned = set(operation.items.values_list("subject", flat=True))

    execute(operation)

    after = sandbox.control.get("state")
    changed = {account for account in before if before[account] != after[account]}
    assert operation.status == Operation.Status.SUCCEEDED, Counter(operation.items.values_list("outcome", "detail"))
    assert changed == planned
    items = operation.items.filter(outcome__in=["done", "already_so"])
    rows = AuditEvent.objects.filter(operation_id=operation.pk, action="account.suspend", outcome="success")
    assert Counter(rows.values_list("target_ref", flat=True)) == Counter(items.values_list("subject", flat=True))

    undo = services.undo_operation(operation=operation, actor=Actor.operator(author), operator=author)
    services.run_planning(undo.pk)
    execute(undo)

    assert undo.status == Operation.Status.SUCCEEDED, Counter(undo.items.values_list("outcome", "detail"))
    assert sandbox.control.get("state") == before


def test_person_given_back_is_not_planned_again(plan: Plan, execute: Run, author: Operator) -> None:
    operation = execute(plan())
    undo = services.undo_operation(operation=operation, actor=Actor.operator(author), operator=author)
    services.run_planning(undo.pk)
    execute(undo)

    again = plan(mode="safe")

    assert again.people_count == 0


def test_undo_twice_changes_nothing(sandbox: Sandbox, plan: Plan, execute: Run, author: Operator) -> None:
    operation = execute(plan())
    for _ in range(2):
        undo = services.undo_operation(operation=operation, actor=Actor.operator(author), operator=author)
        services.run_planning(undo.pk)
        execute(undo)
        writes = len(effective_writes(sandbox))

    assert undo.status == Operation.Status.NO_EFFECT
    assert len(effective_writes(sandbox)) == writes


def test_plan_over_the_limit_is_held_and_an_approval_frees_exactly_it(
    sandbox: Sandbox, organization: Organization, plan: Plan, execute: Run, author: Operator, approver: Operator
) -> None:
    organization.max_count = 5
    organization.save()
    operation = plan()
    assert operation.status == Operation.Status.HELD
    assert operation.held_reasons[0]["code"] == "count"
    assert effective_writes(sandbox) == []

    with pytest.raises(services.MayNotApprove):
        services.approve_operation(
            operation=operation, plan_hash=operation.plan_hash, operator=author, actor=Actor.operator(author)
        )
    with pytest.raises(services.PlanChanged):
        services.approve_operation(
            operation=operation, plan_hash="0" * 64, operator=approver, actor=Actor.operator(approver)
        )
    services.approve_operation(
        operation=operation, plan_hash=operation.plan_hash, operator=approver, actor=Actor.operator(approver)
    )
    execute(operation)

    assert operation.status == Operation.Status.SUCCEEDED


def test_preview_applied_runs_exactly_what_it_shows(plan: Plan, execute: Run, author: Operator) -> None:
    preview = plan(mode="safe")

    live = services.apply_preview(
        operation=preview, plan_hash=preview.plan_hash, actor=Actor.operator(author), operator=author
    )
    services.run_planning(live.pk)
    live.refresh_from_db()

    assert live.plan_hash == preview.plan_hash
    assert set(live.items.values_list("subject", "action", "target")) == set(
        preview.items.values_list("subject", "action", "target")
    )
    with pytest.raises(services.NotApplicable):
        services.apply_preview(
            operation=preview, plan_hash=preview.plan_hash, actor=Actor.operator(author), operator=author
        )


def test_who_came_back_is_skipped_at_their_turn(sandbox: Sandbox, plan: Plan, execute: Run) -> None:
    operation = plan()
    returned = operation.items.filter(reason__code="idle").order_by("id").values_list("subject", flat=True)[0]
    sandbox.control.post("touch", {"account": returned, "at": "now"})

    execute(operation)

    assert operation.items.filter(subject=returned).values_list("outcome", flat=True).distinct().get() == (
        OperationItem.Outcome.SKIPPED_ACTIVE_AGAIN
    )
    assert returned not in {entry["account"] for entry in effective_writes(sandbox)}


def test_lost_answers_are_resolved_by_reading(sandbox: Sandbox, plan: Plan, execute: Run) -> None:
    sandbox.control.post(
        "faults", {"kind": "lost_answer", "method": "POST", "path": "/suspend", "probability": 0.3, "seed": 5}
    )
    # And some that never arrived: nobody may count as done because the call was sent.
    sandbox.control.post(
        "faults", {"kind": "reset", "method": "POST", "path": "/suspend", "probability": 0.3, "seed": 6, "count": 4}
    )
    operation = execute(plan())

    assert operation.status == Operation.Status.SUCCEEDED, Counter(operation.items.values_list("outcome", "detail"))
    writes = Counter((entry["account"], entry["path"]) for entry in effective_writes(sandbox))
    assert max(writes.values()) == 1
    done = operation.items.filter(outcome=OperationItem.Outcome.DONE).values_list("subject", flat=True)
    assert set(done) == {account for account, _ in writes}


def test_product_access_is_left_by_every_path_and_given_back(
    sandbox: Sandbox, plan: Plan, execute: Run, author: Operator
) -> None:
    from apps.operations.selection import IdleSelection

    before = sandbox.control.get("state")
    operation = plan(
        "remove_product_access", products=("jira",), selection=IdleSelection(inactive_days=60, per_product=True)
    )
    assert operation.people_count > 0, (operation.left_out, operation.status_detail)

    execute(operation)
    assert operation.status in (Operation.Status.SUCCEEDED,), Counter(operation.items.values_list("outcome", "detail"))
    undo = services.undo_operation(operation=operation, actor=Actor.operator(author), operator=author)
    services.run_planning(undo.pk)
    execute(undo)

    assert undo.status == Operation.Status.SUCCEEDED, Counter(undo.items.values_list("outcome", "detail"))
    assert sandbox.control.get("state") == before
