"""Every request that can be sent to Atlassian, reads and writes apart. Nothing is sent that is not listed here.

Contract tests hold each entry against the published documents; `ReadCall` and `WriteCall` are different types, so that
the reader cannot be handed a write (P3). POST searches are reads: they change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ORGANIZATION: Final = "admin-organization"
USER_MANAGEMENT: Final = "admin-user-management"
JIRA: Final = "jira-platform-v3"
JSM: Final = "jsm"

API: Final = "api"
"""The organisation's API host, with the organisation key."""
SITE: Final = "site"
"""The site's host, with e-mail and API token."""
OPEN: Final = "open"
"""The site's host, without any credential."""


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of request. `path` is a template under the host; `spec_path` the same in the document `spec` ("" = in
    none).

    `family` is its limiter bucket on that host: one per endpoint, as Atlassian counts. `is_narrow`: a 429 is known to
    concern this family alone; otherwise it holds the whole host, since Atlassian does not say how far its limits reach.
    """

    name: str
    method: str
    path: str
    family: str
    spec: str
    spec_path: str
    host: str = API
    is_narrow: bool = False

    @property
    def is_write(self) -> bool:
        return isinstance(self, WriteCall)


@dataclass(frozen=True, slots=True)
class ReadCall(Call):
    """A request without effect: may be repeated."""


@dataclass(frozen=True, slots=True)
class WriteCall(Call):
    """A request with an effect: never repeated unless Atlassian refused it with 429."""


READS: dict[str, ReadCall] = {}
WRITES: dict[str, WriteCall] = {}


def _read(name: str, method: str, spec: str, path: str, family: str, *, is_narrow: bool = False) -> ReadCall:
    host = API if spec in (ORGANIZATION, USER_MANAGEMENT) else SITE
    call = ReadCall(name, method, _prefix(spec) + path, family, spec, path, host, is_narrow)
    READS[name] = call
    return call


def _write(name: str, method: str, spec: str, path: str, family: str) -> WriteCall:
    call = WriteCall(name, method, _prefix(spec) + path, family, spec, path)
    WRITES[name] = call
    return call


def _prefix(spec: str) -> str:
    """The Organizations document's server is `https://api.atlassian.com/admin`; the others' have no path."""
    return "/admin" if spec == ORGANIZATION else ""


_V1 = "/v1/orgs/{orgId}"
_V2 = "/v2/orgs/{orgId}"
_DIRECTORY = _V2 + "/directories/{directoryId}"
_GROUP = _DIRECTORY + "/groups/{groupId}"
_MANAGE = "/users/{account_id}/manage"

GET_ORG = _read("get_org", "GET", ORGANIZATION, _V1, "orgs.get")
LIST_ORGS = _read("list_orgs", "GET", ORGANIZATION, "/v1/orgs", "orgs.list")
LIST_DIRECTORIES = _read("list_directories", "GET", ORGANIZATION, _V2 + "/directories", "directories")
LIST_WORKSPACES = _read("list_workspaces", "POST", ORGANIZATION, _V2 + "/workspaces", "workspaces")
LIST_DOMAINS = _read("list_domains", "GET", ORGANIZATION, _V1 + "/domains", "domains")
SEARCH_USERS = _read("search_users", "POST", ORGANIZATION, _DIRECTORY + "/users/search", "users.search")
COUNT_USERS = _read("count_users", "GET", ORGANIZATION, _DIRECTORY + "/users/count", "users.count")
USER_STATS = _read("user_stats", "GET", ORGANIZATION, _DIRECTORY + "/users/stats", "users.stats")
GET_USER = _read("get_user", "GET", ORGANIZATION, _DIRECTORY + "/users/{userId}", "users.get")
USER_ROLES = _read("user_roles", "GET", ORGANIZATION, _DIRECTORY + "/users/{accountId}/role-assignments", "users.roles")
LAST_ACTIVE = _read(
    "last_active",
    "GET",
    ORGANIZATION,
    _V1 + "/directory/users/{accountId}/last-active-dates",
    "users.last_active",
    is_narrow=True,
)
SEARCH_GROUPS = _read("search_groups", "POST", ORGANIZATION, _DIRECTORY + "/groups/search", "groups.search")
GET_GROUP = _read("get_group", "GET", ORGANIZATION, _GROUP, "groups.get")
COUNT_GROUPS = _read("count_groups", "GET", ORGANIZATION, _DIRECTORY + "/groups/count", "groups.count")
GROUP_ROLES = _read("group_roles", "GET", ORGANIZATION, _GROUP + "/role-assignments", "groups.roles")
MANAGED_ACCOUNTS = _read("managed_accounts", "GET", ORGANIZATION, _V1 + "/users", "managed_accounts")
EVENTS = _read("events", "GET", ORGANIZATION, _V1 + "/events-stream", "events", is_narrow=True)
LIFECYCLE_PERMISSIONS = _read("lifecycle_permissions", "GET", USER_MANAGEMENT, _MANAGE, "manage")

JIRA_MYSELF = _read("jira_myself", "GET", JIRA, "/rest/api/3/myself", "jira.myself")
JIRA_PERMISSIONS = _read("jira_permissions", "GET", JIRA, "/rest/api/3/mypermissions", "jira.permissions")
JIRA_SERVER = _read("jira_server_info", "GET", JIRA, "/rest/api/3/serverInfo", "jira.server")
JIRA_USERS = _read("jira_users", "GET", JIRA, "/rest/api/3/users/search", "jira.users")
JIRA_PROJECTS = _read("jira_projects", "GET", JIRA, "/rest/api/3/project/search", "jira.projects")
JIRA_FIELDS = _read("jira_fields", "GET", JIRA, "/rest/api/3/field", "jira.fields")
JIRA_SEARCH = _read("jira_search", "POST", JIRA, "/rest/api/3/search/jql", "jira.search")
JIRA_ROLES = _read("jira_application_roles", "GET", JIRA, "/rest/api/3/applicationrole", "jira.roles")
SERVICE_DESKS = _read("service_desks", "GET", JSM, "/rest/servicedeskapi/servicedesk", "jsm.desks")
REQUEST_TYPES = _read(
    "request_types", "GET", JSM, "/rest/servicedeskapi/servicedesk/{serviceDeskId}/requesttype", "jsm.request_types"
)
REQUEST = _read("request", "GET", JSM, "/rest/servicedeskapi/request/{issueIdOrKey}", "jsm.requests")

# In no document: readable without a credential, seen in use by others (API.md §1).
TENANT_INFO = ReadCall("tenant_info", "GET", "/_edge/tenant_info", "site.tenant", "", "", OPEN)
READS[TENANT_INFO.name] = TENANT_INFO

SUSPEND = _write("suspend", "POST", ORGANIZATION, _DIRECTORY + "/users/{accountId}/suspend", "users.suspend")
RESTORE = _write("restore", "POST", ORGANIZATION, _DIRECTORY + "/users/{accountId}/restore", "users.restore")
REMOVE_USER = _write("remove_from_directory", "DELETE", ORGANIZATION, _DIRECTORY + "/users/{accountId}", "users.remove")
ADD_MEMBER = _write("add_to_group", "POST", ORGANIZATION, _GROUP + "/memberships", "memberships.add")
REMOVE_MEMBER = _write(
    "remove_from_group", "DELETE", ORGANIZATION, _GROUP + "/memberships/{accountId}", "memberships.remove"
)
CREATE_GROUP = _write("create_group", "POST", ORGANIZATION, _DIRECTORY + "/groups", "groups.create")
DELETE_GROUP = _write("delete_group", "DELETE", ORGANIZATION, _GROUP, "groups.delete")
ASSIGN_GROUP_ROLE = _write(
    "assign_group_role", "POST", ORGANIZATION, _GROUP + "/role-assignments/assign", "group_roles.assign"
)
REVOKE_GROUP_ROLE = _write(
    "revoke_group_role", "POST", ORGANIZATION, _GROUP + "/role-assignments/revoke", "group_roles.revoke"
)
ASSIGN_ROLE = _write("assign_role", "POST", ORGANIZATION, _V1 + "/users/{userId}/roles/assign", "roles.assign")
REVOKE_ROLE = _write("revoke_role", "POST", ORGANIZATION, _V1 + "/users/{userId}/roles/revoke", "roles.revoke")
ASSIGN_ORG_ADMIN = _write(
    "assign_org_admin", "POST", ORGANIZATION, _V1 + "/users/{userId}/role-assignments/assign", "org_admin.assign"
)
REVOKE_ORG_ADMIN = _write(
    "revoke_org_admin", "POST", ORGANIZATION, _V1 + "/users/{userId}/role-assignments/revoke", "org_admin.revoke"
)
INVITE = _write("invite", "POST", ORGANIZATION, _V2 + "/users/invite", "users.invite")
DEACTIVATE = _write("deactivate", "POST", USER_MANAGEMENT, _MANAGE + "/lifecycle/disable", "lifecycle.disable")
ACTIVATE = _write("activate", "POST", USER_MANAGEMENT, _MANAGE + "/lifecycle/enable", "lifecycle.enable")
DELETE_ACCOUNT = _write("delete_account", "POST", USER_MANAGEMENT, _MANAGE + "/lifecycle/delete", "lifecycle.delete")
CANCEL_DELETE = _write(
    "cancel_delete", "POST", USER_MANAGEMENT, _MANAGE + "/lifecycle/cancel-delete", "lifecycle.cancel_delete"
)
