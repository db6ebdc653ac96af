"""The control address, `/_control/…`: for tests and demonstrations, without authentication, on loopback only.

What it changes in the organisation goes into the ledger with the actor `control`.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from apps.sandbox.errors import ApiError
from apps.sandbox.faults import KINDS
from apps.sandbox.http import Request, Response, json_response
from apps.sandbox.jsm_api import make_request
from apps.sandbox.reading import iso, ok, one, parsed
from apps.sandbox.routing import Routes
from apps.sandbox.users_api import removal
from apps.sandbox.world import Membership, Operation, Person, World

if TYPE_CHECKING:
    from apps.sandbox.core import Core

routes = Routes()


def _bad(detail: str) -> ApiError:
    return ApiError(json_response(400, {"error": detail}))


def _body(request: Request) -> dict[str, Any]:
    value = parsed(request) if request.body else {}
    if not isinstance(value, dict):
        raise _bad("send a JSON object")
    return value


def _account(core: Core, account_id: Any) -> Person:
    person = core.world.person(str(account_id))
    if person is None:
        raise ApiError(json_response(404, {"error": f"no account {account_id}"}))
    return person


# -- reading


@routes.add("GET", "/_control/credentials", "control")
def credentials(core: Core, request: Request, values: dict[str, str]) -> Response:
    shown = asdict(core.credentials)
    shown |= {
        "api_url": request.base_url,
        "site_url": request.base_url,
        "sites": [
            {
                "name": site.name,
                "cloud_id": site.cloud_id,
                "url": request.base_url + (f"/_site/{site.name}" if site.index else ""),
                "request_type_field": site.request_type_field,
            }
            for site in core.world.sites
        ],
        "directories": [{"id": d.id, "name": d.name} for d in core.world.directories],
        "domains": core.world.domains,
    }
    return ok(shown)


@routes.add("GET", "/_control/info", "control")
def info(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    return ok(
        {
            **core.parameters,
            "as_of": iso(world.as_of),
            "now": iso(world.now()),
            "org_id": world.org_id,
            "accounts": len(world.people),
            "groups": sum(not group.deleted for group in world.groups),
            "ledger": len(core.ledger.entries),
            "requests": core.requests[-1]["seq"] if core.requests else 0,
            "in_flight": core.in_flight,
            "policy": core.policy_dict(),
            "seats": {r.ari: {"used": world.usage[r.index], "capacity": r.capacity} for r in world.resources if r.key},
        }
    )


@routes.add("GET", "/_control/ledger", "control")
def ledger(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Entries after `since`, by `actor`, `account`, `effect`; each without its inner operations."""
    params = request.params()
    since = int(one(params, "since") or 0)
    wanted = {name: params[name][0] for name in ("actor", "account", "group", "effect", "method") if name in params}
    entries = [
        {name: value for name, value in entry.items() if name != "operations"}
        for entry in core.ledger.entries[since:]
        if all(entry[name] == value for name, value in wanted.items())
    ]
    return ok({"entries": entries, "last": len(core.ledger.entries)})


def account_state(world: World, person: Person) -> dict[str, Any]:
    """All that a client can change of an account, in a form that compares."""
    return {
        "status": world.status(person) or "closed",
        "account_status": world.account_status(person),
        "directories": {world.directories[m.directory].id: m.status for m in person.memberships},
        "groups": [world.groups[index].id for index in person.groups],
        "direct_roles": [[world.resources[resource].ari, role] for resource, role in person.direct],
    }


@routes.add("GET", "/_control/state", "control")
def state(core: Core, request: Request, values: dict[str, str]) -> Response:
    """account id → state of every listed account, or of those named by `account` (repeatable)."""
    world = core.world
    accounts = request.params().get("account")
    people = [_account(core, a) for a in accounts] if accounts else [p for p in world.people if p.listed]
    return ok({person.account_id: account_state(world, person) for person in people})


@routes.add("POST", "/_control/state", "control")
def state_of(core: Core, request: Request, values: dict[str, str]) -> Response:
    """The same for `{"accounts": [...]}`, for lists too long for an address."""
    people = [_account(core, account) for account in _body(request).get("accounts", [])]
    return ok({person.account_id: account_state(core.world, person) for person in people})


