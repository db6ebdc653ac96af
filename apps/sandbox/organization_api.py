"""The Organizations API, `/admin/v1` and `/admin/v2`, over the sandbox's organisation."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from apps.sandbox.errors import admin_error
from apps.sandbox.http import Request, Response, json_response
from apps.sandbox.reading import (
    bad,
    iso,
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
from apps.sandbox.rendering import AVATARS, PeopleRenderer, group_dict, last_active_dates
from apps.sandbox.routing import Routes
from apps.sandbox.world import (
    PLATFORM_ROLES,
    ROLES,
    SEATLESS_ROLES,
    Directory,
    Group,
    Operation,
    Person,
    Resource,
    World,
)

if TYPE_CHECKING:
    from apps.sandbox.core import Core

routes = Routes()
V1 = "/admin/v1/orgs/{orgId}"
V2 = "/admin/v2/orgs/{orgId}"
IN_DIRECTORY = V2 + "/directories/{directoryId}"
DEPRECATED = (("Deprecation", "true"), ("Sunset", "Wed, 30 Jun 2027 23:59:59 GMT"))
MANAGED_PAGE = 100
MAX_INVITES = 25

STATUSES = ("active", "suspended", "not_invited", "deactivated", "for_deletion")
ACCOUNT_STATUSES = ("active", "inactive", "closed")
MEMBERSHIP_STATUSES = ("active", "suspended", "no_membership")
EXPANSIONS = ("platformRoles", "counts.resources", "productAccess", "groups")
GRANTABLE = (*ROLES, "atlassian/viewer")


# -- organisation, domains, directories, workspaces


def _uuid_of(*parts: object) -> str:
    """An identifier that depends on the parts only."""
    text_ = "/".join(map(str, parts))
    return str(uuid.UUID(bytes=hashlib.blake2b(text_.encode(), digest_size=16).digest(), version=4))


def _org_dict(core: Core, request: Request) -> dict[str, Any]:
    base = f"{request.base_url}/admin/v1/orgs/{core.world.org_id}"
    return {
        "id": core.world.org_id,
        "type": "orgs",
        "attributes": {"name": core.world.org_name},
        "relationships": {
            "domains": {"links": {"related": f"{base}/domains"}},
            "users": {"links": {"related": f"{base}/users"}},
        },
        "links": {"self": base},
    }


@routes.add("GET", "/admin/v1/orgs", "v1", scope="read:orgs:admin")
def list_orgs(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok({"data": [_org_dict(core, request)], "links": {"self": f"{request.base_url}/admin/v1/orgs"}})


@routes.add("GET", V1, "v1", scope="read:orgs:admin")
def get_org(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok({"data": _org_dict(core, request)})


def _domain_dict(core: Core, request: Request, name: str) -> dict[str, Any]:
    id_ = _uuid_of(name)
    return {
        "id": id_,
        "type": "domains",
        "attributes": {"name": name, "claim": {"type": "dns", "status": "verified"}},
        "links": {"self": f"{request.base_url}/admin/v1/orgs/{core.world.org_id}/domains/{id_}"},
    }


@routes.add("GET", V1 + "/domains", "v1", scope="read:domains:admin")
def list_domains(core: Core, request: Request, values: dict[str, str]) -> Response:
    domains = [_domain_dict(core, request, name) for name in core.world.domains]
    return ok({"data": domains, "links": {"self": f"{request.base_url}{request.full_path}"}})


@routes.add("GET", V1 + "/domains/{domainId}", "v1", scope="read:domains:admin")
def get_domain(core: Core, request: Request, values: dict[str, str]) -> Response:
    for name in core.world.domains:
        shown = _domain_dict(core, request, name)
        if shown["id"] == values["domainId"]:
            return ok({"data": shown})
    raise admin_error("ADMIN-404-3", "No such domain", request_id=request.request_id)


@routes.add("GET", V2 + "/directories", "v2", scope="read:directories:admin")
def list_directories(core: Core, request: Request, values: dict[str, str]) -> Response:
    world, params = core.world, request.params()
    wanted = list(world.directories)
    account = one(params, "accountId")
    if account:
        person = world.person(account)
        seen = None if person is None else world.view(person)
        held = {m.directory for m in seen.memberships} if seen is not None else set()
        wanted = [d for d in wanted if d.index in held]
    ids = params.get("directoryIds")
    if ids:
        wanted = [d for d in wanted if d.id in ids]
    term = (one(params, "searchTerm") or "").casefold()
    wanted = [d for d in wanted if term in d.name.casefold()]
    limit = query_number(params, "limit", 20, 1, 100)
    state = read_cursor(one(params, "cursor"), "directories") or {"at": 0}
    return _page(
        [{"directoryId": d.id, "name": d.name, "icon": f"{AVATARS}/directory{d.index}.png"} for d in wanted],
        {"kind": "directories"},
        state["at"],
        limit,
    )


def _page(rows: list[Any], state: dict[str, Any], start: int, limit: int) -> Response:
    """A v2 page of `rows`; `links.next` is a bare cursor, absent at the end."""
    links = {"self": make_cursor({**state, "at": start})}
    if start + limit < len(rows):
        links["next"] = make_cursor({**state, "at": start + limit})
    if start:
        links["prev"] = make_cursor({**state, "at": max(0, start - limit)})
    return ok({"data": rows[start : start + limit], "links": links})


@routes.add("POST", V2 + "/workspaces", "workspaces", scope="read:workspaces:admin")
def list_workspaces(core: Core, request: Request, values: dict[str, str]) -> Response:
    body = json_body(request, required=False)
    if body.get("cursor"):
        if set(body) != {"cursor"}:
            raise admin_error("ADMIN-400-4", "Nothing may stand beside a cursor", bare=True)
        state = read_cursor(body["cursor"], "workspaces") or {}
    else:
        limit = body.get("limit", 20)
        if not isinstance(limit, int) or not 1 <= limit <= 1000:
            raise admin_error("ADMIN-400-4", "limit must be 1 to 1000", bare=True)
        state = {"kind": "workspaces", "limit": limit, "query": body.get("query"), "at": 0}
    rows = [_workspace_dict(core, request, r) for r in core.world.resources if not r.platform]
    rows = [row for row in rows if _matches_query(row, state["query"])]
    start, limit = state["at"], state["limit"]
    links = {"self": make_cursor(state)}
    if start + limit < len(rows):
        links["next"] = make_cursor({**state, "at": start + limit})
    shown = rows[start : start + limit]
    end = start + len(shown) - 1 if shown else None
    meta = {"pageSize": len(shown), "startIndex": start, "endIndex": end, "total": len(rows)}
    return ok({"data": shown, "links": links, "meta": meta})


def _workspace_dict(core: Core, request: Request, resource: Resource) -> dict[str, Any]:
    world = core.world
    return {
        "id": resource.ari,
        "type": "workspace",
        "attributes": {
            "name": world.sites[resource.site or 0].name,
            "type": resource.name,
            "typeKey": resource.type_key,
            "owner": resource.owner,
            "status": "online",
            "statusDetails": [],
            "labels": [],
            "icons": {},
            "avatars": {},
            "sandbox": {"type": resource.sandbox},
            "usage": world.usage[resource.index],
            "capacity": resource.capacity,
            "createdAt": iso(resource.created_at),
            "createdBy": None,
            "updatedAt": None,
            "realm": "global",
            "regions": ["eu"],
            "hostUrl": _host_url(core, request, resource),
        },
        "links": {"self": f"{request.base_url}/admin/v2/orgs/{world.org_id}/workspaces/{resource.ari}"},
        "relationships": {},
    }


def _host_url(core: Core, request: Request, resource: Resource) -> str:
    """Where the site is reached: the sandbox itself, further sites under a prefix."""
    return request.base_url + (f"/_site/{core.world.sites[resource.site].name}" if resource.site else "")


def _matches_query(row: dict[str, Any], query: Any) -> bool:
    """The part of the query language that narrows by field, by text and by both."""
    if not isinstance(query, dict):
        return True
    if isinstance(query.get("and"), list):
        return all(_matches_query(row, part) for part in query["and"])
    if isinstance(query.get("nor"), list):
        return not any(_matches_query(row, part) for part in query["nor"])
    if isinstance(query.get("searchWorkspaces"), str):
        wanted = query["searchWorkspaces"].casefold()
        attributes = row["attributes"]
        return wanted in attributes["name"].casefold() or wanted in attributes["hostUrl"].casefold()
    field = query.get("field")
    if isinstance(field, dict):
        name = str(field.get("name", "")).removeprefix("attributes.")
        shown = row["attributes"].get(name)
        # The document's example asks for `attributes.type` with the value of typeKey.
        return any(
            value in (shown, row["attributes"]["typeKey"] if name == "type" else shown) for value in field["values"]
        )
    return True


# -- users: lists and one


def _directory(core: Core, values: dict[str, str], request: Request) -> Directory | None:
    """The directory of the path; None for `-`, which means all of them."""
    if values["directoryId"] == "-":
        return None
    directory = core.world.directory(values["directoryId"])
    if directory is None:
        raise admin_error("ADMIN-UAM-404-1", "No such directory", request_id=request.request_id)
    return directory


class _UserFilter:
    """The filters of a list of users, checked; `__call__` tells whether a person passes."""

    def __init__(self, core: Core, directory: Directory | None, body: dict[str, Any]) -> None:
        world = core.world
        self.world = world
        self.directory = None if directory is None else directory.index
        self.own_status = core.policy.membership_status == "directory" and directory is not None
        self.emails = strings(body, "emails", 100)
        self.term = text(body, "searchTerm")
        if self.emails and self.term:
            raise bad("emails and searchTerm exclude each other")
        self.accounts = strings(body, "accountIds", 10)
        self.groups = strings(body, "groupIds", 10)
        self.domains = strings(body, "emailDomains", 10)
        self.status = strings(body, "status", 4, STATUSES)
        self.account_status = strings(body, "accountStatus", 3, ACCOUNT_STATUSES)
        self.membership = strings(body, "membershipStatus", 3, MEMBERSHIP_STATUSES)
        self.roles = strings(body, "roleIds", 10, ROLES)
        resources = strings(body, "resourceIds", 20)
        self.resources = None if resources is None else {world.by_ari.get(ari, -1) for ari in resources}
        directories = strings(body, "directoryIds", 10)
        self.directories = None if directories is None else {d.index for d in world.directories if d.id in directories}
        self.claim = text(body, "claimStatus")
        if self.claim not in (None, "managed", "unmanaged"):
            raise bad("claimStatus is managed or unmanaged")
        self.mfa = body.get("mfaEnabled")
        if self.mfa is not None and not isinstance(self.mfa, bool):
            raise bad("mfaEnabled is a boolean")

    def candidates(self) -> Iterable[int]:
        """Indexes, ascending, among which the answer is: narrow where an index exists."""
        world = self.world
        if self.accounts is not None:
            return sorted({world.by_account[a] for a in self.accounts if a in world.by_account})
        if self.emails is not None:
            return sorted({world.by_email[e.lower()] for e in self.emails if e.lower() in world.by_email})
        if self.groups is not None:
            found: set[int] = set()
            for group_id in self.groups:
                group = world.group(group_id)
                if group is not None:
                    found.update(world.members(group))
            return sorted(found)
        return range(len(world.people))

    def __call__(self, person: Person) -> bool:
        world = self.world
        if not person.listed:
            return False
        if self.directory is not None and all(m.directory != self.directory for m in person.memberships):
            return False
        # Outside every directory the organisation knows only accounts of its own domains.
        if not person.memberships and not person.managed:
            return False
        if self.directories is not None and not any(m.directory in self.directories for m in person.memberships):
            return False
        return self._details(person, world)

    def _details(self, person: Person, world: World) -> bool:
        in_directory = self.directory if self.own_status else None
        if self.emails is not None and person.email_hidden:
            return False
        if self.term is not None and not self._found(person, self.term.casefold()):
            return False
        if self.domains is not None and person.email.rpartition("@")[2] not in self.domains:
            return False
        if self.status is not None and world.status(person) not in self.status:
            return False
        if self.account_status is not None and world.account_status(person) not in self.account_status:
            return False
        if self.membership is not None and world.membership_status(person, in_directory) not in self.membership:
            return False
        if self.claim is not None and person.managed != (self.claim == "managed"):
            return False
        if self.mfa is not None and (not person.managed or person.mfa != self.mfa):
            return False
        if self.groups is not None and not any(world.groups[g].id in self.groups for g in person.groups):
            return False
        return self._roles(person, world)

    def _roles(self, person: Person, world: World) -> bool:
        if self.resources is None and self.roles is None:
            return True
        held = world.roles_of(person)
        for resource, roles in held.items():
            if self.resources is not None and resource not in self.resources:
                continue
            if self.roles is None or any(role in self.roles for role in roles):
                return True
        return False

    @staticmethod
    def _found(person: Person, term: str) -> bool:
        return term in person.name.casefold() or (not person.email_hidden and term in person.email)


def _seen(core: Core, indexes: Iterable[int]) -> Iterable[Person]:
    """The people at these indexes as reads see them now, without those a fault hides."""
    world = core.world
    hidden = core.faults.hides_person
    for index in indexes:
        person = world.view(world.people[index])
        if person is not None and not hidden(person):
            yield person


def _user_page(
    core: Core, request: Request, directory: Directory | None, body: dict[str, Any], default_limit: int
) -> Response:
    """One page of users. A cursor carries the filters of its list, so what stands beside it has no effect."""
    limit = number(body, "limit", default_limit, 100)
    expand = strings(body, "expand", 4, EXPANSIONS) if body.get("expand") else None
    state = read_cursor(text(body, "cursor"), "users")
    if state is None:
        names = {"cursor", "limit", "expand"}
        state = {"kind": "users", "at": 0, "filter": {k: v for k, v in body.items() if k not in names}}
        state["expand"] = expand or []
    elif expand is not None:
        state["expand"] = expand
    passes = _UserFilter(core, directory, state["filter"])
    candidates = passes.candidates()
    order = _sort_order(state["filter"].get("sortBy"), "nick_name")
    if order is None:
        found, following = _scan(core, candidates, passes, state["at"], limit)
    else:
        everybody = [p for p in _seen(core, candidates) if passes(p)]
        everybody.sort(key=lambda p: (p.nickname.casefold(), p.index), reverse=order == "desc")
        found = everybody[state["at"] : state["at"] + limit]
        following = state["at"] + limit if state["at"] + limit < len(everybody) else None
    renderer = PeopleRenderer(
        core.world,
        None if directory is None else directory.index,
        set(state["expand"]),
        directory_status=core.policy.membership_status == "directory",
        losing=core.faults.activity_loss(),
    )
    links = f'"self":"{make_cursor(state)}"'
    if following is not None:
        links += f',"next":"{make_cursor({**state, "at": following})}"'
    data = ",".join(map(renderer.person, found))
    return Response(200, f'{{"data":[{data}],"links":{{{links}}}}}'.encode())


def _scan(
    core: Core, candidates: Iterable[int], passes: Callable[[Person], bool], start: int, limit: int
) -> tuple[list[Person], int | None]:
    """The next `limit` people whose index is at least `start`, and the index to go on from (None = no more)."""
    indexes = (
        range(start, len(core.world.people)) if isinstance(candidates, range) else (i for i in candidates if i >= start)
    )
    found: list[Person] = []
    for person in _seen(core, indexes):
        if passes(person):
            if len(found) == limit:
                return found, person.index
            found.append(person)
    return found, None


def _sort_order(value: Any, field: str) -> str | None:
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


@routes.add("POST", IN_DIRECTORY + "/users/search", "v2")
def search_users(core: Core, request: Request, values: dict[str, str]) -> Response:
    return _user_page(core, request, _directory(core, values, request), json_body(request, required=False), 50)


_QUERY_LISTS = (
    *("accountIds", "directoryIds", "resourceIds", "groupIds", "status", "accountStatus", "membershipStatus"),
    *("roleIds", "emailDomains"),
)


def _query_filter(request: Request) -> dict[str, Any]:
    """The filters of the GET forms, in the shape of the POST body."""
    params = request.params()
    body: dict[str, Any] = {name: params[name] for name in _QUERY_LISTS if name in params}
    for name in ("searchTerm", "claimStatus", "cursor"):
        if name in params:
            body[name] = params[name][0]
    if "mfaEnabled" in params:
        body["mfaEnabled"] = params["mfaEnabled"][0].lower() == "true"
    return body


@routes.add("GET", IN_DIRECTORY + "/users", "v2", scope="read:directories:admin", headers=DEPRECATED)
def list_users(core: Core, request: Request, values: dict[str, str]) -> Response:
    body = _query_filter(request)
    body["limit"] = query_number(request.params(), "limit", 20, 1, 100)
    return _user_page(core, request, _directory(core, values, request), body, 20)


@routes.add("GET", IN_DIRECTORY + "/users/count", "v2")
def count_users(core: Core, request: Request, values: dict[str, str]) -> Response:
    passes = _UserFilter(core, _directory(core, values, request), _query_filter(request))
    world = core.world
    found = (world.view(world.people[index]) for index in passes.candidates())
    return ok({"count": sum(1 for person in found if person is not None and passes(person))})


@routes.add("GET", IN_DIRECTORY + "/users/stats", "v2", scope="read:directories:admin")
def user_stats(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    passes = _UserFilter(core, _directory(core, values, request), {})
    statuses = dict.fromkeys(ACCOUNT_STATUSES, 0)
    roles: dict[str, int] = {}
    for person in _seen(core, passes.candidates()):
        if passes(person):
            statuses[world.account_status(person)] += 1
            for role in {role for held in world.roles_of(person).values() for role in held}:
                roles[role] = roles.get(role, 0) + 1
    return ok(
        {
            "accountStatus": [{"status": status, "count": count} for status, count in statuses.items()],
            "roles": [{"roleId": role, "count": count} for role, count in sorted(roles.items())],
        }
    )


def _person(core: Core, account_id: str, request: Request, directory: Directory | None = None) -> Person:
    """A listed account, as it truly is; 404 when unknown or outside the directory."""
    person = core.world.person(account_id)
    inside = person is not None and person.listed
    if inside and directory is not None:
        inside = core.world.membership(person, directory.index) is not None  # type: ignore[arg-type]
    if not inside or person is None:
        detail = "One or more user not found in the directory"
        raise admin_error("ADMIN-UAM-404-1", detail, request_id=request.request_id)
    return person


def _visible(core: Core, person: Person, request: Request) -> Person:
    seen = core.world.view(person)
    if seen is None:
        raise admin_error(
            "ADMIN-UAM-404-1", "One or more user not found in the directory", request_id=request.request_id
        )
    return seen


@routes.add("GET", IN_DIRECTORY + "/users/{userId}", "v2")
def get_user(core: Core, request: Request, values: dict[str, str]) -> Response:
    directory = _directory(core, values, request)
    person = _visible(core, _person(core, values["userId"], request, directory), request)
    renderer = PeopleRenderer(
        core.world,
        None if directory is None else directory.index,
        {"platformRoles", "counts.resources"},
        directory_status=core.policy.membership_status == "directory",
    )
    shown = renderer.person(person)
    extra = "" if person.deactivated_at is None else f',"deactivatedOn":"{iso(person.deactivated_at)}"'
    link = shown.index(',"links":')
    shown = shown[:link] + shown[shown.index("}", link) + 1 : -1] + extra + "}"
    return Response(200, f'{{"data":{shown}}}'.encode())


@routes.add("GET", IN_DIRECTORY + "/users/{accountId}/role-assignments", "v2", scope="read:directories:admin")
def user_roles(core: Core, request: Request, values: dict[str, str]) -> Response:
    world, params = core.world, request.params()
    directory = _directory(core, values, request)
    person = _visible(core, _person(core, values["accountId"], request, directory), request)
    owners, aris, wanted = params.get("resourceOwners"), params.get("resourceIds"), params.get("roleIds")
    directories = params.get("directoryIds")
    rows = []
    for index, roles in sorted(world.roles_of(person).items()):
        resource = world.resources[index]
        if directory is not None and resource.directory not in (None, directory.index):
            continue
        if directories and (resource.directory is None or world.directories[resource.directory].id not in directories):
            continue
        if (owners and resource.owner not in owners) or (aris and resource.ari not in aris):
            continue
        shown = {role: methods for role, methods in sorted(roles.items()) if not wanted or role in wanted}
        if shown:
            rows.append(_role_row(world, person, resource, shown))
    limit = query_number(params, "limit", 20, 1, 100)
    state = read_cursor(one(params, "cursor"), "user-roles") or {"at": 0}
    return _page(rows, {"kind": "user-roles"}, state["at"], limit)


def _role_row(world: World, person: Person, resource: Resource, roles: dict[str, set[str]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "resourceId": resource.ari,
        "resourceOwner": resource.owner,
        "directoryId": None if resource.directory is None else world.directories[resource.directory].id,
        "roles": list(roles),
        "roleAssignments": [
            {"role": role, "roleAssignmentMethods": sorted(methods)} for role, methods in roles.items()
        ],
    }
    # The text says null for platform roles, the schema forbids null: the field is left away.
    if resource.directory is not None:
        row["userDirectoryStatus"] = world.membership_status(person, resource.directory)
    return row


# -- users: writes


def _real_directory(core: Core, values: dict[str, str], request: Request) -> Directory:
    directory = _directory(core, values, request)
    if directory is None:
        raise bad("A write needs the real directory")
    return directory


def _no_self_harm(core: Core, person: Person, request: Request) -> None:
    if person.index == core.world.owner:
        raise admin_error("ADMIN-UAM-403-1", "You cannot take away your own access", request_id=request.request_id)


def _set_membership(core: Core, request: Request, values: dict[str, str], status: str) -> Response:
    json_body(request)
    directory = _real_directory(core, values, request)
    person = _person(core, values["accountId"], request, directory)
    membership = core.world.membership(person, directory.index)
    assert membership is not None
    if status == "suspended":
        _no_self_harm(core, person, request)
    if core.policy.synced_suspend == "refuse" and membership.source == "synced":
        raise admin_error("ADMIN-UAM-403-1", "externalDirectory.scim", request_id=request.request_id)
    operations: list[Operation] = []
    if membership.status != status:
        operations = [["membership", person.account_id, directory.id, status, membership.source, membership.added_at]]
    elif core.policy.repeat_status == 400:
        raise bad(f"The user is already {status}")
    core.commit(request, operations, account=person)
    return no_content()


@routes.add("POST", IN_DIRECTORY + "/users/{accountId}/suspend", "v2")
def suspend(core: Core, request: Request, values: dict[str, str]) -> Response:
    return _set_membership(core, request, values, "suspended")


@routes.add("POST", IN_DIRECTORY + "/users/{accountId}/restore", "v2")
def restore(core: Core, request: Request, values: dict[str, str]) -> Response:
    return _set_membership(core, request, values, "active")


def removal(world: World, person: Person, directory: Directory) -> list[Operation]:
    """What leaving a directory takes along: its groups and the roles on its resources."""
    operations: list[Operation] = []
    for index in person.groups:
        if world.groups[index].directory == directory.index:
            operations.append(["group-", person.account_id, world.groups[index].id])
    for resource, role in person.direct:
        if world.resources[resource].directory == directory.index:
            operations.append(["direct-", person.account_id, world.resources[resource].ari, role])
    operations.append(["membership", person.account_id, directory.id, None, None, 0])
    return operations


@routes.add("DELETE", IN_DIRECTORY + "/users/{accountId}", "v2")
def remove_user(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    directory = _real_directory(core, values, request)
    person = _person(core, values["accountId"], request, directory)
    _no_self_harm(core, person, request)
    if "atlassian/org-admin" in world.platform_roles(person):
        raise admin_error("ADMIN-UAM-403-1", "Take the admin role away first", request_id=request.request_id)
    membership = world.membership(person, directory.index)
    if membership is not None and membership.source == "synced":
        raise admin_error("ADMIN-UAM-403-1", "externalDirectory.scim", request_id=request.request_id)
    core.commit(request, removal(world, person, directory), account=person)
    return no_content()


@routes.add("GET", V1 + "/directory/users/{accountId}/last-active-dates", "v1")
def get_last_active(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    person = world.person(values["accountId"])
    if person is None or not person.listed or world.closed(person):
        raise admin_error("ADMIN-404-8", "No such user", request_id=request.request_id)
    losing = core.faults.activity_loss()
    mask = world.held_mask(person)
    entries = tuple((index, at) for index, at in person.activity if mask >> index & 1)
    return ok(last_active_dates(world, person, () if losing is not None and losing(person) else entries))


@routes.add("GET", V1 + "/users", "v1", scope="read:accounts:admin")
def managed_accounts(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    managed = [p for p in world.people if p.managed and p.listed]
    start = (read_cursor(one(request.params(), "cursor"), "managed") or {"at": 0})["at"]
    here = f"{request.base_url}{request.full_path}"
    links = {"self": here}
    if start + MANAGED_PAGE < len(managed):
        links["next"] = f"{here}?cursor={make_cursor({'kind': 'managed', 'at': start + MANAGED_PAGE})}"
    data = [_managed_dict(core, request, p) for p in managed[start : start + MANAGED_PAGE]]
    return ok({"data": data, "meta": {"total": len(managed)}, "links": links})


def _managed_dict(core: Core, request: Request, person: Person) -> dict[str, Any]:
    world = core.world
    mask = world.held_mask(person)
    entries = [(world.resources[index], at) for index, at in person.activity if mask >> index & 1]
    shown: dict[str, Any] = {
        "account_id": person.account_id,
        "account_type": "atlassian",
        "account_status": world.account_status(person),
        "name": person.name,
        "picture": f"{AVATARS}/{person.index}.png",
        "email": person.email,
        "access_billable": bool(world.billable_mask(person)),
        "product_access": [
            {
                "key": r.key,
                "name": r.name,
                "url": _workspace_dict(core, request, r)["attributes"]["hostUrl"],
                "last_active": iso(at),
            }
            for r, at in entries
        ],
        "links": {"self": f"{request.base_url}/users/{person.account_id}/manage/profile"},
    }
    if entries:
        shown["last_active"] = iso(max(at for _, at in entries))
    return shown


# -- groups


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
    order = _sort_order(state["filter"].get("sortBy"), "name")
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
    return _group_page(core, request, _directory(core, values, request), body, set(expand or ()), limit)


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
    return _group_page(core, request, _directory(core, values, request), _group_query(request), expand, limit)


@routes.add("GET", IN_DIRECTORY + "/groups/count", "v2")
def count_groups(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok({"count": len(_filter_groups(core, _directory(core, values, request), _group_query(request)))})


@routes.add("GET", IN_DIRECTORY + "/groups/stats", "v2")
def group_stats(core: Core, request: Request, values: dict[str, str]) -> Response:
    groups = _filter_groups(core, _directory(core, values, request), {})
    synced = sum(group.synced for group in groups)
    teams = sum(group.kind == "team" for group in groups)
    return ok(
        {
            "totals": {"all": len(groups), "managed": synced, "synced": synced},
            "types": [{"type": "TEAM", "count": teams}, {"type": "GROUP", "count": len(groups) - teams}],
        }
    )


def _group(core: Core, values: dict[str, str], request: Request, directory: Directory | None) -> Group:
    group = core.world.group(values["groupId"])
    if group is None or (directory is not None and group.directory != directory.index):
        raise admin_error("ADMIN-UAM-404-3", "No such group in the directory", request_id=request.request_id)
    return group


@routes.add("GET", IN_DIRECTORY + "/groups/{groupId}", "v2")
def get_group(core: Core, request: Request, values: dict[str, str]) -> Response:
    group = core.world.view_group(_group(core, values, request, _directory(core, values, request)))
    if group is None:
        raise admin_error("ADMIN-UAM-404-3", "No such group in the directory", request_id=request.request_id)
    return ok({"data": group_dict(core.world, group, {"counts.users", "counts.resources"})})


@routes.add("POST", IN_DIRECTORY + "/groups", "v2")
def create_group(core: Core, request: Request, values: dict[str, str]) -> Response:
    directory = _real_directory(core, values, request)
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
    group = _group(core, values, request, _real_directory(core, values, request))
    _changeable(group, request)
    if group.default_for:
        raise admin_error("ADMIN-403-6", "A default group", request_id=request.request_id)
    if group.kind == "admin":
        raise admin_error("ADMIN-403-7", "The group gives admin access", request_id=request.request_id)
    core.commit(request, [["delete-group", group.id]], group=group)
    return no_content()


def _changeable(group: Group, request: Request) -> None:
    if group.synced:
        detail = "The group is synced from an identity provider"
        raise admin_error("ADMIN-403-5", detail, request_id=request.request_id)


def _seats_for(core: Core, person: Person, added: int, request: Request) -> None:
    """409 when the seats that come with the mask `added` of resources are not there."""
    world = core.world
    wanted = added & ~world.seat_mask(person)
    for resource in world.resources:
        if wanted >> resource.index & 1:
            left = world.seats_left(resource.index)
            if left is not None and left <= 0:
                detail = f"No seat of {resource.name} is left"
                raise admin_error("ADMIN-UAM-409-3", detail, request_id=request.request_id)


@routes.add("POST", IN_DIRECTORY + "/groups/{groupId}/memberships", "v2")
def add_member(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    account_id = need(json_body(request), "accountId")
    directory = _real_directory(core, values, request)
    group = _group(core, values, request, directory)
    person = _person(core, account_id, request, directory)
    _changeable(group, request)
    if group.index in person.groups:
        detail = "The user is already a member of the group"
        raise admin_error("ADMIN-UAM-409-2", detail, request_id=request.request_id)
    _seats_for(core, person, world.group_masks((group.index,))[0], request)
    core.commit(request, [["group+", person.account_id, group.id]], account=person, group=group)
    return no_content()


@routes.add("DELETE", IN_DIRECTORY + "/groups/{groupId}/memberships/{accountId}", "v2")
def remove_member(core: Core, request: Request, values: dict[str, str]) -> Response:
    directory = _real_directory(core, values, request)
    group = _group(core, values, request, directory)
    person = _person(core, values["accountId"], request, directory)
    _changeable(group, request)
    if group.index not in person.groups:
        raise admin_error("ADMIN-UAM-404-1", "The user is not in the group", request_id=request.request_id)
    core.commit(request, [["group-", person.account_id, group.id]], account=person, group=group)
    return no_content()


@routes.add("GET", IN_DIRECTORY + "/groups/{groupId}/role-assignments", "v2", scope="read:groups:admin")
def group_roles(core: Core, request: Request, values: dict[str, str]) -> Response:
    world, params = core.world, request.params()
    group = world.view_group(_group(core, values, request, _directory(core, values, request)))
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
    return _page(rows, {"kind": "group-roles"}, state["at"], limit)


def _grant_of(core: Core, request: Request, ari: str, role: str) -> Resource:
    resource = core.world.resource(ari)
    if resource is None:
        raise admin_error("ADMIN-UAM-404-1", "No such resource", request_id=request.request_id)
    if role not in GRANTABLE or (role in PLATFORM_ROLES[:2]) != resource.platform:
        raise admin_error("ADMIN-UAM-400-3", "The resource has no such role", request_id=request.request_id)
    return resource


@routes.add("POST", IN_DIRECTORY + "/groups/{groupId}/role-assignments/assign", "v2")
def assign_group_role(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    body = json_body(request)
    group = _group(core, values, request, _real_directory(core, values, request))
    role = need(body, "roleId")
    resource = _grant_of(core, request, need(body, "resourceId"), role)
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
    group = _group(core, values, request, _real_directory(core, values, request))
    role = need(body, "roleId")
    resource = _grant_of(core, request, need(body, "resourceId"), role)
    held = (resource.index, role) in group.grants
    core.commit(request, [["grant-", group.id, resource.ari, role]] if held else [], group=group)
    return no_content()


# -- roles of one user (v1)


def _role_target(core: Core, request: Request, values: dict[str, str]) -> tuple[Person, Resource, str]:
    body = json_body(request)
    role = need(body, "role")
    person = core.world.person(values["userId"])
    if person is None or not person.listed or core.world.closed(person):
        raise admin_error("ADMIN-UAM-404-1", "No such user", request_id=request.request_id)
    if role == "atlassian/org-admin":
        return person, core.world.resources[0], role
    ari = text(body, "resource")
    if not ari:
        raise admin_error("ADMIN-UAM-400-5", "Cloud Resource is empty", request_id=request.request_id)
    return person, _grant_of(core, request, ari, role), role


@routes.add("POST", V1 + "/users/{userId}/roles/assign", "v1")
def assign_role(core: Core, request: Request, values: dict[str, str]) -> Response:
    person, resource, role = _role_target(core, request, values)
    if resource.directory is not None and core.world.membership(person, resource.directory) is None:
        raise admin_error("ADMIN-UAM-404-1", "The user is not in the directory", request_id=request.request_id)
    held = (resource.index, role) in person.direct
    if not held and role not in SEATLESS_ROLES:
        _seats_for(core, person, 1 << resource.index, request)
    core.commit(request, [] if held else [["direct+", person.account_id, resource.ari, role]], account=person)
    return no_content()


@routes.add("POST", V1 + "/users/{userId}/roles/revoke", "v1")
def revoke_role(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Takes a direct role only; what comes through groups stays."""
    person, resource, role = _role_target(core, request, values)
    if (resource.index, role) not in person.direct:
        raise admin_error("ADMIN-UAM-404-1", "The user holds no such direct role", request_id=request.request_id)
    if role == "atlassian/org-admin":
        _keep_an_admin(core, person, request)
    core.commit(request, [["direct-", person.account_id, resource.ari, role]], account=person)
    return no_content()


