"""Deciding, just before the write, who is skipped and why: from a reading at most 60 seconds old (P2, P6, P15)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db.models import Max
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from apps.operations import hooks, planning
from apps.operations.actions import OF_GROUPS, REGISTRY, Fresh
from apps.operations.models import Operation, OperationItem
from apps.operations.selection import AccountsSelection, FilterSelection, IdleSelection, Selection, selection_from_json
from apps.operations.services import administration
from apps.operations.services.finishing import undone_runs
from apps.operations.services.invites import refusals
from apps.operations.services.outcomes import Result
from apps.operations.services.reading import Reading, target_of
from apps.users.models import Account, Group, ProductAccess

Outcome = OperationItem.Outcome

_BY_OUT = {
    "protected": (Outcome.SKIPPED_PROTECTED, "Protected: administrator, protected group or non-human account."),
    "exempt": (Outcome.SKIPPED_EXEMPT, "Exempt or snoozed since the plan was made."),
    "unknown_activity": (Outcome.SKIPPED_CONFLICT, "The last login is no longer known."),
    "not_managed": (Outcome.SKIPPED_NOT_MANAGED, "Not managed by this organisation, so AUM cannot do this."),
    "managed": (Outcome.SKIPPED_CONFLICT, "Managed by this organisation by now: delete the account instead."),
    "already_so": (Outcome.ALREADY_SO, ""),
    "notice_missing": (
        Outcome.SKIPPED_NOTICE_MISSING,
        "Not told in time: a notice of this rule was not handed to the mail server the announced number of days ago.",
    ),
}


def decide(operation: Operation, items: Sequence[OperationItem], reading: Reading) -> dict[int, Result]:
    """Item key → outcome for the items that are not to be written. The mirror shows what was just read."""
    if operation.action == "invite":
        return refusals(operation, items, reading)
    results: dict[int, Result] = {}
    left: list[OperationItem] = []
    for item in items:
        action, fresh = REGISTRY[item.action], reading.fresh(item.subject)
        if action.target_gone(target_of(item), fresh):
            results[item.pk] = Result(Outcome.SKIPPED_GONE, "No longer in Atlassian, or no longer in this directory.")
        elif action.is_so(target_of(item), fresh):
            results[item.pk] = Result(Outcome.ALREADY_SO, "", after=fresh.as_before())
        else:
            left.append(item)
    accounts = {account.pk: account for account in Account.objects.filter(pk__in=[i.account_id for i in left])}
    if operation.is_undo:
        results.update(_undo_conflicts(operation, left, accounts, reading))
        results.update(_protected_by_now(operation, [item for item in left if item.pk not in results]))
    else:
        results.update(_selected_no_more(operation, left, accounts))
    left = [item for item in left if item.pk not in results]
    results.update(_administrative_targets(operation, left))
    results.update(_changed_paths(operation, [item for item in left if item.pk not in results]))
    left = [item for item in left if item.pk not in results]
    for gate in hooks.recheck_gates:
        skipped = gate(operation.organization, operation, [i.account_id or 0 for i in left], timezone.now())
        for item in left:
            if item.account_id in skipped:
                results.setdefault(item.pk, Result(*skipped[item.account_id]))
    return results


def _selected_no_more(
    operation: Operation, items: Sequence[OperationItem], accounts: dict[int, Account]
) -> dict[int, Result]:
    """The plan's own selection asked once more of these people, with today's protection and exemptions."""
    now = timezone.now()
    selection = selection_from_json(operation.frozen["selection"])
    if isinstance(selection, FilterSelection):
        # The filter chose the people at planning time; what is asked now is protection, exemption and state.
        selection = AccountsSelection(tuple(item.subject for item in items), selection.protected_group_ids)
    groups: dict[tuple[str, str | None], list[OperationItem]] = defaultdict(list)
    for item in items:
        groups[item.action, item.parameters.get("product")].append(item)
    results: dict[int, Result] = {}
    for (name, product), some in groups.items():
        pks = [item.account_id for item in some if item.account_id]
        rows = planning.candidates(
            operation.organization, selection, name, now, product=product, account_pks=pks, operation=operation
        )
        outs = dict(rows.values_list("pk", "out"))
        for item in some:
            out = outs.get(item.account_id)
            if out is None:
                results[item.pk] = _why_not(selection, accounts.get(item.account_id or 0), item, now)
            elif out != planning.IN:
                label = str(planning.LEFT_OUT_LABELS.get(out, out))
                outcome, detail = _BY_OUT.get(out, (Outcome.SKIPPED_CONFLICT, label))
                results[item.pk] = Result(outcome, detail)
    return results


def _why_not(selection: Selection, account: Account | None, item: OperationItem, now: datetime) -> Result:
    """Why the rule's conditions no longer meet this person."""
    if account is None or account.vanished_at is not None:
        return Result(Outcome.SKIPPED_GONE, "No longer in Atlassian.")
    planned = parse_datetime(item.reason.get("last_active_at") or "")
    product = item.parameters.get("product")
    newest = getattr(account, f"{product}_last_active_at", None) if product else account.last_active_at
    newest = newest or account.last_active_at
    if isinstance(selection, IdleSelection) and newest is not None and (planned is None or newest > planned):
        return Result(Outcome.SKIPPED_ACTIVE_AGAIN, f"Logged in again: {newest:%d %b %Y, %H:%M} UTC.")
    return Result(Outcome.SKIPPED_CONFLICT, "No longer meets the rule: status, groups or products changed meanwhile.")


