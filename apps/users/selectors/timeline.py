"""Everything that AUM knows of one person by time: from the mirror, the audit log, and what higher apps tell."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse

from apps.audit.models import AuditEvent
from apps.audit.selectors import events_of_target
from apps.users.models import Account, ProductAccess
from apps.users.products import label_of
from apps.users.registries import KINDS, TimelineEntry, timeline_sources
from aum.common.errors import InvalidInput

# How many entries are looked through for those of the kinds asked for.
LOOKED_THROUGH = 5_000
_PAGE = 200

# What happened → (title, icon, tone); an action that is not here is named by its own words.
_WORDS: dict[str, tuple[str, str, str]] = {
    "account.suspend": ("Suspended", "pause", "warn"),
    "account.restore": ("Restored", "undo", "ok"),
    "account.deactivate": ("Deactivated", "ban", "danger"),
    "account.activate": ("Activated", "check", "ok"),
    "account.delete": ("Deletion started", "trash", "danger"),
    "account.cancel_delete": ("Deletion cancelled", "undo", "ok"),
    "account.remove_from_directory": ("Removed from directory", "x", "danger"),
    "account.remove_product_access": ("Product access removed", "minus", "warn"),
    "account.grant_product_access": ("Product access given back", "plus", "ok"),
    "account.add_to_group": ("Added to group", "plus", "ok"),
    "account.remove_from_group": ("Removed from group", "minus", "warn"),
    "account.add_to_admin_group": ("Added to admin group", "plus", "warn"),
    "account.remove_from_admin_group": ("Removed from admin group", "minus", "warn"),
    "account.invite": ("Invited", "mail", "info"),
    "account.refreshed": ("Last login fetched", "refresh", ""),
    "exemption.set": ("Exempted", "shield", "info"),
    "exemption.extended": ("Exemption extended", "shield", "info"),
    "exemption.ended": ("Exemption ended", "shield", ""),
    "snooze.set": ("Snoozed", "shield", "info"),
    "snooze.ended": ("Snooze ended", "shield", ""),
    "notice.sent": ("Warned by mail", "mail", "info"),
    "notice.undeliverable": ("Warning by mail", "mail", "danger"),
    "notice.bounced": ("Warning by mail came back", "mail", "danger"),
    "notice.in_doubt": ("Warned by mail, answer lost", "mail", "warn"),
    "notice.released": ("May be acted upon without a warning", "mail", "warn"),
    "keep_link.keep": ("Kept the access by the link of a mail", "shield", "info"),
    "keep_link.release": ("Gave the access up by the link of a mail", "minus", "info"),
    "keep_link.return": ("Asked for the access back", "undo", "info"),
}
_GROUP_ACTIONS = frozenset(
    f"account.{verb}_{kind}" for verb in ("add_to", "remove_from") for kind in ("group", "admin_group")
)


@dataclass(frozen=True)
class TimelinePage:
    """Entries, newest first. `older`: the instant before which the next page begins; None at the end."""

    entries: list[TimelineEntry]
    older: datetime | None


def timeline(
    account: Account, *, kinds: Collection[str] = (), before: datetime | None = None, limit: int = 25
) -> TimelinePage:
    """The entries of `kinds` (all without) before an instant: `limit` of them, and those of the last one's instant.

    Raises InvalidInput for a kind that does not exist.
    """
    _check(kinds)
    found: list[TimelineEntry] = []
    for entry in _entries(account, before):
        if kinds and entry.kind not in kinds:
            continue
        if len(found) >= limit and entry.at != found[-1].at:
            return TimelinePage(found, found[-1].at)
        found.append(entry)
    return TimelinePage(found, None)


def whole_timeline(account: Account, *, kinds: Collection[str] = ()) -> Iterator[TimelineEntry]:
    """All entries of `kinds`, newest first. Raises InvalidInput."""
    _check(kinds)
    return (entry for entry in _entries(account, None) if not kinds or entry.kind in kinds)


def _check(kinds: Collection[str]) -> None:
    if any(kind not in KINDS for kind in kinds):
        raise InvalidInput(fields={"kind": [f"Choose from {', '.join(KINDS)}."]})


def _entries(account: Account, before: datetime | None) -> Iterator[TimelineEntry]:
    """All entries before an instant, newest first, read from the sources in pages."""
    seen = 0
    while seen < LOOKED_THROUGH:
        batches: list[Sequence[TimelineEntry]] = [
            source(account, before, _PAGE) for source in (_mirror, _audit, *timeline_sources)
        ]
        # A source that filled its page may hold more from its last instant on; entries up to there are complete.
        floor = max((batch[-1].at for batch in batches if len(batch) >= _PAGE), default=None)
        merged = sorted((entry for batch in batches for entry in batch), key=lambda entry: entry.at, reverse=True)
        ready = [entry for entry in merged if floor is None or entry.at >= floor]
        yield from ready
        if floor is None:
            return
        seen += len(ready)
        before = floor


def _mirror(account: Account, before: datetime | None, limit: int) -> list[TimelineEntry]:
    """What the directory says: joined, first seen, left, logins, product access that came."""
    found = []

    def add(at: datetime | None, kind: str, title: str, detail: str, icon: str, tone: str = "") -> None:
        if at is not None and (before is None or at < before):
            found.append(TimelineEntry(at, kind, title, detail, by="Atlassian", icon=icon, tone=tone))

    add(account.added_to_org_at, "presence", "Joined the organisation", "", "user", "ok")
    add(account.first_seen_at, "presence", "First seen by a sync", "", "eye")
    add(
        account.vanished_at, "presence", "No longer in Atlassian", "missing from the sync of this moment", "x", "danger"
    )
    add(
        account.status_changed_at, "presence", "Status changed", "seen between two syncs, or changed by AUM", "activity"
    )
    for access in ProductAccess.objects.filter(account=account):
        where = f"{label_of(access.product)} on {access.site or access.resource}"
        source = "" if access.source == "api" else f"from {access.source}"
        add(access.last_active_at, "login", f"Last login to {where}", source, "activity", "info")
        add(access.granted_seen_at, "presence", f"Access to {where} seen", "given since the sync before", "plus", "ok")
    return sorted(found, key=lambda entry: entry.at, reverse=True)[: max(limit, len(found))]


def _audit(account: Account, before: datetime | None, limit: int) -> list[TimelineEntry]:
    """What the audit log holds of the person: actions, failures, groups, exemptions."""
    events = events_of_target(account.organization, "account", account.account_id)
    if before is not None:
        events = events.filter(at__lt=before)
    return [_entry(event, account) for event in events[:limit]]


def _entry(event: AuditEvent, account: Account) -> TimelineEntry:
    title, icon, tone = _WORDS.get(event.action, ("", "activity", ""))
    title = title or event.action.rpartition(".")[2].replace("_", " ").capitalize()
    kind = _kind(event)
    if event.outcome == AuditEvent.Outcome.FAILED:
        title, icon, tone = f"{title}: failed", "x", "danger"
    elif event.outcome == AuditEvent.Outcome.SKIPPED:
        title, icon, tone = f"{title}: skipped", "minus", ""
    if event.group_name:
        title += f": {event.group_name}"
    rule = f"by “{event.rule_name}”" if event.rule_name else ""
    run: dict[str, Any] = {}
    if event.operation_number:
        run = {
            "url": reverse("operations:run", args=[account.organization.slug, event.operation_number]),
            "url_label": f"run #{event.operation_number}",
        }
    detail = "; ".join(part for part in (rule, event.reason) if part)
    return TimelineEntry(
        event.at, kind, title, detail, by=event.actor.label, icon=icon, tone=tone, ref=f"audit-{event.pk}", **run
    )


def _kind(event: AuditEvent) -> str:
    if event.action.startswith(("notice.", "keep_link.")):
        return "notice"
    if event.outcome == AuditEvent.Outcome.FAILED:
        return "failure"
    family = event.action.partition(".")[0]
    if event.action in _GROUP_ACTIONS:
        return "group"
    if family in ("exemption", "snooze"):
        return "exemption"
    if event.action == "account.refreshed" or family != "account":
        return "other"
    return "action"
