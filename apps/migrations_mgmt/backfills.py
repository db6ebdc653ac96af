"""Logs migration: the words to search sealed entries by, and the layout of older partitions.

Registered here and not in `apps.audit`, which stands below data migrations. Entries are never rewritten: words are
stored beside them, and moving a month into its partition copies rows as they are, so the chain stays valid.
"""

from __future__ import annotations

from django.db import connection

from apps.audit.registry import register_words_complete
from apps.audit.search import store_words
from apps.audit.services.partitions import adopt_month, build_index, months_in_default, partitions_without_index
from apps.migrations_mgmt import registry
from apps.migrations_mgmt.models import Backfill
from apps.organizations.models import Organization

SEARCH, PARTITIONS = "audit.search", "audit.partitions"
# Version 2 stores the moments of events beside their words.
SEARCH_VERSION = 2
# Steps are numbered: months as YYYYMM, then partitions by their oid above this.
_OIDS_FROM = 10_000_000_000


def _next_events(organization_id: int, after_id: int | None, size: int) -> tuple[int, int] | None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(id), max(id) FROM (SELECT id FROM audit_auditevent WHERE organization_id = %s AND id > %s"
            " AND id <= (SELECT max(last_id) FROM audit_auditsegment WHERE organization_id = %s)"
            " ORDER BY id LIMIT %s) AS next_rows",
            [organization_id, after_id or 0, organization_id, size],
        )
        first, last = cursor.fetchone()
    return None if first is None else (first, last)


def _count_events(organization_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(count), 0) FROM audit_auditsegment WHERE organization_id = %s AND purged_at IS NULL",
            [organization_id],
        )
        return int(cursor.fetchone()[0])


def _steps() -> list[int]:
    return [*months_in_default(), *(_OIDS_FROM + oid for oid in partitions_without_index())]


def _next_step(after: int | None, size: int) -> tuple[int, int] | None:
    step = next((step for step in _steps() if after is None or step > after), None)
    return None if step is None else (step, step)


def _apply_step(first: int, last: int) -> int:
    if first >= _OIDS_FROM:
        build_index(first - _OIDS_FROM)
    else:
        adopt_month(first)
    return 1


def _words_complete(organization: Organization) -> bool:
    found = Backfill.objects.filter(organization=organization, name=SEARCH, version=SEARCH_VERSION)
    return found.filter(status=Backfill.Status.FINISHED).exists()


registry.register(
    PARTITIONS,
    1,
    description="Gives each past month of the audit log a partition of its own, with all indexes.",
    apply_batch=_apply_step,
    next_batch=_next_step,
    count=lambda: len(_steps()),
    batch_size=1,
)
registry.register_per_organization(
    SEARCH,
    SEARCH_VERSION,
    description="Stores the words of sealed entries, so that searching millions of them is quick.",
    apply_of=store_words,
    next_of=_next_events,
    count_of=_count_events,
    batch_size=2000,
)
register_words_complete(_words_complete)
