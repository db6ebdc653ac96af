"""Exports of people: at once, or by a worker into a file that is kept for a while. Each one is an audit event."""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import xlsxwriter
from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.http import QueryDict
from django.utils import timezone

from apps.audit.services import record
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import ExportJob
from apps.users.predicates import Context
from apps.users.selectors.columns import Column, columns_of
from apps.users.selectors.explorer import ORDERINGS, sort_sentence
from apps.users.selectors.exports import ExportQuery, csv_blocks, text_rows
from apps.users.selectors.filters import AccountFilters
from aum.common.errors import DomainError, InvalidInput
from aum.common.tasks import enqueue_on_commit

logger = logging.getLogger(__name__)

# From here on a worker writes the file, so that nobody waits for it and no proxy cuts it.
JOB_ABOVE = 50_000
KEPT_HOURS = 72
OPEN_AT_ONCE = 3
# Excel reads 1,048,576 rows a sheet.
ROWS_A_SHEET = 1_000_000
CELL_CHARACTERS = 32_767
PROGRESS_ROWS = 5_000
ALIVE_SECONDS = 120
FORMATS = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


class ExportGone(DomainError):
    code = "export_gone"
    detail = "This file is no longer kept. Start the export again."


class ExportCancelled(Exception):
    """Somebody cancelled the job while its file was written."""


def export_query(
    organization: Organization,
    filters: AccountFilters,
    *,
    ordering: str,
    columns: Sequence[Column],
    account_pks: Sequence[int] | None = None,
) -> ExportQuery:
    """What an export holds. Raises InvalidInput for an ordering that does not exist."""
    if ordering not in ORDERINGS:
        raise InvalidInput(fields={"ordering": [f"Sort by one of {', '.join(ORDERINGS)}."]})
    pks = None if account_pks is None else tuple(account_pks)
    return ExportQuery(organization, filters, ordering, tuple(columns), pks)


def record_export(query: ExportQuery, *, file_format: str, actor: Actor, job: ExportJob | None = None) -> None:
    """The audit event of an export: whom it held and in which form."""
    after: dict[str, Any] = {"filters": query.filters.query_string(), "format": file_format}
    if query.account_pks is not None:
        after["people"] = len(query.account_pks)
    if job is not None:
        after["export"] = job.pk
    record(
        organization=query.organization,
        actor=actor,
        action="users.exported",
        target_kind="organization",
        target_ref=query.organization.slug,
        target_name=query.organization.name,
        after=after,
    )


def file_name(organization: Organization, file_format: str) -> str:
    """`aum-users-acme-20261124T1150Z.csv`."""
    return f"aum-users-{organization.slug}-{timezone.now():%Y%m%dT%H%MZ}.{file_format}"


# --- the files --------------------------------------------------------------------------------------------------------


