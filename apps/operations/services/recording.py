"""Audit rows about operations as a whole; those about single accounts are written by `outcomes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.audit.services import record
from apps.operations.models import Operation
from apps.organizations.recorder import Actor


def record_operation(
    operation: Operation,
    actor: Actor,
    action: str,
    *,
    outcome: str = "success",
    reason: str = "",
    after: Mapping[str, Any] | None = None,
) -> None:
    """One row about `operation`, in the caller's transaction, with everything that ties it to its rule and items."""
    record(
        organization=operation.organization,
        actor=actor,
        action=f"operation.{action}",
        target_kind="operation",
        target_ref=str(operation.number),
        target_name=operation.name,
        outcome=outcome,
        reason=reason,
        correlation_id=operation.uuid,
        operation_id=operation.pk,
        operation_number=operation.number,
        rule_id=operation.rule_id,
        rule_name=operation.name if operation.rule_id else "",
        rule_version=operation.rule_version,
        after=after,
    )
