"""Look first: filling the mirror of an organisation without credentials from an uploaded Atlassian export.

The file's people go through the same staging and merge as those that Atlassian gives, so explorer, insights, rules and
dashboard need not know where they came from. What a file says and what it leaves open is in docs/look-first.md.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count
from django.utils import timezone

from apps.audit.services import record
from apps.organizations.models import Directory, Organization
from apps.organizations.recorder import Actor
from apps.users import csv_layouts, registries
from apps.users.cache import mirror_changed
from apps.users.models import Group, ImportFile, ImportRow, SyncedPerson, SyncRun
from apps.users.products import Resources
from apps.users.services import trust
from apps.users.services.imports import check_import, read_import, upload_import
from apps.users.services.merge import MergeCounts, MergeInput, merge_staged
from apps.users.services.staging import Stager, clear_staging, copy_lines
from apps.users.services.sync_work import HandOn, Work, record_end
from aum.atlassian.schemas import GroupRef, Person, ProductActivity
from aum.common.errors import DomainError, InvalidInput
from aum.common.tasks import enqueue_on_commit

# Directory and groups that only a file named; the next sync of a connected organisation replaces them.
DIRECTORY = Directory.OF_FILE
CHUNK_ROWS = 2000
MAX_DOMAINS = 200
# Staged for "never": the merge reads it so, and no calendar has such a day.
NEVER = "-infinity"


class NotFromFile(DomainError):
    code = "organization_connected"
    detail = "This organisation is connected to Atlassian, which is asked instead of a file."


class NotAnExport(InvalidInput):
    detail = "This is no export of Atlassian Administration: no heading names a user id or a last activity."


# --- asking -----------------------------------------------------------------------------------------------------------


def checked_export(*, name: str, content: bytes) -> None:
    """Raises InvalidInput unless the content begins like one of Atlassian's exports; the rest is read later."""
    if not name.lower().endswith((".csv", ".txt")):
        raise InvalidInput(fields={"file": ["Only CSV files can be read. Save the sheet as CSV and upload that."]})
    try:
        layout = csv_layouts.layout_of(content)
    except InvalidInput as error:
        raise InvalidInput(fields={"file": [error.detail]}) from None
    if layout not in csv_layouts.EXPORTS:
        raise NotAnExport(fields={"file": [NotAnExport.detail]})


def checked_domains(text: str) -> list[str]:
    """The claimed domains in lower case, from text with commas, spaces or lines between. Raises InvalidInput."""
    words = [word.lstrip("@").lower() for word in text.replace(",", " ").replace(";", " ").split()]
    domains = list(dict.fromkeys(words))
    wrong = [domain for domain in domains if "." not in domain or "@" in domain or len(domain) > 253]
    if wrong:
        raise InvalidInput(fields={"domains": [f"“{wrong[0][:60]}” is not a domain such as example.com."]})
    if len(domains) > MAX_DOMAINS:
        raise InvalidInput(fields={"domains": [f"Name at most {MAX_DOMAINS} domains."]})
    return domains


def checked_day(day: date | None) -> date:
    """The day of the export, today where none is given. Raises InvalidInput for one that is still to come."""
    today = timezone.now().date()
    if day is not None and day > today:
        raise InvalidInput(fields={"exported_on": ["This day is still to come."]})
    return day or today


@transaction.atomic
def fill_from_file(
    *,
    organization: Organization,
    name: str,
    content: bytes,
    actor: Actor,
    exported_on: date | None = None,
    domains: str = "",
) -> SyncRun:
    """Queue the reading of an export into an organisation without credentials; the newest file replaces earlier ones.

    `domains`: claimed ones; whoever has an address there counts as managed, everybody else as external. Without them
    that stays unknown, unless the export is one of managed accounts. Raises InvalidInput, NotFromFile, and
    SyncAlreadyRunning while an earlier file is read.
    """
    from apps.users.services.sync import SyncAlreadyRunning

    if not organization.is_from_file:
        raise NotFromFile
    checked_export(name=name, content=content)
    known_domains, day = checked_domains(domains), checked_day(exported_on)
    open_run = SyncRun.objects.of(organization).filter(status__in=SyncRun.OPEN).first()
    if open_run is not None:
        raise SyncAlreadyRunning(open_run)
    file = upload_import(organization=organization, name=name, content=content, actor=actor)
    try:
        with transaction.atomic():
            run: SyncRun = SyncRun.objects.create(
                organization=organization,
                source=SyncRun.Source.FILE,
                import_file=file,
                started_by=actor.name[:254],
                found={"file": file.name, "exported_on": day.isoformat(), "domains": known_domains},
            )
    except IntegrityError:
        raise SyncAlreadyRunning(SyncRun.objects.of(organization).filter(status__in=SyncRun.OPEN).get()) from None
    record(
        organization=organization,
        actor=actor,
        action="sync.requested",
        target_kind="sync",
        target_ref=str(run.pk),
        target_name=file.name,
        after={"source": "file", "exported_on": day.isoformat(), "domains": known_domains},
    )
    enqueue_on_commit("users.sync", sync_run_id=run.pk)
    return run