# Actions about a person's status; groups and products do not depend on it.
_OF_STATUS = ("suspend", "restore", "deactivate", "activate", "delete", "cancel_delete")


def _own_status_writes(operation: Operation, items: Sequence[OperationItem]) -> dict[int, datetime]:
    """When the undo or the runs that it gives back last changed each person's status themselves."""
    operations = [operation.pk, *(source.pk for source in undone_runs(operation))]
    rows = OperationItem.objects.filter(
        operation__in=operations,
        account_id__in=[item.account_id for item in items if item.account_id],
        action__in=_OF_STATUS,
        outcome=Outcome.DONE,
    )
    last = rows.order_by().values_list("account_id").annotate(last=Max("finished_at"))
    return {account: at for account, at in last if account is not None}


def _undo_conflicts(
    operation: Operation, items: Sequence[OperationItem], accounts: dict[int, Account], reading: Reading
) -> dict[int, Result]:
    """Who was changed by somebody else since: shown with what stands now, not overwritten (P8)."""
    results: dict[int, Result] = {}
    own = _own_status_writes(operation, items)
    for item in items:
        action, fresh = REGISTRY[item.action], reading.fresh(item.subject)
        done_at = parse_datetime(item.reason.get("done_at") or "")
        account = accounts.get(item.account_id or 0)
        if item.action == "cancel_invite":
            used_at = account.last_active_at if account else None
            if used_at and done_at and used_at > done_at:
                said = f"Has used the access since: {used_at:%d %b %Y, %H:%M} UTC."
                results[item.pk] = Result(Outcome.SKIPPED_CONFLICT, said)
            continue
        source = REGISTRY[action.inverse or ""]
        if source.is_so(target_of(item), fresh) is False and item.action != "grant_product_access":
            said = f"Changed by somebody else since: now {_stands(item, fresh)}."
            results[item.pk] = Result(Outcome.SKIPPED_CONFLICT, said)
        elif (
            account is not None
            and done_at is not None
            and account.status_changed_at is not None
            and item.action in _OF_STATUS
            and account.status_changed_at > max(done_at, own.get(account.pk, done_at)) + timedelta(seconds=60)
        ):
            results[item.pk] = Result(
                Outcome.SKIPPED_CONFLICT,
                f"Its status was changed again on {account.status_changed_at:%d %b %Y, %H:%M} UTC: "
                f"now {_state(fresh)}.",
            )
    return results


def _stands(item: OperationItem, fresh: Fresh) -> str:
    """What stands in Atlassian now where an undo found something else."""
    if item.action in OF_GROUPS:
        is_in = (item.parameters.get("directory"), item.parameters.get("group")) in (fresh.groups or ())
        return f"{'' if is_in else 'not '}in {item.parameters.get('name', 'the group')}"
    return _state(fresh)


def _state(fresh: Fresh) -> str:
    return ", ".join(filter(None, [fresh.status or "", *sorted(set(fresh.directories.values()))])) or "not known"


