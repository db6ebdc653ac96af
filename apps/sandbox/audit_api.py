"""The audit log in the Organizations API: events made up for the past, and one for each write since."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from apps.sandbox.errors import ApiError, admin_error, proxy_error
from apps.sandbox.http import Request, Response
from apps.sandbox.reading import iso, make_cursor, ok, one, read_cursor
from apps.sandbox.routing import Routes
from apps.sandbox.targets import V1
from apps.sandbox.world import DAY_MS, stable_fraction

if TYPE_CHECKING:
    from apps.sandbox.core import Core

routes = Routes()
PAST_EVENTS = 120
MAX_LIMIT = 500
ACTIONS = {
    "user_logged_in": "Logged in",
    "user_invited": "Invited user",
    "user_suspended": "Suspended user",
    "user_restored": "Restored user",
    "user_removed": "Removed user",
    "user_deactivated": "Deactivated user",
    "user_activated": "Activated user",
    "user_added_to_group": "Added user to group",
    "user_removed_from_group": "Removed user from group",
    "role_changed": "Changed role",
    "organisation_changed": "Changed the organisation",
}
_BY_PATH = (
    ("/suspend", "user_suspended"),
    ("/restore", "user_restored"),
    ("/invite", "user_invited"),
    ("/lifecycle/disable", "user_deactivated"),
    ("/lifecycle/enable", "user_activated"),
    ("/assign", "role_changed"),
    ("/revoke", "role_changed"),
)


def _action(entry: dict[str, Any]) -> str:
    path, method = entry["path"], entry["method"]
    for ending, action in _BY_PATH:
        if path.endswith(ending):
            return action
    if "/memberships" in path:
        return "user_added_to_group" if method == "POST" else "user_removed_from_group"
    if method == "DELETE" and "/users/" in path:
        return "user_removed"
    return "organisation_changed"


def _events(core: Core, request: Request) -> list[dict[str, Any]]:
    """All events, oldest first."""
    world = core.world
    events = []
    people = [p for p in world.people[:2000] if p.listed and not world.closed(p)]
    names = list(ACTIONS)[:2]
    for number in range(PAST_EVENTS):
        person = people[int(stable_fraction(world.seed, "event", number) * len(people))]
        at = world.as_of - int((PAST_EVENTS - number) * DAY_MS / 4)
        events.append(_event(core, request, f"past-{number:04d}", at, names[number % 9 == 0], person.account_id, None))
    for entry in core.ledger.entries:
        if entry["effect"] == "changed" and entry["actor"] != "control":
            id_ = f"write-{entry['seq']:08d}"
            subject = entry["account"]
            events.append(_event(core, request, id_, entry["at"], _action(entry), subject, entry["group"]))
    return events


def _event(
    core: Core, request: Request, id_: str, at: int, action: str, account: str | None, group: str | None
) -> dict[str, Any]:
    world = core.world
    owner = world.people[world.owner]
    person = world.person(account or "")
    actor = person if action == "user_logged_in" and person is not None else owner
    context = []
    if person is not None:
        shown = {"name": person.name} if person.email_hidden else {"name": person.name, "email": person.email}
        links = {"self": f"{request.base_url}/users/{person.account_id}/manage/profile", "alt": ""}
        context.append({"id": person.account_id, "type": "users", "attributes": shown, "links": links})
    if group is not None:
        index = world.by_group_id.get(group)
        name = "" if index is None else world.groups[index].name
        context.append({"id": group, "type": "groups", "attributes": {"name": name}, "links": {"alt": ""}})
    base = f"{request.base_url}/admin/v1/orgs/{world.org_id}"
    return {
        "id": id_,
        "type": "events",
        "attributes": {
            "time": iso(at),
            "action": action,
            "actor": {
                "id": actor.account_id,
                "name": actor.name,
                "email": actor.email,
                "links": {"self": f"{request.base_url}/users/{actor.account_id}/manage/profile"},
            },
            "context": context,
            "container": [
                {
                    "id": world.org_id,
                    "type": "organizations",
                    "attributes": {"name": world.org_name},
                    "links": {"alt": base},
                }
            ],
            "location": {"ip": "192.0.2.10", "countryName": "Nowhere"},
        },
        "links": {"self": f"{base}/events/{id_}"},
    }


def _millis(request: Request, name: str) -> int | None:
    value = one(request.params(), name)
    if value is None:
        return None
    if not value.isdecimal():
        raise admin_error("ADMIN-400-3", f"{name} is not a time in milliseconds", request_id=request.request_id)
    return int(value)


def _page(core: Core, request: Request, events: list[dict[str, Any]], default_limit: int, kind: str) -> Response:
    text = one(request.params(), "limit") or str(default_limit)
    if not text.isdecimal() or not 1 <= int(text) <= MAX_LIMIT:
        raise admin_error("ADMIN-400-19", f"limit must be 1 to {MAX_LIMIT}", request_id=request.request_id)
    limit = int(text)
    state = read_cursor(one(request.params(), "cursor"), kind) or {"at": 0}
    start = state["at"]
    here = f"{request.base_url}{request.full_path}"
    shown = events[start : start + limit]
    links, meta = {"self": here}, {"page_size": len(shown)}
    if start + limit < len(events):
        cursor = make_cursor({"kind": kind, "at": start + limit})
        links["next"] = f"{here}?cursor={cursor}"
        meta["next"] = cursor  # type: ignore[assignment]
    return ok({"data": shown, "meta": meta, "links": links})


def _between(request: Request, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    start, end = _millis(request, "from"), _millis(request, "to")
    first = None if start is None else iso(start)
    last = None if end is None else iso(end)
    times = ((event, event["attributes"]["time"]) for event in events)
    return [event for event, at in times if (first is None or at >= first) and (last is None or at <= last)]


@routes.add("GET", V1 + "/events", "v1", scope="read:events:admin")
def list_events(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Newest first, ten calls a minute. A cursor stands for its list only while the filters stay the same."""
    wait = core.events_allowed(request)
    if wait is not None:
        error: ApiError = proxy_error(429, "Rate limit exceeded")
        error.response.headers["Retry-After"] = str(math.ceil(wait))
        raise error
    params = request.params()
    action, query = one(params, "action"), (one(params, "q") or "").casefold()
    actors = [actor for text in params.get("actor", []) for actor in text.split(",")]
    found = [
        event
        for event in _between(request, _events(core, request))
        if (not action or event["attributes"]["action"] in action.split(","))
        and (not actors or event["attributes"]["actor"]["id"] in actors)
        and query in str(event["attributes"]).casefold()
    ]
    found.reverse()
    return _page(core, request, found, 30, "events")


@routes.add("GET", V1 + "/events-stream", "v1", scope="read:events:admin")
def stream_events(core: Core, request: Request, values: dict[str, str]) -> Response:
    """For polling: oldest first unless asked otherwise."""
    found = _between(request, _events(core, request))
    for event in found:
        event["attributes"]["processedAt"] = event["attributes"]["time"]
    if one(request.params(), "sortOrder") == "desc":
        found.reverse()
    return _page(core, request, found, 200, "stream")


@routes.add("GET", V1 + "/events/{eventId}", "v1", scope="read:events:admin")
def get_event(core: Core, request: Request, values: dict[str, str]) -> Response:
    for event in _events(core, request):
        if event["id"] == values["eventId"]:
            return ok({"data": event})
    raise admin_error("ADMIN-404-4", "No such event", request_id=request.request_id)


@routes.add("GET", V1 + "/event-actions", "v1", scope="read:events:admin")
def event_actions(core: Core, request: Request, values: dict[str, str]) -> Response:
    shown = [
        {"id": action, "type": "actions", "attributes": {"displayName": name, "groupDisplayName": "Users"}}
        for action, name in ACTIONS.items()
    ]
    return ok({"data": shown})
