"""Files about people that exist: stored by rows, and checked against the directory in one statement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Count
from django.utils import timezone

from apps.audit.services import record
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users import csv_layouts, predicates
from apps.users.cache import mirror_changed
from apps.users.models import (
    PRODUCT_BITS,
    Account,
    AccountStatus,
    Activity,
    ImportFile,
    ImportRow,
    MembershipStatus,
    Product,
    SyncRun,
)
from apps.users.services.merge import recompute_accounts
from aum.common.errors import DomainError, InvalidInput
from aum.common.tasks import enqueue, enqueue_on_commit

CHUNK_ROWS = 5000
# From here on rows are joined by hashing alone.
HASH_FROM_ROWS = 2000
TASK = "users.read_import"
COPY_ROWS = (
    "COPY users_importrow (organization_id, import_file_id, line, cells, last_seen, is_ragged, account_id_text, email, "
    "code, disagrees, notes, holds, sightings, is_never) FROM STDIN"
)


class NotReadYet(DomainError):
    code = "import_not_read"
    detail = "The file is not read yet. Wait until it is."


@transaction.atomic
def upload_import(*, organization: Organization, name: str, content: bytes, actor: Actor) -> ImportFile:
    """Store an uploaded file and have a worker read it. Raises InvalidInput for what cannot be a CSV file."""
    if not name.lower().endswith((".csv", ".txt")):
        raise InvalidInput("Only CSV files can be read. Save the sheet as CSV and upload that.")
    csv_layouts.decode(content)
    created: ImportFile = ImportFile.objects.create(
        organization=organization,
        name=name.replace("\x00", "")[-200:],
        size_bytes=len(content),
        content=content,
        uploaded_by=actor.name[:254],
    )
    record(
        organization=organization,
        actor=actor,
        action="import.uploaded",
        target_kind="import",
        target_ref=str(created.pk),
        target_name=created.name,
        after={"bytes": len(content)},
    )
    enqueue_on_commit(TASK, import_id=created.pk)
    return created


def read_import(import_id: int) -> None:
    """Parse the file and store its rows in chunks. A killed one goes on where it stood; two at once do no harm.

    Reading the same bytes gives the same rows, so `rows_stored`, read under a lock, says where the next chunk begins.
    """
    found = ImportFile.objects.filter(pk=import_id, status=ImportFile.Status.READING).first()
    if found is None or found.content is None:
        return
    try:
        parsed = csv_layouts.parse(bytes(found.content))
    except InvalidInput as error:
        ImportFile.objects.filter(pk=import_id, status=ImportFile.Status.READING).update(
            status=ImportFile.Status.FAILED, error=error.detail, content=None
        )
        return
    while _store_chunk(import_id, parsed):
        pass


@transaction.atomic
def _store_chunk(import_id: int, parsed: csv_layouts.Parsed) -> bool:
    """Whether there is more to do."""
    file = ImportFile.objects.select_for_update().filter(pk=import_id).first()
    if file is None or file.status != ImportFile.Status.READING:
        return False
    chunk = parsed.records[file.rows_stored : file.rows_stored + CHUNK_ROWS]
    with connection.cursor() as cursor, cursor.copy(COPY_ROWS) as copy:
        for row in chunk:
            cells, last_seen = json.dumps(row.cells, ensure_ascii=False), json.dumps(row.last_seen)
            products = (row.notes, json.dumps(row.holds), json.dumps(row.sightings), row.is_never)
            copy.write_row(
                (file.organization_id, file.pk, row.line, cells, last_seen, row.is_ragged, "", "", "", 0, *products)
            )
    file.rows_stored += len(chunk)
    file.rows_total = len(parsed.records)
    if file.rows_stored == file.rows_total:
        file.status = ImportFile.Status.READ
        file.layout, file.headers, file.mapping = parsed.layout, parsed.headers, parsed.mapping
        file.lines, file.content = parsed.lines, None
    file.save()
    return bool(file.status == ImportFile.Status.READING)


def sweep_imports() -> None:
    """Take up files whose reading was interrupted."""
    for pk in ImportFile.objects.filter(status=ImportFile.Status.READING).values_list("pk", flat=True):
        enqueue(TASK, import_id=pk)


def _checked_mapping(file: ImportFile, mapping: Mapping[str, int]) -> dict[str, int]:
    known = {name: index for name, index in mapping.items() if name in csv_layouts.MEANINGS}
    if any(not 0 <= index < len(file.headers) for index in known.values()):
        raise InvalidInput("A chosen column is not in the file.")
    if len(set(known.values())) != len(known):
        raise InvalidInput("Two meanings name the same column. Choose one of them.")
    if "account_id" not in known and "email" not in known:
        raise InvalidInput("Say which column holds the account id or the e-mail: people are found by these.")
    return known


@transaction.atomic
def check_import(*, file: ImportFile, mapping: Mapping[str, int]) -> ImportFile:
    """Find each line's person and what is wrong with the rest, again on each call. Raises InvalidInput, NotReadYet."""
    file = ImportFile.objects.select_for_update().get(pk=file.pk)
    if file.status not in (ImportFile.Status.READ, ImportFile.Status.CHECKED):
        raise NotReadYet
    file.mapping = _checked_mapping(file, mapping)
    _resolve(file)
    file.counts = _counts(file)
    file.status = ImportFile.Status.CHECKED
    file.checked_at = timezone.now()
    file.save(update_fields=["mapping", "counts", "status", "checked_at"])
    return file


