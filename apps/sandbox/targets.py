"""What the handlers of the Organizations API share: the things that a path or a body names, found or refused."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from apps.sandbox.errors import admin_error
from apps.sandbox.http import Request, Response
from apps.sandbox.reading import (
    bad,
    make_cursor,
    ok,
)
from apps.sandbox.world import (
    PLATFORM_ROLES,
    ROLES,
    Directory,
    Group,
    Person,
    Resource,
)

if TYPE_CHECKING:
    from apps.sandbox.core import Core

V1 = "/admin/v1/orgs/{orgId}"
V2 = "/admin/v2/orgs/{orgId}"
IN_DIRECTORY = V2 + "/directories/{directoryId}"
DEPRECATED = (("Deprecation", "true"), ("Sunset", "Wed, 30 Jun 2027 23:59:59 GMT"))


GRANTABLE = (*ROLES, "atlassian/viewer")


def uuid_of(*parts: object) -> str:
    """An identifier that depends on the parts only."""
    text_ = "/".join(map(str, parts))
    return str(uuid.UUID(bytes=hashlib.blake2b(text_.encode(), digest_size=16).digest(), version=4))


def page(rows: list[Any], state: dict[str, Any], start: int, limit: int) -> Response:
    """A v2 page of `rows`; `links.next` is a bare cursor, absent at the end."""
    links = {"self": make_cursor({**state, "at": start})}
    if start + limit < len(rows):
        links["next"] = make_cursor({**state, "at": start + limit})
    if start:
        links["prev"] = make_cursor({**state, "at": max(0, start - limit)})
    return ok({"data": rows[start : start + limit], "links": links})


def host_url(core: Core, request: Request, resource: Resource) -> str:
    """Where the site is reached: the sandbox itself, further sites under a prefix."""
    return request.base_url + (f"/_site/{core.world.sites[resource.site].name}" if resource.site else "")


def directory_of(core: Core, values: dict[str, str], request: Request) -> Directory | None:
    """The directory of the path; None for `-`, which means all of them."""
    if values["directoryId"] == "-":
        return None
    directory = core.world.directory(values["directoryId"])
    if directory is None:
        raise admin_error("ADMIN-UAM-404-1", "No such directory", request_id=request.request_id)
    return directory


def seen_people(core: Core, indexes: Iterable[int]) -> Iterable[Person]:
    """The people at these indexes as reads see them now, without those a fault hides."""
    world = core.world
    hidden = core.faults.hides_person
    for index in indexes:
        person = world.view(world.people[index])
        if person is not None and not hidden(person):
            yield person


def sort_order(value: Any, field: str) -> str | None:
    """asc or desc when the list is to be sorted, else None."""
    if not value:
        return None
    first = value[0] if isinstance(value, list) and len(value) == 1 else None
    if not isinstance(first, dict) or first.get("field") != field:
        raise bad(f"sortBy takes one entry with field {field}")
    direction = first.get("direction", "asc")
    if direction not in ("asc", "desc"):
        raise bad("direction is asc or desc")
    return str(direction)


def person_of(core: Core, account_id: str, request: Request, directory: Directory | None = None) -> Person:
    """A listed account, as it truly is; 404 when unknown or outside the directory."""
    person = core.world.person(account_id)
    inside = person is not None and person.listed and (person.managed or bool(person.memberships))
    if inside and directory is not None:
        inside = core.world.membership(person, directory.index) is not None  # type: ignore[arg-type]
    if not inside or person is None:
        detail = "One or more user not found in the directory"
        raise admin_error("ADMIN-UAM-404-1", detail, request_id=request.request_id)
    return person


def visible(core: Core, person: Person, request: Request) -> Person:
    seen = core.world.view(person)
    if seen is None:
        raise admin_error(
            "ADMIN-UAM-404-1", "One or more user not found in the directory", request_id=request.request_id
        )
    return seen


def real_directory(core: Core, values: dict[str, str], request: Request) -> Directory:
    directory = directory_of(core, values, request)
    if directory is None:
        raise bad("A write needs the real directory")
    return directory


def no_self_harm(core: Core, person: Person, request: Request) -> None:
    if person.index == core.world.owner:
        raise admin_error("ADMIN-UAM-403-1", "You cannot take away your own access", request_id=request.request_id)


def group_of(core: Core, values: dict[str, str], request: Request, directory: Directory | None) -> Group:
    group = core.world.group(values["groupId"])
    if group is None or (directory is not None and group.directory != directory.index):
        raise admin_error("ADMIN-UAM-404-3", "No such group in the directory", request_id=request.request_id)
    return group


def changeable(group: Group, request: Request) -> None:
    if group.synced:
        detail = "The group is synced from an identity provider"
        raise admin_error("ADMIN-403-5", detail, request_id=request.request_id)


def require_seats(core: Core, person: Person, added: int, request: Request) -> None:
    """409 when the seats that come with the mask `added` of resources are not there."""
    world = core.world
    wanted = added & ~world.seat_mask(person)
    for resource in world.resources:
        if wanted >> resource.index & 1:
            left = world.seats_left(resource.index)
            if left is not None and left <= 0:
                detail = f"No seat of {resource.name} is left"
                raise admin_error("ADMIN-UAM-409-3", detail, request_id=request.request_id)


def grantable(core: Core, request: Request, ari: str, role: str) -> Resource:
    resource = core.world.resource(ari)
    if resource is None:
        raise admin_error("ADMIN-UAM-404-1", "No such resource", request_id=request.request_id)
    if role not in GRANTABLE or (role in PLATFORM_ROLES[:2]) != resource.platform:
        raise admin_error("ADMIN-UAM-400-3", "The resource has no such role", request_id=request.request_id)
    return resource
