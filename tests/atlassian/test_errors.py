"""Each error body that Atlassian is known to send, and those that are none."""

import pickle
from typing import Any

import pytest
import responses

from aum.atlassian.client import AtlassianClient
from aum.atlassian.errors import (
    AtlassianError,
    BadRequest,
    Conflict,
    Forbidden,
    LostAnswer,
    NotFound,
    RateLimited,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    error_from_answer,
    parse_error_body,
)
from tests.atlassian.conftest import API_KEY, client_for

BASE = "https://api.example.test"
SUSPEND = f"{BASE}/admin/v2/orgs/org-1/directories/dir-1/users/acc:1/suspend"


@pytest.fixture
def client() -> AtlassianClient:
    return client_for(BASE)


def admin(code: str, detail: str = "Said by Atlassian", status: int = 400) -> dict[str, Any]:
    """Shape (a) of API.md §2."""
    return {"errors": [{"id": "req-9", "code": code, "status": str(status), "title": "T", "detail": detail}]}


ROUTING = {
    "timestamp": "2026-08-31T15:42:56.847+00:00",
    "path": "/api/admin/v2/orgs/x",
    "status": 404,
    "error": "Not Found",
    "requestId": "e4cdc7ba",
    "message": "TCS validation failed",
}


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "detail", "request_id"),
    [
        (404, admin("ADMIN-UAM-404-1", status=404), NotFound, "ADMIN-UAM-404-1", "Said by Atlassian", "req-9"),
        (404, ROUTING, NotFound, "http_404", "TCS validation failed", "e4cdc7ba"),
        (401, {"code": 401, "message": "Unauthorized"}, Unauthorized, "http_401", "Unauthorized", None),
        (400, admin("ADMIN-400-24"), BadRequest, "ADMIN-400-24", "Said by Atlassian", "req-9"),
        (402, admin("ADMIN-UAM-402-1"), BadRequest, "ADMIN-UAM-402-1", "Said by Atlassian", "req-9"),
        (415, None, BadRequest, "http_415", "Atlassian did not accept the request (415).", None),
        (422, None, BadRequest, "http_422", "Atlassian did not accept the request (422).", None),
        (410, ROUTING, NotFound, "http_410", "TCS validation failed", "e4cdc7ba"),
        (403, admin("ADMIN-403-5"), Forbidden, "ADMIN-403-5", "Said by Atlassian", "req-9"),
        (403, {"message": "User has no permission to access resource."}, Forbidden, "http_403", "User has", None),
        (
            404,
            {"key": "accountNotFound", "errorKey": "account-not-found", "errorDetail": "Error: User account not found"},
            NotFound,
            "accountNotFound",
            "Error: User account not found",
            None,
        ),
        (
            409,
            {
                "key": "conflict.lifecycleErrors",
                "context": {
                    "accountId": "a",
                    "message": "Not eligible",
                    "errorCodes": [{"code": "c1", "message": "m"}],
                },
            },
            Conflict,
            "conflict.lifecycleErrors",
            "Not eligible (m)",
            None,
        ),
        (
            400,
            {"errorMessages": ["One.", ""], "errors": {"name": "bad"}},
            BadRequest,
            "http_400",
            "One. name: bad",
            None,
        ),
        (404, {"errorMessage": "Request not found", "i18nErrorMessage": {}}, NotFound, "http_404", "Request not", None),
        (403, {"errorMessages": []}, Forbidden, "http_403", "Atlassian refused this.", None),
        (
            403,
            {"code": "ADMIN-403-3", "detail": "bare", "id": "i1", "status": "403", "title": "T"},
            Forbidden,
            "ADMIN-403-3",
            "bare",
            "i1",
        ),
    ],
)
def test_a_known_error_body_becomes_its_error(
    status: int, body: Any, kind: type[AtlassianError], code: str, detail: str, request_id: str | None, client: Any
) -> None:
    with responses.RequestsMock() as http:
        http.post(SUSPEND, json=body, status=status) if body is not None else http.post(SUSPEND, status=status)

        with pytest.raises(kind) as caught:
            client.suspend("acc:1", "dir-1")

    error = caught.value
    assert (error.status, error.code, error.request_id) == (status, code, request_id)
    assert error.detail.startswith(detail)
    assert error.advice
    assert len(error.call_id) == 32


@pytest.mark.parametrize(
    "content", [b"", b"<html><body>Oops</body></html>", b"\xff\xfe\x00", b"[1,2]", b'"text"', b"{"]
)
def test_a_body_that_says_nothing_leaves_the_status_to_decide(content: bytes) -> None:
    error = error_from_answer(
        status=404, content=content, content_type="", request_id=None, call_id="c", is_write=False
    )

    assert isinstance(error, NotFound)
    assert error.code == "http_404"


@pytest.mark.parametrize("key", ["forbidden.insufficientScope", "forbidden.insufficient-scope"])
def test_a_scoped_key_is_named_when_user_management_refuses_it(key: str) -> None:
    body = f'{{"key": "{key}", "context": {{"message": "Insufficient scope for this action"}}}}'

    error = error_from_answer(
        status=403, content=body.encode(), content_type="application/json", request_id=None, call_id="", is_write=True
    )

    assert isinstance(error, Forbidden)
    assert error.insufficient_scope
    assert "without scopes" in error.advice


