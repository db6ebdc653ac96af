"""Logs migration and Rules migration as the page, REST and the command line show and retry them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from apps.audit.services import record
from apps.migrations_mgmt.backfills import PARTITIONS, SEARCH
from apps.migrations_mgmt.models import Backfill
from apps.migrations_mgmt.selectors import backfill_of
from apps.migrations_mgmt.services import retry
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.rules.backfills import SCHEMA
from aum.common.errors import Missing
from aum.common.tasks import enqueue_on_commit

KINDS = {"logs": "Logs migration", "rules": "Rules migration"}
_NAMES = {"logs": SEARCH, "rules": SCHEMA}
_UNITS = {"logs": "entries", "rules": "rules"}
_WORDS = {
    Backfill.Status.PENDING: ("progress", "In progress"),
    Backfill.Status.RUNNING: ("progress", "In progress"),
    Backfill.Status.PAUSED: ("warning", "Paused"),
    Backfill.Status.FINISHED: ("success", "Completed"),
    Backfill.Status.FAILED: ("failed", "Failed"),
}
KEPT_DAYS = 15


@dataclass(frozen=True)
class MigrationCard:
    """The latest result of one kind of migration."""

    kind: str
    title: str
    text: str
    unit: str
    badge: str
    status: str
    done: int
    total: int
    percent: int
    started_at: datetime | None
    finished_at: datetime | None
    failed_reason: str
    is_open: bool
    is_cleaned: bool
    note: str


_TEXTS = {
    "logs": "Makes older log entries fit this version: the words that a search finds them by, and the layout of past"
    " months. Entries themselves are never rewritten, so the log chain stays valid.",
    "rules": "Moves rules that an older version stored to the present way of writing them. What a rule means, and its"
    " version number, stay.",
}


def cards(organization: Organization) -> list[MigrationCard]:
    """Both kinds, logs first."""
    return [_card(organization, kind) for kind in KINDS]


def _card(organization: Organization, kind: str) -> MigrationCard:
    row = backfill_of(organization, _NAMES[kind])
    note = ""
    if kind == "logs":
        layout = backfill_of(None, PARTITIONS)
        if layout is not None and layout.status == Backfill.Status.FAILED:
            note = f"The layout of past months could not be changed; a retry tries again. {layout.failed_reason}"
    if row is None:
        badge, status = _WORDS[Backfill.Status.PENDING]
        row = Backfill(name=_NAMES[kind], version=1, organization=organization)
    else:
        badge, status = _WORDS[Backfill.Status(row.status)]
    return MigrationCard(
        kind=kind,
        title=KINDS[kind],
        text=_TEXTS[kind],
        unit=_UNITS[kind],
        badge=badge,
        status=status,
        done=row.done,
        total=row.total,
        percent=row.percent,
        started_at=row.started_at,
        finished_at=row.finished_at,
        failed_reason=row.failed_reason,
        is_open=row.is_open,
        is_cleaned=row.hidden_at is not None,
        note=note,
    )


def retry_migration(*, organization: Organization, kind: str, actor: Actor) -> bool:
    """Reset the status of one kind and start it again; False when it runs already. Raises Missing for no such kind.

    The other kind is not touched. A retry of the logs also tries the layout of past months again where that failed.
    """
    if kind not in KINDS:
        raise Missing("There is no such migration.")
    with transaction.atomic():
        row, _ = Backfill.objects.get_or_create(
            organization=organization, name=_NAMES[kind], version=_version(organization, kind)
        )
        begun = retry(row)
        if kind == "logs":
            layout = backfill_of(None, PARTITIONS)
            if layout is not None:
                retry(layout)
        if begun:
            record(
                organization=organization,
                actor=actor,
                action="migration.retried",
                target_kind="migration",
                target_ref=kind,
                target_name=KINDS[kind],
            )
        enqueue_on_commit("migrations.advance")
    return begun


def _version(organization: Organization, kind: str) -> int:
    row = backfill_of(organization, _NAMES[kind])
    return row.version if row is not None else {"logs": 1, "rules": 2}[kind]
