"""From Atlassian's rows to rows of staging: states as small integers, products and groups as ours, and a digest."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

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
from aum.atlassian.schemas import GroupRef, Person, ProductActivity

# Staged as the directory of managed accounts that are in none.
OUTSIDE = 0
NAME_LIMIT = 500
EMAIL_LIMIT = 320

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


# Each pattern above needs one of these: most people are let through by one look. What stands before the last @ decides,
# but for the domains of Atlassian's own.
_HINTS = ("bot", "svc", "service", "automation", "integration", "reply")
_DOMAIN_HINTS = ("atlassian.com", "bitbucket.org")


def _may_be_no_person(name: str, address: str) -> bool:
    local, _, domain = address.rpartition("@")
    text, place = f"{name}\n{local}".casefold(), domain.casefold()
    # Outside of ASCII more letters count as these than casefold() knows, as a dotless i.
    return not text.isascii() or any(hint in text for hint in _HINTS) or place.endswith(_DOMAIN_HINTS)


def kind_of(account_type: str | None, name: str, email: str | None) -> AccountKind:
    """Person, service, app or bot, by Atlassian's account type, else by patterns of e-mail and name."""
    address = email or ""
    if account_type != "app" and not _may_be_no_person(name, address):
        return AccountKind.PERSON
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


class Stager:
    """Writes people into staging as lines of COPY: psycopg's own adaptation of arrays takes most of a page's time.

    `groups`: Atlassian's group id → our key; whoever calls `lines` has added every group of the people to it. Sets of
    groups and of products repeat from person to person, so their text is kept.
    """

    CACHED = 20_000

    def __init__(self, staged: int, groups: Mapping[str, int], resources: Resources) -> None:
        self._staged = staged
        self._groups = groups
        self._resources = resources
        self._group_texts: dict[tuple[GroupRef, ...], str] = {}
        self._access_texts: dict[tuple[tuple[str, str], ...], _AccessText] = {}
        self._state_texts: dict[tuple[str | None, ...], str] = {}
        self._role_texts: dict[tuple[tuple[str, ...], bool], str] = {}

    def lines(self, people: Iterable[Person], *, directory: int, page: int) -> list[StagedLine]:
        """The lines of the people of one page of one directory, for `copy_lines`."""
        start = f"{self._staged}\t{directory}\t{page}\t"
        lines = []
        for person in people:
            content = self._content(person)
            digest = blake2b(content.encode(), digest_size=16).hexdigest()
            lines.append(StagedLine(person.account_id, digest, f"{start}{content}\t{digest}\n"))
        return lines

    def _content(self, person: Person) -> str:
        """The columns between `page` and `digest`, which is taken of them."""
        name = person.name[:NAME_LIMIT]
        email = person.email[:EMAIL_LIMIT] if person.email else None
        return "\t".join(
            (
                _text(person.account_id),
                _text(name),
                _text(fold(name) or fold(person.account_id)),
                NULL if email is None else _text(email),
                self._states(person),
                _KIND_TEXTS[kind_of(person.account_type, name, email)],
                NULL if person.added_to_org_at is None else person.added_to_org_at.isoformat(),
                self._roles(person.platform_roles, person.platform_roles_given),
                self._access(person.products),
                NULL if person.groups is None else self._group_text(person.groups),
            )
        )

    def _states(self, person: Person) -> str:
        """The columns from `account_status` to `is_for_deletion`; few combinations occur."""
        key = (
            person.status,
            person.account_status,
            person.membership_status,
            person.claim_status,
            person.management_source,
        )
        text = self._state_texts.get(key)
        if text is None:
            states = (
                account_status_of(person),
                membership_status_of(person),
                _CLAIM.get(person.claim_status or "", ClaimStatus.UNKNOWN),
                _SOURCE.get(person.management_source or "", ManagementSource.UNKNOWN),
            )
            text = "\t".join(str(state.value) for state in states) + (
                "\tt" if person.status == "for_deletion" else "\tf"
            )
            _room(self._state_texts, self.CACHED)[key] = text
        return text

    def _roles(self, given_roles: tuple[str, ...], is_given: bool) -> str:
        """The columns `is_org_admin` and `is_site_admin`."""
        text = self._role_texts.get((given_roles, is_given))
        if text is None:
            roles = {role_name(role) for role in given_roles}
            text = "\t".join(_flag(roles & some, is_given) for some in (ORG_ADMIN_ROLES, SITE_ADMIN_ROLES))
            _room(self._role_texts, self.CACHED)[given_roles, is_given] = text
        return text

    def _group_text(self, groups: tuple[GroupRef, ...]) -> str:
        text = self._group_texts.get(groups)
        if text is None:
            keys = sorted({self._groups[group.id] for group in groups})
            text = _room(self._group_texts, self.CACHED)[groups] = "{" + ",".join(map(str, keys)) + "}"
        return text

    def _access(self, products: tuple[ProductActivity, ...] | None) -> str:
        """Product access as three arrays in a fixed order, one entry per product and site; repeats give the newest."""
        if products is None:
            return f"{NULL}\t{NULL}\t{NULL}"
        key = tuple([(entry.key, entry.resource_id) for entry in products])
        known = self._access_texts.get(key)
        if known is None:
            known = _room(self._access_texts, self.CACHED)[key] = self._access_text(key)
        instants = []
        for places in known.places:
            at = products[places[0]].last_active_at
            for place in places[1:]:
                other = products[place].last_active_at
                at = other if at is None or (other is not None and other > at) else at
            instants.append("NULL" if at is None else at.isoformat())
        return f"{known.text}\t{{{','.join(instants)}}}"

    def _access_text(self, entries: tuple[tuple[str, str], ...]) -> _AccessText:
        places: dict[tuple[str, str], list[int]] = {}
        for place, (key, resource_id) in enumerate(entries):
            product, resource, _site = self._resources.canonical(key, resource_id)
            places.setdefault((product[:60], resource[:300]), []).append(place)
        ordered = sorted(places)
        products = self._array(product for product, _ in ordered)
        resources = self._array(resource for _, resource in ordered)
        return _AccessText(f"{products}\t{resources}", tuple(tuple(places[key]) for key in ordered))

    @staticmethod
    def _array(values: Iterable[str]) -> str:
        return "{" + ",".join(_element(value) for value in values) + "}"


