"""From what was staged to the mirror, in sets: only rows that differ are written.

`merge_staged` takes the staged rows of a sync (or of a fresh read of a few people) and brings accounts, directory
memberships, group memberships and product access in line with them. `recompute_accounts` derives the same columns from
the mirror alone, after a change of our own. Both share the SQL of what a group grants and of the wide columns.

The rules, in words:
- A row whose digest equals the one kept from the last time is not looked at again, unless a group it is in now grants
  something else.
- What a directory that was not read would say is kept as it was.
- An account that AUM wrote to after the reading began keeps statuses and groups (DECISIONS.md §15); its digest is
  forgotten, so that the next sync looks again.
- Activity (P1): an entry with an instant is known, one without is unknown. A product that a group grants and that a
  given list leaves out was never used, unless a date of it is on record: then the two contradict each other and it is
  unknown. Without a list everything is unknown. Dates only move forward.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from apps.users.models import PRODUCT_BITS, Product


@dataclass(frozen=True)
class MergeInput:
    """What a merge works on. `staged` is the `sync_run_id` of the staged rows; `run` is None outside a full sync.

    `read_directories`: keys of the directories that the staged rows tell everything about. `is_everything`: they are
    all of the organisation's. `read_at`: when the reading began, by which accounts written to since are told apart.
    `is_first`: no sync succeeded before, so grants that are seen now need not be new. `glitch_runs`: syncs that were
    never trusted; whoever vanished in one and is back was never gone. `sites`: (product, resource, site) as known.
    `source` and `source_at`: what product access is marked with; a file's staged "-infinity" means never.
    """

    organization: int
    staged: int
    run: int | None
    read_directories: Sequence[int]
    is_everything: bool
    read_at: datetime
    now: datetime
    is_first: bool = False
    changed_groups: Sequence[int] = ()
    unknown_groups: Sequence[int] = ()
    org_admin_groups: Sequence[int] = ()
    site_admin_groups: Sequence[int] = ()
    owner_ids: Sequence[str] = ()
    owner_emails: Sequence[str] = ()
    glitch_runs: Sequence[int] = ()
    sites: Sequence[tuple[str, str, str]] = ()
    overrides_pending: bool = False
    source: str = "api"
    source_at: datetime | None = None

    def parameters(self) -> dict[str, Any]:
        return {
            "organization": self.organization,
            "staged": self.staged,
            "run": self.run,
            "read": list(self.read_directories),
            "everything": self.is_everything,
            "read_at": self.read_at,
            "now": self.now,
            "first": self.is_first,
            "changed_groups": list(self.changed_groups),
            "unknown_groups": list(self.unknown_groups),
            "org_admin_groups": list(self.org_admin_groups),
            "site_admin_groups": list(self.site_admin_groups),
            "owner_ids": list(self.owner_ids),
            "owner_emails": [email.lower() for email in self.owner_emails],
            "glitch_runs": list(self.glitch_runs),
            "site_products": [product for product, _, _ in self.sites],
            "site_resources": [resource for _, resource, _ in self.sites],
            "site_names": [site for _, _, site in self.sites],
            "overrides": self.overrides_pending,
            "source": self.source,
            "source_at": self.source_at or self.now,
        }


@dataclass(frozen=True)
class MergeCounts:
    """Rows written: accounts added, changed, marked as vanished; rows of the detail tables."""

    added: int = 0
    changed: int = 0
    vanished: int = 0
    details: int = 0


# --- shared by sync and recompute -------------------------------------------------------------------------------------

# Which product on which site a group gives a seat of.
_GRANTS = """
    SELECT DISTINCT g.id AS group_id, g.directory_id, e.product, e.resource, e.site
    FROM users_group g
    CROSS JOIN LATERAL jsonb_to_recordset(g.grants) AS e(product text, resource text, site text, seat boolean)
    WHERE g.organization_id = %(organization)s AND g.are_grants_known AND e.seat AND e.product <> ''
