"""The list of people, its filters and counts, and one person's page."""

from __future__ import annotations

import importlib
import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import (
    Account,
    AccountStatus,
    DirectoryMembership,
    Exemption,
    GroupMembership,
    MembershipStatus,
    ProductAccess,
)
from apps.users.predicates import Context
from apps.users.selectors import (
    ORDERINGS,
    AccountFilters,
    count_matching,
    dashboard_counts,
    explorer,
    groups,
    licensed_count,
    person_detail,
)
from apps.users.selectors.explorer import _Place
from apps.users.services import mark_pending, protect_group
from aum.common.errors import InvalidInput, Missing
from tests.users.conftest import make_account, make_group, plain_organization
from tests.users.test_trust import ANNA

pytestmark = pytest.mark.django_db


def people(organization: Organization, number: int) -> list[Account]:
    """Accounts with ties in every sort key: equal names, equal and missing instants."""
    rng = random.Random(3)
    now = timezone.now()
    made = []
    for _ in range(number):
        at = rng.choice([None, now - timedelta(days=3), now - timedelta(days=rng.randrange(200))])
        made.append(
            make_account(
                organization,
                name=rng.choice(["Ann", "ann", "Élodie", "李", "Zoe", ""]),
                products=1,
                is_activity_read=True,
                last_active_at=at,
                jira_last_active_at=at,
                jira_activity=3 if at else 2,
                added_to_org_at=rng.choice([None, now - timedelta(days=rng.randrange(5))]),
            )
        )
    return made


def walk(organization: Organization, ordering: str, filters: AccountFilters, limit: int) -> list[list[int]]:
    pages, cursor = [], None
    while True:
        page = explorer(organization, filters, ordering=ordering, cursor=cursor, limit=limit)
        pages.append([row.pk for row in page.rows])
        cursor = page.next_cursor
        if cursor is None:
            return pages


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_pages_show_everybody_once_in_both_directions(plain: Organization, ordering: str) -> None:
    made = people(plain, 57)
    make_account(plain_organization("other"))

    forward = walk(plain, ordering, AccountFilters(), 10)

    assert sorted(pk for page in forward for pk in page) == sorted(a.pk for a in made)
    assert [len(page) for page in forward] == [10, 10, 10, 10, 10, 7]
    page = explorer(plain, AccountFilters(), ordering=ordering, limit=10)
    assert page.previous_cursor is None
    for _ in range(5):
        page = explorer(plain, AccountFilters(), ordering=ordering, cursor=page.next_cursor, limit=10)
    backward = [[row.pk for row in page.rows]]
    while page.previous_cursor:
        page = explorer(plain, AccountFilters(), ordering=ordering, cursor=page.previous_cursor, limit=10)
        backward.insert(0, [row.pk for row in page.rows])
    assert backward == forward
    turned = ordering.removeprefix("-") if ordering.startswith("-") else f"-{ordering}"
    assert [pk for page in walk(plain, turned, AccountFilters(), 10) for pk in page] == [
        pk for page in reversed(forward) for pk in reversed(page)
    ]


@pytest.mark.parametrize("rows_walked", [0, 7, 1000])
@pytest.mark.parametrize("ordering", ["name", "-last_active"])
def test_pages_of_many_people_are_those_of_the_order_however_they_were_found(
    plain: Organization, monkeypatch: pytest.MonkeyPatch, ordering: str, rows_walked: int
) -> None:
    people(plain, 60)
    filters, _ = AccountFilters.parse({"added_days": "1"})
    expected = [row.pk for row in explorer(plain, filters, ordering=ordering, limit=100).rows]
    assert 10 < len(expected) < 60
    module = importlib.import_module("apps.users.selectors.explorer")
    monkeypatch.setattr(module, "COUNT_CAP", 6)
    monkeypatch.setattr(module, "WALK_ROWS", rows_walked)

    assert [pk for page in walk(plain, ordering, filters, 4) for pk in page] == expected
    last = explorer(plain, filters, ordering=ordering, limit=100)
    assert (last.count.value, last.count.is_capped) == (5, True)


