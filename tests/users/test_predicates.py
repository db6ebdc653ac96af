"""The predicates' SQL against plain Python over random accounts, boundary seconds included."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.http import QueryDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.organizations.models import Organization
from apps.users import predicates as p
from apps.users.models import Account, Activity, Exemption, Group, Product, ProductAccess, ProtectedGroup
from apps.users.selectors import AccountFilters, explorer
from apps.users.text import fold
from tests.users.conftest import make_account, make_group, plain_organization

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
MARGIN = timedelta(hours=48)
DAYS = (1, 7, 30, 60)
OTHER = "trello"

# Instants around every threshold: the boundary itself, a microsecond and a second to either side.
BOUNDARIES = [
    NOW - timedelta(days=days) - margin + step
    for days in DAYS
    for margin in (timedelta(0), MARGIN)
    for step in (timedelta(0), timedelta(microseconds=1), -timedelta(microseconds=1), timedelta(seconds=1))
]
dates = st.one_of(
    st.sampled_from(BOUNDARIES),
    st.datetimes(min_value=datetime(2023, 1, 1), max_value=datetime(2026, 11, 25), timezones=st.just(UTC)),
)
instants = st.one_of(st.none(), dates)
names = st.text(alphabet="abcdeéÉßöЖ李 %_\\'", max_size=12)


@st.composite
def products(draw: st.DrawFn) -> dict[str, tuple[int, datetime | None, datetime | None]]:
    """Product → (activity, last active, first seen grant), as a sync can leave them."""
    found = {}
    for product in (*Product.values, OTHER):
        state = draw(st.sampled_from([None, Activity.UNKNOWN, Activity.NEVER, Activity.KNOWN]))
        if state is None:
            continue
        at = draw(dates) if state == Activity.KNOWN else draw(instants) if state == Activity.UNKNOWN else None
        found[str(product)] = (int(state), at, draw(instants))
    return found


@st.composite
def accounts(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(names)
    domain = draw(st.sampled_from(["example.com", "sub.example.com", "Example.COM", "other.example"]))
    return {
        "name": name,
        "sort_name": fold(name) or "557058:x",
        "email": draw(st.one_of(st.none(), st.just(f"{draw(st.sampled_from(['ann', 'BOB', 'a_b', 'a%b']))}@{domain}"))),
        "account_status": draw(st.sampled_from([0, 1, 1, 1, 2, 3])),
        "membership_status": draw(st.sampled_from([0, 1, 1, 1, 2, 3])),
        "claim_status": draw(st.sampled_from([0, 1, 2])),
        "management_source": draw(st.sampled_from([0, 1, 2])),
        "is_for_deletion": draw(st.sampled_from([False, False, False, True])),
        "kind": draw(st.sampled_from([1, 1, 1, 2, 3, 4])),
        "is_kind_released": draw(st.booleans()),
        "is_org_admin": draw(st.sampled_from([False, False, True])),
        "is_site_admin": draw(st.sampled_from([False, False, True])),
        "is_connection_owner": draw(st.sampled_from([False, False, False, True])),
        "added_to_org_at": draw(instants),
        "first_seen_at": draw(dates),
        "status_changed_at": draw(instants),
        "idle_floor_at": draw(instants),
        "exempt_until": draw(
            st.one_of(instants, st.sampled_from([NOW, NOW + timedelta(seconds=1), datetime(9999, 1, 1, tzinfo=UTC)]))
        ),
        "is_activity_read": draw(st.sampled_from([True, True, False])),
        "groups": draw(st.sets(st.sampled_from([0, 1, 2]))),
        "access": draw(products()),
        "vanished_at": draw(st.sampled_from([None, None, None, NOW])),
    }


def derived(data: dict[str, Any]) -> dict[str, Any]:
    """The columns that a merge would derive from the account's product access."""
    access = data["access"]
    dates = [at for _, at, _ in access.values() if at]
    columns: dict[str, Any] = {
        "products": sum({"jira": 1, "confluence": 2, "jsm": 4, "bitbucket": 8}.get(name, 16) for name in access),
        "last_active_at": max(dates, default=None),
        "has_unknown_activity": not data["is_activity_read"]
        or any(s == Activity.UNKNOWN for s, _, _ in access.values()),
    }
    for product in Product.values:
        state, at, granted = access.get(product, (0, None, None))
        columns |= {
            f"{product}_activity": state,
            f"{product}_last_active_at": at,
            f"{product}_granted_seen_at": granted,
        }
    return columns


