"""Groups in the Organizations API: lists, members, and what a group grants."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

from apps.sandbox.errors import admin_error
from apps.sandbox.http import Request, Response
from apps.sandbox.reading import (
    bad,
    json_body,
    make_cursor,
    need,
    no_content,
    number,
    ok,
    one,
    query_number,
    read_cursor,
    strings,
    text,
)
from apps.sandbox.rendering import group_dict
from apps.sandbox.routing import Routes
from apps.sandbox.targets import (
    DEPRECATED,
    IN_DIRECTORY,
    changeable,
    directory_of,
    grantable,
    group_of,
    page,
    person_of,
    real_directory,
    require_seats,
    sort_order,
)
from apps.sandbox.world import (
    SEATLESS_ROLES,
    Directory,
    Group,
    Operation,
)

if TYPE_CHECKING:
    from apps.sandbox.core import Core

routes = Routes()


def _group_page(
    core: Core, request: Request, directory: Directory | None, body: dict[str, Any], expand: set[str], limit: int
) -> Response:
    world = core.world
    state = read_cursor(text(body, "cursor"), "groups")
    if state is None:
        names = {"cursor", "limit", "expand"}
        state = {"kind": "groups", "at": 0, "filter": {k: v for k, v in body.items() if k not in names}}
        state["expand"] = sorted(expand)
    groups = _filter_groups(core, directory, state["filter"])
    order = sort_order(state["filter"].get("sortBy"), "name")
    if order is not None:
        groups.sort(key=lambda g: (g.name.casefold(), g.index), reverse=order == "desc")
    start = state["at"]
    links = {"self": make_cursor(state)}
    if start + limit < len(groups):
        links["next"] = make_cursor({**state, "at": start + limit})
    shown = [group_dict(world, g, set(state["expand"])) for g in groups[start : start + limit]]
    return ok({"data": shown, "links": links})


def _filter_groups(core: Core, directory: Directory | None, body: dict[str, Any]) -> list[Group]:
    world = core.world
    names, ids = strings(body, "groupNames", 100), strings(body, "groupIds", 10)
    term = text(body, "searchTerm")
    if sum(value is not None for value in (names, ids, term)) > 1:
        raise bad("groupNames, groupIds and searchTerm exclude each other")
    accounts = strings(body, "accountIds", 10)
    directories, owners = strings(body, "directoryIds", 10), strings(body, "resourceOwners", 10)
    aris, roles = strings(body, "resourceIds", 20), strings(body, "roleIds", 10)
    held: set[int] | None = None
    if accounts is not None:
        held = set()
        for account in accounts:
            person = world.person(account)
            seen = None if person is None else world.view(person)
            if seen is not None:
                held |= set(seen.groups)

    def passes(group: Group) -> bool:
        if directory is not None and group.directory != directory.index:
            return False
        if directories is not None and world.directories[group.directory].id not in directories:
            return False
        if (names is not None and group.name not in names) or (ids is not None and group.id not in ids):
            return False
        if term is not None and term.casefold() not in group.name.casefold():
            return False
        if held is not None and group.index not in held:
            return False
        if aris is None and roles is None and owners is None:
            return True
        return any(
            (aris is None or world.resources[resource].ari in aris)
            and (roles is None or role in roles)
            and (owners is None or world.resources[resource].owner in owners)
            for resource, role in group.grants
        )

    seen_groups = (world.view_group(group) for group in world.groups if not group.deleted)
    return [group for group in seen_groups if group is not None and passes(group)]


@routes.add("POST", IN_DIRECTORY + "/groups/search", "v2")
def search_groups(core: Core, request: Request, values: dict[str, str]) -> Response:
    body = json_body(request, required=False)
    expand = strings(body, "expand", 2, ("counts.resources", "counts.users")) if body.get("expand") else None
    limit = number(body, "limit", 20, 100)
    return _group_page(core, request, directory_of(core, values, request), body, set(expand or ()), limit)


_GROUP_LISTS = ("directoryIds", "accountIds", "groupIds", "resourceOwners", "resourceIds", "roleIds")


def _group_query(request: Request) -> dict[str, Any]:
    params = request.params()
    body: dict[str, Any] = {name: params[name] for name in _GROUP_LISTS if name in params}
    for name in ("searchTerm", "cursor"):
        if name in params:
            body[name] = params[name][0]
    return body


@routes.add("GET", IN_DIRECTORY + "/groups", "v2", scope="read:groups:admin", headers=DEPRECATED)
def list_groups(core: Core, request: Request, values: dict[str, str]) -> Response:
    params = request.params()
    expand = {
        name
        for name, switch in (("counts.users", "includeUsers"), ("counts.resources", "includeResources"))
        if one(params, switch) == "true"
    }
    limit = query_number(params, "limit", 20, 1, 100)
    return _group_page(core, request, directory_of(core, values, request), _group_query(request), expand, limit)


@routes.add("GET", IN_DIRECTORY + "/groups/count", "v2")
def count_groups(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok({"count": len(_filter_groups(core, directory_of(core, values, request), _group_query(request)))})


@routes.add("GET", IN_DIRECTORY + "/groups/stats", "v2")
def group_stats(core: Core, request: Request, values: dict[str, str]) -> Response:
    groups = _filter_groups(core, directory_of(core, values, request), {})
    synced = sum(group.synced for group in groups)
    teams = sum(group.kind == "team" for group in groups)
    return ok(
        {
            "totals": {"all": len(groups), "managed": synced, "synced": synced},
            "types": [{"type": "TEAM", "count": teams}, {"type": "GROUP", "count": len(groups) - teams}],
        }
    )


@routes.add("GET", IN_DIRECTORY + "/groups/{groupId}", "v2")
def get_group(core: Core, request: Request, values: dict[str, str]) -> Response:
    group = core.world.view_group(group_of(core, values, request, directory_of(core, values, request)))
    if group is None:
        raise admin_error("ADMIN-UAM-404-3", "No such group in the directory", request_id=request.request_id)
    return ok({"data": group_dict(core.world, group, {"counts.users", "counts.resources"})})


@routes.add("POST", IN_DIRECTORY + "/groups", "v2")
def create_group(core: Core, request: Request, values: dict[str, str]) -> Response:
    directory = real_directory(core, values, request)
    body = json_body(request)
    name = need(body, "name").strip()
    if not name or len(name) > 255:
        raise bad("name takes 1 to 255 characters")
    if core.world.group_named(name, directory.index) is not None:
        raise admin_error("ADMIN-UAM-409-2", "A group of this name exists", request_id=request.request_id)
    group_id = str(
        uuid.UUID(
            bytes=hashlib.md5(f"{core.world.seed}/{request.request_id}/{name}".encode(), usedforsecurity=False).digest()
        )
    )
    core.commit(request, [["new-group", group_id, directory.id, name, text(body, "description") or ""]], group=group_id)
    return Response(201)


@routes.add("DELETE", IN_DIRECTORY + "/groups/{groupId}", "v2")
def delete_group(core: Core, request: Request, values: dict[str, str]) -> Response:
    group = group_of(core, values, request, real_directory(core, values, request))
    changeable(group, request)
    if group.default_for:
        raise admin_error("ADMIN-403-6", "A default group", request_id=request.request_id)
    if group.kind == "admin":
        raise admin_error("ADMIN-403-7", "The group gives admin access", request_id=request.request_id)
    core.commit(request, [["delete-group", group.id]], group=group)
    return no_content()


@routes.add("POST", IN_DIRECTORY + "/groups/{groupId}/memberships", "v2")
def add_member(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    account_id = need(json_body(request), "accountId")
    directory = real_directory(core, values, request)
    group = group_of(core, values, request, directory)
    person = person_of(core, account_id, request, directory)
    changeable(group, request)
    if group.index in person.groups:
        detail = "The user is already a member of the group"
        raise admin_error("ADMIN-UAM-409-2", detail, request_id=request.request_id)
    require_seats(core, person, world.group_masks((group.index,))[0], request)
    core.commit(request, [["group+", person.account_id, group.id]], account=person, group=group)
    return no_content()


@routes.add("DELETE", IN_DIRECTORY + "/groups/{groupId}/memberships/{accountId}", "v2")
def remove_member(core: Core, request: Request, values: dict[str, str]) -> Response:
    directory = real_directory(core, values, request)
    group = group_of(core, values, request, directory)
    person = person_of(core, values["accountId"], request, directory)
    changeable(group, request)
    if group.index not in person.groups:
        raise admin_error("ADMIN-UAM-404-1", "The user is not in the group", request_id=request.request_id)
    core.commit(request, [["group-", person.account_id, group.id]], account=person, group=group)
    return no_content()


@routes.add("GET", IN_DIRECTORY + "/groups/{groupId}/role-assignments", "v2", scope="read:groups:admin")
def group_roles(core: Core, request: Request, values: dict[str, str]) -> Response:
    world, params = core.world, request.params()
    group = world.view_group(group_of(core, values, request, directory_of(core, values, request)))
    grants = () if group is None else group.grants
    owners, aris, wanted = params.get("resourceOwners"), params.get("resourceIds"), params.get("roleIds")
    by_resource: dict[int, list[str]] = {}
    for resource, role in grants:
        by_resource.setdefault(resource, []).append(role)
    rows = []
    for index, roles in sorted(by_resource.items()):
        shown = world.resources[index]
        if (owners and shown.owner not in owners) or (aris and shown.ari not in aris):
            continue
        if wanted and not set(wanted) & set(roles):
            continue
        default = roles[0] if group is not None and index in group.default_for else None
        rows.append(
            {"resourceId": shown.ari, "resourceOwner": shown.owner, "roles": sorted(roles), "defaultRole": default}
        )
    limit = query_number(params, "limit", 20, 1, 100)
    state = read_cursor(one(params, "cursor"), "group-roles") or {"at": 0}
    return page(rows, {"kind": "group-roles"}, state["at"], limit)


@routes.add("POST", IN_DIRECTORY + "/groups/{groupId}/role-assignments/assign", "v2")
def assign_group_role(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    body = json_body(request)
    group = group_of(core, values, request, real_directory(core, values, request))
    role = need(body, "roleId")
    resource = grantable(core, request, need(body, "resourceId"), role)
    operations: list[Operation] = []
    if (resource.index, role) not in group.grants:
        if role not in SEATLESS_ROLES:
            people = [world.people[index] for index in group.members]
            wanted = sum(
                1 for p in people if not world.seat_mask(p) >> resource.index & 1 and p.account_status == "active"
            )
            left = world.seats_left(resource.index)
            if left is not None and wanted > left:
                detail = f"No seats of {resource.name} are left for {wanted} members"
                raise admin_error("ADMIN-409-3", detail, request_id=request.request_id)
        operations = [["grant+", group.id, resource.ari, role]]
    core.commit(request, operations, group=group)
    return Response(200)


@routes.add("POST", IN_DIRECTORY + "/groups/{groupId}/role-assignments/revoke", "v2")
def revoke_group_role(core: Core, request: Request, values: dict[str, str]) -> Response:
    body = json_body(request)
    group = group_of(core, values, request, real_directory(core, values, request))
    role = need(body, "roleId")
    resource = grantable(core, request, need(body, "resourceId"), role)
    held = (resource.index, role) in group.grants
    core.commit(request, [["grant-", group.id, resource.ari, role]] if held else [], group=group)
    return no_content()
