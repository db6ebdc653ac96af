"""From a selection to a frozen plan: who is in and why, who is left out and why, in sets of SQL.

`candidates` is the one query behind plans, a rule editor's estimate and the recheck before each write.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, models
from django.db.models import Case, Count, Q, QuerySet, Value, When
from django.db.models.fields.json import JSONField, KeyTextTransform
from django.db.models.functions import JSONObject

from apps.operations.actions import REGISTRY, action_named
from apps.operations.models import LeftOut, Operation, OperationItem
from apps.operations.selection import (
    AccountsSelection,
    ActionSpec,
    FilterSelection,
    IdleSelection,
    Selection,
)
from apps.organizations.models import Organization
from apps.users import predicates
from apps.users.models import (
    Account,
    AccountStatus,
    ClaimStatus,
    Group,
    MembershipStatus,
    ProductAccess,
)
from apps.users.products import bits_of
from apps.users.selectors import AccountFilters

logger = logging.getLogger(__name__)

# Outcome of a candidate: "" means that it is in the plan.
IN = ""
LEFT_OUT_LABELS = {
    "protected": "protected",
    "exempt": "exempt",
    "unknown_activity": "last login not known",
    "not_managed": "not managed by this organisation",
    "managed": "managed by this organisation, so deleted instead of removed",
    "already_so": "already so",
    "nothing_to_do": "nothing to do",
    "shared_group": "in a group that also grants something else",
    "handed_off": "managed in the identity provider",
    "path_unknown": "access path not visible",
    "administrative_group": "the group grants administration",
}


@dataclass(frozen=True)
class PlanCounts:
    """What a plan would hold at this moment. `by_reason`: idle or never_active → people."""

    planned: int
    licensed: int
    left_out: dict[str, int] = field(default_factory=dict)
    by_reason: dict[str, int] = field(default_factory=dict)


def licensed_people(organization: Organization) -> QuerySet[Account]:
    """Whom shares are measured against: present, active people who hold a licence."""
    return (
        Account.objects.of(organization)
        .filter(
            predicates.live_q(),
            account_status=AccountStatus.ACTIVE,
            membership_status=MembershipStatus.ACTIVE,
            is_for_deletion=False,
        )
        .exclude(products=0)
    )


def _judged_products(selection: IdleSelection, product: str | None) -> tuple[str, ...]:
    return (product,) if product and selection.per_product else selection.inactive_products


def _idle_candidates(
    organization: Organization, selection: IdleSelection, now: datetime, product: str | None
) -> tuple[QuerySet[Account], tuple[str, ...]]:
    """People whom the rule's conditions meet, those with unknown activity among them: they are left out by name."""
    products = _judged_products(selection, product)
    context = predicates.Context.of(organization, now=now)
    cutoff_at = context.cutoff(selection.inactive_days)
    matches = predicates.inactive_q(products, cutoff_at=cutoff_at, now=now)
    if selection.include_never_active and selection.never_active_days:
        never_at = context.cutoff(selection.never_active_days)
        matches |= predicates.never_active_q(products, cutoff_at=never_at, now=now)
    clock = models.ExpressionWrapper(predicates.idle_since(products, now=now), output_field=models.DateTimeField())
    open_question = predicates.holds_q(products) & predicates.unknown_q(products) & Q(clock__lt=cutoff_at)
    people = (
        Account.objects.of(organization)
        .alias(clock=clock)
        .filter(
            predicates.live_q(),
            account_status=AccountStatus.ACTIVE,
            membership_status=MembershipStatus.ACTIVE,
            is_for_deletion=False,
        )
        .filter(matches | open_question)
    )
    if selection.target_group_ids is not None:
        people = people.filter(group_ids__overlap=list(selection.target_group_ids))
    return people, products