"""


def _bit_case() -> str:
    cases = " ".join(f"WHEN '{product}' THEN {bit}" for product, bit in PRODUCT_BITS.items())
    return f"CASE product {cases} ELSE 16 END"


# Columns of Account that follow from its rows of product access: activity is 1 unknown, 2 never, 3 known.
_WIDE = ",\n".join(
    [
        f"bit_or({_bit_case()})::integer AS products",
        "max(last_active_at) AS last_active_at",
        "bool_or(activity = 1) AS has_unknown",
        *(
            f"CASE WHEN bool_or(activity = 1) FILTER (WHERE product = '{p}') THEN 1"
            f" WHEN bool_or(activity = 3) FILTER (WHERE product = '{p}') THEN 3"
            f" WHEN bool_or(activity = 2) FILTER (WHERE product = '{p}') THEN 2 ELSE 0 END AS {p}_activity,\n"
            f"max(last_active_at) FILTER (WHERE product = '{p}') AS {p}_last_active_at,\n"
            f"max(granted_seen_at) FILTER (WHERE product = '{p}') AS {p}_granted_seen_at"
            for p in Product.values
        ),
    ]
)
_PRODUCT_COLUMNS = [
    f"{product}_{suffix}" for product in Product.values for suffix in ("activity", "last_active_at", "granted_seen_at")
]

# --- the sync's merge -----------------------------------------------------------------------------------------------

# Below so many people the planner needs no figures, and gathering them would take longest of all.
SMALL = 200
_TABLES = ("merge_changed", "merge_row", "merge_person", "merge_access", "merge_wide")

_CHANGED = """
CREATE TEMP TABLE merge_changed ON COMMIT DROP AS
SELECT s.account_id
FROM users_syncedperson s
LEFT JOIN users_account a ON a.organization_id = %(organization)s AND a.account_id = s.account_id
LEFT JOIN users_directorymembership m ON m.account_id = a.id AND m.directory_id = s.directory
WHERE s.sync_run_id = %(staged)s
  AND (a.id IS NULL OR a.vanished_at IS NOT NULL OR s.directory = 0 OR m.digest IS DISTINCT FROM s.digest
       OR a.group_ids && %(changed_groups)s::bigint[]
       OR a.is_connection_owner IS DISTINCT FROM
          (s.account_id = ANY(%(owner_ids)s) OR COALESCE(lower(s.email) = ANY(%(owner_emails)s), false)))
UNION
SELECT a.account_id
FROM users_directorymembership m
JOIN users_account a ON a.id = m.account_id AND a.organization_id = %(organization)s
WHERE m.directory_id = ANY(%(read)s)
  AND EXISTS (SELECT 1 FROM users_syncedperson s WHERE s.sync_run_id = %(staged)s AND s.account_id = a.account_id)
  AND NOT EXISTS (SELECT 1 FROM users_syncedperson s
                  WHERE s.sync_run_id = %(staged)s AND s.account_id = a.account_id AND s.directory = m.directory_id)