def _protected_by_now(operation: Operation, items: Sequence[OperationItem]) -> dict[int, Result]:
    """Undo takes access too (of a restore, of an add to a group): never from who is protected today (P2)."""
    results: dict[int, Result] = {}
    for name in {item.action for item in items if REGISTRY[item.action].takes_access}:
        taken = [item for item in items if item.action == name]
        people = Account.objects.of(operation.organization).filter(pk__in=[item.account_id or 0 for item in taken])
        protected = planning.protected_from_q(name, operation.organization)
        refused = set(people.filter(protected).values_list("pk", flat=True))
        results |= {item.pk: Result(*_BY_OUT["protected"]) for item in taken if item.account_id in refused}
    return results


def _administrative_targets(operation: Operation, items: Sequence[OperationItem]) -> dict[int, Result]:
    """A group that by now grants administration or is synced is no target any more, undo included (P15).

    What an owner changes of administration by hand is judged once more too.
    """
    changes = [item for item in items if item.action in OF_GROUPS]
    pks = {item.parameters.get("group_pk") for item in changes}
    groups = {group.pk: group for group in Group.objects.of(operation.organization).filter(pk__in=pks)} if pks else {}
    results: dict[int, Result] = {}
    for item in changes:
        group = groups.get(item.parameters.get("group_pk") or 0)
        refusal = planning.group_refusal(group, item.action) if group else ""
        if group and refusal:
            results[item.pk] = Result(Outcome.HANDED_OFF if group.is_synced else Outcome.SKIPPED_PROTECTED, refusal)
    left = [item for item in changes if item.pk not in results]
    for pk, refusal in administration.refused_now(operation, left).items():
        results[pk] = Result(Outcome.SKIPPED_PROTECTED, refusal)
    return results


def _changed_paths(operation: Operation, items: Sequence[OperationItem]) -> dict[int, Result]:
    """Product access whose paths are no longer those of the plan: nothing is done, and the path is named (P4)."""
    removals = [item for item in items if item.action == "remove_product_access"]
    if not removals:
        return {}
    results: dict[int, Result] = {}
    groups = {
        g.pk: g
        for g in Group.objects.of(operation.organization).select_related("directory").exclude(granted_products=0)
    }
    access = {
        (row.account_id, row.resource): row
        for row in ProductAccess.objects.of(operation.organization).filter(
            account_id__in=[item.account_id or 0 for item in removals]
        )
    }
    planned_products: dict[int | None, set[str]] = defaultdict(set)
    for account_id, product in operation.items.filter(
        account_id__in=[item.account_id for item in removals], action="remove_product_access"
    ).values_list("account_id", "parameters__product"):
        planned_products[account_id].add(product)
    for item in removals:
        row = access.get((item.account_id or 0, item.parameters["resource"]))
        if row is None:
            continue
        other = other_paths(item)
        if other:
            results[item.pk] = Result(Outcome.NO_EFFECT_SEAT_KEPT, f"{other} Nothing was changed; plan again.")
            continue
        plan = planning.path_plan(row, groups, [], sorted(planned_products[item.account_id]))
        if plan.refusal == "shared_group":
            results[item.pk] = Result(Outcome.SKIPPED_SHARED_GROUP, plan.detail)
        elif plan.refusal == "handed_off":
            results[item.pk] = Result(Outcome.HANDED_OFF, plan.detail)
        elif plan.refusal == "administrative_group":
            results[item.pk] = Result(Outcome.SKIPPED_PROTECTED, plan.detail)
    return results


def other_paths(item: OperationItem) -> str:
    """Groups outside the plan that give the item's product by now, in a sentence; empty when there are none."""
    row = ProductAccess.objects.filter(account_id=item.account_id or 0, resource=item.parameters["resource"]).first()
    if row is None:
        return ""
    planned = {(path["directory"], path["group"]) for path in item.parameters["paths"] if path["kind"] == "group"}
    names = [
        group.name
        for group in Group.objects.filter(pk__in=row.group_ids).select_related("directory").order_by("name")
        if (group.directory.directory_id, group.group_id) not in planned
    ]
    return f"The licence stays through {', '.join(names)}." if names else ""