def _chosen(organization: Organization, selection: FilterSelection | AccountsSelection, now: datetime) -> QuerySet[Any]:
    people = Account.objects.of(organization).filter(predicates.live_q())
    if isinstance(selection, AccountsSelection):
        return people.filter(account_id__in=selection.account_ids)
    filters, _errors = AccountFilters.parse(selection.params)
    return people.filter(filters.as_q(predicates.Context.of(organization, now=now)))


def candidates(
    organization: Organization,
    selection: Selection,
    action_name: str,
    now: datetime,
    *,
    product: str | None = None,
    account_pks: Iterable[int] | None = None,
) -> QuerySet[Any]:
    """Accounts that `selection` meets, annotated with `out` (IN, or why left out) and `why` (JSON).

    Protection is today's, joined with what the selection froze. `account_pks` narrows it for the recheck.
    """
    action = action_named(action_name)
    if isinstance(selection, IdleSelection):
        people, products = _idle_candidates(organization, selection, now, product)
        judged: Any = Value(list(products), output_field=JSONField())
        why: Any = JSONObject(
            code=Case(
                When(predicates.dated_q(products), then=Value("idle")),
                default=Value("never_active"),
                output_field=models.CharField(),
            ),
            idle_since=predicates.idle_since(products, now=now),
            last_active_at=predicates.last_active(products),
            added_to_org_at="added_to_org_at",
            products=judged,
        )
    else:
        people, products = _chosen(organization, selection, now), ()
        why = JSONObject(code=Value("selected"), last_active_at="last_active_at", added_to_org_at="added_to_org_at")
    if account_pks is not None:
        people = people.filter(pk__in=list(account_pks))

    reasons: list[When] = []
    if action.takes_access:
        protected = predicates.protected_q(organization, selection.protected_group_ids)
        reasons += [
            When(protected, then=Value("protected")),
            When(predicates.exempt_q(now), then=Value("exempt")),
        ]
        if isinstance(selection, IdleSelection):
            reasons.append(When(predicates.unknown_q(products), then=Value("unknown_activity")))
    if action.needs_managed:
        reasons.append(When(~Q(claim_status=ClaimStatus.MANAGED), then=Value("not_managed")))
    if action.needs_unmanaged:
        reasons.append(When(claim_status=ClaimStatus.MANAGED, then=Value("managed")))
    reasons += _already_so(action_name)
    return people.annotate(
        out=Case(*reasons, default=Value(IN), output_field=models.CharField())
        if reasons
        else Value(IN, output_field=models.CharField()),
        why=why,
    )


def _already_so(action_name: str) -> list[When]:
    """What the mirror already shows as done for account-wide actions; per-directory ones join their rows."""
    states = {
        "deactivate": ~Q(account_status=AccountStatus.ACTIVE),
        "activate": Q(account_status=AccountStatus.ACTIVE, is_for_deletion=False),
        "delete": Q(is_for_deletion=True) | Q(account_status=AccountStatus.CLOSED),
        "cancel_delete": Q(is_for_deletion=False),
    }
    return [When(states[action_name], then=Value("already_so"))] if action_name in states else []


def count_plan(
    organization: Organization, selection: Selection, actions: Sequence[ActionSpec], now: datetime
) -> PlanCounts:
    """What a plan made at `now` would hold, without making it. Product paths are not read: that takes calls."""
    licensed = licensed_people(organization).count()
    left_out: dict[str, int] = defaultdict(int)
    by_reason: dict[str, int] = defaultdict(int)
    planned: set[int] | None = None
    total = 0
    units = list(_units(selection, actions))
    for spec, product in units:
        rows = candidates(organization, selection, spec.name, now, product=product)
        if product and not isinstance(selection, IdleSelection):
            rows = rows.filter(predicates.holds_q((product,)))
        if len(units) > 1:
            planned = (planned or set()) | set(rows.filter(out=IN).values_list("pk", flat=True))
        counted = rows.order_by().annotate(code=KeyTextTransform("code", "why")).values("out", "code")
        for row in counted.annotate(n=Count("pk")):
            if row["out"] == IN:
                by_reason[row["code"]] += row["n"]
                total += row["n"]
            else:
                left_out[row["out"]] += row["n"]
    return PlanCounts(total if planned is None else len(planned), licensed, dict(left_out), dict(by_reason))