# --- the oracle -------------------------------------------------------------------------------------------------------


def latest(*values: datetime | None) -> datetime | None:
    return max((v for v in values if v is not None), default=None)


def idle_from(a: dict[str, Any], names: tuple[str, ...]) -> datetime:
    access = a["access"]
    if names:
        used = latest(*(access[n][1] for n in names if n in access))
        granted = latest(*(access[n][2] for n in names if n in access))
    else:
        used, granted = latest(*(at for _, at, _ in access.values())), None
    over = a["exempt_until"] if a["exempt_until"] and a["exempt_until"] <= NOW else None
    found = latest(used, granted, a["added_to_org_at"], a["idle_floor_at"], over)
    first: datetime = a["first_seen_at"]
    return found or first


def measured(a: dict[str, Any], names: tuple[str, ...]) -> tuple[bool, bool, bool]:
    """(holds, has a date, is unknown) overall or over the named products."""
    held = {n: v for n, v in a["access"].items() if not names or n in names}
    is_unknown = any(state == Activity.UNKNOWN for state, _, _ in held.values())
    if not names:
        is_unknown = is_unknown or not a["is_activity_read"]
    return bool(held), any(at for _, at, _ in held.values()), is_unknown


def is_inactive(a: dict[str, Any], names: tuple[str, ...], cutoff_at: datetime) -> bool:
    holds, dated, unknown = measured(a, names)
    return holds and dated and not unknown and idle_from(a, names) < cutoff_at


def is_never(a: dict[str, Any], names: tuple[str, ...], cutoff_at: datetime) -> bool:
    holds, dated, unknown = measured(a, names)
    return holds and not dated and not unknown and idle_from(a, names) < cutoff_at


def part_of(a: dict[str, Any], cutoff_at: datetime) -> str:
    columns = derived(a)
    if a["account_status"] in (2, 3) or a["is_for_deletion"]:
        return "deactivated"
    if a["membership_status"] == 2:
        return "suspended"
    if a["membership_status"] == 3 or (not a["access"] and a["is_activity_read"]):
        return "no_licence"
    if 0 in (a["account_status"], a["membership_status"]):
        return "unknown"
    newest = columns["last_active_at"]
    if newest and newest >= cutoff_at:
        return "active"
    if columns["has_unknown_activity"]:
        return "unknown"
    return "inactive" if newest else "never_active"


def is_protected(a: dict[str, Any]) -> bool:
    return bool(
        a["is_org_admin"]
        or a["is_site_admin"]
        or a["is_connection_owner"]
        or 0 in a["groups"]
        or (a["kind"] != 1 and not a["is_kind_released"])
    )


def contains(a: dict[str, Any], text: str) -> bool:
    email = a["email"]
    folded = fold(text)
    if not folded:
        return True
    if len(folded) < 3:
        return a["sort_name"].startswith(folded) or bool(email and email.lower().startswith(text.strip().lower()))
    return folded in a["sort_name"] or bool(email and text.strip().lower() in email.lower())


def direct_role(state: int) -> int:
    """Whether a role gives the product without a group: made up from the activity, so that all three occur."""
    return {Activity.KNOWN: ProductAccess.Direct.YES, Activity.NEVER: ProductAccess.Direct.NO}.get(  # type: ignore[call-overload, no-any-return]
        state, ProductAccess.Direct.UNKNOWN
    )


