"""REST of people, groups, syncs and exemptions."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import xlsxwriter
from django.db.models import Q
from django.http import FileResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.audit.services import record
from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users import services
from apps.users.api.filters import FILTER_PARAMETERS, FILTERS, ORDERING_PARAMETER, account_filters
from apps.users.api.serializers import (
    AccountDetailSerializer,
    AccountSerializer,
    ExemptionSerializer,
    ExtendExemptionSerializer,
    GroupSerializer,
    NewExemptionSerializer,
    SyncSerializer,
)
from apps.users.models import Account, Exemption
from apps.users.predicates import Context
from apps.users.selectors import (
    AccountFilters,
    AccountRow,
    count_exactly,
    explorer,
    groups,
    latest_sync,
    person_detail,
)
from aum.common.csv import neutralise
from aum.common.errors import Missing
from aum.common.pagination import Page, body, count_asked, cursor_of, keyset_page, limit_of, refuse_unknown
from aum.common.pagination_parameters import choice, flag
from aum.common.serializers import page_of

ACCOUNT_PARAMETERS = [ORDERING_PARAMETER, *FILTER_PARAMETERS]
EXPORT_FORMATS = ("csv", "json", "xlsx")
COLUMNS = (
    "account_id",
    "name",
    "email",
    "account_status",
    "membership_status",
    "claim_status",
    "kind",
    "added_to_org_at",
    "activity",
    "last_active_at",
    "products",
    "groups",
    "is_protected",
    "exempt_until",
)


def _given(request: Request, organization: Organization) -> AccountFilters:
    return account_filters(organization, {name: request.query_params.getlist(name) for name in request.query_params})


class AccountsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="accounts_list", parameters=[*PAGING, *ACCOUNT_PARAMETERS], responses=page_of(AccountSerializer)
    )
    def get(self, request: Request) -> Response:
        parameters = request.query_params
        refuse_unknown(parameters, (*FILTERS, "ordering"))
        filters = _given(request, self.organization)
        asked = count_asked(parameters)
        found = explorer(
            self.organization,
            filters,
            ordering=parameters.get("ordering") or "name",
            cursor=cursor_of(request),
            limit=limit_of(parameters),
        )
        count = None
        if asked:
            count = found.count.value
            if asked == "exact" and found.count.is_capped:
                count = count_exactly(self.organization, filters.as_q(Context.of(self.organization)))
        page = Page(found.rows, found.next_cursor, found.previous_cursor, count)
        return Response(body(request, page, AccountSerializer(found.rows, many=True).data))


def _detail(request: Request, organization: Organization, account_id: str) -> dict[str, Any]:
    person = person_detail(organization, account_id)
    timeline = reverse("api-audit-events", args=[organization.slug])
    return dict(
        AccountDetailSerializer(
            {
                **{name: getattr(person.row, name) for name in person.row.__dataclass_fields__},
                "partition": person.partition,
                "idle_since": person.idle_since,
                "access": person.paths,
                "directories": person.directories,
                "exemptions": person.exemptions,
                "protected_because": person.protected_because,
                "timeline": request.build_absolute_uri(f"{timeline}?target_ref={account_id}"),
            }
        ).data
    )


class AccountView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="accounts_retrieve", responses=AccountDetailSerializer)
    def get(self, request: Request, account_id: str) -> Response:
        return Response(_detail(request, self.organization, account_id))


class AccountRefreshView(ApiView):
    required = {"POST": Permission.SYNC}
    is_atomic = False

    @extend_schema(operation_id="accounts_refresh", request=None, responses=AccountDetailSerializer)
    def post(self, request: Request, account_id: str) -> Response:
        """Read the person's state and last activity from Atlassian now."""
        account = _account(self.organization, account_id)
        services.refresh_person(account=account, actor=self.actor)
        return Response(_detail(request, self.organization, account_id))


def _account(organization: Organization, account_id: str) -> Account:
    account: Account | None = Account.objects.of(organization).filter(account_id=account_id).first()
    if account is None:
        raise Missing("There is no such user here.")
    return account


# --- export -----------------------------------------------------------------------------------------------------------