# --- from a row of the file to a person -------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileColumns:
    """Where the file says what; None where it does not."""

    layout: str
    account_id: int | None
    email: int | None
    name: int | None
    status: int | None
    added: int | None
    role: int | None
    group_names: int | None
    group_ids: int | None
    products: csv_layouts.Columns

    @classmethod
    def of(cls, file: ImportFile) -> FileColumns:
        lowered = [header.strip().lower() for header in file.headers]

        def find(*names: str) -> int | None:
            return next((lowered.index(name) for name in names if name in lowered), None)

        return cls(
            layout=file.layout,
            account_id=file.mapping.get("account_id"),
            email=file.mapping.get("email"),
            name=file.mapping.get("name"),
            status=file.mapping.get("status"),
            added=find(*csv_layouts.ADDED),
            role=find(*csv_layouts.ROLES),
            group_names=csv_layouts.group_column(file.headers),
            group_ids=find("group id"),
            products=csv_layouts.columns_of(file.headers, file.layout),
        )


# What the exports call a state → (account status, membership status) as the API says it. Who is deactivated may still
# be a member, and the export of managed accounts knows no suspension: what is not said stays unknown.
_STATES: Mapping[str, tuple[str | None, str | None]] = {
    "active": ("active", "active"),
    "yes": ("active", "active"),
    "suspended": ("active", "suspended"),
    "deactivated": ("inactive", None),
    "inactive": ("inactive", None),
    "no": ("inactive", None),
}


def person_of(cells: Sequence[str], columns: FileColumns, domains: Sequence[str]) -> Person | None:
    """The person of a row, without products; None where neither an id nor an address names one.

    Somebody without an id is known by the address until a connected sync gives the id.
    """

    def cell(index: int | None) -> str:
        return cells[index].strip() if index is not None else ""

    email = cell(columns.email).lower()
    account_id = cell(columns.account_id)
    if not account_id and not csv_layouts.EMAIL.match(email):
        return None
    account_status, membership_status = _STATES.get(cell(columns.status).lower(), (None, None))
    added = csv_layouts.parse_date(cell(columns.added))
    return Person(
        account_id=account_id or f"email:{email}",
        name=cell(columns.name),
        email=email or None,
        status=None,
        account_status=account_status,
        membership_status=membership_status,
        claim_status=_claim(columns.layout, email, domains),
        account_type=None,
        management_source=None,
        added_to_org_at=datetime(added.year, added.month, added.day, tzinfo=UTC) if added else None,
        platform_roles=_roles(cell(columns.role)),
        products=None,
        groups=_groups(cell(columns.group_names), cell(columns.group_ids)),
        platform_roles_given=columns.role is not None,
    )


def _claim(layout: str, email: str, domains: Sequence[str]) -> str | None:
    if layout == "managed_accounts":
        return "managed"
    if not domains or not email:
        return None
    return "managed" if email.rpartition("@")[2] in domains else "unmanaged"


def _roles(text: str) -> tuple[str, ...]:
    """Whatever administers is taken for the most, so that whoever holds it is protected."""
    lowered = text.lower()
    if "admin" not in lowered:
        return ()
    return ("atlassian/site-admin",) if "site" in lowered and "org" not in lowered else ("atlassian/org-admin",)


def _groups(names: str, ids: str) -> tuple[GroupRef, ...]:
    found = [name.strip() for name in names.split(",") if name.strip()]
    keys = [key.strip() for key in ids.split(",") if key.strip()]
    if len(keys) != len(found):
        keys = [f"name:{name}"[:128] for name in found]
    return tuple(GroupRef(id=key, name=name) for key, name in zip(keys, found, strict=True))


@dataclass(frozen=True)
class Held:
    """One product on one site in a file. `at`: the day in words of PostgreSQL, NEVER, or None where it is not said."""

    product: str
    site: str
    at: str | None

    @property
    def resource(self) -> str:
        return f"file:{self.product}/{self.site}"