def has_unseen_way(a: dict[str, Any], name: str) -> bool:
    is_unread = direct_role(a["access"][name][0]) == ProductAccess.Direct.UNKNOWN
    return is_unread and not (name == "jira" and 1 in a["groups"])


def uses_one(a: dict[str, Any], cutoff_at: datetime) -> bool:
    held = {n: v for n, v in a["access"].items() if n in Product.values}
    used = [n for n, v in held.items() if v[1] and v[1] >= cutoff_at]
    if len(held) < 2 or len(used) != 1 or any(state == Activity.UNKNOWN for state, _, _ in held.values()):
        return False
    return all(idle_from(a, (n,)) < cutoff_at for n in held if n not in used)


def is_open(a: dict[str, Any], predicate: p.Predicate) -> bool:
    """Whether the answer is not known, so that "not" does not hold either."""
    name, chosen = predicate.name, getattr(predicate, "products", ())
    values = getattr(predicate, "values", ())
    if name in ("search", "domain"):
        return a["email"] is None
    if name.startswith("added_"):
        return a["added_to_org_at"] is None
    if name == "account_status":
        return "unknown" not in values and a["account_status"] == 0 and not a["is_for_deletion"]
    if name in ("membership_status", "claim_status"):
        return "unknown" not in values and a[name] == 0
    if name == "partition":
        return part_of(a, NOW - timedelta(days=predicate.days) - MARGIN) == "unknown"  # type: ignore[attr-defined]
    if name == "uses_one_product":
        held = {n: v for n, v in a["access"].items() if n in Product.values}
        return any(state == Activity.UNKNOWN for state, _, _ in held.values())
    if name == "never_accepted_days":
        dated = any(at for _, at, _ in a["access"].values())
        return measured(a, ())[2] or (not a["is_activity_read"] and not dated)
    if name == "active_days":
        since = NOW - timedelta(days=predicate.days)  # type: ignore[attr-defined]
        newest = latest(*(v[1] for k, v in a["access"].items() if not chosen or k in chosen))
        return measured(a, chosen)[2] and (newest is None or newest < since)
    if name == "grants":
        return "direct" in values and any(
            direct_role(state) == ProductAccess.Direct.UNKNOWN for state, _, _ in a["access"].values()
        )
    return predicate.reads_activity and measured(a, chosen)[2]


SEARCHES = ("a", "an", "ann", "BOB", "É", "éa", "bob@ex", "_", "%", "a_b", "a%b", "\\", "ß", "example.com", "zzz")
STATUS = {"active": 1, "deactivated": 2, "closed": 3, "unknown": 0}
MEMBER = {"active": 1, "suspended": 2, "no_membership": 3, "unknown": 0}
PRODUCT_LISTS: tuple[tuple[str, ...], ...] = ((), ("jira",), ("jira", "confluence"), (OTHER,), ("jsm", OTHER))
Test = Callable[[dict[str, Any]], bool]


