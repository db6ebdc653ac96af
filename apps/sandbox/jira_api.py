"""The Jira platform API, `/rest/api/3`, of one site, and the address that names the site's cloud id."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from apps.sandbox.access_api import invitation
from apps.sandbox.errors import jira_error
from apps.sandbox.http import Request, Response, json_response
from apps.sandbox.reading import iso, ok, one, parsed
from apps.sandbox.rendering import AVATARS
from apps.sandbox.routing import Routes
from apps.sandbox.world import DAY_MS, SEATLESS_ROLES, Group, Operation, Person, Resource, World

if TYPE_CHECKING:
    from apps.sandbox.core import Core

routes = Routes()
API = "/rest/api/3"
APPLICATIONS = {"jira-software": "jira-software", "jira-servicedesk": "jira-servicedesk"}
LICENCE_CACHE_MS = 7 * DAY_MS


def jira_time(ms: int) -> str:
    """2026-11-20T08:31:05.000+0000"""
    return iso(ms)[:-1] + "+0000"


def site_url(core: Core, request: Request) -> str:
    """The address under which the site answers, without the path."""
    return request.base_url + (f"/_site/{core.world.sites[request.site].name}" if request.site else "")


def json_object(request: Request) -> dict[str, Any]:
    value = parsed(request)
    if not isinstance(value, dict):
        raise jira_error(400, "The request body is not a JSON object.")
    return value


def page_number(request: Request, name: str, default: int, most: int | None = None) -> int:
    """A paging parameter; what is larger than the maximum counts as the maximum, as Jira does it."""
    value = one(request.params(), name)
    if value is None:
        return default
    if not value.isdecimal():
        raise jira_error(400, f"The value of {name} is not a number.")
    return int(value) if most is None else min(int(value), most)


# -- people


def _applications(core: Core, request: Request) -> list[Resource]:
    return [r for r in core.world.resources if r.site == request.site and r.owner in APPLICATIONS]


def _site_directory(core: Core, request: Request) -> int:
    return next(r.directory or 0 for r in _applications(core, request))


def _known(core: Core, request: Request) -> Iterable[Person]:
    """Everybody Jira knows on this site: people of its directory, apps, customers, and those who were deleted."""
    world = core.world
    directory = _site_directory(core, request)
    for current in world.people:
        person = world.view(current)
        if person is None:
            continue
        outside = not person.listed and request.site == 0
        closed = person.account_status == "closed" and request.site == 0
        if outside or closed or any(m.directory == directory for m in person.memberships):
            yield person


def is_active(world: World, person: Person, directory: int) -> bool:
    if not person.listed:
        return True
    return world.account_status(person) == "active" and world.membership_status(person, directory) == "active"


def avatar_urls(person: Person) -> dict[str, str]:
    return {f"{size}x{size}": f"{AVATARS}/{person.index}.png?size={size}" for size in (16, 24, 32, 48)}


def user_dict(core: Core, request: Request, person: Person) -> dict[str, Any]:
    """A user as lists show it. A hidden e-mail is missing for some and empty for others."""
    kind = person.kind if person.kind in ("app", "customer") else "atlassian"
    shown: dict[str, Any] = {
        "self": f"{site_url(core, request)}{API}/user?accountId={person.account_id}",
        "accountId": person.account_id,
        "accountType": kind,
        "avatarUrls": avatar_urls(person),
        "displayName": person.name,
        "active": is_active(core.world, person, _site_directory(core, request)),
        "timeZone": person.time_zone,
    }
    if not person.email_hidden:
        shown["emailAddress"] = person.email
    elif person.index % 2:
        shown["emailAddress"] = ""
    return shown


def _found(core: Core, request: Request, account_id: str | None) -> Person:
    person = core.world.person(account_id or "")
    seen = None if person is None else core.world.view(person)
    if seen is None:
        raise jira_error(404, "Specified user does not exist or you do not have required permissions")
    return seen


@routes.add("GET", "/_edge/tenant_info", "open")
def tenant_info(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok({"cloudId": core.world.sites[request.site].cloud_id})


@routes.add("GET", API + "/myself", "site")
def myself(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok(_expanded(core, request, core.world.people[core.world.owner]))


def _expanded(core: Core, request: Request, person: Person) -> dict[str, Any]:
    shown = user_dict(core, request, person)
    shown["locale"] = "en_US"
    expand = ",".join(request.params().get("expand", []))
    groups = [core.world.groups[index] for index in person.groups]
    if "groups" in expand:
        items = [_group_ref(core, request, group) for group in groups]
        shown["groups"] = {"size": len(items), "items": items}
    if "applicationRoles" in expand:
        mask = core.world.seat_mask(person)
        roles = [_role_dict(core, request, r) for r in _applications(core, request) if mask >> r.index & 1]
        shown["applicationRoles"] = {"size": len(roles), "items": roles}
    if expand:
        shown["expand"] = "groups,applicationRoles"
    return shown


@routes.add("GET", API + "/user", "site")
def get_user(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok(_expanded(core, request, _found(core, request, one(request.params(), "accountId"))))


@routes.add("GET", API + "/user/groups", "site")
def get_user_groups(core: Core, request: Request, values: dict[str, str]) -> Response:
    person = _found(core, request, one(request.params(), "accountId"))
    return ok([_group_ref(core, request, core.world.groups[index]) for index in person.groups])


@routes.add("GET", API + "/user/email", "site")
def get_user_email(core: Core, request: Request, values: dict[str, str]) -> Response:
    raise jira_error(401, "Only approved apps may read e-mail addresses regardless of privacy.")


@routes.add("GET", API + "/users/search", "site")
@routes.add("GET", API + "/users", "site")
def list_users(core: Core, request: Request, values: dict[str, str]) -> Response:
    start, size = page_number(request, "startAt", 0), page_number(request, "maxResults", 50, 1000)
    shown = list(_known(core, request))[start : start + size]
    return ok([user_dict(core, request, person) for person in shown])


@routes.add("GET", API + "/user/search", "site")
def search_users(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Prefix match on the words of the name and on the e-mail; the first 1,000 only."""
    params = request.params()
    account_id, query = one(params, "accountId"), one(params, "query")
    if account_id is None and query is None and "property" not in params:
        raise jira_error(400, "Either the query, the property or the accountId parameter is required.")
    wanted = (query or "").casefold()

    def matches(person: Person) -> bool:
        if account_id is not None:
            return person.account_id == account_id
        words = person.name.casefold()
        hit = words.startswith(wanted) or any(word.startswith(wanted) for word in words.split())
        return hit or (not person.email_hidden and person.email.startswith(wanted))

    found = [person for person in _known(core, request) if matches(person)][:1000]
    start, size = page_number(request, "startAt", 0), page_number(request, "maxResults", 50, 1000)
    return ok([user_dict(core, request, person) for person in found[start : start + size]])