def test_order_follows_the_key_and_missing_instants_come_last_when_newest_first(plain: Organization) -> None:
    people(plain, 40)

    rows = explorer(plain, AccountFilters(), ordering="-last_active", limit=100).rows

    instants = [row.last_active_at for row in rows]
    known = [at for at in instants if at is not None]
    assert known == sorted(known, reverse=True)
    assert instants[len(known) :] == [None] * (len(rows) - len(known))


def test_page_after_a_person_who_was_deleted_goes_on(plain: Organization) -> None:
    made = people(plain, 20)
    first = explorer(plain, AccountFilters(), limit=5)
    Account.objects.filter(pk__in=[row.pk for row in first.rows]).update(vanished_at=timezone.now())

    rest = explorer(plain, AccountFilters(), cursor=first.next_cursor, limit=100)

    assert len(rest.rows) == len(made) - 5


def test_queries_are_as_many_for_two_rows_as_for_twenty(
    plain: Organization, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    group = make_group(plain, "staff")
    protect_group(group=group, actor=ANNA)
    for account in people(plain, 25):
        Account.objects.filter(pk=account.pk).update(group_ids=[group.pk])
        ProductAccess.objects.create(
            organization=plain, account=account, product="jira", resource="ari:1", activity=2, group_ids=[group.pk]
        )
    filters, _ = AccountFilters.parse({"group": str(group.pk), "search": "ann"})

    counts = []
    for limit in (2, 20):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            page = explorer(plain, filters, limit=limit)
        counts.append(len(queries))
        assert page.rows[0].is_protected

    assert counts == [5, 5]


@pytest.mark.parametrize("cursor", ["x", "W10", "🙂", "WyJuYW1lIiwwLCJhIl0", "a" * 5000])
def test_cursor_that_makes_no_sense_is_refused(plain: Organization, cursor: str) -> None:
    with pytest.raises(InvalidInput):
        explorer(plain, AccountFilters(), cursor=cursor)


@pytest.mark.parametrize("place", [("added", "name"), ("name", "added")])
def test_cursor_of_another_order_is_refused(plain: Organization, place: tuple[str, str]) -> None:
    people(plain, 5)
    written_for, used_for = place
    cursor = explorer(plain, AccountFilters(), ordering=written_for, limit=2).next_cursor

    with pytest.raises(InvalidInput):
        explorer(plain, AccountFilters(), ordering=used_for, cursor=cursor)


def test_cursor_with_a_false_key_is_refused(plain: Organization) -> None:
    with pytest.raises(InvalidInput):
        explorer(plain, AccountFilters(), ordering="added", cursor=_Place("added", False, "'; DROP", 1).write())
    with pytest.raises(InvalidInput):
        explorer(plain, AccountFilters(), ordering="shoe size")


def test_counts_stop_at_the_cap(plain: Organization) -> None:
    people(plain, 12)

    assert str(count_matching(plain, AccountFilters().as_q(Context.of(plain)), cap=11)) == "10+"
    assert str(count_matching(plain, AccountFilters().as_q(Context.of(plain)))) == "12"


def test_row_reads_well(plain: Organization) -> None:
    now = timezone.now()
    group = make_group(plain, "jira-users")
    account = make_account(
        plain,
        name="Hazel Mockup",
        group_ids=[group.pk],
        products=3,
        is_activity_read=True,
        claim_status=2,
        membership_status=MembershipStatus.SUSPENDED,
        last_active_at=now - timedelta(days=74),
        added_to_org_at=now.replace(year=2023, month=3, day=14),
    )
    for product, activity, days in (("jira", 3, 74), ("jira", 2, None), ("confluence", 2, None), ("trello", 1, None)):
        ProductAccess.objects.create(
            organization=plain,
            account=account,
            product=product,
            resource=f"ari:{product}/{days}",
            site="larkspur",
            activity=activity,
            last_active_at=now - timedelta(days=days) if days else None,
            group_ids=[group.pk],
        )

    row = explorer(plain, AccountFilters(), now=now).rows[0]

    assert (row.name, row.initials, row.added, row.is_external) == ("Hazel Mockup", "HM", "14 Mar 2023", True)
    assert row.membership_status_label == "Suspended"
    assert [tag.name for tag in row.groups] == ["jira-users"]
    assert [(use.short_label, use.age, use.is_stale) for use in row.logins] == [
        ("Jira", "74 d", True),
        ("Confluence", "never", False),
        ("Trello", "not known", False),
    ]
    assert len(row.products) == 4
    assert row.products[0].via[0].name == "jira-users"


def test_person_without_a_name_is_called_by_account_id(plain: Organization) -> None:
    account = make_account(plain, name="", email=None, sort_name="557058:x")

    row = explorer(plain, AccountFilters()).rows[0]

    assert (row.name, row.email) == (account.account_id, None)


# --- filters ----------------------------------------------------------------------------------------------------------


def test_filters_survive_the_address(plain: Organization) -> None:
    query = QueryDict(
        "search=ann&account_status=active&claim_status=all&group=5&group=6&group_none=7,8&product=jira"
        "&inactive_days=60&inactive_product=jira&added_days=60&exempt=false&partition=inactive&days=90&domain=a.example"
        "&ordering=-name&limit=20&membership_status="
    )

    filters, errors = AccountFilters.parse(query)

    assert errors == {}
    assert [condition.name for condition in filters.conditions] == [
        "search", "account_status", "group", "group_none", "product", "inactive_days", "added_days", "exempt",
        "domain", "partition",
    ]  # fmt: skip
    again, errors = AccountFilters.parse(QueryDict(filters.query_string()))
    assert (again, errors) == (filters, {})
    chips = filters.chips(Context.of(plain))
    assert chips[5].sentence == "No login in Jira Software for more than 60 days"
    without, _ = AccountFilters.parse(QueryDict(chips[0].without))
    assert without.conditions == filters.conditions[1:]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"inactive_days": "0"}, "inactive_days"),
        ({"inactive_days": "-1"}, "inactive_days"),
        ({"inactive_days": "soon"}, "inactive_days"),
        ({"account_status": "purple"}, "account_status"),
        ({"added_before": "31.12.2025"}, "added_before"),
        ({"exempt": "maybe"}, "exempt"),
        ({"partition": "inactive", "days": "x"}, "days"),
    ],
)
def test_filters_name_what_is_wrong(given: dict[str, str], field: str) -> None:
    filters, errors = AccountFilters.parse(given)

    assert list(errors) == [field]
    assert not filters


