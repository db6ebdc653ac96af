"""Invite people: typed addresses, or the people of a checked file who are in no directory; then it is a plan."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from apps.operations.services.imports import plan_invitations
from apps.operations.services.invites import read_addresses
from apps.operations.views.imports import find_import, group_choices, group_keys
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.users.models import ImportFile, ImportRow
from apps.users.selectors.imports import product_places
from aum.common.errors import DomainError, InvalidInput

SHOWN_FAULTS = 20
_LABELS = {"emails": "E-mail addresses", "groups": "Groups", "products": "Products", "message": "Message"}


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def invite(request: OrganizationRequest) -> HttpResponse:
    """The form for typed addresses, and its plan."""
    return _page(request, None)


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def invite_file(request: OrganizationRequest, pk: int) -> HttpResponse:
    """The same for the people of a checked file."""
    file = find_import(request, pk)
    if file.status != ImportFile.Status.CHECKED:
        return redirect("operations:import", organization_of(request).slug, pk)
    return _page(request, file)


def _page(request: OrganizationRequest, file: ImportFile | None) -> HttpResponse:
    organization = organization_of(request)
    errors: dict[str, list[str]] = {}
    if request.method == "POST" and "find" not in request.POST:
        try:
            operation = plan_invitations(
                organization=organization,
                actor=request.access.actor,
                operator=request.access.operator,
                emails=read_addresses(request.POST.get("emails", "")) if file is None else (),
                file=file,
                uses_file_grants="own" in request.POST and file is not None,
                group_ids=group_keys(request.POST),
                resources=request.POST.getlist("products")[:100],
                notify="notify" in request.POST,
                message=request.POST.get("message", "").replace("\x00", "").strip()[:1000],
            )
            return redirect("operations:run", organization.slug, operation.number)
        except DomainError as error:
            errors = error.fields if isinstance(error, InvalidInput) and error.fields else {"": [error.detail]}
    context = _context(request, file, request.POST if request.method == "POST" else request.GET, errors)
    return render(request, "users/import/invite.html", context, status=422 if errors else 200)


def _context(
    request: OrganizationRequest, file: ImportFile | None, data: QueryDict, errors: dict[str, list[str]]
) -> dict[str, Any]:
    organization = organization_of(request)
    has_own = file is not None and bool({"groups", "products"} & file.mapping.keys())
    faulty = ImportRow.objects.filter(import_file=file).exclude(fault="").exclude(code__in=("malformed", "ragged"))
    chosen = set(data.getlist("products"))
    faults = [
        {"id": f"invite-{name}" if name else "", "label": _LABELS.get(name, name), "text": text}
        for name, texts in errors.items()
        for text in texts
    ]
    return {
        "file": file,
        "emails": data.get("emails", ""),
        "message": data.get("message", ""),
        "notify": "notify" in data,
        "has_own": has_own,
        "own": has_own and ("own" in data or request.method == "GET"),
        "faulty": [(row.line, row.email, row.fault) for row in faulty.order_by("line")[:SHOWN_FAULTS]]
        if has_own
        else [],
        "faulty_count": faulty.count() if has_own else 0,
        "places": [(place, place.resource in chosen) for place in product_places(organization)],
        "errors": errors,
        "faults": faults,
        **group_choices(request, data, for_invites=True),
    }
