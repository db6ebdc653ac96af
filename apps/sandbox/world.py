"""The organisation in memory: people, directories, groups, resources, and what each may do where.

Nothing here speaks HTTP. Every change is an *operation*: a plain JSON list such as `["group+", account, group]`,
applied by `World.apply`. The ledger stores the same lists, so that replaying it gives the same organisation again.
Times are whole milliseconds since the epoch, UTC.
"""

from __future__ import annotations

import copy
import hashlib
import threading
import time
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, NamedTuple

DAY_MS = 86_400_000
DELETION_GRACE_MS = 14 * DAY_MS

ROLES = (
    "atlassian/user",
    "atlassian/admin",
    "atlassian/guest",
    "atlassian/customer",
    "atlassian/user-access-admin",
    "atlassian/contributor",
    "atlassian/basic",
    "atlassian/stakeholder",
    "atlassian/org-admin",
    "atlassian/site-admin",
    "atlassian/ai-access",
)
PLATFORM_ROLES = ("atlassian/org-admin", "atlassian/site-admin", "atlassian/user-access-admin", "atlassian/ai-access")
# A role takes a seat of the product when it is none of these.
SEATLESS_ROLES = frozenset(
    {
        "atlassian/guest",
        "atlassian/customer",
        "atlassian/contributor",
        "atlassian/basic",
        "atlassian/stakeholder",
        "atlassian/user-access-admin",
        "atlassian/org-admin",
        "atlassian/site-admin",
        "atlassian/ai-access",
    }
)

Operation = list[Any]


class Membership(NamedTuple):
    """One person in one directory. `status`: active or suspended; `source`: invited, synced or None."""

    directory: int
    status: str
    source: str | None
    added_at: int


@dataclass(slots=True)
class Person:
    """One account. Collections are tuples, so that a shallow copy is a true snapshot.

    `kind`: person, service, bot (all listed by the Organizations API), app or customer (known to Jira only).
    `locked_by`: scim, google or exportControl, when another system owns the account.
    `groups`: sorted indexes of groups; `direct`: (resource index, role); `activity`: (resource index, last active).
    """

    index: int
    account_id: str
    name: str
    nickname: str
    email: str
    email_hidden: bool = False
    kind: str = "person"
    managed: bool = True
    mfa: bool = False
    email_verified: bool = True
    account_status: str = "active"
    deletion_at: int | None = None
    deactivated_at: int | None = None
    locked_by: str | None = None
    department: str = ""
    job_title: str = ""
    location: str = ""
    time_zone: str = "Etc/UTC"
    memberships: tuple[Membership, ...] = ()
    groups: tuple[int, ...] = ()
    direct: tuple[tuple[int, str], ...] = ()
    activity: tuple[tuple[int, int], ...] = ()

    @property
    def listed(self) -> bool:
        """Whether the Organizations API lists this account (it knows Atlassian accounts only)."""
        return self.kind in ("person", "service", "bot")


@dataclass(slots=True)
class Directory:
    index: int
    id: str
    name: str


@dataclass(slots=True)
class Site:
    index: int
    name: str
    cloud_id: str
    request_type_field: str


@dataclass(slots=True)
class Resource:
    """A product on a site, or (`platform`) the organisation or a site as something to administer."""

    index: int
    ari: str
    key: str
    owner: str
    name: str
    type_key: str
    directory: int | None
    site: int | None
    capacity: int | None = None
    platform: bool = False
    sandbox: str = "NONE"
    created_at: int = 0


@dataclass(slots=True)
class Group:
    index: int
    id: str
    name: str
    description: str
    directory: int
    synced: bool = False
    kind: str = "team"
    grants: tuple[tuple[int, str], ...] = ()
    default_for: tuple[int, ...] = ()
    members: array[int] = field(default_factory=lambda: array("I"))
    deleted: bool = False

    @property
    def managed_by(self) -> str:
        return "external" if self.synced else ("team-members" if self.kind == "team" else "admins")


