"""What the shell of every page shows: navigation with counts, organisations, role, and lasting notes.

Everything that costs a query is lazy, so fragments pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.urls import reverse

from apps.operators.access import Access
from apps.operators.models import Grant, Operator, Role
from apps.operators.permissions import Permission
from apps.operators.selectors import highest_role_label, organizations_of
from apps.organizations.models import Organization
from apps.organizations.selectors import is_copy, open_alerts

COUNT_SECONDS = 10

# Counts beside the navigation's items, filled by higher apps in `ready()`: key of the item → count of an organisation.
nav_counts: dict[str, Callable[[Organization], int]] = {
    "alerts": lambda organization: open_alerts(organization).count()
}
# Seconds that a count may be old where it reads everybody.
nav_seconds: dict[str, int] = {}


@dataclass(frozen=True)
class _Entry:
    key: str
    label: str
    icon: str
    url_name: str
    permission: Permission = Permission.VIEW
    shortcut: str = ""
    # The count says that somebody has to do something; it is shown only when there is something.
    is_waiting: bool = False
    # Further paths below /o/<org>/ that belong to this item.
    also: tuple[str, ...] = ()


_GROUPS: tuple[tuple[str, tuple[_Entry, ...]], ...] = (
    (
        "",
        (
            _Entry("dashboard", "Dashboard", "home", "dashboard:dashboard", shortcut="d"),
            _Entry("insights", "Insights", "bulb", "savings:insights"),
            _Entry("savings", "Savings", "coin", "savings:savings"),
            _Entry("alerts", "Alerts", "bell", "dashboard:alerts", is_waiting=True),
        ),
    ),
    (
        "People",
        (
            _Entry("users", "Users", "users", "users:list", shortcut="u"),
            _Entry("imports", "Import users", "upload", "operations:imports", Permission.ACT),
            _Entry("exemptions", "Exemptions", "shield", "users:exemptions"),
            _Entry("hand_offs", "Hand-off", "arrow-right", "operations:hand_offs"),
        ),
    ),
    (
        "Automation",
        (
            _Entry("rules", "Scheduler & Cleanup", "clock", "rules:list", shortcut="r"),
            _Entry("activation", "Auto-Activate Users", "bolt", "autoactivate:list"),
            _Entry("emails", "Email Notifications", "mail", "notifications:list"),
            _Entry("approvals", "Approvals", "approve", "operations:approvals", is_waiting=True),
        ),
    ),
    (
        "Records",
        (
            _Entry("audit", "Audit Logs", "list", "dashboard:audit", shortcut="a", also=("runs/",)),
            _Entry("migration", "Migration", "database", "dashboard:migration", Permission.SETTINGS),
        ),
    ),
    (
        "System",
        (
            _Entry("tokens", "API & webhooks", "key", "operators:tokens", Permission.TOKENS),
            _Entry("settings", "Settings", "gear", "organizations:settings", Permission.SETTINGS, also=("settings/",)),
            _Entry("help", "Help & Guides", "help", "dashboard:help"),
        ),
    ),
)


@dataclass(frozen=True)
class NavItem:
    """One line of the navigation, for one person and one organisation."""

    key: str
    label: str
    icon: str
    url: str
    count: int | None
    is_hot: bool
    is_current: bool
    shortcut: str


@dataclass(frozen=True)
class NavGroup:
    title: str
    items: list[NavItem] = field(default_factory=list)


@dataclass(frozen=True)
class Note:
    """A fact about the installation or organisation that stays visible on every page."""

    icon: str
    title: str
    detail: str


class Shell:
    """Lazily computed parts of the page around the content."""

    themes = (("", "System", "system"), ("light", "Light", "sun"), ("dark", "Dark", "moon"))

    def __init__(self, request: HttpRequest, access: Access) -> None:
        self._request = request
        self._access = access

    @cached_property
    def organizations(self) -> list[Organization]:
        """Organisations that the operator may open."""
        user = self._request.user
        return list(organizations_of(user)) if isinstance(user, Operator) else []

    @cached_property
    def may_connect(self) -> bool:
        """Whether "Add an organisation" leads anywhere for this operator."""
        return isinstance(self._request.user, Operator) and may_connect(self._request.user)

    @cached_property
    def role_label(self) -> str:
        """The role that allows most in this organisation; empty outside of one."""
        if self._access.organization is None or self._access.operator is None:
            return ""
        return highest_role_label(self._access.operator, self._access.organization)

    @cached_property
    def is_copy(self) -> bool:
        """True when the database belongs to another installation."""
        return is_copy()

    @cached_property
    def nav_groups(self) -> list[NavGroup]:
        """The navigation with counts; items that the roles do not open are left out."""
        organization = self._access.organization
        if organization is None:
            return []
        counts = counts_of(organization)
        base = reverse("dashboard:dashboard", args=[organization.slug])
        groups = []
        for title, entries in _GROUPS:
            items = [
                self._item(entry, organization, base, counts) for entry in entries if self._access.may(entry.permission)
            ]
            if items:
                groups.append(NavGroup(title, items))
        return groups

    def _item(self, entry: _Entry, organization: Organization, base: str, counts: dict[str, int]) -> NavItem:
        url = reverse(entry.url_name, args=[organization.slug])
        path = self._request.path
        prefixes = [url, *(base + more for more in entry.also)]
        is_current = path == base if url == base else any(path.startswith(prefix) for prefix in prefixes)
        count = counts.get(entry.key)
        if entry.is_waiting and not count:
            count = None
        return NavItem(
            entry.key, entry.label, entry.icon, url, count, entry.is_waiting and bool(count), is_current, entry.shortcut
        )

    @cached_property
    def notes(self) -> list[Note]:
        """Notes about the demo, an evaluation installation and one-operator mode."""
        organization = self._access.organization
        notes = []
        if organization is not None and organization.is_demo:
            notes.append(Note("info", "Demo organisation.", "Fictional people; nothing here calls Atlassian."))
        if organization is not None and organization.is_from_file:
            notes.append(Note("upload", "From an export file.", "Not connected: nothing can be changed in Atlassian."))
        if organization is not None and organization.is_one_operator:
            notes.append(Note("user", "One-operator mode.", "Approvals need the typed count and your password again."))
        if settings.AUM_EMBEDDED:
            notes.append(Note("database", "Evaluation installation.", "Its databases run inside AUM, on this machine."))
        return notes


def may_connect(operator: Operator) -> bool:
    """Who may add an organisation: the first owner, owners of another one, and anybody while none exists."""
    owns = Grant.objects.filter(operator=operator, role=Role.OWNER)
    return operator.is_active and (operator.is_staff or owns.exists() or not Organization.objects.exists())


def counts_of(organization: Organization) -> dict[str, int]:
    """Counts of the navigation's items, each at most `COUNT_SECONDS` old, or as old as `nav_seconds` allows it."""
    keys = {key: f"nav-count:{organization.pk}:{key}" for key in nav_counts}
    known: dict[str, int] = cache.get_many(list(keys.values()))
    for key, name in keys.items():
        if name not in known:
            known[name] = nav_counts[key](organization)
            cache.set(name, known[name], nav_seconds.get(key, COUNT_SECONDS))
    return {key: known[name] for key, name in keys.items()}


def forget_counts(organization_id: int) -> None:
    """Count anew for the next page: everybody was just read."""
    cache.delete_many([f"nav-count:{organization_id}:{key}" for key in nav_counts])


def shell(request: HttpRequest) -> dict[str, Any]:
    """Context processor: `access`, `organization`, and `shell`, whose parts run queries only where they are shown."""
    access: Access = getattr(request, "access", None) or Access.none()
    return {"access": access, "organization": access.organization, "shell": Shell(request, access)}
