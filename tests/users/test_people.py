"""Exemptions, snoozes, protection, our own writes in the mirror, and a fresh look at one person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.organizations.models import Directory, Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import reader_for
from apps.sandbox.server import Sandbox
from apps.users.models import (
    Account,
    AccountStatus,
    Activity,
    DirectoryMembership,
    Exemption,
    GroupMembership,
    MembershipStatus,
    ProductAccess,
    ProtectedGroup,
    SyncRun,
)
from apps.users.predicates import Context, IsExempt, IsProtected, exempt_q, idle_since
from apps.users.services import (
    FOREVER,
    AlreadyExempt,
    ExemptionOver,
    end_exemption,
    extend_exemption,
    mark_pending,
    mirror_account_status,
    mirror_direct_access,
    mirror_group_added,
    mirror_group_removed,
    mirror_membership_status,
    mirror_people,
    mirror_vanished,
    protect_group,
    refresh_person,
    release_kind,
    set_exemption,
    set_licence_only,
    snooze,
    touch_idle_floor,
    unprotect_group,
)
from aum.common.errors import InvalidInput, NotAllowed
from tests.users.conftest import make_account, make_group, plain_organization
from tests.users.test_sync import assert_mirrors, listed

pytestmark = pytest.mark.django_db

Sync = Callable[[], SyncRun]
ANNA = Actor("operator", "1", "Anna", "anna@example.com")
JIRA = {"product": "jira", "resource": "ari:jira/1", "site": "one", "role": "atlassian/user", "seat": True}


def exempt(account: Account, **fields: object) -> Exemption:
    values = {"reason": "On parental leave", "until": timezone.now() + timedelta(days=9), "actor": ANNA, **fields}
    return set_exemption(organization=account.organization, account=account, **values)  # type: ignore[arg-type]


# --- exemptions -------------------------------------------------------------------------------------------------------


def test_exemption_keeps_the_account_out_and_is_recorded(plain: Organization) -> None:
    account = make_account(plain)

    exemption = exempt(account)

    assert account.exempt_until == exemption.until
    assert Account.objects.filter(exempt_q(timezone.now())).get() == account
    event = AuditEvent.objects.get(action="exemption.set")
    assert event.after is not None
    assert exemption.until is not None
    assert (event.reason, event.after["until"]) == ("On parental leave", exemption.until.isoformat())


def test_exemption_for_good_never_ends(plain: Organization) -> None:
    account = make_account(plain)

    exempt(account, until=None)

    assert account.exempt_until == FOREVER
    context = Context.of(plain, now=timezone.now() + timedelta(days=36500))
    assert Account.objects.filter(IsExempt(True).q(context)).exists()


@pytest.mark.parametrize("fields", [{"reason": " "}, {"until": timezone.now() - timedelta(days=1)}])
def test_exemption_needs_a_reason_and_a_future(plain: Organization, fields: dict[str, object]) -> None:
    account = make_account(plain)

    with pytest.raises(InvalidInput):
        exempt(account, **fields)

    assert not Exemption.objects.exists()


def test_database_refuses_an_exemption_without_reason(plain: Organization) -> None:
    account = make_account(plain)

    with pytest.raises(IntegrityError), transaction.atomic():
        Exemption.objects.create(
            organization=plain, account=account, reason="", starts_at=timezone.now(), set_by="somebody"
        )


def test_second_exemption_is_refused_while_one_is_in_force(plain: Organization) -> None:
    account = make_account(plain)
    exempt(account)

    with pytest.raises(AlreadyExempt):
        exempt(account)


def test_exemption_of_another_organisation_is_refused(plain: Organization) -> None:
    stranger = make_account(plain_organization("other"))

    with pytest.raises(NotAllowed):
        set_exemption(organization=plain, account=stranger, reason="x", until=None, actor=ANNA)


def test_idle_clock_starts_when_an_exemption_ends(plain: Organization) -> None:
    long_ago = timezone.now() - timedelta(days=400)
    account = make_account(plain, last_active_at=long_ago, added_to_org_at=long_ago, products=1)
    exemption = exempt(account, until=None)

    ended = end_exemption(exemption=exemption, actor=ANNA, reason="Back at work")

    found = Account.objects.annotate(since=idle_since(now=timezone.now())).get()
    assert found.since == ended.ended_at == found.exempt_until
    with pytest.raises(ExemptionOver):
        end_exemption(exemption=exemption, actor=ANNA)
    with pytest.raises(ExemptionOver):
        extend_exemption(exemption=exemption, until=None, reason="x", actor=ANNA)
    exempt(account)  # a new one may follow
    assert list(AuditEvent.objects.order_by("id").values_list("action", flat=True)) == [
        "exemption.set",
        "exemption.ended",
        "exemption.set",
    ]


def test_extending_moves_the_end(plain: Organization) -> None:
    account = make_account(plain)
    exemption = exempt(account)
    later = timezone.now() + timedelta(days=99)

    extend_exemption(exemption=exemption, until=later, reason="Longer leave", actor=ANNA)

    account.refresh_from_db()
    assert account.exempt_until == later


def test_snooze_of_many_overlaps_exemptions(plain: Organization) -> None:
    accounts = [make_account(plain) for _ in range(60)]
    exempt(accounts[0], until=None)
    until = timezone.now() + timedelta(days=30)

    assert snooze(organization=plain, accounts=accounts, until=until, reason="Restored", actor=ANNA) == 60

    assert Account.objects.filter(exempt_until=until).count() == 59
    assert Account.objects.get(pk=accounts[0].pk).exempt_until == FOREVER
    assert AuditEvent.objects.filter(action="snooze.set").count() == 60


# --- protection -------------------------------------------------------------------------------------------------------


def test_members_of_a_protected_group_are_protected(plain: Organization) -> None:
    group = make_group(plain, "leads")
    inside, outside = make_account(plain, group_ids=[group.pk]), make_account(plain)

    protect_group(group=group, actor=ANNA)
    protect_group(group=group, actor=ANNA)

    context = Context.of(plain)
    assert list(Account.objects.filter(IsProtected(True).q(context))) == [inside]
    assert list(Account.objects.filter(IsProtected(False).q(context))) == [outside]
    assert unprotect_group(group=group, actor=ANNA)
    assert not unprotect_group(group=group, actor=ANNA)
    assert not Account.objects.filter(IsProtected(True).q(Context.of(plain))).exists()
    actions = AuditEvent.objects.order_by("id").values_list("action", flat=True)
    assert list(actions) == ["group.protected", "group.unprotected"]


def test_groups_under_protection_cannot_be_deleted(plain: Organization) -> None:
    group = make_group(plain, "leads")
    protect_group(group=group, actor=ANNA)

    with pytest.raises(IntegrityError):
        group.delete()

    assert ProtectedGroup.objects.exists()


def test_kinds_are_protected_until_released(plain: Organization) -> None:
    robot = make_account(plain, kind=4)
    assert Account.objects.filter(IsProtected(True).q(Context.of(plain))).exists()

    release_kind(account=robot, value=True, actor=ANNA, reason="It is a person called Bot")

    assert not Account.objects.filter(IsProtected(True).q(Context.of(plain))).exists()
    with pytest.raises(InvalidInput):
        release_kind(account=robot, value=False, actor=ANNA, reason="")


def test_licence_only_is_an_admins_recorded_word(plain: Organization) -> None:
    group = make_group(plain, "jira-users")

    set_licence_only(group=group, value=True, actor=ANNA)
    set_licence_only(group=group, value=True, actor=ANNA)

    group.refresh_from_db()
    assert group.is_licence_only
    assert AuditEvent.objects.filter(action="group.licence_only").count() == 1


# --- our own writes ---------------------------------------------------------------------------------------------------


def test_suspension_is_mirrored_per_directory(plain: Organization) -> None:
    first = Directory.objects.get()
    second = Directory.objects.create(organization=plain, directory_id="d2", name="Second", seen_at=timezone.now())
    account = make_account(plain)
    for directory in (first, second):
        DirectoryMembership.objects.create(
            organization=plain, account=account, directory=directory, status=MembershipStatus.ACTIVE
        )

    mirror_membership_status(account, first, MembershipStatus.SUSPENDED)
    assert account.membership_status == MembershipStatus.ACTIVE
    assert account.status_changed_at is None
    mirror_membership_status(account, second, MembershipStatus.SUSPENDED)

    assert account.membership_status == MembershipStatus.SUSPENDED
    assert account.status_changed_at is not None
    assert account.pending_until is not None
    mirror_membership_status(account, second, MembershipStatus.NO_MEMBERSHIP)
    assert DirectoryMembership.objects.get().directory == first
    mirror_membership_status(account, first, MembershipStatus.NO_MEMBERSHIP)
    account.refresh_from_db()
    assert account.membership_status == MembershipStatus.NO_MEMBERSHIP


def test_group_changes_are_mirrored_with_their_products(plain: Organization) -> None:
    group = make_group(plain, "jira-users", grants=[JIRA], are_grants_known=True, member_count=4)
    account = make_account(plain, is_activity_read=True)

    mirror_group_added(account, group)
    mirror_group_added(account, group)

    account.refresh_from_db()
    group.refresh_from_db()
    assert (account.group_ids, account.products, account.jira_activity) == ([group.pk], 1, Activity.UNKNOWN)
    assert account.jira_granted_seen_at is not None
    assert account.has_unknown_activity
    assert group.member_count == 5
    mirror_group_removed(account, group)
    mirror_group_removed(account, group)
    account.refresh_from_db()
    group.refresh_from_db()
    assert (account.group_ids, account.products, account.jira_activity) == ([], 0, Activity.NOT_APPLICABLE)
    assert (group.member_count, ProductAccess.objects.count(), account.has_unknown_activity) == (4, 0, False)


def test_product_stays_when_another_group_gives_it(plain: Organization) -> None:
    groups = [make_group(plain, name, grants=[JIRA], are_grants_known=True) for name in ("a", "b")]
    account = make_account(plain, is_activity_read=True)
    for group in groups:
        mirror_group_added(account, group)

    mirror_group_removed(account, groups[0])

    account.refresh_from_db()
    assert account.products == 1
    assert ProductAccess.objects.get().group_ids == [groups[1].pk]


def test_direct_role_keeps_the_product(plain: Organization) -> None:
    group = make_group(plain, "a", grants=[JIRA], are_grants_known=True)
    account = make_account(plain, is_activity_read=True)
    mirror_group_added(account, group)
    mirror_direct_access(account, "jira", "ari:jira/1", "one", ProductAccess.Direct.YES)

    mirror_group_removed(account, group)
    account.refresh_from_db()
    assert account.products == 1
    mirror_direct_access(account, "jira", "ari:jira/1", "one", ProductAccess.Direct.NO)

    account.refresh_from_db()
    assert (account.products, ProductAccess.objects.count()) == (0, 0)


def test_account_status_is_mirrored(plain: Organization) -> None:
    account = make_account(plain)

    mirror_account_status(account, AccountStatus.INACTIVE)
    changed_at = account.status_changed_at
    mirror_account_status(account, AccountStatus.INACTIVE)

    account.refresh_from_db()
    assert account.account_status == AccountStatus.INACTIVE
    assert account.status_changed_at == changed_at
    mirror_account_status(account, AccountStatus.INACTIVE, is_for_deletion=True)
    assert account.is_for_deletion


def test_marks_of_own_changes_only_grow(plain: Organization) -> None:
    account = make_account(plain)

    mark_pending(account, 300)
    touch_idle_floor(account)
    mirror_vanished(account)

    account.refresh_from_db()
    assert account.pending_until is not None
    assert account.pending_until > timezone.now() + timedelta(seconds=250)
    assert account.idle_floor_at is not None
    assert account.vanished_at is not None
    assert account.vanished_in_run is None


# --- a fresh look -----------------------------------------------------------------------------------------------------


def test_refresh_reads_one_person_anew(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    world = sandbox.core.world
    people = [p for p in listed(sandbox) if p.memberships and p.activity and world.status(p) == "active"]
    # one of each kind: in one directory, in two
    for person in (next(p for p in people if len(p.memberships) == n) for n in (1, 2)):
        resource = max(person.activity)[0]
        world.apply(["touch", person.account_id, {world.resources[resource].ari: world.now() + 60_000}])
        world.apply(["group-", person.account_id, world.groups[person.groups[0]].id])
        account = Account.objects.get(account_id=person.account_id)

        refreshed = refresh_person(account=account, actor=ANNA)

        assert refreshed.last_active_at is not None
        assert refreshed.last_active_at > timezone.now() - timedelta(minutes=5)
    assert_mirrors(organization, sandbox)
    assert AuditEvent.objects.filter(action="account.refreshed").count() == 2


def test_refresh_of_somebody_outside_every_directory(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    person = next(p for p in listed(sandbox) if not p.memberships)
    sandbox.core.world.apply(["account", person.account_id, {"name": "New Name"}])

    refreshed = refresh_person(account=Account.objects.get(account_id=person.account_id), actor=ANNA)

    assert refreshed.name == "New Name"
    assert_mirrors(organization, sandbox)


def test_refresh_marks_who_is_gone(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    person = next(p for p in listed(sandbox) if not p.managed and len(p.memberships) == 1)
    directory = sandbox.core.world.directories[person.memberships[0].directory].id
    sandbox.core.world.apply(["membership", person.account_id, directory, None, None, 0])

    refreshed = refresh_person(account=Account.objects.get(account_id=person.account_id), actor=ANNA)

    assert refreshed.vanished_at is not None
    assert not GroupMembership.objects.filter(account=refreshed).exists()


def test_row_that_was_merged_before_is_not_merged_again(
    organization: Organization, sandbox: Sandbox, sync: Sync
) -> None:
    sync()
    directory = Directory.objects.order_by("pk").first()
    assert directory is not None
    person = next(p for p in listed(sandbox) if len(p.memberships) == 1 and p.memberships[0].directory == 0)
    with reader_for(organization) as reader:
        rows = reader.find_users([person.account_id], directory.directory_id)
    place = Account.objects.filter(account_id=person.account_id).values_list("synced_at", flat=True).get()

    with CaptureQueriesContext(connection) as queries:
        mirror_people(organization, list(rows.values()), read_at=timezone.now(), directory=directory)

    assert Account.objects.filter(account_id=person.account_id).values_list("synced_at", flat=True).get() == place
    assert len([query for query in queries if query["sql"].startswith("SELECT")]) == len(queries) - 2  # the savepoint
    assert len(queries) <= 7
