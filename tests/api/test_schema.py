"""The OpenAPI document: made without a warning, kept by the answers, and no request that breaks the server."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    missing_required_header,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from apps.notifications.models import AlertChannel
from apps.operations.models import Operation
from apps.operators.models import Operator
from apps.operators.services import create_token
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert
from apps.rules.services import RuleInput, create_rule
from apps.users.models import Account
from apps.users.services import set_exemption
from aum.wsgi import application

# They wait for Atlassian or a mail server, which is not there: an answer of 502 each, after its retries.
SLOW = "/(check|refresh|test)/"
CHECKS = [
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
# What a check itself sends requests for: once an address is enough.
DEEP_CHECKS = [*CHECKS, ignored_auth, unsupported_method, missing_required_header]
# Role → the scopes of its token; nobody sends none.
CALLERS = {
    "owner": ["read", "preview", "run", "admin"],
    "admin": ["read", "preview", "run", "admin"],
    "helpdesk": ["read", "preview", "run", "admin"],
    "viewer": ["read", "preview", "run", "admin"],
    "approver": ["read", "approve"],
    "nobody": [],
}


def test_the_document_is_made_without_a_warning(tmp_path: Path) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", file=str(tmp_path / "schema.yml"))

    assert "openapi: 3.1.0" in (tmp_path / "schema.yml").read_text()


@pytest.mark.django_db
def test_the_reference_page_runs_under_the_policy() -> None:
    client = Client()
    assert client.get("/api/docs/").status_code == 302
    assert client.get("/api/schema/").status_code in (401, 403)
    client.force_login(Operator.objects.create_user("o@aum.example", "correct horse battery"))

    page = client.get("/api/docs/")
    text = page.content.decode()

    assert page.status_code == client.get("/api/schema/").status_code == 200
    assert "script-src 'self'" in page["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=", text)
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', text):
        assert client.get(address).status_code == 200, address


def make_row(kind: str, organization: Organization, owner: Operator, number: int) -> dict[str, Any]:
    """A new row for an address of this kind, so that most requests get past "not found"; its path parameter."""
    actor = Actor.operator(owner)
    if kind == "rules":
        values = RuleInput(name=f"Rule {number}", inactive_days=30, run_at="06:00")  # type: ignore[arg-type]
        return {"id": create_rule(organization=organization, values=values, actor=actor, operator=owner).pk}
    if kind == "operations":
        row = Operation.objects.create(
            organization=organization,
            number=number,
            kind="manual_operation",
            mode="live",
            status="running",
            initiator="manual",
            actor_text="Somebody",
            name="Run",
            action="suspend",
        )
        return {"id": row.pk}
    if kind == "alerts":
        alert = raise_alert(
            organization=organization, kind="k", severity="info", title="Look", dedup_key=f"schema:{number}"
        )
        return {"id": alert.pk}
    if kind == "webhooks":
        channel = AlertChannel.objects.create(
            organization=organization,
            name=f"Hook {number}",
            kind="webhook",
            encrypted_address=b"",
            address_hint="https://hooks.example",
            edited_by_text="x",
            edited_at=timezone.now(),
            last_alert_at=timezone.now(),
        )
        return {"id": channel.pk}
    if kind not in ("accounts", "exemptions"):
        return {}
    account = Account.objects.create(
        organization=organization,
        account_id=f"account-{number}",
        name="Somebody",
        sort_name="somebody",
        account_status=1,
        membership_status=1,
        claim_status=1,
    )
    if kind == "accounts":
        return {"account_id": account.account_id}
    exemption = set_exemption(organization=organization, account=account, reason="Leave", until=None, actor=actor)
    return {"id": exemption.pk}


def attempt_with(
    place: dict[str, Any], headers: dict[str, str], examples: int, wanted: list[Any]
) -> Callable[[Any], None]:
    """A property: the address is that of `place`, the caller that of `headers`, everything else generated."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def attempt(case: Any) -> None:
        case.path_parameters |= place
        case.call_and_validate(headers=headers, checks=wanted)

    return attempt


@pytest.fixture
def plain(transactional_db: None, settings: Any) -> Organization:
    # So many requests in a minute are not what the limit is about.
    settings.AUM_API_REQUESTS_PER_MINUTE = 1_000_000
    return Organization.objects.create(slug="plain", name="Plain", org_id="p-1", api_url="http://127.0.0.1:9")


@pytest.fixture
def callers(plain: Organization, operators: Callable[..., Operator]) -> dict[str, dict[str, str]]:
    """Who calls → the headers of their requests."""
    found: dict[str, dict[str, str]] = {}
    for role, scopes in CALLERS.items():
        if not scopes:
            found[role] = {}
            continue
        operator = operators(plain, f"{role}@aum.example", role)
        _row, secret = create_token(
            organization=plain, operator=operator, scopes=scopes, actor=Actor.operator(operator)
        )
        found[role] = {"Authorization": f"Bearer {secret}"}
    return found


def walk(
    plain: Organization,
    callers: dict[str, dict[str, str]],
    who: Callable[[int], list[str]],
    examples: int,
    wanted: list[Any],
) -> int:
    """Each operation of the document as each caller that `who` names for its number; how many requests were planned."""
    owner = Operator.objects.get(email="owner@aum.example")
    schema = schemathesis.openapi.from_wsgi("/api/schema/", application, headers=callers["owner"])
    number = planned = 0
    for number, found in enumerate(schema.exclude(path_regex=SLOW).get_all_operations(), start=1):
        operation = found.ok()
        kind = operation.path.removeprefix("/api/v1/organizations/{org}/").partition("/")[0]
        strategy = operation.as_strategy()
        for turn, role in enumerate(who(number)):
            place = {"org": "plain"}
            if "{" in operation.path.partition("{org}")[2]:
                place |= make_row(kind, plain, owner, number * 10 + turn)
            given(case=strategy)(attempt_with(place, callers[role], examples, wanted))()
            planned += examples
    assert number >= 100
    return planned


def test_generated_requests_get_documented_answers(plain: Organization, callers: dict[str, dict[str, str]]) -> None:
    """Real requests through WSGI to a real database: no 500, documented statuses, bodies as described.

    Every operation by its owner, and by one of the others in turn; `script/test --full` takes all of them.
    """
    others = [role for role in CALLERS if role != "owner"]

    walk(plain, callers, lambda number: ["owner", others[number % len(others)]], 1, CHECKS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("role", [role for role in CALLERS if role != "nobody"])
def test_every_role_gets_documented_answers_to_everything(
    role: str, plain: Organization, callers: dict[str, dict[str, str]]
) -> None:
    """The same at length, with the checks that send requests of their own."""
    print(walk(plain, callers, lambda _number: [role], 20, DEEP_CHECKS), "examples as", role)