class AccountExportView(ApiView):
    required = {"GET": Permission.EXPORT}

    @extend_schema(
        operation_id="accounts_export",
        parameters=[*ACCOUNT_PARAMETERS, OpenApiParameter("format", str, enum=list(EXPORT_FORMATS))],
        responses={(200, "text/csv"): str, (200, "application/json"): AccountSerializer(many=True)},
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Everybody who meets the filters, as CSV, one JSON array, or a workbook. The export is an audit event."""
        refuse_unknown(request.query_params, (*FILTERS, "ordering", "format"))
        organization, filters = self.organization, _given(request, self.organization)
        wanted = choice(request.query_params, "format", EXPORT_FORMATS) or "csv"
        ordering = request.query_params.get("ordering") or "name"
        explorer(organization, filters, ordering=ordering, limit=1)
        record(
            organization=organization,
            actor=self.actor,
            action="users.exported",
            target_kind="organization",
            target_ref=organization.slug,
            target_name=organization.name,
            after={"filters": filters.query_string(), "format": wanted},
        )
        rows = _all_rows(organization, filters, ordering)
        response: HttpResponseBase
        if wanted == "xlsx":
            response = FileResponse(
                _workbook(rows), content_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
            )
        elif wanted == "json":
            response = StreamingHttpResponse(_json_lines(rows), content_type="application/json")
        else:
            response = StreamingHttpResponse(_csv_lines(rows), content_type="text/csv; charset=utf-8")
        name = f"aum-users-{organization.slug}-{timezone.now():%Y%m%dT%H%MZ}.{wanted}"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


def _all_rows(organization: Organization, filters: AccountFilters, ordering: str) -> Iterator[AccountRow]:
    cursor: str | None = None
    while True:
        page = explorer(organization, filters, ordering=ordering, cursor=cursor, limit=500)
        yield from page.rows
        cursor = page.next_cursor
        if cursor is None:
            return


def _cells(row: AccountRow) -> list[str]:
    """The row as texts in the order of COLUMNS; products as `jira on acme.atlassian.net: 2026-03-14T06:00:00Z`."""
    data = AccountSerializer(row).data
    data["products"] = "; ".join(
        f"{use['product']} on {use['site']}: {use['last_active_at'] or use['activity']}" for use in data["products"]
    )
    data["groups"] = "; ".join(group["name"] for group in data["groups"])
    return ["" if data[name] is None else str(data[name]) for name in COLUMNS]


class _Echo:
    def write(self, line: str) -> str:
        return line


def _csv_lines(rows: Iterable[AccountRow]) -> Iterator[str]:
    writer: Any = csv.writer(_Echo())
    yield "\ufeff" + writer.writerow(COLUMNS)
    for row in rows:
        yield writer.writerow([neutralise(cell) for cell in _cells(row)])


def _json_lines(rows: Iterable[AccountRow]) -> Iterator[str]:
    separator = "["
    for row in rows:
        yield separator + json.dumps(AccountSerializer(row).data)
        separator = ",\n"
    yield "[]" if separator == "[" else "]"


def _workbook(rows: Iterable[AccountRow]) -> Any:
    """An open temporary file with one sheet; written row by row, texts only, so that no cell is a formula."""
    file = tempfile.TemporaryFile(suffix=".xlsx")  # noqa: SIM115 - FileResponse closes it
    with xlsxwriter.Workbook(file, {"constant_memory": True, "strings_to_formulas": False}) as book:
        sheet = book.add_worksheet("Users")
        for column, name in enumerate(COLUMNS):
            sheet.write_string(0, column, name)
        for number, row in enumerate(rows, start=1):
            for column, cell in enumerate(_cells(row)):
                sheet.write_string(number, column, cell[:32_767])
    file.seek(0)
    return file


# --- groups, syncs ----------------------------------------------------------------------------------------------------


class GroupsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="groups_list",
        parameters=[*PAGING, OpenApiParameter("search", str)],
        responses=page_of(GroupSerializer),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ("search",))
        rows = groups(self.organization, request.query_params.get("search", "")[:200])
        page = keyset_page(request, rows, ("name", "id"))
        return Response(body(request, page, GroupSerializer(page.rows, many=True).data))


class SyncView(ApiView):
    required = {"GET": Permission.VIEW, "POST": Permission.SYNC}

    @extend_schema(operation_id="sync_latest", responses=SyncSerializer)
    def get(self, request: Request) -> Response:
        """The latest sync, open or finished."""
        run = latest_sync(self.organization)
        if run is None:
            raise Missing("This organisation was never synced. POST here to start a sync.")
        return Response(SyncSerializer(run).data)

    @extend_schema(operation_id="sync_start", request=None, responses={202: SyncSerializer})
    def post(self, request: Request) -> Response:
        """Start a sync. While one is open that one is the answer."""
        run = services.request_sync(organization=self.organization, actor=self.actor, exist_ok=True)
        run.refresh_from_db()
        return Response(SyncSerializer(run).data, status=202, headers={"Location": request.path})


# --- exemptions -------------------------------------------------------------------------------------------------------


class ExemptionsView(ApiView):
    required = {"GET": Permission.VIEW, "POST": Permission.EXEMPT}

    @extend_schema(
        operation_id="exemptions_list",
        parameters=[
            *PAGING,
            OpenApiParameter("in_force", bool),
            OpenApiParameter("kind", str, enum=Exemption.Kind.values),
            OpenApiParameter("account_id", str),
        ],
        responses=page_of(ExemptionSerializer),
    )
    def get(self, request: Request) -> Response:
        parameters = request.query_params
        refuse_unknown(parameters, ("in_force", "kind", "account_id"))
        rows = Exemption.objects.of(self.organization).select_related("account")
        if kind := choice(parameters, "kind", Exemption.Kind.values):
            rows = rows.filter(kind=kind)
        if account_id := parameters.get("account_id"):
            rows = rows.filter(account__account_id=account_id)
        in_force = flag(parameters, "in_force")
        if in_force is not None:
            valid = Q(ended_at__isnull=True) & (Q(until__isnull=True) | Q(until__gt=timezone.now()))
            rows = rows.filter(valid) if in_force else rows.exclude(valid)
        page = keyset_page(request, rows, ("-id",))
        return Response(body(request, page, ExemptionSerializer(page.rows, many=True).data))

    @extend_schema(
        operation_id="exemptions_create", request=NewExemptionSerializer, responses={201: ExemptionSerializer}
    )
    def post(self, request: Request) -> Response:
        """Keep every cleanup from a person until a moment, or for good without one."""
        given = self.validated(NewExemptionSerializer)
        exemption = services.set_exemption(
            organization=self.organization,
            account=_account(self.organization, given["account_id"]),
            reason=given["reason"],
            until=given["until"],
            actor=self.actor,
        )
        location = f"{request.path}{exemption.pk}/"
        return Response(ExemptionSerializer(exemption).data, status=201, headers={"Location": location})


class ExemptionView(ApiView):
    required = {"GET": Permission.VIEW, "PATCH": Permission.EXEMPT, "DELETE": Permission.EXEMPT}

    @extend_schema(operation_id="exemptions_retrieve", responses=ExemptionSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(ExemptionSerializer(self._exemption(pk)).data)

    @extend_schema(operation_id="exemptions_update", request=ExtendExemptionSerializer, responses=ExemptionSerializer)
    def patch(self, request: Request, pk: int) -> Response:
        """Move the end of an exemption in force; both fields are needed."""
        given = self.validated(ExtendExemptionSerializer)
        exemption = services.extend_exemption(
            exemption=self._exemption(pk), until=given["until"], reason=given["reason"], actor=self.actor
        )
        return Response(ExemptionSerializer(exemption).data)

    @extend_schema(operation_id="exemptions_end", request=None, responses={200: ExemptionSerializer})
    def delete(self, request: Request, pk: int) -> Response:
        """End it now. It stays in the list with the moment of its end."""
        exemption = services.end_exemption(exemption=self._exemption(pk), actor=self.actor)
        return Response(ExemptionSerializer(exemption).data)

    def _exemption(self, pk: int) -> Exemption:
        found: Exemption | None = (
            Exemption.objects.of(self.organization).select_related("account").filter(pk=pk).first()
        )
        if found is None:
            raise Missing("There is no such exemption.")
        return found
