"""Reading a whole directory into the mirror: one run per organisation at a time, resumable after a kill at any page.

`request_sync` makes a SyncRun, `run_sync` works on it under a lease: products and sites, directories, groups, what each
group grants, people page by page into staging, the count, and one merge. Each page is staged in the transaction that
moves the cursor, so after a kill the next worker goes on from there. The mirror changes in the last transaction only.
docs/decisions/0006-sync.md says why it is built so.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from django.db import IntegrityError, connections, transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.audit.services import record
from apps.organizations.models import Credential, Directory, Organization, Site
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert, reader_for, resolve_alert, unusable_credentials
from apps.users.cache import mirror_changed
from apps.users.models import Group, MembershipStatus, SyncedPerson, SyncRun
from apps.users.products import (
    ADMIN_ROLES,
    ORG_ADMIN_ROLES,
    SEATLESS_ROLES,
    SITE_ADMIN_ROLES,
    Resources,
    bits_of,
    product_of,
    role_name,
)
from apps.users.selectors.trust import MERGED
from apps.users.services import trust
from apps.users.services.merge import MergeCounts, MergeInput, merge_staged
from apps.users.services.staging import OUTSIDE, Stager, clear_staging, is_customer, membership_status_of
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
from aum.atlassian.schemas import GroupInfo, Page, Person, RoleAssignment, Workspace
from aum.common.errors import DomainError
from aum.common.tasks import enqueue, enqueue_on_commit

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEASE = timedelta(seconds=120)
# One call of run_sync works this long at most, then hands on: well under the broker's visibility time-out.
SLICE_SECONDS = 600.0
# Consecutive failures of the same step after which the run gives up.
MAX_FAILURES = 8
RETRY_SECONDS = (5, 15, 30, 60, 120, 240, 300, 300)
# Fewer people than Atlassian counts, beyond this share or number, make a sync partial: people come and go meanwhile.
COUNT_TOLERANCE_SHARE = 0.005
COUNT_TOLERANCE = 2
GRANTS_PER_SAVE = 20
UNKNOWN_VALUES_KEPT = 20


class SyncAlreadyRunning(DomainError):
    code = "sync_running"
    detail = "A sync of this organisation is already running."

    def __init__(self, sync_run: SyncRun) -> None:
        super().__init__()
        self.sync_run = sync_run


class LeaseLost(Exception):
    """Another worker has the run, or somebody cancelled it: stop without a word."""


class _HandOn(Exception):
    """The slice is over, or Atlassian is to be left alone for `wait_seconds`; another call goes on."""

    def __init__(self, wait_seconds: float = 0.0) -> None:
        super().__init__()
        self.wait_seconds = wait_seconds


# --- asking for a sync ------------------------------------------------------------------------------------------------


def request_sync(
    *, organization: Organization, actor: Actor, initiator: str = "manual", exist_ok: bool = False
) -> SyncRun:
    """Queue a sync and return it.

    While one is open, `exist_ok` returns that one (its `was_open` is True), otherwise raises SyncAlreadyRunning, which
    carries it as `sync_run`. Two requests at once are told apart by a constraint, not by looking first.
    """
    try:
        with transaction.atomic():
            run: SyncRun = SyncRun.objects.create(
                organization=organization, initiator=initiator, started_by=actor.name[:254]
            )
            record(
                organization=organization,
                actor=actor,
                action="sync.requested",
                target_kind="sync",
                target_ref=str(run.pk),
                target_name=str(run.pk),
            )
            enqueue_on_commit("users.sync", sync_run_id=run.pk)
    except IntegrityError:
        open_run: SyncRun | None = SyncRun.objects.of(organization).filter(status__in=SyncRun.OPEN).first()
        if open_run is None:
            raise
        if not exist_ok:
            raise SyncAlreadyRunning(open_run) from None
        open_run.was_open = True
        return open_run
    return run


def cancel_sync(*, sync_run: SyncRun, actor: Actor) -> SyncRun:
    """Stop an open sync at its next page; the mirror stays as it was. A finished one is returned as it is."""
    with transaction.atomic():
        cancelled = SyncRun.objects.filter(pk=sync_run.pk, status__in=SyncRun.OPEN).update(
            status=SyncRun.Status.CANCELLED, finished_at=timezone.now(), lease_token=None, lease_until=None
        )
        if cancelled:
            record(
                organization=sync_run.organization,
                actor=actor,
                action="sync.cancelled",
                target_kind="sync",
                target_ref=str(sync_run.pk),
                target_name=str(sync_run.pk),
            )
            clear_staging(sync_run.pk)
    sync_run.refresh_from_db()
    return sync_run


def sweep_syncs(*, now: datetime | None = None) -> int:
    """Enqueue open runs that nobody works on, and request the daily sync of organisations that are due; returns both.

    Nobody works on a run whose lease is over, or that was queued and not taken within the lease's time. A merge holds
    the row's lock, so it is never taken for dead.
    """
    now = now or timezone.now()
    idle = SyncRun.objects.filter(status__in=SyncRun.OPEN).filter(
        Q(lease_until__lt=now) | Q(lease_until__isnull=True, created_at__lt=now - LEASE)
    )
    with transaction.atomic():
        pks = [run.pk for run in idle.select_for_update(skip_locked=True).only("pk")]
    for pk in pks:
        enqueue("users.sync", sync_run_id=pk)
    due = [organization for organization in Organization.objects.all() if _is_due(organization, now)]
    for organization in due:
        request_sync(organization=organization, actor=Actor.scheduler(), initiator="automated", exist_ok=True)
    return len(pks) + len(due)


def _is_due(organization: Organization, now: datetime) -> bool:
    """Whether the day's hour has passed and no sync was made since; an organisation is first synced by hand."""
    slot = now.replace(hour=organization.sync_hour_utc, minute=0, second=0, microsecond=0)
    if slot > now:
        slot -= timedelta(days=1)
    newest = SyncRun.objects.of(organization).order_by("-id").values_list("created_at", flat=True).first()
    return newest is not None and newest < slot


