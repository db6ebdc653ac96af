"""Taking over the audit log of another product from its CSV export, line by line, resumable, once.

Columns as the reference product's audit page has them: Timestamp, Operation, Rule Name, Performed By, Status, User
Email, User Action, Group. AUM's own export has them too, so a log can move from one installation to another.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.audit.models import ImportedEvent, LogImport
from apps.audit.services.writing import record
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from aum.common.csv import restore_cell
from aum.common.errors import DomainError, InvalidInput
from aum.common.tasks import enqueue_on_commit

logger = logging.getLogger(__name__)
MAX_BYTES = 100_000_000
BATCH_LINES = 2000
KEPT_ERRORS = 100
MAX_CELL = 131_072
# What a column may be called, in the order of ImportedEvent; the first name is the one asked for.
COLUMNS: dict[str, tuple[str, ...]] = {
    "at": ("timestamp", "timestamp (utc)", "at_utc", "timestamp utc", "time", "date", "date (utc)"),
    "operation": ("operation", "operation name"),
    "rule_name": ("rule name", "rule_name", "rule"),
    "performed_by": ("performed by", "performed_by", "actor", "performer", "initiator"),
    "status": ("status",),
    "user_email": ("user email", "user_email", "email", "user"),
    "user_action": ("user action", "user_action", "action"),
    "group_name": ("group", "groups", "group name"),
}
REQUIRED = ("at", "operation", "status")
_LABELS = {name: names[0].title() for name, names in COLUMNS.items()}
_STATUSES = {
    "success": "success",
    "successful": "success",
    "succeeded": "success",
    "completed": "success",
    "failed": "failed",
    "failure": "failed",
    "error": "failed",
    "partial failure": "partial",
    "partial": "partial",
    "partially failed": "partial",
    "warning": "warning",
    "skipped": "warning",
    "in progress": "progress",
    "running": "progress",
}
_KINDS = {
    "automation rule": "automation_rule",
    "manual operation": "manual_operation",
    "user import": "user_import",
    "bulk csv action": "bulk_csv_action",
    "scheduled cleanup": "scheduled_cleanup",
    "cleanup": "scheduled_cleanup",
    "migration": "migration",
    "directory sync": "sync",
}
_FORMATS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%d %b %Y, %H:%M",
    "%d %b %Y, %H:%M:%S",
    "%d %b %Y %H:%M:%S",
    "%d %b %Y %H:%M",
    "%b %d, %Y %H:%M:%S",
    "%b %d, %Y, %I:%M:%S %p",
    "%b %d, %Y %I:%M:%S %p",
    "%b %d, %Y %I:%M %p",
    "%b %d, %Y, %I:%M %p",
    "%d/%b/%y %I:%M %p",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
)


class AlreadyImported(DomainError):
    code = "already_imported"
    detail = "This file was imported before. Its entries are in the log already."


@dataclass(frozen=True)
class _Parsed:
    """One line of data: its cells, or why it was refused; `line` is the number in the file."""

    line: int
    values: dict[str, Any]
    refusal: str = ""


def start_log_import(*, organization: Organization, name: str, content: bytes, actor: Actor) -> LogImport:
    """Store the file and have a worker take its lines over.

    Raises InvalidInput when it is no such CSV, saying what is missing, and AlreadyImported for the same bytes.
    """
    if not content.strip():
        raise InvalidInput(fields={"file": ["The file is empty."]})
    if len(content) > MAX_BYTES:
        raise InvalidInput(fields={"file": [f"The file is larger than {MAX_BYTES // 1_000_000} MB. Split it."]})
    _header(_text_of(content))
    lines = max(0, sum(1 for _ in _rows(_text_of(content))) - 1)
    sha256 = hashlib.sha256(content).hexdigest()
    with transaction.atomic():
        row, is_new = LogImport.objects.get_or_create(
            organization=organization,
            sha256=sha256,
            defaults={
                "name": name[:200] or "audit.csv",
                "content": content,
                "size_bytes": len(content),
                "lines": lines,
                "imported_by": actor.name,
            },
        )
        if not is_new:
            raise AlreadyImported
        record(
            organization=organization,
            actor=actor,
            action="audit.import_started",
            target_kind="log_import",
            target_ref=str(row.pk),
            target_name=row.name,
            after={"lines": lines, "sha256": sha256},
        )
        enqueue_on_commit("audit.import_log", import_id=row.pk)
    return row


def retry_log_import(*, log_import: LogImport, actor: Actor) -> None:
    """Begin the file anew; entries that are there already stay as they are. Only one that failed has its file still."""
    with transaction.atomic():
        begun = LogImport.objects.filter(
            pk=log_import.pk, status=LogImport.Status.FAILED, content__isnull=False
        ).update(status=LogImport.Status.RUNNING, done=0, added=0, refused=0, errors=[], detail="", finished_at=None)
        if not begun:
            return
        record(
            organization=log_import.organization,
            actor=actor,
            action="audit.import_retried",
            target_kind="log_import",
            target_ref=str(log_import.pk),
            target_name=log_import.name,
        )
        enqueue_on_commit("audit.import_log", import_id=log_import.pk)


def run_log_import(import_id: int) -> LogImport:
    """Take over the lines that are left. Two at once share nothing and do no harm; a killed one goes on here."""
    row: LogImport = LogImport.objects.get(pk=import_id)
    if row.status != LogImport.Status.RUNNING or row.content is None:
        return row
    seen: Counter[bytes] = Counter()
    batch: list[tuple[_Parsed, bytes]] = []
    done = 0
    try:
        for parsed in _parsed(_text_of(bytes(row.content))):
            digest = b"" if parsed.refusal else _digest(parsed.values, seen)
            done += 1
            if done <= row.done:
                continue
            batch.append((parsed, digest))
            if len(batch) == BATCH_LINES:
                if not _take(row, batch):
                    return row
                batch = []
        if batch and not _take(row, batch):
            return row
        _finish(row)
    except (csv.Error, InvalidInput) as error:
        LogImport.objects.filter(pk=row.pk).update(
            status=LogImport.Status.FAILED, detail=f"The file cannot be read on: {error}.", finished_at=timezone.now()
        )
    row.refresh_from_db()
    return row


def resume_log_imports() -> None:
    """Hand every unfinished import to a worker; every minute."""
    for pk in LogImport.objects.filter(status=LogImport.Status.RUNNING).values_list("pk", flat=True):
        enqueue_on_commit("audit.import_log", import_id=pk)


def _take(row: LogImport, batch: list[tuple[_Parsed, bytes]]) -> bool:
    """Write one batch and move the mark; False when another worker is at it or got further."""
    with transaction.atomic():
        locked = (
            LogImport.objects.select_for_update(skip_locked=True)
            .filter(pk=row.pk, status=LogImport.Status.RUNNING, done=row.done)
            .defer("content")
            .first()
        )
        if locked is None:
            return False
        good = [
            ImportedEvent(
                organization_id=row.organization_id,
                log_import=locked,
                line=parsed.line,
                digest=digest,
                **parsed.values,
            )
            for parsed, digest in batch
            if not parsed.refusal
        ]
        before = ImportedEvent.objects.filter(log_import=locked).count()
        ImportedEvent.objects.bulk_create(good, ignore_conflicts=True)
        added = ImportedEvent.objects.filter(log_import=locked).count() - before
        refusals = [{"line": parsed.line, "detail": parsed.refusal} for parsed, _ in batch if parsed.refusal]
        locked.done += len(batch)
        locked.added += added
        locked.refused += len(refusals)
        locked.errors = [*locked.errors, *refusals][:KEPT_ERRORS]
        locked.save(update_fields=["done", "added", "refused", "errors"])
    row.done, row.added, row.refused = locked.done, locked.added, locked.refused
    return True


def _finish(row: LogImport) -> None:
    with transaction.atomic():
        ended = LogImport.objects.filter(pk=row.pk, status=LogImport.Status.RUNNING).update(
            status=LogImport.Status.FINISHED, finished_at=timezone.now(), content=None
        )
        if ended:
            record(
                organization=row.organization,
                actor=Actor.system(),
                action="audit.imported",
                target_kind="log_import",
                target_ref=str(row.pk),
                target_name=row.name,
                outcome="warning" if row.refused else "success",
                after={"lines": row.lines, "added": row.added, "refused": row.refused},
            )


def _text_of(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(fields={"file": ["The file is not UTF-8 text. Save it as CSV UTF-8."]}) from None


def _rows(text: str) -> Iterator[list[str]]:
    csv.field_size_limit(MAX_CELL)
    first = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(",;\t", key=first.count)
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    except csv.Error as error:
        raise InvalidInput(fields={"file": [f"This is not a valid CSV file: {error}."]}) from error


def _header(text: str) -> dict[str, int]:
    """Index of each column. Raises InvalidInput that names the ones that are missing."""
    names = [cell.strip().lower() for cell in next(_rows(text), [])]
    found = {}
    for column, known in COLUMNS.items():
        for name in known:
            if name in names:
                found[column] = names.index(name)
                break
    missing = [_LABELS[column] for column in REQUIRED if column not in found]
    if missing:
        raise InvalidInput(
            fields={
                "file": [
                    f"The first line has no column {' and no '.join(missing)}."
                    f" An audit export has: {', '.join(_LABELS.values())}."
                ]
            }
        )
    return found


def _parsed(text: str) -> Iterator[_Parsed]:
    places = _header(text)
    rows = _rows(text)
    next(rows, None)
    for line, cells in enumerate(rows, start=2):
        if not any(cell.strip() for cell in cells):
            yield _Parsed(line, {}, "The line is empty.")
            continue
        given = {
            column: restore_cell(cells[place]).strip() if place < len(cells) else "" for column, place in places.items()
        }
        at = parse_instant(given["at"])
        if at is None:
            yield _Parsed(line, {}, f"“{given['at'][:60]}” is no date with a time. Write 2026-11-24 11:50:00.")
            continue
        yield _Parsed(line, _values(given, at))


def _values(given: dict[str, str], at: datetime) -> dict[str, Any]:
    limits = {"operation": 300, "rule_name": 200, "performed_by": 320, "status": 60}
    limits |= {"user_email": 320, "user_action": 300, "group_name": 300}
    values: dict[str, Any] = {name: given.get(name, "").replace("\0", "")[:limit] for name, limit in limits.items()}
    values["at"] = at
    values["outcome"] = _STATUSES.get(values["status"].lower(), "")
    operation = values["operation"].lower()
    values["kind"] = _KINDS.get(operation) or next((kind for word, kind in _KINDS.items() if word in operation), "")
    return values


def _digest(values: dict[str, Any], seen: Counter[bytes]) -> bytes:
    parts = [values["at"].isoformat(), *(values[name] for name in COLUMNS if name != "at")]
    plain = hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).digest()
    seen[plain] += 1
    return hashlib.sha256(plain + seen[plain].to_bytes(8, "big")).digest()


def parse_instant(text: str) -> datetime | None:
    """The moment that `text` names, UTC unless it says otherwise; None when it names none or leaves the month open."""
    plain = " ".join(text.split())
    for suffix in (" UTC", " GMT", " (UTC)", " Z"):
        plain = plain.removesuffix(suffix)
    try:
        at = datetime.fromisoformat(plain)
    except ValueError:
        for layout in _FORMATS:
            try:
                at = datetime.strptime(plain, layout)
                break
            except ValueError:
                continue
        else:
            return None
    if ":" not in plain and "T" not in plain:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at if datetime(1990, 1, 1, tzinfo=UTC) <= at <= datetime(2200, 1, 1, tzinfo=UTC) else None
