"""From Atlassian's rows to rows of staging: states as small integers, products and groups as ours, and a digest."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any

from django.db import OperationalError, connection, transaction

from apps.users.models import (
    AccountKind,
    AccountStatus,
    ClaimStatus,
    ManagementSource,
    MembershipStatus,
)
from apps.users.products import ORG_ADMIN_ROLES, SITE_ADMIN_ROLES, Resources, role_name
from apps.users.text import fold
from aum.atlassian.schemas import Person

# Staged as the directory of managed accounts that are in none.
OUTSIDE = 0

COLUMNS = (
    "sync_run_id",
    "directory",
    "page",
    "account_id",
    "name",
    "sort_name",
    "email",
    "account_status",
    "membership_status",
    "claim_status",
    "management_source",
    "is_for_deletion",
    "kind",
    "added_to_org_at",
    "is_org_admin",
    "is_site_admin",
    "products",
    "resources",
    "last_active",
    "groups",
    "digest",
)

_ACCOUNT = {
    "active": AccountStatus.ACTIVE,
    "inactive": AccountStatus.INACTIVE,
    "closed": AccountStatus.CLOSED,
}
# What `status` says where accountStatus or membershipStatus is not given (API.md §6).
_ACCOUNT_BY_STATUS = {
    "active": AccountStatus.ACTIVE,
    "suspended": AccountStatus.ACTIVE,
    "not_invited": AccountStatus.ACTIVE,
    "deactivated": AccountStatus.INACTIVE,
    "for_deletion": AccountStatus.INACTIVE,
}
_MEMBERSHIP = {
    "active": MembershipStatus.ACTIVE,
    "suspended": MembershipStatus.SUSPENDED,
    "no_membership": MembershipStatus.NO_MEMBERSHIP,
}
_MEMBERSHIP_BY_STATUS = {
    "active": MembershipStatus.ACTIVE,
    "suspended": MembershipStatus.SUSPENDED,
    "not_invited": MembershipStatus.NO_MEMBERSHIP,
}
_CLAIM = {"managed": ClaimStatus.MANAGED, "unmanaged": ClaimStatus.UNMANAGED}
_SOURCE = {"invited": ManagementSource.INVITED, "synced": ManagementSource.SYNCED}

# How accounts that are not people are told apart; docs/predicates.md lists the patterns. Whoever is taken for one is
# protected until somebody releases the account, so a mistake keeps access and never takes it.
_BOT_EMAIL = re.compile(r"^(bot|robot)[-_.+]|[-_.+](bot|robot)(\+.*)?@", re.IGNORECASE)
_SERVICE_EMAIL = re.compile(
    r"^(svc|service|serviceaccount|service-account|automation|integration|noreply|no-reply|donotreply)([-_.+]|@)"
    r"|[-_.+](svc|service-account|automation|integration|noreply|no-reply)@"
    r"|@serviceaccount\.atlassian\.com$",
    re.IGNORECASE,
)
_APP_EMAIL = re.compile(r"@(connect|bots)\.atlassian\.com$|@bots\.bitbucket\.org$", re.IGNORECASE)
_BOT_NAME = re.compile(r"(^|[\s_-])(bot|robot)([\s_-]|$)", re.IGNORECASE)
_SERVICE_NAME = re.compile(r"(^|[\s_-])(svc|service[\s_-]account|automation|integration)([\s_-]|$)", re.IGNORECASE)


def kind_of(account_type: str | None, name: str, email: str | None) -> AccountKind:
    """Person, service, app or bot, by Atlassian's account type, else by patterns of e-mail and name."""
    address = email or ""
    if account_type == "app" or _APP_EMAIL.search(address):
        return AccountKind.APP
    if _BOT_EMAIL.search(address) or _BOT_NAME.search(name):
        return AccountKind.BOT
    if _SERVICE_EMAIL.search(address) or _SERVICE_NAME.search(name):
        return AccountKind.SERVICE
    return AccountKind.PERSON


def account_status_of(person: Person) -> AccountStatus:
    """accountStatus, else what `status` implies; a value that the document does not name stays unknown."""
    if person.account_status:
        return _ACCOUNT.get(person.account_status, AccountStatus.UNKNOWN)
    return _ACCOUNT_BY_STATUS.get(person.status or "", AccountStatus.UNKNOWN)


def membership_status_of(person: Person) -> MembershipStatus:
    """membershipStatus, else what `status` implies. Never derived from accountStatus (API.md §6)."""
    if person.membership_status:
        return _MEMBERSHIP.get(person.membership_status, MembershipStatus.UNKNOWN)
    return _MEMBERSHIP_BY_STATUS.get(person.status or "", MembershipStatus.UNKNOWN)