def _units(selection: Selection, actions: Sequence[ActionSpec]) -> Iterator[tuple[ActionSpec, str | None]]:
    """(action, product) pairs that are selected by themselves: one a product for product access, else one an action."""
    for spec in actions:
        if spec.name in ("remove_product_access", "grant_product_access"):
            for product in spec.products:
                yield spec, product
        else:
            yield spec, None


_ITEM_COLUMNS = (
    "organization_id, operation_id, account_id, subject, action, target, rank, parameters, reason, status, outcome, "
    "detail, attempts, is_answered, doubt_reads, atlassian_request_id, call_id"
)
_ITEM_DEFAULTS = "'pending', '', '', 0, false, 0, '', ''"

# Per action: what to join to the account, the target's text and the parameters.
_DIRECTORY_JOIN = (
    "JOIN users_directorymembership dm ON dm.account_id = a.id AND dm.status {status} "
    "JOIN organizations_directory d ON d.id = dm.directory_id"
)
_DIRECTORY_TARGET = ("'directory:' || d.directory_id", "jsonb_build_object('directory', d.directory_id)")
_GROUP_TARGET = (
    "'group:' || d.directory_id || '/' || g.group_id",
    "jsonb_build_object('directory', d.directory_id, 'group', g.group_id, 'group_pk', g.id, 'name', g.name)",
)
_GROUP_JOIN = (
    "JOIN users_group g ON g.id = ANY(%(groups)s) AND g.vanished_at IS NULL AND NOT g.is_synced {condition} "
    "JOIN organizations_directory d ON d.id = g.directory_id "
    "JOIN users_directorymembership dm ON dm.account_id = a.id AND dm.directory_id = d.id "
    "AND dm.status <> {no_membership}"
)


def group_refusal(group: Group, action_name: str) -> str:
    """Why a group cannot be the target of an add or removal (P15, hand-off); empty when it can."""
    if group.is_synced:
        return f"{group.name} is managed in the identity provider. Change it there."
    if group.is_administrative:
        return f"{group.name} grants administration. AUM does not change who is in it."
    if action_name == "add_to_group" and not group.are_grants_known:
        return f"What {group.name} grants is not known. Sync first."
    return ""


def _shape(action_name: str) -> tuple[str, str, str]:
    """(JOIN, target, parameters) in SQL of an action that needs no access paths."""
    statuses = {
        "suspend": f"= {MembershipStatus.ACTIVE.value}",
        "restore": f"= {MembershipStatus.SUSPENDED.value}",
        "remove_from_directory": f"<> {MembershipStatus.NO_MEMBERSHIP.value}",
    }
    if action_name in statuses:
        return (_DIRECTORY_JOIN.format(status=statuses[action_name]), *_DIRECTORY_TARGET)
    if action_name in ("add_to_group", "remove_from_group"):
        held = "a.group_ids @> ARRAY[g.id]"
        condition = f"AND {'NOT ' if action_name == 'add_to_group' else ''}{held}"
        condition += " AND NOT g.is_administrative"
        if action_name == "add_to_group":
            condition += " AND g.are_grants_known"
        join = _GROUP_JOIN.format(condition=condition, no_membership=MembershipStatus.NO_MEMBERSHIP.value)
        return (join, *_GROUP_TARGET)
    return ("", "''", "'{}'::jsonb")