def test_documented_example_contractors_added_long_ago_external(plain: Organization) -> None:
    now = timezone.now()
    group = make_group(plain, "contractors")
    wanted = make_account(plain, group_ids=[group.pk], claim_status=2, added_to_org_at=now - timedelta(days=61))
    make_account(plain, group_ids=[group.pk], claim_status=1, added_to_org_at=now - timedelta(days=61))
    make_account(plain, group_ids=[group.pk], claim_status=2, added_to_org_at=now - timedelta(days=59))
    make_account(plain, claim_status=2, added_to_org_at=now - timedelta(days=61))

    filters, _ = AccountFilters.parse({"group": str(group.pk), "added_days": "60", "external_only": "true"})

    assert [row.pk for row in explorer(plain, filters).rows] == [wanted.pk]


def test_vanished_people_are_in_no_list(plain: Organization) -> None:
    make_account(plain, vanished_at=timezone.now())

    assert explorer(plain, AccountFilters()).rows == []
    assert dashboard_counts(plain).total == 0


# --- figures ----------------------------------------------------------------------------------------------------------


def test_parts_add_up_and_agree_with_the_lists_behind_them(plain: Organization) -> None:
    people(plain, 40)
    make_account(plain, membership_status=MembershipStatus.SUSPENDED)
    make_account(plain, account_status=AccountStatus.INACTIVE)
    make_account(plain, is_activity_read=True)
    make_account(plain, has_unknown_activity=True, products=1)

    counts = dashboard_counts(plain, 30)

    parts = {
        part: getattr(counts, part)
        for part in ("active", "inactive", "never_active", "unknown", "suspended", "deactivated", "no_licence")
    }
    assert sum(parts.values()) == counts.total == 44
    for part, number in parts.items():
        filters, _ = AccountFilters.parse({"partition": part, "days": "30"})
        assert explorer(plain, filters).count.value == number, part
    assert counts.inactive_card == parts["inactive"] + parts["never_active"] + 2
    filters, _ = AccountFilters.parse({"inactive_days": "30", "inactive_product": "jira"})
    assert next(c.idle for c in counts.products if c.product == "jira") == explorer(plain, filters).count.value
    assert counts.licensed == licensed_count(plain)


