"""What Atlassian's answers become: frozen dataclasses, and the parsers that fill them.

None means "not given", which is never the same as empty (P1): a person whose activity was not expanded, throttled or
unreadable has `products=None`; one who never used anything has `products=()`. Parsers bear with nulls, missing optional
fields and unknown values of enumerations; a row without its id raises `UnexpectedAnswer`, since a mapper that drops
rows in silence looks like an empty organisation (COMPLAINTS.md, "Lists and paging").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

from aum.atlassian.errors import UnexpectedAnswer

T = TypeVar("T")

Json = Mapping[str, Any]

# Values that the published document names; others are kept as they come and listed in `unknown_values`.
KNOWN_VALUES: dict[str, frozenset[str]] = {
    "status": frozenset({"active", "suspended", "not_invited", "deactivated", "for_deletion"}),
    "accountStatus": frozenset({"active", "inactive", "closed"}),
    "membershipStatus": frozenset({"active", "suspended", "no_membership"}),
    "claimStatus": frozenset({"managed", "unmanaged"}),
    "accountType": frozenset({"atlassian", "customer", "app"}),
    "managementSource": frozenset({"invited", "synced"}),
}


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. `next_cursor` is None on the last page; `total` is None where the API does not say.

    `call_id` and `request_id` are those of the call that brought it.
    """

    items: tuple[T, ...]
    next_cursor: str | None
    total: int | None = None
    call_id: str = field(default="", compare=False)
    request_id: str | None = field(default=None, compare=False)


class ProductActivity(NamedTuple):
    """Last use of one product on one site. `last_active_at` is None when the entry came without a readable instant."""

    resource_id: str
    key: str
    last_active_at: datetime | None


class GroupRef(NamedTuple):
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Person:
    """A row of v2 `users/search`, or the single user. Instants are aware and UTC.

    `products` and `groups`: None = not given, () = given and empty. `platform_roles` is () in both cases; whether it
    was given is `platform_roles_given`. `unknown_values` lists `field=value` that the document does not name.
    """

    account_id: str
    name: str
    email: str | None
    status: str | None
    account_status: str | None
    membership_status: str | None
    claim_status: str | None
    account_type: str | None
    management_source: str | None
    added_to_org_at: datetime | None
    platform_roles: tuple[str, ...]
    products: tuple[ProductActivity, ...] | None
    groups: tuple[GroupRef, ...] | None
    unknown_values: tuple[str, ...] = ()
    platform_roles_given: bool = True
    deactivated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ManagedAccount:
    """A row of v1 managed accounts: claimed accounts only, and an empty list without a claimed domain (API.md §2)."""

    account_id: str
    name: str
    email: str | None
    account_status: str | None
    account_type: str | None
    is_billable: bool | None


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group of a directory. `is_synced`: fed by an identity provider. Booleans and counts are None when not given."""

    id: str
    name: str
    description: str
    directory_id: str | None
    is_synced: bool | None
    managed_by: str | None
    is_modifiable: bool | None
    is_deletable: bool | None
    user_count: int | None
    resource_count: int | None


@dataclass(frozen=True, slots=True)
class RoleAssignment:
    """One role on one resource. `methods`: direct, group_direct, inferred; () where the answer does not say."""

    resource_id: str
    resource_owner: str
    role: str
    methods: tuple[str, ...] = ()
    directory_id: str | None = None
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class DirectoryStatus:
    """A person's membership status in one directory, as the role assignments tell it."""

    directory_id: str
    status: str


class UserRoles(NamedTuple):
    """Answer of `role_assignments`: the assignments and the status per directory."""

    assignments: list[RoleAssignment]
    directory_statuses: list[DirectoryStatus]


class LastActive(NamedTuple):
    """Answer of `last_active`: () means never; `added_to_org_at` is the floor for the idle clock."""

    products: tuple[ProductActivity, ...]
    added_to_org_at: datetime | None


@dataclass(frozen=True, slots=True)
class Directory:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class OrgInfo:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Domain:
    id: str
    name: str
    claim_status: str | None
    claim_type: str | None


@dataclass(frozen=True, slots=True)
class Workspace:
    """A product on a site. `capacity` and `used` are seats, None where the plan has no number."""

    id: str
    type_key: str
    host_url: str | None
    name: str
    capacity: int | None
    used: int | None
    sandbox_type: str | None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class UserStats:
    account_status: Mapping[str, int]
    roles: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LifecyclePermission:
    """Whether the key may do one thing to an account; `reason_key` says why not, e.g. `externalDirectory.scim`."""

    allowed: bool
    reason_key: str | None


