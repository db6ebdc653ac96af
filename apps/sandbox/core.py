"""What one request goes through: who asks, which faults strike, which handler answers, what is recorded."""

from __future__ import annotations

import base64
import calendar
import copy
import hashlib
import itertools
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from apps.sandbox import (
    access_api,
    audit_api,
    control_api,
    groups_api,
    jira_api,
    jira_issues_api,
    jsm_api,
    manage_api,
    organization_api,
    users_api,
)
from apps.sandbox.errors import ApiError, admin_error, jira_error, jsm_error, manage_error, proxy_error, routing_error
from apps.sandbox.faults import Faults, endpoint_family
from apps.sandbox.generate import generate
from apps.sandbox.http import Request, Response
from apps.sandbox.ledger import Ledger, load_or_make
from apps.sandbox.routing import Route, Router
from apps.sandbox.world import DELETION_GRACE_MS, Group, Operation, Person, World

APIS = (
    organization_api,
    users_api,
    groups_api,
    access_api,
    audit_api,
    manage_api,
    jira_api,
    jira_issues_api,
    jsm_api,
    control_api,
)
REQUESTS_KEPT = 50_000
BEST_EFFORT_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Credentials:
    """Every secret the sandbox knows, good and bad. They open nothing but this sandbox."""

    org_id: str
    cloud_id: str
    email: str
    account_id: str
    api_key: str
    scoped_key: str
    expired_key: str
    unknown_key: str
    api_token: str
    scoped_token: str
    bad_api_token: str
    bad_org_id: str


@dataclass(slots=True)
class Policy:
    """How the sandbox behaves where Atlassian's documents say nothing. Settable over the control address."""

    # Status for suspending the suspended and restoring the active: 204 or 400.
    repeat_status: int = 204
    # Whether suspending a person from an identity provider works ("allow") or is refused ("refuse").
    synced_suspend: str = "allow"
    # Whether `status` in a list speaks for the organisation, as the document says, or for the directory in the path.
    membership_status: str = "organisation"
    # Calls per minute and path of the audit log, which Atlassian limits to 10. 0 = no limit.
    events_per_minute: int = 10


