"""People in the Organizations API: lists, one person, suspend, restore, remove."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from apps.sandbox.errors import admin_error
from apps.sandbox.http import Request, Response
from apps.sandbox.reading import (
    bad,
    iso,
    json_body,
    make_cursor,
    no_content,
    number,
    ok,
    one,
    query_number,
    read_cursor,
    strings,
    text,
)
from apps.sandbox.rendering import AVATARS, PeopleRenderer, last_active_dates
from apps.sandbox.routing import Routes
from apps.sandbox.targets import (
    DEPRECATED,
    IN_DIRECTORY,
    V1,
    directory_of,
    host_url,
    no_self_harm,
    page,
    person_of,
    real_directory,
    seen_people,
    sort_order,
    visible,
)
from apps.sandbox.world import (
    ROLES,
    Directory,
    Operation,
    Person,
    Resource,
    World,
)

if TYPE_CHECKING:
    from apps.sandbox.core import Core

routes = Routes()


MANAGED_PAGE = 100


STATUSES = ("active", "suspended", "not_invited", "deactivated", "for_deletion")


ACCOUNT_STATUSES = ("active", "inactive", "closed")


MEMBERSHIP_STATUSES = ("active", "suspended", "no_membership")


EXPANSIONS = ("platformRoles", "counts.resources", "productAccess", "groups")


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
    order = sort_order(state["filter"].get("sortBy"), "nick_name")
    if order is None:
        found, following = _scan(core, candidates, passes, state["at"], limit)
    else:
        everybody = [p for p in seen_people(core, candidates) if passes(p)]
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
    for person in seen_people(core, indexes):
        if passes(person):
            if len(found) == limit:
                return found, person.index
            found.append(person)
    return found, None


@routes.add("POST", IN_DIRECTORY + "/users/search", "v2")
def search_users(core: Core, request: Request, values: dict[str, str]) -> Response:
    return _user_page(core, request, directory_of(core, values, request), json_body(request, required=False), 50)


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
    return _user_page(core, request, directory_of(core, values, request), body, 20)


@routes.add("GET", IN_DIRECTORY + "/users/count", "v2")
def count_users(core: Core, request: Request, values: dict[str, str]) -> Response:
    passes = _UserFilter(core, directory_of(core, values, request), _query_filter(request))
    world = core.world
    found = (world.view(world.people[index]) for index in passes.candidates())
    return ok({"count": sum(1 for person in found if person is not None and passes(person))})


@routes.add("GET", IN_DIRECTORY + "/users/stats", "v2", scope="read:directories:admin")
def user_stats(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    passes = _UserFilter(core, directory_of(core, values, request), {})
    statuses = dict.fromkeys(ACCOUNT_STATUSES, 0)
    roles: dict[str, int] = {}
    for person in seen_people(core, passes.candidates()):
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


@routes.add("GET", IN_DIRECTORY + "/users/{userId}", "v2")
def get_user(core: Core, request: Request, values: dict[str, str]) -> Response:
    directory = directory_of(core, values, request)
    person = visible(core, person_of(core, values["userId"], request, directory), request)
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
    directory = directory_of(core, values, request)
    person = visible(core, person_of(core, values["accountId"], request, directory), request)
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
    return page(rows, {"kind": "user-roles"}, state["at"], limit)


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


def _set_membership(core: Core, request: Request, values: dict[str, str], status: str) -> Response:
    json_body(request)
    directory = real_directory(core, values, request)
    person = person_of(core, values["accountId"], request, directory)
    membership = core.world.membership(person, directory.index)
    assert membership is not None
    if status == "suspended":
        no_self_harm(core, person, request)
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
    directory = real_directory(core, values, request)
    person = person_of(core, values["accountId"], request, directory)
    no_self_harm(core, person, request)
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
                "url": host_url(core, request, r),
                "last_active": iso(at),
            }
            for r, at in entries
        ],
        "links": {"self": f"{request.base_url}/users/{person.account_id}/manage/profile"},
    }
    if entries:
        shown["last_active"] = iso(max(at for _, at in entries))
    return shown