"""

# Whoever writes to one of these accounts now waits; whoever did so before is seen below through pending_until.
_LOCK = """
SELECT count(*) FROM (
    SELECT a.id FROM users_account a JOIN merge_changed c ON c.account_id = a.account_id
    WHERE a.organization_id = %(organization)s ORDER BY a.id FOR NO KEY UPDATE OF a
) locked
"""

_ROW = """
CREATE TEMP TABLE merge_row ON COMMIT DROP AS
SELECT DISTINCT ON (s.account_id, s.directory) s.*
FROM users_syncedperson s JOIN merge_changed c ON c.account_id = s.account_id
WHERE s.sync_run_id = %(staged)s
ORDER BY s.account_id, s.directory, s.page DESC
"""

_PERSON = """
CREATE TEMP TABLE merge_person ON COMMIT DROP AS
WITH latest AS (
    SELECT DISTINCT ON (account_id) account_id, name, sort_name, email, account_status, is_for_deletion, kind, groups
    FROM merge_row ORDER BY account_id, page DESC
), together AS (
    SELECT account_id, count(*) AS row_count, max(email) AS any_email,
        bool_or(membership_status = 1) AS any_active, bool_or(membership_status = 0) AS any_unknown,
        bool_or(membership_status = 2) AS any_suspended, max(claim_status) AS claim_status,
        max(management_source) AS management_source, max(added_to_org_at) AS added_to_org_at,
        bool_or(is_org_admin) AS is_org_admin, bool_or(is_site_admin) AS is_site_admin,
        bool_and(products IS NOT NULL) AS is_list_given, bool_and(groups IS NOT NULL) AS are_groups_given
    FROM merge_row GROUP BY account_id
), joined AS (
    SELECT COALESCE(a.id, nextval(pg_get_serial_sequence('users_account', 'id'))) AS id, a.id IS NULL AS is_new,
        l.*, t.row_count, COALESCE(l.email, t.any_email) AS best_email, t.claim_status, t.management_source,
        t.added_to_org_at, t.is_list_given, t.are_groups_given,
        t.any_active OR COALESCE(kept.any_active, false) AS any_active,
        t.any_unknown OR COALESCE(kept.any_unknown, false) AS any_unknown,
        t.any_suspended OR COALESCE(kept.any_suspended, false) AS any_suspended,
        COALESCE(t.is_org_admin, a.is_org_admin, false) AS is_org_admin,
        COALESCE(t.is_site_admin, a.is_site_admin, false) AS is_site_admin,
        NOT %(overrides)s AND COALESCE(a.pending_until > %(read_at)s, false) AS is_pending,
        COALESCE(a.group_ids, '{}') AS old_group_ids
    FROM latest l
    JOIN together t USING (account_id)
    LEFT JOIN users_account a ON a.organization_id = %(organization)s AND a.account_id = l.account_id
    LEFT JOIN LATERAL (
        SELECT bool_or(m.status = 1) AS any_active, bool_or(m.status = 0) AS any_unknown,
            bool_or(m.status = 2) AS any_suspended
        FROM users_directorymembership m
        -- a row without a directory speaks for all of them
        WHERE NOT %(everything)s AND m.account_id = a.id AND m.directory_id <> ALL(%(read)s)
          AND NOT EXISTS (SELECT 1 FROM merge_row r WHERE r.account_id = l.account_id AND r.directory = 0)
    ) kept ON true
)
SELECT j.*,
    CASE WHEN any_active THEN 1 WHEN any_unknown THEN 0 WHEN any_suspended THEN 2 ELSE 3 END AS membership_status,
    CASE
        WHEN is_pending THEN old_group_ids
        WHEN row_count = 1 AND are_groups_given AND %(everything)s THEN groups
        ELSE (
            SELECT COALESCE(array_agg(DISTINCT u.group_id ORDER BY u.group_id), '{}')
            FROM (
                SELECT unnest(r.groups) AS group_id FROM merge_row r WHERE r.account_id = j.account_id
                UNION
                SELECT g.id FROM users_group g
                WHERE g.id = ANY(j.old_group_ids)
                  AND (g.directory_id <> ALL(%(read)s)
                       OR EXISTS (SELECT 1 FROM merge_row r WHERE r.account_id = j.account_id
                                  AND r.groups IS NULL AND r.directory IN (0, g.directory_id)))
            ) u
        )
    END AS group_ids
