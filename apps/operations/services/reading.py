"""Reading people as they are in Atlassian now: before each write, and back after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from datetime import datetime

from django.utils import timezone

from apps.operations.actions import Fresh, Target
from apps.operations.models import OperationItem
from apps.organizations.models import Directory, Organization
from apps.users.models import Account, DirectoryMembership
from apps.users.services import mirror_people
from aum.atlassian.client import ANY_DIRECTORY, AtlassianReader
from aum.atlassian.errors import NotFound
from aum.atlassian.schemas import Person, UserRoles

BATCH = 10  # users/search takes ten account ids (API.md §2)


def target_of(item: OperationItem) -> Target:
    """The item's subject and target as calls need them."""
    parameters = item.parameters
    return Target(
        account_id=item.subject,
        directory_id=parameters.get("directory", ""),
        group_id=parameters.get("group", ""),
        paths=tuple(parameters.get("paths", ())),
    )


class Reading:
    """One reading of some accounts over all their directories, ten at a time, and its transfer into the mirror."""

    def __init__(self, organization: Organization, accounts: Sequence[Account]) -> None:
        self.organization = organization
        self.accounts = {account.account_id: account for account in accounts}
        self.read_at: datetime = timezone.now()
        self.people: dict[int, dict[str, Person]] = defaultdict(dict)
        self.roles: dict[str, frozenset[tuple[str, str]]] = {}
        self.statuses: dict[str, dict[str, str]] = {}
        self._directories: dict[int, Directory] = {}

    def read(self, reader: AtlassianReader, pool: Executor, *, with_roles: Iterable[str] = ()) -> None:
        """Fetch everybody, side by side in `pool`; direct roles of `with_roles` too, one call each.

        Raises aum.atlassian.errors.
        """
        self._directories = {d.pk: d for d in Directory.objects.of(self.organization)}
        pks = {account.pk: account.account_id for account in self.accounts.values()}
        by_directory: dict[int, list[str]] = defaultdict(list)
        for account_pk, directory_pk in DirectoryMembership.objects.filter(account__in=pks).values_list(
            "account_id", "directory_id"
        ):
            by_directory[directory_pk].append(pks[account_pk])
        placed = {account_id for ids in by_directory.values() for account_id in ids}
        # A managed account outside every directory is listed by none of them: `-` finds it (API.md §6, not_invited).
        unplaced = [account_id for account_id in self.accounts if account_id not in placed]
        wanted = [(pk, self._directories[pk].directory_id, ids) for pk, ids in by_directory.items()]
        batches = [
            (pk, directory_id, ids[start : start + BATCH])
            for pk, directory_id, ids in [*wanted, (0, ANY_DIRECTORY, unplaced)]
            for start in range(0, len(ids), BATCH)
        ]
        found = pool.map(lambda batch: reader.find_users(batch[2], batch[1]), batches)
        for (directory_pk, _, _), people in zip(batches, found, strict=True):
            self.people[directory_pk].update(people)
        # Lists give one status over all directories; only the role assignments tell them apart (API.md §6).
        times: dict[str, int] = defaultdict(int)
        for ids in by_directory.values():
            for account_id in ids:
                times[account_id] += 1
        several = {account_id for account_id, number in times.items() if number > 1}

        def roles_of(account_id: str) -> UserRoles | None:
            try:
                return reader.role_assignments(account_id)
            except NotFound:
                return None

        asked = sorted({*with_roles, *several})
        for account_id, roles in zip(asked, pool.map(roles_of, asked), strict=True):
            if roles is None:
                continue
            self.roles[account_id] = frozenset(
                (role.role, role.resource_id) for role in roles.assignments if "direct" in role.methods
            )
            self.statuses[account_id] = {one.directory_id: one.status for one in roles.directory_statuses}

    def mirror(self, *, overrides_pending: bool = False) -> None:
        """Bring the mirror in line with what was read."""
        for directory_pk, people in self.people.items():
            if people:
                mirror_people(
                    self.organization,
                    list(people.values()),
                    read_at=self.read_at,
                    directory=self._directories.get(directory_pk),
                    overrides_pending=overrides_pending,
                )

    def fresh(self, account_id: str) -> Fresh:
        """The account as it was read."""
        directories: dict[str, str] = {}
        groups: set[tuple[str, str]] | None = set()
        newest: Person | None = None
        for directory_pk, people in self.people.items():
            person = people.get(account_id)
            if person is None:
                continue
            newest = person
            directory = self._directories.get(directory_pk)
            if directory is None:
                continue
            known = self.statuses.get(account_id, {})
            directories[directory.directory_id] = known.get(directory.directory_id, person.membership_status or "")
            if person.groups is None:
                groups = None
            elif groups is not None:
                groups |= {(directory.directory_id, group.id) for group in person.groups}
        if newest is None:
            return Fresh(account_id, exists=False)
        return Fresh(
            account_id,
            exists=True,
            status=newest.status,
            account_status=newest.account_status,
            claim_status=newest.claim_status,
            directories=directories,
            groups=None if groups is None else frozenset(groups),
            roles=self.roles.get(account_id),
        )
