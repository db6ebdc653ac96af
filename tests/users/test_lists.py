"""The list's own state: who is picked across pages, columns of a person, the filter bar, and pages of saved views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.operations.forms import wanted
from apps.operations.selection import AccountsSelection
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.users.forms import canonical, filter_bar
from apps.users.models import ColumnChoice, SavedView, SyncRun
from apps.users.selectors import AccountFilters
from apps.users.views.picking import MOST
from tests.users.conftest import make_account, make_group, plain_organization

pytestmark = pytest.mark.django_db


@pytest.fixture
def sign_in(plain: Organization, operators: Callable[..., Operator]) -> Callable[..., Client]:
    """A browser in which somebody with these roles is signed in."""
    now = timezone.now()
    SyncRun.objects.create(
        organization=plain, status=SyncRun.Status.SUCCEEDED, is_trusted=True, started_at=now, finished_at=now
    )

    def make(*roles: str, name: str = "") -> Client:
        client = Client()
        client.force_login(operators(plain, f"{name or '-'.join(roles)}@aum.example", *roles))
        return client

    return make


def pick(client: Client, shown: list[int], checked: list[int], **fields: Any) -> Any:
    data = {"shown": ",".join(map(str, shown)), "accounts": checked, **fields}
    return client.post("/o/plain/users/selection/", data, headers={"X-AUM-Pick": "1"})


# --- who is picked ----------------------------------------------------------------------------------------------------


def test_people_picked_on_one_page_are_still_picked_on_the_next(
    plain: Organization, sign_in: Callable[..., Client]
) -> None:
    made = [make_account(plain, name=f"Person {number:02}").pk for number in range(30)]
    client = sign_in("helpdesk")

    assert pick(client, made[:25], [made[3], made[7]]).status_code == 204
    page = client.get("/o/plain/users/?limit=25").content.decode()
    assert page.count(" checked>") >= 2
    following = client.get("/o/plain/users/", {"limit": "25", "search": "person 2"}).content.decode()

    assert f'name="accounts" value="{made[3]},{made[7]}"' in following
    assert "(2 on other pages)" in following
    pick(client, made[:25], [made[7]])
    assert "(1 on other pages)" in client.get("/o/plain/users/", {"search": "person 2"}).content.decode()


def test_form_without_script_keeps_the_selection_and_goes_to_the_next_page(
    plain: Organization, sign_in: Callable[..., Client]
) -> None:
    made = [make_account(plain, name=f"Person {number:02}").pk for number in range(30)]
    client = sign_in("helpdesk")
    page = client.get("/o/plain/users/?limit=25").content.decode()
    target = page.partition('name="to" value="/o/plain/users/?limit=25&amp;cursor=')[2].partition('"')[0]

    answer = client.post(
        "/o/plain/users/selection/",
        {
            "shown": ",".join(map(str, made[:25])),
            "accounts": made[:1],
            "to": f"/o/plain/users/?limit=25&cursor={target}",
        },
    )

    assert answer["Location"].startswith("/o/plain/users/?limit=25&cursor=")
    assert "(1 on other pages)" in client.get(answer["Location"]).content.decode()
    elsewhere = client.post("/o/plain/users/selection/", {"clear": "1", "to": "https://evil.example/"})
    assert elsewhere["Location"] == "/o/plain/users/"
    assert "on other pages" not in client.get("/o/plain/users/?search=person 2").content.decode()


def test_strangers_and_people_of_other_organisations_are_not_picked(
    plain: Organization, sign_in: Callable[..., Client]
) -> None:
    stranger = make_account(plain_organization("other")).pk
    own = make_account(plain).pk
    client = sign_in("viewer")

    pick(client, [stranger, own, 999], [stranger, own, 999, 12345])

    assert client.session["picked_people"] == {str(plain.pk): [own]}


def test_no_more_are_picked_by_hand_than_a_form_carries(plain: Organization, sign_in: Callable[..., Client]) -> None:
    client = sign_in("viewer")
    session = client.session
    session["picked_people"] = {str(plain.pk): list(range(10**6, 10**6 + MOST))}
    session.save()
    own = make_account(plain).pk

    answer = pick(client, [own], [own])

    assert answer["X-AUM-Dropped"] == "1"
    assert len(client.session["picked_people"][str(plain.pk)]) == MOST


def test_actions_are_about_those_of_other_pages_too(plain: Organization) -> None:
    made = [make_account(plain) for _ in range(4)]
    others = f"{made[0].pk},{made[1].pk}"

    asked = wanted(QueryDict(f"action=suspend&accounts={others}&accounts={made[2].pk}"), plain)

    assert isinstance(asked.selection, AccountsSelection)
    assert set(asked.selection.account_ids) == {account.account_id for account in made[:3]}


# --- columns ----------------------------------------------------------------------------------------------------------


def test_columns_belong_to_the_person_who_chose_them(plain: Organization, sign_in: Callable[..., Client]) -> None:
    account = make_account(plain)
    anna, ben = sign_in("helpdesk", name="anna"), sign_in("viewer", name="ben")

    anna.post("/o/plain/users/columns/", {"column": ["kind", "account_id", "source"], "to": "/o/plain/users/?search=x"})

    hers, his = (client.get("/o/plain/users/").content.decode() for client in (anna, ben))
    assert f'<span class="mono small">{account.account_id}</span>' in hers
    assert "Account status</th>" not in hers
    assert "Account status</th>" in his
    assert f'<span class="mono small">{account.account_id}</span>' not in his
    anna.post("/o/plain/users/columns/", {"reset": "1"})
    assert "Account status</th>" in anna.get("/o/plain/users/").content.decode()


def test_unknown_column_is_refused_and_changes_nothing(plain: Organization, sign_in: Callable[..., Client]) -> None:
    client = sign_in("viewer")

    client.post("/o/plain/users/columns/", {"column": ["shoe size"]})

    assert not ColumnChoice.objects.exists()


# --- the filter bar ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ("login_op_jira=days&login_days_jira=60", "inactive_days=60&inactive_product=jira"),
        ("login_op_any=never", "activity=never"),
        (
            "login_op_jira=never&login_op_jsm=before&login_date_jsm=2026-01-31",
            "activity=jira%3Anever&last_active_before=jsm%3A2026-01-31T00%3A00%3A00%2B00%3A00",
        ),
        ("login_op_any=known&login_op_bitbucket=unknown", "activity=known&activity=bitbucket%3Aunknown"),
        ("login_op_jira=days&login_days_jira=&login_op_jsm=after", ""),
        (
            "added_op=between&added_value_date=2026-01-01&added_value_until=2026-02-01",
            "added_before=2026-02-01T00%3A00%3A00%2B00%3A00&added_after=2026-01-01T00%3A00%3A00%2B00%3A00",
        ),
        ("added_op=days&added_value_days=60&added_value_date=2026-01-01", "added_days=60"),
        ("added_op=&added_days=60", ""),
        ("grants=direct&rule=7", "grants=direct&rule=7"),
        ("account_status=active&account_status=closed", "account_status=active&account_status=closed"),
    ],
)
def test_fields_of_the_bar_mean_these_filters_and_show_them_again(
    plain: Organization, fields: str, address: str
) -> None:
    params = canonical(QueryDict(fields))
    filters, errors = AccountFilters.parse(params)

    assert errors == {}
    assert filters.query_string() == address
    bar = filter_bar(plain, QueryDict(address), filters, "", QueryDict())
    sent = [(f"login_op_{row.key}", row.operator) for row in bar.logins]
    sent += [(f"login_days_{row.key}", row.days) for row in bar.logins]
    sent += [(f"login_date_{row.key}", row.date) for row in bar.logins]
    sent += [("added_op", bar.added.operator), ("added_value_days", bar.added.days)]
    sent += [("added_value_date", bar.added.date), ("added_value_until", bar.added.until)]
    sent += [
        (menu.name, option.value) for menu in (*bar.menus, *bar.more) for option in menu.options if option.is_chosen
    ]
    sent += list(bar.carried)
    again = QueryDict(mutable=True)
    for name, value in sent:
        again.appendlist(name, value)
    assert AccountFilters.parse(canonical(again))[0] == filters


def test_what_the_bar_cannot_show_travels_along(plain: Organization) -> None:
    address = (
        "inactive_days=jira%2Bjsm%3A60&never_active_days=30&activity=trello%3Anever&domain=example.com&status_days=9"
    )
    filters, errors = AccountFilters.parse(QueryDict(address))

    bar = filter_bar(plain, QueryDict(address), filters, "", QueryDict())

    assert errors == {}
    assert len(bar.carried) == 5
    assert all(row.operator == "" for row in bar.logins)
    again = QueryDict("login_op_jira=never", mutable=True)
    for name, value in bar.carried:
        again.appendlist(name, value)
    found, _ = AccountFilters.parse(canonical(again))
    assert set(filters.conditions) < set(found.conditions)
    assert len(found.conditions) == 6


def test_half_filled_and_wrong_fields_keep_what_was_typed(plain: Organization, sign_in: Callable[..., Client]) -> None:
    page = sign_in("viewer").get("/o/plain/users/?login_op_jira=days&login_days_jira=soon").content.decode()

    assert "Enter a whole number of days" in page
    assert 'name="login_days_jira" inputmode="numeric" value="soon"' in page


# --- saved views ------------------------------------------------------------------------------------------------------


def test_view_is_saved_from_the_filters_updated_renamed_and_deleted(
    plain: Organization, sign_in: Callable[..., Client]
) -> None:
    group = make_group(plain, "contractors")
    make_account(plain, claim_status=2, group_ids=[group.pk])
    client = sign_in("helpdesk")
    form = client.get("/o/plain/users/views/new/?claim_status=unmanaged&ordering=-added").content.decode()
    assert "Claim status: external" in form
    assert "Sorted by date added, newest first" in form

    query = "claim_status=unmanaged&ordering=-added"
    saved = client.post("/o/plain/users/views/new/", {"query": query, "name": "Externals", "sharing": "shared"})

    view = SavedView.objects.get()
    assert saved["Location"] == f"/o/plain/users/?claim_status=unmanaged&ordering=-added&view={view.pk}"
    page = client.get(saved["Location"]).content.decode()
    assert "Shared: " in page
    assert "Update view" not in page
    changed = client.get(f"{saved['Location']}&group={group.pk}").content.decode()
    assert "Update view" in changed
    client.post(f"/o/plain/users/views/{view.pk}/update/", {"query": f"{query}&group={group.pk}"})
    client.post(f"/o/plain/users/views/{view.pk}/edit/", {"name": "Contractors", "sharing": "private"})
    view.refresh_from_db()
    assert (view.name, view.is_shared) == ("Contractors", False)
    assert view.params == {"claim_status": ["unmanaged"], "group": [str(group.pk)]}
    assert "No user is changed." in client.get(f"/o/plain/users/views/{view.pk}/delete/").content.decode()
    client.post(f"/o/plain/users/views/{view.pk}/delete/")
    assert not SavedView.objects.exists()


def test_name_that_is_taken_is_said_at_the_field(plain: Organization, sign_in: Callable[..., Client]) -> None:
    client = sign_in("viewer")
    client.post("/o/plain/users/views/new/", {"query": "", "name": "Mine"})

    answer = client.post("/o/plain/users/views/new/", {"query": "", "name": "mine", "sharing": "private"})

    assert answer.status_code == 422
    assert "There is a view of this name already." in answer.content.decode()
    shared = client.post("/o/plain/users/views/new/", {"query": "", "name": "Ours", "sharing": "shared"})
    assert "Your role may not share views." in shared.content.decode()


def test_private_view_of_somebody_else_is_not_there(plain: Organization, sign_in: Callable[..., Client]) -> None:
    sign_in("helpdesk", name="anna").post("/o/plain/users/views/new/", {"query": "", "name": "Secret plan"})
    pk = SavedView.objects.get().pk
    owner = sign_in("owner", name="ben")

    assert "Secret plan" not in owner.get(f"/o/plain/users/?view={pk}").content.decode()
    for what in ("edit", "delete"):
        assert owner.get(f"/o/plain/users/views/{pk}/{what}/").status_code == 404
    assert owner.post(f"/o/plain/users/views/{pk}/update/", {"query": ""}).status_code == 404


def test_views_are_counted_once_and_then_cost_no_query(plain: Organization, sign_in: Callable[..., Client]) -> None:
    make_account(plain)
    client = sign_in("helpdesk")
    client.get("/o/plain/users/")
    with CaptureQueriesContext(connection) as without:
        client.get("/o/plain/users/")
    for number in range(5):
        client.post("/o/plain/users/views/new/", {"query": f"added_days={number + 1}", "name": f"View {number}"})

    client.get("/o/plain/users/")
    with CaptureQueriesContext(connection) as with_views:
        client.get("/o/plain/users/")

    assert len(with_views) == len(without)
