"""How exemptions are used: the plans that left people out because of them."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection

from apps.users.exempting import Usage
from apps.users.models import Exemption

DAYS = 90


def usage_of_exemptions(exemptions: Sequence[Exemption]) -> dict[int, Usage]:
    """Plans of the last 90 days within each exemption's time. Two statements: people's own, and those of sets."""
    own = [exemption.pk for exemption in exemptions if exemption.account_id]
    sets = [exemption.pk for exemption in exemptions if not exemption.account_id]
    found: dict[int, Usage] = {}
    for keys, join in (
        (own, "JOIN operations_leftout l ON l.account_id = e.account_id"),
        (
            sets,
            "JOIN operations_leftout l ON l.organization_id = e.organization_id "
            "JOIN users_account a ON a.id = l.account_id AND (a.group_ids @> ARRAY[e.group_id] "
            "OR a.kind = e.account_kind OR e.domain <> '' AND lower(split_part(a.email, '@', 2)) = e.domain)",
        ),
    ):
        if not keys:
            continue
        with connection.cursor() as cursor:
            cursor.execute(
                f"""SELECT e.id, count(DISTINCT o.id), count(DISTINCT l.account_id),
                           array_agg(DISTINCT o.name) FILTER (WHERE o.rule_id IS NOT NULL)
                    FROM users_exemption e {join} AND l.reason = 'exempt'
                    JOIN operations_operation o ON o.id = l.operation_id AND o.created_at >= e.starts_at
                         AND (e.ended_at IS NULL OR o.created_at <= e.ended_at)
                         AND (e.until IS NULL OR o.created_at <= e.until)
                         AND o.created_at > now() - interval '{DAYS} days'
                    WHERE e.id = ANY(%s) GROUP BY e.id""",
                [keys],
            )
            for pk, plans, people, rules in cursor.fetchall():
                found[pk] = Usage(plans, people, tuple(rules or ()))
    return found