class Core:
    """One organisation with its ledger, faults and log. `handle` is safe to call from many threads."""

    def __init__(
        self,
        *,
        people: int | None = None,
        seed: int | None = None,
        state_dir: Path | None = None,
        as_of: int | None = None,
    ) -> None:
        now = int(time.time() * 1000) if as_of is None else as_of
        made = load_or_make(state_dir, people=people, seed=seed, as_of=now)
        self.parameters = made
        self.ledger = Ledger(state_dir)
        self.policy = Policy()
        self.faults = Faults(self)
        self.world: World
        self._build()
        for operation in self.ledger.operations():
            self.world.apply(operation)
        self.sweep_deleted()
        self.requests: deque[dict[str, Any]] = deque(maxlen=REQUESTS_KEPT)
        self.in_flight = 0
        self._request_numbers = itertools.count(1)
        self._boot = hashlib.blake2b(str(time.time_ns()).encode(), digest_size=4).hexdigest()
        self._router = Router(*(module.routes for module in APIS))
        self._events_calls: dict[str, list[float]] = {}

    def _build(self) -> None:
        self.world = generate(**self.parameters)
        self.credentials = _credentials(self.world)
        self.license_counts: tuple[int, dict[str, int]] = (0, {})

    def reset(self) -> None:
        """Back to the generated organisation: no writes, no faults, no log."""
        with self.world.lock:
            self.ledger.clear()
            self.faults.clear()
            self.policy = Policy()
            self.requests.clear()
            lock = self.world.lock
            self._build()
            self.world.lock = lock

    def close(self) -> None:
        self.ledger.close()

    # -- recording

    def commit(
        self,
        request: Request,
        operations: list[Operation],
        *,
        account: Person | str | None = None,
        group: Group | str | None = None,
        effect: str | None = None,
    ) -> dict[str, Any]:
        """Write the operations to the ledger, then apply them. No operations = the write changed nothing."""
        with self.world.lock:
            entry = self.ledger.append(
                {
                    "at": self.world.now(),
                    "method": request.method,
                    "path": request.full_path or request.path,
                    "actor": request.key,
                    "account": account.account_id if isinstance(account, Person) else account,
                    "group": group.id if isinstance(group, Group) else group,
                    "effect": effect or ("changed" if operations else "no_change"),
                    "request_id": request.request_id,
                    "operations": copy.deepcopy(operations),
                }
            )
            for operation in operations:
                self.world.apply(operation)
            return entry

    def sweep_deleted(self) -> None:
        """Make final what is past its 14 days. The operations follow from the clock, so they are not in the ledger."""
        with self.world.lock:
            limit = self.world.now() - DELETION_GRACE_MS
            for person in self.world.people:
                if person.deletion_at is not None and person.deletion_at <= limit:
                    self.world.apply(["erase", person.account_id])

    # -- one request

    def handle(self, request: Request) -> Response:
        request.request_id = f"{self._boot}-{next(self._request_numbers):08x}"
        request.full_path = request.path
        if request.path.startswith("/_control/"):
            request.key = "control"
            return self._guarded(request, lambda: self._dispatch(request))
        entry = {
            "seq": 0,
            "started_mono_ms": request.started_mono_ms,
            "started_wall_ms": request.started_wall_ms,
            "finished_mono_ms": None,
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "status": None,
            "key": "-",
            "request_id": request.request_id,
            "wait_seconds": None,
            "family": None,
            "fault": None,
            "in_flight": 0,
        }
        with self.world.lock:
            self.in_flight += 1
            entry["in_flight"] = self.in_flight
            entry["seq"] = (self.requests[-1]["seq"] if self.requests else 0) + 1
            self.requests.append(entry)
        try:
            response = self._guarded(request, lambda: self._answer(request, entry))
        finally:
            with self.world.lock:
                self.in_flight -= 1
        entry["key"] = request.key
        entry["family"] = endpoint_family(request)
        entry["status"] = None if response.drop else response.status
        entry["finished_mono_ms"] = time.monotonic() * 1000
        if response.status in (429, 503):
            entry["wait_seconds"] = _wait_seconds(response)
        return response

    def _guarded(self, request: Request, work: Callable[[], Response]) -> Response:
        try:
            response = work()
        except ApiError as error:
            response = error.response
        except Exception:
            # A fault of the sandbox itself: say so on its log, and answer as a server does.
            traceback.print_exc()
            response = admin_error("ADMIN-500-1", "The sandbox failed; its log says where").response
        response.headers.setdefault("X-Request-Id", request.request_id)
        response.headers.setdefault("Atl-Traceid", request.request_id.replace("-", ""))
        return response

    def _answer(self, request: Request, entry: dict[str, Any]) -> Response:
        self._enter_site(request)
        request.key = self._who(request)
        faulty = self.faults.before(request, entry)
        if faulty is not None:
            return faulty
        try:
            response = self._dispatch(request)
        except ApiError as error:
            response = error.response
        if request.path.startswith(("/admin/", "/users/")):
            for name, value in self.faults.limit_headers(request).items():
                response.headers.setdefault(name, value)
        return self.faults.after(request, response, entry)

    def _enter_site(self, request: Request) -> None:
        """Take off the prefix that names a site, and remember the site."""
        parts = request.path.split("/", 4)
        if request.path.startswith("/_site/") and len(parts) > 3:
            site = next((s for s in self.world.sites if s.name == parts[2]), None)
            request.path = "/" + "/".join(parts[3:])
        elif request.path.startswith("/ex/jira/") and len(parts) > 4:
            site = next((s for s in self.world.sites if s.cloud_id == parts[3]), None)
            request.path = "/" + parts[4]
            request.through_gateway = True
        else:
            return
        if site is None:
            raise routing_error(404, "Not Found", "No such site", request.full_path, request.request_id)
        request.site = site.index

    def _who(self, request: Request) -> str:
        """Which credential was sent, by its name in `Credentials`; "none" or "unknown" otherwise."""
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        known = self.credentials
        if kind.lower() == "bearer":
            for name in ("api_key", "scoped_key", "expired_key", "api_token", "scoped_token"):
                if value == getattr(known, name):
                    return name
            return "unknown"
        if kind.lower() == "basic":
            try:
                email, _, token = base64.b64decode(value, validate=True).decode().partition(":")
            except ValueError:
                return "unknown"
            if email.lower() == known.email.lower():
                for name in ("api_token", "scoped_token", "api_key"):
                    if token == getattr(known, name):
                        return f"basic:{name}"
            return "unknown"
        return "none"

    def _dispatch(self, request: Request) -> Response:
        route, values, exists = self._router.find(request.method, request.path)
        if route is None:
            raise self._no_route(request, exists)
        self._authorize(route, request)
        if route.family in ("v1", "v2", "workspaces", "gone"):
            self._check_organisation(route, request, values)
        with self.world.lock:
            response = route.handler(self, request, values)
        for name, value in route.headers:
            response.headers[name] = value
        return response

    def _no_route(self, request: Request, exists: bool) -> ApiError:
        if request.path.startswith("/rest/"):
            return jira_error(405 if exists else 404, "No operation at this address")
        if exists:
            return admin_error("ADMIN-405-1", f"{request.method} is not supported here")
        return routing_error(404, "Not Found", "TCS validation failed", request.full_path, request.request_id)

    def _authorize(self, route: Route, request: Request) -> None:
        key = request.key
        if route.family in ("open", "control"):
            return
        if route.family == "site":
            wanted = "basic:scoped_token" if request.through_gateway else "basic:api_token"
            if key != wanted:
                refuse = jsm_error if request.path.startswith("/rest/servicedeskapi/") else jira_error
                raise refuse(401, "Client must be authenticated to access this resource.")
            return
        if key == "api_key" and not self.faults.key_has_expired(request):
            return
        if key == "scoped_key":
            if route.scope is None:
                raise self._insufficient_scope(route, request)
            return
        raise self._unauthenticated(route)

    def _unauthenticated(self, route: Route) -> ApiError:
        if route.family == "manage":
            return manage_error(401, "unauthorized")
        if route.family == "v2":
            return admin_error("ADMIN-UAM-401-1", "The API key is missing, wrong or expired")
        return proxy_error(401, "Unauthorized")

    def _insufficient_scope(self, route: Route, request: Request) -> ApiError:
        if route.family == "manage":
            context = {
                "message": "Insufficient scope for this action",
                "acceptableScopes": ["manage:org", "manage:me:DUMMYSCOPE"],
            }
            return manage_error(
                403, "forbidden.insufficientScope", context=context, error_key="forbidden.insufficient-scope"
            )
        return admin_error(
            "ADMIN-UAM-403-1",
            "insufficientScope: no scope of this API key allows the call",
            request_id=request.request_id,
        )

    def _check_organisation(self, route: Route, request: Request, values: dict[str, str]) -> None:
        if "orgId" in values and values["orgId"] != self.world.org_id:
            if route.family == "v2":
                raise admin_error("ADMIN-UAM-404-2", "No such organisation", request_id=request.request_id)
            raise admin_error("ADMIN-404-2", "No such organisation", bare=route.family == "workspaces")
        if route.family == "gone":
            raise routing_error(410, "Gone", "This API was removed", request.full_path, request.request_id)

    # -- shared by the handlers

    def events_allowed(self, request: Request) -> float | None:
        """None when the audit log may be read now, else the seconds to wait."""
        limit = self.policy.events_per_minute
        if not limit:
            return None
        calls = self._events_calls.setdefault(f"{request.key} {request.path}", [])
        at = time.monotonic()
        calls[:] = [call for call in calls if call > at - 60]
        if len(calls) >= limit:
            return calls[0] + 60 - at
        calls.append(at)
        return None

    def policy_dict(self) -> dict[str, Any]:
        return asdict(self.policy)

    def change_policy(self, changes: dict[str, Any]) -> None:
        """Set some fields; TypeError for one that does not exist."""
        self.policy = replace(self.policy, **changes)


def _wait_seconds(response: Response) -> float | None:
    """How long the answer says to wait: by Retry-After, else by the reset, else None."""
    if "Retry-After" in response.headers:
        return float(response.headers["Retry-After"])
    reset = response.headers.get("X-RateLimit-Reset")
    if reset is None:
        return None
    return max(0.0, calendar.timegm(time.strptime(reset, "%Y-%m-%dT%H:%M:%SZ")) - time.time())


def _credentials(world: World) -> Credentials:
    def secret(label: str) -> str:
        digest = hashlib.blake2b(f"{world.org_id}/{label}".encode(), digest_size=24).digest()
        return f"sandbox-{label}-" + base64.urlsafe_b64encode(digest).decode().rstrip("=")

    owner = world.people[world.owner]
    return Credentials(
        org_id=world.org_id,
        cloud_id=world.sites[0].cloud_id,
        email=owner.email,
        account_id=owner.account_id,
        api_key=secret("key"),
        scoped_key=secret("scoped-key"),
        expired_key=secret("expired-key"),
        unknown_key=secret("unknown-key"),
        api_token=secret("token"),
        scoped_token=secret("scoped-token"),
        bad_api_token=secret("bad-token"),
        bad_org_id="00000000-0000-4000-8000-000000000000",
    )
