"""The shared loader: it must accept what is documented and refuse what is not, or contract tests prove nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract import specs

pytestmark = specs.needs_documents

SEARCH = "/admin/v2/orgs/org-1/directories/-/users/search"


def test_all_four_documents_load() -> None:
    counts = {
        name: len(specs.operations(name)) for name in (specs.ORGANIZATION, specs.USER_MANAGEMENT, specs.JIRA, specs.JSM)
    }

    assert counts[specs.ORGANIZATION] == 47
    assert all(counts.values())


def test_literal_segment_wins_over_parameter_when_both_match() -> None:
    template, _, _ = specs.find_operation(specs.ORGANIZATION, "GET", "/v2/orgs/o/directories/d/users/count")

    assert template.endswith("/users/count")


@pytest.mark.parametrize(
    "body",
    [
        None,
        {"limit": 100, "expand": ["productAccess", "groups"]},
        {"emails": ["a@example.com"], "accountStatus": ["active"]},
    ],
)
def test_documented_request_is_accepted(body: dict[str, Any] | None) -> None:
    specs.validate_request(specs.ORGANIZATION, "POST", SEARCH, None, body)


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("POST", SEARCH, None, {"limit": "100"}),
        ("POST", SEARCH, None, {"limitt": 100}),
        ("POST", SEARCH, {"limit": 100}, {}),
        ("POST", SEARCH, None, {"expand": ["everything"]}),
        ("POST", "/v1/orgs/o/users/search", None, {}),
        ("POST", "/v2/orgs/o/directories/d/users/u/suspend", None, {"message": "bye"}),
        ("POST", "/v2/orgs/o/directories/d/groups/g/role-assignments/assign", None, {"resourceId": "r"}),
        ("GET", "/v2/orgs/o/directories", {"limit": "many"}, None),
    ],
)
def test_undocumented_request_is_refused(method: str, path: str, query: dict[str, Any] | None, body: Any) -> None:
    with pytest.raises(specs.ContractError):
        specs.validate_request(specs.ORGANIZATION, method, path, query, body)


def test_empty_object_is_accepted_where_no_body_is_documented() -> None:
    specs.validate_request(specs.ORGANIZATION, "POST", "/v2/orgs/o/directories/d/users/u/suspend", None, {})


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"data": [{"accountId": 7}], "links": {}}),
        (200, {"data": [], "links": {}, "surprise": 1}),
        (418, None),
    ],
)
def test_undocumented_response_is_refused(status: int, body: Any) -> None:
    with pytest.raises(specs.ContractError):
        specs.validate_response(specs.ORGANIZATION, "POST", SEARCH, status, body)


def test_body_is_refused_when_none_is_documented() -> None:
    path = "/v2/orgs/o/directories/d/users/u/suspend"

    specs.validate_response(specs.ORGANIZATION, "POST", path, 204, None)
    with pytest.raises(specs.ContractError):
        specs.validate_response(specs.ORGANIZATION, "POST", path, 204, {})