class World:
    """All state of one organisation. Hold `lock` while reading or writing."""

    def __init__(self, *, seed: int, as_of: int, org_id: str, org_name: str) -> None:
        self.seed = seed
        self.as_of = as_of
        self.org_id = org_id
        self.org_name = org_name
        self.lock = threading.RLock()
        self.shift_ms = 0
        self.lag_ms = 0
        self.people: list[Person] = []
        self.by_account: dict[str, int] = {}
        self.by_email: dict[str, int] = {}
        self.directories: list[Directory] = []
        self.sites: list[Site] = []
        self.resources: list[Resource] = []
        self.by_ari: dict[str, int] = {}
        self.groups: list[Group] = []
        self.by_group_id: dict[str, int] = {}
        self.domains: list[str] = []
        self.projects: list[dict[str, Any]] = []
        self.request_types: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.desk_customers: dict[str, list[str]] = {}
        self.revoked_tokens: set[str] = set()
        self.events: list[dict[str, Any]] = []
        self.owner = 0
        self.usage: list[int] = []
        self.version = 0
        self._masks: dict[tuple[int, ...], tuple[int, int]] = {}
        self._shadows: dict[int, list[tuple[float, Person | None]]] = {}
        self._group_shadows: dict[int, list[tuple[float, Group | None]]] = {}

    # -- time

    def now(self) -> int:
        """The organisation's present, in milliseconds: real time plus what `advance` added."""
        return int(time.time() * 1000) + self.shift_ms

    # -- building

    def add_directory(self, directory: Directory) -> None:
        self.directories.append(directory)

    def add_resource(self, resource: Resource) -> None:
        self.resources.append(resource)
        self.by_ari[resource.ari] = resource.index
        self.usage.append(0)

    def add_group(self, group: Group) -> None:
        self.groups.append(group)
        self.by_group_id[group.id] = group.index

    def add_person(self, person: Person) -> None:
        self.people.append(person)
        self.by_account[person.account_id] = person.index
        if person.email:
            self.by_email.setdefault(person.email.lower(), person.index)
        for group in person.groups:
            members = self.groups[group].members
            if not members or members[-1] < person.index:
                members.append(person.index)
            else:
                members.insert(bisect_left(members, person.index), person.index)
        self._count_seats(person, 1)

    # -- finding

    def person(self, account_id: str) -> Person | None:
        index = self.by_account.get(account_id)
        return None if index is None else self.people[index]

    def group(self, group_id: str) -> Group | None:
        index = self.by_group_id.get(group_id)
        return None if index is None or self.groups[index].deleted else self.groups[index]

    def group_named(self, name: str, directory: int) -> Group | None:
        wanted = name.casefold()
        for group in self.groups:
            if not group.deleted and group.directory == directory and group.name.casefold() == wanted:
                return group
        return None

    def directory(self, directory_id: str) -> Directory | None:
        return next((d for d in self.directories if d.id == directory_id), None)

    def resource(self, ari: str) -> Resource | None:
        index = self.by_ari.get(ari)
        return None if index is None else self.resources[index]

    # -- what is visible to reads, which may lag behind writes

    def view(self, person: Person) -> Person | None:
        """The person as reads see it now: an older snapshot while a write is still lagging; None when not yet there."""
        if not self._shadows:
            return person
        shadows = self._shadows.get(person.index)
        if not shadows:
            return person
        at = time.monotonic()
        while shadows and shadows[0][0] <= at:
            shadows.pop(0)
        if not shadows:
            del self._shadows[person.index]
            return person
        return shadows[0][1]

    def view_group(self, group: Group) -> Group | None:
        if not self._group_shadows:
            return group
        shadows = self._group_shadows.get(group.index)
        if not shadows:
            return group
        at = time.monotonic()
        while shadows and shadows[0][0] <= at:
            shadows.pop(0)
        if not shadows:
            del self._group_shadows[group.index]
            return group
        return shadows[0][1]

    def members(self, group: Group) -> list[int]:
        """Indexes of the people that reads see in the group, ascending."""
        if not self._shadows:
            return list(group.members)
        candidates = set(group.members) | set(self._shadows)
        seen = []
        for index in sorted(candidates):
            person = self.view(self.people[index])
            if person is not None and group.index in person.groups:
                seen.append(index)
        return seen

    # -- status

    def closed(self, person: Person) -> bool:
        """Deleted for good: closed, or the 14 days of grace are over."""
        if person.account_status == "closed":
            return True
        return person.deletion_at is not None and person.deletion_at + DELETION_GRACE_MS <= self.now()

    def account_status(self, person: Person) -> str:
        return "closed" if self.closed(person) else person.account_status

    def membership_status(self, person: Person, directory: int | None = None) -> str:
        """active, suspended or no_membership. Without `directory`: over all, suspended only if suspended in each."""
        found = "no_membership"
        if self.closed(person):
            return found
        for membership in person.memberships:
            if directory is not None and membership.directory != directory:
                continue
            if membership.status == "active":
                return "active"
            found = "suspended"
        return found

    def status(self, person: Person) -> str | None:
        """The composite status of the v2 API; None for closed accounts, for which it has no word."""
        if self.closed(person):
            return None
        if person.deletion_at is not None:
            return "for_deletion"
        if person.account_status == "inactive":
            return "deactivated"
        membership = self.membership_status(person)
        return "not_invited" if membership == "no_membership" else membership

    def membership(self, person: Person, directory: int) -> Membership | None:
        return next((m for m in person.memberships if m.directory == directory), None)

    def added_at(self, person: Person) -> int | None:
        return min((m.added_at for m in person.memberships), default=None)

    # -- roles and seats

    def group_masks(self, groups: tuple[int, ...]) -> tuple[int, int]:
        """(resources with a seat, resources with any role) through these groups, as bit masks of resource indexes."""
        known = self._masks.get(groups)
        if known is None:
            seat = held = 0
            for index in groups:
                for resource, role in self.groups[index].grants:
                    held |= 1 << resource
                    if role not in SEATLESS_ROLES:
                        seat |= 1 << resource
            known = self._masks[groups] = (seat, held)
        return known

    def seat_mask(self, person: Person) -> int:
        mask = self.group_masks(person.groups)[0]
        for resource, role in person.direct:
            if role not in SEATLESS_ROLES:
                mask |= 1 << resource
        return mask

    def held_mask(self, person: Person) -> int:
        mask = self.group_masks(person.groups)[1]
        for resource, _ in person.direct:
            mask |= 1 << resource
        return mask

    def billable_mask(self, person: Person) -> int:
        """Seats that count: the account is active, and so is the membership in the resource's directory."""
        if person.account_status != "active" or not person.memberships:
            return 0
        mask = self.seat_mask(person)
        active = {m.directory for m in person.memberships if m.status == "active"}
        for resource in self.resources:
            if mask >> resource.index & 1 and resource.directory not in active:
                mask &= ~(1 << resource.index)
        return mask

    def roles_of(self, person: Person) -> dict[int, dict[str, set[str]]]:
        """Resource index → role → methods (direct, group_direct)."""
        found: dict[int, dict[str, set[str]]] = {}
        for resource, role in person.direct:
            found.setdefault(resource, {}).setdefault(role, set()).add("direct")
        for index in person.groups:
            for resource, role in self.groups[index].grants:
                found.setdefault(resource, {}).setdefault(role, set()).add("group_direct")
        return found

    def platform_roles(self, person: Person) -> list[str]:
        roles = {role for resource, role in person.direct if self.resources[resource].platform}
        for index in person.groups:
            roles |= {role for resource, role in self.groups[index].grants if self.resources[resource].platform}
        return sorted(roles)

    def org_admins(self) -> int:
        """How many accounts that can sign in hold the organisation's admin role."""
        holders = {p.index for p in self.people if any(role == "atlassian/org-admin" for _, role in p.direct)}
        for group in self.groups:
            if not group.deleted and any(role == "atlassian/org-admin" for _, role in group.grants):
                holders |= set(group.members)
        return sum(1 for index in holders if self.status(self.people[index]) == "active")

    def seats_left(self, resource: int) -> int | None:
        capacity = self.resources[resource].capacity
        return None if capacity is None else capacity - self.usage[resource]

    def _count_seats(self, person: Person, sign: int) -> None:
        mask = self.billable_mask(person)
        index = 0
        while mask:
            if mask & 1:
                self.usage[index] += sign
            mask >>= 1
            index += 1

    # -- change

    def apply(self, operation: Operation) -> None:
        """Carry out one recorded operation; KeyError for one that names something unknown."""
        kind, *arguments = operation
        self.version += 1
        if kind in _PERSON_OPERATIONS:
            person = self.people[self.by_account[arguments[0]]]
            self._shadow(person)
            self._count_seats(person, -1)
            _PERSON_OPERATIONS[kind](self, person, *arguments[1:])
            self._count_seats(person, 1)
        else:
            _WORLD_OPERATIONS[kind](self, *arguments)

    def _shadow(self, person: Person) -> None:
        if self.lag_ms:
            self._shadows.setdefault(person.index, []).append(
                (time.monotonic() + self.lag_ms / 1000, copy.copy(person))
            )

    def shadow_group(self, group: Group, before: Group | None) -> None:
        if self.lag_ms:
            self._group_shadows.setdefault(group.index, []).append((time.monotonic() + self.lag_ms / 1000, before))

    def shadow_new_person(self, person: Person) -> None:
        if self.lag_ms:
            self._shadows.setdefault(person.index, []).append((time.monotonic() + self.lag_ms / 1000, None))

    def regrant(self, group: Group, grants: tuple[tuple[int, str], ...]) -> None:
        """Change what a group grants, with the seats of its members counted anew."""
        self.shadow_group(group, copy.copy(group))
        for index in group.members:
            self._count_seats(self.people[index], -1)
        group.grants = grants
        self._masks.clear()
        for index in group.members:
            self._count_seats(self.people[index], 1)