def held_by(row: ImportRow, products: csv_layouts.Columns) -> list[Held]:
    """The products that a row's person may use, with the last use of each.

    Where no column says who holds a product, a date of it does. A file with one date for everything (ANY) gives it to
    each product: it is the newest of them, so nobody looks idle who is not.
    """
    seen: dict[tuple[str, str], str] = {}
    for product, site, text in row.sightings:
        known = seen.get((product, site), "never")
        seen[product, site] = text if known == "never" else known if text == "never" else max(known, text)
    places = [(product, site) for product, sites in row.holds.items() for site in sites or [""]]
    places += [
        place
        for place, text in seen.items()
        if text != "never" and place[0] != csv_layouts.ANY and not products.says_who_holds(*place)
    ]
    overall = seen.get((csv_layouts.ANY, ""))
    return [Held(product, site, _instant(seen.get((product, site), overall))) for product, site in sorted(set(places))]


def _instant(text: str | None) -> str | None:
    if text is None:
        return None
    return NEVER if text == "never" else f"{text}T00:00:00+00:00"


class FileStager(Stager):
    """Staging of a file's people: their products come with the person, and "never" is said."""

    def __init__(self, staged: int, groups: Mapping[str, int]) -> None:
        super().__init__(staged, groups, Resources({}))
        self._held: Sequence[Held] = ()

    def line(self, person: Person, held: Sequence[Held], *, directory: int, page: int) -> Any:
        """The person's line for COPY."""
        self._held = held
        (line,) = self.lines([person], directory=directory, page=page)
        return line

    def _access(self, products: tuple[ProductActivity, ...] | None) -> str:
        names = self._array([held.product for held in self._held])
        resources = self._array([held.resource for held in self._held])
        return f"{names}\t{resources}\t{{{','.join(held.at or 'NULL' for held in self._held)}}}"


# --- working on it ----------------------------------------------------------------------------------------------------


