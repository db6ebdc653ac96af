"""The check of credentials against the sandbox: each wrong value is named, with what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from apps.sandbox.server import Sandbox
from aum.atlassian.client import Connection
from aum.atlassian.limiter import NullLimiter
from aum.atlassian.probe import CAPABILITIES, CapabilityResult, probe
from tests.atlassian.conftest import Answer, ServerFactory, sandbox_connection


@pytest.fixture(autouse=True)
def no_pause_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)


def check(connection: Connection) -> dict[str, CapabilityResult]:
    results = probe(connection, NullLimiter())
    assert [result.capability for result in results] == list(CAPABILITIES)
    shown = repr(results)
    for secret in (connection.api_key, connection.api_token):
        assert not secret or secret not in shown
    return {result.capability: result for result in results}


def test_good_values_pass_every_check(sandbox: Sandbox) -> None:
    results = check(sandbox_connection(sandbox))

    assert {name: result.code for name, result in results.items()} == dict.fromkeys(CAPABILITIES, "ok")


@pytest.mark.parametrize(
    ("credential", "code", "words"),
    [
        ("expired_key", "http_401", "expired"),
        ("unknown_key", "http_401", "mistyped"),
        ("api_token", "wrong_kind", "personal API token"),
    ],
)
def test_a_wrong_api_key_is_named(credential: str, code: str, words: str, sandbox: Sandbox) -> None:
    key = getattr(sandbox.credentials, credential)

    results = check(sandbox_connection(sandbox, api_key=key))

    assert (results["api_key"].code, results["api_key"].value) == (code, "api_key")
    assert words in results["api_key"].detail
    assert "without scopes" in results["api_key"].detail
    assert results["org_id"].code == "not_checked"
    assert "api_key" in results["list_people"].detail
    assert results["api_token"].ok


def test_a_key_with_scopes_is_told_apart_from_a_wrong_one(sandbox: Sandbox) -> None:
    results = check(sandbox_connection(sandbox, api_key=sandbox.credentials.scoped_key))

    assert results["api_key"].ok
    assert (results["unscoped_key"].code, results["unscoped_key"].value) == ("insufficient_scope", "api_key")
    assert "without scopes" in results["unscoped_key"].detail
    assert not results["list_people"].ok


def test_a_wrong_organisation_id_is_named_beside_the_right_one(sandbox: Sandbox) -> None:
    results = check(sandbox_connection(sandbox, org_id="0000-not-this-one"))

    assert (results["org_id"].code, results["org_id"].value) == ("wrong_org_id", "org_id")
    assert sandbox.credentials.org_id in results["org_id"].detail


@pytest.mark.parametrize("org_id", ["../orgs", "a b", "x" * 300])
def test_an_organisation_id_that_cannot_be_one_is_named(org_id: str, sandbox: Sandbox) -> None:
    assert check(sandbox_connection(sandbox, org_id=org_id))["org_id"].value == "org_id"


@pytest.mark.parametrize(
    ("changes", "code", "value"),
    [
        ({"api_token": "wrong"}, "http_401", "api_token"),
        ({"email": "somebody@else.example"}, "http_401", "api_token"),
        ({"email": ""}, "credential_missing", "email"),
        ({"api_token": ""}, "credential_missing", "api_token"),
    ],
)
def test_a_wrong_personal_token_is_named(changes: dict[str, Any], code: str, value: str, sandbox: Sandbox) -> None:
    results = check(sandbox_connection(sandbox, **changes))

    assert (results["api_token"].code, results["api_token"].value) == (code, value)
    assert results["jira"].code == "not_checked"
    assert results["list_people"].ok


def test_an_organisation_key_in_place_of_the_token_is_named(sandbox: Sandbox) -> None:
    results = check(sandbox_connection(sandbox, api_token=sandbox.credentials.api_key))

    assert (results["api_token"].code, results["api_token"].value) == ("wrong_kind", "api_token")


def test_a_scoped_personal_token_works_through_the_gateway(sandbox: Sandbox) -> None:
    results = check(sandbox_connection(sandbox, api_token=sandbox.credentials.scoped_token))

    assert all(results[name].ok for name in ("api_token", "jira", "jsm"))


def test_a_site_that_is_not_atlassians_gets_no_credential(sandbox: Sandbox, serve: ServerFactory) -> None:
    other = serve(lambda seen: Answer(200, b"<html>Shop</html>", content_type="text/html"))

    results = check(sandbox_connection(sandbox, site_url=other.url))

    assert (results["reach"].code, results["reach"].value) == ("not_atlassian_site", "site_url")
    assert results["list_people"].ok
    assert [("authorization" in seen.headers) for seen in other.seen] == [False]


def test_hosts_that_do_not_answer_are_told_apart(sandbox: Sandbox) -> None:
    nowhere = "http://127.0.0.1:9"

    site = check(sandbox_connection(sandbox, site_url=nowhere))["reach"]
    api = check(sandbox_connection(sandbox, api_url=nowhere))

    assert (site.code, site.value) == ("connect_failed", "site_url")
    assert (api["reach"].code, api["reach"].value) == ("connect_failed", "")
    assert api["api_key"].code == "not_checked"


def test_missing_activity_is_found(sandbox: Sandbox) -> None:
    connection = sandbox_connection(sandbox)
    sandbox.control.post("faults", {"kind": "error", "path": "users/search", "status": 500})

    results = check(connection)

    assert not results["list_people"].ok
    assert not results["last_activity"].ok
    assert results["list_people"].value == ""
    assert results["groups"].ok


def test_an_organisation_without_people_passes(sandbox: Sandbox) -> None:
    sandbox.control.post("faults", {"kind": "drop_people", "percent": 100})

    results = check(replace(sandbox_connection(sandbox), organization_key="empty"))

    assert results["list_people"].ok
    assert results["last_activity"].ok
    assert results["unscoped_key"].ok
