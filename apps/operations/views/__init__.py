"""Pages of plans, runs and approvals. One address per operation: a preview until it runs, a run from then on."""

from apps.operations.views.lists import approvals, of_person
from apps.operations.views.marks import kind, licence_groups, licence_only
from apps.operations.views.pages import export, progress, run
from apps.operations.views.safeguards import approve_safeguard, reject_safeguard, withdraw_safeguard
from apps.operations.views.steering import (
    act,
    apply,
    approve,
    group_selector,
    hold,
    pause,
    reject,
    resume,
    retry,
    stop,
    undo,
    undo_day,
    undo_person,
    undo_preview,
)

__all__ = [
    "act",
    "apply",
    "approvals",
    "approve",
    "approve_safeguard",
    "export",
    "group_selector",
    "hold",
    "kind",
    "licence_groups",
    "licence_only",
    "of_person",
    "pause",
    "progress",
    "reject",
    "reject_safeguard",
    "resume",
    "retry",
    "run",
    "stop",
    "undo",
    "undo_day",
    "undo_person",
    "undo_preview",
    "withdraw_safeguard",
]