def write_workbook(query: ExportQuery, file: Any) -> Iterator[int]:
    """Write the workbook into `file`; yields how many rows are done, now and then. Memory stays flat.

    Texts only, so that no cell is a formula. Each heading has a note; the sheet About says what the file holds.
    """
    cells = query.headings()
    done = 0
    with xlsxwriter.Workbook(file, {"constant_memory": True, "strings_to_formulas": False}) as book:
        bold = book.add_format({"bold": True})
        about = book.add_worksheet("About")
        for number, (name, text) in enumerate(_about(query)):
            about.write_string(number, 0, name, bold)
            about.write_string(number, 1, text[:CELL_CHARACTERS])
        about.set_column(0, 0, 18)
        about.set_column(1, 1, 90)
        sheet: Any = None
        for row in text_rows(query):
            if done % ROWS_A_SHEET == 0:
                sheet = _new_sheet(book, cells, bold, done // ROWS_A_SHEET + 1)
            for column, cell in enumerate(row):
                sheet.write_string(done % ROWS_A_SHEET + 1, column, cell[:CELL_CHARACTERS])
            done += 1
            if done % PROGRESS_ROWS == 0:
                yield done
        if sheet is None:
            _new_sheet(book, cells, bold, 1)
        book.worksheets_objs[1].activate()
    yield done


def _new_sheet(book: Any, cells: Sequence[Any], bold: Any, number: int) -> Any:
    sheet = book.add_worksheet("Users" if number == 1 else f"Users {number}")
    for column, cell in enumerate(cells):
        sheet.write_string(0, column, cell.heading, bold)
        sheet.write_comment(0, column, cell.note)
        sheet.set_column(column, column, 22)
    sheet.freeze_panes(1, 0)
    return sheet


def _about(query: ExportQuery) -> list[tuple[str, str]]:
    context = Context.of(query.organization)
    sentences = [chip.sentence for chip in query.filters.chips(context)]
    if query.account_pks is not None:
        sentences.append(f"{len(query.account_pks):,} people selected by hand")
    return [
        ("Organisation", query.organization.name),
        ("Exported", f"{timezone.now():%Y-%m-%d %H:%M} UTC"),
        ("Filters", "; ".join(sentences) or "none: all users"),
        ("Order", sort_sentence(query.ordering)),
        ("Times", "UTC, ISO 8601. Atlassian gives last logins up to 24 hours late."),
        ("never, unknown", "never: no login since the access was given. unknown: Atlassian gave no date."),
    ]


# --- jobs -------------------------------------------------------------------------------------------------------------


def start_export(*, query: ExportQuery, file_format: str, operator: Operator | None, actor: Actor) -> ExportJob:
    """Let a worker write the file. Raises InvalidInput for a format, DomainError when too many are open already."""
    if file_format not in FORMATS:
        raise InvalidInput(fields={"format": [f"Choose one of {', '.join(FORMATS)}."]})
    with transaction.atomic():
        Organization.objects.select_for_update().only("pk").get(pk=query.organization.pk)
        if ExportJob.objects.of(query.organization).filter(status__in=ExportJob.OPEN).count() >= OPEN_AT_ONCE:
            raise DomainError(f"{OPEN_AT_ONCE} exports are being written. Wait for one of them, or cancel it.")
        job: ExportJob = ExportJob.objects.create(
            organization=query.organization,
            operator=operator,
            requested_by=actor.name[:254],
            format=file_format,
            query=query.filters.query_string(),
            account_pks=None if query.account_pks is None else list(query.account_pks),
            ordering=query.ordering,
            columns=[column.key for column in query.columns],
        )
        record_export(query, file_format=file_format, actor=actor, job=job)
        enqueue_on_commit("users.write_export", export_id=job.pk)
    return job


def write_export(job_id: int) -> None:
    """Write the file of a job. A second worker, or a repeat of a job that is done, does nothing."""
    now = timezone.now()
    claimed = ExportJob.objects.filter(pk=job_id, status=ExportJob.Status.QUEUED).update(
        status=ExportJob.Status.RUNNING, started_at=now, alive_at=now, rows_done=0
    )
    if not claimed:
        return
    job = ExportJob.objects.select_related("organization").get(pk=job_id)
    folder = folder_of(job.organization)
    path = folder / f"{job.pk}-{secrets.token_hex(8)}.{job.format}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        query = query_of(job)
        total = query.count()
        ExportJob.objects.filter(pk=job.pk).update(rows_total=total)
        with path.open("xb") as file:
            rows = _write(job, query, file)
    except ExportCancelled:
        _remove(path)
        return
    except OSError as error:
        _remove(path)
        logger.warning("export.failed", extra={"export_id": job.pk, "error": type(error).__name__})
        cause = error.strerror or type(error).__name__
        _fail(job, f"The file could not be written: {cause}. Look at the disk, then try again.")
        return
    except BaseException:
        _remove(path)
        _fail(job, "The export stopped on a fault that is in the server's log. Try again.")
        raise
    finished = timezone.now()
    kept = ExportJob.objects.filter(pk=job.pk, status=ExportJob.Status.RUNNING).update(
        status=ExportJob.Status.SUCCEEDED,
        rows_done=rows,
        rows_total=rows,
        file_name=path.name,
        size_bytes=path.stat().st_size,
        finished_at=finished,
        expires_at=finished + timedelta(hours=KEPT_HOURS),
    )
    if not kept:
        _remove(path)


def _write(job: ExportJob, query: ExportQuery, file: BinaryIO) -> int:
    """Rows written. Progress stands in the cache: the connection is busy with the rows."""
    rows, told = 0, 0
    if job.format == ExportJob.Format.XLSX:
        for rows in write_workbook(query, file):
            _go_on(job, rows)
        return rows
    for block, count in csv_blocks(query):
        file.write(block)
        rows += count
        if rows - told >= PROGRESS_ROWS:
            _go_on(job, rows)
            told = rows
    return rows


def _go_on(job: ExportJob, rows: int) -> None:
    cache.set(_progress_key(job.pk), rows, ALIVE_SECONDS)
    if cache.get(_cancel_key(job.pk)):
        raise ExportCancelled


def progress_of(job: ExportJob) -> int:
    """Rows written so far."""
    if job.status != ExportJob.Status.RUNNING:
        return int(job.rows_done)
    return int(cache.get(_progress_key(job.pk)) or 0)


def cancel_export(*, job: ExportJob, actor: Actor) -> None:
    """Stop a job that is open; its file goes. Raises DomainError for one that has ended."""
    with transaction.atomic():
        stopped = ExportJob.objects.filter(pk=job.pk, status__in=ExportJob.OPEN).update(
            status=ExportJob.Status.CANCELLED, finished_at=timezone.now()
        )
        if not stopped:
            raise DomainError("This export has ended already.")
        _record(job, actor, "export.cancelled")
    cache.set(_cancel_key(job.pk), True, 24 * 3600)


def delete_export(*, job: ExportJob, actor: Actor) -> None:
    """Delete the file of a finished job before its time."""
    with transaction.atomic():
        gone = ExportJob.objects.filter(pk=job.pk, status=ExportJob.Status.SUCCEEDED).update(
            status=ExportJob.Status.EXPIRED, file_name=""
        )
        if not gone:
            raise ExportGone
        _record(job, actor, "export.deleted")
    _remove(path_of(job))


def open_export(*, job: ExportJob, actor: Actor) -> BinaryIO:
    """The file of a finished job, opened; who fetches it is recorded. Raises ExportGone."""
    if (
        job.status != ExportJob.Status.SUCCEEDED
        or not job.file_name
        or (job.expires_at or timezone.now()) <= timezone.now()
    ):
        raise ExportGone
    try:
        file = path_of(job).open("rb")
    except OSError as error:
        raise ExportGone from error
    _record(job, actor, "export.downloaded")
    return file


def sweep_exports() -> None:
    """Every half minute: take up jobs that no worker writes any more, delete files that have expired."""
    now = timezone.now()
    for job in ExportJob.objects.filter(
        status=ExportJob.Status.RUNNING, alive_at__lt=now - timedelta(seconds=ALIVE_SECONDS)
    ):
        if cache.get(_progress_key(job.pk)) is None:
            lost = ExportJob.objects.filter(pk=job.pk, status=ExportJob.Status.RUNNING, alive_at=job.alive_at)
            lost.update(status=ExportJob.Status.QUEUED, alive_at=now)
    waiting = ExportJob.objects.filter(status=ExportJob.Status.QUEUED, created_at__lt=now - timedelta(seconds=60))
    for pk in waiting.values_list("pk", flat=True):
        enqueue_on_commit("users.write_export", export_id=pk)
    for job in ExportJob.objects.filter(status=ExportJob.Status.SUCCEEDED, expires_at__lte=now).select_related(
        "organization"
    ):
        _remove(path_of(job))
        ExportJob.objects.filter(pk=job.pk).update(status=ExportJob.Status.EXPIRED, file_name="")
    _drop_strangers(now)


def _drop_strangers(now: Any) -> None:
    """Files that no job names: left by a worker that was killed, or by an organisation that is gone."""
    root = _root()
    if not root.is_dir():
        return
    named = set(ExportJob.objects.exclude(file_name="").values_list("file_name", flat=True))
    open_jobs = {str(pk) for pk in ExportJob.objects.filter(status__in=ExportJob.OPEN).values_list("pk", flat=True)}
    for folder in root.iterdir():
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in named and path.name.partition("-")[0] not in open_jobs:
                _remove(path)
        if folder.is_dir() and not any(folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)


def query_of(job: ExportJob) -> ExportQuery:
    """What the job was asked for."""
    filters, _ = AccountFilters.parse(QueryDict(job.query))
    pks = None if job.account_pks is None else tuple(job.account_pks)
    return ExportQuery(job.organization, filters, job.ordering, columns_of(job.columns), pks)


def _root() -> Path:
    return Path(settings.AUM_DATA_DIR) / "exports"


def folder_of(organization: Organization) -> Path:
    """Where the organisation's files lie; web and workers share AUM_DATA_DIR."""
    return _root() / str(organization.pk)


def path_of(job: ExportJob) -> Path:
    return _root() / str(job.organization_id) / Path(job.file_name or f"{job.pk}-none").name


def _remove(path: Path) -> None:
    """Delete a file, also where its folder is gone or cannot be read: the sweep tries again."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _fail(job: ExportJob, sentence: str) -> None:
    ExportJob.objects.filter(pk=job.pk, status=ExportJob.Status.RUNNING).update(
        status=ExportJob.Status.FAILED, error=sentence[:500], finished_at=timezone.now()
    )


def _record(job: ExportJob, actor: Actor, action: str) -> None:
    record(
        organization=job.organization,
        actor=actor,
        action=action,
        target_kind="export",
        target_ref=str(job.pk),
        target_name=f"Export {job.pk}",
    )


def _progress_key(pk: int) -> str:
    return f"users:export:{pk}:rows"


def _cancel_key(pk: int) -> str:
    return f"users:export:{pk}:cancelled"