def cases(pks: list[int]) -> list[tuple[p.Predicate, Test]]:
    """Each predicate with what it means in Python."""

    def cut(days: int) -> datetime:
        return NOW - timedelta(days=days) - MARGIN

    at = BOUNDARIES[0]

    def newest(a: dict[str, Any], n: tuple[str, ...]) -> datetime | None:
        return latest(*(v[1] for k, v in a["access"].items() if not n or k in n))

    found: list[tuple[p.Predicate, Test]] = []
    for word, code in STATUS.items():
        found.append(
            (
                p.AccountStatusIs((word,)),
                lambda a, c=code: a["account_status"] == c and (c == 3 or not a["is_for_deletion"]),
            )
        )
    found.append((p.AccountStatusIs(("for_deletion",)), lambda a: a["is_for_deletion"]))
    for word, code in MEMBER.items():
        found.append((p.MembershipStatusIs((word,)), lambda a, c=code: a["membership_status"] == c))
    for word, code in {"managed": 1, "external": 2, "unknown": 0}.items():
        found.append((p.ClaimStatusIs((word,)), lambda a, c=code: a["claim_status"] == c))
    for word, code in {"person": 1, "service": 2, "app": 3, "bot": 4}.items():
        found.append((p.KindIs((word,)), lambda a, c=code: a["kind"] == c))
    for value in (True, False):
        found += [
            (p.IsSynced(value), lambda a, v=value: (a["management_source"] == 2) == v),
            (p.ExternalOnly(value), lambda a, v=value: (a["claim_status"] == 2) == v),
            (p.IsExempt(value), lambda a, v=value: bool(a["exempt_until"] and a["exempt_until"] > NOW) == v),
            (p.IsProtected(value), lambda a, v=value: is_protected(a) == v),
            (p.IsProtected(value, (pks[1],)), lambda a, v=value: (is_protected(a) or 1 in a["groups"]) == v),
        ]
    for chosen in ({0}, {0, 1}, {1, 2}):
        keys = tuple(str(pks[i]) for i in chosen)
        found += [
            (p.InAnyGroup(keys), lambda a, c=chosen: bool(a["groups"] & c)),
            (p.InAllGroups(keys), lambda a, c=chosen: a["groups"] >= c),
            (p.InNoGroup(keys), lambda a, c=chosen: not a["groups"] & c),
        ]
    found += [
        (p.GetsBy(("jira",)), lambda a: 1 in a["groups"]),
        (p.GetsBy(("confluence", "administration")), lambda a: bool(a["groups"] & {1, 2})),
        (p.GetsBy(("bitbucket",)), lambda a: False),
        (p.GetsBy(("direct",)), lambda a: any(state == Activity.KNOWN for state, _, _ in a["access"].values())),
        (p.GetsBy(("unseen",)), lambda a: any(has_unseen_way(a, name) for name in a["access"])),
        (p.GetsBy(("unseen", "jsm")), lambda a: any(has_unseen_way(a, name) for name in a["access"])),
    ]
    found.append((p.InAnyGroup(("g-one",)), lambda a: 1 in a["groups"]))
    found.append((p.InAnyGroup(("no such group",)), lambda a: False))
    for names_ in PRODUCT_LISTS:
        if names_:
            found.append((p.HoldsProduct(names_), lambda a, n=names_: bool(set(n) & set(a["access"]))))
        found += [
            (
                p.ActivityIs(("known",), names_),
                lambda a, n=names_: (m := measured(a, n)) and m[0] and m[1] and not m[2],
            ),
            (
                p.ActivityIs(("never",), names_),
                lambda a, n=names_: (m := measured(a, n)) and m[0] and not m[1] and not m[2],
            ),
            (p.ActivityIs(("unknown",), names_), lambda a, n=names_: measured(a, n)[2]),
        ]
        for days in DAYS:
            found += [
                (p.InactiveDays(days, names_), lambda a, n=names_, d=days: is_inactive(a, n, cut(d))),
                (p.NeverActiveDays(days, names_), lambda a, n=names_, d=days: is_never(a, n, cut(d))),
                (
                    p.ActiveDays(days, names_),
                    lambda a, n=names_, d=days: bool((x := newest(a, n)) and x >= NOW - timedelta(days=d)),
                ),
            ]
        found += [
            (p.LastActiveBefore(at, names_), lambda a, n=names_: bool((x := newest(a, n)) and x < at)),
            (p.LastActiveAfter(at, names_), lambda a, n=names_: bool((x := newest(a, n)) and x >= at)),
        ]
    for days in DAYS:
        edge = NOW - timedelta(days=days)
        found += [
            (p.AddedBefore(edge), lambda a, e=edge: bool(a["added_to_org_at"] and a["added_to_org_at"] < e)),
            (p.AddedAfter(edge), lambda a, e=edge: bool(a["added_to_org_at"] and a["added_to_org_at"] >= e)),
            (p.AddedDaysAgo(days), lambda a, e=edge: bool(a["added_to_org_at"] and a["added_to_org_at"] < e)),
            (p.UsesOneProduct(days), lambda a, d=days: uses_one(a, cut(d))),
            (
                p.NeverAcceptedDays(days),
                lambda a, d=days: (
                    not newest(a, ()) and not measured(a, ())[2] and a["is_activity_read"] and idle_from(a, ()) < cut(d)
                ),
            ),
            (p.StatusForDays(days), lambda a, e=edge: (a["status_changed_at"] or a["first_seen_at"]) < e),
        ]
        found += [
            (p.PartitionIs((part,), days), lambda a, w=part, d=days: part_of(a, cut(d)) == w)
            for part in p.Partition.values
        ]
    found += [(p.SearchText(text), lambda a, t=text: contains(a, t)) for text in SEARCHES]
    found.append(
        (
            p.EmailDomain(("example.com",)),
            lambda a: bool(a["email"] and a["email"].lower().endswith("@example.com")),
        )
    )
    return found


