"""Reads about imported files: the list, one file, its wrong lines, its people beside the directory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from apps.organizations.models import Organization
from apps.users import csv_layouts
from apps.users.models import (
    Account,
    AccountStatus,
    Activity,
    ImportFile,
    ImportRow,
    MembershipStatus,
    ProductAccess,
)
from apps.users.products import label_of
from apps.users.selectors.trust import latest_merged_sync
from aum.common.errors import Missing

SAMPLES = 3
SHOWN_FILES = 50
_OTHERS = ("added to org", "org role", "created")
_DISAGREEMENTS = (
    (ImportRow.STATUS, "status"),
    (ImportRow.NAME, "name"),
    (ImportRow.EMAIL, "e-mail"),
    (ImportRow.LAST_LOGIN, "last login"),
    (ImportRow.ACCESS, "product access"),
)


@dataclass(frozen=True)
class Column:
    """A column of the file with the first values that it holds, and what it is taken for."""

    index: int
    header: str
    samples: list[str]
    meaning: str


@dataclass(frozen=True)
class WrongLine:
    """`value` is what stands in `column` of the file's `line`; `reason` says what is wrong with it."""

    line: int
    column: str
    value: str
    reason: str


@dataclass(frozen=True)
class ProductLogin:
    """A product, on the site that the file names, as the file and as the directory have it, in words.

    `held_in_file` is None where the file does not say who may use it. `is_older`: the directory knows no later login.
    """

    label: str
    held_in_file: bool | None
    held_in_directory: bool
    in_file: str
    in_directory: str
    is_later_in_file: bool


@dataclass(frozen=True)
class FilePerson:
    """A line of the file beside the directory. `account` is None for a line that names nobody."""

    row: ImportRow
    name: str
    email: str
    status: str
    directory_status: str
    logins: list[ProductLogin]
    groups: str
    # (heading, value) of "Added to org" and "Org role", where the file has them.
    others: list[tuple[str, str]]
    differences: list[str]
    account: Account | None


@dataclass(frozen=True)
class ProductPlace:
    """A product on a site: the resource that roles are given on."""

    product: str
    resource: str
    site: str

    @property
    def label(self) -> str:
        return label_of(self.product) + (f" on {self.site}" if self.site else "")


def product_places(organization: Organization) -> list[ProductPlace]:
    """The products on the sites as the last merged sync found them, by name."""
    run = latest_merged_sync(organization)
    rows = run.found.get("resources", []) if run else []
    found = {ari: ProductPlace(product, ari, site) for product, _, ari, site in rows}
    return sorted(found.values(), key=lambda place: place.label)


def import_files(organization: Organization) -> list[ImportFile]:
    """The newest imports, newest first."""
    return list(ImportFile.objects.of(organization).defer("content", "headers", "mapping")[:SHOWN_FILES])


def import_file(organization: Organization, pk: int) -> ImportFile:
    """Raises Missing."""
    found: ImportFile | None = ImportFile.objects.of(organization).defer("content").filter(pk=pk).first()
    if found is None:
        raise Missing
    return found


def columns(file: ImportFile) -> list[Column]:
    """The file's columns with samples, from its first rows."""
    first = list(file.rows.order_by("line").values_list("cells", flat=True)[:20])
    meanings = {index: name for name, index in file.mapping.items()}
    found = []
    for index, header in enumerate(file.headers):
        samples = [str(cells[index]) for cells in first if cells[index]][:SAMPLES]
        found.append(Column(index, header or f"Column {index + 1}", samples, meanings.get(index, "")))
    return found


def wrong_rows(file: ImportFile) -> QuerySet[ImportRow]:
    return ImportRow.objects.filter(import_file=file).exclude(code="").order_by("line")


def wrong_line(file: ImportFile, row: ImportRow) -> WrongLine:
    """The row's fault in words, with the column that it is in."""
    name = "account_id" if row.account_id_text else "email"
    if row.code == ImportRow.Code.RAGGED:
        return WrongLine(row.line, "", "", row.get_code_display())
    if name not in file.mapping:
        name = next(key for key in ("account_id", "email") if key in file.mapping)
    index = file.mapping[name]
    return WrongLine(row.line, file.headers[index], str(row.cells[index]), row.get_code_display())


