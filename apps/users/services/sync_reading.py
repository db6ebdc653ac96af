"""Reading a whole directory from Atlassian, page by page into staging, then one merge."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from apps.organizations.models import Credential, Directory
from apps.organizations.services import resolve_alert
from apps.users import registries
from apps.users.cache import mirror_changed
from apps.users.models import Group, MembershipStatus, SyncedPerson, SyncRun
from apps.users.products import (
    ORG_ADMIN_ROLES,
    SITE_ADMIN_ROLES,
    Resources,
)
from apps.users.selectors.trust import MERGED
from apps.users.services import trust
from apps.users.services.merge import MergeCounts, MergeInput, merge_staged
from apps.users.services.staging import (
    OUTSIDE,
    StagedLine,
    Stager,
    clear_staging,
    copy_lines,
    is_customer,
    membership_status_of,
)
from apps.users.services.sync_storing import (
    Ahead,
    adopt_groups,
    groups_granting,
    leave_file_behind,
    store_directory,
    store_grants,
    store_group,
    store_sites,
)
from apps.users.services.sync_work import Work, record_end
from aum.atlassian.client import ANY_DIRECTORY, AtlassianReader
from aum.atlassian.errors import (
    AtlassianError,
    BadRequest,
    NotFound,
    RateLimited,
    Unauthorized,
    Unavailable,
    WaitTooLong,
)
from aum.atlassian.schemas import Page, Person

logger = logging.getLogger(__name__)

# Fewer people than Atlassian counts, beyond this share or number, make a sync partial: people come and go meanwhile.
COUNT_TOLERANCE_SHARE = 0.005
COUNT_TOLERANCE = 2
GRANTS_PER_SAVE = 20
# Pages of people that one transaction stages, and how long it waits for them: a slow Atlassian's are staged one by one.
PAGES_AT_ONCE = 10
BATCH_SECONDS = 0.2
UNKNOWN_VALUES_KEPT = 20


@dataclass
class _Place:
    """A directory to read: our key, Atlassian's id, its name. `pk` OUTSIDE: managed accounts in no directory."""

    pk: int
    id: str
    name: str


@dataclass
class _Found:
    """What the phases before the people found; kept on the run for whoever resumes it."""

    places: list[_Place] = field(default_factory=list)
    resources: list[list[str]] = field(default_factory=list)
    groups_seen: list[int] = field(default_factory=list)
    groups_changed: list[int] = field(default_factory=list)
    groups_unread: list[str] = field(default_factory=list)
    places_unread: list[list[Any]] = field(default_factory=list)
    customers: int = 0
    unknown_values: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, data: dict[str, Any]) -> _Found:
        found = cls(**{key: value for key, value in data.items() if key != "places"})
        found.places = [_Place(**place) for place in data.get("places", [])]
        return found

    def dump(self) -> dict[str, Any]:
        return {**vars(self), "places": [vars(place) for place in self.places]}

    def resource_map(self) -> Resources:
        return Resources({(product, tail): (ari, site) for product, tail, ari, site in self.resources})

    def sites(self) -> list[tuple[str, str, str]]:
        return [(product, ari, site) for product, _, ari, site in self.resources]


