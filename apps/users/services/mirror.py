"""What AUM writes to Atlassian, mirrored at once: small functions for the executor, each inside its transaction.

Each sets `pending_until` to at least now and forgets the digests, so that a sync that was reading meanwhile keeps what
was written, and the next one looks again (DECISIONS.md §15). None of them writes an audit row: the executor does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from apps.organizations.models import Credential, Directory, Organization
from apps.users.cache import mirror_changed
from apps.users.models import (
    Account,
    AccountStatus,
    Activity,
    DirectoryMembership,
    Group,
    GroupMembership,
    MembershipStatus,
    ProductAccess,
    SyncRun,
)
from apps.users.products import ORG_ADMIN_ROLES, SITE_ADMIN_ROLES, Resources, role_name
from apps.users.selectors.trust import MERGED, latest_merged_sync
from apps.users.services.merge import MergeInput, merge_staged, recompute_accounts
from apps.users.services.staging import OUTSIDE, StagedLine, Stager, copy_lines
from aum.atlassian.schemas import Person


def _touched(account: Account, *, seconds: float = 0.0, **columns: object) -> None:
    """Write columns of the account with the marks of a change of our own, and keep `account` in step."""
    until = timezone.now() + timedelta(seconds=seconds)
    Account.objects.filter(pk=account.pk).update(
        pending_until=Greatest(Coalesce(F("pending_until"), Value(until)), Value(until)), **columns
    )
    DirectoryMembership.objects.filter(account=account, digest__isnull=False).update(digest=None)
    for name, value in columns.items():
        setattr(account, name, value)
    mirror_changed(account.organization_id)


def mark_pending(account: Account, seconds: float) -> None:
    """A write is on its way: for `seconds` from now, syncs leave statuses and groups of the account alone."""
    _touched(account, seconds=seconds)


def touch_idle_floor(account: Account, *, at: datetime | None = None) -> None:
    """Start the idle clock anew: restored, activated, invited, given access (DESIGN.md §12)."""
    _touched(account, idle_floor_at=at or timezone.now())


def mirror_membership_status(account: Account, directory: Directory, status: MembershipStatus) -> None:
    """The status in one directory after suspend, restore or removal; the account's own follows from all of them.

    NO_MEMBERSHIP removes the account from the directory with its groups there.
    """
    if status == MembershipStatus.NO_MEMBERSHIP:
        DirectoryMembership.objects.filter(account=account, directory=directory).delete()
        GroupMembership.objects.filter(account=account, group__directory=directory).delete()
        recompute_accounts(account.organization_id, [account.pk], now=timezone.now())
        left = DirectoryMembership.objects.filter(account=account).values_list("directory_id", "status").first()
        if left is None:
            if account.membership_status != status:
                _touched(account, membership_status=status, status_changed_at=timezone.now())
            return
        mirror_membership_statuses(account.organization_id, [(account.pk, *left)])
    else:
        mirror_membership_statuses(account.organization_id, [(account.pk, directory.pk, int(status))])
    account.refresh_from_db(fields=["membership_status", "status_changed_at", "pending_until"])


# Active in any directory is active; suspended only when suspended in all (API.md §6).
_MEMBERSHIPS = """
WITH wanted AS (
    SELECT * FROM unnest(%(accounts)s::bigint[], %(directories)s::bigint[], %(statuses)s::smallint[])
        AS w(account_id, directory_id, status)
), together AS (
    SELECT account_id, CASE WHEN bool_or(status = 1) THEN 1 WHEN bool_or(status = 0) THEN 0 ELSE 2 END AS status
    FROM (
        SELECT account_id, status FROM wanted
        UNION ALL
        SELECT m.account_id, m.status FROM users_directorymembership m
        WHERE m.account_id = ANY(%(accounts)s)
          AND NOT EXISTS (SELECT 1 FROM wanted w
                          WHERE w.account_id = m.account_id AND w.directory_id = m.directory_id)
    ) each GROUP BY account_id
), written AS (
    INSERT INTO users_directorymembership
        (organization_id, account_id, directory_id, status, management_source, added_at)
    SELECT %(organization)s, account_id, directory_id, status, 0, %(now)s FROM wanted
    ON CONFLICT (account_id, directory_id) DO UPDATE SET status = excluded.status, digest = NULL
)
UPDATE users_account a
SET membership_status = t.status,
    status_changed_at = CASE WHEN a.membership_status = t.status THEN a.status_changed_at ELSE %(now)s END,
    pending_until = GREATEST(a.pending_until, %(now)s)