@dataclass(frozen=True, slots=True)
class OrgEvent:
    """An entry of the organisation's audit log."""

    id: str
    action: str
    at: datetime | None
    actor_id: str | None
    actor_name: str | None
    context_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InviteGrant:
    """What became of one role or group of an invite. `status` is INVITED or ERROR."""

    target: str
    role: str | None
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class InviteResult:
    """What became of one address. `is_invited` is None when the answer does not name it: read the state."""

    email: str
    account_id: str | None
    is_invited: bool | None
    grants: tuple[InviteGrant, ...]
    request_id: str | None = None
    call_id: str = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Atlassian's words on each role or group that failed."""
        return tuple(g.reason or g.status for g in self.grants if g.status != "INVITED")


@dataclass(frozen=True, slots=True)
class WriteAnswer:
    """A write that Atlassian accepted. `already`: it said that the state was so before."""

    status: int
    request_id: str | None
    call_id: str
    already: bool = False


@dataclass(frozen=True, slots=True)
class JiraUser:
    account_id: str
    name: str
    email: str | None
    account_type: str | None
    is_active: bool | None


@dataclass(frozen=True, slots=True)
class JiraServer:
    base_url: str
    title: str
    deployment_type: str
    version: str


@dataclass(frozen=True, slots=True)
class ApplicationRole:
    """A Jira product's seats. The counts are cached by Atlassian for up to 7 days: never proof of a freed seat."""

    key: str
    name: str
    seats: int | None
    remaining_seats: int | None
    user_count: int | None
    group_names: tuple[str, ...]
    default_group_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    key: str
    name: str
    type_key: str | None


@dataclass(frozen=True, slots=True)
class ServiceDesk:
    id: str
    project_id: str
    project_key: str
    project_name: str


@dataclass(frozen=True, slots=True)
class RequestType:
    id: str
    name: str
    service_desk_id: str
    description: str


@dataclass(frozen=True, slots=True)
class JiraField:
    """A field of issues; `custom_type` is the schema of a custom one, such as `com.atlassian.servicedesk:vp-origin`."""

    id: str
    name: str
    custom_type: str | None


@dataclass(frozen=True, slots=True)
class IssueInfo:
    """An issue as a search lists it; what was not asked for is None."""

    id: str
    key: str
    created_at: datetime | None
    reporter: JiraUser | None
    request_type_id: str | None


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """A customer request. `reporter.account_id` starts with `qm:` for a portal-only customer. `fields`: id → value."""

    issue_id: str
    key: str
    request_type_id: str | None
    service_desk_id: str | None
    reporter: JiraUser | None
    created_at: datetime | None
    status: str | None
    fields: Mapping[str, Any] = field(default_factory=dict)


# --- reading values ---------------------------------------------------------------------------------------------------


def clean_text(value: object) -> str:
    """A string that PostgreSQL and UTF-8 can hold: NUL dropped, lone surrogates replaced; "" for anything not a
    string.
    """
    if not isinstance(value, str):
        return ""
    # Neither a NUL nor a surrogate is printable, and nearly every text is: one look instead of two copies.
    if value.isprintable():
        return value
    return value.replace("\x00", "").encode("utf-8", errors="replace").decode("utf-8")


def _optional(value: object) -> str | None:
    return clean_text(value).strip() or None


def _choice(row: Json, name: str, unknown: list[str]) -> str | None:
    """The value of an enumeration. One that the document does not name is kept, and noted in `unknown`."""
    value = row.get(name)
    if value in KNOWN_VALUES[name] if isinstance(value, str) else value is None:
        return value
    if isinstance(value, str):
        unknown.append(f"{name}={clean_text(value)}")
    return _optional(value)