def wrong_lines(file: ImportFile, rows: Iterable[ImportRow]) -> Iterator[WrongLine]:
    for row in rows:
        yield wrong_line(file, row)


def _differs(bits: int) -> Q:
    return Q(disagrees__in=[number for number in range(1, 32) if number & bits])


# What `people_rows` can narrow to.
ONLY: Mapping[str, tuple[str, Q]] = {
    "known": ("In the directory", Q(code="")),
    "disagree": ("Disagree with the directory", Q(disagrees__gt=0)),
    "status": ("Status differs", _differs(ImportRow.STATUS)),
    "access": ("Product access differs", _differs(ImportRow.ACCESS)),
    "last_login": ("File knows a later login", _differs(ImportRow.LAST_LOGIN)),
    "name_or_email": ("Name or e-mail differs", _differs(ImportRow.NAME | ImportRow.EMAIL)),
    "never": ("Never logged in, by the file", Q(code="", is_never=True)),
    "unknown": ("Unknown users", Q(code=ImportRow.Code.UNKNOWN)),
    "wrong": ("Lines passed over", ~Q(code="")),
    "notes": ("With a cell that cannot be read", ~Q(notes="")),
}


def people_rows(
    file: ImportFile, *, search: str = "", only: str = "", product: str = "", status: str = ""
) -> QuerySet[ImportRow]:
    """Lines of the file, in its order.

    `only`: a key of ONLY; `product`: lines that give this product or a login to it; `status`: the file's own word;
    `search`: name, e-mail or id. Empty ones narrow nothing.
    """
    rows = ImportRow.objects.filter(import_file=file)
    if only:
        rows = rows.filter(ONLY[only][1])
    if product:
        rows = rows.filter(Q(last_seen__has_key=product) | Q(holds__has_key=product))
    if status and "status" in file.mapping:
        rows = rows.filter(**{f"cells__{file.mapping['status']}": status})
    if search:
        index = file.mapping.get("name")
        found = Q(email__contains=search.lower()) | Q(account_id_text=search)
        if index is not None:
            found |= Q(**{f"cells__{index}__icontains": search})
        rows = rows.filter(found)
    return rows.order_by("line")


def statuses_of(file: ImportFile) -> list[str]:
    """The words of the file's status column, at most 20."""
    index = file.mapping.get("status")
    if index is None:
        return []
    words = ImportRow.objects.filter(import_file=file).order_by().values_list(f"cells__{index}", flat=True).distinct()
    return sorted({str(word) for word in words[:20] if word})


def products_of(file: ImportFile) -> list[tuple[str, str]]:
    """(key, label) of the products that the file's columns speak of."""
    found = csv_layouts.columns_of(file.headers, file.layout)
    keys = {product for product, _ in (*found.seen.values(), *found.held.values()) if product != csv_layouts.ANY}
    return sorted(((key, label_of(key)) for key in keys), key=lambda pair: pair[1])


def page_of_people(rows: QuerySet[ImportRow], after: int, size: int) -> tuple[list[ImportRow], int | None]:
    """(rows after line `after`, the last one's line when there are more), with their accounts."""
    found = list(rows.filter(line__gt=after).select_related("account")[: size + 1])
    return found[:size], found[size - 1].line if len(found) > size else None


def chosen_account_ids(rows: QuerySet[ImportRow]) -> tuple[str, ...]:
    """Atlassian's account ids of the rows that can be acted on."""
    return tuple(rows.filter(code="").order_by("line").values_list("account__account_id", flat=True))


def _cell(file: ImportFile, row: ImportRow, meaning: str) -> str:
    index = file.mapping.get(meaning)
    return "" if index is None else str(row.cells[index])


def _directory_status(account: Account) -> str:
    if account.account_status != AccountStatus.ACTIVE:
        return str(account.get_account_status_display())
    if account.membership_status == MembershipStatus.SUSPENDED:
        return "Suspended"
    return "Active"


