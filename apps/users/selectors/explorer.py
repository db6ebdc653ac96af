"""Lists of people: filtered, sorted, paged by keyset in both directions, in a constant number of queries."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import BooleanField, Case, F, IntegerChoices, Q, Value, When
from django.utils import timezone

from apps.organizations.models import Organization
from apps.users.exempting import IsExempt
from apps.users.expressions import SortInstant
from apps.users.models import (
    Account,
    AccountKind,
    AccountStatus,
    Activity,
    ClaimStatus,
    Group,
    ManagementSource,
    MembershipStatus,
    Product,
    ProductAccess,
)
from apps.users.predicates import Context, IsProtected
from apps.users.products import label_of
from apps.users.selectors import words
from apps.users.selectors.filters import AccountFilters
from aum.common.errors import InvalidInput

MAX_LIMIT = 500
COUNT_CAP = 10_001
# So many rows are looked at in the order of the list, before the planner may choose another way to a page.
WALK_ROWS = 10_000

# Ordering → sort key; a leading "-" turns it round. Who has no instant comes before all others, and last when turned.
KEYS: dict[str, tuple[Any, str]] = {
    "name": (F("sort_name"), "text"),
    "last_active": (SortInstant("last_active_at"), "timestamptz"),
    "added": (SortInstant("added_to_org_at"), "timestamptz"),
    **{
        f"{product}_last_active": (SortInstant(f"{product}_last_active_at"), "timestamptz")
        for product in Product.values
    },
}
ORDERINGS = tuple(sign + name for name in KEYS for sign in ("", "-"))
_ORDERING_WORDS = {
    "name": ("by name", "by name, Z to A"),
    "last_active": ("by last login, oldest first", "by last login, newest first"),
    "added": ("by date added, oldest first", "by date added, newest first"),
}


# Asked for each of many rows; looking an enumeration up takes ten times as long.
_PLACES = {product: number for number, product in enumerate(Product.values)}


def _named(choices: type[IntegerChoices]) -> dict[int, tuple[str, str]]:
    """Name in lower case and label of each value."""
    return {choice.value: (choice.name.lower(), str(choice.label)) for choice in choices}


_MEMBERSHIPS, _CLAIMS, _SOURCES = _named(MembershipStatus), _named(ClaimStatus), _named(ManagementSource)
_KINDS, _ACTIVITIES, _DIRECT = _named(AccountKind), _named(Activity), _named(ProductAccess.Direct)


@dataclass(frozen=True)
class CappedCount:
    """A count that stopped at the cap: then `value` is one less than the cap and `is_capped` True."""

    value: int
    is_capped: bool

    def __str__(self) -> str:
        return words.capped(self.value, self.is_capped)

    @property
    def said(self) -> str:
        """`1,234 users`, `1 user`, or `more than 10,000 users` where counting stopped."""
        return words.people(self.value, self.is_capped)


@dataclass(frozen=True)
class GroupTag:
    pk: int
    group_id: str
    name: str
    is_administrative: bool = False


@dataclass(frozen=True)
class ProductUse:
    """A product on one site. `age` is in words ("3 d", "never", "not known"); `via`: groups that give it."""

    product: str
    label: str
    short_label: str
    site: str
    resource: str
    activity: str
    last_active_at: datetime | None
    age: str
    date: str
    is_stale: bool
    via: tuple[GroupTag, ...]
    direct: str


@dataclass(frozen=True)
class AccountRow:
    """One line of the list, ready to show. `products`: one per product and site; `logins`: the newest per product."""

    pk: int
    account_id: str
    name: str
    email: str | None
    initials: str
    account_status: str
    account_status_label: str
    membership_status: str
    membership_status_label: str
    claim_status: str
    is_external: bool
    claim_status_label: str
    is_synced: bool
    source: str
    source_label: str
    kind: str
    kind_label: str
    groups: tuple[GroupTag, ...]
    products: tuple[ProductUse, ...]
    logins: tuple[ProductUse, ...]
    activity: str
    last_active_at: datetime | None
    last_active: str
    added_to_org_at: datetime | None
    added: str
    is_protected: bool
    is_admin: bool
    exempt_until: datetime | None
    is_exempt: bool
    exempt: str


@dataclass(frozen=True)
class ExplorerPage:
    rows: list[AccountRow]
    next_cursor: str | None
    previous_cursor: str | None
    count: CappedCount
    ordering: str
    sort_sentence: str


def explorer(
    organization: Organization,
    filters: AccountFilters,
    *,
    ordering: str = "name",
    cursor: str | None = None,
    limit: int = 50,
    stale_days: int = 30,
    now: datetime | None = None,
) -> ExplorerPage:
    """One page of the people that meet `filters`.

    `limit` is cut to MAX_LIMIT. Raises InvalidInput for an ordering or cursor that does not exist. `stale_days` marks
    logins older than that. A cursor belongs to its ordering; with other filters it still means a place in the order.
    """
    if ordering not in ORDERINGS:
        raise InvalidInput(fields={"ordering": [f"Sort by one of {', '.join(ORDERINGS)}."]})
    context = Context.of(organization, now=now)
    limit = min(max(limit, 1), MAX_LIMIT)
    people, q = Account.objects.of(organization), filters.as_q(context)
    place = _Place.read(cursor, ordering)
    count, found, has_more = _counted_page(people.filter(q), ordering, place, limit)
    if count.is_capped:
        found, has_more = _wide_page(people, q, ordering, place, limit)
    rows = _rows(organization, [pk for pk, _ in found], context, stale_days)
    is_back = place is not None and place.is_back
    has_next, has_previous = (True, has_more) if is_back else (has_more, place is not None)
    return ExplorerPage(
        rows=rows,
        next_cursor=_Place(ordering, False, found[-1][1], found[-1][0]).write() if found and has_next else None,
        previous_cursor=_Place(ordering, True, found[0][1], found[0][0]).write() if found and has_previous else None,
        count=count,
        ordering=ordering,
        sort_sentence=sort_sentence(ordering),
    )


def sort_sentence(ordering: str) -> str:
    """`Sorted by last login, oldest first`."""
    name = ordering.removeprefix("-")
    if name in _ORDERING_WORDS:
        said = _ORDERING_WORDS[name]
    else:
        product = words.short_label(name.removesuffix("_last_active"))
        said = (f"by last {product} login, oldest first", f"by last {product} login, newest first")
    return f"Sorted {said[ordering.startswith('-')]}"


def count_matching(organization: Organization, q: Q, *, cap: int = COUNT_CAP) -> CappedCount:
    """How many of the organisation's accounts meet `q`, counted up to `cap`."""
    return _count(Account.objects.of(organization).filter(q), cap)