@routes.add("GET", "/_control/state/account/{accountId}", "control")
def account(core: Core, request: Request, values: dict[str, str]) -> Response:
    world = core.world
    person = _account(core, values["accountId"])
    return ok(
        {
            **account_state(world, person),
            "account_id": person.account_id,
            "name": person.name,
            "email": person.email,
            "email_hidden": person.email_hidden,
            "kind": person.kind,
            "managed": person.managed,
            "locked_by": person.locked_by,
            "group_names": [world.groups[index].name for index in person.groups],
            "seats": [r.ari for r in world.resources if world.seat_mask(person) >> r.index & 1],
            "platform_roles": world.platform_roles(person),
            "activity": {world.resources[index].ari: iso(at) for index, at in person.activity},
            "sources": {world.directories[m.directory].id: m.source for m in person.memberships},
            "added_at": None if not person.memberships else iso(world.added_at(person) or 0),
        }
    )


@routes.add("GET", "/_control/groups", "control")
def groups(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Every group with its grants; `name` narrows to one."""
    world = core.world
    name = one(request.params(), "name")
    return ok(
        [
            {
                "id": group.id,
                "name": group.name,
                "directory": world.directories[group.directory].id,
                "synced": group.synced,
                "kind": group.kind,
                "members": len(group.members),
                "grants": [[world.resources[resource].ari, role] for resource, role in group.grants],
            }
            for group in world.groups
            if not group.deleted and (name is None or group.name == name)
        ]
    )


@routes.add("GET", "/_control/requests", "control")
def requests(core: Core, request: Request, values: dict[str, str]) -> Response:
    """The log of requests after `since`, narrowed by `path` (regular expression), `method`, `status`."""
    params = request.params()
    since = int(one(params, "since") or 0)
    pattern = re.compile(one(params, "path") or "")
    method, status = one(params, "method"), one(params, "status")
    entries = [
        entry
        for entry in list(core.requests)
        if entry["seq"] > since
        and pattern.search(entry["path"])
        and (method is None or entry["method"] == method)
        and (status is None or str(entry["status"]) == status)
    ]
    return ok({"requests": entries, "last": core.requests[-1]["seq"] if core.requests else 0})


@routes.add("GET", "/_control/early", "control")
def early(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Requests that started while an earlier answer's wait was running, `grace_ms` (100) after that answer at least.

    Compared within one endpoint family; `scope=all` holds every request against every wait. `since` as for requests.
    """
    params = request.params()
    since, grace = int(one(params, "since") or 0), float(one(params, "grace_ms") or 100)
    everything = one(params, "scope") == "all"
    waits: dict[str, list[tuple[float, float, int]]] = {}
    found = []
    done = [entry for entry in list(core.requests) if entry["seq"] > since and entry["finished_mono_ms"] is not None]
    for entry in done:
        if entry["wait_seconds"]:
            told = entry["finished_mono_ms"]
            family = "" if everything else entry["family"]
            waits.setdefault(family, []).append((told + grace, told + entry["wait_seconds"] * 1000, entry["seq"]))
    for entry in done:
        started = entry["started_mono_ms"]
        for first, last, seq in waits.get("" if everything else entry["family"], ()):
            if first < started < last:
                found.append({**entry, "told_by": seq, "too_early_ms": last - started})
                break
    return ok({"early": found, "waits": sum(map(len, waits.values()))})


# -- faults, policy, time


@routes.add("GET", "/_control/faults", "control")
def get_faults(core: Core, request: Request, values: dict[str, str]) -> Response:
    kinds = {kind: {"fields": fields, "does": text} for kind, (fields, text) in KINDS.items()}
    return ok({"faults": core.faults.shown(), "kinds": kinds})


@routes.add("POST", "/_control/faults", "control")
def set_faults(core: Core, request: Request, values: dict[str, str]) -> Response:
    """One fault, or `{"set": [faults], "clear": true | [ids]}`; clearing comes first. Answers all that are active."""
    body = _body(request)
    wanted = [body] if "kind" in body else body.get("set", [])
    if body.get("clear"):
        core.faults.clear(None if body["clear"] is True else body["clear"])
    try:
        added = [core.faults.add(fault) for fault in wanted]
    except (ValueError, TypeError, re.error) as error:
        raise _bad(str(error)) from None
    return ok({"added": [fault["id"] for fault in added], "faults": core.faults.shown()})


@routes.add("DELETE", "/_control/faults", "control")
def clear_faults(core: Core, request: Request, values: dict[str, str]) -> Response:
    core.faults.clear()
    return ok({"faults": []})


@routes.add("POST", "/_control/policy", "control")
def set_policy(core: Core, request: Request, values: dict[str, str]) -> Response:
    try:
        core.change_policy(_body(request))
    except TypeError as error:
        raise _bad(str(error)) from None
    return ok(core.policy_dict())


@routes.add("POST", "/_control/reset", "control")
def reset(core: Core, request: Request, values: dict[str, str]) -> Response:
    core.reset()
    return ok({"reset": True})


@routes.add("POST", "/_control/advance", "control")
def advance(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Move the organisation's present on by `days` and `seconds`; deletions that fall due become final."""
    body = _body(request)
    ms = int(float(body.get("days", 0)) * 86_400_000 + float(body.get("seconds", 0)) * 1000)
    core.commit(request, [["shift", ms]])
    core.sweep_deleted()
    return ok({"now": iso(core.world.now())})


# -- changes from outside


@routes.add("POST", "/_control/touch", "control")
def touch(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Set the last activity of `account`: `at` (ms, "now" or null for never) in `resources` (default: all it holds)."""
    body = _body(request)
    world = core.world
    person = _account(core, body.get("account"))
    at = body.get("at", "now")
    at = world.now() // 1000 * 1000 if at == "now" else at
    if at is not None and not isinstance(at, int):
        raise _bad("at is a time in milliseconds, now or null")
    held = world.held_mask(person)
    aris = body.get("resources") or [r.ari for r in world.resources if not r.platform and held >> r.index & 1]
    unknown = [ari for ari in aris if world.resource(ari) is None]
    if unknown:
        raise _bad(f"no resource {unknown[0]}")
    core.commit(request, [["touch", person.account_id, dict.fromkeys(aris, at)]], account=person)
    return ok(dict.fromkeys(aris, at))


@routes.add("POST", "/_control/mutate", "control")
def mutate(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Change the organisation as another administrator would. Any of:

    `{"account": id, "add_group": group, "remove_group": group, "status": "active" | "suspended" | "deactivated" |
    "removed", "directory": id, "email": text, "name": text, "managed": bool, "add_role": [ari, role],
    "remove_role": [ari, role]}`, `{"add_person": {"email", "name", "directory", "groups"}}`,
    `{"remove_person": account}`, `{"group": id, "add_grant" | "remove_grant": [ari, role]}`, `{"delete_group": id}`,
    `{"capacity": [ari, seats]}`. `add_group` and the like take an id or a name.
    """
    body = _body(request)
    world = core.world
    operations: list[Operation] = []
    person: Person | None = None
    answer: dict[str, Any] = {}
    if "account" in body:
        person = _account(core, body["account"])
        operations += _account_changes(world, person, body)
    if "remove_person" in body:
        person = _account(core, body["remove_person"])
        operations.append(["erase", person.account_id])
    if "add_person" in body:
        operations.append(["person", _new_person(world, body["add_person"])])
        answer["account"] = operations[-1][1]["account_id"]
    if "group" in body:
        group = _group_id(world, body["group"])
        operations += [[sign, group, *_pair(world, body[name])] for sign, name in _GRANTS if name in body]
    if "delete_group" in body:
        operations.append(["delete-group", _group_id(world, body["delete_group"])])
    if "capacity" in body:
        operations.append(["capacity", *_pair(world, body["capacity"])])
    if not operations:
        raise _bad("nothing to change")
    core.commit(request, operations, account=person)
    return ok({"changed": len(operations), **answer})


_GRANTS = (("grant+", "add_grant"), ("grant-", "remove_grant"))


def _pair(world: World, wanted: Any) -> list[Any]:
    """[resource ARI, something], checked before it reaches the ledger, which must replay."""
    if not isinstance(wanted, list) or len(wanted) != 2 or world.resource(wanted[0]) is None:
        raise _bad(f"not a pair that starts with a known resource: {wanted}")
    return wanted


def _group_id(world: World, wanted: str) -> str:
    group = world.group(wanted) or next((g for g in world.groups if g.name == wanted and not g.deleted), None)
    if group is None:
        raise _bad(f"no group {wanted}")
    return group.id


def _account_changes(world: World, person: Person, body: dict[str, Any]) -> list[Operation]:
    account_id = person.account_id
    operations: list[Operation] = []
    if "add_group" in body:
        operations.append(["group+", account_id, _group_id(world, body["add_group"])])
    if "remove_group" in body:
        operations.append(["group-", account_id, _group_id(world, body["remove_group"])])
    if "add_role" in body:
        operations.append(["direct+", account_id, *_pair(world, body["add_role"])])
    if "remove_role" in body:
        operations.append(["direct-", account_id, *_pair(world, body["remove_role"])])
    fields: dict[str, Any] = {
        name: body[name] for name in ("email", "name", "managed", "email_hidden", "locked_by") if name in body
    }
    status = body.get("status")
    if status == "deactivated":
        fields |= {"account_status": "inactive", "deactivated_at": world.now()}
    elif status == "active":
        fields |= {"account_status": "active", "deactivated_at": None, "deletion_at": None}
    if fields:
        operations.append(["account", account_id, fields])
    for membership in person.memberships:
        if "directory" in body and world.directories[membership.directory].id != body["directory"]:
            continue
        operations += _membership_change(world, person, membership, status)
    return operations


def _membership_change(world: World, person: Person, membership: Membership, status: str | None) -> list[Operation]:
    directory = world.directories[membership.directory]
    if status == "removed":
        return removal(world, person, directory)
    if status in ("active", "suspended"):
        return [["membership", person.account_id, directory.id, status, membership.source, membership.added_at]]
    return []


def _new_person(world: World, wanted: dict[str, Any]) -> dict[str, Any]:
    """The recorded form of a person who was invited by somebody else just now."""
    number = len(world.people)
    email = str(wanted.get("email") or f"newcomer.{number}@{world.domains[0]}")
    name = str(wanted.get("name") or email.partition("@")[0])
    directory = wanted.get("directory") or world.directories[0].id
    account_id = str(wanted.get("account_id") or f"712020:00000000-0000-4000-8000-{number:012x}")
    if world.directory(directory) is None:
        raise _bad(f"no directory {directory}")
    if world.person(account_id) is not None or email.lower() in world.by_email:
        raise _bad(f"{account_id} or {email} exists")
    return {
        "account_id": account_id,
        "name": name,
        "nickname": name.split(" ")[0],
        "email": email,
        "managed": email.rpartition("@")[2] in world.domains,
        "memberships": [[directory, "active", "invited", world.now()]],
        "groups": [_group_id(world, group) for group in wanted.get("groups", [])],
    }


@routes.add("POST", "/_control/request", "control")
def new_request(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Raise a service desk request as `reporter` (account id): `{"reporter",
    "requestTypeId", "summary", "site": 0}`."""
    body = _body(request)
    request.site = int(body.get("site", 0))
    reporter = _account(core, body.get("reporter"))
    first = next(kind["id"] for kind in core.world.request_types if kind["site"] == request.site)
    wanted = {
        "requestTypeId": body.get("requestTypeId", first),
        "requestFieldValues": {"summary": body.get("summary", "Please give me access"), **body.get("fields", {})},
    }
    entry = make_request(core, request, wanted, reporter.account_id)
    core.commit(request, [["request", entry]], account=reporter)
    return ok({"id": entry["id"], "key": entry["key"], "created": iso(entry["created"])})
