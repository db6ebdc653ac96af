"""From a selection to a frozen plan: who is in and why, who is left out and why, in sets of SQL.

`candidates` is the one query behind plans, a rule editor's estimate and the recheck before each write.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, models
from django.db.models import Case, Count, F, Q, QuerySet, Value, When
from django.db.models.fields.json import JSONField
from django.db.models.functions import Coalesce, JSONObject
from django.db.models.lookups import LessThan

from apps.operations import hooks
from apps.operations.actions import ADDING, ADMINISTRATIVE, OF_GROUPS, REGISTRY, action_named
from apps.operations.models import LeftOut, Operation, OperationItem
from apps.operations.selection import (
    AccountsSelection,
    ActionSpec,
    FilterSelection,
    IdleSelection,
    InviteSelection,
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
    "already_member": "already in the directory",
    "nothing_to_do": "nothing to do",
    "shared_group": "in a group that also grants something else",
    "handed_off": "managed in the identity provider",
    "came_back": "access came back by the identity provider",
    "path_unknown": "access path not visible",
    "administrative_group": "the group grants administration",
    "notice_missing": "notice not delivered",
    "gentler_rule": "a gentler rule says otherwise",
    "changed_later": "changed again by a later run, or given back already",
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


_ENABLED = Q(account_status=AccountStatus.ACTIVE, is_for_deletion=False)
_DEACTIVATED = Q(account_status=AccountStatus.INACTIVE, is_for_deletion=False)
_SUSPENDED = _ENABLED & Q(membership_status=MembershipStatus.SUSPENDED)
# In which state people have to be for a rule's action to be about them.
STATES: Mapping[str, Q] = {
    "active": _ENABLED & Q(membership_status=MembershipStatus.ACTIVE),
    # The next rung after a suspension is the deactivation.
    "enabled": _ENABLED & Q(membership_status__in=[MembershipStatus.ACTIVE, MembershipStatus.SUSPENDED]),
    "suspended": _SUSPENDED,
    "deactivated": _DEACTIVATED,
    "out": _DEACTIVATED | _SUSPENDED,
    # The rule's own conditions name the state.
    "any": Q(is_for_deletion=False) & ~Q(account_status=AccountStatus.CLOSED),
}


@dataclass(frozen=True)
class _Asked:
    """A rule's questions: `matches` holds for whom it is about, `open` where last activity would have to be known."""

    matches: Q
    open: Q | None
    products: tuple[str, ...]
    code: str


def _asked(organization: Organization, selection: IdleSelection, now: datetime, product: str | None) -> _Asked:
    products = _judged_products(selection, product)
    context = predicates.Context.of(organization, now=now)
    parts: list[tuple[Q, Q | None]] = []
    code = "status" if selection.status_days else "conditions"
    if selection.inactive_days or selection.include_never_active:
        code = "idle"
        idle, first = Q(pk=0), selection.inactive_days or selection.never_active_days or 0
        if selection.inactive_days:
            cutoff_at = context.cutoff(selection.inactive_days)
            idle |= predicates.inactive_q(products, cutoff_at=cutoff_at, now=now)
        if selection.include_never_active and selection.never_active_days:
            never_at = context.cutoff(selection.never_active_days)
            idle |= predicates.never_active_q(products, cutoff_at=never_at, now=now)
        clock = LessThan(predicates.idle_since(products, now=now), Value(context.cutoff(first)))
        parts.append((idle, predicates.holds_q(products) & predicates.unknown_q(products) & Q(clock)))
    elif product:
        parts.append((predicates.holds_q((product,)), None))
    if selection.status_days:
        parts.append((predicates.StatusForDays(selection.status_days).q(context), None))
    for data in selection.conditions:
        condition = predicates.condition_of(data)
        parts.append((condition.q(context), condition.open_q(context)))
    matches, maybe, unknown = Q(), Q(), Q(pk=0)
    for held, open_q in parts:
        matches &= held
        maybe &= held if open_q is None else held | open_q
        unknown |= Q(pk=0) if open_q is None else open_q
    is_ever_open = any(open_q is not None for _held, open_q in parts)
    return _Asked(matches, maybe & unknown if is_ever_open else None, products, code)