def _keep_an_admin(core: Core, person: Person, request: Request) -> None:
    _no_self_harm(core, person, request)
    if core.world.org_admins() <= 1:
        raise admin_error("ADMIN-UAM-403-1", "The last organisation admin stays", request_id=request.request_id)


@routes.add("POST", V1 + "/users/{userId}/role-assignments/assign", "v1")
def assign_org_admin(core: Core, request: Request, values: dict[str, str]) -> Response:
    return _org_admin(core, request, values, give=True)


@routes.add("POST", V1 + "/users/{userId}/role-assignments/revoke", "v1")
def revoke_org_admin(core: Core, request: Request, values: dict[str, str]) -> Response:
    return _org_admin(core, request, values, give=False)


def _org_admin(core: Core, request: Request, values: dict[str, str], *, give: bool) -> Response:
    if need(json_body(request), "role") != "atlassian/org-admin":
        raise admin_error("ADMIN-UAM-400-3", "Only atlassian/org-admin", request_id=request.request_id)
    person, resource, role = _role_target(core, request, values)
    held = (resource.index, role) in person.direct
    if not give and held:
        _keep_an_admin(core, person, request)
    operations: list[Operation] = []
    if held != give:
        operations = [["direct+" if give else "direct-", person.account_id, resource.ari, role]]
    core.commit(request, operations, account=person)
    return no_content()


