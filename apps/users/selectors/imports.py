"""Reads about imported files: the list, one file, its wrong lines, its people beside the directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from apps.organizations.models import Organization
from apps.users import csv_layouts
from apps.users.models import Account, AccountStatus, Activity, ImportFile, ImportRow, MembershipStatus, Product
from apps.users.products import label_of
from aum.common.errors import Missing

SAMPLES = 3
SHOWN_FILES = 50
_DISAGREEMENTS = (
    (ImportRow.STATUS, "status"),
    (ImportRow.NAME, "name"),
    (ImportRow.EMAIL, "e-mail"),
    (ImportRow.LAST_LOGIN, "last login"),
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
    """A product's last login as the file and as the directory give it, in words."""

    label: str
    in_file: str
    in_directory: str


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
    differences: list[str]
    account: Account | None


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


def people_rows(file: ImportFile, *, search: str = "", only: str = "") -> QuerySet[ImportRow]:
    """Lines of the file, in its order. `only`: disagree, unknown, or empty for all; `search`: name, e-mail or id."""
    rows = ImportRow.objects.filter(import_file=file)
    if only == "disagree":
        rows = rows.filter(disagrees__gt=0)
    elif only == "unknown":
        rows = rows.filter(code=ImportRow.Code.UNKNOWN)
    if search:
        index = file.mapping.get("name")
        found = Q(email__contains=search.lower()) | Q(account_id_text=search)
        if index is not None:
            found |= Q(**{f"cells__{index}__icontains": search})
        rows = rows.filter(found)
    return rows.order_by("line")


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


def _directory_login(account: Account | None, product: str) -> str:
    if account is None:
        return "–"
    state = getattr(account, f"{product}_activity")
    at: datetime | None = getattr(account, f"{product}_last_active_at")
    if state == Activity.KNOWN and at is not None:
        return f"{at.day} {at:%b %Y}"
    return {Activity.NEVER: "never", Activity.NOT_APPLICABLE: "no access"}.get(state, "not known")


def _file_login(text: str) -> str:
    seen = csv_layouts.parse_date(text)
    return f"{seen.day} {seen:%b %Y}" if seen else text


def file_people(file: ImportFile, rows: Sequence[ImportRow]) -> list[FilePerson]:
    """The rows in words, beside what the directory has. Their accounts are expected to be there already."""
    groups = csv_layouts.group_column(file.headers)
    found = []
    for row in rows:
        account: Any = row.account
        logins = [
            ProductLogin(label_of(product), _file_login(row.last_seen[product]), _directory_login(account, product))
            for product in Product.values
            if product in row.last_seen
        ]
        name = _cell(file, row, "name") or (account.name if account else "")
        found.append(
            FilePerson(
                row=row,
                name=name or row.email or row.account_id_text,
                email=row.email or ((account.email or "") if account else ""),
                status=_cell(file, row, "status"),
                directory_status=_directory_status(account) if account else "",
                logins=logins,
                groups="" if groups is None else str(row.cells[groups]),
                differences=[word for bit, word in _DISAGREEMENTS if row.disagrees & bit],
                account=account,
            )
        )
    return found