def _ident(row: Json, *names: str) -> str:
    """The row's id under the first of `names` that is there. Numbers count: some JSM ids are numbers. Raises without
    one.
    """
    for name in names:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and clean_text(value).strip():
            return clean_text(value).strip()
    raise UnexpectedAnswer(
        f"A row came without {' or '.join(names)}.",
        code="row_without_id",
        advice="The answer is not what Atlassian documents, so nothing of it is used. Report the call id.",
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def as_object(value: object, *, what: str) -> Json:
    """`value` if it is a JSON object. Raises UnexpectedAnswer naming `what` otherwise."""
    if isinstance(value, dict):
        return value
    raise UnexpectedAnswer(f"{what} is not a JSON object.")


def as_list(value: object, *, what: str) -> list[Any]:
    """`value` if it is a JSON array. Raises UnexpectedAnswer naming `what` otherwise."""
    if isinstance(value, list):
        return value
    raise UnexpectedAnswer(f"{what} is not a list.")


def _sub(row: Json, name: str) -> Json:
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Json]:
    """The objects of an optional list; [] where there is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: object) -> tuple[str, ...]:
    return tuple(clean_text(v) for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def parse_instant(value: object) -> datetime | None:
    """An aware UTC instant from ISO 8601 text (`Z`, offset, or a bare date = midnight UTC); None when there is none."""
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        return None


def rows_of(body: object, parse: Callable[[Json], T], *, key: str = "data") -> tuple[T, ...]:
    """Parse each row of `body[key]`. Raises UnexpectedAnswer when there is no such list or a row is not an object."""
    rows = as_list(as_object(body, what="The answer").get(key), what=f"`{key}` of the answer")
    return tuple(parse(as_object(row, what=f"A row of `{key}`")) for row in rows)


# --- Organizations API ------------------------------------------------------------------------------------------------


def parse_person(row: Json) -> Person:
    """A row of v2 `users/search` or the `data` of one user."""
    unknown: list[str] = []
    roles = row.get("platformRoles")
    return Person(
        account_id=_ident(row, "accountId"),
        name=clean_text(row.get("name")),
        email=_optional(row.get("email")),
        status=_choice(row, "status", unknown),
        account_status=_choice(row, "accountStatus", unknown),
        membership_status=_choice(row, "membershipStatus", unknown),
        claim_status=_choice(row, "claimStatus", unknown),
        account_type=_choice(row, "accountType", unknown),
        management_source=_choice(row, "managementSource", unknown),
        added_to_org_at=_instant_noted(row, "addedToOrg", unknown),
        platform_roles=_texts(roles),
        products=_parse_products(row.get("productAccess"), unknown),
        groups=_parse_group_refs(row.get("groups")),
        platform_roles_given=isinstance(roles, list),
        deactivated_at=_instant_noted(row, "deactivatedOn", unknown),
        # Last: the others fill it.
        unknown_values=tuple(unknown),
    )


def _instant_noted(row: Json, name: str, unknown: list[str]) -> datetime | None:
    value = row.get(name)
    if not value:
        return None
    at = parse_instant(value)
    if at is None:
        unknown.append(f"{name}={clean_text(str(value))[:64]}")
    return at


def _parse_products(value: object, unknown: list[str]) -> tuple[ProductActivity, ...] | None:
    """One unreadable entry makes the whole unknown: leaving it out could turn a user of the product into "never"
    (P1).
    """
    if not isinstance(value, list):
        return None
    products = []
    for entry in value:
        key = clean_text(entry.get("key")) if isinstance(entry, dict) else ""
        if not key:
            unknown.append("productAccess=unreadable entry")
            return None
        at = _instant_noted(entry, "lastActiveTimestamp", unknown)
        products.append(ProductActivity(clean_text(entry.get("id")), key, at))
    return tuple(products)


def _parse_group_refs(value: object) -> tuple[GroupRef, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(_group_ref(entry) for entry in value)


def _group_ref(entry: object) -> GroupRef:
    """The same few thousand groups come with every person: what became of each is kept."""
    row = as_object(entry, what="A group of a person")
    key = row.get("id"), row.get("name")
    try:
        return _group_refs[key]
    except (KeyError, TypeError):  # new, or nothing that could be looked up
        found = GroupRef(id=_ident(row, "id"), name=clean_text(key[1]))
    if all(isinstance(part, str) for part in key):
        if len(_group_refs) >= _GROUP_REFS_KEPT:
            _group_refs.clear()
        _group_refs[key] = found
    return found


_GROUP_REFS_KEPT = 20_000
_group_refs: dict[tuple[Any, Any], GroupRef] = {}


def parse_managed_account(row: Json) -> ManagedAccount:
    return ManagedAccount(
        account_id=_ident(row, "account_id"),
        name=clean_text(row.get("name")),
        email=_optional(row.get("email")),
        account_status=_optional(row.get("account_status")),
        account_type=_optional(row.get("account_type")),
        is_billable=_flag(row.get("access_billable")),
    )


def parse_last_active(data: Json) -> tuple[tuple[ProductActivity, ...], datetime | None]:
    """`data` of v1 last-active-dates (snake_case). Seconds precision where given, else the day at midnight UTC.

    Raises UnexpectedAnswer without a readable list: absence of the list must not read as "never".
    """
    products = []
    for value in as_list(data.get("product_access"), what="`product_access`"):
        entry = as_object(value, what="An entry of `product_access`")
        at = parse_instant(entry.get("last_active_timestamp")) or parse_instant(entry.get("last_active"))
        products.append(ProductActivity(clean_text(entry.get("id")), _ident(entry, "key"), at))
    added_at = parse_instant(data.get("added_to_org_timestamp")) or parse_instant(data.get("added_to_org"))
    return tuple(products), added_at


def parse_group(row: Json) -> GroupInfo:
    access, counts = _sub(row, "managementAccess"), _sub(row, "counts")
    return GroupInfo(
        id=_ident(row, "id"),
        name=clean_text(row.get("name")),
        description=clean_text(row.get("description")),
        directory_id=_optional(row.get("directoryId")),
        is_synced=_flag(row.get("externalSynced")),
        managed_by=_optional(row.get("managedBy")),
        is_modifiable=_flag(access.get("modifiable")),
        is_deletable=_flag(access.get("deletable")),
        user_count=_count(counts.get("users")),
        resource_count=_count(counts.get("resources")),
    )


def parse_user_roles(row: Json) -> tuple[list[RoleAssignment], DirectoryStatus | None]:
    """One resource of a person's role assignments, flattened to one entry per role."""
    resource_id = _ident(row, "resourceId")
    owner, directory_id = clean_text(row.get("resourceOwner")), _optional(row.get("directoryId"))
    methods: dict[str, tuple[str, ...]] = dict.fromkeys(_texts(row.get("roles")), ())
    for entry in _objects(row.get("roleAssignments")):
        if clean_text(entry.get("role")):
            methods[clean_text(entry["role"])] = _texts(entry.get("roleAssignmentMethods"))
    status = _optional(row.get("userDirectoryStatus"))
    return (
        [RoleAssignment(resource_id, owner, role, how, directory_id) for role, how in methods.items()],
        DirectoryStatus(directory_id, status) if directory_id and status else None,
    )


