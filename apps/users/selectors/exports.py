"""Exports of people: one SQL statement that PostgreSQL writes as CSV, whatever the number of people.

Labels and the neutralising of formula cells belong in the SQL (PERFORMANCE.md 9): COPY gives a million rows a second,
and no row passes through Python but as bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Case, CharField, Expression, F, Func, IntegerChoices, Q, QuerySet, TextField, Value, When
from django.db.models.expressions import Combinable, RawSQL
from django.db.models.functions import Coalesce

from apps.organizations.models import Organization
from apps.users.models import (
    Account,
    AccountKind,
    AccountStatus,
    Activity,
    ClaimStatus,
    ManagementSource,
    MembershipStatus,
    Product,
)
from apps.users.predicates import Context, IsProtected, exempt_q
from apps.users.selectors.columns import Column
from apps.users.selectors.explorer import KEYS
from apps.users.selectors.filters import AccountFilters

BLOCK_BYTES = 64 * 1024
_GROUPS = """(SELECT string_agg(g.name, '; ' ORDER BY lower(g.name), g.id) FROM users_group g
 WHERE g.id = ANY(users_account.group_ids))"""
_PRODUCTS = """(SELECT string_agg(p.product || ' on ' || coalesce(nullif(p.site, ''), p.resource) || ': ' ||
 coalesce(to_char(p.last_active_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
 CASE p.activity WHEN 1 THEN 'unknown' WHEN 2 THEN 'never' WHEN 3 THEN 'known' ELSE 'not_applicable' END),
 '; ' ORDER BY p.product, p.site, p.resource) FROM users_productaccess p WHERE p.account_id = users_account.id)"""


class Iso(Func):
    """An instant as `2026-03-14T06:00:00Z`."""

    template = """to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
    output_field = TextField()


class Safe(Func):
    """A text that no spreadsheet takes for a formula: `aum.common.csv.neutralise` in SQL."""

    template = r"regexp_replace(%(expressions)s, '^(''*)([=+@\t\r-])', '''\1\2')"
    output_field = TextField()


@dataclass(frozen=True)
class Cell:
    """One column of the file. `note` explains it; `is_text`: written by people, so it may look like a formula."""

    heading: str
    value: Combinable
    note: str
    is_text: bool = False


def _word(field: str, choices: type[IntegerChoices]) -> Case:
    return Case(
        *(When(**{field: choice.value}, then=Value(choice.name.lower())) for choice in choices),
        default=Value("unknown"),
        output_field=CharField(),
    )


def _login(product: str) -> Expression:
    """The newest login; never, unknown, or nothing where the product is not held."""
    return Case(
        When(**{f"{product}_activity": Activity.KNOWN}, then=Iso(f"{product}_last_active_at")),
        When(**{f"{product}_activity": Activity.NEVER}, then=Value("never")),
        When(**{f"{product}_activity": Activity.UNKNOWN}, then=Value("unknown")),
        default=Value(""),
        output_field=TextField(),
    )


def _raw(sql: str) -> RawSQL:
    return RawSQL(sql, (), output_field=TextField())


def cells_of(columns: Sequence[Column], context: Context) -> list[Cell]:
    """What an export with these columns holds, the person first."""
    status = Case(
        When(is_for_deletion=True, then=Value("for_deletion")),
        When(account_status=AccountStatus.ACTIVE, then=Value("active")),
        When(account_status=AccountStatus.INACTIVE, then=Value("deactivated")),
        When(account_status=AccountStatus.CLOSED, then=Value("closed")),
        default=Value("unknown"),
        output_field=CharField(),
    )
    activity = Case(
        When(has_unknown_activity=True, then=Value("unknown")),
        When(last_active_at__isnull=False, then=Value("known")),
        When(~Q(products=0), then=Value("never")),
        default=Value("not_applicable"),
        output_field=CharField(),
    )
    protected = Case(
        When(IsProtected(True).q(context), then=Value("yes")), default=Value("no"), output_field=CharField()
    )
    exempt = Case(When(exempt_q(context.now), then=Value("yes")), default=Value("no"), output_field=CharField())
    known = {
        "account_status": [Cell("account_status", status, "active, deactivated, for_deletion, closed, unknown")],
        "membership_status": [
            Cell("membership_status", _word("membership_status", MembershipStatus), "active, suspended, no_membership")
        ],
        "claim_status": [Cell("claim_status", _word("claim_status", ClaimStatus), "managed: of this organisation")],
        "kind": [Cell("kind", _word("kind", AccountKind), "person, service, app, bot; told by patterns")],
        "source": [
            Cell("synced_by", _word("management_source", ManagementSource), "synced: by an identity provider; invited")
        ],
        "groups": [Cell("groups", _raw(_GROUPS), "all groups, separated by semicolons", is_text=True)],
        "added": [Cell("added_to_org_utc", Iso("added_to_org_at"), "when Atlassian says the user joined; UTC")],
        "last_login": [
            Cell("activity", activity, "known, never, unknown (Atlassian gave no date), not_applicable (no product)"),
            Cell("last_active_utc", Iso("last_active_at"), "newest login over all products; up to 24 h late; UTC"),
            *(
                Cell(f"{product}_last_active_utc", _login(product), "a moment (UTC), never or unknown; empty: not held")
                for product in Product.values
            ),
        ],
        "sites": [Cell("products", _raw(_PRODUCTS), "each product and site with its last login", is_text=True)],
        "protected": [Cell("is_protected", protected, "no action that takes access is possible")],
        "exempt": [
            Cell("is_exempt", exempt, "by an exemption of the user, a group, a domain or a kind"),
            Cell("exempt_until_utc", Iso("exempt_until"), "latest end of the user's own; 9999: for good; UTC"),
        ],
    }
    person = [
        Cell("account_id", F("account_id"), "Atlassian's id of the account", is_text=True),
        Cell("name", F("name"), "as Atlassian shows it", is_text=True),
        Cell("email", F("email"), "empty where Atlassian hides it", is_text=True),
    ]
    return [*person, *(cell for column in columns for cell in known.get(column.key, []))]


@dataclass(frozen=True)
class ExportQuery:
    """Whom and what an export holds: everybody who meets `filters`, or those of them in `account_pks`."""

    organization: Organization
    filters: AccountFilters
    ordering: str
    columns: tuple[Column, ...]
    account_pks: tuple[int, ...] | None = None

    def people(self, context: Context) -> QuerySet[Account]:
        found: QuerySet[Account] = Account.objects.of(self.organization).filter(self.filters.as_q(context))
        return found if self.account_pks is None else found.filter(pk__in=self.account_pks)

    def headings(self) -> list[Cell]:
        return cells_of(self.columns, Context.of(self.organization))

    def count(self, *, cap: int | None = None) -> int:
        """How many people, counted up to `cap`."""
        rows = self.people(Context.of(self.organization)).order_by()
        return int((rows if cap is None else rows[:cap]).count())

    def sql(self, *, is_safe: bool) -> tuple[str, tuple[Any, ...]]:
        """The SELECT of all rows in order. Raises EmptyResultSet where nobody can match."""
        context = Context.of(self.organization)
        key, _ = KEYS[self.ordering.removeprefix("-")]
        is_down = self.ordering.startswith("-")
        values = {
            f"cell_{number}": Safe(cell.value)
            if is_safe and cell.is_text
            else Coalesce(cell.value, Value(""), output_field=TextField())
            for number, cell in enumerate(cells_of(self.columns, context))
        }
        rows = self.people(context).annotate(sort_key=key)
        order = (F("sort_key").desc(), F("pk").desc()) if is_down else (F("sort_key").asc(), F("pk").asc())
        sql, parameters = rows.order_by(*order).values_list(*values.values()).query.sql_with_params()
        return sql, tuple(parameters)


def csv_blocks(query: ExportQuery) -> Iterator[tuple[bytes, int]]:
    """(bytes, rows in them) of the file: UTF-8 with BOM, a heading, one line a person."""
    yield ("\ufeff" + ",".join(cell.heading for cell in query.headings()) + "\r\n").encode(), 0
    try:
        sql, parameters = query.sql(is_safe=True)
    except EmptyResultSet:
        return
    with connection.cursor() as cursor, cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT csv)", parameters) as copy:
        block, rows = bytearray(), 0
        for line in copy:
            block += line
            rows += 1
            if len(block) >= BLOCK_BYTES:
                yield bytes(block), rows
                block, rows = bytearray(), 0
        if block:
            yield bytes(block), rows


def text_rows(query: ExportQuery) -> Iterator[tuple[str, ...]]:
    """The rows as texts that are not neutralised: for formats in which a text is no formula."""
    try:
        sql, parameters = query.sql(is_safe=False)
    except EmptyResultSet:
        return
    with connection.cursor() as cursor, cursor.copy(f"COPY ({sql}) TO STDOUT", parameters) as copy:
        for row in copy.rows():
            yield tuple("" if cell is None else cell for cell in row)
