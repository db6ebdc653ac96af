"""Saved views: kept, renamed, changed, shared, deleted. Each change is an audit event."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.audit.services import record
from apps.operators.models import Operator
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import SavedView
from apps.users.selectors.explorer import ORDERINGS
from apps.users.selectors.filters import AccountFilters
from apps.users.selectors.views import used_by
from aum.common.errors import DomainError, InvalidInput, NotAllowed

NAME_LENGTH = 80
MAX_VIEWS = 50
SHARE = "Your role may not share views. Keep it private, or ask a Helpdesk member, an Admin or an Owner."


class ViewInUse(DomainError):
    code = "view_in_use"
    detail = "A rule uses this view."


def save_view(
    *,
    organization: Organization,
    operator: Operator,
    permissions: Collection[Permission],
    name: str,
    params: Mapping[str, Sequence[str]],
    ordering: str = "name",
    is_shared: bool = False,
    actor: Actor,
) -> SavedView:
    """Keep filters and order under a name. Raises InvalidInput; NotAllowed for sharing without ACT."""
    if is_shared and Permission.ACT not in permissions:
        raise NotAllowed(SHARE, fields={"is_shared": [SHARE]})
    fields = {"name": _name(name), "params": _params(params), "ordering": _ordering(ordering), "is_shared": is_shared}
    owned = SavedView.objects.of(organization)
    owned = owned.filter(is_shared=True) if is_shared else owned.filter(is_shared=False, owner=operator)
    if owned.count() >= MAX_VIEWS:
        raise InvalidInput(fields={"name": [f"There are {MAX_VIEWS} views already. Delete one first."]})
    with _named_once(), transaction.atomic():
        view: SavedView = SavedView.objects.create(
            organization=organization, owner=operator, owner_text=actor.name[:254], **fields
        )
        _record(view, actor, "saved_view.created", after=_content(view))
    return view


def change_view(
    *,
    view: SavedView,
    operator: Operator | None,
    permissions: Collection[Permission],
    changes: Mapping[str, Any],
    actor: Actor,
) -> SavedView:
    """Change `name`, `params`, `ordering` or `is_shared`; what is not named stays.

    Raises NotAllowed (see `why_not_change`), InvalidInput, and ViewInUse when a view that a rule uses is made private.
    """
    known: dict[str, Callable[[Any], Any]] = {
        "name": _name,
        "params": _params,
        "ordering": _ordering,
        "is_shared": bool,
    }
    with _named_once(), transaction.atomic():
        current: SavedView = (
            SavedView.objects.select_for_update(of=("self",)).select_related("organization").get(pk=view.pk)
        )
        _may_change(current, operator, permissions)
        values = {field: known[field](value) for field, value in changes.items() if field in known}
        if values.get("is_shared") and not current.is_shared and Permission.ACT not in permissions:
            raise NotAllowed(SHARE, fields={"is_shared": [SHARE]})
        if values.get("is_shared") is False and current.is_shared:
            _unused(current, "made private")
            if operator is not None and current.owner_id != operator.pk:
                raise NotAllowed("Only its owner can make a view private: nobody else would see it any more.")
        before = _content(current)
        for field, value in values.items():
            setattr(current, field, value)
        after = _content(current)
        if before != after:
            current.changed_at = timezone.now()
            current.save(update_fields=[*values, "changed_at"])
            changed = [field for field in after if before[field] != after[field]]
            _record(
                current,
                actor,
                "saved_view.changed",
                before={field: before[field] for field in changed},
                after={field: after[field] for field in changed},
            )
    return current


def delete_view(
    *, view: SavedView, operator: Operator | None, permissions: Collection[Permission], actor: Actor
) -> None:
    """Delete a view. Raises NotAllowed, and ViewInUse while a rule is bound to it."""
    with transaction.atomic():
        current = SavedView.objects.select_for_update(of=("self",)).select_related("organization").get(pk=view.pk)
        _may_change(current, operator, permissions)
        _unused(current, "deleted")
        _record(current, actor, "saved_view.deleted", before=_content(current))
        current.delete()


def why_not_change(view: SavedView, operator: Operator | None, permissions: Collection[Permission]) -> str:
    """Why somebody may not change a view; empty when they may.

    One's own private views always; shared ones by their owner who may still act, or by whoever edits rules. A view that
    a rule uses decides whom the rule is about, so it takes the right to edit rules.
    """
    edits_rules = Permission.RULES in permissions
    if view.is_shared and (users := used_by(view)) and not edits_rules:
        return f"{_listed(users)} uses this view. Only an Admin or an Owner can change it."
    is_owner = operator is not None and view.owner_id == operator.pk
    if is_owner and (not view.is_shared or Permission.ACT in permissions):
        return ""
    if view.is_shared and edits_rules:
        return ""
    return f"This view is {view.owner_text}’s. Its owner, an Admin or an Owner of the organisation can change it."


def _may_change(view: SavedView, operator: Operator | None, permissions: Collection[Permission]) -> None:
    if reason := why_not_change(view, operator, permissions):
        raise NotAllowed(reason)


def _unused(view: SavedView, what: str) -> None:
    if users := used_by(view):
        raise ViewInUse(f"{_listed(users)} uses this view, so it cannot be {what}. Choose another view there first.")


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return text[:1].upper() + text[1:]


def _name(value: Any) -> str:
    name = " ".join(str(value).replace("\x00", "").split())
    if not name:
        raise InvalidInput(fields={"name": ["Give the view a name."]})
    if len(name) > NAME_LENGTH:
        raise InvalidInput(fields={"name": [f"Use at most {NAME_LENGTH} characters."]})
    return name


def _params(value: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The filters in their own spelling, so that equal views are stored alike."""
    filters, errors = AccountFilters.parse({name: list(values) for name, values in value.items()})
    if errors:
        raise InvalidInput(fields=errors)
    params: dict[str, list[str]] = {}
    for name, text in filters.as_params():
        params.setdefault(name, []).append(text)
    return params


def _ordering(value: Any) -> str:
    if value not in ORDERINGS:
        raise InvalidInput(fields={"ordering": [f"Sort by one of {', '.join(ORDERINGS)}."]})
    return str(value)


class _named_once:
    """Turns the database's refusal of a second view of the same name into a sentence at the field."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, IntegrityError) and "_view_name_once" in str(error):
            raise InvalidInput(
                fields={"name": ["There is a view of this name already. Choose another name."]}
            ) from error


def _content(view: SavedView) -> dict[str, Any]:
    return {"name": view.name, "params": view.params, "ordering": view.ordering, "is_shared": view.is_shared}


def _record(view: SavedView, actor: Actor, action: str, **fields: Any) -> None:
    record(
        organization=view.organization,
        actor=actor,
        action=action,
        target_kind="saved_view",
        target_ref=str(view.pk),
        target_name=view.name,
        **fields,
    )