def parse_group_roles(row: Json) -> list[RoleAssignment]:
    """One resource of a group's role assignments, flattened to one entry per role."""
    resource_id, owner = _ident(row, "resourceId"), clean_text(row.get("resourceOwner"))
    default = _optional(row.get("defaultRole"))
    roles = dict.fromkeys(_texts(row.get("roles")))
    return [RoleAssignment(resource_id, owner, role, is_default=role == default) for role in roles]


def parse_directory(row: Json) -> Directory:
    return Directory(id=_ident(row, "directoryId"), name=clean_text(row.get("name")))


def parse_org(row: Json) -> OrgInfo:
    return OrgInfo(id=_ident(row, "id"), name=clean_text(_sub(row, "attributes").get("name")))


def parse_domain(row: Json) -> Domain:
    attributes = _sub(row, "attributes")
    claim = _sub(attributes, "claim")
    return Domain(
        id=_ident(row, "id"),
        name=clean_text(attributes.get("name")),
        claim_status=_optional(claim.get("status")),
        claim_type=_optional(claim.get("type")),
    )


def parse_workspace(row: Json) -> Workspace:
    attributes = _sub(row, "attributes")
    return Workspace(
        id=_ident(row, "id"),
        type_key=clean_text(attributes.get("typeKey")),
        host_url=_optional(attributes.get("hostUrl")),
        name=clean_text(attributes.get("name")),
        capacity=_count(attributes.get("capacity")),
        used=_count(attributes.get("usage")),
        sandbox_type=_optional(_sub(attributes, "sandbox").get("type")),
        status=_optional(attributes.get("status")),
    )


def parse_user_stats(body: Json) -> UserStats:
    def counts(name: str, key: str) -> dict[str, int]:
        return {_ident(row, key): _count(row.get("count")) or 0 for row in _objects(body.get(name))}

    return UserStats(account_status=counts("accountStatus", "status"), roles=counts("roles", "roleId"))


def parse_count(body: Json) -> int:
    """The number of v2 `users/count`. Raises UnexpectedAnswer when there is none."""
    count = _count(body.get("count"))
    if count is None:
        raise UnexpectedAnswer("The answer has no `count`.")
    return count


def parse_event(row: Json) -> OrgEvent:
    attributes = _sub(row, "attributes")
    actor = _sub(attributes, "actor")
    return OrgEvent(
        id=_ident(row, "id"),
        action=clean_text(attributes.get("action")),
        at=parse_instant(attributes.get("time")),
        actor_id=_optional(actor.get("id")),
        actor_name=_optional(actor.get("name")),
        context_ids=tuple(clean_text(c.get("id")) for c in _objects(attributes.get("context"))),
    )