def count_exactly(organization: Organization, q: Q) -> int:
    return int(Account.objects.of(organization).filter(q).count())


def _count(matching: Any, cap: int) -> CappedCount:
    return _capped(int(matching.order_by()[:cap].count()), cap)


def _capped(found: int, cap: int) -> CappedCount:
    return CappedCount(found - 1, True) if found == cap else CappedCount(found, False)


@dataclass(frozen=True)
class _Place:
    """A place in an order: after it, or before it when going back."""

    ordering: str
    is_back: bool
    key: str
    pk: int

    def write(self) -> str:
        content = json.dumps([self.ordering, int(self.is_back), self.key, self.pk], separators=(",", ":"))
        return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, cursor: str | None, ordering: str) -> _Place | None:
        if not cursor:
            return None
        try:
            content = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            written_for, is_back, key, pk = content
            if written_for != ordering or not isinstance(key, str) or not 0 <= int(pk) < 2**63 or "\x00" in key:
                raise ValueError
            if KEYS[ordering.removeprefix("-")][1] == "timestamptz" and key != "-infinity":
                datetime.fromisoformat(key)
            return cls(ordering, bool(is_back), key, int(pk))
        except (ValueError, TypeError, KeyError, binascii.Error) as error:
            raise InvalidInput(fields={"cursor": ["This page no longer exists. Start from the first one."]}) from error