# --- working on one ---------------------------------------------------------------------------------------------------


def run_sync(
    sync_run_id: int, *, budget_seconds: float | None = SLICE_SECONDS, wait_here: bool = False
) -> SyncRun | None:
    """Work on a run until it is finished or `budget_seconds` are over; then the rest is enqueued.

    Returns the run as it stands, or None when another worker has it or it is over. `wait_here` keeps working in this
    process instead (commands, tests): waits are slept through. What Atlassian refuses ends up on the run, not here.
    """
    while True:
        token = _take_lease(sync_run_id)
        if token is None:
            return None
        run: SyncRun = SyncRun.objects.select_related("organization").get(pk=sync_run_id)
        deadline = time.monotonic() + budget_seconds if budget_seconds is not None else None
        wait_seconds = _work(run, token, deadline)
        run.refresh_from_db()
        if wait_seconds is None:
            return run
        if not wait_here:
            enqueue("users.sync", countdown_seconds=wait_seconds, sync_run_id=run.pk)
            return run
        time.sleep(wait_seconds)


def _take_lease(sync_run_id: int) -> uuid.UUID | None:
    """A token for the run, if it is open and nobody works on it. A row that is locked is being merged."""
    now = timezone.now()
    token = uuid.uuid4()
    with transaction.atomic():
        run = (
            SyncRun.objects.select_for_update(skip_locked=True)
            .filter(pk=sync_run_id, status__in=SyncRun.OPEN)
            .filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now) | Q(lease_token__isnull=True))
            .first()
        )
        if run is None:
            return None
        SyncRun.objects.filter(pk=run.pk).update(
            status=SyncRun.Status.RUNNING,
            started_at=run.started_at or now,
            lease_token=token,
            lease_until=now + LEASE,
        )
    return token


def _work(run: SyncRun, token: uuid.UUID, deadline: float | None) -> float | None:
    """One slice. None when there is nothing more to do here, else the seconds to wait before the next slice."""
    try:
        with reader_for(run.organization) as reader:
            _Sync(run, token, reader, deadline).go()
    except LeaseLost:
        logger.info("sync.lease_lost", extra={"sync_run_id": run.pk})
    except _HandOn as handed_on:
        return _release(run, token, handed_on.wait_seconds)
    except (RateLimited, WaitTooLong, Unavailable) as error:
        return _try_again(run, token, error)
    except AtlassianError as error:
        _fail(run, token, error.code, error.detail, error.advice, credentials=isinstance(error, Unauthorized))
    except DomainError as error:
        _fail(run, token, error.code, error.detail, "")
    return None


