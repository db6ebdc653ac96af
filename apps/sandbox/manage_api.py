"""The user management API, `/users/{account_id}/manage`: for claimed (managed) accounts only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.sandbox.errors import admin_error, manage_error
from apps.sandbox.http import Request, Response, json_response
from apps.sandbox.reading import iso, no_content, ok, parsed
from apps.sandbox.rendering import AVATARS
from apps.sandbox.routing import Routes
from apps.sandbox.world import DAY_MS, Operation, Person, stable_fraction

if TYPE_CHECKING:
    from apps.sandbox.core import Core

routes = Routes()
BASE = "/users/{accountId}/manage"
_LOCK_REASONS = {
    "scim": "externalDirectory.scim",
    "google": "externalDirectory.google",
    "exportControl": "blocked.exportControl",
}


def _target(core: Core, values: dict[str, str]) -> Person:
    """The account; 404 when unknown or gone, 403 when its domain is not claimed."""
    person = core.world.person(values["accountId"])
    if person is None or core.world.closed(person):
        raise manage_error(
            404, "accountNotFound", detail="Error: User account not found", error_key="account-not-found"
        )
    if not person.managed:
        raise manage_error(403, "forbidden", detail="Error: Caller must be a verified org admin of targeted account")
    return person


def _refuse(reason: str) -> Exception:
    return manage_error(403, "forbidden.action", context={"allowed": False, "reason": {"key": reason}})


def _lock_reason(core: Core, person: Person, action: str) -> str | None:
    """Why the action is not allowed, or None. Deletion stays possible for accounts that an identity provider owns."""
    if person.index == core.world.owner and action.startswith("lifecycle"):
        return "administrative.notMyself"
    if person.locked_by is None or action.startswith("apiToken"):
        return None
    if person.locked_by == "exportControl":
        return _LOCK_REASONS["exportControl"]
    return None if action == "lifecycle.delete" else _LOCK_REASONS[person.locked_by]


def _conflict(person: Person, code: str, message: str) -> Exception:
    context = {
        "accountId": person.account_id,
        "message": "The account is not eligible",
        "errorCodes": [{"code": code, "message": message}],
    }
    return manage_error(409, "conflict.lifecycleErrors", context=context)


@routes.add("GET", BASE, "manage")
def permissions(core: Core, request: Request, values: dict[str, str]) -> Response:
    person = _target(core, values)
    wanted = request.params().get("privileges")
    shown: dict[str, Any] = {}
    for action in ("email.set", "lifecycle.enablement", "lifecycle.delete", "apiToken.read", "apiToken.delete"):
        if wanted and action not in ",".join(wanted).split(","):
            continue
        reason = _lock_reason(core, person, action)
        shown[action] = {"allowed": True} if reason is None else {"allowed": False, "reason": {"key": reason}}
    if not wanted:
        reason = _lock_reason(core, person, "profile")
        rule = {"allowed": True} if reason is None else {"allowed": False, "reason": {"key": reason}}
        shown["profile"] = dict.fromkeys(("name", "nickname", "zoneinfo", "locale"), rule)
    return ok(shown)


def _message(request: Request) -> None:
    """The body must be an object; a message in it is optional."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise admin_error("ADMIN-UAM-415-1", "Send application/json", request_id=request.request_id)
    body = parsed(request)
    if not isinstance(body, dict) or not isinstance(body.get("message", ""), str):
        raise manage_error(400, "invalid.body")


@routes.add("POST", BASE + "/lifecycle/disable", "manage")
def disable(core: Core, request: Request, values: dict[str, str]) -> Response:
    _message(request)
    person = _target(core, values)
    reason = _lock_reason(core, person, "lifecycle.enablement")
    if reason is not None:
        raise _refuse(reason)
    if person.account_status == "inactive":
        raise _conflict(person, "already-inactive", "The account is not active")
    changes = {"account_status": "inactive", "deactivated_at": core.world.now()}
    core.commit(request, [["account", person.account_id, changes]], account=person)
    return no_content()


@routes.add("POST", BASE + "/lifecycle/enable", "manage")
def enable(core: Core, request: Request, values: dict[str, str]) -> Response:
    person = _target(core, values)
    reason = _lock_reason(core, person, "lifecycle.enablement")
    if reason is not None:
        raise _refuse(reason)
    if person.deletion_at is not None:
        raise _conflict(person, "pending-deletion", "Cancel the deletion first")
    if person.account_status == "active":
        raise _conflict(person, "already-active", "The account is active")
    changes = {"account_status": "active", "deactivated_at": None}
    core.commit(request, [["account", person.account_id, changes]], account=person)
    return no_content()


