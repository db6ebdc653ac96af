"""A client over real HTTP, an organisation that is connected and synced, and work done in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from apps.operations.models import Operation
from apps.operations.services import execute_operation, run_planning
from apps.operators.models import Operator
from apps.operators.services import create_token
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import SyncRun
from apps.users.services import request_sync, run_sync


class Api:
    """`Api(url, token).get("accounts/")`: paths are below the organisation unless they begin with a slash."""

    def __init__(self, base: str, slug: str, token: str = "", session: requests.Session | None = None) -> None:
        self._base, self._slug = base, slug
        self._session = session or requests.Session()
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, status: int | None = None, **options: Any) -> requests.Response:
        if path.startswith("http"):
            url = path
        elif path.startswith("/"):
            url = self._base + path
        else:
            url = f"{self._base}/api/v1/organizations/{self._slug}/{path}"
        answer = self._session.request(method, url, timeout=60, **options)
        if status is not None:
            assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        return answer

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, 200, params=params).json()

    def post(self, path: str, body: Any = None, status: int = 202, **options: Any) -> Any:
        return self.call("POST", path, status, json={} if body is None else body, **options).json()

    def all(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """Every row of a list, page by page."""
        rows: list[dict[str, Any]] = []
        page = self.get(path, **params)
        while True:
            rows += page["results"]
            if page["next"] is None:
                return rows
            page = self.call("GET", page["next"], 200).json()


def finish_work() -> None:
    """Do what workers would: syncs, plans, runs, until nothing is left to do."""
    for pk in SyncRun.objects.filter(status__in=SyncRun.OPEN).values_list("pk", flat=True):
        run_sync(pk, budget_seconds=None, wait_here=True)
    for pk in Operation.objects.filter(status=Operation.Status.PLANNING).values_list("pk", flat=True):
        run_planning(pk)
    for pk in Operation.objects.filter(status__in=Operation.WORKING).values_list("pk", flat=True):
        execute_operation(pk)


@pytest.fixture
def work() -> Callable[[], None]:
    return finish_work


@pytest.fixture
def organization(transactional_db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    """Connected and synced; limits that do not trip unless a test sets them."""
    organization = connect(
        sandbox, max_count=200, max_share_percent=90, max_per_day=240, activity_margin_hours=0, calls_in_flight=8
    )
    run = request_sync(organization=organization, actor=Actor.system())
    run_sync(run.pk, budget_seconds=None, wait_here=True)
    return organization


@pytest.fixture
def owner(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "owner@aum.example", "owner")


@pytest.fixture
def token(organization: Organization) -> Callable[..., str]:
    """A token of an operator with the given scopes."""

    def make(operator: Operator, *scopes: str) -> str:
        _row, secret = create_token(
            organization=organization, operator=operator, scopes=scopes, actor=Actor.operator(operator)
        )
        return secret

    return make


@pytest.fixture
def api(live_server: Any, organization: Organization, owner: Operator, token: Callable[..., str]) -> Api:
    """An owner's token with everything but approve."""
    return Api(live_server.url, organization.slug, token(owner, "read", "preview", "run", "admin"))


@pytest.fixture
def approver(
    live_server: Any, organization: Organization, operators: Callable[..., Operator], token: Callable[..., str]
) -> Api:
    """Another person's token that may approve."""
    operator = operators(organization, "approver@aum.example", "approver")
    return Api(live_server.url, organization.slug, token(operator, "read", "approve"))