def _insert_in_sets(operation: Operation, rows: QuerySet[Any], spec: ActionSpec) -> None:
    """Items and left-out rows of one action by one statement."""
    action = REGISTRY[spec.name]
    sql, parameters = rows.order_by().values_list("pk", "out", "why").query.sql_with_params()
    join, target, item_parameters = _shape(spec.name)
    # The queryset's own parameters are positional; ours are bound as values of the same kind, in order of appearance.
    join = join.replace("%(groups)s", "%s")
    statement = f"""
        WITH candidate(id, out, why) AS MATERIALIZED ({sql}),
        item AS (
            INSERT INTO operations_operationitem ({_ITEM_COLUMNS})
            SELECT %s, %s, a.id, a.account_id, %s, {target}, %s, {item_parameters}, candidate.why::jsonb,
                   {_ITEM_DEFAULTS}
            FROM candidate JOIN users_account a ON a.id = candidate.id {join}
            WHERE candidate.out = ''
            ON CONFLICT (operation_id, subject, action, target) DO NOTHING
            RETURNING account_id
        )
        INSERT INTO operations_leftout AS l (organization_id, operation_id, account_id, reason, detail)
        SELECT %s, %s, candidate.id, CASE WHEN candidate.out <> '' THEN candidate.out ELSE 'nothing_to_do' END, %s
        FROM candidate
        WHERE candidate.out <> '' OR NOT EXISTS (SELECT 1 FROM item WHERE item.account_id = candidate.id)
        ON CONFLICT (operation_id, account_id) DO UPDATE SET reason = EXCLUDED.reason, detail = EXCLUDED.detail
            WHERE l.reason IN ('nothing_to_do', 'already_so')
    """
    own: list[Any] = [operation.organization_id, operation.pk, spec.name, action.rank]
    if "%s" in join:
        own.append(list(spec.group_ids))
    own += [operation.organization_id, operation.pk, f"Left out of: {action.label}." if "+" in operation.action else ""]
    with connection.cursor() as cursor:
        cursor.execute(statement, [*parameters, *own])


def insert_plan(operation: Operation, selection: Selection, actions: Sequence[ActionSpec], now: datetime) -> None:
    """Write the items of every action that needs no calls. Who is left out of an action stands in LeftOut."""
    for spec, product in _units(selection, actions):
        if product is None:
            _insert_in_sets(operation, candidates(operation.organization, selection, spec.name, now), spec)