def _set_membership(
    world: World, person: Person, directory: str, status: str | None, source: str | None, added_at: int
) -> None:
    index = _directory_index(world, directory)
    kept = tuple(m for m in person.memberships if m.directory != index)
    person.memberships = kept if status is None else (*kept, Membership(index, status, source, added_at))


def _directory_index(world: World, directory_id: str) -> int:
    directory = world.directory(directory_id)
    if directory is None:
        raise KeyError(directory_id)
    return directory.index


def _join_group(world: World, person: Person, group_id: str) -> None:
    group = world.groups[world.by_group_id[group_id]]
    if group.index in person.groups:
        return
    person.groups = tuple(sorted((*person.groups, group.index)))
    group.members.insert(bisect_left(group.members, person.index), person.index)


def _leave_group(world: World, person: Person, group_id: str) -> None:
    group = world.groups[world.by_group_id[group_id]]
    if group.index not in person.groups:
        return
    person.groups = tuple(index for index in person.groups if index != group.index)
    del group.members[bisect_left(group.members, person.index)]


def _grant_direct(world: World, person: Person, ari: str, role: str) -> None:
    pair = (world.by_ari[ari], role)
    if pair not in person.direct:
        person.direct = tuple(sorted((*person.direct, pair)))


def _revoke_direct(world: World, person: Person, ari: str, role: str) -> None:
    pair = (world.by_ari[ari], role)
    person.direct = tuple(held for held in person.direct if held != pair)