# -- invite

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@routes.add("POST", V2 + "/users/invite", "v2")
def invite(core: Core, request: Request, values: dict[str, str]) -> Response:
    body = json_body(request)
    emails = strings(body, "emails", MAX_INVITES)
    if not emails:
        raise bad("emails is required")
    wrong = [email for email in emails if not _EMAIL.fullmatch(email)]
    if wrong:
        raise bad(f"Not an e-mail address: {wrong[0]}")
    rules = []
    for rule in body.get("permissionRules") or []:
        if not isinstance(rule, dict):
            raise bad("permissionRules is a list of objects")
        role = need(rule, "role")
        rules.append((_grant_of(core, request, need(rule, "resource"), role), role))
    results, failed = [], False
    for email in dict.fromkeys(emails):
        shown, one_failed = _invite_one(core, request, email, rules, strings(body, "additionalGroups", 100) or [])
        results.append(shown)
        failed |= one_failed
    return json_response(206 if failed else 200, {"data": results})


def _invite_one(
    core: Core, request: Request, email: str, rules: list[tuple[Resource, str]], group_ids: list[str]
) -> tuple[dict[str, Any], bool]:
    """Invite one address: its entry of the answer, and whether any part of it failed."""
    world = core.world
    index = world.by_email.get(email.lower())
    person = None if index is None else world.people[index]
    account_id = person.account_id if person is not None else _new_account_id(world, email)
    now = world.now()
    directories: set[int] = set()
    operations: list[Operation] = []
    joined: set[int] = set(person.groups) if person is not None else set()
    direct = set(person.direct) if person is not None else set()
    refused = None
    if person is not None and (person.account_status != "active" or not person.listed):
        refused = "The account is deactivated"

    def seat(resource: Resource) -> str | None:
        held = person is not None and world.seat_mask(person) >> resource.index & 1
        left = world.seats_left(resource.index)
        return "License limit exceeded" if not held and left is not None and left <= 0 else None

    role_results = []
    for resource, role in rules:
        reason = refused or (seat(resource) if role not in SEATLESS_ROLES else None)
        if reason is None and resource.directory is not None:
            directories.add(resource.directory)
            default = next((g for g in world.groups if resource.index in g.default_for and not g.deleted), None)
            if role == "atlassian/user" and default is not None:
                if default.index not in joined:
                    joined.add(default.index)
                    operations.append(["group+", account_id, default.id])
            elif (resource.index, role) not in direct:
                direct.add((resource.index, role))
                operations.append(["direct+", account_id, resource.ari, role])
        role_results.append(_assignment({"resource": resource.ari, "role": role}, reason))
    group_results = []
    for group_id in group_ids:
        group = world.group(group_id)
        reason = refused
        if reason is None and group is None:
            reason = "Group not found"
        if reason is None and group is not None:
            if group.synced:
                reason = "The group is synced from an identity provider"
            else:
                grants = world.group_masks((group.index,))[0]
                short = (seat(r) for r in world.resources if grants >> r.index & 1)
                reason = next((text_ for text_ in short if text_), None)
            if reason is None:
                directories.add(group.directory)
                if group.index not in joined:
                    joined.add(group.index)
                    operations.append(["group+", account_id, group.id])
        group_results.append(_assignment({"group": group_id}, reason))
    if not rules and not group_ids and refused is None:
        directories.add(0)
    operations = _entry(world, person, account_id, email, directories, now) + operations
    if operations or directories:
        core.commit(request, operations, account=account_id)
    results = [{"roleAssignmentResult": role_results, "groupAssignmentResult": group_results}]
    failed = refused is not None or any(r["status"] == "ERROR" for r in (*role_results, *group_results))
    return {"id": account_id, "email": email, "results": results}, failed