FROM joined j
"""

_ACCESS = f"""
CREATE TEMP TABLE merge_access ON COMMIT DROP AS
WITH grants AS MATERIALIZED ({_GRANTS}),
pieces AS (
    -- given by Atlassian
    SELECT p.id AS account_id, x.product, x.resource, '' AS site, true AS is_given, x.at, NULL::bigint[] AS group_ids,
        false AS is_covered, NULL::bigint AS row_id, NULL::smallint AS old_activity, NULL::timestamptz AS old_at,
        NULL::timestamptz AS old_granted, NULL::smallint AS old_direct, NULL::bigint[] AS old_groups,
        false AS is_file
    FROM merge_row r
    JOIN merge_person p USING (account_id)
    CROSS JOIN LATERAL unnest(r.products, r.resources, r.last_active) AS x(product, resource, at)
    UNION ALL
    -- held through groups
    SELECT p.id, g.product, g.resource, max(g.site), false, NULL, array_agg(g.group_id ORDER BY g.group_id),
        bool_or(g.directory_id = ANY(%(read)s)), NULL, NULL, NULL, NULL, NULL, NULL, false
    FROM merge_person p
    CROSS JOIN LATERAL unnest(p.group_ids) AS u(group_id)
    JOIN grants g USING (group_id)
    GROUP BY p.id, g.product, g.resource
    UNION ALL
    -- on record
    SELECT e.account_id, e.product, e.resource, e.site, false, NULL, NULL, false, e.id, e.activity, e.last_active_at,
        e.granted_seen_at, e.direct, e.group_ids, e.source = 'csv' AND e.activity = 3
    FROM users_productaccess e JOIN merge_person p ON p.id = e.account_id
    WHERE NOT p.is_new
),
sites AS (
    SELECT * FROM unnest(%(site_products)s::text[], %(site_resources)s::text[], %(site_names)s::text[])
        AS s(product, resource, site)
),
combined AS (
    SELECT account_id, product, resource, max(site) AS site, bool_or(is_given) AS is_given, max(at) AS at,
        COALESCE(max(group_ids), '{{}}') AS group_ids, bool_or(is_covered) AS is_covered, max(row_id) AS row_id,
        max(old_activity) AS old_activity, max(old_at) AS old_at, max(old_granted) AS old_granted,
        COALESCE(max(old_direct), 0) AS direct, max(old_groups) AS old_groups, bool_or(is_file) AS is_file
    FROM pieces GROUP BY account_id, product, resource
)
SELECT c.account_id, c.product, c.resource, COALESCE(s.site, c.site) AS site, c.group_ids, c.row_id, c.direct,
    -- kept: given, held, granted directly, or not to be judged by what was read
    CASE
        WHEN c.group_ids <> '{{}}' OR c.direct = 2 THEN true
        WHEN p.is_pending THEN c.row_id IS NOT NULL
        WHEN c.is_given THEN true
        ELSE NOT p.is_list_given OR (NOT %(everything)s AND c.old_groups = '{{}}')
    END AS is_kept,
    CASE
        -- a date of a file fills what Atlassian does not give (DECISIONS.md §3)
        WHEN c.is_file AND NOT COALESCE(c.is_given AND c.at IS NOT NULL, false) THEN 3
        WHEN c.is_given THEN CASE
            WHEN c.at IS NULL THEN 1
            WHEN c.at = '-infinity' THEN CASE WHEN c.old_at IS NULL THEN 2 ELSE 1 END
            ELSE 3 END
        WHEN NOT %(everything)s AND NOT c.is_covered THEN COALESCE(c.old_activity, 1)
        WHEN NOT p.is_list_given OR c.old_at IS NOT NULL THEN 1
        ELSE 2
    END::smallint AS activity,
    NULLIF(GREATEST(c.at, c.old_at), '-infinity') AS last_active_at,
    CASE WHEN c.row_id IS NOT NULL THEN c.old_granted WHEN %(first)s THEN NULL ELSE %(now)s END AS granted_seen_at,
    -- a date that Atlassian gave before and does not give now, though nothing we know of took the access
    COALESCE(c.is_given AND c.at IS NOT NULL, false) AS is_dated,
    c.old_activity = 3 AND NOT c.is_file AND NOT COALESCE(c.is_given AND c.at IS NOT NULL, false)
        AND (c.group_ids <> '{{}}' OR c.old_groups = '{{}}') AS is_lost
