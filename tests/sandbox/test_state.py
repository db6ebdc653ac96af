"""What writes do, and what they leave alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.client import Client


def _seats(client: Client, ari: str) -> int:
    used: int = client.sandbox.control.get("info")["seats"][ari]["used"]
    return used


def test_suspend_keeps_groups_and_roles_and_frees_the_seat(client: Client) -> None:
    person = client.named("Idle Person")
    account, jira = person["accountId"], client.workspace("jira-software")
    before, seats = client.state(account), _seats(client, jira)

    assert client.call("POST", f"{client.primary}/users/{account}/suspend", {}).status == 204

    after = client.state(account)
    assert after["status"] == "suspended"
    assert after["groups"] == before["groups"]
    assert client.named("Idle Person")["productAccess"] == person["productAccess"]
    assert _seats(client, jira) == seats - 1


def test_restore_gives_back_exactly_what_was_there(client: Client) -> None:
    account = client.account("Idle Person")
    before, jira = client.state(account), client.workspace("jira-software")
    seats = _seats(client, jira)

    client.call("POST", f"{client.primary}/users/{account}/suspend", {})
    client.call("POST", f"{client.primary}/users/{account}/restore", {})

    assert client.state(account) == before
    assert _seats(client, jira) == seats


def test_suspend_in_one_of_two_directories_leaves_the_person_active(client: Client) -> None:
    account = client.account("In Both Directories")

    client.call("POST", f"{client.primary}/users/{account}/suspend", {})
    person = client.named("In Both Directories")

    assert (person["status"], person["membershipStatus"]) == ("active", "active")
    directories = client.state(account)["directories"]
    assert [directories[d] for d in client.directories] == ["suspended", "active"]
    rows = client.call("GET", f"{client.everywhere}/users/{account}/role-assignments").rows
    assert {(r["directoryId"], r["userDirectoryStatus"]) for r in rows} == set(directories.items())


def test_suspend_in_every_directory_makes_the_person_suspended(client: Client) -> None:
    account = client.account("In Both Directories")

    for directory in (client.primary, client.external):
        client.call("POST", f"{directory}/users/{account}/suspend", {})

    assert client.named("In Both Directories")["status"] == "suspended"


def test_list_of_a_directory_speaks_for_it_when_the_policy_says_so(client: Client) -> None:
    account = client.account("In Both Directories")
    client.call("POST", f"{client.primary}/users/{account}/suspend", {})
    client.sandbox.control.post("policy", {"membership_status": "directory"})

    found = [client.search(d, accountIds=[account]).rows[0]["membershipStatus"] for d in client.directories]

    assert found == ["suspended", "active"]


def test_suspend_without_a_body_is_415(client: Client) -> None:
    account = client.account("Idle Person")

    answer = client.call("POST", f"{client.primary}/users/{account}/suspend")

    assert answer.status == 415
    assert client.state(account)["status"] == "active"


def test_repeated_suspend_changes_nothing(client: Client) -> None:
    account = client.account("Suspended Person")

    assert client.call("POST", f"{client.primary}/users/{account}/suspend", {}).status == 204
    entries = client.sandbox.control.get("ledger")["entries"]

    assert [entry["effect"] for entry in entries] == ["no_change"]


def test_the_key_owner_is_safe_from_the_key(client: Client) -> None:
    owner = client.known.account_id

    assert client.call("POST", f"{client.primary}/users/{owner}/suspend", {}).status == 403
    assert client.call("POST", f"/users/{owner}/manage/lifecycle/disable", {}).status == 403


def test_removal_takes_groups_and_roles_along(client: Client) -> None:
    account = client.account("Direct And Group")

    assert client.call("DELETE", f"{client.primary}/users/{account}").status == 204

    state = client.state(account)
    assert (state["status"], state["groups"], state["direct_roles"]) == ("not_invited", [], [])
    assert client.named("Direct And Group")["productAccess"] == []


def test_removed_unmanaged_person_is_no_longer_listed(client: Client) -> None:
    account = client.account("Unmanaged Contractor")

    client.call("DELETE", f"{client.primary}/users/{account}")

    assert client.search(accountIds=[account]).rows == []
    assert client.call("GET", f"{client.everywhere}/users/{account}").status == 404


def test_org_admin_is_removed_only_without_the_role(client: Client) -> None:
    account = client.account("Jonas Feld")
    admin = f"{client.v1}/users/{account}/role-assignments/revoke"

    assert client.call("DELETE", f"{client.primary}/users/{account}").status == 403
    assert client.call("POST", admin, {"role": "atlassian/org-admin"}).status == 204
    assert client.call("DELETE", f"{client.primary}/users/{account}").status == 204


def test_leaving_a_group_ends_the_product_it_granted(client: Client) -> None:
    account = client.account("Idle Person")
    group, jira = client.group("jira-users-larkspur"), client.workspace("jira-software")

    client.call("DELETE", f"{client.primary}/groups/{group}/memberships/{account}")

    products = {entry["id"] for entry in client.named("Idle Person")["productAccess"]}
    assert products == {client.workspace("confluence")}
    assert jira not in client.state(account)["seats"]


def test_leaving_a_group_keeps_the_product_that_a_direct_role_grants(client: Client) -> None:
    account = client.account("Direct And Group")
    jira = client.workspace("jira-software")

    client.call("DELETE", f"{client.primary}/groups/{client.group('jira-users-larkspur')}/memberships/{account}")

    assert client.state(account)["seats"] == [jira]
    rows = client.call("GET", f"{client.everywhere}/users/{account}/role-assignments").rows
    assert rows[0]["roleAssignments"] == [{"role": "atlassian/user", "roleAssignmentMethods": ["direct"]}]


def test_one_group_grants_two_products(client: Client) -> None:
    account = client.account("Two Products One Group")

    assert set(client.state(account)["seats"]) == {client.workspace("jira-software"), client.workspace("bitbucket")}


def test_guest_role_takes_no_seat(client: Client) -> None:
    account = client.account("Guest Without Seat")

    assert client.state(account)["seats"] == []
    assert [p["key"] for p in client.named("Guest Without Seat")["productAccess"]] == ["confluence"]


def test_last_seat_goes_to_one_person_only(client: Client) -> None:
    jsm = client.workspace("jira-servicedesk")
    client.sandbox.control.post("mutate", {"capacity": [jsm, _seats(client, jsm) + 1]})
    members = f"{client.primary}/groups/{client.group('jira-servicemanagement-users-larkspur')}/memberships"

    answers = [
        client.call("POST", members, {"accountId": client.account(name)}) for name in ("Active Person", "Idle Person")
    ]

    assert [answer.status for answer in answers] == [204, 409]
    assert answers[1].body["errors"][0]["code"] == "ADMIN-UAM-409-3"


def test_member_already_is_another_conflict(client: Client) -> None:
    members = f"{client.primary}/groups/{client.group('employees')}/memberships"

    answer = client.call("POST", members, {"accountId": client.account("Active Person")})

    assert (answer.status, answer.body["errors"][0]["code"]) == (409, "ADMIN-UAM-409-2")


def test_group_of_another_directory_is_refused(client: Client) -> None:
    account = client.account("Active Person")
    group = client.group("partners-all")

    assert client.call("POST", f"{client.primary}/groups/{group}/memberships", {"accountId": account}).status == 404
    assert client.call("POST", f"{client.external}/groups/{group}/memberships", {"accountId": account}).status == 404


def test_synced_group_cannot_be_changed(client: Client) -> None:
    members = f"{client.primary}/groups/{client.group('okta-engineering')}/memberships"
    account = client.account("Synced From Okta")

    assert client.call("DELETE", f"{members}/{account}").status == 403
    assert client.call("POST", members, {"accountId": client.account("Idle Person")}).status == 403
    found = client.call("POST", f"{client.everywhere}/groups/search", {"groupNames": ["okta-engineering"]}).rows[0]
    assert (found["externalSynced"], found["managementAccess"]["modifiable"]) == (True, False)


def test_deactivation_blocks_everywhere_and_activation_undoes_it(client: Client) -> None:
    account = client.account("In Both Directories")
    before = client.state(account)

    client.call("POST", f"/users/{account}/manage/lifecycle/disable", {})
    person = client.named("In Both Directories")
    detail = client.call("GET", f"{client.everywhere}/users/{account}").body["data"]
    client.call("POST", f"/users/{account}/manage/lifecycle/enable")

    assert (person["status"], person["accountStatus"]) == ("deactivated", "inactive")
    assert "deactivatedOn" in detail
    assert client.state(account) == before


def test_deleted_account_is_final_after_14_days(client: Client) -> None:
    account = client.account("Idle Person")

    client.call("POST", f"/users/{account}/manage/lifecycle/delete")
    waiting = client.named("Idle Person")["status"]
    client.sandbox.control.post("advance", {"days": 13})
    still = client.named("Idle Person")["status"]
    client.sandbox.control.post("advance", {"days": 2})

    assert (waiting, still) == ("for_deletion", "for_deletion")
    assert client.state(account)["status"] == "closed"
    assert client.call("POST", f"/users/{account}/manage/lifecycle/cancel-delete").status == 404


def test_identity_provider_owns_synced_accounts(client: Client) -> None:
    account = client.account("Synced From Okta")

    answer = client.call("POST", f"/users/{account}/manage/lifecycle/disable", {})

    assert (answer.status, answer.body["key"]) == (403, "forbidden.action")
    assert answer.body["context"]["reason"]["key"] == "externalDirectory.scim"


def test_unmanaged_account_cannot_be_deactivated_but_suspended(client: Client) -> None:
    account = client.account("Unmanaged Contractor")

    assert client.call("POST", f"/users/{account}/manage/lifecycle/disable", {}).status == 403
    assert client.call("POST", f"{client.primary}/users/{account}/suspend", {}).status == 204


def test_hidden_mail_is_missing_and_not_searchable(client: Client) -> None:
    person = client.named("Hidden Mail")
    mail = client.state(person["accountId"])["email"]

    assert "email" not in person
    assert client.search(emails=[mail]).rows == []


def test_never_active_has_no_entries(client: Client) -> None:
    person = client.named("Never Active")
    dates = client.call("GET", f"{client.v1}/directory/users/{person['accountId']}/last-active-dates").body["data"]

    assert person["productAccess"] == dates["product_access"] == []
    assert dates["added_to_org"]


def test_invited_person_appears_with_the_default_group(client: Client) -> None:
    rule = {"resource": client.workspace("jira-software"), "role": "atlassian/user"}
    body = {"emails": ["fresh.face@larkspur-robotics.example"], "permissionRules": [rule]}

    account = client.call("POST", f"{client.v2}/users/invite", body).rows[0]["id"]

    person = client.search(accountIds=[account], expand=["groups", "productAccess"]).rows[0]
    assert [group["name"] for group in person["groups"]] == ["jira-users-larkspur"]
    assert (person["status"], person["claimStatus"], person["productAccess"]) == ("active", "managed", [])


def test_invite_reports_what_failed_for_whom(client: Client) -> None:
    deactivated = client.state(client.account("Deactivated Person"))["email"]
    body = {"emails": ["somebody.new@larkspur.example", deactivated], "additionalGroups": [client.group("employees")]}

    answer = client.call("POST", f"{client.v2}/users/invite", body)

    results = [row["results"][0]["groupAssignmentResult"][0]["status"] for row in answer.rows]
    assert (answer.status, results) == (206, ["INVITED", "ERROR"])


def test_returning_person_is_seen_after_touch(client: Client) -> None:
    account = client.account("Idle Person")
    before = client.named("Idle Person")["productAccess"][0]["lastActiveTimestamp"]

    client.sandbox.control.post("touch", {"account": account})

    assert client.named("Idle Person")["productAccess"][0]["lastActiveTimestamp"] > before


def test_jira_and_the_organisation_see_one_membership(client: Client) -> None:
    account, group = client.account("Idle Person"), client.group("confluence-guests")

    client.call("POST", "/rest/api/3/group/user", {"accountId": account}, {"groupId": group})

    assert group in client.state(account)["groups"]
    assert client.search(groupIds=[group], searchTerm="Idle Person").rows[0]["accountId"] == account


def test_portal_customer_reports_but_is_not_in_the_organisation(client: Client) -> None:
    customers = client.call("GET", "/rest/api/3/users/search", query={"maxResults": 1000}).body
    customer = next(user["accountId"] for user in customers if user["accountType"] == "customer")

    key = client.sandbox.control.post("request", {"reporter": customer, "summary": "May I?"})["key"]

    issue = client.call("GET", f"/rest/api/3/issue/{key}").body
    assert issue["fields"]["reporter"]["accountId"] == customer
    assert client.search(accountIds=[customer]).rows == []


def test_new_request_is_found_by_polling(client: Client) -> None:
    reporter = client.account("Active Person")
    key = client.sandbox.control.post("request", {"reporter": reporter, "requestTypeId": "11"})["key"]

    jql = 'project = HELP AND "Request Type" = "Request access" AND created >= -5m ORDER BY created ASC'
    found = client.call("GET", "/rest/api/3/search/jql", query={"jql": jql, "fields": "reporter"}).body["issues"]

    assert [(issue["key"], issue["fields"]["reporter"]["accountId"]) for issue in found] == [(key, reporter)]


def test_second_site_stands_alone_under_its_prefix(client: Client) -> None:
    site = "/_site/larkspur-partners"

    desks = client.call("GET", f"{site}/rest/servicedeskapi/servicedesk").body["values"]
    cloud_id = client.call("GET", f"{site}/_edge/tenant_info", key="none").body["cloudId"]
    through = client.call("GET", f"/ex/jira/{cloud_id}/rest/api/3/myself")

    assert [desk["projectKey"] for desk in desks] == ["PART"]
    assert through.status == 200
    assert client.call("GET", f"/ex/jira/{cloud_id}/rest/api/3/myself", key="api_token").status == 401
    assert client.call("GET", "/rest/api/3/myself", key="scoped_token").status == 401


@pytest.mark.parametrize("key", ["none", "expired_key", "unknown_key", "api_token"])
def test_wrong_key_is_401_and_changes_nothing(client: Client, key: str) -> None:
    account = client.account("Idle Person")

    answers = [
        client.call("POST", f"{client.primary}/users/{account}/suspend", {}, key=key),
        client.call("POST", f"/users/{account}/manage/lifecycle/disable", {}, key=key),
        client.call("GET", client.v1, key=key),
    ]

    assert [answer.status for answer in answers] == [401, 401, 401]
    assert client.state(account)["status"] == "active"


def test_key_with_scopes_reads_only_what_has_a_scope(client: Client) -> None:
    account = client.account("Idle Person")

    def status(method: str, path: str, body: Any = None) -> int:
        return client.call(method, path, body, key="scoped_key").status

    assert status("GET", f"{client.v2}/directories") == 200
    assert status("POST", f"{client.v2}/workspaces", {}) == 200
    assert status("POST", f"{client.everywhere}/users/search", {}) == 403
    assert status("POST", f"{client.primary}/users/{account}/suspend", {}) == 403
    manage = client.call("GET", f"/users/{account}/manage", key="scoped_key")
    assert (manage.status, manage.body["key"]) == (403, "forbidden.insufficientScope")


def test_removed_endpoints_are_gone(client: Client) -> None:
    assert client.call("POST", f"{client.v1}/users/search", {}).status == 410
    assert client.call("POST", f"{client.v1}/directory/users/x/suspend-access", {}).status == 410
    assert client.call("GET", f"{client.v1}/nothing/here").status == 404


def test_audit_log_is_limited_to_ten_calls_a_minute(client: Client) -> None:
    client.sandbox.core._events_calls.clear()

    statuses = [client.call("GET", f"{client.v1}/events").status for _ in range(11)]

    assert statuses == [200] * 10 + [429]
    assert client.call("GET", f"{client.v1}/events-stream").status == 200


def test_pages_hold_each_person_once_while_the_list_changes(client: Client) -> None:
    first = client.search(limit=100, status=["active"])
    for row in first.rows[5:15]:
        client.call("POST", f"{client.primary}/users/{row['accountId']}/suspend", {})
    seen = [row["accountId"] for row in first.rows]
    cursor = first.body["links"]["next"]
    while cursor:
        page = client.search(limit=100, cursor=cursor)
        seen += [row["accountId"] for row in page.rows]
        cursor = page.body["links"].get("next")

    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("path", ["/rest/api/3/user/search?query=a", "/rest/api/3/nothing"])
def test_unknown_site_paths_and_bad_paging_are_told(client: Client, path: str) -> None:
    answer = client.call("GET", path.partition("?")[0], query={"maxResults": "many", "query": "a"})

    assert answer.status in (400, 404)
    assert answer.body["errorMessages"]