def _resolve(file: ImportFile) -> None:
    """One statement: the account id first, else the exact e-mail; then repeats, and where file and directory differ.

    A given account id that is not known never falls back to the e-mail: that might be somebody else by now.
    """
    indexes = {name: file.mapping.get(name) for name in csv_layouts.MEANINGS}
    logins = " OR ".join(
        f"""CASE WHEN coalesce(r.last_seen ->> '{product}', 'never') = 'never' THEN false
                 ELSE {never} OR coalesce(a.{column} + interval '1 day'
                               < (r.last_seen ->> '{product}')::timestamptz, false) END"""
        for product, column, never in [
            *((p, f"{p}_last_active_at", f"a.{p}_activity = {Activity.NEVER.value}") for p in Product.values),
            (csv_layouts.ANY, "last_active_at", "a.last_active_at IS NULL AND NOT a.has_unknown_activity"),
        ]
    )
    covered = csv_layouts.columns_of(file.headers, file.layout).covered
    # Deactivated and suspended people keep their products in the file, so nothing is compared.
    access = " OR ".join(f"(r.holds ? '{p}') <> (a.products & {PRODUCT_BITS[Product(p)]} > 0)" for p in covered)
    statement = f"""
        WITH raw AS MATERIALIZED (
            SELECT id, line, is_ragged, coalesce(cells ->> %(account_id)s::int, '') AS aid,
                   lower(coalesce(cells ->> %(email)s::int, '')) AS mail
            FROM users_importrow WHERE import_file_id = %(file)s
        ), people AS (
            SELECT lower(a.email) AS mail, count(*) AS n, min(a.id) AS id FROM users_account a
            WHERE a.organization_id = %(organization)s AND a.vanished_at IS NULL
              AND lower(a.email) IN (SELECT mail FROM raw WHERE mail <> '' AND aid = '')
            GROUP BY 1
        ), found AS (
            SELECT raw.*, CASE
                       WHEN raw.is_ragged THEN 'ragged'
                       WHEN raw.aid = '' AND raw.mail = '' THEN 'empty'
                       WHEN raw.aid <> '' THEN CASE WHEN by_id.id IS NULL THEN 'unknown' ELSE '' END
                       WHEN raw.mail !~ '^[^@\\s,;]+@[^@\\s,;]+\\.[^@\\s,;]+$' THEN 'malformed'
                       WHEN people.n IS NULL THEN 'unknown'
                       WHEN people.n > 1 THEN 'ambiguous'
                       ELSE '' END AS code,
                   CASE WHEN raw.aid <> '' THEN by_id.id WHEN people.n = 1 THEN people.id END AS person
            FROM raw
            LEFT JOIN users_account by_id ON by_id.organization_id = %(organization)s AND raw.aid <> ''
                 AND by_id.account_id = raw.aid AND by_id.vanished_at IS NULL
            LEFT JOIN people ON raw.aid = '' AND people.mail = raw.mail
        ), numbered AS (
            SELECT found.*, CASE WHEN code = '' AND row_number() OVER (PARTITION BY code, person ORDER BY line) > 1
                                 THEN 'duplicate' ELSE code END AS verdict
            FROM found
        ), judged AS (
            SELECT n.id, n.aid, n.mail, n.verdict, CASE WHEN n.verdict IN ('', 'duplicate') THEN n.person END AS person,
              CASE WHEN n.verdict <> '' THEN 0 ELSE
                CASE WHEN lower(coalesce(r.cells ->> %(status)s::int, '')) = '' THEN 0
                     WHEN CASE WHEN a.account_status IN ({AccountStatus.INACTIVE.value}, {AccountStatus.CLOSED.value})
                                 THEN lower(r.cells ->> %(status)s::int) IN ('deactivated', 'inactive', 'no')
                               WHEN a.membership_status = {MembershipStatus.SUSPENDED.value}
                                 THEN lower(r.cells ->> %(status)s::int) IN ('suspended', 'no')
                               ELSE lower(r.cells ->> %(status)s::int) IN ('active', 'yes') END
                     THEN 0 ELSE {ImportRow.STATUS} END
                + CASE WHEN coalesce(r.cells ->> %(name)s::int, '') NOT IN ('', a.name) THEN {ImportRow.NAME} ELSE 0 END
                + CASE WHEN n.mail <> '' AND a.email IS NOT NULL AND n.mail <> lower(a.email)
                       THEN {ImportRow.EMAIL} ELSE 0 END
                + CASE WHEN {logins} THEN {ImportRow.LAST_LOGIN} ELSE 0 END
                + CASE WHEN a.account_status = {AccountStatus.ACTIVE.value}
                            AND a.membership_status = {MembershipStatus.ACTIVE.value} AND ({access or "false"})
                       THEN {ImportRow.ACCESS} ELSE 0 END END AS disagrees
            FROM numbered n JOIN users_importrow r ON r.id = n.id LEFT JOIN users_account a ON a.id = n.person
        )
        UPDATE users_importrow r SET account_id_text = j.aid, email = j.mail, code = j.verdict,
               account_id = j.person, disagrees = j.disagrees
        FROM judged j WHERE r.id = j.id
    """
    parameters: dict[str, Any] = {"file": file.pk, "organization": file.organization_id, **indexes}
    with connection.cursor() as cursor:
        if (file.rows_total or 0) >= HASH_FROM_ROWS:
            # Rows stored a moment ago are not in the statistics: the planner takes 100,000 for one, and its
            # nested loops ran for more than ten minutes.
            cursor.execute("SET LOCAL enable_nestloop = off")
        cursor.execute(statement, parameters)


