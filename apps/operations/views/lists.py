"""Lists of operations: those of one person, and those that wait for an approval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from apps.operations import selectors
from apps.operations.models import Approval, Operation, OperationItem, SafeguardChange
from apps.operations.views.common import ROWS
from apps.operations.views.safeguards import change_rows
from apps.operations.views.words import button_words, item_line
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.users.models import Account


@require(Permission.VIEW)
@require_GET
def of_person(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Previews and runs that hold one person, newest first."""
    account: Account | None = Account.objects.of(organization_of(request)).filter(pk=pk).first()
    if account is None:
        raise Http404
    items = OperationItem.objects.filter(account=account).select_related("operation", "account").order_by("-pk")[:50]
    now = timezone.now()
    context = {"account": account, "rows": [item_line(item, now) for item in items]}
    return render(request, "operations/_of_person.html" if request.htmx else "operations/of_person.html", context)


@dataclass(frozen=True)
class Waiting:
    """A held plan in the list of approvals."""

    operation: Operation
    button: str
    share: float
    refusal: str
    # Against the rule's plan before, in words; empty without one.
    difference: str = ""


@require(Permission.VIEW)
@require_GET
def approvals(request: OrganizationRequest) -> HttpResponse:
    """Plans and looser safeguards that wait for a decision, and decisions made."""
    organization, operator = organization_of(request), request.access.operator
    is_decided = request.GET.get("view") == "decided"
    waiting = list(selectors.waiting_approvals(organization))
    decided = selectors.decided_approvals(organization)
    changes = list(selectors.open_safeguard_changes(organization))
    undecided = [change for change in changes if change.status == SafeguardChange.Status.PENDING]
    past_changes: list[SafeguardChange] = []
    rows, after = [], None
    if is_decided:
        text = request.GET.get("before", "")
        if not text:
            past_changes = list(selectors.decided_safeguard_changes(organization)[:ROWS])
        if text.isascii() and text.isdecimal() and len(text) < 19:
            decided = decided.filter(pk__lt=int(text))
        found = list(decided[: ROWS + 1])
        rows, after = found[:ROWS], found[ROWS - 1].pk if len(found) > ROWS else None
    return render(
        request,
        "operations/approvals.html",
        {
            "waiting": [_waiting(operation, operator) for operation in waiting],
            "waiting_count": len(waiting) + len(undecided),
            "undecided_count": len(undecided),
            "changes": change_rows(request, past_changes if is_decided else changes),
            "is_decided": is_decided,
            "decided": rows,
            "after": after,
            "decided_count": Approval.objects.of(organization).count()
            + selectors.decided_safeguard_changes(organization).count(),
        },
    )


def _difference(operation: Operation) -> str:
    previous = selectors.previous_plan(operation)
    if previous is None:
        return ""
    new, gone = selectors.diff_counts(operation, previous)
    return f"+{new:,} new, −{gone:,} gone against #{previous.number}"


def _waiting(operation: Operation, operator: Any) -> Waiting:
    licensed = operation.licensed_count
    is_author = (
        operator is not None and operator.pk == operation.actor_id and not operation.organization.is_one_operator
    )
    people = operation.people_count - selectors.held_back(operation)[0]
    return Waiting(
        operation=operation,
        button=button_words(operation, people),
        share=100 * people / licensed if licensed else 100.0,
        difference=_difference(operation),
        refusal="Yours: another person decides." if is_author else "",
    )