def store(organization: Organization, data: dict[str, Any], pks: list[int]) -> Account:
    plain = {key: value for key, value in data.items() if key not in ("groups", "access")}
    account = make_account(organization, **plain, **derived(data), group_ids=sorted(pks[i] for i in data["groups"]))
    if data["exempt_until"]:
        Exemption.objects.create(
            organization=organization,
            account=account,
            reason="leave",
            starts_at=min(data["exempt_until"], NOW) - timedelta(days=1),
            until=data["exempt_until"],
            set_by="test",
        )
    for product, (state, at, granted) in data["access"].items():
        ProductAccess.objects.create(
            organization=organization,
            account=account,
            product=product,
            resource=f"ari:{product}",
            activity=state,
            last_active_at=at,
            granted_seen_at=granted,
            direct=direct_role(state),
            group_ids=[pks[1]] if product == "jira" and 1 in data["groups"] else [],
        )
    return account


GRANTS: dict[str, dict[str, Any]] = {
    "zero": {},
    "one": {"granted_products": 3},
    "two": {"is_administrative": True},
}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    people=st.lists(accounts(), min_size=1, max_size=20),
    combinations=st.lists(st.lists(st.integers(0, 10_000), min_size=2, max_size=4), min_size=6, max_size=6),
)
def test_sql_means_what_python_means(
    plain: Organization, people: list[dict[str, Any]], combinations: list[list[int]]
) -> None:
    """Each filter alone, and several at once through the explorer."""
    plain.activity_margin_hours = int(MARGIN.total_seconds() // 3600)
    with transaction.atomic():
        pks = [make_group(plain, name, **fields).pk for name, fields in GRANTS.items()]
        ProtectedGroup.objects.create(
            organization=plain, group=Group.objects.get(pk=pks[0]), added_at=NOW, added_by="test"
        )
        stored = [(store(plain, data, pks).pk, data) for data in people]
        context = p.Context(plain, NOW, MARGIN)
        for predicate, means in cases(pks):
            found = set(Account.objects.of(plain).filter(p.all_of([predicate], context)).values_list("pk", flat=True))
            wanted = {pk for pk, data in stored if data["vanished_at"] is None and means(data)}
            assert found == wanted, (predicate, [data for pk, data in stored if pk in found ^ wanted])
        known = cases(pks)
        for chosen in combinations:
            picked = [known[number % len(known)] for number in chosen]
            filters = AccountFilters(tuple(dict.fromkeys(predicate for predicate, _ in picked)))
            wanted = {
                pk for pk, data in stored if data["vanished_at"] is None and all(means(data) for _, means in picked)
            }
            found = set(Account.objects.of(plain).filter(filters.as_q(context)).values_list("pk", flat=True))
            assert found == wanted, filters
        assert {row.pk for row in explorer(plain, filters, now=NOW, limit=500).rows} == wanted
        since = dict(Account.objects.of(plain).annotate(since=p.idle_since(now=NOW)).values_list("pk", "since"))
        assert since == {pk: idle_from(data, ()) for pk, data in stored}
        transaction.set_rollback(True)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(accounts(), min_size=10, max_size=30))