@dataclass(frozen=True)
class _Order:
    """The SQL of an order: of (sort_key, pk), from a place on, in the direction of reading.

    The text of the key needs another name in a statement: ORDER BY would take it for the key.
    """

    place: _Place | None
    key: Any
    where: str
    bound: tuple[Any, ...]
    by: str

    @classmethod
    def of(cls, ordering: str, place: _Place | None) -> _Order:
        key, cast = KEYS[ordering.removeprefix("-")]
        is_descending = ordering.startswith("-") != (place is not None and place.is_back)
        direction = "DESC" if is_descending else "ASC"
        where = f"WHERE (sort_key, pk) {'<' if is_descending else '>'} (%s::{cast}, %s)" if place else ""
        bound = (place.key, place.pk) if place else ()
        return cls(place, key, where, bound, f"ORDER BY sort_key {direction}, pk {direction}")

    def inner(self, people: Any, *names: str) -> tuple[str, tuple[Any, ...]]:
        """The SELECT of pk, sort_key and `names` of people in no order."""
        query = people.order_by().annotate(sort_key=self.key).values_list("pk", "sort_key", *names).query
        sql, parameters = query.sql_with_params()
        return sql, tuple(parameters)

    def shown(self, rows: Sequence[tuple[Any, ...]], limit: int) -> tuple[list[tuple[int, str]], bool]:
        """(pk, sort key as text) in display order, and whether there is more in the direction of reading."""
        found = [(int(pk), str(text)) for pk, text in rows[:limit]]
        return (found[::-1] if self.place is not None and self.place.is_back else found), len(rows) > limit