def selection_q(organization: Organization, selection: IdleSelection, now: datetime, product: str | None = None) -> Q:
    """Whom a rule's last login, conditions and target groups mean, in whatever state they are."""
    matches = _asked(organization, selection, now, product).matches
    if selection.target_group_ids is not None:
        matches &= Q(group_ids__overlap=list(selection.target_group_ids))
    return matches


def _idle_candidates(
    organization: Organization, selection: IdleSelection, asked: _Asked, *, with_open: bool
) -> QuerySet[Account]:
    """People whom the rule's conditions meet; `with_open`: and those with unknown activity, to be left out by name."""
    matches = asked.matches | asked.open if with_open and asked.open is not None else asked.matches
    people: QuerySet[Account] = (
        Account.objects.of(organization).filter(predicates.live_q(), STATES[selection.states]).filter(matches)
    )
    if selection.target_group_ids is not None:
        people = people.filter(group_ids__overlap=list(selection.target_group_ids))
    return people


def _rule_code(asked: _Asked) -> Any:
    """The code of why somebody is in a rule's plan."""
    if asked.code != "idle":
        return Value(asked.code, output_field=models.CharField())
    return Case(
        When(predicates.dated_q(asked.products), then=Value("idle")),
        default=Value("never_active"),
        output_field=models.CharField(),
    )


def _rule_reason(organization: Organization, selection: IdleSelection, asked: _Asked, now: datetime) -> Any:
    """Why somebody is in a rule's plan, as JSON that `reasons.reason_sentence` reads."""
    if asked.code == "idle":
        return JSONObject(
            code=_rule_code(asked),
            idle_since=predicates.idle_since(asked.products, now=now),
            last_active_at=predicates.last_active(asked.products),
            added_to_org_at="added_to_org_at",
            products=Value(list(asked.products), output_field=JSONField()),
        )
    context = predicates.Context.of(organization, now=now)
    words = [predicates.condition_of(data).sentence(context) for data in selection.conditions]
    return JSONObject(
        code=Value(asked.code),
        since=Coalesce("status_changed_at", "first_seen_at"),
        last_active_at="last_active_at",
        added_to_org_at="added_to_org_at",
        conditions=Value(words, output_field=JSONField()),
    )


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
    operation: Operation | None = None,
) -> QuerySet[Any]:
    """Accounts that `selection` meets, annotated with `out` (IN, or why left out) and `why` (JSON), alias `why_code`.

    Protection is today's, joined with what the selection froze. `account_pks` narrows it for the recheck; `operation`
    is the plan that it is made for, which higher apps may bind to conditions of their own (`hooks.selection_gates`).
    """
    action = action_named(action_name)
    if isinstance(selection, IdleSelection):
        asked = _asked(organization, selection, now, product)
        clock = models.ExpressionWrapper(
            predicates.idle_since(asked.products, now=now), output_field=models.DateTimeField()
        )
        # `clock` is what conditions of higher apps name; it costs nothing where none does.
        people = _idle_candidates(organization, selection, asked, with_open=action.takes_access).alias(clock=clock)
        why: Any = _rule_reason(organization, selection, asked, now)
        code: Any = _rule_code(asked)
    else:
        assert not isinstance(selection, InviteSelection)  # addresses, not accounts: services.invites plans them
        asked, people = None, _chosen(organization, selection, now)
        code = Value("selected", output_field=models.CharField())
        why = JSONObject(code=Value("selected"), last_active_at="last_active_at", added_to_org_at="added_to_org_at")
    if account_pks is not None:
        people = people.filter(pk__in=list(account_pks))

    reasons: list[When] = []
    if action.takes_access:
        reasons += [
            When(protected_from_q(action_name, organization, selection.protected_group_ids), then=Value("protected")),
            When(predicates.exempt_q(now), then=Value("exempt")),
        ]
        if asked is not None and asked.open is not None:
            reasons.append(When(asked.open, then=Value("unknown_activity")))
    if action.needs_managed:
        reasons.append(When(~Q(claim_status=ClaimStatus.MANAGED), then=Value("not_managed")))
    if action.needs_unmanaged:
        reasons.append(When(claim_status=ClaimStatus.MANAGED, then=Value("managed")))
    reasons += _already_so(action_name)
    if operation is not None and isinstance(selection, IdleSelection):
        for gate in hooks.selection_gates:
            if refused := gate(operation, now):
                reasons.append(When(refused[0], then=Value(refused[1])))
    return people.annotate(
        out=Case(*reasons, default=Value(IN), output_field=models.CharField())
        if reasons
        else Value(IN, output_field=models.CharField()),
        why=why,
    ).alias(why_code=code)


