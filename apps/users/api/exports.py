"""REST of exports: at once as a stream, or by a worker into a file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

from django.http import FileResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users.api.filters import FILTER_PARAMETERS, FILTERS, ORDERING_PARAMETER, account_filters
from apps.users.api.serializers import AccountSerializer
from apps.users.models import ExportJob
from apps.users.selectors import AccountRow
from apps.users.selectors.columns import BY_KEY, COLUMNS, columns_of
from apps.users.selectors.explorer import every_row
from apps.users.selectors.exports import ExportQuery, csv_blocks
from apps.users.services import exports as services
from aum.common.errors import InvalidInput, Missing
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.pagination_parameters import choice, choices
from aum.common.serializers import page_of

FORMATS = ("csv", "json", "xlsx")
COLUMNS_PARAMETER = OpenApiParameter(
    "columns", str, many=True, enum=list(BY_KEY), description="Of csv and xlsx, beside the person; all without it."
)
PARAMETERS = [ORDERING_PARAMETER, *FILTER_PARAMETERS, COLUMNS_PARAMETER]


class ExportJobSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    status = serializers.ChoiceField(ExportJob.Status.choices)
    format = serializers.ChoiceField(ExportJob.Format.choices)
    filter = serializers.CharField(source="query", help_text="As a query string of the list of accounts.")
    ordering = serializers.CharField()
    columns = serializers.ListField(child=serializers.CharField())
    rows_done = serializers.SerializerMethodField()
    rows_total = serializers.IntegerField()
    size_bytes = serializers.IntegerField()
    requested_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField()

    def get_rows_done(self, job: ExportJob) -> int:
        return services.progress_of(job)


def _query(request: Request, organization: Organization) -> ExportQuery:
    parameters = request.query_params
    filters = account_filters(organization, {name: parameters.getlist(name) for name in parameters})
    wanted = choices(parameters, "columns", tuple(BY_KEY))
    columns = columns_of(wanted) if wanted else COLUMNS
    return services.export_query(organization, filters, ordering=parameters.get("ordering") or "name", columns=columns)


class AccountExportView(ApiView):
    required = {"GET": Permission.EXPORT}

    @extend_schema(
        operation_id="accounts_export",
        parameters=[*PARAMETERS, OpenApiParameter("format", str, enum=list(FORMATS))],
        responses={(200, "text/csv"): str, (200, "application/json"): AccountSerializer(many=True)},
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Everybody who meets the filters, as CSV, one JSON array, or a workbook. The export is an audit event."""
        refuse_unknown(request.query_params, (*FILTERS, "ordering", "columns", "format"))
        wanted = choice(request.query_params, "format", FORMATS) or "csv"
        query = _query(request, self.organization)
        services.record_export(query, file_format=wanted, actor=self.actor)
        response: HttpResponseBase
        if wanted == "xlsx":
            file = tempfile.TemporaryFile(suffix=".xlsx")  # noqa: SIM115 - FileResponse closes it
            for _ in services.write_workbook(query, file):
                pass
            file.seek(0)
            response = FileResponse(file, content_type=services.FORMATS["xlsx"])
        elif wanted == "json":
            rows = every_row(self.organization, query.filters, ordering=query.ordering)
            response = StreamingHttpResponse(_json_lines(rows), content_type="application/json")
        else:
            blocks = (block for block, _ in csv_blocks(query))
            response = StreamingHttpResponse(blocks, content_type=services.FORMATS["csv"])
        name = services.file_name(self.organization, wanted)
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


def _json_lines(rows: Iterable[AccountRow]) -> Iterator[str]:
    separator = "["
    for row in rows:
        yield separator + json.dumps(AccountSerializer(row).data)
        separator = ",\n"
    yield "[]" if separator == "[" else "]"


class ExportJobsView(ApiView):
    required = {"GET": Permission.EXPORT, "POST": Permission.EXPORT}

    @extend_schema(operation_id="account_exports_list", parameters=PAGING, responses=page_of(ExportJobSerializer))
    def get(self, request: Request) -> Response:
        """The exports that workers wrote or write, newest first."""
        refuse_unknown(request.query_params, ())
        rows = ExportJob.objects.of(self.organization).select_related("organization")
        page = keyset_page(request, rows, ("-id",))
        return Response(body(request, page, ExportJobSerializer(page.rows, many=True).data))

    @extend_schema(
        operation_id="account_exports_create",
        request=None,
        parameters=[*PARAMETERS, OpenApiParameter("format", str, enum=list(services.FORMATS))],
        responses={202: ExportJobSerializer},
    )
    def post(self, request: Request) -> Response:
        """Let a worker write the file, whatever its size: the filters stand in the query, as for the list."""
        refuse_unknown(request.query_params, (*FILTERS, "ordering", "columns", "format"))
        wanted = choice(request.query_params, "format", tuple(services.FORMATS)) or "csv"
        query = _query(request, self.organization)
        job = services.start_export(query=query, file_format=wanted, operator=self.operator, actor=self.actor)
        job.refresh_from_db()
        return Response(ExportJobSerializer(job).data, status=202, headers={"Location": f"{request.path}{job.pk}/"})


class ExportJobView(ApiView):
    required = {"GET": Permission.EXPORT, "DELETE": Permission.EXPORT}

    @extend_schema(operation_id="account_exports_retrieve", responses=ExportJobSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(ExportJobSerializer(_job(self.organization, pk)).data)

    @extend_schema(operation_id="account_exports_end", request=None, responses={200: ExportJobSerializer})
    def delete(self, request: Request, pk: int) -> Response:
        """Cancel it while it is open; afterwards delete its file."""
        job = _job(self.organization, pk)
        if job.status in ExportJob.OPEN:
            services.cancel_export(job=job, actor=self.actor)
        else:
            services.delete_export(job=job, actor=self.actor)
        return Response(ExportJobSerializer(_job(self.organization, pk)).data)


class ExportFileView(ApiView):
    required = {"GET": Permission.EXPORT}

    @extend_schema(operation_id="account_exports_download", responses={(200, "text/csv"): str})
    def get(self, request: Request, pk: int) -> HttpResponseBase:
        """The file of a finished export; each download is an audit event."""
        job = _job(self.organization, pk)
        if job.status in ExportJob.OPEN:
            raise InvalidInput("The file is still being written. Ask again when its status is succeeded.")
        file = services.open_export(job=job, actor=self.actor)
        response = FileResponse(file, content_type=services.FORMATS[job.format])
        name = f"aum-users-{self.organization.slug}-{job.pk}.{job.format}"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


def _job(organization: Organization, pk: int) -> ExportJob:
    job: ExportJob | None = ExportJob.objects.of(organization).select_related("organization").filter(pk=pk).first()
    if job is None:
        raise Missing("There is no such export here.")
    return job