def parse_invite_row(row: Json) -> InviteResult:
    """One address of an invite's answer. The request and call ids are added by the client."""
    grants: list[InviteGrant] = []
    for result in _objects(row.get("results")):
        grants += [_parse_grant(entry, "resource") for entry in _objects(result.get("roleAssignmentResult"))]
        grants += [_parse_grant(entry, "group") for entry in _objects(result.get("groupAssignmentResult"))]
    return InviteResult(
        email=_ident(row, "email"),
        account_id=_optional(row.get("id")),
        is_invited=all(g.status == "INVITED" for g in grants) if grants else None,
        grants=tuple(grants),
    )


def _parse_grant(entry: Json, target: str) -> InviteGrant:
    return InviteGrant(
        target=clean_text(entry.get(target)),
        role=_optional(entry.get("role")),
        status=clean_text(entry.get("status")),
        reason=_optional(entry.get("statusReason")),
    )


def parse_lifecycle(body: Json) -> dict[str, LifecyclePermission]:
    """The map of GET /users/{id}/manage. Entries that are not a permission (`profile`) are left out."""
    return {
        name: LifecyclePermission(value["allowed"], _optional(_sub(value, "reason").get("key")))
        for name, value in body.items()
        if isinstance(value, dict) and isinstance(value.get("allowed"), bool)
    }


# --- Jira and JSM -----------------------------------------------------------------------------------------------------


def parse_jira_user(row: Json) -> JiraUser:
    return JiraUser(
        account_id=_ident(row, "accountId"),
        name=clean_text(row.get("displayName")),
        email=_optional(row.get("emailAddress")),
        account_type=_optional(row.get("accountType")),
        is_active=_flag(row.get("active")),
    )


def parse_jira_server(body: Json) -> JiraServer:
    return JiraServer(
        base_url=_ident(body, "baseUrl"),
        title=clean_text(body.get("serverTitle")),
        deployment_type=clean_text(body.get("deploymentType")),
        version=clean_text(body.get("version")),
    )


def parse_application_role(row: Json) -> ApplicationRole:
    unlimited = row.get("hasUnlimitedSeats") is True
    return ApplicationRole(
        key=_ident(row, "key"),
        name=clean_text(row.get("name")),
        seats=None if unlimited else _count(row.get("numberOfSeats")),
        remaining_seats=None if unlimited else _count(row.get("remainingSeats")),
        user_count=_count(row.get("userCount")),
        group_names=_texts(row.get("groups")),
        default_group_names=_texts(row.get("defaultGroups")),
    )


def parse_project(row: Json) -> Project:
    return Project(
        id=_ident(row, "id"),
        key=_ident(row, "key"),
        name=clean_text(row.get("name")),
        type_key=_optional(row.get("projectTypeKey")),
    )


def parse_service_desk(row: Json) -> ServiceDesk:
    return ServiceDesk(
        id=_ident(row, "id"),
        project_id=_ident(row, "projectId"),
        project_key=clean_text(row.get("projectKey")),
        project_name=clean_text(row.get("projectName")),
    )


def parse_request_type(row: Json) -> RequestType:
    return RequestType(
        id=_ident(row, "id"),
        name=clean_text(row.get("name")),
        service_desk_id=clean_text(str(row.get("serviceDeskId") or "")),
        description=clean_text(row.get("description")),
    )


def parse_field(row: Json) -> JiraField:
    return JiraField(
        id=_ident(row, "id"),
        name=clean_text(row.get("name")),
        custom_type=_optional(_sub(row, "schema").get("custom")),
    )


def parse_issue(row: Json, request_type_field: str | None = None) -> IssueInfo:
    fields = _sub(row, "fields")
    reporter = fields.get("reporter")
    chosen = _sub(_sub(fields, request_type_field), "requestType") if request_type_field else {}
    return IssueInfo(
        id=_ident(row, "id"),
        key=clean_text(row.get("key")),
        created_at=parse_instant(fields.get("created")),
        reporter=parse_jira_user(reporter) if isinstance(reporter, dict) and reporter else None,
        request_type_id=_optional(str(chosen.get("id") or "")),
    )


def parse_request(row: Json) -> RequestInfo:
    reporter = row.get("reporter")
    return RequestInfo(
        issue_id=_ident(row, "issueId"),
        key=_ident(row, "issueKey"),
        request_type_id=_optional(str(row.get("requestTypeId") or "")),
        service_desk_id=_optional(str(row.get("serviceDeskId") or "")),
        reporter=parse_jira_user(reporter) if isinstance(reporter, dict) else None,
        created_at=parse_instant(_sub(row, "createdDate").get("iso8601")),
        status=_optional(_sub(row, "currentStatus").get("status")),
        fields={clean_text(v.get("fieldId")): v.get("value") for v in _objects(row.get("requestFieldValues"))},
    )