@routes.add("POST", BASE + "/lifecycle/delete", "manage")
def delete(core: Core, request: Request, values: dict[str, str]) -> Response:
    """Starts the 14 days of grace."""
    person = _target(core, values)
    reason = _lock_reason(core, person, "lifecycle.delete")
    if reason is not None:
        raise _refuse(reason)
    if person.deletion_at is not None:
        raise _conflict(person, "pending-deletion", "The account is awaiting deletion")
    now = core.world.now()
    changes = {"account_status": "inactive", "deletion_at": now, "deactivated_at": person.deactivated_at or now}
    core.commit(request, [["account", person.account_id, changes]], account=person)
    return ok({"message": f"AccountId {person.account_id} has been deleted."})


@routes.add("POST", BASE + "/lifecycle/cancel-delete", "manage")
def cancel_delete(core: Core, request: Request, values: dict[str, str]) -> Response:
    person = _target(core, values)
    if person.deletion_at is None:
        raise manage_error(404, "notFound", detail="Error: No deletion to cancel")
    changes = {"account_status": "active", "deletion_at": None, "deactivated_at": None}
    core.commit(request, [["account", person.account_id, changes]], account=person)
    return ok({"message": f"Deletion of AccountId {person.account_id} has been cancelled."})


def _profile(core: Core, person: Person) -> dict[str, Any]:
    return {
        "account": {
            "account_id": person.account_id,
            "account_type": "atlassian",
            "account_status": core.world.account_status(person),
            "name": person.name,
            "picture": f"{AVATARS}/{person.index}.png",
            "email": person.email,
            "characteristics": {"not_mentionable": person.kind in ("service", "bot")},
            "nickname": person.nickname,
            "zoneinfo": person.time_zone,
            "locale": "en-US",
            "extended_profile": {
                "job_title": person.job_title,
                "organization": core.world.org_name,
                "department": person.department,
                "location": person.location,
            },
        }
    }


@routes.add("GET", BASE + "/profile", "manage")
def get_profile(core: Core, request: Request, values: dict[str, str]) -> Response:
    return ok(_profile(core, _target(core, values)))


@routes.add("PATCH", BASE + "/profile", "manage")
def change_profile(core: Core, request: Request, values: dict[str, str]) -> Response:
    person = _target(core, values)
    body = parsed(request)
    if not isinstance(body, dict):
        raise manage_error(400, "invalid.body")
    if person.locked_by is not None:
        rule = {"allowed": False, "reason": {"key": _LOCK_REASONS[person.locked_by]}}
        context = dict.fromkeys(body, rule)
        raise manage_error(403, "forbidden.fieldMutation", context=context)
    fields = {"name": "name", "nickname": "nickname", "zoneinfo": "time_zone"}
    changes = {ours: body[theirs] for theirs, ours in fields.items() if isinstance(body.get(theirs), str)}
    operations: list[Operation] = [["account", person.account_id, changes]] if changes else []
    core.commit(request, operations, account=person)
    return ok(_profile(core, person))


@routes.add("PUT", BASE + "/email", "manage")
def change_email(core: Core, request: Request, values: dict[str, str]) -> Response:
    person = _target(core, values)
    body = parsed(request)
    email = body.get("email") if isinstance(body, dict) else None
    if not isinstance(email, str):
        raise manage_error(400, "invalid.body")
    reason = _lock_reason(core, person, "email.set")
    if reason is not None:
        raise _refuse(reason)
    domain = email.rpartition("@")[2].lower()
    if domain not in core.world.domains:
        raise manage_error(403, "forbidden.unclaimedDomain", context={"domain": domain})
    core.commit(request, [["account", person.account_id, {"email": email}]], account=person)
    return no_content()


def _tokens(core: Core, person: Person) -> list[dict[str, str]]:
    """The personal API tokens of an account: none, one or two, always the same."""
    world = core.world
    count = int(stable_fraction(world.seed, "tokens", person.account_id) * 3)
    made = []
    for number in range(count):
        token_id = f"{int(stable_fraction(world.seed, person.account_id, number) * 2**52):013x}"
        if token_id not in world.revoked_tokens:
            born = world.as_of - (number + 1) * 60 * DAY_MS
            made.append(
                {
                    "id": token_id,
                    "label": ("scripts", "spreadsheet add-on")[number],
                    "createdAt": iso(born),
                    "lastAccess": iso(born + 30 * DAY_MS),
                }
            )
    return made


@routes.add("GET", BASE + "/api-tokens", "manage")
def list_tokens(core: Core, request: Request, values: dict[str, str]) -> Response:
    return json_response(200, _tokens(core, _target(core, values)))


@routes.add("DELETE", BASE + "/api-tokens/{tokenId}", "manage")
def delete_token(core: Core, request: Request, values: dict[str, str]) -> Response:
    person = _target(core, values)
    if all(token["id"] != values["tokenId"] for token in _tokens(core, person)):
        raise manage_error(404, "notFound", detail="Error: No such token")
    core.commit(request, [["token-", values["tokenId"]]], account=person)
    return no_content()
