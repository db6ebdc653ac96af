"""Recording outcomes: item, audit row and mirror in the caller's transaction, fenced by the lease."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from apps.audit.services import EventRow, record_many
from apps.operations.actions import REGISTRY
from apps.operations.models import Operation, OperationItem
from apps.operations.selectors import FAILED
from apps.operations.services.finishing import half_done
from apps.organizations.recorder import Actor
from apps.users.models import Account
from apps.users.services import snooze, touch_idle_floor
from aum.common.clock import database_now

Outcome = OperationItem.Outcome
# Outcomes that hold whatever an earlier try did.
_SAYS_IT_ALL = frozenset(
    {Outcome.DONE, Outcome.ALREADY_SO, Outcome.NO_EFFECT_SEAT_KEPT, Outcome.UNRESOLVED, Outcome.SKIPPED_GONE}
)
_GIVING_BACK = frozenset({"restore", "activate", "grant_product_access", "cancel_delete"})


@dataclass
class Result:
    """An outcome with its sentence, the state read back, and Atlassian's and our call ids."""

    outcome: str
    detail: str = ""
    after: dict[str, Any] | None = None
    ids: dict[str, str] = field(default_factory=dict)


def finish_items(
    operation: Operation, token: uuid.UUID, results: Sequence[tuple[OperationItem, Result]]
) -> list[OperationItem]:
    """Finish the items that are still leased under `token`; the others belong to another worker by now."""
    if not results:
        return []
    results = [(item, _of_half_done(item, result)) for item, result in results]
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE operations_operationitem i
               SET status = 'finished', outcome = v.outcome, detail = v.detail, after = v.after,
                   atlassian_request_id = CASE WHEN v.request = '' THEN i.atlassian_request_id ELSE v.request END,
                   call_id = CASE WHEN v.call = '' THEN i.call_id ELSE v.call END,
                   finished_at = %s, lease_token = NULL, lease_until = NULL, next_read_at = NULL
               FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::jsonb[], %s::text[], %s::text[])
                    AS v(id, outcome, detail, after, request, call)
               WHERE i.id = v.id AND i.lease_token = %s AND i.status <> 'finished'
               RETURNING i.id, i.atlassian_request_id, i.call_id, i.before""",
            [
                database_now(),
                [item.pk for item, _ in results],
                [str(result.outcome) for _, result in results],
                [result.detail for _, result in results],
                [None if result.after is None else json.dumps(result.after) for _, result in results],
                [result.ids.get("atlassian_request_id", "") for _, result in results],
                [result.ids.get("call_id", "") for _, result in results],
                token,
            ],
        )
        rows = {row[0]: row[1:] for row in cursor.fetchall()}
    finished = [(item, result) for item, result in results if item.pk in rows]
    record_many(
        organization=operation.organization,
        rows=[_event(operation, item, result, *rows[item.pk]) for item, result in finished],
    )
    _after_giving(operation, finished)
    return [item for item, _ in finished]


def _of_half_done(item: OperationItem, result: Result) -> Result:
    """No outcome says that nothing was changed where an earlier try changed some of it."""
    if not item.is_half_done or result.outcome in _SAYS_IT_ALL:
        return result
    return replace(result, outcome=Outcome.UNRESOLVED, detail=half_done(result.detail))


def finish_unwritten(
    operation: Operation, items: Sequence[OperationItem], outcome: str, detail: str, actor: Actor
) -> None:
    """Finish items to go that nobody works on, with an audit row each."""
    now = database_now()
    changed = set(
        OperationItem.objects.select_for_update()
        .filter(pk__in=[item.pk for item in items], status=OperationItem.Status.PENDING)
        .values_list("pk", flat=True)
    )
    results = {item.pk: _of_half_done(item, Result(outcome, detail)) for item in items if item.pk in changed}
    for result in {(one.outcome, one.detail): one for one in results.values()}.values():
        alike = [pk for pk, one in results.items() if one == result]
        OperationItem.objects.filter(pk__in=alike).update(
            status=OperationItem.Status.FINISHED, outcome=result.outcome, detail=result.detail, finished_at=now
        )
    rows = [_event(operation, item, results[item.pk], "", "", None) for item in items if item.pk in changed]
    record_many(organization=operation.organization, rows=[replace(row, actor=actor) for row in rows])


def _event(
    operation: Operation, item: OperationItem, result: Result, request_id: str, call_id: str, before: Any
) -> EventRow:
    outcome = "success"
    if result.outcome in FAILED:
        outcome = "failed"
    elif result.outcome not in (Outcome.DONE, Outcome.ALREADY_SO):
        outcome = "skipped"
    before = json.loads(before) if isinstance(before, str) else before
    return EventRow(
        actor=author_of(operation),
        action=f"account.{item.action}",
        target_kind="account",
        target_ref=item.subject,
        target_name=item.account.name if item.account else "",
        target_email=(item.account.email or "") if item.account else item.subject,
        outcome=outcome,
        before=_changed(before, result.after),
        after={"outcome": str(result.outcome), "target": item.target, **(_changed(result.after, before) or {})},
        reason=result.detail or operation.reason,
        correlation_id=operation.uuid,
        operation_id=operation.pk,
        operation_number=operation.number,
        rule_id=operation.rule_id,
        rule_name=operation.name if operation.rule_id else "",
        rule_version=operation.rule_version,
        group_name=item.parameters.get("name", ""),
        request_id=request_id,
        call_id=call_id,
    )


def author_of(operation: Operation) -> Actor:
    """Who started the operation, as audit rows name them."""
    if operation.actor is not None:
        return Actor(
            "operator", str(operation.actor_id), operation.actor_text, operation.actor.email, operation.actor_ip
        )
    if operation.initiator == Operation.Initiator.AUTOMATED:
        return Actor("scheduler", "scheduler", operation.actor_text)
    return Actor("system", operation.actor_text, operation.actor_text)


def _changed(state: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    """The fields of `state` that differ from `other`."""
    if state is None or other is None:
        return None
    return {name: value for name, value in state.items() if other.get(name) != value}


def _after_giving(operation: Operation, finished: Sequence[tuple[OperationItem, Result]]) -> None:
    """Access given starts the idle clock anew; given back, it also snoozes the person (DESIGN.md §12)."""
    given: dict[int, Account] = {}
    snoozed: dict[int, Account] = {}
    for item, result in finished:
        if result.outcome != Outcome.DONE or item.account is None or REGISTRY[item.action].takes_access:
            continue
        given[item.account.pk] = item.account
        if item.action in _GIVING_BACK or operation.is_undo:
            snoozed[item.account.pk] = item.account
    for account in given.values():
        touch_idle_floor(account)
    days = operation.organization.snooze_days
    if snoozed and days:
        snooze(
            organization=operation.organization,
            accounts=list(snoozed.values()),
            until=timezone.now() + timedelta(days=days),
            reason=f"Access given back by run #{operation.number}.",
            actor=Actor.system(),
        )
