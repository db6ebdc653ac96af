"""Saved views: who sees which, and what one asks for."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet

from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.users.models import SavedView
from apps.users.registries import view_users
from aum.common.errors import Missing


def saved_view_params(organization: Organization, pk: int) -> dict[str, list[str]]:
    """The filter of a shared view: parameter → values, as `AccountFilters.parse` and `FilterSelection` read them.

    Raises Missing for a view that is gone, private, or another organisation's.
    """
    view = SavedView.objects.of(organization).filter(pk=pk, is_shared=True).first()
    if view is None:
        raise Missing("This shared view no longer exists. Choose another one.")
    return {str(name): [str(value) for value in values] for name, values in view.params.items()}


def shared_views(organization: Organization) -> QuerySet[SavedView]:
    """The views that everybody in the organisation sees, by name."""
    found: QuerySet[SavedView] = SavedView.objects.of(organization).filter(is_shared=True).order_by("name", "pk")
    return found


def visible_views(organization: Organization, operator: Operator | None) -> QuerySet[SavedView]:
    """Shared views and the operator's own, by name."""
    mine = Q(owner=operator) if operator is not None else Q(pk__in=[])
    found: QuerySet[SavedView] = (
        SavedView.objects.of(organization).filter(Q(is_shared=True) | mine).order_by("name", "pk")
    )
    return found


def visible_view(organization: Organization, operator: Operator | None, pk: int) -> SavedView:
    """One of them. Raises Missing."""
    view: SavedView | None = visible_views(organization, operator).filter(pk=pk).first()
    if view is None:
        raise Missing("There is no such view here.")
    return view


def used_by(view: SavedView) -> list[str]:
    """Names of what is bound to the view; empty for a private one."""
    if not view.is_shared:
        return []
    organization: Any = view.organization
    return [name for ask in view_users for name in ask(organization, view.pk)]
