"""Writes of operations, one public function per thing that can happen."""

from apps.operations.services.approvals import (
    MayNotApprove,
    NotHeld,
    NotTrusted,
    Refusal,
    approval_hash,
    approve_operation,
    may_approve,
    reject_operation,
)
from apps.operations.services.control import WrongState, cancel_operation, pause_operation, resume_operation
from apps.operations.services.execution import execute_operation, sweep
from apps.operations.services.gate import limits_can_trip
from apps.operations.services.plans import (
    NotApplicable,
    OperationAlreadyRunning,
    PlanChanged,
    PlanExpired,
    apply_preview,
    plan_operation,
    retry_failed,
    run_planning,
    supersede_open_of_rule,
    undo_operation,
)

__all__ = [
    "MayNotApprove",
    "NotApplicable",
    "NotHeld",
    "NotTrusted",
    "OperationAlreadyRunning",
    "PlanChanged",
    "PlanExpired",
    "Refusal",
    "WrongState",
    "apply_preview",
    "approval_hash",
    "approve_operation",
    "cancel_operation",
    "execute_operation",
    "limits_can_trip",
    "may_approve",
    "pause_operation",
    "plan_operation",
    "reject_operation",
    "resume_operation",
    "retry_failed",
    "run_planning",
    "supersede_open_of_rule",
    "sweep",
    "undo_operation",
]