def _counts(file: ImportFile) -> dict[str, int]:
    """Lines by verdict; `valid` of them can be acted on, `protected` and `disagrees` are among the valid."""
    rows = ImportRow.objects.filter(import_file=file)
    found = {row["code"]: row["n"] for row in rows.order_by().values("code").annotate(n=Count("pk"))}
    valid = rows.filter(code="")
    people = Account.objects.of(file.organization).filter(pk__in=valid.values("account"))
    from_file = {"notes": rows.exclude(notes="").count(), "never": valid.filter(is_never=True).count()}
    from_directory = {
        "protected": people.filter(predicates.protected_q(file.organization)).count(),
        "disagrees": valid.filter(disagrees__gt=0).count(),
    }
    by_code = {str(code): found.get(code, 0) for code in ImportRow.Code.values}
    return {"valid": found.get("", 0), "wrong": sum(by_code.values()), **by_code, **from_file, **from_directory}


# --- dates that fill what the API does not give -----------------------------------------------------------------------

# An export says nothing of what happened after it, so an old one is refused and a used one counts for a while only.
MAX_EXPORT_AGE = timedelta(days=14)
FILE_COUNTS_FOR = timedelta(days=30)


@transaction.atomic
def use_activity(*, file: ImportFile, exported_on: date, actor: Actor) -> int:
    """Fill last logins that Atlassian does not give with the dates of a checked file; returns how many.

    Only where the activity of a product on a site is unknown, or came from an older file (DECISIONS.md §3): the API's
    own dates, and its "never", stay. A file's "never" fills nothing, since a rule might act on it. Marked with the
    source and the day of the export, and unknown again after 30 days. Raises InvalidInput, NotReadYet.
    """
    file = ImportFile.objects.select_for_update().get(pk=file.pk)
    if file.status != ImportFile.Status.CHECKED:
        raise NotReadYet
    today = timezone.now().date()
    if not today - MAX_EXPORT_AGE <= exported_on <= today:
        days = MAX_EXPORT_AGE.days
        raise InvalidInput(
            fields={
                "exported_on": [f"Give the day of the export, at most {days} days ago: an older one says too little."]
            }
        )
    with connection.cursor() as cursor:
        cursor.execute(
            f"""WITH seen AS (
                    SELECT r.account_id, s ->> 0 AS product, lower(split_part(s ->> 1, '.', 1)) AS site,
                           (s ->> 2)::date AS day
                    FROM users_importrow r CROSS JOIN LATERAL jsonb_array_elements(r.sightings) s
                    WHERE r.import_file_id = %(file)s AND r.code = '' AND r.account_id IS NOT NULL
                      AND s ->> 2 <> 'never' AND s ->> 0 <> '{csv_layouts.ANY}' AND (s ->> 2)::date <= %(day)s
                ), places AS (
                    SELECT p.id, p.account_id, p.product, lower(split_part(p.site, '.', 1)) AS site,
                           count(*) OVER (PARTITION BY p.account_id, p.product) AS n
                    FROM users_productaccess p
                    WHERE p.account_id IN (SELECT account_id FROM seen)
                ), filled AS (
                    SELECT p.id, max(s.day) AS day FROM places p JOIN seen s USING (account_id, product)
                    WHERE s.site = p.site OR (p.n = 1 AND s.site = '') GROUP BY p.id
                )
                UPDATE users_productaccess p
                SET activity = {Activity.KNOWN.value}, last_active_at = f.day::timestamp AT TIME ZONE 'UTC',
                    source = 'csv', source_at = %(day)s::timestamp AT TIME ZONE 'UTC'
                FROM filled f
                WHERE p.id = f.id AND (
                    p.activity = {Activity.UNKNOWN.value}
                        AND (p.last_active_at IS NULL OR p.last_active_at < f.day::timestamp AT TIME ZONE 'UTC')
                    OR p.source = 'csv' AND p.source_at < %(day)s::timestamp AT TIME ZONE 'UTC')
                RETURNING p.account_id""",
            {"file": file.pk, "day": exported_on},
        )
        accounts = [row[0] for row in cursor.fetchall()]
    _recompute(file.organization_id, accounts)
    file.activity_used_at, file.activity_used_by = timezone.now(), actor.name[:254]
    file.save(update_fields=["activity_used_at", "activity_used_by"])
    record(
        organization=file.organization,
        actor=actor,
        action="import.activity_used",
        target_kind="import",
        target_ref=str(file.pk),
        target_name=file.name,
        after={"filled": len(accounts), "exported_on": exported_on.isoformat()},
    )
    return len(accounts)