class StagedLine(NamedTuple):
    """One person in one directory: the digest of what was read, in hexadecimal digits, and the line for COPY."""

    account_id: str
    digest: str
    text: str


def copy_lines(lines: Iterable[StagedLine]) -> None:
    """COPY lines into staging, in the caller's transaction."""
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.write("".join(line.text for line in lines).encode())


class _AccessText(NamedTuple):
    """The arrays of products and resources as text, and for each entry the places of its dates in the person's list."""

    text: str
    places: tuple[tuple[int, ...], ...]


NULL = "\\N"
_KIND_TEXTS = {kind: str(kind.value) for kind in AccountKind}
_COPY = f"COPY users_syncedperson ({', '.join(COLUMNS)}) FROM STDIN"
# What COPY's text format reads as something else.
_COPY_ESCAPES = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\v": "\\v"}
)
_ARRAY_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"'})


def _room(cache: dict[Any, Any], most: int) -> dict[Any, Any]:
    if len(cache) >= most:
        cache.clear()
    return cache


def _text(value: str) -> str:
    return value if value.isprintable() and "\\" not in value else value.translate(_COPY_ESCAPES)


def _element(value: str) -> str:
    """Quoted text as an element of an array; the quotes' own backslashes are escaped once more for COPY."""
    return f'"{value.translate(_ARRAY_ESCAPES)}"'.translate(_COPY_ESCAPES)


def _flag(found: Collection[str], is_given: bool) -> str:
    return ("t" if found else "f") if is_given else NULL


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