FROM together t WHERE a.id = t.account_id AND a.organization_id = %(organization)s
"""


def mirror_membership_statuses(organization: int, changes: Sequence[tuple[int, int, int]]) -> None:
    """The same for many at once: (account key, directory key, status), status being active or suspended."""
    if not changes:
        return
    accounts, directories, statuses = zip(*changes, strict=True)
    with connection.cursor() as cursor:
        cursor.execute(
            _MEMBERSHIPS,
            {
                "organization": organization,
                "accounts": list(accounts),
                "directories": list(directories),
                "statuses": list(statuses),
                "now": timezone.now(),
            },
        )
    mirror_changed(organization)


def mirror_account_status(account: Account, status: AccountStatus, *, is_for_deletion: bool = False) -> None:
    """The status after deactivate, activate, delete (`is_for_deletion`) or cancel-delete."""
    if (account.account_status, account.is_for_deletion) == (status, is_for_deletion):
        _touched(account)
        return
    _touched(account, account_status=status, is_for_deletion=is_for_deletion, status_changed_at=timezone.now())


def mirror_group_added(account: Account, group: Group) -> None:
    """A membership was added; products that the group grants are held from now on, their use not yet known."""
    _, is_new = GroupMembership.objects.get_or_create(
        account=account, group=group, defaults={"organization_id": account.organization_id}
    )
    if is_new:
        Group.objects.filter(pk=group.pk).update(member_count=F("member_count") + 1)
    recompute_accounts(account.organization_id, [account.pk], now=timezone.now())
    _touched(account)


def mirror_group_removed(account: Account, group: Group) -> None:
    """A membership was removed; products that nothing else grants go with it."""
    removed, _ = GroupMembership.objects.filter(account=account, group=group).delete()
    if removed:
        Group.objects.filter(pk=group.pk, member_count__gt=0).update(member_count=F("member_count") - 1)
    recompute_accounts(account.organization_id, [account.pk], now=timezone.now())
    _touched(account)


def mirror_direct_access(
    account: Account, product: str, resource: str, site: str, direct: ProductAccess.Direct
) -> None:
    """What was read of, or done to, a direct role on a product of a site."""
    ProductAccess.objects.update_or_create(
        account=account,
        product=product,
        resource=resource,
        defaults={"direct": direct},
        create_defaults={
            "organization_id": account.organization_id,
            "site": site,
            "direct": direct,
            "activity": Activity.UNKNOWN,
            "source": "aum",
            "granted_seen_at": timezone.now(),
        },
    )
    recompute_accounts(account.organization_id, [account.pk], now=timezone.now())
    _touched(account)


def mirror_vanished(account: Account) -> None:
    """Atlassian no longer knows the account: kept, but in no list and no plan."""
    if account.vanished_at is None:
        _touched(account, vanished_at=timezone.now())


def mirror_person(
    organization: Organization,
    person: Person,
    *,
    read_at: datetime,
    directory: Directory | None = None,
    overrides_pending: bool = False,
) -> None:
    """Bring one account in line with a fresh row of `users/search`; see `mirror_people`."""
    mirror_people(organization, [person], read_at=read_at, directory=directory, overrides_pending=overrides_pending)


@transaction.atomic
def mirror_people(
    organization: Organization,
    people: Sequence[Person],
    *,
    read_at: datetime,
    directory: Directory | None = None,
    overrides_pending: bool = False,
) -> None:
    """Bring accounts in line with fresh rows of `users/search`, read from `read_at` on in `directory`.

    Without `directory` the rows were read over all of them (`-`): where the organisation has one directory that is the
    same; where it has several, statuses and activity are taken over and groups are added, none is taken away.
    `overrides_pending` for reading back after a write, whose row is the truth; otherwise accounts written to after
    `read_at` keep statuses and groups. Rows equal to the last ones read change nothing
    and cost a few short queries.
    """
    known = list(Directory.objects.of(organization).order_by("pk"))
    place = directory or (known[0] if len(known) == 1 else None)
    groups = _group_keys(organization, people, place)
    staged = _own_staging()
    resources, sites = _resources(organization)
    stager = Stager(staged, groups, resources)
    lines = stager.lines(people, directory=place.pk if place else OUTSIDE, page=1)
    if place is not None and _are_known(organization, place, lines):
        return
    copy_lines(lines)
    credentials = list(Credential.objects.of(organization).values_list("owner_account_id", "owner_email"))
    granting = list(Group.objects.of(organization).values_list("pk", "grants", "are_grants_known"))
    runs = SyncRun.objects.of(organization)
    counts = merge_staged(
        MergeInput(
            organization=organization.pk,
            staged=staged,
            run=None,
            read_directories=[place.pk] if place else [],
            is_everything=place is not None and len(known) == 1,
            read_at=read_at,
            now=timezone.now(),
            unknown_groups=[pk for pk, _, is_known in granting if not is_known],
            org_admin_groups=_granting(granting, ORG_ADMIN_ROLES),
            site_admin_groups=_granting(granting, SITE_ADMIN_ROLES),
            owner_ids=[account_id for account_id, _ in credentials if account_id],
            owner_emails=[email for _, email in credentials if email],
            glitch_runs=list(runs.filter(status__in=MERGED).exclude(is_trusted=True).values_list("pk", flat=True)),
            sites=sites,
            overrides_pending=overrides_pending,
        ),
        mark_vanished=False,
    )
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM users_syncedperson WHERE sync_run_id = %s", [staged])
    if counts.added or counts.changed or counts.details:
        mirror_changed(organization.pk)


def _are_known(organization: Organization, place: Directory, lines: Sequence[StagedLine]) -> bool:
    """Whether every row is the one that was last merged: then there is nothing to do."""
    known = dict(
        DirectoryMembership.objects.filter(
            directory=place,
            account__organization=organization,
            account__vanished_at__isnull=True,
            account__account_id__in=[line.account_id for line in lines],
        ).values_list("account__account_id", "digest")
    )
    return all(known.get(line.account_id) == UUID(line.digest) for line in lines)


def _own_staging() -> int:
    """A number that no sync and no other connection stages under; the rows live in this transaction only."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT -pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _group_keys(organization: Organization, people: Sequence[Person], place: Directory | None) -> dict[str, int]:
    """Our keys of the people's groups; one that no sync has seen yet is kept as a group whose grants are unknown."""
    wanted = {group.id: group.name for person in people for group in person.groups or ()}
    keys = dict(Group.objects.of(organization).filter(group_id__in=wanted).values_list("group_id", "pk"))
    home = place or Directory.objects.of(organization).order_by("pk").first()
    for group_id in wanted.keys() - keys.keys():
        if home is None:
            continue
        row, _ = Group.objects.get_or_create(
            directory=home,
            group_id=group_id,
            defaults={"organization": organization, "name": (wanted[group_id] or group_id)[:255]},
        )
        keys[group_id] = row.pk
    return keys


def _resources(organization: Organization) -> tuple[Resources, list[tuple[str, str, str]]]:
    """The products on the sites as the last merged sync found them."""
    run = latest_merged_sync(organization)
    rows = run.found.get("resources", []) if run else []
    known = {(product, tail): (ari, site) for product, tail, ari, site in rows}
    return Resources(known), [(product, ari, site) for product, _, ari, site in rows]


def _granting(groups: Sequence[tuple[int, list[dict[str, str]], bool]], roles: frozenset[str]) -> list[int]:
    return [pk for pk, grants, _ in groups if any(role_name(grant["role"]) in roles for grant in grants)]