def protected_from_q(action_name: str, organization: Organization, extra_group_ids: Iterable[int] = ()) -> Q:
    """Whom the action must not touch (P2).

    The one exception is an owner's approved removal from a group that grants administration: admins and members of
    protected groups are whom it is for; the owner of AUM's key and accounts that are no people stay out (DECISIONS.md
    §9).
    """
    if action_name in ADMINISTRATIVE:
        return predicates.never_touched_q()
    return predicates.protected_q(organization, extra_group_ids)


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
        # Not the code within `why`: its JSON would be made for everybody, to be read and thrown away.
        counted = rows.order_by().annotate(code=F("why_code")).values("out", "code")
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


ITEM_COLUMNS = (
    "organization_id, operation_id, account_id, subject, action, target, rank, parameters, reason, status, outcome, "
    "detail, attempts, is_answered, doubt_reads, atlassian_request_id, call_id"
)
ITEM_DEFAULTS = "'pending', '', '', 0, false, 0, '', ''"

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
    if action_name in ADMINISTRATIVE:
        if not group.is_administrative:
            return f"{group.name} grants no administration. Use the plain group action for it."
    elif group.is_administrative:
        return (
            f"{group.name} grants administration. Only an owner changes who is in it: by hand under Users, with a "
            "second person."
        )
    if action_name in ADDING and not group.are_grants_known:
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
    if action_name in OF_GROUPS:
        held = "a.group_ids @> ARRAY[g.id]"
        condition = f"AND {'NOT ' if action_name in ADDING else ''}{held}"
        condition += f" AND {'' if action_name in ADMINISTRATIVE else 'NOT '}g.is_administrative"
        if action_name in ADDING:
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
            INSERT INTO operations_operationitem ({ITEM_COLUMNS})
            SELECT %s, %s, a.id, a.account_id, %s, {target}, %s, {item_parameters}, candidate.why::jsonb,
                   {ITEM_DEFAULTS}
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
            people = candidates(operation.organization, selection, spec.name, now, operation=operation)
            _insert_in_sets(operation, people, spec)


