"""Turns people and groups into the JSON of the Organizations API.

A page of users is the hot path of every sync, so a person is written as text directly: several times faster than
building a dict and dumping it. `json.encoder.encode_basestring` does the escaping, as it does inside `json.dumps`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring as quoted
from typing import Any

from apps.sandbox.reading import iso, iso_seconds, make_cursor
from apps.sandbox.world import Group, Person, World

AVATARS = "https://avatar.example.com"


class PeopleRenderer:
    """Writes people as they look in one directory (None = over all), with the chosen expansions.

    `directory_status`: whether membershipStatus speaks for that directory only (see `Policy.membership_status`).
    """

    def __init__(
        self,
        world: World,
        directory: int | None,
        expand: set[str],
        *,
        directory_status: bool = False,
        losing: Callable[[Person], bool] | None = None,
    ) -> None:
        self.world = world
        self.directory = directory
        self.expand = expand
        self.status_directory = directory if directory_status else None
        self.losing = losing
        self._groups: dict[tuple[int, ...], str] = {}
        self._products = [
            (r.index, f'{{"id":{quoted(r.ari)},"key":{quoted(r.key)},"lastActiveTimestamp":"')
            for r in world.resources
            if not r.platform and (directory is None or r.directory == directory)
        ]

    def person(self, person: Person) -> str:
        """The person as a JSON object."""
        world = self.world
        status = world.status(person)
        membership = world.membership_status(person, self.status_directory)
        if self.status_directory is not None and status in ("active", "suspended"):
            status = membership
        account_id = quoted(person.account_id)
        picture = f'"{AVATARS}/{person.index}.png"'
        parts = [
            f'{{"accountId":{account_id},"accountType":"atlassian","accountStatus":"{world.account_status(person)}",'
            f'"membershipStatus":"{membership}","name":{quoted(person.name)},"nickname":{quoted(person.nickname)},'
            f'"emailVerified":{"true" if person.email_verified else "false"},'
            f'"claimStatus":"{"managed" if person.managed else "unmanaged"}","picture":{picture},"avatar":{picture},'
            f'"links":{{"self":"{make_self_link(person)}"}}'
        ]
        if status is not None:
            parts.append(f'"status":"{status}"')
        added = world.added_at(person)
        if added is not None:
            parts.append(f'"addedToOrg":"{iso(added)}"')
        if not person.email_hidden:
            parts.append(f'"email":{quoted(person.email)}')
        source = self._source(person)
        if person.managed:
            parts.append(f'"mfaEnabled":{"true" if person.mfa else "false"}')
            parts.append(f'"managementSource":{"null" if source is None else quoted(source)}')
        if person.department:
            parts.append(
                f'"department":{quoted(person.department)},"jobTitle":{quoted(person.job_title)},'
                f'"location":{quoted(person.location)},"timeZone":{quoted(person.time_zone)}'
            )
        expand = self.expand
        if "platformRoles" in expand:
            parts.append(f'"platformRoles":{json.dumps(world.platform_roles(person))}')
        if "counts.resources" in expand:
            parts.append(f'"counts":{{"resources":{self._resources(person)}}}')
        if "productAccess" in expand:
            parts.append(f'"productAccess":[{self._product_access(person)}]')
        if "groups" in expand:
            parts.append(f'"groups":[{self._group_list(person.groups)}]')
        return ",".join(parts) + "}"

    def _source(self, person: Person) -> str | None:
        for membership in person.memberships:
            if self.directory is None or membership.directory == self.directory:
                return membership.source
        return None

    def _resources(self, person: Person) -> int:
        mask = self.world.held_mask(person)
        return sum(1 for index, _ in self._products if mask >> index & 1)

    def _product_access(self, person: Person) -> str:
        """Last activity of the products that the person holds. Never active = no entry, as Atlassian has it."""
        if not person.activity or (self.losing is not None and self.losing(person)):
            return ""
        mask = self.world.held_mask(person)
        seen = dict(person.activity)
        return ",".join(
            f'{start}{iso_seconds(seen[index])}"}}'
            for index, start in self._products
            if index in seen and mask >> index & 1
        )

    def _group_list(self, groups: tuple[int, ...]) -> str:
        known = self._groups.get(groups)
        if known is None:
            found = [self.world.groups[index] for index in groups]
            known = self._groups[groups] = ",".join(
                f'{{"id":{quoted(g.id)},"name":{quoted(g.name)},"description":{quoted(g.description)}}}'
                for g in found
                if self.directory is None or g.directory == self.directory
            )
        return known


def make_self_link(person: Person) -> str:
    return f"u{person.index:x}"


def group_dict(world: World, group: Group, expand: set[str]) -> dict[str, Any]:
    """One group, with the counts that were asked for."""
    shown: dict[str, Any] = {
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "directoryId": world.directories[group.directory].id,
        "externalSynced": group.synced,
        "managedBy": group.managed_by,
        "managementAccess": {
            "deletable": not group.synced and group.kind in ("team", "access"),
            "modifiable": not group.synced,
            "readable": True,
        },
        "links": {"self": make_cursor({"g": group.index})},
    }
    counts = {}
    if "counts.users" in expand:
        counts["users"] = len(group.members)
    if "counts.resources" in expand:
        counts["resources"] = len({resource for resource, _ in group.grants})
    if counts:
        shown["counts"] = counts
    return shown


def last_active_dates(world: World, person: Person, entries: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    """The v1 answer, in snake case, with day and second precision."""
    added = world.added_at(person)
    data: dict[str, Any] = {
        "product_access": [
            {
                "id": world.resources[index].ari,
                "key": world.resources[index].key,
                "last_active": iso(at)[:10],
                "last_active_timestamp": iso_seconds(at),
            }
            for index, at in entries
        ]
    }
    if added is not None:
        data |= {"added_to_org": iso(added)[:10], "added_to_org_timestamp": iso_seconds(added)}
    return {"data": data, "links": {}}
