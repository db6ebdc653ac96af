"""What rules do when operations tell them something; registered in `RulesConfig.ready`."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q

from apps.operations.models import Operation
from apps.organizations.recorder import Actor
from apps.rules.models import CleanupRule
from apps.rules.services import pause_rule


def pause_rule_of_undone_run(undone: Operation) -> None:
    """The rule behind a run that is being undone pauses, so that it does not take everything again at its next time."""
    run = undone
    while run.rule_id is None and run.retry_of is not None:
        run = run.retry_of
    rule = CleanupRule.objects.of(undone.organization).filter(pk=run.rule_id, deleted_at__isnull=True).first()
    if rule is not None:
        reason = f"Run #{undone.number} of this rule was undone."
        pause_rule(rule=rule, reason=reason, actor=Actor.system())


def note_finished_run(operation: Operation) -> None:
    """A live run of a rule that ended is its last run, such as a preview of it that somebody applied.

    After the commit: operations holds its own row locked here, and firing takes the two locks the other way round.
    """
    if operation.rule_id is not None and operation.is_live:
        transaction.on_commit(lambda: _stamp(operation))


def _stamp(operation: Operation) -> None:
    is_newer = Q(last_operation_number__isnull=True) | Q(last_operation_number__lt=operation.number)
    CleanupRule.objects.of(operation.organization).filter(is_newer, pk=operation.rule_id).update(
        last_run_at=operation.created_at, last_operation_number=operation.number
    )