def copy_items(
    operation: Operation,
    source: Operation,
    *,
    outcomes: Sequence[str] = (),
    account_ids: Sequence[str] | None = None,
) -> None:
    """The source's items, all of them or those with one of `outcomes` or of some people, as new items to go."""
    condition = "AND s.outcome = ANY(%s)" if outcomes else ""
    condition += " AND s.subject = ANY(%s)" if account_ids is not None else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO operations_operationitem ({ITEM_COLUMNS})
                SELECT s.organization_id, %s, s.account_id, s.subject, s.action, s.target, s.rank, s.parameters,
                       s.reason, {ITEM_DEFAULTS}
                FROM operations_operationitem s WHERE s.operation_id = %s {condition}
                ON CONFLICT (operation_id, subject, action, target) DO NOTHING""",
            [
                operation.pk,
                source.pk,
                *([list(outcomes)] if outcomes else []),
                *([list(account_ids)] if account_ids is not None else []),
            ],
        )


def copy_left_out(operation: Operation, source: Operation) -> None:
    """Whom the source left out and why, so that the applied plan says the same."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO operations_leftout (organization_id, operation_id, account_id, reason, detail)
               SELECT s.organization_id, %s, s.account_id, s.reason, s.detail
               FROM operations_leftout s WHERE s.operation_id = %s ORDER BY s.id
               ON CONFLICT (operation_id, account_id) DO NOTHING""",
            [operation.pk, source.pk],
        )


# What a run changed: also the paths that were left although another one kept the seat, and what nobody could read.
CHANGED = (
    "({0}.outcome = 'done' OR ({0}.written_at IS NOT NULL AND {0}.outcome IN ('no_effect_seat_kept', 'unresolved')))"
)


def _axes() -> tuple[str, list[Any]]:
    """SQL VALUES (action, inverse, axis, rank) of what can be undone; an action and its inverse share an axis."""
    rows = [
        (name, action.inverse, min(name, action.inverse), action.rank)
        for name, action in REGISTRY.items()
        if action.inverse and name != "invite"
    ]
    return ", ".join(["(%s, %s, %s, %s)"] * len(rows)), [value for row in rows for value in row]


# Exactly the paths that the run changed: a removal took those that the person held, a grant gave those they did not.
_CHANGED_PATHS = """
    CASE WHEN d.axis = 'grant_product_access' AND d.before IS NOT NULL THEN
        jsonb_set(d.parameters, '{paths}', coalesce((
            SELECT jsonb_agg(p ORDER BY n) FROM jsonb_array_elements(d.parameters -> 'paths') WITH ORDINALITY AS x(p, n)
            WHERE coalesce(CASE p ->> 'kind'
                WHEN 'group' THEN d.before -> 'groups' @>
                    jsonb_build_array(jsonb_build_array(p ->> 'directory', p ->> 'group'))
                ELSE d.before -> 'roles' @> jsonb_build_array(jsonb_build_array(p ->> 'role', p ->> 'resource'))
            END = (d.action = 'remove_product_access'), true)), '[]'))
    ELSE d.parameters END"""


def insert_inverse(operation: Operation, sources: Sequence[Operation], account_ids: Sequence[str] | None) -> None:
    """What gives back the net effect of `sources`: one item for each thing that is not as it was before the first.

    What a later run changed again is left out and says so; whoever was changed by somebody else is found at the write.
    """
    values, axes = _axes()
    last = max(action.rank for action in REGISTRY.values())
    pks = [source.pk for source in sources]
    people = "AND s.subject = ANY(%s)" if account_ids is not None else ""
    later = f"""(
        SELECT max(o.number) FROM operations_operationitem n JOIN axis k ON k.action = n.action AND k.axis = d.axis
        JOIN operations_operation o ON o.id = n.operation_id AND o.mode = 'live'
        WHERE n.account_id = d.account_id AND n.target = d.target AND n.finished_at > d.finished_at
          AND NOT n.operation_id = ANY(%s) AND {CHANGED.format("n")})"""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""WITH axis(action, inverse, axis, rank) AS (VALUES {values}),
                d AS MATERIALIZED (
                    SELECT s.*, k.inverse, k.axis, o.number,
                           first_value(s.action) OVER w AS first_action, row_number() OVER w_back AS back
                    FROM operations_operationitem s JOIN axis k ON k.action = s.action
                    JOIN operations_operation o ON o.id = s.operation_id
                    WHERE s.operation_id = ANY(%s) AND {CHANGED.format("s")} {people}
                    WINDOW w AS (PARTITION BY s.subject, k.axis, s.target ORDER BY s.finished_at, s.id),
                           w_back AS (PARTITION BY s.subject, k.axis, s.target ORDER BY s.finished_at DESC, s.id DESC)
                ),
                net AS MATERIALIZED (
                    SELECT d.*, {later} AS later_number FROM d WHERE d.back = 1 AND d.action = d.first_action
                ),
                item AS (
                    INSERT INTO operations_operationitem ({ITEM_COLUMNS})
                    SELECT d.organization_id, %s, d.account_id, d.subject, d.inverse, d.target, %s - d.rank,
                           {_CHANGED_PATHS},
                           jsonb_build_object('code', 'undo', 'done_at', d.finished_at, 'number', d.number,
                                              'item', d.id),
                           {ITEM_DEFAULTS}
                    FROM net d WHERE d.later_number IS NULL
                    ON CONFLICT (operation_id, subject, action, target) DO NOTHING
                )
                INSERT INTO operations_leftout (organization_id, operation_id, account_id, reason, detail)
                SELECT DISTINCT ON (d.account_id) d.organization_id, %s, d.account_id, 'changed_later',
                       'Run #' || d.later_number || ' changed this again, or gave it back.'
                FROM net d WHERE d.later_number IS NOT NULL AND d.account_id IS NOT NULL
                ORDER BY d.account_id
                ON CONFLICT (operation_id, account_id) DO NOTHING""",
            [
                *axes,
                pks,
                *([list(account_ids)] if account_ids is not None else []),
                pks,
                operation.pk,
                last,
                operation.pk,
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


# Whoever gets one of these loses, or gets, every licence that they hold.
_WHOLE_TAKING = ("suspend", "deactivate", "delete", "remove_from_directory")
_WHOLE_GIVING = ("restore", "activate", "cancel_delete")


def seats_of(operation: Operation) -> dict[str, int]:
    """Product → people whose licence the plan frees; negative where it uses more than it frees.

    Groups are left aside: what leaving one frees depends on every other way to the product. Rows that were held back
    from an approval free nothing.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH touched AS (
                   SELECT DISTINCT i.account_id,
                          CASE WHEN i.action = ANY(%s) OR i.action = 'remove_product_access' THEN 1 ELSE -1 END AS sign,
                          CASE WHEN i.action LIKE %s THEN i.parameters ->> 'product' END AS product
                   FROM operations_operationitem i
                   WHERE i.operation_id = %s AND i.account_id IS NOT NULL AND i.outcome <> 'skipped_held_row'
                     AND (i.action = ANY(%s) OR i.action LIKE %s)),
               seat AS (
                   SELECT t.account_id, t.sign, p.product FROM touched t
                   JOIN users_productaccess p ON p.account_id = t.account_id WHERE t.product IS NULL
                   UNION
                   SELECT account_id, sign, product FROM touched WHERE product IS NOT NULL)
               SELECT seat.product, sum(seat.sign)::int FROM seat JOIN users_account a ON a.id = seat.account_id
               WHERE seat.sign = -1
                  OR (a.account_status = 1 AND a.membership_status = 1 AND NOT a.is_for_deletion)
               GROUP BY seat.product HAVING sum(seat.sign) <> 0 ORDER BY seat.product""",
            [
                list(_WHOLE_TAKING),
                "%_product_access",
                operation.pk,
                [*_WHOLE_TAKING, *_WHOLE_GIVING],
                "%_product_access",
            ],
        )
        return dict(cursor.fetchall())