FROM combined c
JOIN merge_person p ON p.id = c.account_id
LEFT JOIN sites s USING (product, resource)
"""

_WIDE_TABLE = f"""
CREATE TEMP TABLE merge_wide ON COMMIT DROP AS
SELECT account_id, {_WIDE}, bool_or(is_dated_unknown) AS has_dated_unknown
FROM (SELECT *, activity = 1 AND last_active_at IS NOT NULL AS is_dated_unknown FROM merge_access WHERE is_kept) kept
GROUP BY account_id
"""

# Columns that follow from what was read, in the order of both lists of the comparison.
_READ_COLUMNS = [
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
    "products",
    "last_active_at",
    "has_unknown_activity",
    "is_activity_read",
    *_PRODUCT_COLUMNS,
    "group_ids",
    "is_org_admin",
    "is_site_admin",
    "is_connection_owner",
    "vanished_at",
    "vanished_in_run",
    "activity_lost_in_run",
]

_ACCOUNTS = f"""
MERGE INTO users_account AS a
USING (
    SELECT p.id, p.is_new, p.account_id, p.name, p.sort_name, p.best_email AS email,
        CASE WHEN p.is_pending THEN o.account_status ELSE p.account_status END AS account_status,
        CASE WHEN p.is_pending THEN o.membership_status ELSE p.membership_status END AS membership_status,
        p.claim_status, p.management_source,
        CASE WHEN p.is_pending THEN o.is_for_deletion ELSE p.is_for_deletion END AS is_for_deletion,
        p.kind, p.added_to_org_at,
        COALESCE(w.products, 0) AS products, w.last_active_at,
        COALESCE(w.has_unknown, false) OR NOT p.is_list_given
            OR (w.products IS NULL AND p.group_ids && %(unknown_groups)s::bigint[]) AS has_unknown_activity,
        p.is_list_given AS is_activity_read,
        {", ".join(f"COALESCE(w.{c}, 0) AS {c}" if c.endswith("_activity") else f"w.{c}" for c in _PRODUCT_COLUMNS)},
        p.group_ids,
        p.is_org_admin OR p.group_ids && %(org_admin_groups)s::bigint[] AS is_org_admin,
        p.is_site_admin OR p.group_ids && %(site_admin_groups)s::bigint[] AS is_site_admin,
        p.account_id = ANY(%(owner_ids)s) OR COALESCE(lower(p.best_email) = ANY(%(owner_emails)s), false)
            AS is_connection_owner,
        CASE WHEN p.is_pending THEN o.vanished_at END AS vanished_at,
        CASE WHEN p.is_pending THEN o.vanished_in_run END AS vanished_in_run,
        CASE
            WHEN lost.is_lost AND %(run)s::bigint IS NOT NULL THEN %(run)s::bigint
            WHEN w.has_dated_unknown OR w.last_active_at IS NULL THEN o.activity_lost_in_run
        END AS activity_lost_in_run,
        o.vanished_at IS NOT NULL AND NOT p.is_pending
            AND COALESCE(o.vanished_in_run <> ALL(%(glitch_runs)s::bigint[]), true) AS is_returned
    FROM merge_person p
    LEFT JOIN users_account o ON o.id = p.id
    LEFT JOIN merge_wide w ON w.account_id = p.id
    LEFT JOIN (SELECT DISTINCT account_id, true AS is_lost FROM merge_access WHERE is_lost) lost
        ON lost.account_id = p.id
) AS n
ON a.id = n.id
WHEN MATCHED AND ({", ".join(f"a.{c}" for c in _READ_COLUMNS)})
    IS DISTINCT FROM ({", ".join(f"n.{c}" for c in _READ_COLUMNS)}) THEN UPDATE SET
    {", ".join(f"{c} = n.{c}" for c in _READ_COLUMNS)},
    status_changed_at = CASE
        WHEN (a.account_status, a.membership_status, a.is_for_deletion)
            IS DISTINCT FROM (n.account_status, n.membership_status, n.is_for_deletion) THEN %(now)s
        ELSE a.status_changed_at END,
    -- given back outside AUM: the idle clock starts anew (DESIGN.md §12)
    idle_floor_at = CASE
        WHEN n.is_returned
            OR (a.account_status = 2 AND n.account_status = 1)
            OR (a.is_for_deletion AND NOT n.is_for_deletion)
            OR (a.membership_status IN (2, 3) AND n.membership_status = 1) THEN %(now)s
        ELSE a.idle_floor_at END,
    synced_at = %(now)s