def _change_account(world: World, person: Person, changes: dict[str, Any]) -> None:
    """Set plain fields; the e-mail index follows."""
    for name, value in changes.items():
        if name == "email":
            world.by_email.pop(person.email.lower(), None)
            if value:
                world.by_email.setdefault(value.lower(), person.index)
        setattr(person, name, value)


def _touch(world: World, person: Person, activity: dict[str, int | None]) -> None:
    merged = dict(person.activity)
    for ari, at in activity.items():
        if at is None:
            merged.pop(world.by_ari[ari], None)
        else:
            merged[world.by_ari[ari]] = at
    person.activity = tuple(sorted(merged.items()))


def _new_person(world: World, data: dict[str, Any]) -> None:
    person = Person(
        index=len(world.people),
        **{
            **data,
            "memberships": tuple(
                Membership(_directory_index(world, directory), status, source, added_at)
                for directory, status, source, added_at in data["memberships"]
            ),
            "groups": tuple(sorted(world.by_group_id[group] for group in data.get("groups", ()))),
            "direct": tuple(sorted((world.by_ari[ari], role) for ari, role in data.get("direct", ()))),
            "activity": tuple(sorted((world.by_ari[ari], at) for ari, at in data.get("activity", ()))),
        },
    )
    world.add_person(person)
    world.shadow_new_person(person)


