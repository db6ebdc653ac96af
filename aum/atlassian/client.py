"""The two clients. `AtlassianReader` has no method that can write, and its transport refuses to (P3: Safe mode holds
one); `AtlassianClient` adds the writes. Both may be shared by threads.

Endpoints and their quirks: API.md. Lists come as `Page`s for work that must be resumable, and as iterators for the
rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeVar

import requests

from aum.atlassian import calls, paging, schemas
from aum.atlassian.calls import ReadCall, WriteCall
from aum.atlassian.errors import Conflict, LostAnswer, UnexpectedAnswer
from aum.atlassian.limiter import SharedLimiter
from aum.atlassian.schemas import (
    ApplicationRole,
    Directory,
    DirectoryStatus,
    Domain,
    GroupInfo,
    InviteResult,
    IssueInfo,
    JiraField,
    JiraServer,
    JiraUser,
    LastActive,
    LifecyclePermission,
    ManagedAccount,
    OrgEvent,
    OrgInfo,
    Page,
    Person,
    ProductActivity,
    Project,
    RequestInfo,
    RequestType,
    RoleAssignment,
    ServiceDesk,
    UserRoles,
    UserStats,
    Workspace,
    WriteAnswer,
)
from aum.atlassian.transport import (
    CallRecord,
    Connection,
    Observer,
    ReadTransport,
    Reply,
    WriteTransport,
    default_session,
)

__all__ = ["ANY_DIRECTORY", "AtlassianClient", "AtlassianReader", "CallRecord", "Connection", "WriteAnswer"]

T = TypeVar("T")

ANY_DIRECTORY: Final = "-"
"""Every directory that the key may manage: right for lists and searches; a write needs the real one."""

# What makes a person's row complete: roles for protection (P2), activity per product (P1), groups.
FULL_PERSON: Final = ("platformRoles", "productAccess", "groups")

MAX_ACCOUNT_IDS: Final = 10
MAX_EMAILS: Final = 100
MAX_INVITES: Final = 25
ORG_ADMIN: Final = "atlassian/org-admin"

# How many values the document allows in each list of a search or count.
_LIST_LIMITS: Final = {
    "accountIds": MAX_ACCOUNT_IDS,
    "emails": MAX_EMAILS,
    "groupIds": 10,
    "groupNames": 100,
    "resourceIds": 20,
    "roleIds": 10,
    "emailDomains": 10,
    "status": 4,
    "accountStatus": 3,
    "membershipStatus": 3,
}


class AtlassianReader:
    """Everything AUM reads of one organisation. Close it, or use it in `with`.

    `timeout` is (connect, between bytes) in seconds, long because large lists take 20 to 30 s. `max_wait_seconds` is
    what one call may wait in all for the limiter. `observer` gets a `CallRecord` per attempt, in the calling thread.

    Every method raises the errors of `aum.atlassian.errors`; reads are repeated by themselves where that can help.
    """

    _transport_class: type[ReadTransport] = ReadTransport

    def __init__(
        self,
        connection: Connection,
        *,
        limiter: SharedLimiter,
        timeout: tuple[float, float] = (5.0, 60.0),
        max_wait_seconds: float = 60.0,
        session_factory: Callable[[], requests.Session] = default_session,
        observer: Observer | None = None,
    ) -> None:
        self.connection = connection
        self._transport = self._transport_class(
            connection,
            limiter.of(connection.organization_key),
            timeout=timeout,
            max_wait_seconds=max_wait_seconds,
            session_factory=session_factory,
            observer=observer,
        )

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> AtlassianReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- organisation

    def get_org(self) -> OrgInfo:
        """The organisation itself. NotFound or Forbidden: the key belongs to another one."""
        return self._read(calls.GET_ORG, lambda body: schemas.parse_org(_data(body)))

    def orgs(self) -> list[OrgInfo]:
        """The organisations that the key may see; normally one."""

        def fetch(cursor: str | None) -> Page[OrgInfo]:
            return self._page(calls.LIST_ORGS, schemas.parse_org, query={"cursor": cursor}, path={})

        return list(paging.items(fetch, key=lambda org: org.id))

    def directories(self, *, account_id: str | None = None) -> list[Directory]:
        """The organisation's directories; with `account_id`, those the person is in (a person's row does not say)."""

        def fetch(cursor: str | None) -> Page[Directory]:
            query = {"accountId": account_id, "limit": 100, "cursor": cursor}
            return self._page(calls.LIST_DIRECTORIES, schemas.parse_directory, query=query)

        return list(paging.items(fetch, key=lambda directory: directory.id))

    def workspaces(self) -> list[Workspace]:
        """Every product on every site, sandboxes included."""

        def fetch(cursor: str | None) -> Page[Workspace]:
            # With a cursor nothing else may be in the body (API.md §2).
            body = {"cursor": cursor} if cursor else {"limit": 1000}
            return self._page(calls.LIST_WORKSPACES, schemas.parse_workspace, body=body)

        return list(paging.items(fetch, key=lambda workspace: workspace.id))

    def domains(self) -> list[Domain]:
        """The organisation's domains; only accounts of a verified one can be managed."""

        def fetch(cursor: str | None) -> Page[Domain]:
            return self._page(calls.LIST_DOMAINS, schemas.parse_domain, query={"cursor": cursor})

        return list(paging.items(fetch, key=lambda domain: domain.id))

    def events(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: str | None = None,
        limit: int = 500,
    ) -> Page[OrgEvent]:
        """One page of the organisation's audit log, oldest first. Ten requests a minute at most."""
        query = {"from": _epoch_ms(since), "to": _epoch_ms(until), "sortOrder": "asc", "limit": limit, "cursor": cursor}
        return self._page(calls.EVENTS, schemas.parse_event, query=query)

    # -- people

    def search_users(
        self,
        directory_id: str = ANY_DIRECTORY,
        *,
        cursor: str | None = None,
        limit: int = 100,
        expand: Sequence[str] = FULL_PERSON,
        account_ids: Sequence[str] | None = None,
        emails: Sequence[str] | None = None,
        group_ids: Sequence[str] | None = None,
        resource_ids: Sequence[str] | None = None,
        role_ids: Sequence[str] | None = None,
        email_domains: Sequence[str] | None = None,
        status: Sequence[str] | None = None,
        account_status: Sequence[str] | None = None,
        membership_status: Sequence[str] | None = None,
        claim_status: str | None = None,
        search_term: str | None = None,
    ) -> Page[Person]:
        """One page (at most 100) of v2 `users/search`. Without `productAccess` in `expand`, `products` is None:
        unknown.

        Raises ValueError for more filter values than the document allows (account ids 10, e-mails 100, groups 10), and
        for `emails` beside `search_term`. Atlassian has ignored filters before: check the rows.
        """
        if emails is not None and search_term is not None:
            raise ValueError("Search for e-mails or for a term, not both.")
        body: dict[str, Any] = {
            "accountIds": account_ids,
            "emails": emails,
            "groupIds": group_ids,
            "resourceIds": resource_ids,
            "roleIds": role_ids,
            "emailDomains": email_domains,
            "status": status,
            "accountStatus": account_status,
            "membershipStatus": membership_status,
            "claimStatus": claim_status,
            "searchTerm": search_term,
            "expand": expand or None,
            "limit": limit,
            "cursor": cursor,
        }
        return self._page(
            calls.SEARCH_USERS, schemas.parse_person, path={"directoryId": directory_id}, body=_search_body(body)
        )

    def iter_users(self, directory_id: str = ANY_DIRECTORY, **filters: Any) -> Iterator[Person]:
        """Every person of `search_users` with these arguments, once each."""

        def fetch(cursor: str | None) -> Page[Person]:
            return self.search_users(directory_id, cursor=cursor, **filters)

        return paging.items(fetch, key=lambda person: person.account_id)

    def iter_user_pages(
        self, directory_id: str = ANY_DIRECTORY, *, cursor: str | None = None, **filters: Any
    ) -> Iterator[Page[Person]]:
        """The same page by page, from `cursor` on, for work that stores how far it came."""

        def fetch(at: str | None) -> Page[Person]:
            return self.search_users(directory_id, cursor=at, **filters)

        return paging.pages(fetch, key=lambda person: person.account_id, start_cursor=cursor)

    def find_users(self, account_ids: Sequence[str], directory_id: str = ANY_DIRECTORY) -> dict[str, Person]:
        """The people with these ids, ten to a request (the recheck of P6). Those not found are not in the answer."""
        found: dict[str, Person] = {}
        wanted = list(dict.fromkeys(account_ids))
        for at in range(0, len(wanted), MAX_ACCOUNT_IDS):
            some = wanted[at : at + MAX_ACCOUNT_IDS]
            for person in self.iter_users(directory_id, account_ids=some):
                if person.account_id in some:
                    found[person.account_id] = person
        return found

    def count_users(
        self,
        directory_id: str = ANY_DIRECTORY,
        *,
        status: Sequence[str] | None = None,
        account_status: Sequence[str] | None = None,
        membership_status: Sequence[str] | None = None,
        claim_status: str | None = None,
        group_ids: Sequence[str] | None = None,
    ) -> int:
        """How many people match, by Atlassian's own count."""
        query = {
            "status": status,
            "accountStatus": account_status,
            "membershipStatus": membership_status,
            "claimStatus": claim_status,
            "groupIds": group_ids,
        }
        return self._read(calls.COUNT_USERS, _count, path={"directoryId": directory_id}, query=_search_body(query))

    def user_stats(self, directory_id: str = ANY_DIRECTORY) -> UserStats:
        """People per account status and per role."""
        return self._read(
            calls.USER_STATS,
            lambda body: schemas.parse_user_stats(schemas.as_object(body, what="The answer")),
            path={"directoryId": directory_id},
        )

    def get_user(self, account_id: str, directory_id: str = ANY_DIRECTORY) -> Person:
        """One person with `deactivated_at`; this endpoint gives neither products nor groups (both None)."""
        return self._read(
            calls.GET_USER,
            lambda body: schemas.parse_person(_data(body)),
            path={"directoryId": directory_id, "userId": account_id},
        )

    def role_assignments(self, account_id: str, directory_id: str = ANY_DIRECTORY) -> UserRoles:
        """What the person may use and how each role came (direct, group_direct, inferred), and the status per
        directory.
        """
        assignments: list[RoleAssignment] = []
        statuses: dict[str, DirectoryStatus] = {}

        def fetch(cursor: str | None) -> Page[tuple[str, tuple[list[RoleAssignment], DirectoryStatus | None]]]:
            return self._page(
                calls.USER_ROLES,
                _with_resource(schemas.parse_user_roles),
                path={"directoryId": directory_id, "accountId": account_id},
                query={"limit": 100, "cursor": cursor},
            )

        for page in paging.pages(fetch, key=lambda item: item[0]):
            for _, (some, status) in page.items:
                assignments += some
                if status is not None:
                    statuses[status.directory_id] = status
        return UserRoles(assignments, list(statuses.values()))

    def last_active(self, account_id: str) -> LastActive:
        """Last use per product of one person; () means never. About 200 requests a minute: prefer `search_users`."""
        products: dict[tuple[str, str], ProductActivity] = {}
        added_at: datetime | None = None

        def fetch(cursor: str | None) -> Page[ProductActivity]:
            nonlocal added_at

            def parse(body: Any) -> Page[ProductActivity]:
                nonlocal added_at
                some, added = schemas.parse_last_active(_data(body))
                added_at = added or added_at
                return Page(some, self._next_cursor(body))

            return self._read(calls.LAST_ACTIVE, parse, path={"accountId": account_id}, query={"cursor": cursor})

        for page in paging.pages(fetch, key=repr):
            products.update({(p.resource_id, p.key): p for p in page.items})
        return LastActive(tuple(products.values()), added_at)

    def managed_accounts(self) -> Iterator[ManagedAccount]:
        """The claimed accounts. Empty without a claimed domain: never read it as "no users"."""

        def fetch(cursor: str | None) -> Page[ManagedAccount]:
            return self._page(calls.MANAGED_ACCOUNTS, schemas.parse_managed_account, query={"cursor": cursor})

        return paging.items(fetch, key=lambda account: account.account_id)

    def lifecycle_permissions(self, account_id: str) -> dict[str, LifecyclePermission]:
        """What the key may do to a managed account, e.g. `lifecycle.enablement`. Needs a key without scopes."""
        return self._read(
            calls.LIFECYCLE_PERMISSIONS,
            lambda body: schemas.parse_lifecycle(schemas.as_object(body, what="The answer")),
            path={"account_id": account_id},
        )

    # -- groups

    def search_groups(
        self,
        directory_id: str = ANY_DIRECTORY,
        cursor: str | None = None,
        limit: int = 100,
        *,
        expand: Sequence[str] = ("counts.users", "counts.resources"),
        group_ids: Sequence[str] | None = None,
        group_names: Sequence[str] | None = None,
        account_ids: Sequence[str] | None = None,
        search_term: str | None = None,
    ) -> Page[GroupInfo]:
        """One page (at most 100) of v2 `groups/search`. A group just made is found after 1 to 2 s."""
        body = {
            "groupIds": group_ids,
            "groupNames": group_names,
            "accountIds": account_ids,
            "searchTerm": search_term,
            "expand": expand or None,
            "limit": limit,
            "cursor": cursor,
        }
        return self._page(
            calls.SEARCH_GROUPS, schemas.parse_group, path={"directoryId": directory_id}, body=_search_body(body)
        )

    def iter_groups(self, directory_id: str = ANY_DIRECTORY, **filters: Any) -> Iterator[GroupInfo]:
        """Every group of `search_groups` with these arguments, once each."""

        def fetch(cursor: str | None) -> Page[GroupInfo]:
            return self.search_groups(directory_id, cursor, **filters)

        return paging.items(fetch, key=lambda group: group.id)

    def get_group(self, group_id: str, directory_id: str) -> GroupInfo:
        return self._read(
            calls.GET_GROUP,
            lambda body: schemas.parse_group(_data(body)),
            path={"directoryId": directory_id, "groupId": group_id},
        )

    def count_groups(self, directory_id: str = ANY_DIRECTORY) -> int:
        return self._read(calls.COUNT_GROUPS, _count, path={"directoryId": directory_id})

    def group_role_assignments(self, directory_id: str, group_id: str) -> list[RoleAssignment]:
        """What a group grants, one entry per resource and role."""

        def fetch(cursor: str | None) -> Page[tuple[str, list[RoleAssignment]]]:
            return self._page(
                calls.GROUP_ROLES,
                _with_resource(schemas.parse_group_roles),
                path={"directoryId": directory_id, "groupId": group_id},
                query={"limit": 100, "cursor": cursor},
            )

        pages = paging.pages(fetch, key=lambda item: item[0])
        return [role for page in pages for _, roles in page.items for role in roles]

    # -- Jira and JSM, on the site

    def tenant_info(self) -> str:
        """The site's cloud id, read without a credential. UnexpectedAnswer or NotFound: not an Atlassian site."""
        return self._transport.cloud_id()

    def jira_myself(self) -> JiraUser:
        """Whose API token it is."""
        return self._read(
            calls.JIRA_MYSELF, lambda body: schemas.parse_jira_user(schemas.as_object(body, what="myself"))
        )

    def jira_permissions(self, *permissions: str) -> dict[str, bool]:
        """Whether the token's owner has each of these Jira permissions, e.g. `ADMINISTER`."""

        def parse(body: Any) -> dict[str, bool]:
            given = schemas.as_object(schemas.as_object(body, what="The answer").get("permissions"), what="permissions")
            return {p: isinstance(given.get(p), dict) and given[p].get("havePermission") is True for p in permissions}

        return self._read(calls.JIRA_PERMISSIONS, parse, query={"permissions": ",".join(permissions)})

    def jira_server_info(self) -> JiraServer:
        return self._read(
            calls.JIRA_SERVER, lambda body: schemas.parse_jira_server(schemas.as_object(body, what="serverInfo"))
        )

    def jira_users_search(self, *, start_at: int = 0, limit: int = 1000) -> Page[JiraUser]:
        """One page of all Jira users: inactive, app and customer accounts too. Only an empty page is the end."""

        def parse(body: Any) -> Page[JiraUser]:
            rows = schemas.as_list(body, what="The answer")
            users = tuple(schemas.parse_jira_user(schemas.as_object(row, what="A user")) for row in rows)
            return Page(users, str(start_at + len(users)) if users else None)

        return self._read(calls.JIRA_USERS, parse, query={"startAt": start_at, "maxResults": limit})

    def iter_jira_users(self) -> Iterator[JiraUser]:
        def fetch(cursor: str | None) -> Page[JiraUser]:
            return self.jira_users_search(start_at=int(cursor or 0))

        return paging.items(fetch, key=lambda user: user.account_id)

    def application_roles(self) -> list[ApplicationRole]:
        """Jira's products with their seats, up to 7 days old."""

        def parse(body: Any) -> list[ApplicationRole]:
            rows = schemas.as_list(body, what="The answer")
            return [schemas.parse_application_role(schemas.as_object(row, what="A role")) for row in rows]

        return self._read(calls.JIRA_ROLES, parse)

    def projects(self) -> Iterator[Project]:
        def fetch(cursor: str | None) -> Page[Project]:
            query = {"startAt": int(cursor or 0), "maxResults": 100}
            return self._read(
                calls.JIRA_PROJECTS, lambda body: _offset_page(body, schemas.parse_project, "startAt"), query=query
            )

        return paging.items(fetch, key=lambda project: project.id)

    def service_desks(self) -> Iterator[ServiceDesk]:
        def fetch(cursor: str | None) -> Page[ServiceDesk]:
            query = {"start": int(cursor or 0), "limit": 100}
            return self._read(
                calls.SERVICE_DESKS, lambda body: _offset_page(body, schemas.parse_service_desk, "start"), query=query
            )

        return paging.items(fetch, key=lambda desk: desk.id)

    def request_types(self, service_desk_id: str) -> Iterator[RequestType]:
        def fetch(cursor: str | None) -> Page[RequestType]:
            return self._read(
                calls.REQUEST_TYPES,
                lambda body: _offset_page(body, schemas.parse_request_type, "start"),
                path={"serviceDeskId": service_desk_id},
                query={"start": int(cursor or 0), "limit": 100},
            )

        return paging.items(fetch, key=lambda request_type: request_type.id)

    def request(self, key: str) -> RequestInfo:
        """A customer request, read again before anything an event says about it is believed."""
        return self._read(
            calls.REQUEST,
            lambda body: schemas.parse_request(schemas.as_object(body, what="The request")),
            path={"issueIdOrKey": key},
        )

    def fields(self) -> list[JiraField]:
        """Every field of issues; the one with the request type has another id on each site."""

        def parse(body: Any) -> list[JiraField]:
            rows = schemas.as_list(body, what="The answer")
            return [schemas.parse_field(schemas.as_object(row, what="A field")) for row in rows]

        return self._read(calls.JIRA_FIELDS, parse)

    def search_issues(
        self, jql: str, *, cursor: str | None = None, limit: int = 100, request_type_field: str | None = None
    ) -> Page[IssueInfo]:
        """One page of the issues that `jql` finds. The index of Jira lags a little behind: ask for an overlap."""
        names = ["created", "reporter", *([request_type_field] if request_type_field else [])]
        body: dict[str, Any] = {"jql": jql, "fields": names, "maxResults": limit}
        if cursor:
            body["nextPageToken"] = cursor

        def parse(answer: Any) -> Page[IssueInfo]:
            rows = schemas.rows_of(answer, lambda row: schemas.parse_issue(row, request_type_field), key="issues")
            token = answer.get("nextPageToken") if isinstance(answer, dict) else None
            return Page(rows, token if isinstance(token, str) and token else None)

        return self._read(calls.JIRA_SEARCH, parse, body=body)

    def iter_issues(self, jql: str, *, request_type_field: str | None = None) -> Iterator[IssueInfo]:
        """Every issue of `search_issues`, once each."""

        def fetch(cursor: str | None) -> Page[IssueInfo]:
            return self.search_issues(jql, cursor=cursor, request_type_field=request_type_field)

        return paging.items(fetch, key=lambda issue: issue.id)

    # -- how

    def _read(
        self,
        call: ReadCall,
        parse: Callable[[Any], T],
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> T:
        full_path = {"orgId": self.connection.org_id, **(path or {})} if "{orgId}" in call.path else path
        return self._transport.read(call, parse, path=full_path, query=query, body=body)

    def _page(
        self,
        call: ReadCall,
        parse_row: Callable[[schemas.Json], T],
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Page[T]:
        def parse(answer: Any) -> Page[T]:
            meta = answer.get("meta") if isinstance(answer, dict) else None
            total = meta.get("total") if isinstance(meta, dict) else None
            return Page(
                schemas.rows_of(answer, parse_row),
                self._next_cursor(answer),
                total if isinstance(total, int) else None,
            )

        return self._read(call, parse, path=path, query=query, body=body)

    def _next_cursor(self, body: Any) -> str | None:
        return paging.next_cursor(body, base_url=self.connection.api_url)


class AtlassianClient(AtlassianReader):
    """The reader with the writes. None is repeated by itself, except after a 429, which had no effect.

    Each returns a `WriteAnswer`. Raises Unavailable when nothing was sent, LostAnswer when the effect is unknown (the
    caller reads the state), RateLimited or WaitTooLong when the wait would be too long, and the refusals of `errors`.
    """

    _transport_class = WriteTransport
    _transport: WriteTransport

    def __enter__(self) -> AtlassianClient:
        return self

    # -- people

    def suspend(self, account_id: str, directory_id: str) -> WriteAnswer:
        """Suspend the membership in one directory: roles and groups stay, billing stops."""
        return self._write(calls.SUSPEND, {"directoryId": directory_id, "accountId": account_id})

    def restore(self, account_id: str, directory_id: str) -> WriteAnswer:
        """End a suspension; billing resumes."""
        return self._write(calls.RESTORE, {"directoryId": directory_id, "accountId": account_id})

    def remove_from_directory(self, account_id: str, directory_id: str) -> WriteAnswer:
        """Remove the person from a directory: roles and groups are lost. Queued: they stay listed for a while."""
        return self._write(calls.REMOVE_USER, {"directoryId": directory_id, "accountId": account_id})

    def deactivate(self, account_id: str, message: str = "") -> WriteAnswer:
        """Block a managed account everywhere, other organisations included. `message` is shown by Atlassian."""
        body = {"message": message} if message else {}
        return self._write(calls.DEACTIVATE, {"account_id": account_id}, body)

    def activate(self, account_id: str) -> WriteAnswer:
        """Unblock a managed account."""
        return self._write(calls.ACTIVATE, {"account_id": account_id})

    def delete_account(self, account_id: str) -> WriteAnswer:
        """Start the deletion of a managed account: final after 14 days."""
        return self._write(calls.DELETE_ACCOUNT, {"account_id": account_id})

    def cancel_delete(self, account_id: str) -> WriteAnswer:
        """Stop a deletion within its 14 days; also activates the account."""
        return self._write(calls.CANCEL_DELETE, {"account_id": account_id})

    def invite(
        self,
        emails: Sequence[str],
        permission_rules: Sequence[tuple[str, str]] = (),
        group_ids: Sequence[str] = (),
        notify: bool = False,
        notification_text: str = "",
    ) -> list[InviteResult]:
        """Invite up to 25 addresses. `permission_rules` are (resource ARI, role). One result per address, in order.

        The answer may say success for some and failure for others (206): look at each. Raises ValueError for none or
        more than 25 addresses.
        """
        if not 1 <= len(emails) <= MAX_INVITES:
            raise ValueError(f"Invite 1 to {MAX_INVITES} addresses at a time.")
        body: dict[str, Any] = {"emails": list(emails), "sendNotification": notify}
        if permission_rules:
            body["permissionRules"] = [{"resource": resource, "role": role} for resource, role in permission_rules]
        if group_ids:
            body["additionalGroups"] = list(group_ids)
        if notification_text:
            body["notificationText"] = notification_text
        reply = self._send(calls.INVITE, {}, body)
        named = {result.email.lower(): result for result in self._invite_rows(reply)}
        return [
            replace(
                named.get(email.lower(), InviteResult(email, None, None, ())),
                email=email,
                request_id=reply.request_id,
                call_id=reply.call_id,
            )
            for email in emails
        ]

    def _invite_rows(self, reply: Reply) -> tuple[InviteResult, ...]:
        """The rows of an invite's answer. The invite was accepted, so an unreadable one leaves its effect unknown."""
        try:
            if not reply.is_whole:
                raise UnexpectedAnswer("The answer broke off.")
            return schemas.rows_of(reply.json(), schemas.parse_invite_row)
        except UnexpectedAnswer as error:
            raise LostAnswer(
                error.detail, status=reply.status, request_id=reply.request_id, call_id=reply.call_id
            ) from None

    # -- groups and roles

    def add_to_group(self, account_id: str, group_id: str, directory_id: str) -> WriteAnswer:
        """Add a member. `already` is set when Atlassian says so (409 ADMIN-UAM-409-2); other conflicts are raised."""
        path = {"directoryId": directory_id, "groupId": group_id}
        try:
            return self._write(calls.ADD_MEMBER, path, {"accountId": account_id})
        except Conflict as conflict:
            if not conflict.already_member:
                raise
            return WriteAnswer(409, conflict.request_id, conflict.call_id, already=True)

    def remove_from_group(self, account_id: str, group_id: str, directory_id: str) -> WriteAnswer:
        """Remove a member. NotFound can mean "not a member" or "no such group": read the state."""
        path = {"directoryId": directory_id, "groupId": group_id, "accountId": account_id}
        return self._write(calls.REMOVE_MEMBER, path)

    def create_group(self, name: str, directory_id: str, description: str = "") -> WriteAnswer:
        """Make a group. The answer has no id: search by name after 1 to 2 s. Conflict: the name exists."""
        body = {"name": name, "description": description} if description else {"name": name}
        return self._write(calls.CREATE_GROUP, {"directoryId": directory_id}, body)

    def delete_group(self, group_id: str, directory_id: str) -> WriteAnswer:
        return self._write(calls.DELETE_GROUP, {"directoryId": directory_id, "groupId": group_id})

    def assign_group_role(self, group_id: str, directory_id: str, role: str, resource: str) -> WriteAnswer:
        """Let a group grant `role` on `resource` (an ARI)."""
        path = {"directoryId": directory_id, "groupId": group_id}
        return self._write(calls.ASSIGN_GROUP_ROLE, path, {"resourceId": resource, "roleId": role})

    def revoke_group_role(self, group_id: str, directory_id: str, role: str, resource: str) -> WriteAnswer:
        path = {"directoryId": directory_id, "groupId": group_id}
        return self._write(calls.REVOKE_GROUP_ROLE, path, {"resourceId": resource, "roleId": role})

    def assign_role(self, account_id: str, role: str, resource: str) -> WriteAnswer:
        """Give a direct role on `resource` (an ARI). Conflict with `licence_limit`: no seat is free."""
        return self._write(calls.ASSIGN_ROLE, {"userId": account_id}, {"role": role, "resource": resource})

    def revoke_role(self, account_id: str, role: str, resource: str) -> WriteAnswer:
        """Take a direct role; access through groups stays."""
        return self._write(calls.REVOKE_ROLE, {"userId": account_id}, {"role": role, "resource": resource})

    def assign_org_admin(self, account_id: str) -> WriteAnswer:
        """Make an organisation admin; takes up to 30 s. Only ever by hand (P15)."""
        return self._write(calls.ASSIGN_ORG_ADMIN, {"userId": account_id}, {"role": ORG_ADMIN})

    def revoke_org_admin(self, account_id: str) -> WriteAnswer:
        """Take the organisation admin's role; takes up to 30 s. Only ever by hand (P15)."""
        return self._write(calls.REVOKE_ORG_ADMIN, {"userId": account_id}, {"role": ORG_ADMIN})

    # -- how

    def _write(self, call: WriteCall, path: Mapping[str, str], body: Any = None) -> WriteAnswer:
        reply = self._send(call, path, body)
        return WriteAnswer(reply.status, reply.request_id, reply.call_id)

    def _send(self, call: WriteCall, path: Mapping[str, str], body: Any) -> Reply:
        full_path = {"orgId": self.connection.org_id, **path} if "{orgId}" in call.path else path
        return self._transport.write(call, path=full_path, body=body)


# --- pieces -----------------------------------------------------------------------------------------------------------


def _data(body: Any) -> schemas.Json:
    return schemas.as_object(schemas.as_object(body, what="The answer").get("data"), what="`data` of the answer")


def _count(body: Any) -> int:
    return schemas.parse_count(schemas.as_object(body, what="The answer"))


def _with_resource(parse: Callable[[schemas.Json], T]) -> Callable[[schemas.Json], tuple[str, T]]:
    """`parse` with what tells a row of role assignments from others; a row may hold no role at all."""
    return lambda row: (f"{row.get('directoryId')} {row.get('resourceId')}", parse(row))


def _search_body(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is set, sequences as lists. Raises ValueError for more values than the document allows."""
    body: dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            continue
        body[name] = value if isinstance(value, str | int) else list(value)
        if name in _LIST_LIMITS and len(body[name]) > _LIST_LIMITS[name]:
            raise ValueError(f"At most {_LIST_LIMITS[name]} values of {name} in one search.")
    return body


def _offset_page(body: Any, parse_row: Callable[[schemas.Json], T], start_name: str) -> Page[T]:
    """A page of Jira (`startAt`, `isLast`) or JSM (`start`, `isLastPage`); the next offset stands in for a cursor."""
    answer = schemas.as_object(body, what="The answer")
    rows = schemas.rows_of(answer, parse_row, key="values")
    start = answer.get(start_name)
    is_last = answer.get("isLast") is True or answer.get("isLastPage") is True or not rows
    return Page(rows, None if is_last else str((start if isinstance(start, int) else 0) + len(rows)))


def _epoch_ms(at: datetime | None) -> str | None:
    return None if at is None else str(int(at.timestamp() * 1000))
