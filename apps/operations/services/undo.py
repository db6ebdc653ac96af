"""Giving back what runs changed: of one run, of one person over several runs, of a whole day (P8).

An undo is a plan like any other: the inverse of the *net* effect, frozen, applied, read back, and compared with the
state that was recorded before the first write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from apps.operations.actions import REGISTRY, action_named
from apps.operations.models import Operation, OperationItem
from apps.operations.services.administration import refuse_unless_by_owner
from apps.operations.services.finishing import undone_runs
from apps.operations.services.plans import NotApplicable, derive, new_operation, record_start, started_by
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import Account, Group
from aum.common.errors import InvalidInput
from aum.common.tasks import enqueue_on_commit

Outcome = OperationItem.Outcome
UNDOABLE = tuple(name for name, action in REGISTRY.items() if action.inverse)
# How far back the runs of a person are looked for, where nothing else is asked.
PERSON_DAYS = 30
# What may have changed something: done, all paths left though another one kept the seat, and what nobody could read.
CHANGED = (
    Q(outcome=Outcome.DONE)
    | Q(written_at__isnull=False, outcome__in=(Outcome.NO_EFFECT_SEAT_KEPT, Outcome.UNRESOLVED))
    | Q(is_half_done=True, outcome=Outcome.UNRESOLVED)
)


def changed_items(operations: QuerySet[Operation] | Sequence[Operation]) -> QuerySet[OperationItem]:
    """Items of live runs that changed something which can be given back."""
    return OperationItem.objects.filter(
        CHANGED, operation__in=operations, operation__mode=Operation.Mode.LIVE, action__in=UNDOABLE
    )


@transaction.atomic
def undo_operation(
    *,
    operation: Operation,
    actor: Actor,
    operator: Operator | None,
    account_ids: Sequence[str] | None = None,
    mode: str = Operation.Mode.LIVE,
    is_by_token: bool = False,
    initiator: str = Operation.Initiator.MANUAL,
) -> Operation:
    """The inverse of what a run did, for all of its people or some. Raises NotApplicable when nothing can be undone.

    An automated undo gives one person back what they asked for; unlike an operator's, it does not pause the rule.
    """
    if not operation.is_live or operation.is_open:
        raise NotApplicable("Only a finished run can be undone.")
    done = changed_items([operation])
    if account_ids is not None:
        done = done.filter(subject__in=list(account_ids))
    if not done.exists():
        raise NotApplicable("This run changed nothing that can be undone.")
    return derive(
        operation,
        {
            "make": "inverse",
            "sources": [operation.pk],
            "account_ids": None if account_ids is None else list(account_ids),
        },
        actor,
        operator,
        is_by_token,
        kind=Operation.Kind.MANUAL_OPERATION,
        initiator=initiator,
        mode=mode,
        name=f"Undo of #{operation.number} {operation.name}"[:200],
        action=_inverse_actions(done),
        undo_of=operation,
        rule_id=None,
        rule_version=None,
        sentence=f"Gives back what run #{operation.number} took." if mode == Operation.Mode.LIVE else "",
    )


def _inverse_actions(done: QuerySet[OperationItem]) -> str:
    """The actions of the undo in its order, which is that of the runs reversed."""
    names = done.order_by("-rank").values_list("action", "rank").distinct()
    return "+".join(dict.fromkeys(action_named(name).inverse or "" for name, _ in names))


def runs_of_person(account: Account, *, since: datetime | None = None) -> QuerySet[Operation]:
    """Finished live runs since `since` (default: 30 days ago) that changed something of this person, newest first."""
    since = since or timezone.now() - timedelta(days=PERSON_DAYS)
    runs = Operation.objects.of(account.organization).filter(mode=Operation.Mode.LIVE, started_at__gte=since)
    changed = OperationItem.objects.filter(CHANGED, account=account, action__in=UNDOABLE)
    return runs.exclude(status__in=Operation.OPEN).filter(pk__in=changed.values("operation")).order_by("-id")


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """The instants between which a day of the screens, which are in UTC, lies."""
    begins = datetime.combine(day, time.min, tzinfo=UTC)
    return begins, begins + timedelta(days=1)


def runs_of_day(organization: Organization, day: date) -> QuerySet[Operation]:
    """Live runs that started on `day` (UTC) and changed something that can be given back, newest first."""
    begins, ends = day_bounds(day)
    runs = Operation.objects.of(organization).filter(
        mode=Operation.Mode.LIVE, started_at__gte=begins, started_at__lt=ends
    )
    return runs.filter(pk__in=changed_items(runs).values("operation")).order_by("-id")


@transaction.atomic
def undo_person(
    *,
    account: Account,
    actor: Actor,
    operator: Operator | None,
    since: datetime | None = None,
    mode: str = Operation.Mode.LIVE,
    is_by_token: bool = False,
) -> Operation:
    """Give one person back what all runs since `since` (default: 30 days ago) took, the net of it in one plan.

    Raises NotApplicable when there is nothing, or when a run with this person is still under way.
    """
    organization = account.organization
    open_run = Operation.objects.of(organization).filter(
        mode=Operation.Mode.LIVE, status__in=(*Operation.WORKING, Operation.Status.PAUSED), items__account=account
    )
    _refuse_open(open_run.first())
    return _undo_runs(
        organization,
        list(runs_of_person(account, since=since)),
        {"account": account.account_id},
        f"Undo for {account}",
        actor,
        operator,
        mode,
        is_by_token,
        account_ids=[account.account_id],
        nothing=f"No run of the last {PERSON_DAYS} days changed anything of this user that can be given back."
        if since is None
        else "No run since then changed anything of this user that can be given back.",
    )


@transaction.atomic
def undo_day(
    *,
    organization: Organization,
    day: date,
    actor: Actor,
    operator: Operator | None,
    mode: str = Operation.Mode.LIVE,
    is_by_token: bool = False,
) -> Operation:
    """Give back what all runs that started on `day` (UTC) took, the net of it in one plan.

    Raises InvalidInput for a day to come, NotApplicable when there is nothing, or a run of that day is under way.
    """
    if day > timezone.now().date():
        raise InvalidInput(fields={"day": ["Choose today or an earlier day."]})
    begins, ends = day_bounds(day)
    open_run = Operation.objects.of(organization).filter(
        mode=Operation.Mode.LIVE,
        status__in=(*Operation.WORKING, Operation.Status.PAUSED),
        started_at__gte=begins,
        started_at__lt=ends,
    )
    _refuse_open(open_run.first())
    return _undo_runs(
        organization,
        list(runs_of_day(organization, day)),
        {"day": day.isoformat()},
        f"Undo of {day:%d %b %Y}",
        actor,
        operator,
        mode,
        is_by_token,
        nothing=f"No run of {day:%d %b %Y} (UTC) changed anything that can be given back.",
    )


def _refuse_open(operation: Operation | None) -> None:
    if operation is not None:
        raise NotApplicable(f"Run #{operation.number} is still under way. Let it finish or stop it, then undo.")


def _undo_runs(
    organization: Organization,
    sources: Sequence[Operation],
    about: Mapping[str, Any],
    name: str,
    actor: Actor,
    operator: Operator | None,
    mode: str,
    is_by_token: bool,
    *,
    nothing: str,
    account_ids: Sequence[str] | None = None,
) -> Operation:
    done = changed_items(sources)
    if account_ids is not None:
        done = done.filter(subject__in=account_ids)
    if not sources or not done.exists():
        raise NotApplicable(nothing)
    action = _inverse_actions(done)
    refuse_unless_by_owner(organization, action.split("+"), actor=actor, operator=operator, is_undo=True)
    numbers = [source.number for source in sources]
    shown = ", ".join(f"#{number}" for number in numbers[:5]) + (f" and {len(numbers) - 5} more" if numbers[5:] else "")
    operation = new_operation(
        organization,
        kind=Operation.Kind.MANUAL_OPERATION,
        mode=mode,
        initiator=Operation.Initiator.MANUAL,
        name=name[:200],
        action=action,
        sentence=f"Gives back what {'run' if len(numbers) == 1 else 'runs'} {shown} took.",
        frozen={"undo": {**about, "numbers": numbers}},
        request={
            "make": "inverse",
            "sources": [source.pk for source in sources],
            "account_ids": None if account_ids is None else list(account_ids),
        },
        **started_by(actor, operator, is_by_token),
    )
    record_start(operation, actor)
    enqueue_on_commit("operations.plan", operation_id=operation.pk)
    return operation


# --- comparing with the state before --------------------------------------------------------------------------------


def compare_with_before(operation: Operation) -> None:
    """Compare each person of a finished undo with the state recorded before the undone runs, and say what differs.

    What differs stands in the detail of the person's last item; the numbers stand in `operation.verification`.
    """
    sources = [source.pk for source in undone_runs(operation)]
    if not sources:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH now AS (
                   SELECT DISTINCT ON (subject) id, subject, after FROM operations_operationitem
                   WHERE operation_id = %s AND outcome IN ('done', 'already_so') AND after IS NOT NULL
                   ORDER BY subject, finished_at DESC, id DESC)
               SELECT now.id, now.after, b.before FROM now CROSS JOIN LATERAL (
                   SELECT s.before FROM operations_operationitem s
                   WHERE s.operation_id = ANY(%s) AND s.subject = now.subject AND s.before IS NOT NULL
                   ORDER BY s.claimed_at, s.id LIMIT 1) b""",
            [operation.pk, sources],
        )
        rows = [(pk, _loaded(after), _loaded(before)) for pk, after, before in cursor.fetchall()]
    names = {
        (directory, group): name
        for directory, group, name in Group.objects.of(operation.organization).values_list(
            "directory__directory_id", "group_id", "name"
        )
    }
    different = {pk: said for pk, after, before in rows if (said := differences(before, after, names))}
    with transaction.atomic():
        for pk, said in different.items():
            OperationItem.objects.filter(pk=pk).update(detail=f"Not as before the run: {said}.")
        Operation.objects.filter(pk=operation.pk).update(
            verification={"equal": len(rows) - len(different), "different": len(different)}
        )


def _loaded(value: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return loaded


def differences(before: Mapping[str, Any], after: Mapping[str, Any], group_names: Mapping[tuple[str, str], str]) -> str:
    """What of two recorded states is not the same, in words; empty when they are equal."""
    said = []
    if before.get("account_status") != after.get("account_status"):
        said.append(f"account {after.get('account_status') or 'not known'}, was {before.get('account_status')}")
    directories = before.get("directories") or {}
    for directory, status in sorted(directories.items()):
        now = (after.get("directories") or {}).get(directory, "no_membership")
        if now != status:
            said.append(f"membership {now}, was {status}")
    for key, what in (("groups", "group"), ("roles", "role")):
        if before.get(key) is None or after.get(key) is None:
            continue
        had, has = ({(one[0], one[1]) for one in state[key]} for state in (before, after))
        for one in sorted(had - has):
            said.append(f"no longer in {what} {group_names.get(one, one[1] if what == 'group' else one[0])}")
        for one in sorted(has - had):
            said.append(f"also in {what} {group_names.get(one, one[1] if what == 'group' else one[0])}")
    return "; ".join(said[:6]) + (f" and {len(said) - 6} more" if said[6:] else "")
