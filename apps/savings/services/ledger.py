"""Posting finished runs to the ledger, and ending entries when people return.

Everything is a statement over sets and may run twice: an entry is unique by run, person and product, and its end is the
first return after it, whichever of the two runs is posted first.
"""

from __future__ import annotations

import logging

from django.db import connection, transaction
from django.utils import timezone

from apps.operations.models import Operation
from apps.organizations.models import Organization
from apps.savings.models import LedgerPosting

logger = logging.getLogger(__name__)
SWEEP_RUNS = 200

_FINAL = (
    Operation.Status.SUCCEEDED,
    Operation.Status.PARTIAL_FAILURE,
    Operation.Status.FAILED,
    Operation.Status.CANCELLED,
    Operation.Status.NO_EFFECT,
    Operation.Status.EXPIRED,
)
_BIT = "(CASE {p} WHEN 'jira' THEN 1 WHEN 'confluence' THEN 2 WHEN 'jsm' THEN 4 WHEN 'bitbucket' THEN 8 ELSE 16 END)"
# `e` is what was freed (action, product), `g` an item that gives: whether g gives back what e freed.
_GIVES = f"""(
    (e.action = 'suspend' AND g.action IN ('restore', 'invite'))
    OR (e.action IN ('deactivate', 'delete') AND g.action IN ('activate', 'cancel_delete'))
    OR (e.action = 'remove_from_directory' AND g.action = 'invite')
    OR (e.action IN ('remove_product_access', 'remove_from_group') AND (
        (g.action = 'grant_product_access' AND split_part(substr(g.target, 9), '@', 1) = e.product)
        OR g.action = 'invite'
        OR (g.action = 'add_to_group' AND EXISTS (
            SELECT 1 FROM users_group gg WHERE gg.id = (g.parameters ->> 'group_pk')::bigint
            AND gg.granted_products & {_BIT.format(p="e.product")} > 0))
    ))
)"""
# A seat was billed before: the account was active and so was its membership in some directory. Only then is one freed.
_BILLED = """(COALESCE({state} ->> 'account_status', 'active') = 'active'
    AND COALESCE({state} ->> 'status', '') <> 'for_deletion'
    AND EXISTS (
        SELECT 1 FROM jsonb_each_text(COALESCE({state} -> 'directories', '{{}}')) d WHERE d.value = 'active'))"""

# What is still held counts as held on the day only when it was seen granted by then: later grants are returns.
_POST = f"""
WITH done AS (
    SELECT i.id, i.account_id, i.action, i.target, i.parameters, i.finished_at, i.before, i.after
    FROM operations_operationitem i
    WHERE i.operation_id = %(operation)s AND i.outcome = 'done' AND i.account_id IS NOT NULL
      AND i.action IN ('suspend', 'deactivate', 'delete', 'remove_from_directory', 'remove_product_access',
                       'remove_from_group')
      AND {_BILLED.format(state="i.before")}
), last_whole AS (
    SELECT DISTINCT ON (account_id) account_id, action, finished_at, before, after FROM done
    WHERE action IN ('suspend', 'deactivate', 'delete', 'remove_from_directory')
    ORDER BY account_id, finished_at DESC, id DESC
), whole AS (
    -- Several directories make several items: the last one read back says whether the person is out of all of them.
    SELECT * FROM last_whole w WHERE w.after IS NULL OR NOT {_BILLED.format(state="w.after")}
), freed AS (
    SELECT w.account_id, pa.product, w.action, w.finished_at AS freed_at
    FROM whole w JOIN users_productaccess pa ON pa.account_id = w.account_id
    WHERE pa.granted_seen_at IS NULL OR pa.granted_seen_at <= w.finished_at
    UNION
    -- Whose access left the mirror together with the membership: by the groups held before.
    SELECT w.account_id, p.product, w.action, w.finished_at
    FROM whole w
    CROSS JOIN (VALUES ('jira', 1), ('confluence', 2), ('jsm', 4), ('bitbucket', 8)) AS p(product, bit)
    WHERE jsonb_typeof(w.before -> 'groups') = 'array'
      AND NOT EXISTS (SELECT 1 FROM users_productaccess pa WHERE pa.account_id = w.account_id)
      AND EXISTS (
        SELECT 1 FROM jsonb_array_elements(w.before -> 'groups') pair
        JOIN organizations_directory dir ON dir.directory_id = pair ->> 0 AND dir.organization_id = %(organization)s
        JOIN users_group ug ON ug.directory_id = dir.id AND ug.group_id = pair ->> 1
        WHERE ug.granted_products & p.bit > 0)
    UNION
    SELECT d.account_id, split_part(substr(d.target, 9), '@', 1), d.action, d.finished_at
    FROM done d WHERE d.action = 'remove_product_access'
    UNION
    SELECT d.account_id, p.product, d.action, d.finished_at
    FROM done d JOIN users_group ug ON ug.id = (d.parameters ->> 'group_pk')::bigint
    CROSS JOIN (VALUES ('jira', 1), ('confluence', 2), ('jsm', 4), ('bitbucket', 8)) AS p(product, bit)
    WHERE d.action = 'remove_from_group' AND ug.granted_products & p.bit > 0
), kept AS (
    -- Product by product: another path or another site keeps the seat.
    SELECT f.* FROM freed f
    WHERE f.product <> '' AND (
        f.action NOT IN ('remove_product_access', 'remove_from_group')
        OR NOT EXISTS (
            SELECT 1 FROM users_productaccess pa WHERE pa.account_id = f.account_id AND pa.product = f.product
            AND (pa.granted_seen_at IS NULL OR pa.granted_seen_at <= f.freed_at)))
), first AS (
    SELECT DISTINCT ON (account_id, product) * FROM kept ORDER BY account_id, product, freed_at
)
INSERT INTO savings_ledgerentry (organization_id, account_id, product, action, freed_at, operation_id, rule_id,
    source_name, ended_at, ended_by, ended_operation_id, is_demo)
SELECT %(organization)s, e.account_id, e.product, e.action, e.freed_at, %(operation)s, %(rule)s, %(name)s,
    back.finished_at, CASE WHEN back.finished_at IS NULL THEN '' ELSE 'run' END, back.operation_id, false
FROM first e LEFT JOIN LATERAL (
    SELECT g.finished_at, g.operation_id FROM operations_operationitem g
    WHERE g.account_id = e.account_id AND g.outcome = 'done' AND g.finished_at >= e.freed_at
      AND g.operation_id <> %(operation)s AND {_GIVES}
    ORDER BY g.finished_at LIMIT 1
) back ON true
-- A licence that is free already is not freed again.
WHERE NOT EXISTS (
    SELECT 1 FROM savings_ledgerentry x
    WHERE x.account_id = e.account_id AND x.product = e.product
      AND x.freed_at <= COALESCE(back.finished_at, 'infinity') AND COALESCE(x.ended_at, 'infinity') > e.freed_at)
ON CONFLICT DO NOTHING
"""

