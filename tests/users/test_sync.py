"""A whole sync over HTTP against the sandbox, whose own memory is what the mirror is held against."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.organizations.models import Alert, Directory, Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.sandbox.world import SEATLESS_ROLES, Person
from apps.users.models import (
    Account,
    AccountStatus,
    Activity,
    DirectoryMembership,
    Group,
    GroupMembership,
    MembershipStatus,
    ProductAccess,
    SyncedPerson,
    SyncRun,
)
from apps.users.products import product_of
from apps.users.selectors import data_trust
from apps.users.services import SyncAlreadyRunning, cancel_sync, request_sync, run_sync, sweep_syncs, sync_reading
from apps.users.services import sync as sync_module
from apps.users.services.sync_reading import DirectoryReading
from tests.users.conftest import SYSTEM, connect

pytestmark = pytest.mark.django_db

Sync = Callable[[], SyncRun]
TABLES = ("users_account", "users_directorymembership", "users_groupmembership", "users_productaccess", "users_group")
DAY_MS = 86_400_000


def at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // 1000, UTC)


def listed(sandbox: Sandbox) -> list[Person]:
    """The people that the Organizations API gives: in a directory, or managed."""
    return [p for p in sandbox.core.world.people if p.listed and (p.memberships or p.managed)]


def expected_access(sandbox: Sandbox, person: Person) -> dict[tuple[str, str], tuple[int, datetime | None]]:
    """Product and ARI → activity, from the sandbox's memory: dates of what is held, never for unused seats."""
    world = sandbox.core.world
    seats = {
        resource
        for group in person.groups
        for resource, role in world.groups[group].grants
        if role not in SEATLESS_ROLES
    }
    held, seen = world.held_mask(person), dict(person.activity)
    found: dict[tuple[str, str], tuple[int, datetime | None]] = {}
    for resource in world.resources:
        if resource.platform:
            continue
        key = (product_of(resource.key), resource.ari)
        if resource.index in seen and held >> resource.index & 1:
            found[key] = (Activity.KNOWN, at(seen[resource.index]))
        elif resource.index in seats:
            found[key] = (Activity.NEVER, None)
    return found


def assert_mirrors(organization: Organization, sandbox: Sandbox) -> None:
    world = sandbox.core.world
    accounts = {a.account_id: a for a in Account.objects.of(organization).filter(vanished_at__isnull=True)}
    groups = dict(Group.objects.of(organization).values_list("pk", "group_id"))
    access: dict[int, dict[tuple[str, str], tuple[int, datetime | None]]] = {}
    for row in ProductAccess.objects.of(organization):
        access.setdefault(row.account_id, {})[row.product, row.resource] = (row.activity, row.last_active_at)
    members: dict[int, set[str]] = {}
    for account_id, group_id in GroupMembership.objects.of(organization).values_list("account_id", "group_id"):
        members.setdefault(account_id, set()).add(groups[group_id])
    directories: dict[int, set[str]] = {}
    for account_id, directory in DirectoryMembership.objects.of(organization).values_list(
        "account_id", "directory__directory_id"
    ):
        directories.setdefault(account_id, set()).add(directory)
    assert accounts.keys() == {person.account_id for person in listed(sandbox)}
    for person in listed(sandbox):
        account = accounts[person.account_id]
        status = {"active": 1, "inactive": 2, "closed": 3}[world.account_status(person)]
        membership = {"active": 1, "suspended": 2, "no_membership": 3}[world.membership_status(person)]
        assert (account.account_status, account.membership_status) == (status, membership), person.account_id
        assert account.is_for_deletion == (person.deletion_at is not None)
        assert account.name == person.name
        assert account.email == (None if person.email_hidden else person.email)
        expected_groups = {world.groups[index].id for index in person.groups}
        assert members.get(account.pk, set()) == expected_groups, person.account_id
        assert {groups[pk] for pk in account.group_ids} == expected_groups
        assert account.group_ids == sorted(account.group_ids)
        assert directories.get(account.pk, set()) == {world.directories[m.directory].id for m in person.memberships}
        expected = expected_access(sandbox, person)
        assert access.get(account.pk, {}) == expected, person.account_id
        dates = [date for _, date in expected.values() if date is not None]
        assert account.last_active_at == max(dates, default=None)
        assert not account.has_unknown_activity
        for product in ("jira", "confluence", "jsm", "bitbucket"):
            held = [state for (name, _), state in expected.items() if name == product]
            known = [date for _, date in held if date is not None]
            wanted = Activity.KNOWN if known else Activity.NEVER if held else Activity.NOT_APPLICABLE
            assert getattr(account, f"{product}_activity") == wanted
            assert getattr(account, f"{product}_last_active_at") == max(known, default=None)
        roles = world.platform_roles(person)
        assert account.is_org_admin == ("atlassian/org-admin" in roles)
        assert account.is_site_admin == ("atlassian/site-admin" in roles)