def rest_hash(operation: Operation) -> tuple[str, int]:
    """(hash, people) of what a tripped run has left: its approval frees exactly that."""
    left = OperationItem.objects.filter(operation=operation, status=OperationItem.Status.PENDING)
    digest = hashlib.sha256(f"{operation.plan_hash}:rest".encode())
    people: set[str] = set()
    for subject, action, target in left.order_by("id").values_list("subject", "action", "target").iterator(5000):
        digest.update(f"\n{subject}\t{action}\t{target}".encode())
        people.add(subject)
    return digest.hexdigest(), len(people)


# Reasons that say nothing about who is in the plan anyway.
_WEAK = ("nothing_to_do", "already_so")


@dataclass(frozen=True)
class Refused:
    """Why one account is left out of (a part of) a plan; `detail` names the product, site or group in the way."""

    account_pk: int
    reason: str
    detail: str = ""


def add_left_out(operation: Operation, refused: Sequence[Refused]) -> None:
    """List who is left out: one row a person, which names every refusal of theirs."""
    merged: dict[int, Refused] = {}
    for one in refused:
        known = merged.get(one.account_pk)
        if known is None or known.reason in _WEAK:
            merged[one.account_pk] = one
        elif one.reason not in _WEAK and one.detail not in known.detail:
            merged[one.account_pk] = Refused(one.account_pk, known.reason, f"{known.detail} {one.detail}".strip())
    rows = list(merged.values())
    with connection.cursor() as cursor:
        for start in range(0, len(rows), 5000):
            some = rows[start : start + 5000]
            cursor.execute(
                """INSERT INTO operations_leftout AS l (organization_id, operation_id, account_id, reason, detail)
                   SELECT %s, %s, v.account, v.reason, v.detail
                   FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS v(account, reason, detail)
                   ON CONFLICT (operation_id, account_id) DO UPDATE SET
                       reason = CASE WHEN l.reason = ANY(%s) THEN EXCLUDED.reason ELSE l.reason END,
                       detail = CASE WHEN l.reason = ANY(%s) THEN EXCLUDED.detail
                                     WHEN strpos(l.detail, EXCLUDED.detail) > 0 THEN l.detail
                                     ELSE trim(l.detail || ' ' || EXCLUDED.detail) END
                   WHERE NOT EXCLUDED.reason = ANY(%s)""",
                [
                    operation.organization_id,
                    operation.pk,
                    [one.account_pk for one in some],
                    [one.reason for one in some],
                    [one.detail for one in some],
                    *[list(_WEAK)] * 3,
                ],
            )


