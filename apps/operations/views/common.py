"""What the pages of operations share: finding an operation, paging its rows, who may apply it."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import Http404

from apps.operations import selectors
from apps.operations.models import Operation
from apps.operators.access import Access, OrganizationRequest, organization_of
from apps.operators.permissions import Permission
from apps.users.models import Account
from apps.users.predicates import search_q
from aum.common.errors import Missing

ROWS = 50


def find_operation(request: OrganizationRequest, number: int) -> Operation:
    try:
        return selectors.operation_by_number(organization_of(request), number)
    except Missing as error:
        raise Http404 from error


def after_key(request: OrganizationRequest) -> int:
    """The key after which the page of rows begins."""
    text = request.GET.get("after", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


def page_of(rows: QuerySet[Any], after: int) -> tuple[list[Any], int | None]:
    """(one page in the order of the plan, the key of its last row when there are more)."""
    found = list(rows.filter(pk__gt=after).order_by("pk")[: ROWS + 1])
    return found[:ROWS], found[ROWS - 1].pk if len(found) > ROWS else None


def search_text(request: OrganizationRequest) -> str:
    return request.GET.get("search", "").replace("\x00", "").strip()[:200]


def searched(rows: QuerySet[Any], request: OrganizationRequest) -> QuerySet[Any]:
    text = search_text(request)
    if not text:
        return rows
    people = Account.objects.of(organization_of(request)).filter(search_q(text))
    return rows.filter(account__in=people.values("pk"))


def why_not_apply(access: Access, operation: Operation) -> str:
    """Why this person may not apply the plan; empty when they may."""
    if operation.organization.is_from_file:
        return "This organisation comes from an export file. Connect it to Atlassian before anything is changed."
    needed = Permission.RUN_RULES if operation.rule_id else Permission.ACT
    if access.may(needed):
        return ""
    return "Only Admins and Owners run rules." if operation.rule_id else "Your role may not change users."