def _assignment(what: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {**what, "status": "INVITED" if reason is None else "ERROR", "statusReason": reason}


def _entry(
    world: World, person: Person | None, account_id: str, email: str, directories: set[int], now: int
) -> list[Operation]:
    """The account itself, when new, and its places in the directories."""
    if not directories:
        return []
    if person is None:
        name = email.partition("@")[0].replace(".", " ").title()
        data = {
            "account_id": account_id,
            "name": name,
            "nickname": name.split(" ")[0],
            "email": email,
            "email_verified": False,
            "managed": email.rpartition("@")[2].lower() in world.domains,
            "memberships": [(world.directories[d].id, "active", "invited", now) for d in sorted(directories)],
        }
        return [["person", data]]
    return [
        ["membership", account_id, world.directories[d].id, "active", "invited", now]
        for d in sorted(directories)
        if world.membership(person, d) is None
    ]


def _new_account_id(world: World, email: str) -> str:
    return f"712020:{_uuid_of(world.org_id, email.lower())}"


# -- what was removed


def _gone(core: Core, request: Request, values: dict[str, str]) -> Response:
    raise AssertionError("answered before the handler")


for _method, _path in (
    ("POST", "/users/search"),
    ("POST", "/groups/search"),
    ("POST", "/users/invite"),
    ("POST", "/directory/users/{accountId}/suspend-access"),
    ("POST", "/directory/users/{accountId}/restore-access"),
    ("DELETE", "/directory/users/{accountId}"),
    ("POST", "/directory/groups"),
    ("DELETE", "/directory/groups/{groupId}"),
    ("POST", "/directory/groups/{groupId}/memberships"),
    ("DELETE", "/directory/groups/{groupId}/memberships/{accountId}"),
    ("POST", "/directory/groups/{groupId}/roles/assign"),
    ("POST", "/directory/groups/{groupId}/roles/revoke"),
):
    routes.add(_method, V1 + _path, "gone")(_gone)
