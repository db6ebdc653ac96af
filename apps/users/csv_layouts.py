"""Reading CSV files about people: which layout, what each column means, one record a person. Pure: no database.

Columns are matched by name (docs/imports.md), never by position,
since Atlassian adds and renames columns.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache

from apps.users.models import Product
from aum.common.csv import restore_cell
from aum.common.errors import InvalidInput

MAX_BYTES = 20 * 1024 * 1024
TOO_LARGE = "The file is larger than 20 MB. Split it, or leave out columns that are not needed."
MAX_ROWS = 100_000
MAX_COLUMNS = 400
DELIMITERS = (",", ";", "\t")
EMAIL = re.compile(r"[^@\s,;]+@[^@\s,;]+\.[^@\s,;]+\Z")
ACCOUNT_ID = re.compile(r"(?:\d+:[0-9A-Za-z-]{8,}|[0-9a-z]{24})\Z")
NEVER = frozenset({"never accessed", "never logged in", "never"})
# Cells that say nothing (DECISIONS.md §3: a blank is not "never").
BLANK = frozenset({"", "none", "nan", "-", "–", "n/a", "null"})
_NOT_HELD = BLANK | {"no", "false"}
SEEN = "last seen in "
# The key of `last_seen` for a date that names no product.
ANY = "any"

# Meaning → headers in lower case.
ALIASES: dict[str, tuple[str, ...]] = {
    "account_id": ("user id", "atlassian id", "account id", "user_id", "account_id", "atlassian_id", "id"),
    "email": ("email", "e-mail", "email address", "e-mail address", "user email", "mail"),
    "name": ("user name", "full_name", "full name", "display name", "name", "username"),
    "status": ("user status", "account status", "status", "active"),
    "groups": ("groups", "group", "group membership", "group name", "group_name"),
    "products": ("products", "product", "apps", "product access"),
}
MEANINGS = {
    "account_id": "Account id",
    "email": "E-mail",
    "name": "Name",
    "status": "Status",
    "groups": "Groups",
    "products": "Products",
}
_GROUPS = ("group membership", "groups", "group name", "group_name")
_PIVOTS = frozenset({"group id", "group name", "group_name"})
ADDED = ("added to org", "created")
ROLES = ("org role", "organization role", "organisation role")
_LAST_ACTIVE = "last active date [utc]"
_LAST_LOGIN = frozenset({"last_login", "last login"})
# Products as the exports call them; the newer and the older names.
PRODUCT_NAMES = {
    "jira": Product.JIRA,
    "jira software": Product.JIRA,
    "jira service management": Product.JSM,
    "jira service desk": Product.JSM,
    "confluence": Product.CONFLUENCE,
    "bitbucket": Product.BITBUCKET,
}
# Apps without a column of their own in AUM; their names become keys.
_OTHER_APPS = frozenset(
    {"confluence guest", "jira work management", "jira product discovery", "trello", "opsgenie", "statuspage", "loom"}
    | {"atlas", "goals", "projects", "jira core", "feedback", "compass"}
)
PRODUCT_KEYS: list[str] = [str(key) for key in Product.values]
LAYOUTS = {
    "export_users": "Atlassian export of users",
    "export_users_pivot": "Atlassian export of users, one row per group",
    "managed_accounts": "Atlassian export of managed accounts",
    "older_export": "Older Atlassian export",
    "email_list": "List of e-mail addresses without headings",
    "own": "Own file",
}
# What Atlassian Administration writes: whole lists of people, from which an organisation can be filled.
EXPORTS = frozenset({"export_users", "export_users_pivot", "managed_accounts", "older_export"})


@dataclass(frozen=True)
class Record:
    """One person of the file: the line it begins on, its cells by column, and what it says of products.

    `last_seen`: product, or ANY → ISO date or "never". `sightings`: the same by product and site. `holds`: product →
    its sites. `notes`: cells that could not be read, in a sentence. `is_ragged`: more cells than headings, so cells may
    have shifted.
    """

    line: int
    cells: list[str]
    last_seen: dict[str, str]
    is_ragged: bool = False
    sightings: list[tuple[str, str, str]] = field(default_factory=list)
    holds: dict[str, list[str]] = field(default_factory=dict)
    notes: str = ""

    @property
    def is_never(self) -> bool:
        return bool(self.last_seen) and all(seen == "never" for seen in self.last_seen.values())


@dataclass(frozen=True)
class Parsed:
    """A whole file. `mapping`: meaning → index of its column, only where guessed. `lines`: lines with people."""

    layout: str
    headers: list[str]
    mapping: dict[str, int]
    lines: int
    records: list[Record] = field(default_factory=list)


def decode(content: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark. Raises InvalidInput for anything else."""
    if not content.strip():
        raise InvalidInput("The file is empty.")
    if len(content) > MAX_BYTES:
        raise InvalidInput(TOO_LARGE)
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("The file is not text in UTF-8. Save it again as “CSV UTF-8”.") from None
    if "\x00" in text:
        raise InvalidInput("This is not a CSV file: it holds binary data. Save the sheet as CSV.")
    if not text.strip():
        raise InvalidInput("The file is empty.")
    return text


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line on which the row begins, cells) of every row that holds something. Raises InvalidInput."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    begins = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield begins, [restore_cell(cell.strip()) for cell in row]
            begins = reader.line_num + 1
    except csv.Error:
        raise InvalidInput(
            f"Line {begins} cannot be read: a cell is longer than {csv.field_size_limit():,} characters, "
            "or a quotation mark is never closed."
        ) from None