def _erase_person(world: World, person: Person) -> None:
    """Gone for good: no memberships, groups, roles or activity; the account stays known as closed."""
    for index in person.groups:
        group = world.groups[index]
        del group.members[bisect_left(group.members, person.index)]
    person.groups = person.direct = person.activity = person.memberships = ()
    person.account_status = "closed"
    person.deletion_at = None


def _new_group(world: World, group_id: str, directory: str, name: str, description: str) -> None:
    index = _directory_index(world, directory)
    group = Group(len(world.groups), group_id, name, description, index, kind="access")
    world.add_group(group)
    world.shadow_group(group, None)


def _delete_group(world: World, group_id: str) -> None:
    group = world.groups[world.by_group_id[group_id]]
    for index in list(group.members):
        world.apply(["group-", world.people[index].account_id, group_id])
    group.deleted = True


def _grant_group(world: World, group_id: str, ari: str, role: str) -> None:
    group = world.groups[world.by_group_id[group_id]]
    pair = (world.by_ari[ari], role)
    if pair not in group.grants:
        world.regrant(group, (*group.grants, pair))


def _revoke_group(world: World, group_id: str, ari: str, role: str) -> None:
    group = world.groups[world.by_group_id[group_id]]
    world.regrant(group, tuple(held for held in group.grants if held != (world.by_ari[ari], role)))


def _set_capacity(world: World, ari: str, capacity: int | None) -> None:
    world.resources[world.by_ari[ari]].capacity = capacity


def _new_request(world: World, data: dict[str, Any]) -> None:
    world.requests.append(copy.deepcopy(data))


def _comment(world: World, key: str, comment: dict[str, Any]) -> None:
    next(request for request in world.requests if request["key"] == key)["comments"].append(comment)


def _set_customers(world: World, desk: str, accounts: list[str]) -> None:
    world.desk_customers[desk] = accounts


def _revoke_token(world: World, token_id: str) -> None:
    world.revoked_tokens.add(token_id)


def _shift(world: World, ms: int) -> None:
    world.shift_ms += ms


_PERSON_OPERATIONS: dict[str, Any] = {
    "membership": _set_membership,
    "group+": _join_group,
    "group-": _leave_group,
    "direct+": _grant_direct,
    "direct-": _revoke_direct,
    "account": _change_account,
    "touch": _touch,
    "erase": _erase_person,
}
_WORLD_OPERATIONS: dict[str, Any] = {
    "person": _new_person,
    "new-group": _new_group,
    "delete-group": _delete_group,
    "grant+": _grant_group,
    "grant-": _revoke_group,
    "capacity": _set_capacity,
    "request": _new_request,
    "comment": _comment,
    "customers": _set_customers,
    "token-": _revoke_token,
    "shift": _shift,
}


def stable_fraction(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts only, the same in each process and each run."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