@dataclass(frozen=True)
class _Directory:
    """What the mirror has of the accounts of one page: (account, product) → rows by site."""

    access: Mapping[tuple[int, str], list[ProductAccess]]

    @classmethod
    def of(cls, accounts: Iterable[int]) -> _Directory:
        found: dict[tuple[int, str], list[ProductAccess]] = defaultdict(list)
        for row in ProductAccess.objects.filter(account_id__in=list(accounts)):
            found[row.account_id, row.product].append(row)
        return cls(found)

    def login(self, account: Account | None, product: str, site: str) -> tuple[bool, str, datetime | None]:
        """(held, last login in words, last login)."""
        if account is None:
            return False, "–", None
        if product == csv_layouts.ANY:
            at = account.last_active_at
            return (
                bool(account.products),
                _day(at) if at else "not known" if account.has_unknown_activity else "never",
                at,
            )
        rows = self.access.get((account.pk, product), [])
        of_site = [row for row in rows if site and row.site.lower().partition(".")[0] == site.partition(".")[0]]
        rows = of_site or rows
        if not rows:
            return False, "no access", None
        newest = max((row.last_active_at for row in rows if row.last_active_at), default=None)
        if newest is not None:
            source = " (from a file)" if any(row.source == "csv" for row in rows) else ""
            return True, f"{_day(newest)}{source}", newest
        return True, "never" if all(row.activity == Activity.NEVER for row in rows) else "not known", None


def _day(at: date) -> str:
    return f"{at.day} {at:%b %Y}"


def _file_login(text: str) -> str:
    seen = csv_layouts.parse_date(text)
    return _day(seen) if seen else text


def _logins(
    row: ImportRow, account: Account | None, directory: _Directory, columns: csv_layouts.Columns
) -> list[ProductLogin]:
    """One entry a product and site of which the file's line says anything."""
    seen = {(product, site.lower()): text for product, site, text in row.sightings}
    held = {(product, site.lower()) for product, sites in row.holds.items() for site in sites or [""]}
    names = {site.lower(): site for _, site, _ in row.sightings} | {
        site.lower(): site for sites in row.holds.values() for site in sites
    }
    found = []
    for product, site in sorted(seen.keys() | held):
        is_held, words, at = directory.login(account, product, site)
        text = seen.get((product, site), "")
        in_file = csv_layouts.parse_date(text)
        label = "Any product" if product == csv_layouts.ANY else label_of(product)
        found.append(
            ProductLogin(
                label=label + (f" on {names[site]}" if site else ""),
                held_in_file=(product, site) in held if columns.says_who_holds(product, site) else None,
                held_in_directory=is_held,
                in_file=_file_login(text) or "–",
                in_directory=words,
                is_later_in_file=bool(in_file and account and (at is None or at.date() < in_file - timedelta(days=1))),
            )
        )
    return found


def file_people(file: ImportFile, rows: Sequence[ImportRow]) -> list[FilePerson]:
    """The rows in words, beside what the directory has. Their accounts are expected to be there already."""
    groups = csv_layouts.group_column(file.headers)
    others = [i for i, header in enumerate(file.headers) if header.strip().lower() in _OTHERS]
    spoken_of = csv_layouts.columns_of(file.headers, file.layout)
    directory = _Directory.of(row.account_id for row in rows if row.account_id)
    found = []
    for row in rows:
        account: Any = row.account
        name = _cell(file, row, "name") or (account.name if account else "")
        found.append(
            FilePerson(
                row=row,
                name=name or row.email or row.account_id_text,
                email=row.email or ((account.email or "") if account else ""),
                status=_cell(file, row, "status"),
                directory_status=_directory_status(account) if account else "",
                logins=_logins(row, account, directory, spoken_of),
                groups="" if groups is None else str(row.cells[groups]),
                others=[(file.headers[i], str(row.cells[i])) for i in others if row.cells[i]],
                differences=[word for bit, word in _DISAGREEMENTS if row.disagrees & bit],
                account=account,
            )
        )
    return found
