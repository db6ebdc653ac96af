from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apps.operations import hooks
from apps.operations.models import Operation
from apps.operations.services import apply_preview, run_planning
from apps.operations.services.finishing import close
from apps.operators.models import Operator
from apps.rules import listeners
from apps.rules.models import CleanupRule
from apps.rules.services import delete_rule, preview_rule, run_rule
from apps.users.models import Account, SyncRun
from tests.rules.conftest import ACTOR


def test_rules_listen_to_operations() -> None:
    assert listeners.pause_rule_of_undone_run in hooks.on_undo_started
    assert listeners.note_finished_run in hooks.on_finished


def test_undoing_a_run_pauses_its_rule(make_rule: Callable[..., CleanupRule], operator: Operator) -> None:
    rule = make_rule(mode="live")
    run = run_rule(rule=rule, actor=ACTOR, operator=operator)

    for hook in hooks.on_undo_started:
        hook(run)

    rule.refresh_from_db()
    assert (rule.is_paused, rule.paused_reason) == (True, f"Run #{run.number} of this rule was undone.")


def test_undoing_a_retry_pauses_the_rule_of_the_first_run(
    make_rule: Callable[..., CleanupRule], operator: Operator
) -> None:
    rule = make_rule(mode="live")
    run = run_rule(rule=rule, actor=ACTOR, operator=operator)
    retry = Operation.objects.create(
        organization=rule.organization, number=99, kind=run.kind, mode="live", initiator="manual", retry_of=run
    )

    listeners.pause_rule_of_undone_run(retry)

    rule.refresh_from_db()
    assert rule.is_paused


def test_undoing_a_run_of_a_deleted_rule_or_of_none_is_no_error(
    make_rule: Callable[..., CleanupRule], operator: Operator
) -> None:
    rule = make_rule(mode="live")
    run = run_rule(rule=rule, actor=ACTOR, operator=operator)
    delete_rule(rule=rule, actor=ACTOR)

    listeners.pause_rule_of_undone_run(run)
    run.rule_id = None
    listeners.pause_rule_of_undone_run(run)

    assert not CleanupRule.objects.get().is_paused


def test_a_preview_that_was_applied_becomes_the_rules_last_run(
    make_rule: Callable[..., CleanupRule],
    make_account: Callable[..., Account],
    trusted_sync: SyncRun,
    operator: Operator,
    django_capture_on_commit_callbacks: Any,
) -> None:
    make_account("idle")
    rule = make_rule(mode="live")
    preview = preview_rule(rule=rule, actor=ACTOR, operator=operator)
    run_planning(preview.pk)
    preview.refresh_from_db()
    live = apply_preview(operation=preview, plan_hash=preview.plan_hash, actor=ACTOR, operator=operator)

    with django_capture_on_commit_callbacks(execute=True):
        close(live, Operation.Status.SUCCEEDED, "")

    rule.refresh_from_db()
    assert (rule.last_operation_number, rule.last_run_at) == (live.number, live.created_at)


def test_an_older_run_that_ends_late_does_not_replace_the_last_one(
    make_rule: Callable[..., CleanupRule], operator: Operator, django_capture_on_commit_callbacks: Any
) -> None:
    rule = make_rule(mode="live")
    run = run_rule(rule=rule, actor=ACTOR, operator=operator)
    CleanupRule.objects.update(last_operation_number=run.number + 1)

    with django_capture_on_commit_callbacks(execute=True):
        close(run, Operation.Status.SUCCEEDED, "")

    rule.refresh_from_db()
    assert rule.last_operation_number == run.number + 1
