"""The organisation itself in the Organizations API: domains, directories, workspaces, and what was removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.sandbox.errors import admin_error
from apps.sandbox.http import Request, Response
from apps.sandbox.reading import (
    iso,
    json_body,
    make_cursor,
    ok,
    one,
    query_number,
    read_cursor,
)
from apps.sandbox.rendering import AVATARS
from apps.sandbox.routing import Routes
from apps.sandbox.targets import (
    V1,
    V2,
    host_url,
    page,
    uuid_of,
)
from apps.sandbox.world import (
    Resource,
)

if TYPE_CHECKING:
    from apps.sandbox.core import Core

routes = Routes()


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
    id_ = uuid_of(name)
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
    return page(
        [{"directoryId": d.id, "name": d.name, "icon": f"{AVATARS}/directory{d.index}.png"} for d in wanted],
        {"kind": "directories"},
        state["at"],
        limit,
    )


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
            "hostUrl": host_url(core, request, resource),
        },
        "links": {"self": f"{request.base_url}/admin/v2/orgs/{world.org_id}/workspaces/{resource.ari}"},
        "relationships": {},
    }


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
        known = [row["attributes"].get(name)]
        if name == "type":
            known.append(row["attributes"]["typeKey"])  # the document's example asks for it under this name
        values = field.get("values")
        return isinstance(values, list) and any(isinstance(value, str) and value in known for value in values)
    return True


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
