"""Planning product access: which groups and direct roles give it, read person by person, resumable after a kill.

Role assignments of the *selected* people only are read (DESIGN.md §4.2), side by side, one call each. Each batch is
written in the transaction that moves `request["done_through"]`, so another worker goes on from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.operations import planning
from apps.operations.actions import REGISTRY
from apps.operations.models import Operation, OperationItem
from apps.operations.planning import PathPlan, Refused
from apps.operations.selection import ActionSpec, Selection
from apps.organizations.services import reader_for
from apps.users.models import Group, ProductAccess
from apps.users.products import SEATLESS_ROLES, label_of, product_of, role_name
from aum.atlassian.client import AtlassianReader
from aum.atlassian.errors import NotFound

BATCH = 200
Role = tuple[str, str, str]


@dataclass(frozen=True)
class _Chosen:
    """The people who are in, by account key: product → why; and who is left out before anything is read."""

    people: Mapping[int, Mapping[str, Any]]
    left_out: Sequence[Refused]


def plan_product_access(operation: Operation, selection: Selection, spec: ActionSpec, now: datetime) -> None:
    """Items for every path to the chosen products, all or nothing per person and site (DECISIONS.md §8)."""
    organization = operation.organization
    chosen = _choose(operation, selection, spec, now)
    done_through = int(operation.request.get("done_through", 0))
    if not done_through:
        planning.add_left_out(operation, chosen.left_out)
    pks = sorted(chosen.people)
    ahead = [pk for pk in pks if pk > done_through]
    Operation.objects.filter(pk=operation.pk).update(progress_total=len(pks), progress_done=len(pks) - len(ahead))
    groups = {g.pk: g for g in Group.objects.of(organization).select_related("directory").exclude(granted_products=0)}
    slots = organization.calls_in_flight
    # Nobody can be asked about an organisation that a file filled: its previews say who, and leave open how.
    asks = nullcontext(None) if organization.is_from_file else reader_for(organization)
    with asks as reader, ThreadPoolExecutor(slots, thread_name_prefix="plan") as pool:
        for start in range(0, len(ahead), BATCH):
            batch = ahead[start : start + BATCH]
            rows = _access_rows(operation, spec, batch, chosen.people)
            asked = {pk: some[0].account.account_id for pk, some in rows.items()}
            answers = pool.map(lambda account: _direct_roles(reader, account), asked.values())
            roles = dict(zip(asked, answers, strict=True))
            items: list[OperationItem] = []
            outs: list[Refused] = []
            for pk in batch:
                planned, refused = _of_person(
                    operation, spec, rows.get(pk, []), groups, roles.get(pk), chosen.people[pk]
                )
                items += planned
                outs += refused
                if pk not in rows:
                    outs.append(Refused(pk, "nothing_to_do"))
            with transaction.atomic():
                OperationItem.objects.bulk_create(items, batch_size=1000, ignore_conflicts=True)
                planning.add_left_out(operation, outs)
                operation.request["done_through"] = batch[-1]
                Operation.objects.filter(pk=operation.pk).update(
                    request=operation.request,
                    progress_done=len(pks) - len(ahead) + start + len(batch),
                    driven_at=timezone.now(),
                )


def _choose(operation: Operation, selection: Selection, spec: ActionSpec, now: datetime) -> _Chosen:
    people: dict[int, dict[str, Any]] = defaultdict(dict)
    left_out: list[Refused] = []
    for product in spec.products:
        rows = planning.candidates(
            operation.organization, selection, spec.name, now, product=product, operation=operation
        )
        for pk, out, why in rows.order_by("pk").values_list("pk", "out", "why").iterator(5000):
            if out == planning.IN:
                people[pk][product] = why
            else:
                left_out.append(Refused(pk, out, f"{label_of(product)}." if len(spec.products) > 1 else ""))
    return _Chosen(people, left_out)


def _access_rows(
    operation: Operation, spec: ActionSpec, batch: Sequence[int], people: Mapping[int, Mapping[str, Any]]
) -> dict[int, list[ProductAccess]]:
    """What each person of the batch holds of the products that they were chosen for, on the chosen sites."""
    rows = ProductAccess.objects.of(operation.organization).filter(account_id__in=batch, product__in=spec.products)
    if spec.sites:
        rows = rows.filter(site__in=spec.sites)
    held: dict[int, list[ProductAccess]] = defaultdict(list)
    for row in rows.select_related("account").order_by("account_id", "resource"):
        if row.product in people[row.account_id]:
            held[row.account_id].append(row)
    return dict(held)


def _of_person(
    operation: Operation,
    spec: ActionSpec,
    rows: Sequence[ProductAccess],
    groups: dict[int, Group],
    roles: Sequence[Role] | None,
    why: Mapping[str, Any],
) -> tuple[list[OperationItem], list[Refused]]:
    """Items and refusals of one person. A product that cannot be left keeps the others of its site as well."""
    plans = {
        row.pk: PathPlan(())
        if operation.organization.is_from_file
        else planning.path_plan(row, groups, _roles_on(roles, row), list(why))
        for row in rows
    }
    blocked = {row.site: (row, plans[row.pk]) for row in rows if plans[row.pk].refusal}
    refused = [
        Refused(row.account_id, plan.refusal, f"{label_of(row.product)} on {row.site or row.resource}: {plan.detail}")
        for row, plan in blocked.values()
    ]
    planned = [
        OperationItem(
            organization_id=operation.organization_id,
            operation=operation,
            account_id=row.account_id,
            subject=row.account.account_id,
            action=spec.name,
            target=f"product:{row.product}@{row.resource}",
            rank=REGISTRY[spec.name].rank,
            parameters={
                "product": row.product,
                "site": row.site,
                "resource": row.resource,
                "paths": [dict(path) for path in plans[row.pk].paths],
            },
            reason=why[row.product],
        )
        for row in rows
        if row.site not in blocked
    ]
    return planned, refused


def _direct_roles(reader: AtlassianReader | None, account_id: str) -> list[Role] | None:
    """(role, resource, owner) of direct assignments; None when the person's roles are not to be read."""
    if reader is None:
        return None
    try:
        assignments = reader.role_assignments(account_id).assignments
    except NotFound:
        return None
    return [
        (role.role, role.resource_id, role.resource_owner)
        for role in assignments
        if "direct" in role.methods and role_name(role.role) not in SEATLESS_ROLES
    ]


def _roles_on(roles: Sequence[Role] | None, access: ProductAccess) -> list[tuple[str, str]] | None:
    """The direct roles on the product and site of `access`; Atlassian names one instance with several ARIs."""
    if roles is None:
        return None
    tail = access.resource.rpartition("/")[2]
    return [
        (role, resource)
        for role, resource, owner in roles
        if resource == access.resource
        or (resource.rpartition("/")[2] == tail and product_of(owner or resource.split(":")[2]) == access.product)
    ]