_END_BY_RUN = f"""
UPDATE savings_ledgerentry t SET ended_at = back.finished_at, ended_by = 'run', ended_operation_id = back.operation_id
FROM (
    SELECT DISTINCT ON (e.id) e.id, g.finished_at, g.operation_id
    FROM operations_operationitem g
    JOIN savings_ledgerentry e ON e.account_id = g.account_id AND e.ended_at IS NULL AND g.finished_at >= e.freed_at
    WHERE g.operation_id = %(operation)s AND g.outcome = 'done' AND {_GIVES}
    ORDER BY e.id, g.finished_at
) back
WHERE t.id = back.id AND t.ended_at IS NULL
"""

# A person who is active again and holds the product, by a change that the mirror saw after the licence was freed.
_END_BY_SIGHT = """
UPDATE savings_ledgerentry t SET ended_at = seen.at, ended_by = 'seen'
FROM (
    SELECT e.id, CASE
        WHEN e.action IN ('remove_product_access', 'remove_from_group') THEN min(pa.granted_seen_at)
        ELSE a.status_changed_at END AS at
    FROM savings_ledgerentry e
    JOIN users_account a ON a.id = e.account_id
    JOIN users_productaccess pa ON pa.account_id = e.account_id AND pa.product = e.product
    WHERE e.organization_id = %(organization)s AND e.ended_at IS NULL AND NOT e.is_demo
      AND a.account_status = 1 AND a.membership_status = 1 AND NOT a.is_for_deletion AND a.vanished_at IS NULL
      AND (a.pending_until IS NULL OR a.pending_until <= %(now)s)
      AND CASE WHEN e.action IN ('remove_product_access', 'remove_from_group') THEN pa.granted_seen_at > e.freed_at
               ELSE a.status_changed_at > e.freed_at END
    GROUP BY e.id, a.status_changed_at
) seen
WHERE t.id = seen.id AND t.ended_at IS NULL AND seen.at IS NOT NULL
"""


def post_operation(operation_id: int) -> bool:
    """Write what one finished live run freed and gave back; False when there was nothing to do, or it was done."""
    with transaction.atomic():
        operation = Operation.objects.select_for_update().filter(pk=operation_id, mode=Operation.Mode.LIVE).first()
        if operation is None or operation.is_open or LedgerPosting.objects.filter(operation=operation).exists():
            return False
        values = {
            "operation": operation.pk,
            "organization": operation.organization_id,
            "rule": operation.rule_id,
            "name": operation.name,
        }
        with connection.cursor() as cursor:
            cursor.execute(_POST, values)
            freed = max(cursor.rowcount, 0)
            cursor.execute(_END_BY_RUN, values)
            given_back = max(cursor.rowcount, 0)
        LedgerPosting.objects.create(
            organization=operation.organization,
            operation=operation,
            posted_at=timezone.now(),
            freed=freed,
            given_back=given_back,
        )
    logger.info("ledger.posted", extra={"operation_id": operation_id, "freed": freed, "given_back": given_back})
    return True


def post_missing(limit: int = SWEEP_RUNS) -> int:
    """Post finished live runs that are not in the ledger, the oldest first: after a kill, and those of before it."""
    missing = (
        Operation.objects.filter(mode=Operation.Mode.LIVE, status__in=_FINAL, ledger_posting__isnull=True)
        .order_by("finished_at", "pk")
        .values_list("pk", flat=True)[:limit]
    )
    return sum(post_operation(pk) for pk in missing)


def end_returned(organization: Organization) -> int:
    """End entries of people whom a sync found back, whoever let them in; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_END_BY_SIGHT, {"organization": organization.pk, "now": timezone.now()})
        return max(int(cursor.rowcount), 0)
