"""The Jira Service Management API, `/rest/servicedeskapi`, of one site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.sandbox.errors import jira_error, jsm_error
from apps.sandbox.http import Request, Response, json_response
from apps.sandbox.jira_api import avatar_urls, is_active, jira_time, json_object, site_url
from apps.sandbox.jira_issues_api import (
    find_request,
    friendly,
    new_issue_number,
    request_type_of,
    site_projects,
    site_requests,
)
from apps.sandbox.reading import ok, one
from apps.sandbox.routing import Routes
from apps.sandbox.world import Operation, Person

if TYPE_CHECKING:
    from apps.sandbox.core import Core

routes = Routes()
API = "/rest/servicedeskapi"
DESK = API + "/servicedesk/{serviceDeskId}"
MAX_LIMIT = 100
_EXPANDS = ["participant", "status", "sla", "requestType", "serviceDesk", "attachment", "action", "comment"]


def _page(core: Core, request: Request, rows: list[dict[str, Any]]) -> Response:
    """JSM's paging: start/limit, values, isLastPage."""
    params = request.params()
    numbers = {}
    for name, default in (("start", 0), ("limit", 50)):
        value = one(params, name) or str(default)
        if not value.isdecimal():
            raise jsm_error(400, f"{name} is not a number")
        numbers[name] = int(value)
    start, limit = numbers["start"], min(numbers["limit"], MAX_LIMIT)
    shown = rows[start : start + limit]
    last = start + len(shown) >= len(rows)
    site = site_url(core, request)
    links = {"base": site, "context": "", "self": f"{site}{request.path}"}
    if not last:
        links["next"] = f"{site}{request.path}?start={start + limit}&limit={limit}"
    return ok(
        {
            "_expands": [],
            "size": len(shown),
            "start": start,
            "limit": limit,
            "isLastPage": last,
            "_links": links,
            "values": shown,
        }
    )


def _date(ms: int) -> dict[str, Any]:
    stamp = jira_time(ms)
    return {"epochMillis": ms, "friendly": friendly(ms), "iso8601": stamp[:19] + "+0000", "jira": stamp}


def _user(core: Core, request: Request, person: Person) -> dict[str, Any]:
    site = site_url(core, request)
    address = f"{site}/rest/api/2/user?accountId={person.account_id}"
    shown: dict[str, Any] = {
        "accountId": person.account_id,
        "displayName": person.name,
        "active": is_active(core.world, person, 0 if request.site == 0 else 1),
        "timeZone": person.time_zone,
        "_links": {"jiraRest": address, "avatarUrls": avatar_urls(person), "self": address},
    }
    if not person.email_hidden:
        shown["emailAddress"] = person.email
    return shown