@routes.add("GET", API + "/user/bulk", "site")
def bulk_users(core: Core, request: Request, values: dict[str, str]) -> Response:
    wanted = set(request.params().get("accountId", []))
    people = [p for p in (core.world.person(account) for account in sorted(wanted)) if p is not None]
    return page_bean(core, request, people, 10, 200, lambda person: user_dict(core, request, person))


@routes.add("POST", API + "/user", "site")
def create_user(core: Core, request: Request, values: dict[str, str]) -> Response:
    body = json_object(request)
    email = body.get("emailAddress")
    if not isinstance(email, str) or "@" not in email:
        raise jira_error(400, fields={"emailAddress": "A valid email address is required."})
    wanted = body.get("products", list(APPLICATIONS))
    if not isinstance(wanted, list):
        raise jira_error(400, fields={"products": "A list of product keys is required."})
    rules = [(r, "atlassian/user") for r in _applications(core, request) if r.owner in wanted or r.key in wanted]
    shown, _ = invitation(core, request, email, rules, [])
    person = core.world.person(shown["id"])
    if person is None:
        raise jira_error(400, "No licence is left for this user.")
    return json_response(201, _expanded(core, request, person))


@routes.add("DELETE", API + "/user", "site")
def remove_user(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Takes the person out of Jira on this site; the Atlassian account stays as it is."""
    world = core.world
    person = _found(core, request, one(request.params(), "accountId"))
    if person.index == world.owner:
        raise jira_error(400, "You cannot remove yourself.")
    jira = {r.index for r in _applications(core, request)}
    operations: list[Operation] = []
    for index in person.groups:
        group = world.groups[index]
        if not group.synced and any(resource in jira for resource, _ in group.grants):
            operations.append(["group-", person.account_id, group.id])
    for resource, role in person.direct:
        if resource in jira:
            operations.append(["direct-", person.account_id, world.resources[resource].ari, role])
    core.commit(request, operations, account=person)
    return Response(204)


# -- groups


def _group_ref(core: Core, request: Request, group: Group) -> dict[str, Any]:
    address = f"{site_url(core, request)}{API}/group?groupId={group.id}"
    return {"name": group.name, "groupId": group.id, "self": address}


def _group(core: Core, request: Request) -> Group:
    params = request.params()
    group_id, name = one(params, "groupId"), one(params, "groupname")
    if not group_id and not name:
        raise jira_error(400, "Either groupname or groupId is required.")
    directory = _site_directory(core, request)
    group = core.world.group(group_id) if group_id else core.world.group_named(name or "", directory)
    if group is None or group.directory != directory:
        raise jira_error(404, "The group does not exist.")
    return group


def _site_groups(core: Core, request: Request) -> list[Group]:
    directory = _site_directory(core, request)
    seen = (core.world.view_group(group) for group in core.world.groups if not group.deleted)
    return [group for group in seen if group is not None and group.directory == directory]


def page_bean(
    core: Core, request: Request, rows: list[Any], default: int, most: int, show: Callable[[Any], dict[str, Any]]
) -> Response:
    """A PageBean."""
    start, size = page_number(request, "startAt", 0), page_number(request, "maxResults", default, most)
    shown = rows[start : start + size]
    last = start + len(shown) >= len(rows)
    here = f"{site_url(core, request)}{request.path}"
    page: dict[str, Any] = {
        "self": f"{here}?{request.query}" if request.query else here,
        "maxResults": size,
        "startAt": start,
        "total": len(rows),
        "isLast": last,
        "values": [show(row) for row in shown],
    }
    if not last:
        rest = re.sub(r"(^|&)(startAt|maxResults)=[^&]*", "", request.query).strip("&")
        page["nextPage"] = f"{here}?{rest + '&' if rest else ''}startAt={start + size}&maxResults={size}"
    return ok(page)


@routes.add("GET", API + "/group/member", "site")
def group_members(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    group = _group(core, request)
    inactive = one(request.params(), "includeInactiveUsers") == "true"
    people = (world.people[index] for index in world.members(group))
    shown = [p for p in people if inactive or is_active(world, p, group.directory)]
    return page_bean(core, request, shown, 50, 50, lambda person: user_dict(core, request, person))


@routes.add("GET", API + "/group/bulk", "site")
def bulk_groups(core: Core, request: Request, values: dict[str, str]) -> Response:
    params = request.params()
    ids, names = params.get("groupId"), params.get("groupName")
    groups = [
        group
        for group in _site_groups(core, request)
        if (not ids or group.id in ids) and (not names or group.name in names)
    ]
    return page_bean(core, request, groups, 50, 1000, lambda group: {"name": group.name, "groupId": group.id})


@routes.add("GET", API + "/groups/picker", "site")
def pick_groups(core: Core, request: Request, values: dict[str, str]) -> Response:
    params = request.params()
    query = (one(params, "query") or "").casefold()
    excluded = {*params.get("exclude", []), *params.get("excludeId", [])}
    size = page_number(request, "maxResults", 20, 1000)
    found = [
        group
        for group in _site_groups(core, request)
        if query in group.name.casefold() and group.name not in excluded and group.id not in excluded
    ]
    shown = [
        {"name": group.name, "groupId": group.id, "html": group.name, "labels": []}
        for group in sorted(found, key=lambda group: group.name)[:size]
    ]
    return ok({"header": f"Showing {len(shown)} of {len(found)} matching groups", "total": len(found), "groups": shown})


@routes.add("POST", API + "/group/user", "site")
def add_to_group(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    group = _group(core, request)
    account_id = json_object(request).get("accountId")
    person = _found(core, request, account_id if isinstance(account_id, str) else None)
    if group.synced:
        return Response(403)  # seen without a body for groups that Jira does not own
    if not any(m.directory == group.directory for m in person.memberships):
        raise jira_error(404, "The user is not a user of this site.")
    if group.index in person.groups:
        raise jira_error(400, f"Cannot add user. '{person.name}' is already a member of '{group.name}'.")
    wanted = world.group_masks((group.index,))[0] & ~world.seat_mask(person)
    for resource in world.resources:
        left = world.seats_left(resource.index)
        if wanted >> resource.index & 1 and left is not None and left <= 0:
            raise jira_error(400, f"No licence of {resource.name} is left.")
    core.commit(request, [["group+", person.account_id, group.id]], account=person, group=group)
    size = len(group.members)
    users = {"size": size, "items": [], "max-results": 50, "start-index": 0, "end-index": 0}
    return json_response(201, {**_group_ref(core, request, group), "users": users, "expand": "users"})


@routes.add("DELETE", API + "/group/user", "site")
def remove_from_group(core: Core, request: Request, values: dict[str, str]) -> Response:
    group = _group(core, request)
    person = _found(core, request, one(request.params(), "accountId"))
    if group.synced:
        return Response(403)
    if group.index not in person.groups:
        raise jira_error(404, f"'{person.name}' is not a member of '{group.name}'.")
    core.commit(request, [["group-", person.account_id, group.id]], account=person, group=group)
    return Response(200)


# -- licences


def _role_dict(core: Core, request: Request, resource: Resource) -> dict[str, Any]:
    world = core.world
    groups = [
        group
        for group in world.groups
        if not group.deleted and any(r == resource.index and role not in SEATLESS_ROLES for r, role in group.grants)
    ]
    default = [group for group in groups if resource.index in group.default_for]
    used, capacity = world.usage[resource.index], resource.capacity
    return {
        "key": resource.owner,
        "name": resource.name,
        "groups": [group.name for group in groups],
        "groupDetails": [_group_ref(core, request, group) for group in groups],
        "defaultGroups": [group.name for group in default],
        "defaultGroupsDetails": [_group_ref(core, request, group) for group in default],
        "selectedByDefault": False,
        "defined": True,
        "platform": False,
        "hasUnlimitedSeats": capacity is None,
        "numberOfSeats": -1 if capacity is None else capacity,
        "remainingSeats": -1 if capacity is None else capacity - used,
        "userCount": used,
        "userCountDescription": "users",
    }


@routes.add("GET", API + "/applicationrole", "site")
def application_roles(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok([_role_dict(core, request, resource) for resource in _applications(core, request)])


@routes.add("GET", API + "/applicationrole/{key}", "site")
def application_role(core: Core, request: Request, values: dict[str, str]) -> Response:
    for resource in _applications(core, request):
        if resource.owner == values["key"]:
            return ok(_role_dict(core, request, resource))
    raise jira_error(404, "The application role does not exist.")


@routes.add("GET", API + "/license/approximateLicenseCount", "site")
def licence_count(core: Core, request: Request, values: dict[str, str]) -> Response:
    counts = _cached_counts(core)
    total = sum(counts[r.ari] for r in _applications(core, request))
    return ok({"key": "license.totalApproximateUserCount", "value": str(total)})


@routes.add("GET", API + "/license/approximateLicenseCount/product/{applicationKey}", "site")
def product_licence_count(core: Core, request: Request, values: dict[str, str]) -> Response:
    for resource in _applications(core, request):
        if resource.owner == values["applicationKey"]:
            key = f"license.{resource.owner}.approximateUserCount"
            return ok({"key": key, "value": str(_cached_counts(core)[resource.ari])})
    raise jira_error(403, "The product is not licensed on this site.")


def _cached_counts(core: Core) -> dict[str, int]:
    """Seats in use as counted up to seven days ago, as Jira caches them: no proof that a seat was freed."""
    now = core.world.now()
    if now - core.license_counts[0] > LICENCE_CACHE_MS:
        core.license_counts = (now, {r.ari: core.world.usage[r.index] for r in core.world.resources})
    return core.license_counts[1]


@routes.add("GET", API + "/instance/license", "site")
def instance_licence(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok({"applications": [{"id": r.owner, "plan": "PAID"} for r in _applications(core, request)]})


# -- what the token may, and what the site is

_PERMISSIONS = {
    "ADMINISTER": ("0", "Administer Jira", "GLOBAL"),
    "USER_PICKER": ("27", "Browse users and groups", "GLOBAL"),
    "SYSTEM_ADMIN": ("44", "Jira System Administrators", "GLOBAL"),
    "BROWSE_PROJECTS": ("10", "Browse Projects", "PROJECT"),
    "CREATE_ISSUES": ("11", "Create Issues", "PROJECT"),
}


@routes.add("GET", API + "/mypermissions", "site")
def my_permissions(core: Core, request: Request, values: dict[str, str]) -> Response:
    wanted = [key for text in request.params().get("permissions", []) for key in text.split(",") if key]
    if not wanted:
        raise jira_error(400, "The 'permissions' query parameter is required.")
    unknown = [key for key in wanted if key not in _PERMISSIONS]
    if unknown:
        raise jira_error(400, f"Unrecognized permission: {unknown[0]}")
    shown = {}
    for key in wanted:
        id_, name, kind = _PERMISSIONS[key]
        shown[key] = {
            "id": id_,
            "key": key,
            "name": name,
            "type": kind,
            "description": name,
            "havePermission": key != "SYSTEM_ADMIN",
        }
    return ok({"permissions": shown})


@routes.add("GET", API + "/serverInfo", "site")
def server_info(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok(
        {
            "baseUrl": site_url(core, request),
            "version": "1001.0.0-SNAPSHOT",
            "versionNumbers": [1001, 0, 0],
            "deploymentType": "Cloud",
            "buildNumber": 100290,
            "buildDate": jira_time(core.world.as_of),
            "serverTime": jira_time(core.world.now()),
            "serverTimeZone": "Etc/UTC",
            "scmInfo": "sandbox",
            "serverTitle": core.world.sites[request.site].name,
        }
    )