def versions() -> dict[str, list[tuple[Any, ...]]]:
    """Where each row lies: an update moves it."""
    found = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT id, ctid::text FROM {table} ORDER BY id")
            found[table] = cursor.fetchall()
    return found


def test_mirror_equals_atlassian_when_synced(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    run = sync()

    assert (run.status, run.is_trusted, run.error_detail) == ("succeeded", True, "")
    assert run.people_seen == run.people_added == len(listed(sandbox))
    assert_mirrors(organization, sandbox)
    owner = Account.objects.get(account_id=sandbox.credentials.account_id)
    assert owner.is_connection_owner
    assert Account.objects.of(organization).filter(is_connection_owner=True).count() == 1
    assert not SyncedPerson.objects.exists()
    assert Account.objects.exclude(jira_granted_seen_at=None).count() == 0
    assert {row.kind for row in Account.objects.filter(email__startswith="svc-")} == {2}
    assert {row.kind for row in Account.objects.filter(email__startswith="bot-")} == {4}


def test_membership_is_derived_over_directories_when_status_is_told_per_directory(
    organization: Organization, sandbox: Sandbox, sync: Sync
) -> None:
    sandbox.core.change_policy({"membership_status": "directory"})

    sync()

    assert_mirrors(organization, sandbox)


def test_nothing_is_written_when_nothing_changed(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    before = versions()

    run = sync()

    assert versions() == before
    assert (run.people_added, run.people_changed, run.people_vanished) == (0, 0, 0)


def test_only_changed_rows_are_written_when_one_percent_changed(
    organization: Organization, sandbox: Sandbox, sync: Sync
) -> None:
    sync()
    before = dict(versions()["users_account"])
    world = sandbox.core.world
    people = [
        p
        for p in listed(sandbox)
        if world.status(p) == "active"
        and len(p.memberships) == 1
        and 0 < dict(p.activity).get(2, 0) < world.as_of - DAY_MS
    ]
    world.apply(["touch", people[0].account_id, {world.resources[2].ari: world.now() - 1000}])
    world.apply(["account", people[1].account_id, {"name": "Renamed Person"}])
    directory = world.directories[people[2].memberships[0].directory].id
    world.apply(["membership", people[2].account_id, directory, "suspended", "invited", world.now()])

    run = sync()

    assert_mirrors(organization, sandbox)
    after = dict(versions()["users_account"])
    moved = {pk for pk, place in after.items() if before[pk] != place}
    expected = Account.objects.filter(account_id__in=[p.account_id for p in people[:3]])
    assert moved == set(expected.values_list("pk", flat=True))
    assert run.people_changed == len(moved)


def test_groups_and_grants_follow_when_changed(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    world = sandbox.core.world
    group = next(g for g in world.groups if g.kind == "team" and len(g.members) > 2)
    world.apply(["grant+", group.id, world.resources[4].ari, "atlassian/user"])
    leaver = world.people[group.members[0]]
    world.apply(["group-", leaver.account_id, group.id])

    sync()

    assert_mirrors(organization, sandbox)
    row = Group.objects.get(group_id=group.id)
    assert row.granted_products & 2
    assert row.member_count == len(group.members)
    # access that was not there before starts the product's idle clock
    member = Account.objects.get(account_id=world.people[group.members[0]].account_id)
    new = ProductAccess.objects.filter(account__group_ids__contains=[row.pk], granted_seen_at__isnull=False)
    assert all(access.product == "confluence" for access in new)
    assert member.confluence_activity != Activity.NOT_APPLICABLE


def test_administrative_groups_are_known(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()

    assert Group.objects.get(name="org-admins").is_administrative
    assert Group.objects.get(name="jira-administrators").is_administrative
    employees = Group.objects.filter(name="employees").first()
    assert employees is not None
    assert not employees.is_administrative
    assert all(Group.objects.values_list("are_grants_known", flat=True))


# --- one at a time, resumable -----------------------------------------------------------------------------------------


def test_second_request_is_refused_while_one_is_open(organization: Organization) -> None:
    first = request_sync(organization=organization, actor=SYSTEM)

    again = request_sync(organization=organization, actor=SYSTEM, exist_ok=True)

    assert (again.pk, again.was_open, first.was_open) == (first.pk, True, False)
    with pytest.raises(SyncAlreadyRunning) as refused:
        request_sync(organization=organization, actor=SYSTEM)
    assert refused.value.sync_run.pk == first.pk


def test_run_is_left_alone_when_another_worker_holds_the_lease(organization: Organization) -> None:
    run = request_sync(organization=organization, actor=SYSTEM)
    SyncRun.objects.filter(pk=run.pk).update(
        status="running",
        lease_token="6b1f9b4c-1111-4f5e-9d3c-000000000001",
        lease_until=timezone.now() + timedelta(minutes=1),
    )

    assert run_sync(run.pk) is None


def test_finished_run_is_not_worked_on_again(sync: Sync) -> None:
    run = sync()

    assert run_sync(run.pk) is None


def test_every_page_can_be_the_last_before_a_kill(
    organization: Organization, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each slice works on one step only, as if the worker died after it; the next one has nothing but the rows."""
    run = request_sync(organization=organization, actor=SYSTEM)
    enqueued: list[str] = []
    monkeypatch.setattr(sync_module, "enqueue", lambda name, **ids: enqueued.append(name))
    monkeypatch.setattr(sync_reading, "PAGES_AT_ONCE", 1)

    for _ in range(200):
        finished = run_sync(run.pk, budget_seconds=-1)
        if finished is not None and finished.status not in SyncRun.OPEN:
            break

    run.refresh_from_db()
    assert run.status == "succeeded"
    assert len(enqueued) > 5
    assert_mirrors(organization, sandbox)
    pages = [r for r in sandbox.core.requests if r["path"].endswith("/users/search")]
    # 250 people in pages of 100: no slice begins the directory again; one page ahead may be read twice
    assert len(pages) <= 2 * 7


def test_page_that_failed_is_read_again_from_its_cursor(
    organization: Organization, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = request_sync(organization=organization, actor=SYSTEM)
    staged = DirectoryReading._stage
    calls = iter(range(100))
    monkeypatch.setattr(sync_reading, "PAGES_AT_ONCE", 1)

    def dies_on_second_page(self: Any, place: Any, page: Any) -> None:
        staged(self, place, page)
        if next(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(DirectoryReading, "_stage", dies_on_second_page)
    with pytest.raises(KeyboardInterrupt):
        run_sync(run.pk)
    monkeypatch.setattr(DirectoryReading, "_stage", staged)
    kept = SyncedPerson.objects.count()
    SyncRun.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))

    finished = run_sync(run.pk, budget_seconds=None)

    assert kept == 200
    assert finished is not None
    assert finished.status == "succeeded"
    assert_mirrors(organization, sandbox)


def test_people_are_read_again_when_staging_was_lost(
    organization: Organization, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = request_sync(organization=organization, actor=SYSTEM)
    monkeypatch.setattr(sync_module, "enqueue", lambda name, **ids: None)
    while not SyncedPerson.objects.exists():
        run_sync(run.pk, budget_seconds=-1)
    SyncedPerson.objects.all().delete()

    finished = run_sync(run.pk, budget_seconds=None)

    assert finished is not None
    assert finished.status == "succeeded"
    assert_mirrors(organization, sandbox)


def test_pages_that_come_fast_are_staged_together_with_the_cursor_behind_them(
    organization: Organization, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = request_sync(organization=organization, actor=SYSTEM)
    staged = DirectoryReading._stage
    seen: list[tuple[int, bool]] = []

    def watched(self: Any, place: Any, pages: Any) -> None:
        staged(self, place, pages)
        kept = SyncRun.objects.get(pk=run.pk).cursor
        is_behind = kept["at"] == pages[-1].next_cursor and kept["rows"] == SyncedPerson.objects.count()
        seen.append((len(pages), is_behind))

    monkeypatch.setattr(DirectoryReading, "_stage", watched)
    monkeypatch.setattr(sync_reading, "BATCH_SECONDS", 10)

    run_sync(run.pk, budget_seconds=None)

    assert all(is_behind for _, is_behind in seen)
    assert max(number for number, _ in seen) > 1
    assert_mirrors(organization, sandbox)


def test_page_staged_twice_does_no_harm(
    organization: Organization, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = DirectoryReading._stage

    def twice(self: Any, place: Any, page: Any) -> None:
        staged(self, place, page)
        staged(self, place, page)

    monkeypatch.setattr(DirectoryReading, "_stage", twice)
    run = request_sync(organization=organization, actor=SYSTEM)

    run_sync(run.pk, budget_seconds=None)

    assert_mirrors(organization, sandbox)


def test_old_worker_stops_when_its_lease_was_taken(organization: Organization, sandbox: Sandbox) -> None:
    run = request_sync(organization=organization, actor=SYSTEM)
    token = sync_module._take_lease(run.pk)
    assert token is not None
    run.refresh_from_db()
    SyncRun.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    finished = run_sync(run.pk, budget_seconds=None)
    before = versions()

    assert sync_module._work(run, token, None) is None

    assert finished is not None
    assert versions() == before
    run.refresh_from_db()
    assert run.status == "succeeded"


def test_cancelled_sync_leaves_the_mirror_alone(
    organization: Organization, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = request_sync(organization=organization, actor=SYSTEM)
    monkeypatch.setattr(sync_module, "enqueue", lambda name, **ids: None)
    while not SyncedPerson.objects.exists():
        run_sync(run.pk, budget_seconds=-1)

    cancel_sync(sync_run=run, actor=SYSTEM)

    assert run_sync(run.pk) is None
    assert (run.status, Account.objects.count(), SyncedPerson.objects.count()) == ("cancelled", 0, 0)


def test_sweep_takes_up_what_nobody_works_on(organization: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    run = request_sync(organization=organization, actor=SYSTEM)
    enqueued: list[int] = []
    monkeypatch.setattr(sync_module, "enqueue_again", lambda name, **ids: enqueued.append(ids["sync_run_id"]))

    sweep_syncs()
    assert enqueued == []  # just queued: the task is on its way
    sweep_syncs(now=timezone.now() + timedelta(minutes=3))
    assert enqueued == [run.pk]
    SyncRun.objects.filter(pk=run.pk).update(status="running", lease_until=timezone.now() + timedelta(minutes=9))
    sweep_syncs(now=timezone.now() + timedelta(minutes=3))
    assert enqueued == [run.pk]
    sweep_syncs(now=timezone.now() + timedelta(minutes=10))
    assert enqueued == [run.pk, run.pk]


def test_daily_sync_is_requested_once_when_its_hour_has_passed(
    organization: Organization, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "enqueue", lambda name, **ids: None)
    sync()
    day = datetime(2026, 11, 26, organization.sync_hour_utc, 5, tzinfo=UTC)
    SyncRun.objects.update(created_at=day - timedelta(hours=23))

    sweep_syncs(now=day - timedelta(minutes=10))
    assert SyncRun.objects.count() == 1
    sweep_syncs(now=day)
    sweep_syncs(now=day)

    runs = SyncRun.objects.order_by("pk")
    assert [run.initiator for run in runs] == ["manual", "automated"]


# --- what Atlassian refuses -------------------------------------------------------------------------------------------


def test_sync_fails_with_a_sentence_when_the_key_expires_midway(
    organization: Organization, sandbox: Sandbox, sync: Sync
) -> None:
    sync()
    before = versions()
    sandbox.core.faults.add({"kind": "key_expires", "after": 30})

    run = sync()

    assert run.status == "failed"
    assert run.error_detail.startswith("The API key is missing, wrong or expired. ")
    assert versions() == before
    assert not SyncedPerson.objects.exists()
    assert set(Alert.objects.values_list("kind", flat=True)) == {"credentials", "sync_failed"}
    assert data_trust(organization).ok  # the mirror is still that of the first sync
    assert AuditEvent.objects.filter(action="sync.finished", outcome="failed").count() == 1


def test_failed_sync_is_forgotten_when_the_next_succeeds(
    organization: Organization, sandbox: Sandbox, sync: Sync
) -> None:
    sandbox.core.faults.add({"kind": "key_expires", "after": 3})
    assert sync().status == "failed"
    sandbox.core.faults.clear()

    assert sync().status == "succeeded"

    assert not Alert.objects.filter(kind="sync_failed", resolved_at__isnull=True).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_may_flush")
def test_sync_waits_when_atlassian_says_so(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sandbox.core.faults.add({"kind": "rate_limit", "seconds": 0.2, "path": "users/search", "count": 2})

    assert sync().status == "succeeded"

    assert_mirrors(organization, sandbox)


def test_sync_is_partial_when_one_directory_cannot_be_read(
    organization: Organization, sandbox: Sandbox, sync: Sync
) -> None:
    sync()
    second = sandbox.core.world.directories[1].id
    sandbox.core.world.apply(["account", listed(sandbox)[0].account_id, {"name": "New Name"}])
    sandbox.core.faults.add({"kind": "error", "status": 400, "path": f"directories/{second}/users/search"})

    run = sync()

    assert (run.status, run.is_trusted) == ("partial", False)
    assert "could not be read" in run.distrust_reasons[0]
    assert not Account.objects.filter(vanished_at__isnull=False).exists()
    assert_mirrors(organization, sandbox)
    judged = data_trust(organization)
    assert (judged.ok, judged.code) == (False, "partial")
    assert Alert.objects.filter(kind="data_trust", resolved_at__isnull=True).exists()
    sandbox.core.faults.clear()
    assert sync().is_trusted
    assert data_trust(organization).ok
    assert not Alert.objects.filter(kind="data_trust", resolved_at__isnull=True).exists()


def test_nobody_vanishes_when_fewer_came_than_are_counted(
    organization: Organization, sandbox: Sandbox, sync: Sync
) -> None:
    sync()
    sandbox.core.faults.add({"kind": "drop_people", "percent": 10})

    run = sync()

    assert (run.status, run.is_trusted, run.people_vanished) == ("partial", False, 0)
    assert "Atlassian counts" in run.distrust_reasons[0]
    assert not Account.objects.filter(vanished_at__isnull=False).exists()


@pytest.mark.parametrize("kind", ["repeat_cursor", "repeat_page", "malformed"])
def test_directory_is_unreadable_when_its_pages_make_no_sense(
    organization: Organization, sandbox: Sandbox, sync: Sync, kind: str
) -> None:
    sync()
    first = sandbox.core.world.directories[0].id
    sandbox.core.faults.add({"kind": kind, "path": f"directories/{first}/users/search"})

    run = sync()

    assert run.status in ("partial", "failed")
    assert not Account.objects.filter(vanished_at__isnull=False).exists()


def test_unknown_words_stay_unknown(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sandbox.core.faults.add({"kind": "unknown_enum", "path": "users/search"})

    run = sync()

    in_directory = Account.objects.filter(directory_memberships__isnull=False)
    assert set(in_directory.values_list("account_status", flat=True)) == {AccountStatus.UNKNOWN}
    assert set(in_directory.values_list("membership_status", flat=True)) == {MembershipStatus.UNKNOWN}
    assert any("quantum" in word for word in run.trust["unknown_values"])


def test_sync_survives_nulls(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sandbox.core.faults.add({"kind": "nulls", "path": "users/search"})

    assert sync().status == "succeeded"

    assert not Account.objects.filter(email__isnull=False).exists()


# --- who comes and goes -----------------------------------------------------------------------------------------------


def removable(sandbox: Sandbox) -> Person:
    """An external person in one directory: once removed, nothing lists them."""
    return next(p for p in listed(sandbox) if not p.managed and len(p.memberships) == 1 and p.kind == "person")


def test_vanished_account_is_marked_and_returns(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    world, person = sandbox.core.world, removable(sandbox)
    held = person.memberships[0]
    directory = world.directories[held.directory].id
    world.apply(["membership", person.account_id, directory, None, None, 0])

    gone = sync()
    account = Account.objects.get(account_id=person.account_id)
    vanished_at = account.vanished_at
    world.apply(["membership", person.account_id, directory, "active", "invited", held.added_at])
    back = sync()

    account.refresh_from_db()
    assert (gone.people_vanished, gone.is_trusted) == (1, True)
    assert vanished_at is not None
    assert (account.vanished_at, account.vanished_in_run) == (None, None)
    assert account.idle_floor_at is not None  # added again: idle from now on
    assert back.people_changed == 1
    assert_mirrors(organization, sandbox)


@pytest.mark.parametrize(("before", "after"), [("suspended", "active"), ("active", "suspended")])
def test_idle_clock_starts_anew_when_somebody_was_restored_outside(
    organization: Organization, sandbox: Sandbox, sync: Sync, before: str, after: str
) -> None:
    world = sandbox.core.world
    person = next(p for p in listed(sandbox) if len(p.memberships) == 1 and p.account_status == "active")
    directory = world.directories[person.memberships[0].directory].id
    world.apply(["membership", person.account_id, directory, before, "invited", person.memberships[0].added_at])
    sync()
    world.apply(["membership", person.account_id, directory, after, "invited", person.memberships[0].added_at])

    sync()

    account = Account.objects.get(account_id=person.account_id)
    assert account.status_changed_at is not None
    assert (account.idle_floor_at is not None) == (after == "active")


def test_idle_clock_starts_anew_when_somebody_was_activated_outside(
    organization: Organization, sandbox: Sandbox, sync: Sync
) -> None:
    person = next(p for p in listed(sandbox) if p.account_status == "inactive" and p.memberships)
    sync()
    sandbox.core.world.apply(
        ["account", person.account_id, {"account_status": "active", "deactivated_at": None, "deletion_at": None}]
    )

    sync()

    assert Account.objects.get(account_id=person.account_id).idle_floor_at is not None
    assert Account.objects.filter(idle_floor_at__isnull=False).count() == 1


def test_written_account_keeps_its_state_when_the_sync_read_it_before(
    organization: Organization, sandbox: Sandbox, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.users.services import mark_pending, mirror_group_removed, mirror_membership_status

    sync()
    person = next(p for p in listed(sandbox) if len(p.memberships) == 1 and p.groups and p.account_status == "active")
    account = Account.objects.get(account_id=person.account_id)
    directory = Directory.objects.get(directory_id=sandbox.core.world.directories[person.memberships[0].directory].id)
    group = Group.objects.get(pk=account.group_ids[0])
    merge = DirectoryReading._merge

    def write_first(self: Any) -> None:
        mark_pending(account, 60)
        mirror_membership_status(account, directory, MembershipStatus.SUSPENDED)
        mirror_group_removed(account, group)
        merge(self)

    monkeypatch.setattr(DirectoryReading, "_merge", write_first)
    sync()
    account.refresh_from_db()
    kept = (account.membership_status, group.pk in account.group_ids)
    monkeypatch.setattr(DirectoryReading, "_merge", merge)
    Account.objects.filter(pk=account.pk).update(pending_until=timezone.now() - timedelta(seconds=1))
    sync()

    account.refresh_from_db()
    assert kept == (MembershipStatus.SUSPENDED, False)
    # Atlassian never heard of it: the next reading says so
    assert (account.membership_status, group.pk in account.group_ids) == (MembershipStatus.ACTIVE, True)
    assert_mirrors(organization, sandbox)


def test_organisations_do_not_touch_each_other(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    before = versions()
    with Sandbox(people=60, seed=5) as second:
        other = connect(second, "other")
        run = request_sync(organization=other, actor=SYSTEM)
        run_sync(run.pk, budget_seconds=None)

        assert_mirrors(other, second)
    assert_mirrors(organization, sandbox)
    for table, rows in before.items():
        assert rows == versions()[table][: len(rows)]


def test_empty_organisation_is_no_error(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    for person in sandbox.core.world.people:
        person.kind = "customer"

    run = sync()

    assert (run.status, run.people_seen) == ("succeeded", 0)


def test_audit_says_who_asked_and_what_came(organization: Organization, sync: Sync) -> None:
    run = request_sync(organization=organization, actor=Actor("operator", "1", "Anna", "anna@example.com"))
    run_sync(run.pk, budget_seconds=None)

    actions = list(AuditEvent.objects.order_by("id").values_list("action", "outcome"))
    assert actions == [("sync.requested", "success"), ("sync.finished", "success")]


# --- killed for real --------------------------------------------------------------------------------------------------

_WORKER = """
import django; django.setup()
from apps.users.services import run_sync
import sys
run_sync(int(sys.argv[1]), budget_seconds=None, wait_here=True)
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_may_flush")
def test_sync_goes_on_when_its_process_was_killed(sandbox: Sandbox, settings: Any) -> None:
    organization = connect(sandbox)
    run = request_sync(organization=organization, actor=SYSTEM)
    sandbox.core.faults.add({"kind": "latency", "ms": 150, "path": "users/search"})
    database = connection.settings_dict
    url = (
        f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    )
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "AUM_ENCRYPTION_KEYS": ",".join(settings.AUM_ENCRYPTION_KEYS),
        "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH", "")])),
        "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"],
    }
    worker = subprocess.Popen([sys.executable, "-c", _WORKER, str(run.pk)], env=environment)
    deadline = time.monotonic() + 60
    while SyncedPerson.objects.count() < 100 and time.monotonic() < deadline:
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    run.refresh_from_db()
    staged = SyncedPerson.objects.count()
    assert run.status == "running"
    assert staged >= 100
    assert run_sync(run.pk) is None  # the lease still stands
    sandbox.core.faults.clear()
    searches = sum(1 for r in sandbox.core.requests if r["path"].endswith("/users/search"))
    SyncRun.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))

    finished = run_sync(run.pk, budget_seconds=None)

    assert finished is not None
    assert finished.status == "succeeded"
    assert_mirrors(organization, sandbox)
    again = sum(1 for r in sandbox.core.requests if r["path"].endswith("/users/search")) - searches
    assert again <= 5  # not from the start: what was staged was not read again
