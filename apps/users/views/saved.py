"""Saved views: save the present filters, rename, share, change, delete."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.users import services
from apps.users.models import SavedView
from apps.users.predicates import Context
from apps.users.selectors import AccountFilters, used_by, visible_view
from apps.users.selectors.explorer import sort_sentence
from aum.common.errors import DomainError, Missing


@require(Permission.VIEW)
@require_http_methods(["GET", "POST"])
def save_view(request: OrganizationRequest) -> HttpResponse:
    """The form that keeps the filters and order of the address under a name."""
    organization = organization_of(request)
    query = QueryDict((request.POST.get("query", "") or request.META.get("QUERY_STRING", ""))[:8000])
    filters, _ = AccountFilters.parse(query)
    ordering = query.get("ordering") or "name"
    errors: dict[str, list[str]] = {}
    if request.method == "POST":
        try:
            view = services.save_view(
                organization=organization,
                operator=request.user,
                permissions=request.access.permissions,
                name=request.POST.get("name", ""),
                params=_params(filters),
                ordering=ordering,
                is_shared=request.POST.get("sharing") == "shared",
                actor=request.access.actor,
            )
        except DomainError as error:
            errors = error.fields or {"name": [error.detail]}
        else:
            messages.success(request, f"The view “{view.name}” is saved.")
            return redirect(_address(request, view))
    return _form(request, None, filters, ordering, errors)


@require(Permission.VIEW)
@require_http_methods(["GET", "POST"])
def edit_view(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Rename a view, share it or make it private; what it shows is changed from the list."""
    view = _view(request, pk)
    filters, _ = AccountFilters.parse(view.params)
    errors: dict[str, list[str]] = {}
    if request.method == "POST":
        changes = {"name": request.POST.get("name", ""), "is_shared": request.POST.get("sharing") == "shared"}
        try:
            view = _change(request, view, changes)
        except DomainError as error:
            errors = error.fields or {"name": [error.detail]}
        else:
            messages.success(request, f"The view “{view.name}” is saved.")
            return redirect(_address(request, view))
    return _form(request, view, filters, view.ordering, errors)


@require(Permission.VIEW)
@require_POST
def update_view(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Make the view show what the list shows now."""
    view = _view(request, pk)
    query = QueryDict(request.POST.get("query", "")[:8000])
    filters, _ = AccountFilters.parse(query)
    try:
        view = _change(request, view, {"params": _params(filters), "ordering": query.get("ordering") or "name"})
        messages.success(request, f"The view “{view.name}” shows these filters from now on.")
    except DomainError as error:
        messages.error(request, error.detail)
    return redirect(_address(request, view))


@require(Permission.VIEW)
@require_http_methods(["GET", "POST"])
def delete_view(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Ask, then delete the view. The people in it are not touched."""
    view = _view(request, pk)
    if request.method == "POST":
        try:
            services.delete_view(
                view=view,
                operator=request.user,
                permissions=request.access.permissions,
                actor=request.access.actor,
            )
        except DomainError as error:
            messages.error(request, error.detail)
            return redirect("users:edit_view", organization_of(request).slug, pk)
        messages.success(request, f"The view “{view.name}” is deleted. No user was changed.")
        return redirect("users:list", organization_of(request).slug)
    return render(
        request, "users/view_delete.html", {"view": view, "back": _address(request, view), "users": used_by(view)}
    )


def _view(request: OrganizationRequest, pk: int) -> SavedView:
    try:
        return visible_view(organization_of(request), request.user, pk)
    except Missing as error:
        raise Http404 from error


def _change(request: OrganizationRequest, view: SavedView, changes: dict[str, Any]) -> SavedView:
    return services.change_view(
        view=view,
        operator=request.user,
        permissions=request.access.permissions,
        changes=changes,
        actor=request.access.actor,
    )


def _params(filters: AccountFilters) -> dict[str, list[str]]:
    params: dict[str, list[str]] = {}
    for name, value in filters.as_params():
        params.setdefault(name, []).append(value)
    return params


def _address(request: OrganizationRequest, view: SavedView) -> str:
    """The list as the view shows it."""
    query = QueryDict(AccountFilters.parse(view.params)[0].query_string(), mutable=True)
    if view.ordering != "name":
        query["ordering"] = view.ordering
    query["view"] = str(view.pk)
    return f"{reverse('users:list', args=[organization_of(request).slug])}?{query.urlencode()}"


def _form(
    request: OrganizationRequest,
    view: SavedView | None,
    filters: AccountFilters,
    ordering: str,
    errors: dict[str, list[str]],
) -> HttpResponse:
    organization = organization_of(request)
    query = QueryDict(filters.query_string(), mutable=True)
    if ordering != "name":
        query["ordering"] = ordering
    is_shared = request.POST.get("sharing") == "shared" if request.method == "POST" else bool(view and view.is_shared)
    listing = f"{reverse('users:list', args=[organization.slug])}?{query.urlencode()}"
    permissions = request.access.permissions
    try:
        sorted_by = sort_sentence(ordering)
    except (KeyError, ValueError):
        sorted_by = ""
    context = {
        "view": view,
        "name": request.POST.get("name", view.name if view else ""),
        "is_shared": is_shared,
        "may_share": Permission.ACT in permissions,
        "refusal": services.why_not_change(view, request.user, permissions) if view else "",
        "users": used_by(view) if view else [],
        "chips": filters.chips(Context.of(organization)),
        "sort_sentence": sorted_by,
        "query": query.urlencode(),
        "back": _address(request, view) if view else listing,
        "errors": errors,
        "faults": [
            {"id": f"id_{'name' if name == 'name' else 'sharing'}", "label": labels.get(name, name), "text": text}
            for labels in [{"name": "Name", "is_shared": "Who sees it"}]
            for name, texts in errors.items()
            for text in texts
        ],
    }
    return render(request, "users/view_form.html", context, status=422 if errors else 200)