def _release(run: SyncRun, token: uuid.UUID, wait_seconds: float) -> float | None:
    """Give the lease back; a sweep picks the run up once it is overdue. None when the lease was lost."""
    released = SyncRun.objects.filter(pk=run.pk, lease_token=token, status=SyncRun.Status.RUNNING).update(
        lease_token=None, lease_until=timezone.now() + timedelta(seconds=wait_seconds) + LEASE
    )
    return wait_seconds if released else None


def _try_again(run: SyncRun, token: uuid.UUID, error: AtlassianError) -> float | None:
    failures = int(run.cursor.get("failures", 0)) + 1
    if failures > MAX_FAILURES:
        _fail(run, token, error.code, error.detail, error.advice)
        return None
    wait = max(getattr(error, "wait_seconds", 0.0), float(RETRY_SECONDS[failures - 1]))
    if isinstance(error, RateLimited | WaitTooLong):
        # Atlassian is there and said when: no failure of this run.
        wait, failures = max(getattr(error, "wait_seconds", 0.0), 1.0), failures - 1
    logger.warning("sync.waits", extra={"sync_run_id": run.pk, "error": error.code, "wait_seconds": wait})
    SyncRun.objects.filter(pk=run.pk, lease_token=token).update(cursor={**run.cursor, "failures": failures})
    return _release(run, token, wait)


def _fail(run: SyncRun, token: uuid.UUID, code: str, detail: str, advice: str, *, credentials: bool = False) -> None:
    """End a run that cannot go on: nothing was merged, the mirror is as it was; a person is told."""
    sentence = " ".join(f"{part.strip().rstrip('.')}." for part in (detail, advice) if part.strip())
    with transaction.atomic():
        ended = SyncRun.objects.filter(pk=run.pk, lease_token=token, status=SyncRun.Status.RUNNING).update(
            status=SyncRun.Status.FAILED,
            error_code=code[:60],
            error_detail=sentence,
            is_trusted=False,
            distrust_reasons=[f"The sync failed: {sentence}"],
            finished_at=timezone.now(),
            lease_token=None,
            lease_until=None,
        )
        if not ended:
            return
        clear_staging(run.pk)
        run.refresh_from_db()
        _record_end(run, outcome="failed", reason=sentence)
    if credentials:
        unusable_credentials(organization=run.organization, detail=sentence)
    raise_alert(
        organization=run.organization,
        kind="sync_failed",
        severity="error",
        title="The sync failed; the people shown are those of the last one",
        detail=sentence,
        link=f"/o/{run.organization.slug}/",
    )
    logger.error("sync.failed", extra={"sync_run_id": run.pk, "code": code})


def _record_end(run: SyncRun, *, outcome: str, reason: str = "") -> None:
    record(
        organization=run.organization,
        actor=Actor.system(run.started_by or "AUM"),
        action="sync.finished",
        target_kind="sync",
        target_ref=str(run.pk),
        target_name=str(run.pk),
        outcome=outcome,
        reason=reason,
        after={
            "status": run.status,
            "people": run.people_seen,
            "added": run.people_added,
            "changed": run.people_changed,
            "vanished": run.people_vanished,
            "is_trusted": run.is_trusted,
        },
    )


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


