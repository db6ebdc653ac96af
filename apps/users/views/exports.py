"""Exports of the list: at once up to a size, above it by a worker with a page that can be left and found again."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.users.forms import canonical
from apps.users.models import Account, ExportJob
from apps.users.predicates import Context
from apps.users.selectors import AccountFilters
from apps.users.selectors.columns import chosen_columns
from apps.users.selectors.exports import ExportQuery, csv_blocks
from apps.users.services import exports as services
from apps.users.views.common import varied
from apps.users.views.picking import keys_of
from aum.common.errors import DomainError, InvalidInput

JOBS_SHOWN = 30


@require(Permission.EXPORT)
@require_http_methods(["GET", "POST"])
def export(request: OrganizationRequest) -> HttpResponseBase:
    """The people who match (GET), or those picked (POST), as CSV or workbook in the order and columns of the screen.

    Above JOB_ABOVE rows it asks whether a worker shall write the file; a POST with `job` starts that.
    """
    try:
        query, file_format = _asked(request)
    except InvalidInput as error:
        return HttpResponse(_sentences(error), status=422, content_type="text/plain; charset=utf-8")
    if "job" in request.POST:
        return _start(request, query, file_format)
    count = query.count(cap=services.JOB_ABOVE + 1)
    if count > services.JOB_ABOVE:
        return _ask(request, query, file_format)
    services.record_export(query, file_format=file_format, actor=request.access.actor)
    response: HttpResponseBase
    if file_format == "xlsx":
        file = tempfile.TemporaryFile(suffix=".xlsx")  # noqa: SIM115 - FileResponse closes it
        for _ in services.write_workbook(query, file):
            pass
        file.seek(0)
        response = FileResponse(file, content_type=services.FORMATS["xlsx"])
    else:
        blocks = (block for block, _ in csv_blocks(query))
        response = StreamingHttpResponse(blocks, content_type=services.FORMATS["csv"])
    name = services.file_name(query.organization, file_format)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _asked(request: OrganizationRequest) -> tuple[ExportQuery, str]:
    """(query, format). Raises InvalidInput."""
    organization = organization_of(request)
    data = request.POST if request.method == "POST" else request.GET
    file_format = data.get("format", "csv")
    if file_format not in services.FORMATS:
        raise InvalidInput(fields={"format": [f"Choose one of {', '.join(services.FORMATS)}."]})
    if request.method == "POST":
        params: QueryDict = QueryDict(data.get("filters", "")[:8000])
        pks = (
            None if "all" in data or ("job" in data and not data.get("accounts")) else keys_of(data.getlist("accounts"))
        )
    else:
        params, pks = canonical(data), None
    filters, errors = AccountFilters.parse(params)
    if errors:
        raise InvalidInput(fields=errors)
    if pks is not None:
        if not pks:
            raise InvalidInput("Select at least one user, or export the whole list.")
        # Who is picked on other pages need not meet the present filters.
        pks = list(Account.objects.of(organization).filter(pk__in=pks).values_list("pk", flat=True))
        filters = AccountFilters()
    query = services.export_query(
        organization,
        filters,
        ordering=data.get("ordering") or "name",
        columns=chosen_columns(organization, request.access.operator),
        account_pks=pks,
    )
    return query, file_format


def _sentences(error: InvalidInput) -> str:
    texts = [text for texts in error.fields.values() for text in texts]
    return "\n".join(texts or [error.detail])


def _ask(request: OrganizationRequest, query: ExportQuery, file_format: str) -> HttpResponse:
    context = {
        "count": query.count(),
        "above": services.JOB_ABOVE,
        "kept_hours": services.KEPT_HOURS,
        "filter_query": query.filters.query_string(),
        "chips": query.filters.chips(Context.of(query.organization)),
        "ordering": query.ordering,
        "accounts": ",".join(str(pk) for pk in query.account_pks or ()),
        "format": file_format,
        "formats": ExportJob.Format.choices,
    }
    return render(request, "users/export_large.html", context)


def _start(request: OrganizationRequest, query: ExportQuery, file_format: str) -> HttpResponse:
    try:
        job = services.start_export(
            query=query, file_format=file_format, operator=request.user, actor=request.access.actor
        )
    except DomainError as error:
        messages.error(request, error.detail)
        return redirect("users:exports", query.organization.slug)
    return redirect("users:export_job", query.organization.slug, job.pk)


@dataclass(frozen=True)
class JobLine:
    """A job as its page shows it."""

    job: ExportJob
    filters: str
    done: int
    is_open: bool
    is_ready: bool


def _line(job: ExportJob) -> JobLine:
    query = services.query_of(job)
    if job.account_pks is not None:
        said = f"{len(job.account_pks):,} people selected by hand"
    else:
        said = "; ".join(chip.sentence for chip in query.filters.chips(Context.of(job.organization))) or "All users"
    return JobLine(
        job,
        said,
        services.progress_of(job),
        job.status in ExportJob.OPEN,
        job.status == ExportJob.Status.SUCCEEDED,
    )


@require(Permission.EXPORT)
@require_GET
def exports(request: OrganizationRequest) -> HttpResponse:
    """The large exports of the organisation, newest first."""
    rows = ExportJob.objects.of(organization_of(request)).select_related("organization").order_by("-pk")
    context = {"lines": [_line(job) for job in rows[:JOBS_SHOWN]], "kept_hours": services.KEPT_HOURS}
    return render(request, "users/exports.html", context)


def _job(request: OrganizationRequest, pk: int) -> ExportJob:
    job: ExportJob | None = (
        ExportJob.objects.of(organization_of(request)).select_related("organization").filter(pk=pk).first()
    )
    if job is None:
        raise Http404
    return job


@require(Permission.EXPORT)
@require_GET
def export_job(request: OrganizationRequest, pk: int) -> HttpResponse:
    """One job: how far it is, and its file. htmx asks for the progress alone."""
    context: dict[str, Any] = {"line": _line(_job(request, pk)), "kept_hours": services.KEPT_HOURS}
    is_part = request.htmx and request.htmx.target == "export-job"
    return varied(render(request, "users/_export_job.html" if is_part else "users/export_job.html", context))


@require(Permission.EXPORT)
@require_GET
def download(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """The file of a finished job; each download is recorded."""
    job = _job(request, pk)
    try:
        file = services.open_export(job=job, actor=request.access.actor)
    except DomainError as error:
        messages.error(request, error.detail)
        return redirect("users:export_job", organization_of(request).slug, pk)
    response = FileResponse(file, content_type=services.FORMATS[job.format])
    name = f"aum-users-{job.organization.slug}-{job.finished_at:%Y%m%dT%H%MZ}.{job.format}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@require(Permission.EXPORT)
@require_POST
def end_export(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Cancel a job that is open, or delete the file of a finished one."""
    job = _job(request, pk)
    try:
        if job.status in ExportJob.OPEN:
            services.cancel_export(job=job, actor=request.access.actor)
            messages.success(request, "The export is cancelled.")
        else:
            services.delete_export(job=job, actor=request.access.actor)
            messages.success(request, "The file is deleted.")
    except DomainError as error:
        messages.error(request, error.detail)
    return redirect("users:exports", organization_of(request).slug)