def test_the_opposite_of_a_condition_holds_only_where_the_answer_is_known(
    plain: Organization, people: list[dict[str, Any]]
) -> None:
    with transaction.atomic():
        pks = [make_group(plain, name, **fields).pk for name, fields in GRANTS.items()]
        stored = [(store(plain, data, pks).pk, data) for data in people]
        context = p.Context(plain, NOW, MARGIN)
        for predicate, means in cases(pks):
            if predicate.name in p.NOT_IN_RULES:
                continue
            opposite = Account.objects.of(plain).filter(p.live_q() & p.Condition(predicate, True).q(context))
            found = set(opposite.values_list("pk", flat=True))
            wanted = {
                pk
                for pk, data in stored
                if data["vanished_at"] is None and not means(data) and not is_open(data, predicate)
            }
            assert found == wanted, ("not", predicate, [data for pk, data in stored if pk in found ^ wanted])
        transaction.set_rollback(True)


@pytest.mark.parametrize(
    ("step", "is_met"), [(timedelta(microseconds=1), False), (timedelta(0), False), (-timedelta(microseconds=1), True)]
)
def test_inactive_is_strictly_more_than_the_days(plain: Organization, step: timedelta, is_met: bool) -> None:
    edge = NOW - timedelta(days=60) - MARGIN
    make_account(
        plain,
        products=1,
        is_activity_read=True,
        jira_activity=3,
        jira_last_active_at=edge + step,
        last_active_at=edge + step,
        first_seen_at=edge - timedelta(days=1),
    )

    context = p.Context(plain, NOW, MARGIN)

    for names_ in ((), ("jira",)):
        assert Account.objects.filter(p.InactiveDays(60, names_).q(context)).exists() == is_met
    part = Account.objects.annotate(part=p.partition_case(edge)).get().part
    assert part == ("inactive" if is_met else "active")


def test_partition_has_one_part_for_everybody(plain: Organization) -> None:
    for status in range(4):
        for membership in range(4):
            for products_, unknown, at in ((0, False, None), (1, True, None), (1, False, None), (1, False, NOW)):
                make_account(
                    plain,
                    account_status=status,
                    membership_status=membership,
                    products=products_,
                    has_unknown_activity=unknown,
                    last_active_at=at,
                )
    context = p.Context(plain, NOW, MARGIN)

    counts = [Account.objects.filter(p.PartitionIs((part,), 30).q(context)).count() for part in p.Partition.values]

    assert sum(counts) == Account.objects.count() == 64


