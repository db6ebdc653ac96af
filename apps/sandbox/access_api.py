"""Roles of one person, and invitations, in the Organizations API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from apps.sandbox.errors import admin_error
from apps.sandbox.http import Request, Response, json_response
from apps.sandbox.reading import (
    bad,
    json_body,
    need,
    no_content,
    strings,
    text,
)
from apps.sandbox.routing import Routes
from apps.sandbox.targets import (
    V1,
    V2,
    grantable,
    no_self_harm,
    require_seats,
    uuid_of,
)
from apps.sandbox.world import (
    SEATLESS_ROLES,
    Operation,
    Person,
    Resource,
    World,
)

if TYPE_CHECKING:
    from apps.sandbox.core import Core

routes = Routes()


MAX_INVITES = 25


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
    return person, grantable(core, request, ari, role), role


@routes.add("POST", V1 + "/users/{userId}/roles/assign", "v1")
def assign_role(core: Core, request: Request, values: dict[str, str]) -> Response:
    person, resource, role = _role_target(core, request, values)
    if resource.directory is not None and core.world.membership(person, resource.directory) is None:
        raise admin_error("ADMIN-UAM-404-1", "The user is not in the directory", request_id=request.request_id)
    held = (resource.index, role) in person.direct
    if not held and role not in SEATLESS_ROLES:
        require_seats(core, person, 1 << resource.index, request)
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
    no_self_harm(core, person, request)
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
        rules.append((grantable(core, request, need(rule, "resource"), role), role))
    results, failed = [], False
    for email in dict.fromkeys(emails):
        shown, one_failed = invitation(core, request, email, rules, strings(body, "additionalGroups", 100) or [])
        results.append(shown)
        failed |= one_failed
    return json_response(206 if failed else 200, {"data": results})


def invitation(
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
    return f"712020:{uuid_of(world.org_id, email.lower())}"
