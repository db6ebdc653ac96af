"""What a sync stores besides people: sites, directories, groups and their grants; and reading one page ahead."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from django.db import connection, connections

from apps.organizations.models import Directory, Organization, Site
from apps.users.models import Group, SyncRun
from apps.users.products import (
    ADMIN_ROLES,
    SEATLESS_ROLES,
    Resources,
    bits_of,
    product_of,
    role_name,
)
from aum.atlassian.schemas import GroupInfo, RoleAssignment, Workspace

T = TypeVar("T")


class Ahead(Generic[T]):
    """Iterate in a thread of its own, `most` items ahead: the next pages travel while these are staged.

    Gives lists of what came within `seconds`, at most `most`. The thread is alone in using what it iterates over; its
    errors are raised where the item would have come.
    """

    def __init__(self, source: Iterator[T], *, most: int, seconds: float) -> None:
        self._source = source
        self._most = most
        self._seconds = seconds
        self._items: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=most)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fetch, name="sync-ahead", daemon=True)

    def _fetch(self) -> None:
        try:
            for item in self._source:
                self._put(("item", item))
                if self._stop.is_set():
                    return
            self._put(("end", None))
        except BaseException as error:
            self._put(("error", error))
        finally:
            connections.close_all()

    def _put(self, entry: tuple[str, Any]) -> None:
        while not self._stop.is_set():
            try:
                self._items.put(entry, timeout=0.5)
            except queue.Full:
                continue
            return

    def __enter__(self) -> Iterator[list[T]]:
        self._thread.start()
        return self._iterate()

    def _iterate(self) -> Iterator[list[T]]:
        while True:
            entries = [self._items.get()]
            until = time.monotonic() + self._seconds
            while entries[-1][0] == "item" and len(entries) < self._most:
                try:
                    entries.append(self._items.get(timeout=max(0.0, until - time.monotonic())))
                except queue.Empty:
                    break
            items = [value for kind, value in entries if kind == "item"]
            if items:
                yield items
            kind, value = entries[-1]  # nothing comes after an error or the end
            if kind == "error":
                raise value
            if kind == "end":
                return

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def store_sites(organization: Organization, workspaces: list[Workspace]) -> list[list[str]]:
    """Keep the sites; returns the products on them as [product, last part of the ARI, ARI, site]."""
    resources = []
    for workspace in workspaces:
        url = (workspace.host_url or "").rstrip("/")
        host = urlsplit(url).hostname or ""
        site = host if host.endswith(".atlassian.net") else workspace.name or host
        tail = workspace.id.rpartition("/")[2].lower()
        resources.append([product_of(workspace.type_key)[:60], tail, workspace.id[:300], site[:300]])
        if url and "::site/" in workspace.id:
            Site.objects.get_or_create(
                organization=organization, url=url[:300], defaults={"name": site[:200], "cloud_id": tail[:128]}
            )
            Site.objects.of(organization).filter(url=url[:300], cloud_id="").update(cloud_id=tail[:128])
    return sorted(resources)


def store_directory(organization: Organization, directory_id: str, name: str, now: datetime) -> int:
    directory, _ = Directory.objects.update_or_create(
        organization=organization,
        directory_id=directory_id,
        defaults={"name": (name or directory_id)[:255], "seen_at": now},
    )
    return directory.pk


def store_group(organization: Organization, directory: int, group: GroupInfo) -> int:
    """Keep a group; writes only when something differs. Returns our key."""
    wanted: dict[str, Any] = {
        "name": (group.name or group.id)[:255],
        "description": group.description,
        "is_synced": bool(group.is_synced),
        "managed_by": (group.managed_by or "")[:40],
        "vanished_at": None,
    }
    if group.user_count is not None:
        wanted["member_count"] = group.user_count
    row, is_new = Group.objects.get_or_create(
        directory_id=directory, group_id=group.id[:128], defaults={"organization": organization, **wanted}
    )
    differing = {name: value for name, value in wanted.items() if getattr(row, name) != value}
    if differing and not is_new:
        Group.objects.filter(pk=row.pk).update(**differing)
    return row.pk


def store_grants(group: Group, roles: list[RoleAssignment], known: Resources) -> bool:
    """Keep what a group grants; returns whether it differs from what was known."""
    grants: list[dict[str, Any]] = []
    for assignment in roles:
        role = role_name(assignment.role)
        found = known.of_resource(assignment.resource_id, assignment.resource_owner)
        product, resource, site = found or ("", assignment.resource_id, "")
        is_seat = bool(product) and role not in SEATLESS_ROLES
        grants.append(
            {"product": product, "resource": resource, "site": site, "role": assignment.role, "seat": is_seat}
        )
    grants.sort(key=lambda grant: (grant["product"], grant["resource"], grant["role"]))
    values: dict[str, Any] = {
        "grants": grants,
        "are_grants_known": True,
        "granted_products": bits_of(grant["product"] for grant in grants if grant["seat"]),
        "is_administrative": any(role_name(grant["role"]) in ADMIN_ROLES for grant in grants),
    }
    if all(getattr(group, name) == value for name, value in values.items()):
        return False
    Group.objects.filter(pk=group.pk).update(**values)
    return True


def groups_granting(groups: Iterable[tuple[int, Any, bool]], roles: frozenset[str]) -> list[int]:
    return [pk for pk, grants, _ in groups if any(role_name(grant["role"]) in roles for grant in grants)]


# --- the first sync of an organisation that a file filled -------------------------------------------------------------


def adopt_groups(organization: Organization, directory: int, groups: Sequence[GroupInfo]) -> None:
    """Groups that a file named become those that Atlassian gives, by id or by name.

    They keep their key, and with it the rules, protection and exemptions that were made while looking.
    """
    of_file = {
        name: group
        for group in Group.objects.of(organization).filter(directory__directory_id=Directory.OF_FILE)
        for name in (group.group_id, f"name:{group.name}")
    }
    taken: set[int] = set()
    for group in groups if of_file else ():
        row = of_file.get(group.id) or of_file.get(f"name:{group.name}")
        is_known = Group.objects.filter(directory=directory, group_id=group.id[:128]).exists()
        if row is not None and row.pk not in taken and not is_known:
            Group.objects.filter(pk=row.pk).update(directory=directory, group_id=group.id[:128])
            taken.add(row.pk)


def leave_file_behind(organization: Organization, staged: int) -> None:
    """What a file said of product access goes; people whom it knew by their address alone get their id."""
    if not SyncRun.objects.of(organization).filter(source=SyncRun.Source.FILE).exists():
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM users_productaccess WHERE organization_id = %s AND source = %s",
            [organization.pk, SyncRun.Source.FILE.value],
        )
        cursor.execute(
            """UPDATE users_account a SET account_id = s.account_id
               FROM (SELECT lower(email) AS mail, min(account_id) AS account_id FROM users_syncedperson
                     WHERE sync_run_id = %(run)s AND email IS NOT NULL
                     GROUP BY 1 HAVING count(DISTINCT account_id) = 1) s
               WHERE a.organization_id = %(organization)s AND a.account_id = 'email:' || s.mail
                 AND NOT EXISTS (SELECT 1 FROM users_account o
                                 WHERE o.organization_id = a.organization_id AND o.account_id = s.account_id)""",
            {"run": staged, "organization": organization.pk},
        )