def leave_out(operation: Operation, people: QuerySet[Account], reason: str, detail: str) -> int:
    """Take `people` out of a plan that is not frozen yet, list them as left out, and say how many they were."""
    items = OperationItem.objects.filter(operation=operation, account__in=people.order_by().values("pk"))
    with connection.cursor() as cursor:
        sql, parameters = items.order_by().values_list("account_id").distinct().query.sql_with_params()
        cursor.execute(
            f"""INSERT INTO operations_leftout AS l (organization_id, operation_id, account_id, reason, detail)
                SELECT %s, %s, picked.account_id, %s, %s FROM ({sql}) AS picked
                ON CONFLICT (operation_id, account_id)
                DO UPDATE SET reason = EXCLUDED.reason, detail = EXCLUDED.detail""",
            [operation.organization_id, operation.pk, reason, detail, *parameters],
        )
        count: int = cursor.rowcount
    items.delete()
    return count


def held_hash(operation: Operation) -> tuple[str, int]:
    """(hash, people) of a plan without the rows that were held back: the plan's own where none was."""
    held = OperationItem.objects.filter(operation=operation, outcome=OperationItem.Outcome.SKIPPED_HELD_ROW)
    rows = list(held.order_by("id").values_list("subject", "action", "target"))
    if not rows:
        return operation.plan_hash, operation.people_count
    digest = hashlib.sha256(f"{operation.plan_hash}:without".encode())
    for subject, action, target in rows:
        digest.update(f"\n{subject}\t{action}\t{target}".encode())
    left = OperationItem.objects.filter(operation=operation).exclude(pk__in=held.values("pk"))
    return digest.hexdigest(), left.values("subject").distinct().count()


def left_out_counts(operation: Operation) -> dict[str, int]:
    """How many people were left out, by reason.

    Who is in by one action, product or site and refused another one stays listed; where the other one merely had
    nothing to do, they do not.
    """
    in_plan = OperationItem.objects.filter(operation=operation).values("account")
    LeftOut.objects.filter(operation=operation, account__in=in_plan, reason__in=_WEAK).delete()
    rows = LeftOut.objects.filter(operation=operation).order_by().values("reason").annotate(n=Count("pk"))
    return {row["reason"]: row["n"] for row in rows}