def test_counts_come_from_the_cache_until_something_changes(
    plain: Organization, django_assert_num_queries: DjangoAssertNumQueries, django_capture_on_commit_callbacks: Any
) -> None:
    account = make_account(plain)
    assert dashboard_counts(plain).total == 1
    make_account(plain)

    with django_assert_num_queries(1):
        assert dashboard_counts(plain).total == 1
    with django_capture_on_commit_callbacks(execute=True):
        mark_pending(account, 5)

    assert dashboard_counts(plain).total == 2


def test_groups_are_searched_by_a_part_of_their_name(plain: Organization) -> None:
    make_group(plain, "Jira Users")
    make_group(plain, "100% staff")
    make_group(plain, "gone", vanished_at=timezone.now())

    assert [group.name for group in groups(plain)] == ["100% staff", "Jira Users"]
    assert [group.name for group in groups(plain, "ira u")] == ["Jira Users"]
    assert [group.name for group in groups(plain, "%")] == ["100% staff"]


# --- one person -------------------------------------------------------------------------------------------------------


def test_person_shows_ways_of_access(plain: Organization) -> None:
    group = make_group(plain, "jira-users")
    protect_group(group=group, actor=Actor.system())
    account = make_account(plain, group_ids=[group.pk], is_org_admin=True, products=7)
    values: dict[str, Any] = {
        "organization": plain,
        "account": account,
        "activity": 3,
        "last_active_at": timezone.now(),
    }
    ProductAccess.objects.create(product="confluence", resource="ari:c", **values)
    ProductAccess.objects.create(product="jira", resource="ari:j", group_ids=[group.pk], **values)
    ProductAccess.objects.create(product="jsm", resource="ari:s", direct=ProductAccess.Direct.YES, **values)
    DirectoryMembership.objects.create(
        organization=plain, account=account, directory=group.directory, status=MembershipStatus.ACTIVE
    )
    Exemption.objects.create(organization=plain, account=account, reason="x", starts_at=timezone.now(), set_by="Anna")

    detail = person_detail(plain, account.account_id)

    ways = {
        path.use.product: ([tag.name for tag in path.groups], path.is_direct, path.is_way_unknown)
        for path in detail.paths
    }
    assert ways == {
        "confluence": ([], False, True),
        "jira": (["jira-users"], False, False),
        "jsm": ([], True, False),
    }
    assert detail.protected_because == ("Administers the organisation.", "Member of the protected group jira-users.")
    assert [state.name for state in detail.directories] == ["People"]
    assert len(detail.exemptions) == 1
    assert person_detail(plain, account.pk).row == detail.row


def test_person_of_another_organisation_is_missing(plain: Organization) -> None:
    stranger = make_account(plain_organization("other"))

    for key in (stranger.pk, stranger.account_id):
        with pytest.raises(Missing):
            person_detail(plain, key)


def test_person_exempt_by_a_group_is_shown_as_exempt(plain: Organization) -> None:
    group = make_group(plain, "board")
    account = make_account(plain, group_ids=[group.pk])
    GroupMembership.objects.create(organization=plain, account=account, group=group)
    Exemption.objects.create(organization=plain, group=group, reason="x", starts_at=timezone.now(), set_by="Anna")

    row = explorer(plain, AccountFilters()).rows[0]

    assert (row.is_exempt, row.exempt) == (True, "by group, domain or kind")
    assert person_detail(plain, account.pk).row.is_exempt