def _delimiter(text: str) -> str:
    """The separator that gives the first row most cells; a comma where none separates anything."""
    counts = {sign: len(next(_rows(text, sign))[1]) for sign in DELIMITERS}
    return max(DELIMITERS, key=lambda sign: counts[sign])


def guess_mapping(headers: Sequence[str]) -> dict[str, int]:
    """Meaning → column, by the aliases in their order: the better name wins where two columns would do."""
    lowered = [header.lower() for header in headers]
    found: dict[str, int] = {}
    for meaning, aliases in ALIASES.items():
        for alias in aliases:
            if alias in lowered and lowered.index(alias) not in found.values():
                found[meaning] = lowered.index(alias)
                break
    if "email" not in found:
        for index, header in enumerate(lowered):
            if "mail" in header:
                found["email"] = index
                break
    return found


def _layout(headers: Sequence[str]) -> str:
    lowered = set(map(str.lower, headers))
    if "atlassian id" in lowered or _LAST_ACTIVE in lowered:
        return "managed_accounts"
    if "user id" in lowered:
        return "export_users_pivot" if lowered & _PIVOTS else "export_users"
    if "last_login" in lowered or "group_name" in lowered or {"id", "active", "created"} <= lowered:
        return "older_export"
    return "own"


def layout_of(content: bytes) -> str:
    """The layout by the file's first row alone. Raises InvalidInput for what cannot be a CSV file."""
    text = decode(content)
    _, first = next(_rows(text, _delimiter(text)))
    headers, _, is_headless = _heading([(1, first)])
    return "email_list" if is_headless else _layout(headers)


def _app(name: str) -> tuple[str, str] | None:
    """(product, site) that `Jira`, `Jira - example` or `Trello` names; None for any other text."""
    lowered = name.strip().lower()
    app, _, site = lowered.rpartition(" - ")
    for label, place in ((lowered, ""), (app, site)):
        if label in PRODUCT_NAMES:
            return str(PRODUCT_NAMES[label]), place
        if label in _OTHER_APPS:
            return label.replace(" ", "-"), place
    return None


@dataclass(frozen=True)
class Columns:
    """Columns that speak of products: index → (product or ANY, site). `lists_sites`: a cell holds the sites."""

    seen: dict[int, tuple[str, str]]
    held: dict[int, tuple[str, str]]
    # A blank date means never: only in the export of managed accounts (DECISIONS.md §3).
    blank_is_never: frozenset[int]
    lists_sites: bool

    def says_who_holds(self, product: str, site: str) -> bool:
        """Whether a column tells who may use the product on the site."""
        columns = set(self.held.values())
        return (product, site) in columns or (self.lists_sites and any(name == product for name, _ in columns))

    @property
    def covered(self) -> list[str]:
        """Products with a column of AUM's own of which the file says who may use them."""
        return sorted({product for product, _ in self.held.values() if product in PRODUCT_KEYS})


def columns_of(headers: Sequence[str], layout: str) -> Columns:
    """What the headings say of products, by name."""
    seen: dict[int, tuple[str, str]] = {}
    held: dict[int, tuple[str, str]] = {}
    blank: set[int] = set()
    for index, header in enumerate(headers):
        lowered = header.strip().lower()
        if lowered.startswith(SEEN):
            if found := _app(lowered.removeprefix(SEEN)):
                seen[index] = found
        elif lowered == _LAST_ACTIVE:
            seen[index] = (ANY, "")
            blank.add(index)
        elif lowered in _LAST_LOGIN and layout != "own":
            seen[index] = (ANY, "")
        elif (found := _app(lowered)) and (found[1] or layout in ("managed_accounts", "older_export")):
            held[index] = found
    return Columns(seen, held, frozenset(blank), layout == "managed_accounts")


@lru_cache(maxsize=20_000)
def parse_date(text: str) -> date | None:
    """A date as the exports write it, `3 Jan 2024`, `14 Dec 2012 15:31:57` or ISO 8601; None for anything else."""
    for pattern in ("%d %b %Y", "%d %b %Y %H:%M:%S", "%Y-%m-%d"):
        try:
            return datetime.strptime(text, pattern).date()
        except ValueError:
            continue
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        return None