class FileReading(Work):
    """The run of a file: its rows are stored, staged in chunks and merged; then the file can be listed as such."""

    def __init__(self, run: SyncRun, token: uuid.UUID, deadline: float | None) -> None:
        super().__init__(run, token, deadline)
        self.found: dict[str, Any] = dict(run.found)

    def phases(self) -> list[tuple[str, Callable[[], None]]]:
        return [("file", self._read_file), ("people", self._read_people), ("merge", self._merge)]

    def found_now(self) -> dict[str, Any]:
        return self.found

    def _file(self) -> ImportFile:
        if self.run.import_file_id is None:
            raise InvalidInput("The file is no longer kept. Upload it again.")
        file: ImportFile = ImportFile.objects.defer("content").get(pk=self.run.import_file_id)
        return file

    def _read_file(self) -> None:
        """Store the rows; whoever uploaded it may have a worker at it already, which does no harm."""
        if self._file().status == ImportFile.Status.READING:
            read_import(self._file().pk)
        file = self._file()
        if file.status == ImportFile.Status.FAILED:
            raise InvalidInput(file.error)
        if file.status == ImportFile.Status.READING:
            raise HandOn(1.0)
        self._save(people_total=file.rows_total)

    def _read_people(self) -> None:
        file = self._file()
        columns, domains = FileColumns.of(file), self.found.get("domains", [])
        self._check_staging()
        home = self._home()
        every = ImportRow.objects.filter(import_file=file).order_by("line")
        while rows := list(every.filter(line__gt=self.cursor.get("line", 0))[:CHUNK_ROWS]):
            self._stage(rows, columns, domains, home)
            self._breathe()

    def _check_staging(self) -> None:
        """Begin again when staging is not what the cursor says: a crash of PostgreSQL empties it."""
        if SyncedPerson.objects.filter(sync_run=self.run.pk).count() != self.cursor.get("rows", 0):
            with transaction.atomic():
                clear_staging(self.run.pk)
                self.cursor = {}
                self.found.pop("left_out", None)
                self._save(people_seen=0, found=self.found)

    def _home(self) -> Directory:
        directory, _ = Directory.objects.update_or_create(
            organization=self.organization,
            directory_id=DIRECTORY,
            defaults={"name": "Export file", "seen_at": timezone.now()},
        )
        return directory

    def _stage(self, rows: list[ImportRow], columns: FileColumns, domains: list[str], home: Directory) -> None:
        page = self.cursor.get("page", 0) + 1
        people: dict[str, tuple[Person, list[Held]]] = {}
        left_out = 0
        for row in rows:
            person = None if row.is_ragged else person_of(row.cells, columns, domains)
            if person is None or person.account_id in people:
                left_out += 1
            else:
                people[person.account_id] = (person, held_by(row, columns.products))
        with transaction.atomic():
            stager = FileStager(self.run.pk, self._group_keys(home, [person for person, _ in people.values()]))
            copy_lines(stager.line(one, held, directory=home.pk, page=page) for one, held in people.values())
            places = {(held.product, held.resource, held.site) for _, some in people.values() for held in some}
            self._note(places, left_out)
            self.cursor |= {
                "page": page,
                "rows": self.cursor.get("rows", 0) + len(people),
                "line": rows[-1].line,
            }
            self._save(people_seen=self.run.people_seen + len(people), found=self.found)

    def _note(self, places: Iterable[tuple[str, str, str]], left_out: int) -> None:
        known = {tuple(row) for row in self.found.get("resources", [])}
        known |= {(product, resource.rpartition("/")[2], resource, site) for product, resource, site in places}
        self.found["resources"] = [list(row) for row in sorted(known)]
        self.found["left_out"] = self.found.get("left_out", 0) + left_out

    def _group_keys(self, home: Directory, people: Sequence[Person]) -> dict[str, int]:
        """Our keys of the people's groups, made where they are new. What they grant no file says."""
        names = {group.id: group.name[:255] for person in people for group in person.groups or ()}
        Group.objects.bulk_create(
            [
                Group(organization=self.organization, directory=home, group_id=key, name=name)
                for key, name in names.items()
            ],
            ignore_conflicts=True,
        )
        rows = Group.objects.filter(directory=home, group_id__in=names)
        rows.filter(vanished_at__isnull=False).update(vanished_at=None)
        return dict(rows.values_list("group_id", "pk"))

    def _merge(self) -> None:
        began = time.monotonic()
        file, home = self._file(), self._home()
        with transaction.atomic():
            run = self._held_run()
            counts = merge_staged(self._merge_input(home), mark_vanished=True)
            self._close_groups(home)
            people = SyncedPerson.objects.filter(sync_run=run.pk).values("account_id").distinct().count()
            self._finish(run, people, counts, began)
            clear_staging(run.pk)
            check_import(file=file, mapping=file.mapping)
        mirror_changed(self.organization.pk)
        trust.tell(self.run)
        for hook in registries.on_sync_merged:
            hook(self.run)

    def _merge_input(self, home: Directory) -> MergeInput:
        day = datetime.fromisoformat(f"{self.found['exported_on']}T00:00:00+00:00")
        return MergeInput(
            organization=self.organization.pk,
            staged=self.run.pk,
            run=self.run.pk,
            read_directories=[home.pk],
            is_everything=True,
            read_at=self.run.started_at or self.run.created_at,
            now=timezone.now(),
            is_first=True,
            sites=[(product, resource, site) for product, _, resource, site in self.found.get("resources", [])],
            source=SyncRun.Source.FILE.value,
            source_at=day,
        )

    def _close_groups(self, home: Directory) -> None:
        """Member counts as the file has them; a group that it no longer names is gone."""
        groups = Group.objects.filter(directory=home)
        counts = dict(
            groups.filter(memberships__account__vanished_at__isnull=True)
            .annotate(people=Count("memberships"))
            .values_list("pk", "people")
        )
        rows = list(groups)
        now = timezone.now()
        for group in rows:
            group.member_count = counts.get(group.pk, 0)
            group.vanished_at = None if group.pk in counts else group.vanished_at or now
        Group.objects.bulk_update(rows, ["member_count", "vanished_at"], batch_size=500)

    def _finish(self, run: SyncRun, people: int, counts: MergeCounts, began: float) -> None:
        # Whoever stands in two chunks was staged twice and counts once.
        twice = run.people_seen - people
        run.trust = {
            **trust.figures(run),
            "left_out": self.found.get("left_out", 0) + twice,
            "details_written": counts.details,
            "merge_seconds": round(time.monotonic() - began, 3),
        }
        run.distrust_reasons, run.is_trusted, run.status = [], True, SyncRun.Status.SUCCEEDED
        run.people_seen = run.people_total = people
        run.people_added, run.people_changed, run.people_vanished = counts.added, counts.changed, counts.vanished
        run.groups_seen = (
            Group.objects.filter(directory__directory_id=DIRECTORY, organization=run.organization)
            .filter(vanished_at__isnull=True)
            .count()
        )
        run.finished_at = timezone.now()
        run.phase, run.cursor, run.found = "finished", {}, self.found
        run.lease_token = run.lease_until = None
        run.save()
        self.run = run
        record_end(run, outcome="success")
