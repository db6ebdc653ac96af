"""Deciding about looser safeguards: a page per decision, and the rows that lists of them show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from apps.operations import selectors, services
from apps.operations.models import SafeguardChange
from apps.operations.reasons import SafeguardLine, safeguard_lines
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from aum.common.errors import DomainError, InvalidInput, Missing


@dataclass(frozen=True)
class ChangeRow:
    """A proposed change in a list, with what this operator may do and why not."""

    change: SafeguardChange
    lines: Sequence[SafeguardLine]
    why_not_approve: str
    may_approve: bool
    may_reject: bool
    may_withdraw: bool


def change_rows(request: OrganizationRequest, changes: Iterable[SafeguardChange]) -> list[ChangeRow]:
    """Rows for a list; the number of queries does not grow with it."""
    operator = request.access.operator
    assert operator is not None
    changes = list(changes)
    refusals = services.decision_refusals(organization=organization_of(request), changes=changes, operator=operator)
    may_decide = request.access.may(Permission.APPROVE)
    rows = []
    for change in changes:
        refusal, is_pending = refusals[change.pk], change.status == SafeguardChange.Status.PENDING
        is_own, is_open = change.proposed_by_id == operator.pk, change.status in SafeguardChange.OPEN
        rows.append(
            ChangeRow(
                change=change,
                lines=safeguard_lines(change),
                why_not_approve=refusal.sentence if refusal and is_pending else "",
                may_approve=is_pending and refusal is None,
                may_reject=is_open and may_decide and not is_own,
                may_withdraw=is_open and is_own and request.access.may(Permission.SETTINGS),
            )
        )
    return rows


@dataclass
class Decision:
    """What one decision page asks."""

    title: str
    button: str
    points: Sequence[str]
    # What has to be typed, with the password, in one-operator mode.
    typed: str = ""
    asks_reason: bool = False
    is_reason_required: bool = False
    is_danger: bool = False
    # Why this operator cannot decide so; the page then has no button.
    refusal: str = ""
    reason: str = ""
    errors: dict[str, list[str]] = field(default_factory=dict)


def _find(request: OrganizationRequest, pk: int) -> SafeguardChange:
    try:
        return selectors.safeguard_change_by_id(organization_of(request), pk)
    except Missing as error:
        raise Http404 from error


def _asked(
    request: OrganizationRequest, change: SafeguardChange, decision: Decision, do: Callable[[], Any], said: str
) -> HttpResponse:
    """Ask, or do what was confirmed and go back to the approvals. A refusal shows the question again."""
    approvals = reverse("operations:approvals", args=[organization_of(request).slug])
    status = 200
    if request.method == "POST":
        decision.reason = request.POST.get("reason", "")[:500]
        try:
            do()
        except services.NotOpen as error:
            messages.error(request, error.detail)
            return redirect(approvals)
        except InvalidInput as error:
            decision.errors, status = error.fields, error.status
        except DomainError as error:
            decision.refusal, status = error.detail, error.status
        else:
            messages.success(request, said)
            return redirect(approvals)
    elif change.status not in SafeguardChange.OPEN:
        messages.error(request, services.NotOpen.detail)
        return redirect(approvals)
    context = {"decision": decision, "change": change, "lines": safeguard_lines(change), "back": approvals}
    return render(request, "operations/safeguard_decision.html", context, status=status)


@require(Permission.APPROVE)
@require_http_methods(["GET", "POST"])
def approve_safeguard(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Approve. In one-operator mode the organisation's short name is typed and the password given again."""
    change, organization, operator = _find(request, pk), organization_of(request), request.access.operator
    assert operator is not None
    refusal = services.decision_refusals(organization=organization, changes=[change], operator=operator)[change.pk]
    decision = Decision(
        title="Approve a looser safeguard",
        button="Approve the change",
        points=[
            "It takes effect one hour after the approval. Until then an approver can reject it.",
            "Plans that are held now stay held; they are decided one by one.",
        ],
        typed=organization.slug if organization.is_one_operator else "",
        is_danger=True,
        refusal=refusal.sentence if refusal else "",
    )

    def do() -> None:
        services.approve_change(
            change=change,
            operator=operator,
            actor=request.access.actor,
            confirm=request.POST.get("confirm", ""),
            password=request.POST.get("password") or None,
        )

    return _asked(request, change, decision, do, "Approved. The change takes effect in one hour.")


@require(Permission.APPROVE)
@require_http_methods(["GET", "POST"])
def reject_safeguard(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Reject with a reason, also after an approval while its hour is not over."""
    change, operator = _find(request, pk), request.access.operator
    assert operator is not None
    decision = Decision(
        title="Reject a looser safeguard",
        button="Reject the change",
        points=["The safeguard stays as it is."],
        asks_reason=True,
        is_reason_required=True,
    )

    def do() -> None:
        services.reject_change(
            change=change, operator=operator, actor=request.access.actor, reason=request.POST.get("reason", "")[:500]
        )

    return _asked(request, change, decision, do, "Rejected. The safeguard stays as it is.")


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
def withdraw_safeguard(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Take back one's own proposal."""
    change, operator = _find(request, pk), request.access.operator
    assert operator is not None
    is_own = change.proposed_by_id == operator.pk
    decision = Decision(
        title="Withdraw a looser safeguard",
        button="Withdraw the change",
        points=["The safeguard stays as it is. The change can be proposed again at any time."],
        asks_reason=True,
        refusal="" if is_own else "Only who proposed a change withdraws it. An approver can reject it.",
    )

    def do() -> None:
        services.withdraw_change(
            change=change, operator=operator, actor=request.access.actor, reason=request.POST.get("reason", "")[:500]
        )

    return _asked(request, change, decision, do, "Withdrawn. The safeguard stays as it is.")
