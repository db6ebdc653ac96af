"""Every request that the client can send, held against Atlassian's published documents: path, query and body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import responses

from aum.atlassian.calls import ORGANIZATION, READS, WRITES, Call
from aum.atlassian.client import AtlassianClient, CallRecord, Connection
from aum.atlassian.limiter import NullLimiter
from tests.contract.specs import find_operation, load, needs_documents, validate_request

pytestmark = needs_documents

ACCOUNT = "712020:0f1e2d3c-0000-4000-8000-000000000007"
GROUP = "10000000-0000-4000-8000-000000000001"
DIRECTORY = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
ARI = "ari:cloud:jira-software::site/11111111-2222-4333-8444-555555555555"
AT = datetime(2026, 11, 1, tzinfo=UTC)
ROLE = "atlassian/user"
DOCUMENTED = [call for call in [*READS.values(), *WRITES.values()] if call.spec]


@dataclass(frozen=True)
class Use:
    """One way to use a method: the calls it may send, with every argument that changes the request."""

    name: str
    act: Callable[[AtlassianClient], Any]


USES = [
    Use("get_org", lambda c: c.get_org()),
    Use("list_orgs", lambda c: c.orgs()),
    Use("list_directories", lambda c: c.directories()),
    Use("list_directories", lambda c: c.directories(account_id=ACCOUNT)),
    Use("list_workspaces", lambda c: c.workspaces()),
    Use("list_domains", lambda c: c.domains()),
    Use("events", lambda c: c.events(since=AT, until=AT, cursor="c")),
    Use("search_users", lambda c: c.search_users()),
    Use("search_users", lambda c: c.search_users(DIRECTORY, cursor="c", limit=1, expand=())),
    Use(
        "search_users",
        lambda c: c.search_users(
            account_ids=[ACCOUNT],
            group_ids=[GROUP],
            resource_ids=[ARI],
            role_ids=[ROLE],
            email_domains=["example.com"],
            status=["active", "suspended", "not_invited", "for_deletion"],
            account_status=["active", "inactive", "closed"],
            membership_status=["active", "suspended", "no_membership"],
            claim_status="managed",
            search_term="ann",
            expand=("platformRoles", "counts.resources", "productAccess", "groups"),
        ),
    ),
    Use("search_users", lambda c: c.search_users(emails=["a@example.com"])),
    Use("search_users", lambda c: c.find_users([ACCOUNT] * 3)),
    Use("count_users", lambda c: c.count_users()),
    Use(
        "count_users",
        lambda c: c.count_users(
            DIRECTORY,
            status=["active", "suspended"],
            account_status=["active"],
            membership_status=["suspended"],
            claim_status="unmanaged",
            group_ids=[GROUP],
        ),
    ),
    Use("user_stats", lambda c: c.user_stats(DIRECTORY)),
    Use("get_user", lambda c: c.get_user(ACCOUNT)),
    Use("user_roles", lambda c: c.role_assignments(ACCOUNT)),
    Use("last_active", lambda c: c.last_active(ACCOUNT)),
    Use("managed_accounts", lambda c: list(c.managed_accounts())),
    Use("lifecycle_permissions", lambda c: c.lifecycle_permissions(ACCOUNT)),
    Use("search_groups", lambda c: c.search_groups()),
    Use(
        "search_groups",
        lambda c: c.search_groups(DIRECTORY, "c", 5, group_ids=[GROUP], account_ids=[ACCOUNT], expand=()),
    ),
    Use("search_groups", lambda c: c.search_groups(group_names=["jira-users"])),
    Use("search_groups", lambda c: c.search_groups(search_term="jira")),
    Use("get_group", lambda c: c.get_group(GROUP, DIRECTORY)),
    Use("count_groups", lambda c: c.count_groups(DIRECTORY)),
    Use("group_roles", lambda c: c.group_role_assignments(DIRECTORY, GROUP)),
    Use("jira_myself", lambda c: c.jira_myself()),
    Use("jira_permissions", lambda c: c.jira_permissions("ADMINISTER", "USER_PICKER")),
    Use("jira_server_info", lambda c: c.jira_server_info()),
    Use("jira_users", lambda c: c.jira_users_search(start_at=1000)),
    Use("jira_projects", lambda c: list(c.projects())),
    Use("jira_fields", lambda c: c.fields()),
    Use("jira_search", lambda c: list(c.iter_issues("project = HELP", request_type_field="customfield_10010"))),
    Use("jira_application_roles", lambda c: c.application_roles()),
    Use("service_desks", lambda c: list(c.service_desks())),
    Use("request_types", lambda c: list(c.request_types("3"))),
    Use("request", lambda c: c.request("HELP-12")),
    Use("suspend", lambda c: c.suspend(ACCOUNT, DIRECTORY)),
    Use("restore", lambda c: c.restore(ACCOUNT, DIRECTORY)),
    Use("remove_from_directory", lambda c: c.remove_from_directory(ACCOUNT, DIRECTORY)),
    Use("deactivate", lambda c: c.deactivate(ACCOUNT)),
    Use("deactivate", lambda c: c.deactivate(ACCOUNT, "Unused since May")),
    Use("activate", lambda c: c.activate(ACCOUNT)),
    Use("delete_account", lambda c: c.delete_account(ACCOUNT)),
    Use("cancel_delete", lambda c: c.cancel_delete(ACCOUNT)),
    Use("invite", lambda c: c.invite(["a@example.com"])),
    Use("invite", lambda c: c.invite(["a@example.com"] * 25, [(ARI, ROLE)], [GROUP], True, "Welcome")),
    Use("add_to_group", lambda c: c.add_to_group(ACCOUNT, GROUP, DIRECTORY)),
    Use("remove_from_group", lambda c: c.remove_from_group(ACCOUNT, GROUP, DIRECTORY)),
    Use("create_group", lambda c: c.create_group("jira-users", DIRECTORY)),
    Use("create_group", lambda c: c.create_group("jira-users", DIRECTORY, "Everyone")),
    Use("delete_group", lambda c: c.delete_group(GROUP, DIRECTORY)),
    Use("assign_group_role", lambda c: c.assign_group_role(GROUP, DIRECTORY, ROLE, ARI)),
    Use("revoke_group_role", lambda c: c.revoke_group_role(GROUP, DIRECTORY, ROLE, ARI)),
    Use("assign_role", lambda c: c.assign_role(ACCOUNT, ROLE, ARI)),
    Use("revoke_role", lambda c: c.revoke_role(ACCOUNT, ROLE, ARI)),
    Use("assign_org_admin", lambda c: c.assign_org_admin(ACCOUNT)),
    Use("revoke_org_admin", lambda c: c.revoke_org_admin(ACCOUNT)),
]

# Two pages of every list, so that the request with a cursor is checked as well. Rows need their ids only.
_ROW = {
    "id": "1",
    "accountId": ACCOUNT,
    "account_id": ACCOUNT,
    "directoryId": DIRECTORY,
    "resourceId": ARI,
    "projectId": "1",
    "key": "K",
    "email": "a@example.com",
}


def _answer(request: Any) -> tuple[int, dict[str, str], str]:
    """A first page with a cursor, then a last one, whichever list is asked for; one object holds all shapes at once."""
    asked = dict(parse_qsl(urlsplit(request.url).query))
    body = json.loads(request.body) if request.body else {}
    offset = asked.get("startAt") or asked.get("start")
    is_second = bool({"cursor", "nextPageToken"} & {*asked, *body}) or (offset is not None and offset != "0")
    answer = {
        "data": [{name: f"{value}2" if is_second else value for name, value in _ROW.items()}],
        "links": {"next": None if is_second else "opaque/cursor+1="},
        "values": [] if is_second else [_ROW],
        "issues": [{"id": "2" if is_second else "1", "key": "K-1"}],
        **({} if is_second else {"nextPageToken": "more"}),
        "count": 3,
        **_ROW,
        "permissions": {},
        "baseUrl": "https://x",
        "issueId": "1",
        "issueKey": "K-1",
    }
    path = urlsplit(request.url).path
    if path.endswith("/last-active-dates"):
        answer["data"] = {"product_access": [{"id": ARI, "key": "c" if is_second else "j"}]}
    elif re.search(r"/v1/orgs/[^/]+$|/groups/1[^/]+$|/users/712020[^/]*$", unquote(path)):
        answer["data"] = _ROW
    bare = path.endswith(("/rest/api/3/users/search", "/applicationrole", "/rest/api/3/field"))
    return 200, {}, json.dumps([_ROW] if bare else answer)


def _requests_of(use: Use) -> tuple[list[CallRecord], list[Any]]:
    records: list[CallRecord] = []
    connection = Connection(
        "o", "https://api.example.test", "org-7jk", "key", "https://site.example.test", "a@example.com", "token"
    )
    client = AtlassianClient(connection, limiter=NullLimiter(), observer=records.append)
    with responses.RequestsMock() as http:
        for method in (http.GET, http.POST, http.DELETE):
            http.add_callback(method, re.compile(".*"), callback=_answer)
        http.assert_all_requests_are_fired = False
        use.act(client)
        sent = [call.request for call in http.calls]
    return records, sent


@pytest.mark.parametrize("use", USES, ids=lambda use: use.name)
def test_a_request_is_what_the_document_allows(use: Use) -> None:
    call = {**READS, **WRITES}[use.name]

    records, sent = _requests_of(use)

    assert sent
    assert {(r.method, r.path_template) for r in records} == {(call.method, call.path)}
    for request in sent:
        query = parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
        body = json.loads(request.body) if request.body else None
        path = unquote(urlsplit(request.url).path)
        assert find_operation(call.spec, call.method, path)[0] == call.spec_path
        validate_request(call.spec, call.method, path, query, body, request.headers)
        if body is not None:
            assert request.headers["Content-Type"] == "application/json"


def test_every_documented_request_is_tried() -> None:
    assert {use.name for use in USES} == {call.name for call in DOCUMENTED}


@pytest.mark.parametrize("call", DOCUMENTED, ids=lambda call: call.name)
def test_a_request_is_in_the_document_and_not_deprecated(call: Call) -> None:
    operation = load(call.spec)["paths"][call.spec_path][call.method.lower()]

    assert not operation.get("deprecated")
    assert call.path == ("/admin" if call.spec == ORGANIZATION else "") + call.spec_path


def test_a_list_is_asked_for_its_second_page_by_cursor() -> None:
    by_name = {use.name: use for use in USES}
    for name in (
        "list_workspaces",
        "list_domains",
        "managed_accounts",
        "user_roles",
        "group_roles",
        "list_directories",
    ):
        _, sent = _requests_of(by_name[name])

        assert len(sent) == 2, name
        second = sent[1]
        asked = json.loads(second.body) if second.body else dict(parse_qsl(urlsplit(second.url).query))
        assert asked["cursor"] == "opaque/cursor+1=", name
        if name == "list_workspaces":
            assert asked == {"cursor": "opaque/cursor+1="}