WHEN NOT MATCHED THEN INSERT (
    id, organization_id, account_id, is_kind_released, {", ".join(_READ_COLUMNS)}, synced_at
) OVERRIDING SYSTEM VALUE VALUES (
    n.id, %(organization)s, n.account_id, false, {", ".join(f"n.{c}" for c in _READ_COLUMNS)}, %(now)s
)
"""

_DETAILS = [
    # Group memberships
    """
    DELETE FROM users_groupmembership m USING merge_person p
    WHERE m.account_id = p.id AND NOT p.is_new AND p.group_ids IS DISTINCT FROM p.old_group_ids
      AND m.group_id <> ALL(p.group_ids)
    """,
    """
    INSERT INTO users_groupmembership (organization_id, account_id, group_id)
    SELECT %(organization)s, p.id, u.group_id
    FROM merge_person p CROSS JOIN LATERAL unnest(p.group_ids) AS u(group_id)
    WHERE p.group_ids IS DISTINCT FROM p.old_group_ids AND u.group_id <> ALL(p.old_group_ids)
    ON CONFLICT (account_id, group_id) DO NOTHING
    """,
    # Product access
    "DELETE FROM users_productaccess e USING merge_access d WHERE e.id = d.row_id AND NOT d.is_kept",
    """
    UPDATE users_productaccess e
    SET site = d.site, activity = d.activity, last_active_at = d.last_active_at, group_ids = d.group_ids,
        source = CASE WHEN d.is_dated AND e.source = 'csv' OR d.last_active_at IS DISTINCT FROM e.last_active_at
                      THEN %(source)s ELSE e.source END,
        source_at = CASE WHEN d.is_dated AND e.source = 'csv' OR d.last_active_at IS DISTINCT FROM e.last_active_at
                         THEN %(source_at)s ELSE e.source_at END
    FROM merge_access d
    WHERE e.id = d.row_id AND d.is_kept
      AND (d.is_dated AND e.source = 'csv' OR (e.site, e.activity, e.last_active_at, e.group_ids)
          IS DISTINCT FROM (d.site, d.activity, d.last_active_at, d.group_ids))
    """,
    """
    INSERT INTO users_productaccess (organization_id, account_id, product, resource, site, activity, last_active_at,
        source, source_at, granted_seen_at, group_ids, direct)
    SELECT %(organization)s, account_id, product, resource, site, activity, last_active_at,
        %(source)s, %(source_at)s, granted_seen_at, group_ids, direct
    FROM merge_access WHERE row_id IS NULL AND is_kept
    """,
    # Directory memberships
    """
    DELETE FROM users_directorymembership m USING merge_person p
    WHERE m.account_id = p.id AND NOT p.is_new AND NOT p.is_pending AND m.directory_id = ANY(%(read)s)
      AND NOT EXISTS (SELECT 1 FROM merge_row r WHERE r.account_id = p.account_id AND r.directory = m.directory_id)
    """,
    """
    INSERT INTO users_directorymembership AS m
        (organization_id, account_id, directory_id, status, management_source, added_at, digest)
    SELECT %(organization)s, p.id, r.directory, r.membership_status, r.management_source, r.added_to_org_at, r.digest
    FROM merge_row r JOIN merge_person p USING (account_id)
    WHERE r.directory <> 0 AND NOT p.is_pending
    ON CONFLICT (account_id, directory_id) DO UPDATE
    SET status = excluded.status, management_source = excluded.management_source, added_at = excluded.added_at,
        digest = excluded.digest
    WHERE (m.status, m.management_source, m.added_at, m.digest)
        IS DISTINCT FROM (excluded.status, excluded.management_source, excluded.added_at, excluded.digest)
    """,
    """
    UPDATE users_directorymembership m SET digest = NULL FROM merge_person p
    WHERE m.account_id = p.id AND p.is_pending AND m.digest IS NOT NULL
    """,
]

_VANISHED = """
UPDATE users_account a SET vanished_at = %(now)s, vanished_in_run = %(run)s, synced_at = %(now)s
WHERE a.organization_id = %(organization)s AND a.vanished_at IS NULL
  AND (a.pending_until IS NULL OR a.pending_until <= %(read_at)s)
  AND NOT EXISTS (SELECT 1 FROM users_syncedperson s
                  WHERE s.sync_run_id = %(staged)s AND s.account_id = a.account_id)