def _recompute(organization: int, accounts: list[int]) -> None:
    keys = list(dict.fromkeys(accounts))
    for at in range(0, len(keys), 5000):
        recompute_accounts(organization, keys[at : at + 5000], now=timezone.now())
    if keys:
        mirror_changed(organization)


def expire_file_activity() -> None:
    """Dates of files that are older than 30 days no longer tell whether somebody is idle: unknown again."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"""UPDATE users_productaccess SET activity = {Activity.UNKNOWN.value}
                WHERE source = 'csv' AND activity = {Activity.KNOWN.value} AND source_at < %s
                RETURNING organization_id, account_id""",
            [timezone.now() - FILE_COUNTS_FOR],
        )
        found: dict[int, list[int]] = {}
        for organization, account in cursor.fetchall():
            found.setdefault(organization, []).append(account)
        for organization, accounts in found.items():
            _recompute(organization, accounts)


def remove_old_imports(organization: Organization, before: datetime) -> int:
    """Delete files that were uploaded before an instant, with their rows; returns how many files. Retention."""
    old = ImportFile.objects.of(organization).filter(created_at__lt=before).exclude(status=ImportFile.Status.READING)
    removed = 0
    for pk in list(old.values_list("pk", flat=True)):
        with transaction.atomic(), connection.cursor() as cursor:
            SyncRun.objects.filter(import_file=pk).update(import_file=None)
            cursor.execute("DELETE FROM users_importrow WHERE import_file_id = %s", [pk])
            cursor.execute("DELETE FROM users_importfile WHERE id = %s", [pk])
            removed += cursor.rowcount
    return removed
