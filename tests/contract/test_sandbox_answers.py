"""Every answer of the sandbox, good or bad, against Atlassian's published documents.

Each call below checks the request as well as the answer. The last test holds the list of operations that were seen
against the documents, so that an endpoint cannot be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from apps.sandbox.core import APIS
from apps.sandbox.server import Sandbox
from tests.contract import specs
from tests.sandbox.client import Answer, Client

pytestmark = specs.needs_documents

EVERY_EXPANSION = ["platformRoles", "counts.resources", "productAccess", "groups"]
SEEN: set[tuple[str, str, str, int]] = set()


def _document(path: str) -> str:
    if path.startswith("/admin/"):
        return specs.ORGANIZATION
    if path.startswith("/users/"):
        return specs.USER_MANAGEMENT
    return specs.JSM if "/rest/servicedeskapi/" in path else specs.JIRA


class Checked(Client):
    """A client that refuses what the documents do not allow."""

    def call(self, method: str, path: str, body: Any = None, query: Any = None, **options: Any) -> Answer:
        lenient = options.pop("lenient", False)
        document = _document(path)
        if not lenient:
            specs.validate_request(document, method, path, query, body)
        answer = super().call(method, path, body, query, **options)
        # Live errors of user management carry fields that its document does not name (errorKey, errorDetail).
        known = not (document == specs.USER_MANAGEMENT and answer.status >= 400)
        specs.validate_response(document, method, path, answer.status, answer.body, unknown_fields=known)
        template, _, _ = specs.find_operation(document, method, path)
        SEEN.add((document, method, template, answer.status))
        return answer

    def expect(
        self, status: int, method: str, path: str, body: Any = None, query: Any = None, **options: Any
    ) -> Answer:
        answer = self.call(method, path, body, query, **options)
        assert answer.status == status, answer
        return answer


@pytest.fixture(scope="module")
def client() -> Iterator[Checked]:
    with Sandbox(people=300, seed=1) as sandbox:
        sandbox.control.post("policy", {"events_per_minute": 0})
        yield Checked(sandbox)


# -- Organizations API


def test_organisation_and_domains(client: Checked) -> None:
    client.expect(200, "GET", "/admin/v1/orgs")
    client.expect(200, "GET", client.v1)
    domains = client.expect(200, "GET", f"{client.v1}/domains").rows
    client.expect(200, "GET", f"{client.v1}/domains/{domains[0]['id']}")
    client.expect(404, "GET", f"{client.v1}/domains/none")
    client.expect(404, "GET", "/admin/v1/orgs/nobody")


def test_directories(client: Checked) -> None:
    account = client.account("In Both Directories")

    assert len(client.expect(200, "GET", f"{client.v2}/directories").rows) == 2
    assert len(client.expect(200, "GET", f"{client.v2}/directories", query={"accountId": account}).rows) == 2
    client.expect(200, "GET", f"{client.v2}/directories", query={"limit": 1, "searchTerm": "external"})
    client.expect(400, "GET", f"{client.v2}/directories", query={"limit": 1000}, lenient=True)


def test_workspaces(client: Checked) -> None:
    first = client.expect(200, "POST", f"{client.v2}/workspaces", {"limit": 2})
    client.expect(200, "POST", f"{client.v2}/workspaces", {"cursor": first.body["links"]["next"]})
    query = {"field": {"name": "attributes.type", "values": ["confluence"]}}
    found = client.expect(200, "POST", f"{client.v2}/workspaces", {"limit": 20, "query": {"and": [query]}})
    client.expect(400, "POST", f"{client.v2}/workspaces", {"limit": 5000}, lenient=True)
    client.expect(401, "POST", f"{client.v2}/workspaces", {}, key="expired_key")

    assert {row["attributes"]["typeKey"] for row in found.rows} == {"confluence"}


def test_every_person_in_every_directory(client: Checked) -> None:
    for directory in ("-", *client.directories):
        people = client.everybody(directory, expand=EVERY_EXPANSION)
        assert people


@pytest.mark.parametrize(
    "body",
    [
        {"status": ["active", "suspended"], "limit": 5},
        {"accountStatus": ["inactive"], "membershipStatus": ["active"]},
        {"claimStatus": "unmanaged"},
        {"mfaEnabled": True, "limit": 1},
        {"emailDomains": ["fjordworks.example"]},
        {"roleIds": ["atlassian/org-admin"]},
        {"sortBy": [{"field": "nick_name", "direction": "desc"}], "limit": 3},
        {"searchTerm": "ashdown"},
        {"emails": ["robin.ashdown@larkspur-robotics.example"]},
    ],
)
def test_search_filters(client: Checked, body: dict[str, Any]) -> None:
    assert client.expect(200, "POST", f"{client.everywhere}/users/search", body).rows


def test_search_refusals(client: Checked) -> None:
    search = f"{client.everywhere}/users/search"
    client.expect(400, "POST", search, {"searchTerm": "a", "emails": ["b@c.example"]})
    client.expect(400, "POST", search, {"limit": 101}, lenient=True)
    client.expect(400, "POST", search, {"accountIds": ["x"] * 11}, lenient=True)
    client.expect(400, "POST", search, {"cursor": "nonsense"})
    client.expect(401, "POST", search, {}, key="expired_key")
    client.expect(401, "POST", search, {}, key="none")
    client.expect(403, "POST", search, {}, key="scoped_key")
    client.expect(404, "POST", f"{client.v2}/directories/nowhere/users/search", {})
    client.expect(404, "POST", "/admin/v2/orgs/nobody/directories/-/users/search", {})


def test_deprecated_lists_still_work(client: Checked) -> None:
    users = client.expect(200, "GET", f"{client.primary}/users", query={"limit": 3, "status": ["active"]})
    groups = client.expect(200, "GET", f"{client.primary}/groups", query={"limit": 3, "searchTerm": "jira"})

    assert users.headers["deprecation"] == groups.headers["deprecation"] == "true"


def test_counts_and_stats(client: Checked) -> None:
    counted = client.expect(200, "GET", f"{client.everywhere}/users/count", query={"claimStatus": "managed"}).body
    client.expect(200, "GET", f"{client.primary}/users/stats")
    client.expect(200, "GET", f"{client.primary}/groups/count")
    client.expect(200, "GET", f"{client.primary}/groups/stats")

    assert counted["count"] == len(client.everybody(claimStatus="managed"))


@pytest.mark.parametrize(
    "name",
    ["Robin Ashdown", "Suspended In One", "Not Invited", "Deactivated Person", "Awaiting Deletion", "Former user"],
)
def test_one_person(client: Checked, name: str) -> None:
    account = client.account(name)
    client.expect(200, "GET", f"{client.everywhere}/users/{account}")
    client.expect(200, "GET", f"{client.everywhere}/users/{account}/role-assignments", query={"limit": 100})
    client.expect(404, "GET", f"{client.everywhere}/users/nobody")


@pytest.mark.parametrize(("name", "status"), [("Idle Person", 200), ("Never Active", 200), ("Former user", 404)])
def test_last_active_dates(client: Checked, name: str, status: int) -> None:
    client.expect(status, "GET", f"{client.v1}/directory/users/{client.account(name)}/last-active-dates")


def test_managed_accounts(client: Checked) -> None:
    first = client.expect(200, "GET", f"{client.v1}/users")
    path, _, query = first.body["links"]["next"].partition("?")
    second = client.expect(200, "GET", path.removeprefix(client.sandbox.url), query={"cursor": query.split("=")[1]})

    assert first.body["meta"]["total"] > len(first.rows)
    assert {row["account_id"] for row in first.rows}.isdisjoint(row["account_id"] for row in second.rows)


def test_suspend_restore_remove(client: Checked) -> None:
    account = client.account("Idle Person")
    for action in ("suspend", "suspend", "restore", "restore"):
        client.expect(204, "POST", f"{client.primary}/users/{account}/{action}", {})
    client.expect(404, "POST", f"{client.external}/users/{account}/suspend", {})
    client.expect(400, "POST", f"{client.everywhere}/users/{account}/suspend", {})
    client.expect(403, "DELETE", f"{client.primary}/users/{client.account('Robin Ashdown')}")
    client.expect(204, "DELETE", f"{client.primary}/users/{client.account('No Licence')}")


def test_groups(client: Checked) -> None:
    search = f"{client.everywhere}/groups/search"
    assert client.expect(200, "POST", search, {"expand": ["counts.users", "counts.resources"], "limit": 100}).rows
    client.expect(200, "POST", search, {"accountIds": [client.account("Active Person")]})
    client.expect(200, "POST", search, {"resourceIds": [client.workspace("confluence")]})
    client.expect(400, "POST", search, {"limit": 500}, lenient=True)
    client.expect(403, "POST", search, {}, key="scoped_key")
    client.expect(201, "POST", f"{client.primary}/groups", {"name": "made by a test", "description": "x"})
    client.expect(409, "POST", f"{client.primary}/groups", {"name": "Made by a test"})
    client.expect(400, "POST", f"{client.primary}/groups", {"name": ""})
    made = client.group("made by a test")
    client.expect(200, "GET", f"{client.primary}/groups/{made}")
    client.expect(204, "DELETE", f"{client.primary}/groups/{made}")
    client.expect(404, "GET", f"{client.primary}/groups/{made}")
    client.expect(403, "DELETE", f"{client.primary}/groups/{client.group('jira-users-larkspur')}")


def test_memberships(client: Checked) -> None:
    account = client.account("Active Person")
    members = f"{client.primary}/groups/{client.group('confluence-guests')}/memberships"
    client.expect(204, "POST", members, {"accountId": account})
    client.expect(409, "POST", members, {"accountId": account})
    client.expect(204, "DELETE", f"{members}/{account}")
    client.expect(404, "DELETE", f"{members}/{account}")
    client.expect(404, "POST", f"{client.primary}/groups/none/memberships", {"accountId": account})
    synced = client.group("okta-finance")
    client.expect(403, "POST", f"{client.primary}/groups/{synced}/memberships", {"accountId": account})


def test_group_roles(client: Checked) -> None:
    group = f"{client.primary}/groups/{client.group('employees')}/role-assignments"
    grant = {"resourceId": client.workspace("confluence"), "roleId": "atlassian/guest"}
    client.expect(200, "GET", f"{client.primary}/groups/{client.group('engineering-suite')}/role-assignments")
    client.expect(200, "POST", f"{group}/assign", grant)
    client.expect(200, "GET", group)
    client.expect(204, "POST", f"{group}/revoke", grant)
    client.expect(400, "POST", f"{group}/assign", {**grant, "roleId": "atlassian/emperor"})
    too_many = {"resourceId": client.workspace("jira-servicedesk"), "roleId": "atlassian/user"}
    client.expect(409, "POST", f"{group}/assign", too_many)


def test_roles_of_a_person(client: Checked) -> None:
    roles = f"{client.v1}/users/{client.account('Direct Jira Role')}/roles"
    jira = {"role": "atlassian/user", "resource": client.workspace("jira-software")}
    client.expect(204, "POST", f"{roles}/revoke", jira)
    client.expect(404, "POST", f"{roles}/revoke", jira)
    client.expect(204, "POST", f"{roles}/assign", jira)
    client.expect(400, "POST", f"{roles}/assign", {"role": "atlassian/user"})
    admin = f"{client.v1}/users/{client.account('Active Person')}/role-assignments"
    client.expect(204, "POST", f"{admin}/assign", {"role": "atlassian/org-admin"})
    client.expect(204, "POST", f"{admin}/revoke", {"role": "atlassian/org-admin"})


def test_invite(client: Checked) -> None:
    rule = {"resource": client.workspace("confluence"), "role": "atlassian/user"}
    body = {"emails": ["new.one@larkspur.example"], "permissionRules": [rule]}
    client.expect(200, "POST", f"{client.v2}/users/invite", body)
    group = {**body, "emails": ["new.two@fjordworks.example"], "additionalGroups": [client.group("okta-finance")]}
    client.expect(206, "POST", f"{client.v2}/users/invite", group)
    client.expect(400, "POST", f"{client.v2}/users/invite", {"emails": ["no address"]})


def test_events(client: Checked) -> None:
    client.expect(200, "GET", f"{client.v1}/event-actions")
    first = client.expect(200, "GET", f"{client.v1}/events", query={"limit": 5})
    client.expect(200, "GET", f"{client.v1}/events", query={"cursor": first.body["meta"]["next"], "limit": 5})
    client.expect(200, "GET", f"{client.v1}/events-stream", query={"limit": 500, "sortOrder": "asc"})
    client.expect(200, "GET", f"{client.v1}/events/{first.rows[0]['id']}")
    client.expect(404, "GET", f"{client.v1}/events/none")
    client.expect(400, "GET", f"{client.v1}/events", query={"from": "yesterday"})


# -- user management


def test_lifecycle(client: Checked) -> None:
    manage = f"/users/{client.account('Two Products One Group')}/manage"
    client.expect(200, "GET", manage)
    client.expect(204, "POST", f"{manage}/lifecycle/disable", {"message": "No longer needed"})
    client.expect(409, "POST", f"{manage}/lifecycle/disable", {})
    client.expect(204, "POST", f"{manage}/lifecycle/enable")
    client.expect(409, "POST", f"{manage}/lifecycle/enable")
    client.expect(200, "POST", f"{manage}/lifecycle/delete")
    client.expect(409, "POST", f"{manage}/lifecycle/delete")
    client.expect(409, "POST", f"{manage}/lifecycle/enable")
    client.expect(200, "POST", f"{manage}/lifecycle/cancel-delete")
    client.expect(404, "POST", f"{manage}/lifecycle/cancel-delete")


def test_lifecycle_refusals(client: Checked) -> None:
    def manage(name: str) -> str:
        return f"/users/{client.account(name)}/manage"

    client.expect(200, "GET", manage("Synced From Okta"))
    client.expect(403, "POST", f"{manage('Synced From Okta')}/lifecycle/disable", {})
    client.expect(403, "POST", f"{manage('Synced From Google')}/lifecycle/disable", {})
    client.expect(403, "POST", f"{manage('Export Controlled')}/lifecycle/enable")
    client.expect(403, "POST", f"{manage('Unmanaged Contractor')}/lifecycle/disable", {})
    client.expect(403, "POST", f"{manage('Robin Ashdown')}/lifecycle/disable", {})
    client.expect(404, "POST", f"{manage('Former user')}/lifecycle/delete")
    client.expect(401, "GET", manage("Active Person"), key="expired_key")


def test_profile_mail_and_tokens(client: Checked) -> None:
    accounts = [p["accountId"] for p in client.search(limit=60, claimStatus="managed", status=["active"]).rows]
    manage = f"/users/{client.account('Active Person')}/manage"
    profile = client.expect(200, "GET", f"{manage}/profile").body["account"]
    client.expect(200, "PATCH", f"{manage}/profile", {"name": profile["name"], "nickname": "Renamed"})
    client.expect(204, "PUT", f"{manage}/email", {"email": "active@larkspur.example"})
    client.expect(403, "PUT", f"{manage}/email", {"email": "active@elsewhere.example"})
    token = None
    for account in accounts:
        tokens = client.expect(200, "GET", f"/users/{account}/manage/api-tokens").body
        token = (account, tokens[0]["id"]) if tokens else token
    assert token is not None
    client.expect(204, "DELETE", f"/users/{token[0]}/manage/api-tokens/{token[1]}")
    client.expect(404, "DELETE", f"/users/{token[0]}/manage/api-tokens/{token[1]}")


# -- Jira


def test_jira_reads(client: Checked) -> None:
    api = "/rest/api/3"
    account = client.account("Active Person")
    client.expect(200, "GET", f"{api}/myself", query={"expand": "groups,applicationRoles"})
    client.expect(200, "GET", f"{api}/mypermissions", query={"permissions": "ADMINISTER"})
    client.expect(400, "GET", f"{api}/mypermissions", query={"permissions": "FLY"})
    client.expect(200, "GET", f"{api}/serverInfo")
    client.expect(200, "GET", f"{api}/user", query={"accountId": account, "expand": "groups,applicationRoles"})
    client.expect(404, "GET", f"{api}/user", query={"accountId": "nobody"})
    client.expect(200, "GET", f"{api}/user/groups", query={"accountId": account})
    client.expect(401, "GET", f"{api}/user/email", query={"accountId": account})
    client.expect(200, "GET", f"{api}/user/search", query={"query": "robin"})
    client.expect(200, "GET", f"{api}/user/bulk", query={"accountId": [account]})
    client.expect(200, "GET", f"{api}/users", query={"maxResults": 5})
    client.expect(200, "GET", f"{api}/applicationrole")
    client.expect(200, "GET", f"{api}/applicationrole/jira-software")
    client.expect(404, "GET", f"{api}/applicationrole/none")
    client.expect(200, "GET", f"{api}/license/approximateLicenseCount")
    client.expect(200, "GET", f"{api}/license/approximateLicenseCount/product/jira-software")
    client.expect(200, "GET", f"{api}/instance/license")
    client.expect(200, "GET", f"{api}/groups/picker", query={"query": "jira"})
    client.expect(200, "GET", f"{api}/group/bulk", query={"maxResults": 3})
    client.expect(200, "GET", f"{api}/project/search", query={"typeKey": "service_desk"})
    client.expect(200, "GET", f"{api}/project/HELP")
    client.expect(200, "GET", f"{api}/field")
    client.expect(401, "GET", f"{api}/myself", key="bad_api_token")


def test_jira_lists_every_user_until_an_empty_page(client: Checked) -> None:
    kinds: set[str] = set()
    start = 0
    while True:
        page = client.expect(200, "GET", "/rest/api/3/users/search", query={"startAt": start, "maxResults": 100}).body
        if not page:
            break
        kinds |= {user["accountType"] for user in page}
        start += len(page)

    assert kinds == {"atlassian", "app", "customer"}


def test_jira_groups(client: Checked) -> None:
    group = client.group("jira-servicemanagement-customers-larkspur")
    account = client.account("Active Person")
    where = {"groupId": group}
    client.expect(201, "POST", "/rest/api/3/group/user", {"accountId": account}, where)
    client.expect(400, "POST", "/rest/api/3/group/user", {"accountId": account}, where)
    client.expect(200, "GET", "/rest/api/3/group/member", query={**where, "includeInactiveUsers": "true"})
    client.expect(200, "DELETE", "/rest/api/3/group/user", query={**where, "accountId": account})
    client.expect(404, "DELETE", "/rest/api/3/group/user", query={**where, "accountId": account})
    synced = {"groupId": client.group("okta-finance")}
    client.expect(403, "POST", "/rest/api/3/group/user", {"accountId": account}, synced)


def test_jira_users_come_and_go(client: Checked) -> None:
    body = {"emailAddress": "through.jira@larkspur.example", "products": ["jira-software"]}
    made = client.expect(201, "POST", "/rest/api/3/user", body).body
    client.expect(204, "DELETE", "/rest/api/3/user", query={"accountId": made["accountId"]})


def test_issues(client: Checked) -> None:
    key = client.expect(200, "GET", "/rest/servicedeskapi/request").body["values"][0]["issueKey"]
    client.expect(200, "GET", f"/rest/api/3/issue/{key}")
    client.expect(404, "GET", "/rest/api/3/issue/NONE-1")
    jql = 'project in (HELP, HRSD) AND created >= "-30d" ORDER BY created ASC'
    first = client.expect(200, "GET", "/rest/api/3/search/jql", query={"jql": jql, "maxResults": 2, "fields": "*all"})
    body = {"jql": jql, "maxResults": 2, "fields": ["reporter"], "nextPageToken": first.body["nextPageToken"]}
    client.expect(200, "POST", "/rest/api/3/search/jql", body)
    client.expect(400, "GET", "/rest/api/3/search/jql", query={"jql": "order by created"})


# -- service desk


def test_service_desks(client: Checked) -> None:
    api = "/rest/servicedeskapi"
    client.expect(200, "GET", f"{api}/info")
    client.expect(200, "GET", f"{api}/servicedesk")
    client.expect(200, "GET", f"{api}/servicedesk/1")
    client.expect(404, "GET", f"{api}/servicedesk/99")
    client.expect(200, "GET", f"{api}/servicedesk/1/requesttype")
    client.expect(200, "GET", f"{api}/servicedesk/1/requesttype/11")
    client.expect(200, "GET", f"{api}/servicedesk/1/requesttype/11/field")
    client.expect(200, "GET", f"{api}/requesttype", headers={"X-ExperimentalApi": "opt-in"})
    client.expect(200, "GET", f"{api}/organization")
    client.expect(401, "GET", f"{api}/servicedesk", key="bad_api_token")


def test_customers(client: Checked) -> None:
    customers = "/rest/servicedeskapi/servicedesk/1/customer"
    opt_in = {"X-ExperimentalApi": "opt-in"}
    body = {"accountIds": [client.account("Active Person")]}
    client.expect(204, "POST", customers, body)
    client.expect(200, "GET", customers, headers=opt_in)
    client.expect(204, "DELETE", customers, body, headers=opt_in)


def test_requests(client: Checked) -> None:
    body = {
        "serviceDeskId": "1",
        "requestTypeId": "11",
        "requestFieldValues": {"summary": "Jira, please", "description": "For the new project"},
        "raiseOnBehalfOf": client.account("Active Person"),
    }
    made = client.expect(201, "POST", "/rest/servicedeskapi/request", body).body
    one = f"/rest/servicedeskapi/request/{made['issueKey']}"
    client.expect(200, "GET", one, query={"expand": ["requestType", "participant", "serviceDesk"]})
    client.expect(404, "GET", "/rest/servicedeskapi/request/NONE-1")
    client.expect(200, "GET", f"{one}/participant")
    client.expect(201, "POST", f"{one}/comment", {"body": "Done", "public": True})
    client.expect(200, "GET", f"{one}/comment")
    client.expect(400, "POST", "/rest/servicedeskapi/request", {**body, "requestTypeId": "999"})


# -- refusals that faults bring


def test_answers_of_faults_keep_the_documented_shapes(client: Checked) -> None:
    reads = (("POST", f"{client.everywhere}/users/search", {}), ("GET", client.v1, None))
    for kind in ({"kind": "rate_limit", "style": "reset"}, {"kind": "error", "status": 500}):
        client.sandbox.control.post("faults", {"clear": True, "set": [kind]})
        for method, path, body in reads:
            client.expect(int(str(kind.get("status", 429))), method, path, body)
    client.sandbox.control.post("faults", {"clear": True})


# -- the whole

# What no line of the acceptance list needs: policies, and parts of Jira and the service desk.
NOT_SERVED = {
    specs.ORGANIZATION: ("/v1/orgs/{orgId}/policies",),
    specs.USER_MANAGEMENT: (),
}


@pytest.mark.parametrize("document", sorted(NOT_SERVED))
def test_every_operation_of_the_admin_documents_was_seen(client: Checked, document: str) -> None:
    wanted = {
        (method, path)
        for method, path in specs.operations(document)
        if not any(path.startswith(left_out) for left_out in NOT_SERVED[document])
    }
    seen = {(method, path) for name, method, path, status in SEEN if name == document and status < 300}
    if not seen:
        pytest.skip("counts what the other tests of this file saw; run the whole file")

    assert wanted - seen == set()


def test_every_served_path_is_documented_and_was_seen(client: Checked) -> None:
    served = {
        (_document(route.template), route.method, route.template.removeprefix("/admin"))
        for api in APIS
        for route in api.routes.all
        if route.family not in ("gone", "control") and not route.template.startswith("/_edge/")
    }
    seen = {(name, method, template) for name, method, template, status in SEEN}
    if not seen:
        pytest.skip("counts what the other tests of this file saw; run the whole file")

    found = {(name, method, specs.find_operation(name, method, path)[0]) for name, method, path in served}
    assert found - seen == set()
