"""Pages of plans, runs and approvals. One address per operation: a preview until it runs, a run from then on."""

from apps.operations.views.lists import approvals, of_person
from apps.operations.views.pages import export, progress, run
from apps.operations.views.steering import (
    act,
    apply,
    approve,
    pause,
    reject,
    resume,
    retry,
    stop,
    undo,
    undo_preview,
)

__all__ = [
    "act",
    "apply",
    "approvals",
    "approve",
    "export",
    "of_person",
    "pause",
    "progress",
    "reject",
    "resume",
    "retry",
    "run",
    "stop",
    "undo",
    "undo_preview",
]