"""


def merge_staged(merge: MergeInput, *, mark_vanished: bool) -> MergeCounts:
    """Bring the mirror in line with the staged rows; call inside a transaction.

    `mark_vanished` only after a complete reading: whoever is not staged is then marked as gone, never deleted.
    """
    parameters = merge.parameters()
    with connection.cursor() as cursor:
        for table in _TABLES:
            cursor.execute(f"DROP TABLE IF EXISTS pg_temp.{table}")
        if merge.run is not None:
            cursor.execute("ANALYZE users_syncedperson (sync_run_id, directory, account_id)")
        cursor.execute(_CHANGED, parameters)
        cursor.execute("SELECT count(*) FROM merge_changed")
        people = cursor.fetchone()[0]
        details = added = changed = 0
        if people:
            is_large = people > SMALL
            cursor.execute(_LOCK, parameters)
            cursor.execute(_ROW, parameters)
            if is_large:
                cursor.execute("CREATE INDEX ON merge_row (account_id)")
                cursor.execute("ANALYZE merge_row (account_id, directory)")
            cursor.execute(_PERSON, parameters)
            if is_large:
                cursor.execute("CREATE INDEX ON merge_person (id)")
                cursor.execute("ANALYZE merge_person (id, account_id)")
            cursor.execute(_ACCESS, parameters)
            if is_large:
                cursor.execute("ANALYZE merge_access (account_id, row_id)")
            cursor.execute(_WIDE_TABLE)
            cursor.execute(_ACCOUNTS, parameters)
            written = cursor.rowcount
            cursor.execute("SELECT count(*) FROM merge_person WHERE is_new")
            added = cursor.fetchone()[0]
            changed = written - added
            for statement in _DETAILS:
                cursor.execute(statement, parameters)
                details += cursor.rowcount
        vanished = 0
        if mark_vanished:
            cursor.execute(_VANISHED, parameters)
            vanished = cursor.rowcount
    return MergeCounts(added=added, changed=changed, vanished=vanished, details=details)


# --- after a change of our own ----------------------------------------------------------------------------------------

_RECOMPUTE = f"""
WITH subject AS (
    SELECT a.id, COALESCE(array_agg(m.group_id ORDER BY m.group_id) FILTER (WHERE m.group_id IS NOT NULL), '{{}}')
        AS group_ids
    FROM users_account a LEFT JOIN users_groupmembership m ON m.account_id = a.id
    WHERE a.id = ANY(%(accounts)s) AND a.organization_id = %(organization)s
    GROUP BY a.id
),
grants AS MATERIALIZED ({_GRANTS} AND g.id IN (SELECT unnest(group_ids) FROM subject)),
pieces AS (
    SELECT s.id AS account_id, g.product, g.resource, max(g.site) AS site,
        array_agg(g.group_id ORDER BY g.group_id) AS group_ids, NULL::bigint AS row_id, NULL::smallint AS activity,
        NULL::timestamptz AS last_active_at, NULL::timestamptz AS granted_seen_at, NULL::smallint AS direct,
        NULL::bigint[] AS old_groups
    FROM subject s CROSS JOIN LATERAL unnest(s.group_ids) AS u(group_id) JOIN grants g USING (group_id)
    GROUP BY s.id, g.product, g.resource
    UNION ALL
    SELECT e.account_id, e.product, e.resource, e.site, NULL, e.id, e.activity, e.last_active_at, e.granted_seen_at,
        e.direct, e.group_ids
    FROM users_productaccess e JOIN subject s ON s.id = e.account_id
),
combined AS (
    SELECT account_id, product, resource, max(site) AS site, COALESCE(max(group_ids), '{{}}') AS group_ids,
        max(row_id) AS row_id, COALESCE(max(direct), 0) AS direct, max(last_active_at) AS last_active_at,
        -- access that is new to the mirror: what Atlassian knows of its use was not read yet
        COALESCE(max(activity), 1) AS activity,
        CASE WHEN max(row_id) IS NULL THEN %(now)s ELSE max(granted_seen_at) END AS granted_seen_at,
        max(old_groups) AS old_groups
    FROM pieces GROUP BY account_id, product, resource
),
kept AS (
    SELECT * FROM combined
    WHERE group_ids <> '{{}}' OR direct = 2 OR (row_id IS NOT NULL AND old_groups = '{{}}' AND direct <> 1)
),
wide AS (SELECT account_id, {_WIDE} FROM kept GROUP BY account_id),
dropped AS (
    DELETE FROM users_productaccess e USING combined c
    WHERE e.id = c.row_id AND NOT EXISTS (SELECT 1 FROM kept k WHERE k.row_id = c.row_id)
    RETURNING e.id
),
updated AS (
    UPDATE users_productaccess e SET group_ids = k.group_ids FROM kept k
    WHERE e.id = k.row_id AND e.group_ids IS DISTINCT FROM k.group_ids
    RETURNING e.id
),
inserted AS (
    INSERT INTO users_productaccess (organization_id, account_id, product, resource, site, activity, last_active_at,
        source, granted_seen_at, group_ids, direct)
    SELECT %(organization)s, account_id, product, resource, site, activity, last_active_at, 'aum', granted_seen_at,
        group_ids, direct
    FROM kept WHERE row_id IS NULL
    RETURNING id
)
UPDATE users_account a
SET group_ids = s.group_ids, products = COALESCE(w.products, 0), last_active_at = w.last_active_at,
    has_unknown_activity = COALESCE(w.has_unknown, false) OR NOT a.is_activity_read
        OR (w.products IS NULL AND EXISTS (
            SELECT 1 FROM users_group g WHERE g.id = ANY(s.group_ids) AND NOT g.are_grants_known)),
    {", ".join(f"{c} = COALESCE(w.{c}, 0)" if c.endswith("_activity") else f"{c} = w.{c}" for c in _PRODUCT_COLUMNS)}
FROM subject s LEFT JOIN wide w ON w.account_id = s.id
WHERE a.id = s.id
"""


def recompute_accounts(organization: int, accounts: Iterable[int], *, now: datetime) -> int:
    """Derive groups, products and activity of these accounts from memberships and grants; returns rows written.

    Call inside the transaction of the change. Access that appears is new (`granted_seen_at` is `now`) and its use
    unknown until it is read; access that no group gives any more goes, unless it is known or may be held directly.
    """
    pks = sorted(set(accounts))
    if not pks:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_RECOMPUTE, {"organization": organization, "accounts": pks, "now": now})
        return int(cursor.rowcount)
