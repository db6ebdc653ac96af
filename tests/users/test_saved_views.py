"""Saved views: whose they are, what a name must be, who may change them, and what a rule's use of one forbids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apps.audit.models import AuditEvent
from apps.operators.models import Operator
from apps.operators.selectors import permissions_of
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import SavedView
from apps.users.registries import view_users
from apps.users.selectors import saved_view_params, visible_views
from apps.users.services import ViewInUse, change_view, delete_view, save_view, why_not_change
from aum.common.errors import InvalidInput, Missing, NotAllowed
from tests.users.conftest import plain_organization

pytestmark = pytest.mark.django_db

Operators = Callable[..., Operator]


def save(organization: Organization, operator: Operator, name: str = "Contractors", **fields: Any) -> SavedView:
    return save_view(
        organization=organization,
        operator=operator,
        permissions=permissions_of(operator, organization),
        name=name,
        params=fields.pop("params", {"claim_status": ["external"]}),
        actor=Actor.operator(operator),
        **fields,
    )


def change(view: SavedView, operator: Operator, **changes: Any) -> SavedView:
    return change_view(
        view=view,
        operator=operator,
        permissions=permissions_of(operator, view.organization),
        changes=changes,
        actor=Actor.operator(operator),
    )


def delete(view: SavedView, operator: Operator) -> None:
    delete_view(
        view=view,
        operator=operator,
        permissions=permissions_of(operator, view.organization),
        actor=Actor.operator(operator),
    )


@pytest.fixture
def bound() -> Iterator[list[int]]:
    """Keys of views that a rule is bound to."""
    keys: list[int] = []

    def users(organization: Organization, pk: int) -> list[str]:
        return ["rule “Contractors out”"] if pk in keys else []

    view_users.append(users)
    yield keys
    view_users.remove(users)


def test_private_view_is_seen_by_its_owner_and_shared_one_by_everybody(
    plain: Organization, operators: Operators
) -> None:
    anna = operators(plain, "anna@aum.example", "helpdesk")
    ben = operators(plain, "ben@aum.example", "viewer")
    private, shared = save(plain, anna, "Mine"), save(plain, anna, "Ours", is_shared=True)

    assert list(visible_views(plain, anna)) == [private, shared]
    assert list(visible_views(plain, ben)) == [shared]
    assert list(visible_views(plain_organization("other"), anna)) == []


def test_rule_reads_shared_views_only(plain: Organization, operators: Operators) -> None:
    anna = operators(plain, "anna@aum.example", "admin")
    shared = save(plain, anna, is_shared=True, params={"claim_status": ["external"], "added_days": ["60"], "group": []})
    private = save(plain, anna)

    assert saved_view_params(plain, shared.pk) == {"claim_status": ["unmanaged"], "added_days": ["60"]}
    for organization, pk in ((plain, private.pk), (plain_organization("other"), shared.pk), (plain, 0)):
        with pytest.raises(Missing):
            saved_view_params(organization, pk)


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "CONTRACTORS"])
def test_name_must_be_given_short_and_new(plain: Organization, operators: Operators, name: str) -> None:
    anna = operators(plain, "anna@aum.example", "viewer")
    save(plain, anna)

    with pytest.raises(InvalidInput) as refusal:
        save(plain, anna, name)

    assert list(refusal.value.fields) == ["name"]
    save(plain, operators(plain, "ben@aum.example", "viewer"))  # another person's private name is nobody else's matter


def test_filter_that_makes_no_sense_is_not_kept(plain: Organization, operators: Operators) -> None:
    with pytest.raises(InvalidInput) as refusal:
        save(plain, operators(plain, "anna@aum.example", "viewer"), params={"inactive_days": ["soon"]})

    assert list(refusal.value.fields) == ["inactive_days"]


def test_viewer_shares_nothing_and_changes_nothing_of_others(plain: Organization, operators: Operators) -> None:
    anna = operators(plain, "anna@aum.example", "helpdesk")
    viewer = operators(plain, "ben@aum.example", "viewer")
    shared = save(plain, anna, is_shared=True)

    with pytest.raises(NotAllowed):
        save(plain, viewer, is_shared=True)
    with pytest.raises(NotAllowed):
        change(save(plain, viewer), viewer, is_shared=True)
    for operator in (viewer, operators(plain, "cleo@aum.example", "helpdesk")):
        with pytest.raises(NotAllowed):
            change(shared, operator, name="Taken")
        with pytest.raises(NotAllowed):
            delete(shared, operator)
    assert change(shared, operators(plain, "dora@aum.example", "admin"), name="Better").name == "Better"


def test_view_of_a_rule_stays_shared_and_is_changed_by_those_who_edit_rules(
    plain: Organization, operators: Operators, bound: list[int]
) -> None:
    anna = operators(plain, "anna@aum.example", "helpdesk")
    admin = operators(plain, "dora@aum.example", "admin")
    view = save(plain, anna, is_shared=True)
    bound.append(view.pk)

    assert "Contractors out" in why_not_change(view, anna, permissions_of(anna, plain))
    with pytest.raises(NotAllowed):
        change(view, anna, params={})
    for do in (lambda: delete(view, admin), lambda: change(view, admin, is_shared=False)):
        with pytest.raises(ViewInUse, match="Contractors out"):
            do()
    assert change(view, admin, params={"added_days": ["90"]}).params == {"added_days": ["90"]}


def test_every_change_is_recorded_with_what_it_changed(plain: Organization, operators: Operators) -> None:
    anna = operators(plain, "anna@aum.example", "helpdesk")
    view = save(plain, anna)

    change(view, anna, name="Externals", params=view.params)
    change(view, anna, name="Externals")
    delete(view, anna)

    events = list(AuditEvent.objects.of(plain).filter(target_kind="saved_view").order_by("id"))
    assert [event.action for event in events] == ["saved_view.created", "saved_view.changed", "saved_view.deleted"]
    assert (events[1].before, events[1].after) == ({"name": "Contractors"}, {"name": "Externals"})
