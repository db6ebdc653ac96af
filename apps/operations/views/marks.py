"""Marks that let cleanups take more: groups that are licence-only, and services, bots or apps treated like a person.

Setting one is a looser safeguard and waits for another person; taking it back counts at once (P5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from apps.operations import selectors, services
from apps.operations.models import SafeguardChange
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.users.models import OTHER_PRODUCT_BIT, PRODUCT_BITS, Account, AccountKind, Group
from aum.common.errors import InvalidInput

ROWS = 100


@require(Permission.SETTINGS)
@require_GET
def licence_groups(request: OrganizationRequest) -> HttpResponse:
    """Groups that give a product, with what they grant, and which of them are marked licence-only."""
    organization = organization_of(request)
    search = request.GET.get("search", "").replace("\x00", "").strip()[:200]
    rows = selectors.granting_groups(organization, search)
    pending = {
        change.group_id: change
        for change in selectors.open_safeguard_changes(organization)
        if change.kind == SafeguardChange.Kind.LICENCE_ONLY
    }
    found = list(rows[: ROWS + 1])
    lines = [(group, _labels(group.granted_products), pending.get(group.pk)) for group in found[:ROWS]]
    context = {"rows": lines, "search": search, "has_more": len(found) > ROWS, "section": "licence_groups"}
    return render(request, "operations/licence_groups.html", context)


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
def licence_only(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Mark a group licence-only, which waits for another person, or take the mark back at once."""
    group: Group | None = (
        Group.objects.of(organization_of(request))
        .filter(pk=pk, vanished_at=None)
        .select_related("organization")
        .first()
    )
    if group is None:
        raise Http404
    back = reverse("operations:licence_groups", args=[organization_of(request).slug])
    if group.is_licence_only:
        return _asked(
            request,
            title=f"Take the mark licence-only from {group.name}",
            button="Take the mark back",
            points=["From now on nobody leaves this group for a product while it grants something else."],
            back=back,
            do=lambda reason: services.tighten_licence_only(group=group, reason=reason, actor=request.access.actor),
            said=f"{group.name} is no longer licence-only.",
        )
    return _asked(
        request,
        title=f"Mark {group.name} licence-only",
        button="Propose the mark",
        points=[
            "Removing product access then takes people out of this group although it grants more than the chosen "
            "products; everything that it grants is lost with it.",
            "Another person has to approve this, and it counts one hour after that.",
        ],
        back=back,
        do=lambda reason: services.propose_licence_only(
            group=group, reason=reason, actor=request.access.actor, operator=request.access.operator
        ),
        said=f"The mark of {group.name} waits for an approval.",
        is_danger=True,
    )


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
def kind(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Let cleanups treat a service, bot or app like a person, or protect it again."""
    account: Account | None = (
        Account.objects.of(organization_of(request)).filter(pk=pk).exclude(kind=AccountKind.PERSON).first()
    )
    if account is None:
        raise Http404
    back = reverse("users:person", args=[organization_of(request).slug, pk])
    word = account.get_kind_display().lower()
    if account.is_kind_released:
        return _asked(
            request,
            title=f"Protect {account} again",
            button="Protect it again",
            points=[f"As a {word} account it is in no plan that takes access."],
            back=back,
            do=lambda reason: services.tighten_kind(account=account, reason=reason, actor=request.access.actor),
            said=f"{account} is protected again.",
        )
    return _asked(
        request,
        title=f"Treat {account} like a person",
        button="Propose it",
        points=[
            f"It is a {word} account and therefore protected. Rules and people could then take its access.",
            "Another person has to approve this, and it counts one hour after that.",
        ],
        back=back,
        do=lambda reason: services.propose_release_kind(
            account=account, reason=reason, actor=request.access.actor, operator=request.access.operator
        ),
        said=f"Treating {account} like a person waits for an approval.",
        is_danger=True,
    )


def _labels(bits: int) -> list[str]:
    """The products of a bit mask in words."""
    labels = [str(product.label) for product, bit in PRODUCT_BITS.items() if bits & bit]
    return [*labels, "another product"] if bits & OTHER_PRODUCT_BIT else labels


def _asked(
    request: OrganizationRequest,
    *,
    title: str,
    button: str,
    points: list[str],
    back: str,
    do: Callable[[str], Any],
    said: str,
    is_danger: bool = False,
) -> HttpResponse:
    """Ask for the reason on GET, do it on POST; a refusal stands at the field."""
    errors: dict[str, list[str]] = {}
    reason = request.POST.get("reason", "")[:500]
    if request.method == "POST":
        try:
            if not reason.strip():
                raise InvalidInput(fields={"reason": ["Say why."]})
            do(reason)
        except InvalidInput as error:
            errors = error.fields or {"reason": [error.detail]}
        else:
            messages.success(request, said)
            return redirect(back)
    context = {
        "title": title,
        "button": button,
        "points": points,
        "back": back,
        "reason": reason,
        "errors": errors,
        "is_danger": is_danger,
    }
    return render(request, "operations/mark.html", context, status=422 if errors else 200)