def is_customer(person: Person) -> bool:
    """A portal-only customer: not part of the directory, and counted as left out."""
    return person.account_type == "customer" or person.account_id.startswith("qm:")


def staged_row(
    person: Person, *, staged: int, directory: int, page: int, groups: Mapping[str, int], resources: Resources
) -> tuple[Any, ...]:
    """The row of COLUMNS for one person in one directory. `groups`: Atlassian's group id → our key, all known."""
    name = person.name[:500]
    sort_name = fold(name) or fold(person.account_id)
    products, aris, instants = _access(person, resources)
    member_of = None if person.groups is None else sorted({groups[group.id] for group in person.groups})
    roles = {role_name(role) for role in person.platform_roles}
    content = (
        person.account_id,
        name,
        sort_name,
        person.email[:320] if person.email else None,
        int(account_status_of(person)),
        int(membership_status_of(person)),
        int(_CLAIM.get(person.claim_status or "", ClaimStatus.UNKNOWN)),
        int(_SOURCE.get(person.management_source or "", ManagementSource.UNKNOWN)),
        person.status == "for_deletion",
        int(kind_of(person.account_type, name, person.email)),
        person.added_to_org_at,
        bool(roles & ORG_ADMIN_ROLES) if person.platform_roles_given else None,
        bool(roles & SITE_ADMIN_ROLES) if person.platform_roles_given else None,
        products,
        aris,
        instants,
        member_of,
    )
    return (staged, directory, page, *content, _digest(content))


def _access(
    person: Person, resources: Resources
) -> tuple[list[str] | None, list[str] | None, list[datetime | None] | None]:
    """Product access as three arrays, one entry per product and site in a fixed order; repeats give the newest."""
    if person.products is None:
        return None, None, None
    newest: dict[tuple[str, str], datetime | None] = {}
    for entry in person.products:
        product, resource, _site = resources.canonical(entry.key, entry.resource_id)
        key = (product[:60], resource[:300])
        known = newest.get(key)
        if known is None or (entry.last_active_at is not None and entry.last_active_at > known):
            newest[key] = entry.last_active_at or known
    ordered = sorted(newest)
    return [product for product, _ in ordered], [ari for _, ari in ordered], [newest[key] for key in ordered]


def _digest(content: tuple[Any, ...]) -> uuid.UUID:
    return uuid.UUID(bytes=blake2b(repr(content).encode("utf-8", "surrogatepass"), digest_size=16).digest())


def copy_rows(rows: Iterable[Sequence[Any]]) -> None:
    """COPY rows of COLUMNS into staging, in the caller's transaction.

    The lines are written here: psycopg's own adaptation of arrays takes three quarters of a page's staging time.
    """
    lines = "".join(map(_line, rows)).encode()
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.write(lines)


_COPY = f"COPY users_syncedperson ({', '.join(COLUMNS)}) FROM STDIN"
# What COPY's text format reads as something else.
_COPY_ESCAPES = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\v": "\\v"}
)
_ARRAY_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"'})


def _line(row: Sequence[Any]) -> str:
    return "\t".join(map(_field, row)) + "\n"


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value.translate(_COPY_ESCAPES)
    if isinstance(value, list):
        return "{" + ",".join(map(_element, value)) + "}"
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _element(value: Any) -> str:
    """One element of an array: quoted text, else as it is. The quotes' backslashes are escaped again for COPY."""
    if isinstance(value, str):
        return f'"{value.translate(_ARRAY_ESCAPES)}"'.translate(_COPY_ESCAPES)
    if value is None:
        return "NULL"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def clear_staging(staged: int) -> None:
    """Remove the staged rows of one run, in the caller's transaction; the whole table when nobody else's are in it."""
    with connection.cursor() as cursor:
        try:
            with transaction.atomic():
                # Rows that another run is just adding hold a lock that stands against this one.
                cursor.execute("LOCK TABLE users_syncedperson IN ACCESS EXCLUSIVE MODE NOWAIT")
                cursor.execute("SELECT 1 FROM users_syncedperson WHERE sync_run_id <> %s LIMIT 1", [staged])
                if cursor.fetchone() is None:
                    cursor.execute("TRUNCATE users_syncedperson")
                    return
        except OperationalError:
            pass
        cursor.execute("DELETE FROM users_syncedperson WHERE sync_run_id = %s", [staged])
