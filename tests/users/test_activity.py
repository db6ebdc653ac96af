"""P1, case by case: what was given before and now, what groups grant, and what the mirror then says."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apps.organizations.models import Organization
from apps.users.models import Account, Activity, Group, ProductAccess
from apps.users.predicates import Context, InactiveDays, NeverActiveDays, Partition, all_of, partition_case
from apps.users.services import mirror_people
from aum.atlassian.schemas import GroupRef, Person, ProductActivity
from tests.users.conftest import make_group

pytestmark = pytest.mark.django_db

JIRA = "ari:cloud:jira-software::site/1"
CONFLUENCE = "ari:cloud:confluence::site/1"
OLD = datetime(2026, 3, 1, 10, tzinfo=UTC)
NEWER = datetime(2026, 9, 1, 10, tzinfo=UTC)

# What Atlassian gives: no list (not asked for, throttled, failed), an empty list, an entry without an instant, a date.
LISTS: dict[str, tuple[ProductActivity, ...] | None] = {
    "absent": None,
    "empty": (),
    "null": (ProductActivity(JIRA, "jira-software", None),),
    "date": (ProductActivity(JIRA, "jira-software", NEWER),),
    "other": (ProductActivity(CONFLUENCE, "confluence", NEWER),),
}
BEFORE: dict[str, tuple[ProductActivity, ...] | None] = {
    "new": None,
    "never": (),
    "old": (ProductActivity(JIRA, "jira-software", OLD),),
}
GROUPS = ("none", "grants", "unread")

U, N, K, X = Activity.UNKNOWN, Activity.NEVER, Activity.KNOWN, Activity.NOT_APPLICABLE


@dataclass(frozen=True)
class Case:
    before: str
    group: str
    given: str

    def expected(self) -> tuple[Activity, datetime | None]:
        """The state of Jira, written down independently of the SQL."""
        is_held = self.group == "grants"
        had_date = self.before == "old"
        if self.given == "date":
            return K, NEWER
        if self.given == "null":
            return U, OLD if had_date else None
        if self.given == "absent":
            # nothing was read: what was held is still held, and its use is unknown
            was_known_to_hold = had_date or (self.before == "never" and is_held)
            return (U, OLD if had_date else None) if is_held or was_known_to_hold else (X, None)
        if not is_held:
            return X, None  # a list without the product, and no group that gives it: no access
        # a list without the product: never, unless a date says otherwise
        return (U, OLD) if had_date else (N, None)


CASES = [Case(*parts) for parts in itertools.product(BEFORE, GROUPS, LISTS)]


def person(products: tuple[ProductActivity, ...] | None, groups: tuple[GroupRef, ...] = ()) -> Person:
    return Person(
        account_id="557058:1",
        name="Ada",
        email="ada@example.com",
        status="active",
        account_status="active",
        membership_status="active",
        claim_status="managed",
        account_type="atlassian",
        management_source="invited",
        added_to_org_at=datetime(2024, 1, 1, tzinfo=UTC),
        platform_roles=(),
        products=products,
        groups=groups,
    )


def granting(organization: Organization, kind: str) -> tuple[GroupRef, ...]:
    if kind == "none":
        return ()
    grants = [{"product": "jira", "resource": JIRA, "site": "one", "role": "atlassian/user", "seat": True}]
    make_group(organization, "staff", grants=grants, are_grants_known=kind == "grants")
    return (GroupRef("g-staff", "staff"),)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.before}-{c.group}-{c.given}")
def test_activity_has_three_values(plain: Organization, case: Case) -> None:
    groups = granting(plain, case.group)
    if case.before != "new":
        mirror_people(plain, [person(BEFORE[case.before], groups)], read_at=timezone.now())

    mirror_people(plain, [person(LISTS[case.given], groups)], read_at=timezone.now())

    account = Account.objects.get()
    state, date = case.expected()
    assert (account.jira_activity, account.jira_last_active_at) == (state, date)
    row = ProductAccess.objects.filter(product="jira").first()
    assert (row is not None) == (state != X)
    if row is not None:
        assert (row.activity, row.last_active_at) == (state, date)
    other = NEWER if case.given == "other" else None
    assert account.last_active_at == max((d for d in (date, other) if d), default=None)
    is_nothing_held = state == X and case.given != "other"
    assert account.has_unknown_activity == (
        state == U or case.given == "absent" or (is_nothing_held and case.group == "unread")
    )


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.before}-{c.group}-{c.given}")
def test_no_rule_meets_anybody_whose_activity_is_unknown(plain: Organization, case: Case) -> None:
    groups = granting(plain, case.group)
    if case.before != "new":
        mirror_people(plain, [person(BEFORE[case.before], groups)], read_at=timezone.now())
    mirror_people(plain, [person(LISTS[case.given], groups)], read_at=timezone.now())
    # long after every date and every first sight
    context = Context.of(plain, now=timezone.now() + timedelta(days=900))

    def meets(condition: InactiveDays | NeverActiveDays) -> bool:
        return Account.objects.filter(all_of([condition], context)).exists()

    state, _ = case.expected()
    assert meets(InactiveDays(60, ("jira",))) == (state == K)
    assert meets(NeverActiveDays(60, ("jira",))) == (state == N)
    account = Account.objects.get()
    if account.has_unknown_activity:
        assert not meets(InactiveDays(60))
        assert not meets(NeverActiveDays(60))
        part = Account.objects.annotate(part=partition_case(context.cutoff(60))).get().part
        assert part == Partition.UNKNOWN


def test_known_date_counts_though_another_product_is_unknown(plain: Organization) -> None:
    given = (ProductActivity(JIRA, "jira", NEWER), ProductActivity(CONFLUENCE, "confluence", None))
    mirror_people(plain, [person(given)], read_at=timezone.now())

    parts = {
        days: Account.objects.annotate(part=partition_case(NEWER + timedelta(days=days))).get().part for days in (-1, 1)
    }

    # inside the range the person is active whatever else is unknown; outside it nothing is certain
    assert parts == {-1: Partition.ACTIVE, 1: Partition.UNKNOWN}


def test_product_is_unknown_when_one_of_its_sites_is(plain: Organization) -> None:
    second = "ari:cloud:jira-software::site/2"
    given = (ProductActivity(JIRA, "jira-software", OLD), ProductActivity(second, "jira-software", None))

    mirror_people(plain, [person(given)], read_at=timezone.now())

    account = Account.objects.get()
    assert (account.jira_activity, account.jira_last_active_at) == (U, OLD)
    assert ProductAccess.objects.count() == 2


def test_newest_site_counts_when_all_are_known(plain: Organization) -> None:
    second = "ari:cloud:jira-software::site/2"
    given = (ProductActivity(JIRA, "jira-software", NEWER), ProductActivity(second, "jira-software", OLD))

    mirror_people(plain, [person(given)], read_at=timezone.now())

    assert Account.objects.get().jira_last_active_at == NEWER


def test_date_never_goes_back(plain: Organization) -> None:
    mirror_people(plain, [person(LISTS["date"])], read_at=timezone.now())
    mirror_people(plain, [person(BEFORE["old"])], read_at=timezone.now())

    assert Account.objects.get().last_active_at == NEWER


def test_other_products_keep_their_key(plain: Organization) -> None:
    given = (ProductActivity("ari:cloud:trello::site/1", "trello", NEWER), ProductActivity("", "opsgenie", None))

    mirror_people(plain, [person(given)], read_at=timezone.now())

    account = Account.objects.get()
    assert (account.products, account.last_active_at, account.has_unknown_activity) == (16, NEWER, True)
    assert set(ProductAccess.objects.values_list("product", flat=True)) == {"trello", "opsgenie"}


@pytest.mark.parametrize(
    ("key", "product"),
    [
        ("jira-software", "jira"),
        ("jira", "jira"),
        ("jira-service-desk", "jsm"),
        ("jira-servicemanagement", "jsm"),
        ("confluence", "confluence"),
        ("bitbucket", "bitbucket"),
        ("jira-core", "jira-core"),
    ],
)
def test_keys_of_atlassian_map_to_products(plain: Organization, key: str, product: str) -> None:
    mirror_people(plain, [person((ProductActivity("ari:x/1", key, NEWER),))], read_at=timezone.now())

    assert ProductAccess.objects.get().product == product


def test_seatless_roles_of_a_group_give_no_product(plain: Organization) -> None:
    grants = [{"product": "jsm", "resource": "ari:x/1", "site": "", "role": "atlassian/customer", "seat": False}]
    make_group(plain, "customers", grants=grants, are_grants_known=True)

    mirror_people(plain, [person((), (GroupRef("g-customers", "customers"),))], read_at=timezone.now())

    assert Account.objects.get().products == 0


def test_group_that_no_sync_saw_is_kept_with_unknown_grants(plain: Organization) -> None:
    mirror_people(plain, [person((), (GroupRef("g-new", "brand new"),))], read_at=timezone.now())

    group = Group.objects.get()
    assert (group.name, group.are_grants_known) == ("brand new", False)
    assert Account.objects.get().has_unknown_activity


def test_roles_that_were_not_given_do_not_end_protection(plain: Organization) -> None:
    admin = replace(person(()), platform_roles=("atlassian/org-admin",))
    mirror_people(plain, [admin], read_at=timezone.now())
    mirror_people(plain, [replace(person(()), platform_roles_given=False)], read_at=timezone.now())

    assert Account.objects.get().is_org_admin
    mirror_people(plain, [person(())], read_at=timezone.now())
    assert not Account.objects.get().is_org_admin


@pytest.mark.parametrize(
    ("name", "email", "account_type", "kind"),
    [
        ("Ada Lovelace", "ada@example.com", "atlassian", 1),
        ("Abbot Costello", "abbot@example.com", "atlassian", 1),
        ("Ci Wang", "ci.wang@example.com", "atlassian", 1),
        ("Build Bot", None, "atlassian", 4),
        ("Nightly", "bot-nightly@example.com", "atlassian", 4),
        ("Backup", "svc-backup@example.com", "atlassian", 2),
        ("Terraform Automation", "tf@example.com", "atlassian", 2),
        ("x", "slack@connect.atlassian.com", "atlassian", 3),
        ("Forge", None, "app", 3),
    ],
)
def test_kinds_are_told_apart(plain: Organization, name: str, email: str | None, account_type: str, kind: int) -> None:
    somebody = replace(person(()), name=name, email=email, account_type=account_type)
    mirror_people(plain, [somebody], read_at=timezone.now())

    assert Account.objects.get().kind == kind


@pytest.mark.parametrize("name", ["", "=HYPERLINK(1)", "<b>x</b>", "李小龍", "محمد", "e\u0301" * 300, "😀", "  "])
def test_odd_names_are_kept_and_sorted(plain: Organization, name: str) -> None:
    mirror_people(plain, [replace(person(()), name=name)], read_at=timezone.now())

    account = Account.objects.get()
    assert account.name == name[:500]
    assert account.sort_name