def test_predicates_see_their_own_organisation_only(plain: Organization) -> None:
    other = plain_organization("other")
    make_account(other, name="Stranger")
    stranger_group = make_group(other, "theirs")
    own = make_account(plain, name="Stranger", group_ids=[stranger_group.pk])

    assert list(p.matching(plain, [p.SearchText("stranger")])) == [own]
    assert list(p.matching(plain, [p.InAnyGroup(("g-theirs",))])) == []
    assert "a missing group" in p.InAnyGroup((str(stranger_group.pk),)).sentence(p.Context.of(plain))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: p.InactiveDays(0), "inactive_days"),
        (lambda: p.InactiveDays(-3), "inactive_days"),
        (lambda: p.InactiveDays("sixty"), "inactive_days"),  # type: ignore[arg-type]
        (lambda: p.InactiveDays("6.5"), "inactive_days"),  # type: ignore[arg-type]
        (lambda: p.InactiveDays(99999), "inactive_days"),
        (lambda: p.AccountStatusIs(("purple",)), "account_status"),
        (lambda: p.AddedBefore("yesterday"), "added_before"),  # type: ignore[arg-type]
        (lambda: p.IsExempt("perhaps"), "exempt"),  # type: ignore[arg-type]
        (lambda: p.InAnyGroup(()), "group"),
        (lambda: p.SearchText(" "), "search"),
        (lambda: p.SearchText("x" * 201), "search"),
        (lambda: p.EmailDomain(("a@b",)), "domain"),
        (lambda: p.PartitionIs(("sleeping",)), "partition"),
        (lambda: p.from_json({"name": "nothing"}), "name"),
        (lambda: p.from_json({"name": "search", "wrong": 1}), "search"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_by_name(make: Callable[[], object], field: str) -> None:
    with pytest.raises(p.PredicateError) as refused:
        make()

    assert refused.value.field == field
    assert str(refused.value).endswith(".")


def test_predicates_survive_json_and_have_sentences(plain: Organization) -> None:
    context = p.Context.of(plain)
    seen = set()
    for predicate, _ in cases([1, 2, 3]):
        assert p.from_json(predicate.as_json()) == predicate
        assert predicate.sentence(context)
        seen.add(predicate.name)

    # Higher apps register predicates too, and try them in their own tests.
    assert seen == {name for name, kind in p.REGISTRY.items() if kind.__module__.startswith(f"{p.__name__}.")}


def test_conditions_are_read_from_texts_and_written_alike() -> None:
    made = p.condition_of({"name": "domain", "domains": "Example.com, @other.example", "not": "yes"})

    assert made == p.Condition(p.EmailDomain(("example.com", "other.example")), True)
    assert p.condition_of(made.as_json()) == made
    assert p.condition_of({"name": "is_synced", "value": False}).as_json() == {
        "name": "is_synced",
        "value": True,
        "not": True,
    }


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "name"),
        ({"name": "nothing"}, "name"),
        ({"name": "protected", "value": True}, "name"),
        ({"name": "domain", "domains": "a.com", "group": "1"}, "name"),
        ({"name": "domain"}, "domain"),
        ({"name": "inactive_days"}, "inactive_days"),
        ({"name": "added_before", "at": "soon"}, "added_before"),
        ({"name": "domain", "domains": "a.com", "not": "perhaps"}, "not"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(data: dict[str, Any], field: str) -> None:
    with pytest.raises(p.PredicateError) as refused:
        p.condition_of(data)

    assert refused.value.field == field


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_filters_survive_the_address_in_every_combination(chosen: list[int]) -> None:
    known = [predicate for predicate, _ in cases([1, 2, 3]) if not getattr(predicate, "group_ids", ())]
    picked: dict[Any, p.Predicate] = {}
    for number in chosen:
        predicate = known[number % len(known)]
        # One address asks each parameter once; those about use once for each list of products.
        picked.setdefault((predicate.name, getattr(predicate, "products", None)), predicate)
        if predicate.name == "product":
            picked = {key: one for key, one in picked.items() if one.name != "product" or one == predicate}
    filters = AccountFilters(tuple(picked.values()))

    again, errors = AccountFilters.parse(QueryDict(filters.query_string()))

    assert errors == {}
    assert set(again.conditions) == set(filters.conditions)


def test_every_predicate_is_documented() -> None:
    text = Path("docs/predicates.md").read_text(encoding="utf-8")

    for name, predicate in p.REGISTRY.items():
        assert f"`{name}`" in text
        for parameter in dataclasses.fields(predicate):  # type: ignore[arg-type]
            assert f"`{parameter.name}`" in text


def test_selection_can_be_embedded_in_sql(plain: Organization) -> None:
    make_account(plain, products=1, last_active_at=NOW - timedelta(days=99), is_activity_read=True, jira_activity=3)
    selection = p.matching(plain, [p.InactiveDays(30)], now=NOW).order_by().values_list("pk", "account_id")
    sql, parameters = selection.query.sql_with_params()

    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE picked (pk bigint, account_id text) ON COMMIT DROP")
        cursor.execute(f"INSERT INTO picked {sql}", parameters)
        assert cursor.rowcount == 1
