"""What higher apps know about people and their lists, filled in `AppConfig.ready`: the layers forbid asking upwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from apps.organizations.models import Organization
from apps.users.models import Account, SyncRun

# Who is bound to a shared view: (organisation, key of the view) → names such as "rule “Contractors”". A view with users
# is neither deleted nor made private.
view_users: list[Callable[[Organization, int], Sequence[str]]] = []


@dataclass(frozen=True)
class TimelineEntry:
    """One thing that is known of a person. `kind` is one of KINDS; `url` leads to more, `ref` keeps entries apart."""

    at: datetime
    kind: str
    title: str
    detail: str = ""
    by: str = ""
    url: str = ""
    url_label: str = ""
    icon: str = "activity"
    tone: str = ""
    ref: str = ""


# Kinds of entries, as the filter of the timeline names them.
KINDS: Mapping[str, str] = {
    "presence": "Joined and left",
    "login": "Logins",
    "action": "Actions",
    "failure": "Failures",
    "preview": "Previews",
    "group": "Groups",
    "exemption": "Exemptions",
    "notice": "Notices",
    "other": "Other",
}

# (account, entries before this instant, at most so many) → entries, newest first, in a fixed number of queries.
timeline_sources: list[Callable[[Account, datetime | None, int], Sequence[TimelineEntry]]] = []


@dataclass(frozen=True)
class Upcoming:
    """What will happen to a person next, and by which rule. `at` None: the moment is not known."""

    at: datetime | None
    title: str
    rule: str
    url: str = ""
    detail: str = ""


# account → what is about to happen to it, in a fixed number of queries.
upcoming_sources: list[Callable[[Account], Sequence[Upcoming]]] = []


@dataclass(frozen=True)
class Choice:
    """One value of a filter's menu."""

    value: str
    label: str


@dataclass(frozen=True)
class MenuFilter:
    """A filter that a higher app adds to the explorer: its parameter and the values that its menu offers."""

    name: str
    label: str
    choices: Callable[[Organization], Sequence[Choice]] = field(repr=False)


menu_filters: list[MenuFilter] = []

# A sync was merged, completely or in part; called once it is committed.
on_sync_merged: list[Callable[[SyncRun], None]] = []
