"""Rules migration: rules that were stored by an older version are moved to the present schema.

Schema 2 writes products by AUM's keys (`jira-software` is `jira`), each once; weekdays sorted, each once, and only for
weekly rules; a day of the month only for monthly ones. What a rule means stays, so its version number does.
"""

from __future__ import annotations

from django.db import connection

from apps.audit.services import Actor, record
from apps.migrations_mgmt import registry
from apps.organizations.models import Organization

SCHEMA = "rules.schema"
_PRODUCT = (
    "CASE lower(trim(key)) WHEN 'jira-software' THEN 'jira'"
    " WHEN 'jira-service-desk' THEN 'jsm' WHEN 'jira-servicedesk' THEN 'jsm'"
    " WHEN 'jira-servicemanagement' THEN 'jsm' WHEN 'jira-service-management' THEN 'jsm'"
    " ELSE lower(trim(key)) END"
)


def _products(column: str) -> str:
    """SQL of a product column in schema 2: in the order in which each key is first met."""
    return (
        f"ARRAY(SELECT product FROM (SELECT {_PRODUCT} AS product, min(place) AS place"
        f" FROM unnest(old.{column}) WITH ORDINALITY AS given(key, place) GROUP BY 1) AS found"
        " ORDER BY place)::varchar[]"
    )


_MOVE = f"""
WITH old AS (
    SELECT * FROM rules_cleanuprule
    WHERE organization_id = %s AND id BETWEEN %s AND %s AND schema_version < 2 FOR UPDATE
), moved AS (
    UPDATE rules_cleanuprule rule SET
        schema_version = 2,
        inactive_products = {_products("inactive_products")},
        target_products = {_products("target_products")},
        weekdays = CASE WHEN old.recurrence = 'weekly'
            THEN ARRAY(SELECT DISTINCT day FROM unnest(old.weekdays) AS day ORDER BY day) ELSE '{{}}' END,
        month_day = CASE WHEN old.recurrence = 'monthly' THEN old.month_day END
    FROM old WHERE old.id = rule.id
    RETURNING rule.id, rule.name, rule.version, (rule.inactive_products, rule.target_products, rule.weekdays,
        rule.month_day) IS DISTINCT FROM (old.inactive_products, old.target_products, old.weekdays, old.month_day)
)
SELECT * FROM moved ORDER BY id
"""


def _apply(organization_id: int, first_id: int, last_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_MOVE, [organization_id, first_id, last_id])
        moved = cursor.fetchall()
        cursor.execute(
            "SELECT count(*) FROM rules_cleanuprule WHERE organization_id = %s AND id BETWEEN %s AND %s",
            [organization_id, first_id, last_id],
        )
        looked_at = int(cursor.fetchone()[0])
    changed = [(pk, name, version) for pk, name, version, is_changed in moved if is_changed]
    organization = Organization.objects.get(pk=organization_id)
    for pk, name, version in changed:
        record(
            organization=organization,
            actor=Actor.system(),
            action="rule.migrated",
            target_kind="rule",
            target_ref=str(pk),
            target_name=name,
            rule_id=pk,
            rule_name=name,
            rule_version=version,
            before={"schema_version": 1},
            after={"schema_version": 2},
        )
    return looked_at


def _next(organization_id: int, after_id: int | None, size: int) -> tuple[int, int] | None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(id), max(id) FROM (SELECT id FROM rules_cleanuprule WHERE organization_id = %s AND id > %s"
            " ORDER BY id LIMIT %s) AS next_rows",
            [organization_id, after_id or 0, size],
        )
        first, last = cursor.fetchone()
    return None if first is None else (first, last)


def _count(organization_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM rules_cleanuprule WHERE organization_id = %s", [organization_id])
        return int(cursor.fetchone()[0])


registry.register_per_organization(
    SCHEMA,
    2,
    description="Moves rules that an older version stored to the present schema.",
    apply_of=_apply,
    next_of=_next,
    count_of=_count,
    batch_size=100,
)