def copy_items(operation: Operation, source: Operation, *, outcomes: Sequence[str] = ()) -> None:
    """The source's items, all of them or those with one of `outcomes`, as new items to go."""
    condition = "AND s.outcome = ANY(%s)" if outcomes else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO operations_operationitem ({_ITEM_COLUMNS})
                SELECT s.organization_id, %s, s.account_id, s.subject, s.action, s.target, s.rank, s.parameters,
                       s.reason, {_ITEM_DEFAULTS}
                FROM operations_operationitem s WHERE s.operation_id = %s {condition}
                ON CONFLICT (operation_id, subject, action, target) DO NOTHING""",
            [operation.pk, source.pk, *([list(outcomes)] if outcomes else [])],
        )


def insert_inverse(operation: Operation, source: Operation, account_ids: Sequence[str] | None) -> None:
    """The inverse of what `source` did: one item for each that it finished as done and that can be undone."""
    inverse = {name: action.inverse for name, action in REGISTRY.items() if action.inverse}
    last = max(action.rank for action in REGISTRY.values())
    people = "AND s.subject = ANY(%s)" if account_ids is not None else ""
    with connection.cursor() as cursor:
        for name, opposite in inverse.items():
            cursor.execute(
                f"""INSERT INTO operations_operationitem ({_ITEM_COLUMNS})
                    SELECT s.organization_id, %s, s.account_id, s.subject, %s, s.target, %s - s.rank, s.parameters,
                           jsonb_build_object('code', 'undo', 'done_at', s.finished_at, 'number', %s::int,
                                              'item', s.id),
                           {_ITEM_DEFAULTS}
                    FROM operations_operationitem s
                    WHERE s.operation_id = %s AND s.action = %s AND s.outcome = 'done' {people}
                    ON CONFLICT (operation_id, subject, action, target) DO NOTHING""",
                [
                    operation.pk,
                    opposite,
                    last,
                    source.number,
                    source.pk,
                    name,
                    *([list(account_ids)] if account_ids is not None else []),
                ],
            )


@dataclass(frozen=True)
class PathPlan:
    """What removing one product on one site from one person takes; `refusal` names why it cannot be done."""

    paths: tuple[dict[str, str], ...]
    refusal: str = ""
    detail: str = ""


def path_plan(
    access: ProductAccess,
    groups: dict[int, Group],
    direct_roles: Sequence[tuple[str, str]] | None,
    chosen_products: Sequence[str],
) -> PathPlan:
    """Every path to `access` and whether all may be left (all or nothing, DECISIONS.md §8).

    A group is left only if it grants nothing but chosen products, or an Admin marked it licence-only. `direct_roles`:
    (role, resource) of direct assignments on this product, None where they could not be read.
    """
    granting = [groups[pk] for pk in access.group_ids if pk in groups]
    if synced := [group.name for group in granting if group.is_synced]:
        return PathPlan((), "handed_off", f"Given by {', '.join(synced)}, which the identity provider manages.")
    if unread := [group.name for group in granting if not group.are_grants_known]:
        return PathPlan((), "path_unknown", f"What {', '.join(unread)} grants is not known.")
    chosen = bits_of(chosen_products)
    for group in granting:
        others = group.granted_products & ~chosen
        if group.is_administrative:
            return PathPlan((), "administrative_group", f"{group.name} grants administration.")
        if others and not group.is_licence_only:
            return PathPlan((), "shared_group", f"{group.name} grants more than the chosen products.")
    if direct_roles is None:
        return PathPlan((), "path_unknown", "Direct roles could not be read.")
    paths = [
        {"kind": "group", "directory": g.directory.directory_id, "group": g.group_id, "name": g.name} for g in granting
    ]
    paths += [{"kind": "role", "role": role, "resource": resource} for role, resource in direct_roles]
    if not paths:
        return PathPlan((), "path_unknown", "No group and no role that gives this product is visible.")
    return PathPlan(tuple(paths))


def freeze(operation: Operation) -> tuple[str, int, int]:
    """(hash of exactly these items, items, people). The hash covers subject, action, target and parameters."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT encode(sha256(convert_to(coalesce(string_agg(
                          jsonb_build_array(subject, action, target, parameters)::text, E'\\n'
                          ORDER BY subject COLLATE "C", action COLLATE "C", target COLLATE "C"), ''), 'UTF8')), 'hex'),
                      count(*), count(DISTINCT subject)
               FROM operations_operationitem WHERE operation_id = %s""",
            [operation.pk],
        )
        digest, items, people = cursor.fetchone()
    bound = f"{operation.organization_id}:{operation.kind}:{digest}"
    return hashlib.sha256(bound.encode()).hexdigest(), items, people


def rest_hash(operation: Operation) -> tuple[str, int]:
    """(hash, people) of what a tripped run has left: its approval frees exactly that."""
    left = OperationItem.objects.filter(operation=operation, status=OperationItem.Status.PENDING)
    digest = hashlib.sha256(f"{operation.plan_hash}:rest".encode())
    people: set[str] = set()
    for subject, action, target in left.order_by("id").values_list("subject", "action", "target").iterator(5000):
        digest.update(f"\n{subject}\t{action}\t{target}".encode())
        people.add(subject)
    return digest.hexdigest(), len(people)


def left_out_counts(operation: Operation) -> dict[str, int]:
    """How many people were left out, by reason.

    Who is in by one action of several and refused another one stays listed; where the other one merely had nothing to
    do, they do not.
    """
    both = LeftOut.objects.filter(
        operation=operation, account__in=OperationItem.objects.filter(operation=operation).values("account")
    )
    if "+" in operation.action:
        both = both.filter(reason__in=("nothing_to_do", "already_so"))
    both.delete()
    rows = LeftOut.objects.filter(operation=operation).order_by().values("reason").annotate(n=Count("pk"))
    return {row["reason"]: row["n"] for row in rows}