@pytest.mark.parametrize(
    ("reason", "elsewhere"),
    [
        ("externalDirectory.scim", True),
        ("externalDirectory.google", True),
        ("authPolicy.saml", True),
        ("mystery", False),
    ],
)
def test_an_account_managed_elsewhere_is_told_apart_by_its_reason(reason: str, elsewhere: bool) -> None:
    body = f'{{"key": "forbidden.action", "context": {{"allowed": false, "reason": {{"key": "{reason}"}}}}}}'

    error = error_from_answer(
        status=403, content=body.encode(), content_type="application/json", request_id=None, call_id="", is_write=True
    )

    assert isinstance(error, Forbidden)
    assert error.reason_key == reason
    assert error.managed_elsewhere is elsewhere


@pytest.mark.parametrize(
    ("code", "member", "licence"),
    [
        ("ADMIN-UAM-409-2", True, False),
        ("ADMIN-UAM-409-3", False, True),
        ("ADMIN-409-3", False, True),
        ("ADMIN-409-28", False, False),
    ],
)
def test_a_conflict_is_told_apart_by_its_code(code: str, member: bool, licence: bool, client: AtlassianClient) -> None:
    url = f"{BASE}/admin/v1/orgs/org-1/users/acc:1/roles/assign"
    with responses.RequestsMock() as http:
        http.post(url, json=admin(code), status=409)

        with pytest.raises(Conflict) as caught:
            client.assign_role("acc:1", "atlassian/user", "ari:x")

    assert (caught.value.already_member, caught.value.licence_limit) == (member, licence)


@responses.activate
def test_an_existing_member_is_no_error_when_added_again(client: AtlassianClient) -> None:
    url = f"{BASE}/admin/v2/orgs/org-1/directories/dir-1/groups/g-1/memberships"
    responses.post(url, json=admin("ADMIN-UAM-409-2"), status=409)

    answer = client.add_to_group("acc:1", "g-1", "dir-1")

    assert answer.already
    assert answer.request_id == "req-9"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a_server_error_leaves_a_write_in_doubt_and_a_read_unavailable(status: int) -> None:
    answer: dict[str, Any] = {
        "status": status,
        "content": b"<html>",
        "content_type": "text/html",
        "request_id": None,
        "call_id": "",
    }

    assert type(error_from_answer(**answer, is_write=True)) is LostAnswer
    assert type(error_from_answer(**answer, is_write=False)) is Unavailable


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_an_error_and_is_not_followed(status: int, client: AtlassianClient) -> None:
    with responses.RequestsMock() as http:
        http.get(f"{BASE}/admin/v1/orgs/org-1", status=status, headers={"Location": "https://evil.example/"})

        with pytest.raises(UnexpectedAnswer) as caught:
            client.get_org()

        assert len(http.calls) == 1
    assert caught.value.code == "redirect"


@responses.activate
def test_a_redirected_write_is_in_doubt(client: AtlassianClient) -> None:
    responses.post(SUSPEND, status=302, headers={"Location": "https://evil.example/"})

    with pytest.raises(LostAnswer):
        client.suspend("acc:1", "dir-1")


@responses.activate
def test_an_html_page_with_status_200_is_no_answer(client: AtlassianClient) -> None:
    responses.get(f"{BASE}/admin/v1/orgs/org-1", body="<!doctype html><title>Log in</title>", content_type="text/html")
    responses.post(SUSPEND, body="<!doctype html><title>Log in</title>", content_type="text/html")

    with pytest.raises(UnexpectedAnswer, match="HTML"):
        client.get_org()
    with pytest.raises(LostAnswer):
        client.suspend("acc:1", "dir-1")


@responses.activate
def test_atlassians_request_id_comes_from_the_headers_first(client: AtlassianClient) -> None:
    responses.post(SUSPEND, json=admin("ADMIN-UAM-403-1"), status=403, headers={"Atl-Traceid": "trace-1"})

    with pytest.raises(Forbidden) as caught:
        client.suspend("acc:1", "dir-1")

    assert caught.value.request_id == "trace-1"
    assert "trace-1" in str(caught.value)


@responses.activate
def test_a_credential_echoed_by_an_error_body_is_hidden(client: AtlassianClient) -> None:
    responses.post(SUSPEND, json=admin("ADMIN-400-24", detail=f"bad token {API_KEY}"), status=400)

    with pytest.raises(BadRequest) as caught:
        client.suspend("acc:1", "dir-1")

    assert API_KEY not in repr(caught.value) + str(caught.value)
    assert "[hidden]" in caught.value.detail


def test_a_long_detail_is_cut_and_made_one_line() -> None:
    body = parse_error_body(b'{"message": "' + b"x\\n\\u0007" * 1000 + b'"}', "application/json")

    assert len(body.detail) == 500
    assert body.detail.isprintable()


def test_errors_survive_pickling_with_their_fields() -> None:
    error = RateLimited("wait", wait_seconds=3.5, reason="jira-burst-based", status=429, call_id="c1")

    copy = pickle.loads(pickle.dumps(error))

    assert (copy.wait_seconds, copy.reason, copy.status, copy.call_id) == (3.5, "jira-burst-based", 429, "c1")