@routes.add("GET", API + "/info", "open")
def info(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok(
        {
            "version": "5.0.0",
            "platformVersion": "1001.0.0",
            "buildDate": _date(core.world.as_of),
            "buildChangeSet": "sandbox",
            "isLicensedForUse": True,
            "_links": {"self": f"{site_url(core, request)}{API}/info"},
        }
    )


# -- desks and request types


def _desks(core: Core, request: Request) -> dict[str, dict[str, Any]]:
    """Service desk id → its project. The ids are those that the request types name."""
    projects = {project["id"]: project for project in site_projects(core, request)}
    return {
        kind["desk"]: projects[kind["project"]] for kind in core.world.request_types if kind["site"] == request.site
    }


def _desk_dict(core: Core, request: Request, desk: str, project: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": desk,
        "projectId": project["id"],
        "projectName": project["name"],
        "projectKey": project["key"],
        "projectTypeKey": project["type"],
        "_links": {"self": f"{site_url(core, request)}{API}/servicedesk/{desk}"},
    }


def _desk(core: Core, request: Request, values: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """(id, project) of the desk in the path, which may be named by id, project id or project key."""
    wanted = values["serviceDeskId"]
    for desk, project in _desks(core, request).items():
        if wanted in (desk, project["id"], project["key"]):
            return desk, project
    raise jsm_error(404, "The service desk does not exist.")


@routes.add("GET", API + "/servicedesk", "site")
def list_desks(core: Core, request: Request, values: dict[str, str]) -> Response:
    return _page(core, request, [_desk_dict(core, request, *item) for item in sorted(_desks(core, request).items())])


@routes.add("GET", DESK, "site")
def get_desk(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok(_desk_dict(core, request, *_desk(core, request, values)))


def _type_dict(core: Core, request: Request, kind: dict[str, Any]) -> dict[str, Any]:
    site = site_url(core, request)
    return {
        "_expands": ["field"],
        "id": kind["id"],
        "name": kind["name"],
        "description": kind["description"],
        "helpText": "",
        "issueTypeId": "10010",
        "serviceDeskId": kind["desk"],
        "portalId": kind["desk"],
        "groupIds": ["1"],
        "canCreateRequest": True,
        "icon": {"id": "10525", "_links": {"iconUrls": {"16x16": f"{site}/icon/10525.png"}}},
        "_links": {"self": f"{site}{API}/servicedesk/{kind['desk']}/requesttype/{kind['id']}"},
    }


def _types(core: Core, request: Request, desk: str | None = None) -> list[dict[str, Any]]:
    query = (one(request.params(), "searchQuery") or "").casefold()
    return [
        kind
        for kind in core.world.request_types
        if kind["site"] == request.site and (desk is None or kind["desk"] == desk) and query in kind["name"].casefold()
    ]


@routes.add("GET", DESK + "/requesttype", "site")
def desk_request_types(core: Core, request: Request, values: dict[str, str]) -> Response:
    desk, _ = _desk(core, request, values)
    return _page(core, request, [_type_dict(core, request, kind) for kind in _types(core, request, desk)])


@routes.add("GET", DESK + "/requesttype/{requestTypeId}", "site")
def get_request_type(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok(_type_dict(core, request, _type(core, request, values)))


def _type(core: Core, request: Request, values: dict[str, str]) -> dict[str, Any]:
    desk, _ = _desk(core, request, values)
    for kind in _types(core, request, desk):
        if kind["id"] == values["requestTypeId"]:
            return kind
    raise jsm_error(404, "The request type does not exist.")


@routes.add("GET", DESK + "/requesttype/{requestTypeId}/field", "site")
def request_type_fields(core: Core, request: Request, values: dict[str, str]) -> Response:
    _type(core, request, values)
    shown = [
        {
            "fieldId": name,
            "name": label,
            "description": "",
            "required": name == "summary",
            "visible": True,
            "defaultValues": [],
            "validValues": [],
            "jiraSchema": {"type": "string", "system": name},
        }
        for name, label in (("summary", "What do you need?"), ("description", "Why do you need it?"))
    ]
    return ok({"requestTypeFields": shown, "canRaiseOnBehalfOf": True, "canAddRequestParticipants": True})


@routes.add("GET", API + "/requesttype", "site")
def all_request_types(core: Core, request: Request, values: dict[str, str]) -> Response:
    _experimental(request)
    return _page(core, request, [_type_dict(core, request, kind) for kind in _types(core, request)])


def _experimental(request: Request) -> None:
    """Experimental calls answer 412 to those who did not opt in."""
    if request.headers.get("x-experimentalapi", "").lower() != "opt-in":
        raise jsm_error(412, "This API is experimental. Experimental APIs are not guaranteed to be stable.")


# -- customers


@routes.add("GET", DESK + "/customer", "site")
def list_customers(core: Core, request: Request, values: dict[str, str]) -> Response:
    _experimental(request)
    desk, _ = _desk(core, request, values)
    query = (one(request.params(), "query") or "").casefold()
    people = [_user(core, request, p) for p in _customers(core, request, desk) if query in p.name.casefold()]
    return _page(core, request, people)


def _customer_ids(core: Core, request: Request, desk: str) -> list[str]:
    """Who may raise requests: portal-only accounts of the site's first desk, until somebody changes the list."""
    known = core.world.desk_customers.get(f"{request.site}/{desk}")
    if known is not None:
        return list(known)
    return [p.account_id for p in core.world.people if p.kind == "customer"] if (request.site, desk) == (0, "1") else []


def _customers(core: Core, request: Request, desk: str) -> list[Person]:
    people = (core.world.person(account) for account in _customer_ids(core, request, desk))
    return [person for person in people if person is not None]


@routes.add("POST", DESK + "/customer", "site")
def add_customers(core: Core, request: Request, values: dict[str, str]) -> Response:
    return _change_customers(core, request, values, add=True)


@routes.add("DELETE", DESK + "/customer", "site")
def remove_customers(core: Core, request: Request, values: dict[str, str]) -> Response:
    _experimental(request)
    return _change_customers(core, request, values, add=False)


def _change_customers(core: Core, request: Request, values: dict[str, str], *, add: bool) -> Response:
    desk, _ = _desk(core, request, values)
    wanted = json_object(request).get("accountIds", [])
    if not isinstance(wanted, list) or any(core.world.person(str(account)) is None for account in wanted):
        raise jsm_error(400, "One of the users does not exist.")
    before = _customer_ids(core, request, desk)
    after = [*before, *(a for a in wanted if a not in before)] if add else [a for a in before if a not in wanted]
    operations: list[Operation] = [["customers", f"{request.site}/{desk}", after]] if after != before else []
    core.commit(request, operations, account=wanted[0] if wanted else None)
    return Response(204)


# -- requests


def request_dict(core: Core, request: Request, entry: dict[str, Any]) -> dict[str, Any]:
    """A request as its reporter and agents see it, with the expansions that were asked for."""
    site = site_url(core, request)
    reporter = core.world.person(entry["reporter"])
    expand = {name for text in request.params().get("expand", []) for name in text.split(",")}
    shown: dict[str, Any] = {
        "_expands": [name for name in _EXPANDS if name not in expand],
        "issueId": entry["id"],
        "issueKey": entry["key"],
        "summary": entry["summary"],
        "requestTypeId": entry["type"],
        "serviceDeskId": entry["desk"],
        "createdDate": _date(entry["created"]),
        "requestFieldValues": [
            {"fieldId": "summary", "label": "What do you need?", "value": entry["summary"]},
            {"fieldId": "description", "label": "Why do you need it?", "value": entry["description"]},
            *({"fieldId": name, "label": name, "value": value} for name, value in entry["fields"].items()),
        ],
        "currentStatus": {
            "status": "Waiting for support",
            "statusCategory": "NEW",
            "statusDate": _date(entry["created"]),
        },
        "_links": {
            "self": f"{site}{API}/request/{entry['id']}",
            "jiraRest": f"{site}/rest/api/2/issue/{entry['id']}",
            "web": f"{site}/servicedesk/customer/portal/{entry['desk']}/{entry['key']}",
            "agent": f"{site}/browse/{entry['key']}",
        },
    }
    if reporter is not None:
        shown["reporter"] = _user(core, request, reporter)
    if "requestType" in expand:
        shown["requestType"] = _type_dict(core, request, request_type_of(core, entry))
    if "serviceDesk" in expand:
        shown["serviceDesk"] = _desk_dict(core, request, entry["desk"], _desks(core, request)[entry["desk"]])
    if "participant" in expand:
        people = _participants(core, request, entry)
        shown["participants"] = {
            "_expands": [],
            "size": len(people),
            "start": 0,
            "limit": MAX_LIMIT,
            "isLastPage": True,
            "values": people,
            "_links": {"self": f"{site}{API}/request/{entry['id']}/participant", "base": site, "context": ""},
        }
    return shown


def _participants(core: Core, request: Request, entry: dict[str, Any]) -> list[dict[str, Any]]:
    people = (core.world.person(account) for account in entry["participants"])
    return [_user(core, request, person) for person in people if person is not None]


def _entry(core: Core, request: Request, values: dict[str, str]) -> dict[str, Any]:
    entry = find_request(core, request, values["issueIdOrKey"])
    if entry is None:
        raise jsm_error(404, "The request does not exist or you do not have permission to see it.")
    return entry


@routes.add("GET", API + "/request", "site")
def list_requests(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Newest first, as the portal shows them."""
    params = request.params()
    desk, kind, term = one(params, "serviceDeskId"), one(params, "requestTypeId"), one(params, "searchTerm") or ""
    found = [
        entry
        for entry in reversed(site_requests(core, request))
        if (not desk or entry["desk"] == desk)
        and (not kind or entry["type"] == kind)
        and term.casefold() in entry["summary"].casefold()
    ]
    return _page(core, request, [request_dict(core, request, entry) for entry in found])


@routes.add("GET", API + "/request/{issueIdOrKey}", "site")
def get_request(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok(request_dict(core, request, _entry(core, request, values)))


@routes.add("POST", API + "/request", "site")
def create_request(core: Core, request: Request, values: dict[str, str]) -> Response:
    body = json_object(request)
    reporter = body.get("raiseOnBehalfOf") or core.credentials.account_id
    entry = make_request(core, request, body, str(reporter))
    core.commit(request, [["request", entry]], account=str(reporter))
    return json_response(201, request_dict(core, request, entry))


def make_request(core: Core, request: Request, body: dict[str, Any], reporter: str) -> dict[str, Any]:
    """The recorded form of a new request; 400 when the desk, the type or the reporter does not exist."""
    kind = next(
        (
            one_
            for one_ in core.world.request_types
            if one_["site"] == request.site
            and one_["id"] == str(body.get("requestTypeId"))
            and one_["desk"] == str(body.get("serviceDeskId", one_["desk"]))
        ),
        None,
    )
    if kind is None:
        raise jsm_error(400, "The request type does not exist on this service desk.")
    if core.world.person(reporter) is None:
        raise jsm_error(400, "The reporter does not exist.")
    fields = body.get("requestFieldValues") or {}
    if not isinstance(fields, dict) or not fields.get("summary"):
        raise jsm_error(400, "A summary is required.")
    id_, key = new_issue_number(core, next(p for p in site_projects(core, request) if p["id"] == kind["project"]))
    return {
        "id": id_,
        "key": key,
        "site": request.site,
        "project": kind["project"],
        "desk": kind["desk"],
        "type": kind["id"],
        "summary": str(fields["summary"]),
        "description": str(fields.get("description", "")),
        "reporter": reporter,
        "creator": core.credentials.account_id if body.get("raiseOnBehalfOf") else reporter,
        "created": core.world.now(),
        "participants": [str(account) for account in body.get("requestParticipants") or []],
        "comments": [],
        "fields": {name: value for name, value in fields.items() if name not in ("summary", "description")},
    }


@routes.add("GET", API + "/request/{issueIdOrKey}/participant", "site")
def list_participants(core: Core, request: Request, values: dict[str, str]) -> Response:
    return _page(core, request, _participants(core, request, _entry(core, request, values)))


@routes.add("GET", API + "/request/{issueIdOrKey}/comment", "site")
def list_comments(core: Core, request: Request, values: dict[str, str]) -> Response:
    entry = _entry(core, request, values)
    return _page(core, request, [_comment_dict(core, request, entry, comment) for comment in entry["comments"]])


@routes.add("POST", API + "/request/{issueIdOrKey}/comment", "site")
def add_comment(core: Core, request: Request, values: dict[str, str]) -> Response:
    entry = _entry(core, request, values)
    body = json_object(request)
    if not isinstance(body.get("body"), str) or not body["body"]:
        raise jira_error(400, "Comment body can not be empty!")
    comment = {
        "id": str(40001 + sum(len(e["comments"]) for e in core.world.requests)),
        "body": body["body"],
        "public": bool(body.get("public", True)),
        "author": core.credentials.account_id,
        "created": core.world.now(),
    }
    core.commit(request, [["comment", entry["key"], comment]])
    return json_response(201, _comment_dict(core, request, entry, comment))


def _comment_dict(core: Core, request: Request, entry: dict[str, Any], comment: dict[str, Any]) -> dict[str, Any]:
    author = core.world.person(comment["author"])
    shown = {
        "_expands": ["attachment", "renderedBody"],
        "id": comment["id"],
        "body": comment["body"],
        "public": comment["public"],
        "created": _date(comment["created"]),
        "_links": {"self": f"{site_url(core, request)}{API}/request/{entry['id']}/comment/{comment['id']}"},
    }
    if author is not None:
        shown["author"] = _user(core, request, author)
    return shown


@routes.add("GET", API + "/organization", "site")
def list_organizations(core: Core, request: Request, values: dict[str, str]) -> Response:
    return _page(core, request, [])
