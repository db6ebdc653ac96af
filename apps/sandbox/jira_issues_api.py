"""Projects, fields and issues of one site, `/rest/api/3`, with as much of JQL as finds service desk requests."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from apps.sandbox.errors import jira_error
from apps.sandbox.http import Request, Response
from apps.sandbox.jira_api import API, jira_time, json_object, page_bean, page_number, site_url, user_dict
from apps.sandbox.reading import make_cursor, ok, one, read_cursor
from apps.sandbox.routing import Routes
from apps.sandbox.world import DAY_MS

if TYPE_CHECKING:
    from apps.sandbox.core import Core

routes = Routes()


def _project_dict(core: Core, request: Request, project: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": project["id"],
        "key": project["key"],
        "name": project["name"],
        "projectTypeKey": project["type"],
        "simplified": False,
        "style": "classic",
        "isPrivate": False,
        "self": f"{site_url(core, request)}{API}/project/{project['id']}",
    }


def site_projects(core: Core, request: Request) -> list[dict[str, Any]]:
    return [project for project in core.world.projects if project["site"] == request.site]


@routes.add("GET", API + "/project/search", "site")
def search_projects(core: Core, request: Request, values: dict[str, str]) -> Response:
    params = request.params()
    query, kinds, keys = (one(params, "query") or "").casefold(), one(params, "typeKey"), params.get("keys")
    found = [
        project
        for project in site_projects(core, request)
        if (query in project["name"].casefold() or query in project["key"].casefold())
        and (not kinds or project["type"] in kinds.split(","))
        and (not keys or project["key"] in keys)
    ]
    found.sort(key=lambda project: str(project["key"]))
    return page_bean(core, request, found, 50, 100, lambda project: _project_dict(core, request, project))


@routes.add("GET", API + "/project/{projectIdOrKey}", "site")
def get_project(core: Core, request: Request, values: dict[str, str]) -> Response:
    for project in site_projects(core, request):
        if values["projectIdOrKey"] in (project["id"], project["key"]):
            return ok(_project_dict(core, request, project))
    raise jira_error(404, f"No project could be found with key '{values['projectIdOrKey']}'.")


@routes.add("GET", API + "/field", "site")
def fields(core: Core, request: Request, values: dict[str, str]) -> Response:
    """The system fields that issues here have, and the custom field with the request type."""
    system = ("summary", "project", "issuetype", "reporter", "creator", "created", "updated", "status", "description")
    shown = [
        {
            "id": name,
            "key": name,
            "name": name.capitalize(),
            "custom": False,
            "orderable": True,
            "navigable": True,
            "searchable": True,
            "clauseNames": [name],
            "schema": {"type": "string", "system": name},
        }
        for name in system
    ]
    field = core.world.sites[request.site].request_type_field
    number = int(field.partition("_")[2])
    shown.append(
        {
            "id": field,
            "key": field,
            "name": "Request Type",
            "custom": True,
            "orderable": True,
            "navigable": True,
            "searchable": True,
            "clauseNames": ["Request Type", f"cf[{number}]"],
            "schema": {
                "type": "sd-customerrequesttype",
                "custom": "com.atlassian.servicedesk:vp-origin",
                "customId": number,
            },
        }
    )
    return ok(shown)


def site_requests(core: Core, request: Request) -> list[dict[str, Any]]:
    return [entry for entry in core.world.requests if entry["site"] == request.site]


def find_request(core: Core, request: Request, id_or_key: str) -> dict[str, Any] | None:
    wanted = id_or_key.upper()
    for entry in site_requests(core, request):
        if wanted in (entry["id"], entry["key"]):
            return entry
    return None


def request_type_of(core: Core, entry: dict[str, Any]) -> dict[str, Any]:
    return next(t for t in core.world.request_types if t["id"] == entry["type"] and t["site"] == entry["site"])


def _issue_fields(core: Core, request: Request, entry: dict[str, Any]) -> dict[str, Any]:
    world = core.world
    site = site_url(core, request)
    project = next(p for p in world.projects if p["id"] == entry["project"] and p["site"] == entry["site"])
    kind = request_type_of(core, entry)
    shown: dict[str, Any] = {
        "summary": entry["summary"],
        "description": None,
        "project": _project_dict(core, request, project),
        "issuetype": {
            "id": "10010",
            "name": "[System] Service request",
            "subtask": False,
            "self": f"{site}{API}/issuetype/10010",
        },
        "status": {"id": "1", "name": "Waiting for support", "self": f"{site}{API}/status/1"},
        "created": jira_time(entry["created"]),
        "updated": jira_time(entry["created"]),
        world.sites[request.site].request_type_field: {
            "_links": {
                "web": f"{site}/servicedesk/customer/portal/{entry['desk']}/{entry['key']}",
                "self": f"{site}/rest/servicedeskapi/request/{entry['id']}",
            },
            "requestType": {
                "id": kind["id"],
                "name": kind["name"],
                "serviceDeskId": kind["desk"],
                "portalId": kind["desk"],
            },
            "currentStatus": {"status": "Waiting for support"},
        },
    }
    for name in ("reporter", "creator"):
        person = world.person(entry[name])
        shown[name] = None if person is None else user_dict(core, request, person)
    return shown


def _issue_dict(core: Core, request: Request, entry: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": entry["id"],
        "key": entry["key"],
        "self": f"{site_url(core, request)}{API}/issue/{entry['id']}",
        "expand": "renderedFields,names,schema,operations,editmeta,changelog,versionedRepresentations",
    }
    every = bool(wanted & {"*all", "*navigable"})
    if wanted - {"id"}:
        known = _issue_fields(core, request, entry)
        shown["fields"] = {name: value for name, value in known.items() if every or name in wanted}
    return shown


@routes.add("GET", API + "/issue/{issueIdOrKey}", "site")
def get_issue(core: Core, request: Request, values: dict[str, str]) -> Response:
    entry = find_request(core, request, values["issueIdOrKey"])
    if entry is None:
        raise jira_error(404, "Issue does not exist or you do not have permission to see it.")
    wanted = {name for text in request.params().get("fields", ["*all"]) for name in text.split(",")}
    return ok(_issue_dict(core, request, entry, wanted))


@routes.add("GET", API + "/search/jql", "site")
def search_jql(core: Core, request: Request, values: dict[str, str]) -> Response:
    params = request.params()
    wanted = {name for text in params.get("fields", ["id"]) for name in text.split(",")}
    size = page_number(request, "maxResults", 50, 5000)
    return _jql_page(core, request, one(params, "jql") or "", wanted, size, one(params, "nextPageToken"))


@routes.add("POST", API + "/search/jql", "site")
def post_search_jql(core: Core, request: Request, values: dict[str, str]) -> Response:
    body = json_object(request)
    wanted, size = body.get("fields", ["id"]), body.get("maxResults", 50)
    if not isinstance(wanted, list) or not isinstance(size, int):
        raise jira_error(400, "Invalid request payload.")
    return _jql_page(core, request, str(body.get("jql") or ""), set(wanted), min(size, 5000), body.get("nextPageToken"))


def _jql_page(core: Core, request: Request, jql: str, wanted: set[str], size: int, token: str | None) -> Response:
    state = read_cursor(token, "issues") or {"at": 0}
    found = _run_jql(core, request, jql)
    start = state["at"]
    page: dict[str, Any] = {
        "issues": [_issue_dict(core, request, entry, wanted) for entry in found[start : start + size]],
        "isLast": start + size >= len(found),
    }
    if start + size < len(found):
        page["nextPageToken"] = make_cursor({"kind": "issues", "at": start + size})
    return ok(page)


_ORDER = re.compile(r"\border\s+by\s+(?P<field>[\w\"\[\] ]+?)(?:\s+(?P<direction>asc|desc))?\s*$", re.I)
_CLAUSE = re.compile(
    r"^\s*(?P<field>\"[^\"]+\"|[\w\[\]]+)\s*(?P<op>!=|>=|<=|=|>|<|~|\bin\b)\s*(?P<value>.+?)\s*$", re.I | re.S
)
# An AND outside of quotes: what follows it holds an even number of them.
_AND = re.compile(r"\band\b(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", re.I)


def _run_jql(core: Core, request: Request, jql: str) -> list[dict[str, Any]]:
    """The part of JQL that finds requests: clauses joined by AND, then ORDER BY. 400 for anything else."""
    order = _ORDER.search(jql)
    clauses = [part for part in _AND.split(jql[: order.start()] if order else jql) if part.strip()]
    if not clauses:
        raise jira_error(400, "Unbounded JQL queries are not allowed here. Please add a search restriction.")
    tests = [_clause(core, clause) for clause in clauses]
    found = [entry for entry in site_requests(core, request) if all(test(entry) for test in tests)]
    if order:
        field = order["field"].strip().lower()
        if field not in ("created", "updated", "key", "id"):
            raise jira_error(400, f"Not able to sort using field '{field}'.")
        found.sort(key=lambda entry: (entry["created"], int(entry["id"])))
        if (order["direction"] or "").lower() == "desc":
            found.reverse()
    else:
        found.reverse()
    return found


def _clause(core: Core, clause: str) -> Callable[[dict[str, Any]], bool]:
    match = _CLAUSE.match(clause)
    if match is None:
        raise jira_error(400, f"Error in the JQL Query: '{clause.strip()}'")
    field, op = match["field"].strip('"').lower(), match["op"].lower()
    parts = match["value"].strip("()").split(",") if op == "in" else [match["value"]]
    values = [part.strip().strip("\"'") for part in parts]
    if field in ("created", "updated"):
        limit = _moment(core, values[0])
        compare: dict[str, Callable[[int], bool]] = {
            ">": lambda at: at > limit,
            ">=": lambda at: at >= limit,
            "<": lambda at: at < limit,
            "<=": lambda at: at <= limit,
        }
        if op not in compare:
            raise jira_error(400, f"The operator '{op}' is not supported by the '{field}' field.")
        return lambda entry: compare[op](entry["created"])
    read = _readers(core).get(field)
    if read is None or op not in ("=", "!=", "in", "~"):
        raise jira_error(400, f"Field '{field}' does not exist or you do not have permission to view it.")
    wanted = {text.casefold() for text in values}
    if op == "~":
        return lambda entry: any(text in value for value in read(entry) for text in wanted)
    return lambda entry: wanted.isdisjoint(read(entry)) == (op == "!=")


def _readers(core: Core) -> dict[str, Callable[[dict[str, Any]], set[str]]]:
    """Field of JQL → the values (case folded) by which an issue answers to it."""

    def project(entry: dict[str, Any]) -> set[str]:
        one_ = next(p for p in core.world.projects if p["id"] == entry["project"] and p["site"] == entry["site"])
        return {str(one_[name]).casefold() for name in ("id", "key", "name")}

    def request_type(entry: dict[str, Any]) -> set[str]:
        kind = request_type_of(core, entry)
        name = kind["name"].casefold()
        return {name, f"{name} ({next(iter(project(entry)))})", kind["id"]}

    def key(entry: dict[str, Any]) -> set[str]:
        return {entry["key"].casefold(), entry["id"]}

    return {
        "project": project,
        "request type": request_type,
        "key": key,
        "issuekey": key,
        "issue": key,
        "id": key,
        "reporter": lambda entry: {entry["reporter"].casefold()},
        "creator": lambda entry: {entry["creator"].casefold()},
        "summary": lambda entry: {entry["summary"].casefold()},
        "status": lambda entry: {"waiting for support"},
        "issuetype": lambda entry: {"[system] service request"},
    }


_RELATIVE = re.compile(r"^-?(\d+)([mhdw])$")
_UNIT_MS = {"m": 60_000, "h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS}


def _moment(core: Core, text: str) -> int:
    """A JQL date: -15m, epoch milliseconds, 2026-11-20, 2026-11-20 08:31 or with slashes (UTC, minutes at best)."""
    relative = _RELATIVE.match(text)
    if relative:
        return core.world.now() - int(relative[1]) * _UNIT_MS[relative[2]]
    if text.isdecimal():
        return int(text)
    for form in ("%Y-%m-%d %H:%M", "%Y-%m-%d"):
        try:
            return int(datetime.strptime(text.replace("/", "-"), form).replace(tzinfo=UTC).timestamp() * 1000)
        except ValueError:
            continue
    raise jira_error(400, f"Date value '{text}' is invalid.")


def new_issue_number(core: Core, project: dict[str, Any]) -> tuple[str, str]:
    """(id, key) of the next issue of a project."""
    taken = [entry for entry in core.world.requests if entry["project"] == project["id"]]
    highest = max((int(entry["key"].rpartition("-")[2]) for entry in taken), default=0)
    return str(30001 + len(core.world.requests)), f"{project['key']}-{highest + 1}"


def friendly(ms: int) -> str:
    return time.strftime("%A %H:%M", time.gmtime(ms / 1000))