class DirectoryReading(Work):
    """Reading everything from Atlassian: places, groups, what they grant, people, and the merge."""

    def __init__(self, run: SyncRun, token: uuid.UUID, reader: AtlassianReader, deadline: float | None) -> None:
        super().__init__(run, token, deadline)
        self.reader = reader
        self.found = _Found.load(run.found)
        self.group_keys: dict[str, int] = {}
        self.resources = self.found.resource_map()
        self.stager = Stager(run.pk, self.group_keys, self.resources)

    def phases(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            ("places", self._read_places),
            ("groups", self._read_groups),
            ("grants", self._read_grants),
            ("people", self._read_people),
            ("late_grants", self._read_grants),
            ("merge", self._merge),
        ]

    def found_now(self) -> dict[str, Any]:
        return self.found.dump()

    # -- products, sites, directories

    def _read_places(self) -> None:
        workspaces = self.reader.workspaces()
        directories = self.reader.directories()
        total = self.reader.count_users()
        now = timezone.now()
        with transaction.atomic():
            self.found.resources = store_sites(self.organization, workspaces)
            self.resources = self.found.resource_map()
            self.found.places = [
                _Place(
                    store_directory(self.organization, directory.id, directory.name, now), directory.id, directory.name
                )
                for directory in directories
            ]
            self._save(found=self.found.dump(), people_total=total)

    # -- groups and what they grant

    def _read_groups(self) -> None:
        done = set(self.cursor.get("done", []))
        for place in self.found.places:
            if place.pk in done:
                continue
            self._read_groups_of(place)
            done.add(place.pk)
            self.cursor = {"done": sorted(done)}
            self._save(found=self.found.dump(), groups_seen=len(self.found.groups_seen))
            self._breathe()

    def _read_groups_of(self, place: _Place) -> None:
        """All groups of one directory: hundreds to a few thousand, so a kill starts this directory again."""
        groups = list(self.reader.iter_groups(place.id, expand=("counts.users",)))
        with transaction.atomic():
            adopt_groups(self.organization, place.pk, groups)
            self.found.groups_seen += [store_group(self.organization, place.pk, group) for group in groups]

    def _read_grants(self) -> None:
        """What each group grants. A group that cannot be read keeps what was read of it before (its name is noted)."""
        directory_ids = {place.pk: place.id for place in self.found.places}
        rows = Group.objects.of(self.organization).filter(
            pk__in=self.found.groups_seen, pk__gt=self.cursor.get("after", 0)
        )
        if self.run.phase == "late_grants":
            rows = rows.filter(are_grants_known=False)
        for number, group in enumerate(rows.order_by("pk"), 1):
            try:
                roles = self.reader.group_role_assignments(directory_ids[group.directory_id], group.group_id)
            except NotFound:
                roles = []
            except (RateLimited, WaitTooLong, Unavailable, Unauthorized):
                raise
            except AtlassianError as error:
                logger.warning("sync.group_unread", extra={"group_id": group.group_id, "error": error.code})
                self.found.groups_unread = sorted({*self.found.groups_unread, group.name})
                roles = None
            if roles is not None and store_grants(group, roles, self.resources):
                self.found.groups_changed = sorted({*self.found.groups_changed, group.pk})
            self.cursor = {"after": group.pk}
            if number % GRANTS_PER_SAVE == 0:
                self._save(found=self.found.dump())
                self._breathe()
        self._save(found=self.found.dump())

    # -- people

    def _read_people(self) -> None:
        self._check_staging()
        self.group_keys = dict(
            Group.objects.of(self.organization).filter(pk__in=self.found.groups_seen).values_list("group_id", "pk")
        )
        self.stager = Stager(self.run.pk, self.group_keys, self.resources)
        places = [*self.found.places, _Place(OUTSIDE, ANY_DIRECTORY, "(outside every directory)")]
        for number in range(self.cursor.get("place", 0), len(places)):
            error = self._read_place(places[number])
            if isinstance(error, BadRequest) and self.cursor.get("at"):
                # A cursor can grow too old to go on from: then this directory is read from its start, once.
                self._drop_staged(places[number])
                error = self._read_place(places[number])
            if error is not None:
                self._leave_out(places[number], error)
            self.cursor = {"place": number + 1, "page": self.cursor.get("page", 0), "rows": self.cursor.get("rows", 0)}
            self._save(found=self.found.dump())

    def _read_place(self, place: _Place) -> AtlassianError | None:
        """Read one directory; returns the refusal that concerns it alone, raises what concerns all."""
        try:
            self._read_people_of(place)
        except (RateLimited, WaitTooLong, Unavailable, Unauthorized):
            raise
        except AtlassianError as error:
            return error
        return None

    def _check_staging(self) -> None:
        """Begin the people again when staging is not what the cursor says: a crash of PostgreSQL empties it."""
        staged = SyncedPerson.objects.filter(sync_run=self.run.pk).count()
        if staged != self.cursor.get("rows", 0):
            logger.warning("sync.staging_lost", extra={"sync_run_id": self.run.pk, "rows": staged})
            with transaction.atomic():
                clear_staging(self.run.pk)
                self.cursor = {}
                self.found.places_unread, self.found.customers = [], 0
                self._save(found=self.found.dump(), people_seen=0)

    def _leave_out(self, place: _Place, error: AtlassianError) -> None:
        """A directory that cannot be read makes the sync partial: a part of it would look like people who left."""
        logger.warning("sync.directory_unread", extra={"directory_id": place.id, "error": error.code})
        self._drop_staged(place)
        self.found.places_unread = [*self.found.places_unread, [place.pk, place.name, error.detail]]
        unread = {pk for pk, _, _ in self.found.places_unread}
        if all(known.pk in unread for known in self.found.places):
            raise error

    def _drop_staged(self, place: _Place) -> None:
        with transaction.atomic():
            dropped, _ = SyncedPerson.objects.filter(sync_run=self.run.pk, directory=place.pk).delete()
            self.cursor["rows"] = self.cursor.get("rows", 0) - dropped
            self.cursor |= {"at": None, "is_end": False}
            self._save(people_seen=F("people_seen") - dropped)
        self.run.refresh_from_db(fields=["people_seen"])

    def _read_people_of(self, place: _Place) -> None:
        if self.cursor.get("is_end"):
            return  # stopped between the last page and the next directory
        filters: dict[str, Any] = {"membership_status": ["no_membership"]} if place.pk == OUTSIDE else {}
        pages = self.reader.iter_user_pages(place.id, cursor=self.cursor.get("at"), **filters)
        with Ahead(pages, most=PAGES_AT_ONCE, seconds=BATCH_SECONDS) as fetched:
            for some in fetched:
                self._stage(place, some)
                self._breathe()

    def _stage(self, place: _Place, pages: list[Page[Person]]) -> None:
        """Some pages and the cursor behind them, in one transaction."""
        first = self.cursor.get("page", 0) + 1
        kept = [self._people_of(place, page) for page in pages]
        with transaction.atomic():
            lines: list[StagedLine] = []
            for number, people in enumerate(kept, first):
                self._store_late_groups(place, people)
                lines += self.stager.lines(people, directory=place.pk, page=number)
            copy_lines(lines)
            self.cursor |= {
                "page": first + len(pages) - 1,
                "rows": self.cursor.get("rows", 0) + len(lines),
                "at": pages[-1].next_cursor,
                "is_end": pages[-1].next_cursor is None,
            }
            self._save(people_seen=self.run.people_seen + len(lines))

    def _people_of(self, place: _Place, page: Page[Person]) -> list[Person]:
        """Those of a page that are kept; customers and values that Atlassian does not document are counted."""
        people = [person for person in page.items if not is_customer(person)]
        self.found.customers += len(page.items) - len(people)
        if place.pk == OUTSIDE:
            # Atlassian has ignored filters before: whoever is in a directory was read there.
            people = [p for p in people if membership_status_of(p) == MembershipStatus.NO_MEMBERSHIP]
        for person in people:
            for value in person.unknown_values:
                if value in self.found.unknown_values or len(self.found.unknown_values) < UNKNOWN_VALUES_KEPT:
                    self.found.unknown_values[value] = self.found.unknown_values.get(value, 0) + 1
        return people

    def _store_late_groups(self, place: _Place, people: list[Person]) -> None:
        """Groups that were made since the groups were read; what they grant is read before the merge."""
        for person in people:
            for group in person.groups or ():
                if group.id in self.group_keys:
                    continue
                directory = place.pk or self.found.places[0].pk
                row, _ = Group.objects.update_or_create(
                    directory_id=directory,
                    group_id=group.id,
                    defaults={"name": group.name or group.id, "vanished_at": None},
                    create_defaults={"organization": self.organization, "name": group.name or group.id},
                )
                self.group_keys[group.id] = row.pk
                self.found.groups_seen.append(row.pk)

    # -- the end

    def _merge(self) -> None:
        began = time.monotonic()
        expected = min(self.reader.count_users(), self.run.people_total or 0)
        with transaction.atomic():
            run = self._held_run()
            staged = SyncedPerson.objects.filter(sync_run=run.pk).values("account_id").distinct().count()
            gaps = self._gaps(staged, expected)
            merge = self._merge_input()
            if merge.is_first:
                leave_file_behind(self.organization, run.pk)
            counts = merge_staged(merge, mark_vanished=not gaps)
            if not gaps:
                self._mark_vanished_groups()
            self._finish(run, gaps, staged, expected, counts, began)
            clear_staging(run.pk)
        mirror_changed(self.organization.pk)
        trust.tell(self.run)
        resolve_alert(organization=self.organization, dedup_key="sync_failed")
        for hook in registries.on_sync_merged:
            hook(self.run)
        logger.info("sync.finished", extra={"sync_run_id": run.pk, "people": staged, "status": self.run.status})

    def _gaps(self, staged: int, expected: int) -> list[str]:
        """Why the reading is not complete, in sentences; empty when it is."""
        gaps = [f"The directory {name} could not be read: {detail}" for name, _, detail in self.found.places_unread]
        missing = expected - staged - self.found.customers
        if missing > max(COUNT_TOLERANCE, expected * COUNT_TOLERANCE_SHARE):
            gaps.append(f"Atlassian counts {expected:,} people and gave {staged:,}.")
        return gaps

    def _merge_input(self) -> MergeInput:
        unread = {pk for pk, _, _ in self.found.places_unread}
        credentials = list(Credential.objects.of(self.organization).values_list("owner_account_id", "owner_email"))
        groups = list(Group.objects.of(self.organization).values_list("pk", "grants", "are_grants_known"))
        runs = SyncRun.objects.of(self.organization).exclude(pk=self.run.pk)
        known = {place.pk for place in self.found.places if place.pk not in unread}
        gone = set(Directory.objects.of(self.organization).values_list("pk", flat=True)) - {
            place.pk for place in self.found.places
        }
        return MergeInput(
            organization=self.organization.pk,
            staged=self.run.pk,
            run=self.run.pk,
            read_directories=sorted(known | gone),
            is_everything=not self.found.places_unread,
            read_at=self.run.started_at or self.run.created_at,
            now=timezone.now(),
            is_first=not runs.filter(status=SyncRun.Status.SUCCEEDED, source=SyncRun.Source.API).exists(),
            changed_groups=self.found.groups_changed,
            unknown_groups=[pk for pk, _, is_known in groups if not is_known],
            org_admin_groups=groups_granting(groups, ORG_ADMIN_ROLES),
            site_admin_groups=groups_granting(groups, SITE_ADMIN_ROLES),
            owner_ids=[account_id for account_id, _ in credentials if account_id],
            owner_emails=[email for _, email in credentials if email],
            glitch_runs=list(runs.filter(status__in=MERGED).exclude(is_trusted=True).values_list("pk", flat=True)),
            sites=self.found.sites(),
        )

    def _mark_vanished_groups(self) -> None:
        missing = Group.objects.of(self.organization).filter(vanished_at__isnull=True)
        missing.exclude(pk__in=self.found.groups_seen).update(vanished_at=timezone.now(), member_count=0)

    def _finish(
        self, run: SyncRun, gaps: list[str], staged: int, expected: int, counts: MergeCounts, began: float
    ) -> None:
        run.trust = {
            **trust.figures(run),
            "expected": expected,
            "read": staged,
            "customers_left_out": self.found.customers,
            "unknown_values": self.found.unknown_values,
            "groups_unread": self.found.groups_unread,
            "details_written": counts.details,
            "merge_seconds": round(time.monotonic() - began, 3),
        }
        run.distrust_reasons = gaps + trust.reasons(self.organization, run.trust)
        run.is_trusted = not run.distrust_reasons
        run.status = SyncRun.Status.PARTIAL if gaps else SyncRun.Status.SUCCEEDED
        run.people_seen, run.people_total = staged, max(staged, expected)
        run.people_added, run.people_changed, run.people_vanished = counts.added, counts.changed, counts.vanished
        run.finished_at = timezone.now()
        run.phase, run.cursor = "finished", {}
        run.found = {"resources": self.found.resources}
        run.lease_token = run.lease_until = None
        run.save()
        self.run = run
        record_end(run, outcome="success" if run.is_trusted else "warning", reason=" ".join(run.distrust_reasons))