def _read(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _counted_page(
    matching: Any, ordering: str, place: _Place | None, limit: int
) -> tuple[CappedCount, list[tuple[int, str]], bool]:
    """How many there are, and their page, which is right only where the count is not capped: collected, then sorted."""
    order = _Order.of(ordering, place)
    inner, bound = order.inner(matching)
    rows = _read(
        f"WITH m (pk, sort_key) AS MATERIALIZED ({inner} LIMIT %s), c AS (SELECT count(*) AS n FROM m) "
        f"SELECT n, pk, sort_key::text AS shown_key FROM c LEFT JOIN "
        f"(SELECT pk, sort_key FROM m {order.where} {order.by} LIMIT %s) p ON true {order.by}",
        [*bound, COUNT_CAP, *order.bound, limit + 1],
    )
    count = _capped(int(rows[0][0]), COUNT_CAP)
    return count, *order.shown([row[1:] for row in rows if row[1] is not None], limit)


def _wide_page(
    people: Any, q: Q, ordering: str, place: _Place | None, limit: int
) -> tuple[list[tuple[int, str]], bool]:
    """The page of many people: read along the index of the order, where a page is mostly found within a few rows.

    The planner alone would at times collect and sort all of them, because it guesses texts and sets to be rare.
    """
    order = _Order.of(ordering, place)
    is_in = Case(When(q, then=Value(True)), default=Value(False), output_field=BooleanField()) if q else Value(True)
    inner, bound = order.inner(people.annotate(is_in=is_in), "is_in")
    rows = _read(
        f"SELECT pk, sort_key::text AS shown_key FROM (SELECT * FROM ({inner}) a (pk, sort_key, is_in) {order.where} "
        f"{order.by} LIMIT %s) w WHERE is_in {order.by} LIMIT %s",
        [*bound, *order.bound, WALK_ROWS, limit + 1],
    )
    return order.shown(rows, limit) if len(rows) > limit else _page(people.filter(q), ordering, place, limit)


def _page(matching: Any, ordering: str, place: _Place | None, limit: int) -> tuple[list[tuple[int, str]], bool]:
    """One page in display order, by collecting all people and keeping the first ones.

    OFFSET 0 keeps the planner from reading along the index after all: those who match may all stand far down.
    """
    order = _Order.of(ordering, place)
    inner, bound = order.inner(matching)
    rows = _read(
        f"SELECT pk, sort_key::text AS shown_key FROM ({inner} OFFSET 0) m (pk, sort_key) {order.where} "
        f"{order.by} LIMIT %s",
        [*bound, *order.bound, limit + 1],
    )
    return order.shown(rows, limit)


# What `account_row` reads: an account has as many columns again, for filters and rules.
_ROW_FIELDS = (
    "account_id",
    "name",
    "email",
    "account_status",
    "membership_status",
    "claim_status",
    "management_source",
    "is_for_deletion",
    "kind",
    "group_ids",
    "products",
    "has_unknown_activity",
    "last_active_at",
    "added_to_org_at",
    "is_org_admin",
    "is_site_admin",
    "exempt_until",
)


def _rows(organization: Organization, pks: Sequence[int], context: Context, stale_days: int) -> list[AccountRow]:
    """Rows in the order of `pks`: accounts, their product access and their groups in one query each."""
    protected = Case(
        When(IsProtected(True).q(context), then=Value(True)), default=Value(False), output_field=BooleanField()
    )
    accounts = {
        account.pk: account
        for account in Account.objects.of(organization)
        .filter(pk__in=pks)
        .only(*_ROW_FIELDS)
        .annotate(is_protected=protected, is_spared=IsExempt(context.now))
    }
    access: dict[int, list[ProductAccess]] = {}
    for row in ProductAccess.objects.filter(account__in=pks).order_by("product", "site", "resource"):
        access.setdefault(row.account_id, []).append(row)
    wanted = {pk for account in accounts.values() for pk in account.group_ids}
    groups = {
        group[0]: GroupTag(*group)
        for group in Group.objects.of(organization)
        .filter(pk__in=wanted)
        .values_list("pk", "group_id", "name", "is_administrative")
    }
    stale_before = context.now - timedelta(days=stale_days)
    return [
        account_row(accounts[pk], access.get(pk, []), groups, now=context.now, stale_before=stale_before)
        for pk in pks
        if pk in accounts
    ]


def account_row(
    account: Any,
    access: Sequence[ProductAccess],
    groups: dict[int, GroupTag],
    *,
    now: datetime | None = None,
    stale_before: datetime,
) -> AccountRow:
    """The row of one account, which carries `is_protected` and `is_spared`: exempt by any kind of exemption."""
    now = now or timezone.now()
    products = tuple(_use(row, groups, now, stale_before) for row in access)
    state = _overall(account)
    return AccountRow(
        pk=account.pk,
        account_id=account.account_id,
        name=account.name or account.account_id,
        email=account.email,
        initials=_initials(account.name or account.account_id),
        account_status=account_status_code(account),
        account_status_label=account_status_label(account),
        membership_status=_MEMBERSHIPS[account.membership_status][0],
        membership_status_label=_MEMBERSHIPS[account.membership_status][1],
        claim_status=_CLAIMS[account.claim_status][0],
        is_external=account.claim_status == ClaimStatus.UNMANAGED,
        claim_status_label=_CLAIMS[account.claim_status][1],
        source=_SOURCES[account.management_source][0],
        source_label=_SOURCES[account.management_source][1],
        is_synced=account.management_source == ManagementSource.SYNCED,
        kind=_KINDS[account.kind][0],
        kind_label=_KINDS[account.kind][1],
        groups=tuple(
            sorted(
                (groups[pk] for pk in account.group_ids if pk in groups),
                key=lambda tag: (not tag.is_administrative, tag.name.casefold()),
            )
        ),
        products=products,
        logins=_newest_per_product(products),
        activity=state.name.lower(),
        last_active_at=account.last_active_at,
        last_active=words.login(state, account.last_active_at, now),
        added_to_org_at=account.added_to_org_at,
        added=words.day(account.added_to_org_at),
        is_protected=account.is_protected,
        is_admin=account.is_org_admin or account.is_site_admin,
        exempt_until=account.exempt_until,
        is_exempt=account.is_spared,
        exempt=_until(account.exempt_until, now) or ("by group, domain or kind" if account.is_spared else ""),
    )


def _until(at: datetime | None, now: datetime) -> str:
    """The end of an exemption in force in words, or nothing."""
    if at is None or at <= now:
        return ""
    return "always" if at.year >= 9999 else words.day(at)


def account_status_code(account: Account) -> str:
    """active, deactivated, for_deletion, closed or unknown, as the filter's values."""
    if account.is_for_deletion:
        return "for_deletion"
    return {
        AccountStatus.ACTIVE: "active",
        AccountStatus.INACTIVE: "deactivated",
        AccountStatus.CLOSED: "closed",
    }.get(AccountStatus(account.account_status), "unknown")


def account_status_label(account: Account) -> str:
    return "Awaiting deletion" if account.is_for_deletion else str(AccountStatus(account.account_status).label)


def _overall(account: Account) -> Activity:
    """Known, never, unknown, or not applicable, over all products."""
    if account.has_unknown_activity:
        return Activity.UNKNOWN
    if account.last_active_at is not None:
        return Activity.KNOWN
    return Activity.NEVER if account.products else Activity.NOT_APPLICABLE


def _use(row: ProductAccess, groups: dict[int, GroupTag], now: datetime, stale_before: datetime) -> ProductUse:
    return ProductUse(
        product=row.product,
        label=label_of(row.product),
        short_label=words.short_label(row.product),
        site=row.site,
        resource=row.resource,
        activity=_ACTIVITIES[row.activity][0],
        last_active_at=row.last_active_at,
        age=words.login(row.activity, row.last_active_at, now),
        date=words.moment(row.last_active_at),
        is_stale=row.last_active_at is not None and row.last_active_at < stale_before,
        via=tuple(groups[pk] for pk in row.group_ids if pk in groups),
        direct=_DIRECT[row.direct][0],
    )


def _newest_per_product(products: Sequence[ProductUse]) -> tuple[ProductUse, ...]:
    """Per product the use with the newest login; unknown before never, since it may hide one."""
    best: dict[str, ProductUse] = {}
    for use in products:
        known = best.get(use.product)
        if known is None or _rank(use) > _rank(known):
            best[use.product] = use
    return tuple(sorted(best.values(), key=lambda use: (_PLACES.get(use.product, len(_PLACES)), use.product)))


def _rank(use: ProductUse) -> tuple[float, bool]:
    return (use.last_active_at.timestamp() if use.last_active_at else 0.0, use.activity == "unknown")


def _initials(name: str) -> str:
    parts = [part for part in name.split() if part[:1].isalnum()]
    letters = parts[0][:1] + (parts[-1][:1] if len(parts) > 1 else "") if parts else name[:1]
    return letters.upper()


def every_row(organization: Organization, filters: AccountFilters, *, ordering: str = "name") -> Iterator[AccountRow]:
    """All rows that meet `filters`, page by page, without counting them."""
    if ordering not in ORDERINGS:
        raise InvalidInput(fields={"ordering": [f"Sort by one of {', '.join(ORDERINGS)}."]})
    context = Context.of(organization)
    people, q = Account.objects.of(organization), filters.as_q(context)
    place: _Place | None = None
    count, found, has_more = _counted_page(people.filter(q), ordering, place, MAX_LIMIT)
    while True:
        if count.is_capped:
            found, has_more = _wide_page(people, q, ordering, place, MAX_LIMIT)
        elif place is not None:
            _, found, has_more = _counted_page(people.filter(q), ordering, place, MAX_LIMIT)
        yield from _rows(organization, [pk for pk, _ in found], context, 30)
        if not has_more:
            return
        place = _Place(ordering, False, found[-1][1], found[-1][0])