def _sightings(
    cells: Sequence[str], columns: Columns, headers: Sequence[str]
) -> tuple[list[tuple[str, str, str]], list[str]]:
    """([(product, site, ISO date or "never")], cells that are no date). Blanks say nothing (DECISIONS.md §3)."""
    found: list[tuple[str, str, str]] = []
    wrong: list[str] = []
    for index, (product, site) in columns.seen.items():
        text = cells[index]
        lowered = text.lower()
        if lowered in NEVER or (index in columns.blank_is_never and not text):
            found.append((product, site, "never"))
        elif lowered in BLANK:
            continue
        elif seen := parse_date(text):
            found.append((product, site, seen.isoformat()))
        else:
            wrong.append(f"“{text[:40]}” in {headers[index][:80]} is not a date.")
    return found, wrong


def _last_seen(sightings: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Product → its newest date, or "never" where no site has a date."""
    found: dict[str, str] = {}
    for product, _, seen in sightings:
        known = found.get(product, "never")
        found[product] = known if seen == "never" else seen if known == "never" else max(known, seen)
    return found


def _holds(cells: Sequence[str], columns: Columns) -> dict[str, list[str]]:
    """Product → its sites, of those that the person may use by the file."""
    found: dict[str, list[str]] = {}
    for index, (product, site) in columns.held.items():
        text = cells[index]
        if text.lower() in _NOT_HELD:
            continue
        sites = [part.strip() for part in text.split(",") if part.strip()] if columns.lists_sites else [site]
        found.setdefault(product, []).extend(sites)
    return found


def _heading(rows: list[tuple[int, list[str]]]) -> tuple[list[str], dict[str, int], bool]:
    """(headers, mapping, whether the first row is already a person)."""
    first = rows[0][1]
    addresses = [index for index, cell in enumerate(first) if EMAIL.match(cell)]
    ids = [index for index, cell in enumerate(first) if ACCOUNT_ID.match(cell)]
    if not addresses and not ids:
        return first, guess_mapping(first), False
    mapping = {"account_id": ids[0]} if ids else {}
    if addresses:
        mapping["email"] = addresses[0]
    return [f"Column {number}" for number in range(1, len(first) + 1)], mapping, True


def parse(content: bytes) -> Parsed:
    """Everything that the file says about people. Raises InvalidInput with a sentence when it cannot be read.

    Rows of a pivoted export that name the same person are one record with all groups. Blank rows are passed over.
    """
    text = decode(content)
    rows = []
    for row in _rows(text, _delimiter(text)):
        rows.append(row)
        if len(rows) > MAX_ROWS + 1:
            raise InvalidInput(f"The file has more than {MAX_ROWS:,} rows. Split it.")
    headers, mapping, is_headless = _heading(rows)
    if len(headers) > MAX_COLUMNS:
        raise InvalidInput(f"The file has more than {MAX_COLUMNS} columns.")
    people = rows if is_headless else rows[1:]
    if not people:
        raise InvalidInput("The file has headings and no rows.")
    if len(people) > MAX_ROWS:
        raise InvalidInput(f"The file has more than {MAX_ROWS:,} rows. Split it.")
    layout = "email_list" if is_headless else _layout(headers)
    columns, width = columns_of(headers, layout), len(headers)
    records = []
    for line, cells in people:
        is_ragged = any(cells[width:])
        padded = (cells + [""] * (width - len(cells)))[:width]
        sightings, wrong = _sightings(padded, columns, headers)
        holds = _holds(padded, columns) if columns.held else {}
        records.append(Record(line, padded, _last_seen(sightings), is_ragged, sightings, holds, " ".join(wrong)))
    lowered = set(map(str.lower, headers))
    if lowered & _PIVOTS:
        records = _merged(records, headers, mapping)
    return Parsed(layout, headers, mapping, len(people), records)


def _merged(records: list[Record], headers: list[str], mapping: dict[str, int]) -> list[Record]:
    """One record a person, with the groups of all their rows separated by commas."""
    key_columns = [mapping[name] for name in ("account_id", "email") if name in mapping]
    groups = [index for index, header in enumerate(headers) if header.lower() in _PIVOTS]
    found: dict[str, Record] = {}
    merged = []
    for record in records:
        key = next((record.cells[index].lower() for index in key_columns if record.cells[index]), "")
        first = found.get(key) if key and not record.is_ragged else None
        if first is None:
            merged.append(record)
            if key and not record.is_ragged:
                found[key] = record
            continue
        for index in groups:
            if record.cells[index]:
                first.cells[index] = ", ".join(filter(None, (first.cells[index], record.cells[index])))
    return merged


def group_column(headers: Sequence[str]) -> int | None:
    """The column that names groups."""
    return next((index for index, header in enumerate(headers) if header.lower() in _GROUPS), None)
