"""What calls do with their answers: parsing, retries, lost answers, the gateway for scoped tokens."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
import responses

from aum.atlassian.client import AtlassianClient, CallRecord
from aum.atlassian.errors import (
    BadRequest,
    LostAnswer,
    NotFound,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from aum.atlassian.schemas import GroupRef, InviteGrant, ProductActivity, RoleAssignment
from tests.atlassian.conftest import API_TOKEN, Answer, ScriptedServer, Seen, ServerFactory, client_for

BASE = "https://api.example.test"
ARI = "ari:cloud:jira-software::site/1"
V2 = f"{BASE}/admin/v2/orgs/org-1/directories"


@pytest.fixture(autouse=True)
def no_pause_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)


@pytest.fixture
def client() -> AtlassianClient:
    return client_for(BASE)


# --- answers


@responses.activate
def test_a_person_comes_with_three_valued_activity(client: AtlassianClient) -> None:
    rows = [
        {
            "accountId": "a:1",
            "name": "Zoë \u0000 \ud800",
            "email": "",
            "status": "active",
            "accountStatus": "active",
            "membershipStatus": "active",
            "claimStatus": "managed",
            "accountType": "atlassian",
            "managementSource": None,
            "addedToOrg": "2024-01-03T09:12:44.000Z",
            "platformRoles": ["atlassian/org-admin"],
            "productAccess": [
                {"id": ARI, "key": "jira-software", "lastActiveTimestamp": "2026-11-20T09:31:05+01:00"},
                {"id": ARI, "key": "confluence", "lastActiveTimestamp": None},
            ],
            "groups": [{"id": "g-1", "name": None, "description": None}],
            "futureField": {"x": 1},
        },
        {"accountId": "a:2", "productAccess": [], "groups": [], "platformRoles": []},
        {"accountId": "a:3", "productAccess": None, "status": "quantum"},
    ]
    responses.post(f"{V2}/-/users/search", json={"data": rows, "links": {"next": "c2"}})

    page = client.search_users()

    full, never, unknown = page.items
    assert page.next_cursor == "c2"
    assert full.name == "Zoë  ?"
    assert full.email is None
    assert full.platform_roles == ("atlassian/org-admin",)
    assert full.added_to_org_at == datetime(2024, 1, 3, 9, 12, 44, tzinfo=UTC)
    assert full.products == (
        ProductActivity(ARI, "jira-software", datetime(2026, 11, 20, 8, 31, 5, tzinfo=UTC)),
        ProductActivity(ARI, "confluence", None),
    )
    assert full.groups == (GroupRef("g-1", ""),)
    assert (never.products, never.groups, never.platform_roles_given) == ((), (), True)
    assert (unknown.products, unknown.groups, unknown.platform_roles_given) == (None, None, False)
    assert unknown.status == "quantum"
    assert unknown.unknown_values == ("status=quantum",)


@pytest.mark.parametrize("entry", [{"id": ARI}, "jira", None, {"key": ""}])
@responses.activate
def test_unreadable_activity_is_unknown_and_never_never(entry: Any, client: AtlassianClient) -> None:
    row = {"accountId": "a:1", "productAccess": [entry]}
    responses.post(f"{V2}/-/users/search", json={"data": [row]})

    (person,) = client.search_users().items

    assert person.products is None
    assert person.unknown_values


@responses.activate
def test_an_unreadable_date_is_not_given_and_is_reported(client: AtlassianClient) -> None:
    row = {"accountId": "a:1", "productAccess": [{"id": ARI, "key": "jira", "lastActiveTimestamp": "yesterday"}]}
    responses.post(f"{V2}/-/users/search", json={"data": [row]})

    (person,) = client.search_users().items

    assert person.products == (ProductActivity(ARI, "jira", None),)
    assert person.unknown_values == ("lastActiveTimestamp=yesterday",)


@pytest.mark.parametrize(
    "body",
    [
        {"data": [{"account_id": "snake-case"}]},
        {"data": [{"accountId": ""}]},
        {"data": [{"accountId": None}]},
        {"data": ["a:1"]},
        {"data": None},
        {"data": {"accountId": "a:1"}},
        {"users": []},
        [],
        None,
        "text",
    ],
)
@responses.activate
def test_an_answer_of_another_shape_is_an_error_and_not_an_empty_list(body: Any, client: AtlassianClient) -> None:
    responses.post(f"{V2}/-/users/search", json=body, headers={"X-Request-Id": "r-1"})

    with pytest.raises(UnexpectedAnswer) as caught:
        client.search_users()

    assert (caught.value.status, caught.value.request_id) == (200, "r-1")
    assert caught.value.call_id


@responses.activate
def test_rechecked_people_are_asked_for_ten_at_a_time_and_strangers_dropped(client: AtlassianClient) -> None:
    asked: list[list[str]] = []

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        ids = json.loads(request.body or b"{}")["accountIds"]
        asked.append(ids)
        # Filters have been ignored before: a stranger comes along, and the last one is not there.
        rows = [{"accountId": account_id} for account_id in ids if account_id != "a:22"] + [{"accountId": "x:9"}]
        return 200, {}, json.dumps({"data": rows})

    responses.add_callback(responses.POST, f"{V2}/-/users/search", callback=answer)

    found = client.find_users([f"a:{n}" for n in range(23)] + ["a:0"])

    assert [len(ids) for ids in asked] == [10, 10, 3]
    assert set(found) == {f"a:{n}" for n in range(22)}


def test_more_filter_values_than_documented_are_refused_here(client: AtlassianClient) -> None:
    with pytest.raises(ValueError, match="accountIds"):
        client.search_users(account_ids=["a"] * 11)
    with pytest.raises(ValueError, match="both"):
        client.search_users(emails=["a@b.c"], search_term="a")
    with pytest.raises(ValueError, match="25"):
        client.invite(["a@b.c"] * 26)


@responses.activate
def test_roles_are_flat_and_tell_how_they_came(client: AtlassianClient) -> None:
    rows = [
        {
            "resourceId": ARI,
            "resourceOwner": "jira-software",
            "directoryId": "d-1",
            "userDirectoryStatus": "suspended",
            "roles": ["atlassian/user", "atlassian/admin"],
            "roleAssignments": [{"role": "atlassian/user", "roleAssignmentMethods": ["direct", "group_direct"]}],
        },
        {"resourceId": "ari:2", "roles": None, "roleAssignments": None, "directoryId": None},
    ]
    responses.get(f"{V2}/-/users/a:1/role-assignments", json={"data": rows, "links": {}})

    assignments, statuses = client.role_assignments("a:1")

    assert assignments == [
        RoleAssignment(ARI, "jira-software", "atlassian/user", ("direct", "group_direct"), "d-1"),
        RoleAssignment(ARI, "jira-software", "atlassian/admin", (), "d-1"),
    ]
    assert [(s.directory_id, s.status) for s in statuses] == [("d-1", "suspended")]


@responses.activate
def test_last_active_dates_come_from_every_page(client: AtlassianClient) -> None:
    url = f"{BASE}/admin/v1/orgs/org-1/directory/users/a:1/last-active-dates"
    first = {
        "data": {
            "product_access": [{"id": ARI, "key": "jira-software", "last_active": "2026-11-01"}],
            "added_to_org": "2024-05-01",
            "added_to_org_timestamp": None,
        },
        "links": {"next": "c2"},
    }
    second = {
        "data": {"product_access": [{"id": "x", "key": "trello", "last_active_timestamp": "2026-10-01T00:00:01Z"}]}
    }
    responses.get(url, json=first, match=[responses.matchers.query_param_matcher({})])
    responses.get(url, json=second, match=[responses.matchers.query_param_matcher({"cursor": "c2"})])

    products, added_at = client.last_active("a:1")

    assert [(p.key, p.last_active_at) for p in products] == [
        ("jira-software", datetime(2026, 11, 1, tzinfo=UTC)),
        ("trello", datetime(2026, 10, 1, 0, 0, 1, tzinfo=UTC)),
    ]
    assert added_at == datetime(2024, 5, 1, tzinfo=UTC)


@responses.activate
def test_never_active_is_an_empty_list_and_a_missing_list_an_error(client: AtlassianClient) -> None:
    url = f"{BASE}/admin/v1/orgs/org-1/directory/users/a:1/last-active-dates"
    responses.get(url, json={"data": {"product_access": [], "added_to_org": None}})
    responses.get(url, json={"data": {"added_to_org": None}})

    assert client.last_active("a:1").products == ()
    with pytest.raises(UnexpectedAnswer):
        client.last_active("a:1")


@responses.activate
def test_an_invite_tells_of_each_address(client: AtlassianClient) -> None:
    good = {"resource": ARI, "role": "atlassian/user", "status": "INVITED", "statusReason": None}
    full = {**good, "status": "ERROR", "statusReason": "License limit exceeded"}
    in_group = {"group": "g-1", "status": "INVITED", "statusReason": None}
    rows = [
        {"id": "a:1", "email": "One@example.com", "results": [{"roleAssignmentResult": [good]}]},
        {
            "id": "a:2",
            "email": "two@example.com",
            "results": [{"roleAssignmentResult": [full], "groupAssignmentResult": [in_group]}],
        },
    ]
    responses.post(f"{BASE}/admin/v2/orgs/org-1/users/invite", json={"data": rows}, status=206)

    one, two, three = client.invite(["one@example.com", "two@example.com", "three@example.com"])

    assert (one.account_id, one.is_invited, one.email) == ("a:1", True, "one@example.com")
    assert (two.is_invited, two.reasons) == (False, ("License limit exceeded",))
    assert two.grants[1] == InviteGrant("g-1", None, "INVITED", None)
    assert (three.account_id, three.is_invited) == (None, None)
    assert one.call_id == three.call_id


@responses.activate
def test_an_unreadable_answer_to_an_invite_leaves_it_in_doubt(client: AtlassianClient) -> None:
    responses.post(f"{BASE}/admin/v2/orgs/org-1/users/invite", json={"rows": []})

    with pytest.raises(LostAnswer):
        client.invite(["a@example.com"])


@responses.activate
def test_jira_users_end_at_an_empty_page_and_not_at_a_short_one(client: AtlassianClient) -> None:
    url = f"{BASE}/rest/api/3/users/search"
    for start, ids in [("0", ["a", "b"]), ("2", ["c"]), ("3", [])]:
        query = {"startAt": start, "maxResults": "1000"}
        body = [{"accountId": account_id, "accountType": "app", "active": False} for account_id in ids]
        responses.get(url, json=body, match=[responses.matchers.query_param_matcher(query)])

    assert [user.account_id for user in client.iter_jira_users()] == ["a", "b", "c"]


@responses.activate
def test_a_request_names_its_reporter_and_fields(client: AtlassianClient) -> None:
    body = {
        "issueId": "10",
        "issueKey": "HELP-1",
        "requestTypeId": "25",
        "serviceDeskId": 3,
        "createdDate": {"iso8601": "2026-11-08T14:42:00+0000"},
        "reporter": {"accountId": "qm:1:2", "displayName": "Fred", "emailAddress": ""},
        "requestFieldValues": [{"fieldId": "summary", "label": "What", "value": "Access"}],
        "currentStatus": {"status": "Waiting"},
    }
    responses.get(f"{BASE}/rest/servicedeskapi/request/HELP-1", json=body)

    request = client.request("HELP-1")

    assert (request.request_type_id, request.service_desk_id, request.status) == ("25", "3", "Waiting")
    assert request.reporter is not None
    assert (request.reporter.account_id, request.reporter.email) == ("qm:1:2", None)
    assert request.fields == {"summary": "Access"}
    assert request.created_at == datetime(2026, 11, 8, 14, 42, tzinfo=UTC)


# --- what was sent, and what came of it


def test_a_write_that_could_not_connect_was_never_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"

    with pytest.raises(Unavailable) as caught:
        client_for(closed).suspend("acc:1", "dir-1")

    assert type(caught.value) is Unavailable
    assert caught.value.code == "connect_failed"


def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    with pytest.raises(Unavailable) as caught:
        client_for("https://no-such-host.invalid").suspend("acc:1", "dir-1")

    assert type(caught.value) is Unavailable


@pytest.mark.parametrize("how", ["dropped", "silent"])
def test_a_write_without_an_answer_is_in_doubt_and_not_repeated(how: str, serve: ServerFactory) -> None:
    stop = threading.Event()

    def answer(seen: Seen) -> Answer:
        if how == "silent":
            stop.wait(5)
        return Answer(drop=True)

    server = serve(answer)
    client = client_for(server.url, timeout=(1.0, 0.3))

    with pytest.raises(LostAnswer):
        client.suspend("acc:1", "dir-1")

    stop.set()
    assert len(server.seen) == 1


def test_a_write_on_a_connection_that_the_server_has_closed_goes_out_once(serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(204, headers={"Connection": "close"} if len(server.seen) == 1 else {}))
    client = client_for(server.url)

    client.suspend("acc:1", "dir-1")
    client.suspend("acc:2", "dir-1")

    assert len(server.seen) == 2


def test_a_write_whose_answer_broke_off_after_its_status_is_done(serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(200, {"message": "ok"}, content_length=5000))

    assert client_for(server.url).delete_account("acc:1").status == 200


def test_a_read_that_broke_off_is_read_again(serve: ServerFactory) -> None:
    org = {"data": {"id": "org-1", "attributes": {"name": "Org"}}}
    server = serve(lambda seen: Answer(200, org, content_length=5000 if len(server.seen) == 1 else None))

    assert client_for(server.url).get_org().name == "Org"
    assert len(server.seen) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
@responses.activate
def test_a_refusal_is_not_tried_again(status: int, client: AtlassianClient) -> None:
    responses.get(f"{BASE}/admin/v1/orgs/org-1", status=status)

    with pytest.raises(Exception, match=str(status)):
        client.get_org()

    assert len(responses.calls) == 1


def test_posts_always_have_a_json_body(serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(204))
    client = client_for(server.url)

    client.suspend("acc:1", "d")
    client.restore("acc:1", "d")
    client.activate("acc:1")
    client.remove_from_directory("acc:1", "d")

    assert [(seen.method, seen.body) for seen in server.seen] == [("POST", b"{}")] * 3 + [("DELETE", b"")]
    assert all(seen.headers["content-type"] == "application/json" for seen in server.seen[:3])
    assert all(seen.headers["user-agent"].startswith("AUM/") for seen in server.seen)


# --- the gateway for scoped personal tokens


def _site(accepts_gateway: bool) -> Any:
    def answer(seen: Seen) -> Answer:
        if seen.path == "/_edge/tenant_info":
            return Answer(200, {"cloudId": "cloud-1"})
        if seen.path.startswith("/ex/jira/cloud-1/") and accepts_gateway:
            return Answer(200, {"accountId": "a:1", "displayName": "Robin"})
        return Answer(401, {"errorMessages": ["Client must be authenticated"]})

    return answer


def test_a_token_that_the_site_refuses_is_tried_at_the_gateway_and_remembered(serve: ServerFactory) -> None:
    server = serve(_site(accepts_gateway=True))
    client = client_for(server.url)

    assert client.jira_myself().name == "Robin"
    assert client.jira_myself().name == "Robin"

    assert [seen.path for seen in server.seen] == [
        "/rest/api/3/myself",
        "/_edge/tenant_info",
        "/ex/jira/cloud-1/rest/api/3/myself",
        "/ex/jira/cloud-1/rest/api/3/myself",
    ]
    assert "authorization" not in server.seen[1].headers
    assert API_TOKEN not in server.seen[2].path


def test_a_token_that_neither_accepts_is_refused(serve: ServerFactory) -> None:
    client = client_for(serve(_site(accepts_gateway=False)).url)

    with pytest.raises(Unauthorized):
        client.jira_myself()


def test_a_site_without_a_cloud_id_keeps_its_refusal(serve: ServerFactory) -> None:
    server: ScriptedServer = serve(lambda seen: Answer(404) if "tenant" in seen.path else Answer(401))

    with pytest.raises(Unauthorized):
        client_for(server.url).jira_myself()
    with pytest.raises(NotFound):
        client_for(server.url).tenant_info()


@pytest.mark.parametrize("cloud_id", ["../../admin", "", None, 7])
def test_a_cloud_id_that_is_none_is_not_believed(cloud_id: Any, serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(200, {"cloudId": cloud_id}))

    with pytest.raises(UnexpectedAnswer) as caught:
        client_for(server.url).tenant_info()

    assert caught.value.code == "no_cloud_id"


def test_without_a_site_jira_calls_say_so() -> None:
    client = client_for(BASE)
    object.__setattr__(client.connection, "site_url", None)

    with pytest.raises(BadRequest) as caught:
        client.jira_myself()

    assert caught.value.code == "no_site"


# --- threads, records


def test_one_client_serves_many_threads(serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(204))
    records: list[CallRecord] = []
    with client_for(server.url, observer=records.append) as client, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: client.suspend(f"acc:{n}", "dir-1"), range(100)))

    assert len({seen.path for seen in server.seen}) == 100
    assert len({record.call_id for record in records}) == 100
    assert {record.status for record in records} == {204}


def test_a_failed_call_is_recorded_with_its_code(serve: ServerFactory) -> None:
    records: list[CallRecord] = []
    server = serve(lambda seen: Answer(404, {"errors": [{"code": "ADMIN-UAM-404-1", "id": "r-1"}]}))
    client = client_for(server.url, observer=records.append)

    with pytest.raises(NotFound):
        client.suspend("acc:1", "dir-1")

    assert [(record.status, record.error_code, record.family) for record in records] == [
        (404, "ADMIN-UAM-404-1", "users.suspend")
    ]


def test_an_observer_that_fails_does_not_cost_the_answer(serve: ServerFactory) -> None:
    def fail(record: CallRecord) -> None:
        raise RuntimeError("no metrics today")

    server = serve(lambda seen: Answer(204))

    assert client_for(server.url, observer=fail).suspend("acc:1", "dir-1").status == 204