class _Sync:
    """One slice of work on a run. The cursor on the row says where each phase stands."""

    def __init__(self, run: SyncRun, token: uuid.UUID, reader: AtlassianReader, deadline: float | None) -> None:
        self.run = run
        self.organization = run.organization
        self.token = token
        self.reader = reader
        self.deadline = deadline
        self.cursor: dict[str, Any] = dict(run.cursor)
        self.found = _Found.load(run.found)
        self.group_keys: dict[str, int] = {}
        self.resources = self.found.resource_map()
        self.stager = Stager(run.pk, self.group_keys, self.resources)

    def go(self) -> None:
        phases: list[tuple[str, Callable[[], None]]] = [
            ("places", self._read_places),
            ("groups", self._read_groups),
            ("grants", self._read_grants),
            ("people", self._read_people),
            ("late_grants", self._read_grants),
            ("merge", self._merge),
        ]
        names = [name for name, _ in phases]
        at = names.index(self.run.phase) if self.run.phase in names else 0
        for name, work in phases[at:]:
            if self.run.phase != name:
                self.cursor = {}
                self._save(phase=name, found=self.found.dump())
            work()

    def _save(self, **fields: Any) -> None:
        """Store progress and renew the lease, if the run is still ours. Raises LeaseLost otherwise."""
        self.cursor.pop("failures", None)
        held = SyncRun.objects.filter(pk=self.run.pk, lease_token=self.token, status=SyncRun.Status.RUNNING).update(
            cursor=self.cursor, lease_until=timezone.now() + LEASE, **fields
        )
        if not held:
            raise LeaseLost
        self.run.cursor = self.cursor
        for name, value in fields.items():
            setattr(self.run, name, value)

    def _breathe(self) -> None:
        """Hand on when the slice is over; called where everything is stored."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise _HandOn

    # -- products, sites, directories

    def _read_places(self) -> None:
        workspaces = self.reader.workspaces()
        directories = self.reader.directories()
        total = self.reader.count_users()
        now = timezone.now()
        with transaction.atomic():
            self.found.resources = _store_sites(self.organization, workspaces)
            self.resources = self.found.resource_map()
            self.found.places = [
                _Place(
                    _store_directory(self.organization, directory.id, directory.name, now), directory.id, directory.name
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
            self.found.groups_seen += [_store_group(self.organization, place.pk, group) for group in groups]

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
            if roles is not None and _store_grants(group, roles, self.resources):
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
        with _Ahead(pages) as fetched:
            for page in fetched:
                self._stage(place, page)
                self._breathe()

    def _stage(self, place: _Place, page: Page[Person]) -> None:
        """One page and the cursor behind it, in one transaction."""
        number = self.cursor.get("page", 0) + 1
        people = [person for person in page.items if not is_customer(person)]
        if place.pk == OUTSIDE:
            # Atlassian has ignored filters before: whoever is in a directory was read there.
            people = [p for p in people if membership_status_of(p) == MembershipStatus.NO_MEMBERSHIP]
        self.found.customers += sum(1 for person in page.items if is_customer(person))
        for person in people:
            for value in person.unknown_values:
                if value in self.found.unknown_values or len(self.found.unknown_values) < UNKNOWN_VALUES_KEPT:
                    self.found.unknown_values[value] = self.found.unknown_values.get(value, 0) + 1
        with transaction.atomic():
            self._store_late_groups(place, people)
            self.stager.stage(people, directory=place.pk, page=number)
            self.cursor |= {
                "page": number,
                "rows": self.cursor.get("rows", 0) + len(people),
                "at": page.next_cursor,
                "is_end": page.next_cursor is None,
            }
            self._save(people_seen=self.run.people_seen + len(people))

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
            # The lock says that somebody works here, however long it takes: lease or not, nobody else takes the run.
            mine = SyncRun.objects.select_for_update().filter(
                pk=self.run.pk, lease_token=self.token, status=SyncRun.Status.RUNNING
            )
            run = mine.first()
            if run is None:
                raise LeaseLost
            staged = SyncedPerson.objects.filter(sync_run=run.pk).values("account_id").distinct().count()
            gaps = self._gaps(staged, expected)
            counts = merge_staged(self._merge_input(), mark_vanished=not gaps)
            if not gaps:
                self._mark_vanished_groups()
            self._finish(run, gaps, staged, expected, counts, began)
            clear_staging(run.pk)
        mirror_changed(self.organization.pk)
        trust.tell(self.run)
        resolve_alert(organization=self.organization, dedup_key="sync_failed")
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
            is_first=not runs.filter(status=SyncRun.Status.SUCCEEDED).exists(),
            changed_groups=self.found.groups_changed,
            unknown_groups=[pk for pk, _, is_known in groups if not is_known],
            org_admin_groups=_groups_granting(groups, ORG_ADMIN_ROLES),
            site_admin_groups=_groups_granting(groups, SITE_ADMIN_ROLES),
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
        _record_end(run, outcome="success" if run.is_trusted else "warning", reason=" ".join(run.distrust_reasons))


# --- helpers ----------------------------------------------------------------------------------------------------------


class _Ahead(Generic[T]):
    """Iterate in a thread of its own, one item ahead: the next page travels while this one is staged.

    The thread is alone in using what it iterates over. Its errors are raised where the item would have come.
    """

    def __init__(self, source: Iterator[T]) -> None:
        self._source = source
        self._items: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fetch, name="sync-ahead", daemon=True)

    def _fetch(self) -> None:
        try:
            for item in self._source:
                self._put(("item", item))
                if self._stop.is_set():
                    return
            self._put(("end", None))
        except BaseException as error:
            self._put(("error", error))
        finally:
            connections.close_all()

    def _put(self, entry: tuple[str, Any]) -> None:
        while not self._stop.is_set():
            try:
                self._items.put(entry, timeout=0.5)
            except queue.Full:
                continue
            return

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._iterate()

    def _iterate(self) -> Iterator[T]:
        while True:
            kind, value = self._items.get()
            if kind == "item":
                yield value
            elif kind == "error":
                raise value
            else:
                return

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _store_sites(organization: Organization, workspaces: list[Workspace]) -> list[list[str]]:
    """Keep the sites; returns the products on them as [product, last part of the ARI, ARI, site]."""
    resources = []
    for workspace in workspaces:
        url = (workspace.host_url or "").rstrip("/")
        host = urlsplit(url).hostname or ""
        site = host if host.endswith(".atlassian.net") else workspace.name or host
        tail = workspace.id.rpartition("/")[2].lower()
        resources.append([product_of(workspace.type_key)[:60], tail, workspace.id[:300], site[:300]])
        if url and "::site/" in workspace.id:
            Site.objects.get_or_create(
                organization=organization, url=url[:300], defaults={"name": site[:200], "cloud_id": tail[:128]}
            )
            Site.objects.of(organization).filter(url=url[:300], cloud_id="").update(cloud_id=tail[:128])
    return sorted(resources)


def _store_directory(organization: Organization, directory_id: str, name: str, now: datetime) -> int:
    directory, _ = Directory.objects.update_or_create(
        organization=organization,
        directory_id=directory_id,
        defaults={"name": (name or directory_id)[:255], "seen_at": now},
    )
    return directory.pk


def _store_group(organization: Organization, directory: int, group: GroupInfo) -> int:
    """Keep a group; writes only when something differs. Returns our key."""
    wanted: dict[str, Any] = {
        "name": (group.name or group.id)[:255],
        "description": group.description,
        "is_synced": bool(group.is_synced),
        "managed_by": (group.managed_by or "")[:40],
        "vanished_at": None,
    }
    if group.user_count is not None:
        wanted["member_count"] = group.user_count
    row, is_new = Group.objects.get_or_create(
        directory_id=directory, group_id=group.id[:128], defaults={"organization": organization, **wanted}
    )
    differing = {name: value for name, value in wanted.items() if getattr(row, name) != value}
    if differing and not is_new:
        Group.objects.filter(pk=row.pk).update(**differing)
    return row.pk


def _store_grants(group: Group, roles: list[RoleAssignment], known: Resources) -> bool:
    """Keep what a group grants; returns whether it differs from what was known."""
    grants: list[dict[str, Any]] = []
    for assignment in roles:
        role = role_name(assignment.role)
        found = known.of_resource(assignment.resource_id, assignment.resource_owner)
        product, resource, site = found or ("", assignment.resource_id, "")
        is_seat = bool(product) and role not in SEATLESS_ROLES
        grants.append(
            {"product": product, "resource": resource, "site": site, "role": assignment.role, "seat": is_seat}
        )
    grants.sort(key=lambda grant: (grant["product"], grant["resource"], grant["role"]))
    values: dict[str, Any] = {
        "grants": grants,
        "are_grants_known": True,
        "granted_products": bits_of(grant["product"] for grant in grants if grant["seat"]),
        "is_administrative": any(role_name(grant["role"]) in ADMIN_ROLES for grant in grants),
    }
    if all(getattr(group, name) == value for name, value in values.items()):
        return False
    Group.objects.filter(pk=group.pk).update(**values)
    return True


def _groups_granting(groups: Iterable[tuple[int, Any, bool]], roles: frozenset[str]) -> list[int]:
    return [pk for pk, grants, _ in groups if any(role_name(grant["role"]) in roles for grant in grants)]
