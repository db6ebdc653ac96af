"""REST of imported files and invitations: upload, check, look, plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpResponseBase
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operations.api.serializers import GroupRef, OperationDetailSerializer
from apps.operations.api.views import accepted
from apps.operations.models import Operation
from apps.operations.services.imports import IMPORT_ACTIONS, check_file, plan_import, plan_invitations
from apps.operations.services.invites import find_place, read_addresses
from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users import csv_layouts
from apps.users.api.filters import group_keys
from apps.users.models import ImportFile, ImportRow
from apps.users.selectors import imports as selectors
from apps.users.services import imports as services
from aum.common.errors import InvalidInput
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.pagination_parameters import choice
from aum.common.serializers import PlainText, page_of


class ImportSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    status = serializers.ChoiceField(ImportFile.Status.choices)
    error = serializers.CharField(help_text="Why the file cannot be read; empty otherwise.")
    layout = serializers.CharField()
    headers = serializers.ListField(child=serializers.CharField())
    mapping = serializers.DictField(child=serializers.IntegerField(), help_text="Meaning to index of its column.")
    lines = serializers.IntegerField()
    rows = serializers.IntegerField(source="rows_total", allow_null=True)
    rows_stored = serializers.IntegerField()
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="What the check found.")
    uploaded_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    checked_at = serializers.DateTimeField(allow_null=True)


class LineErrorSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    column = serializers.CharField()
    code = serializers.ChoiceField(ImportRow.Code.choices)
    detail = serializers.CharField()


class LineProductSerializer(serializers.Serializer[Any]):
    product = serializers.CharField(source="label")
    held_in_file = serializers.BooleanField(allow_null=True)
    held_in_directory = serializers.BooleanField()
    last_login_in_file = serializers.CharField(source="in_file")
    last_login_in_directory = serializers.CharField(source="in_directory")
    is_later_in_file = serializers.BooleanField()


class LinePersonSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField(source="row.line")
    account_id = serializers.CharField(source="account.account_id", default=None, allow_null=True)
    name = serializers.CharField()
    email = serializers.CharField()
    status_in_file = serializers.CharField(source="status")
    status_in_directory = serializers.CharField(source="directory_status")
    products = LineProductSerializer(source="logins", many=True)
    groups_in_file = serializers.CharField(source="groups")
    differs_in = serializers.ListField(child=serializers.CharField(), source="differences")
    code = serializers.CharField(source="row.code", help_text="Empty for a line that can be acted on.")
    notes = serializers.CharField(source="row.notes", help_text="Cells that could not be read.")


class UploadSerializer(serializers.Serializer[Any]):
    file = serializers.FileField()


class MappingSerializer(serializers.Serializer[Any]):
    """Meaning to index of its column, from 0; left out: as guessed from the headings."""

    mapping = serializers.DictField(child=serializers.IntegerField(min_value=0), required=False)


class InviteFields(serializers.Serializer[Any]):
    groups = serializers.ListField(child=GroupRef(max_length=255), required=False, max_length=100, default=list)
    products = serializers.ListField(
        child=PlainText(max_length=300),
        required=False,
        max_length=50,
        default=list,
        help_text="`jira-software`, or `Jira Software - example` where a product is on several sites.",
    )
    notify = serializers.BooleanField(required=False, default=False, help_text="Atlassian sends its e-mail.")
    message = PlainText(max_length=1000, required=False, allow_blank=True, default="")
    mode = serializers.ChoiceField(["preview", "live"], required=False, default="preview")
    reason = PlainText(required=False, allow_blank=True, default="")


class ImportApplySerializer(InviteFields):
    action = serializers.ChoiceField([*IMPORT_ACTIONS, "invite"])
    lines = serializers.ListField(child=serializers.IntegerField(min_value=1), required=False, max_length=100_000)
    use_file_grants = serializers.BooleanField(
        required=False, default=False, help_text="invite: give each line's own groups and products too."
    )


class InviteSerializer(InviteFields):
    emails = serializers.ListField(child=PlainText(max_length=320), max_length=1000, allow_empty=False)


def _resources(organization: Organization, names: list[str]) -> tuple[str, ...]:
    """ARIs of the products that `names` say. Raises InvalidInput."""
    places = selectors.product_places(organization)
    try:
        return tuple(find_place(places, name).resource for name in names)
    except InvalidInput as error:
        raise InvalidInput(fields={"products": [error.detail]}) from None


def _options(view: ApiView, given: dict[str, Any]) -> dict[str, Any]:
    """What plans of files and of invitations share. Raises NotAllowed, InvalidInput."""
    is_live = given["mode"] == "live"
    if is_live:
        view.demand(Permission.ACT, "Your role or the token's scopes allow previews only.")
    return {
        "actor": view.actor,
        "operator": view.operator,
        "group_ids": group_keys(view.organization, given["groups"], field="groups") if given["groups"] else (),
        "mode": Operation.Mode.LIVE if is_live else Operation.Mode.SAFE,
        "reason": given["reason"],
        "is_by_token": view.is_by_token,
    }


class ImportsView(ApiView):
    required = {"GET": Permission.ACT, "POST": Permission.ACT}
    parser_classes = [MultiPartParser, JSONParser]

    @extend_schema(operation_id="imports_list", parameters=PAGING, responses=page_of(ImportSerializer))
    def get(self, request: Request) -> Response:
        """Uploaded files, newest first."""
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, ImportFile.objects.of(self.organization).defer("content"), ("-id",))
        return Response(body(request, page, ImportSerializer(page.rows, many=True).data))

    @extend_schema(
        operation_id="imports_create",
        request={"multipart/form-data": UploadSerializer},
        responses={202: ImportSerializer},
    )
    def post(self, request: Request) -> Response:
        """Upload a CSV file as the multipart field `file`, at most 20 MB. A worker reads it: ask again for its status.

        An Idempotency-Key is not kept: the same file uploaded twice is two imports, and neither changes anybody.
        """
        sent = request.FILES.get("file")
        if sent is None:
            raise InvalidInput(fields={"file": ["Send the file as the multipart field “file”."]})
        if sent.size > csv_layouts.MAX_BYTES:
            raise InvalidInput(fields={"file": [csv_layouts.TOO_LARGE]})
        file = services.upload_import(
            organization=self.organization, name=sent.name or "", content=sent.read(), actor=self.actor
        )
        file.refresh_from_db(fields=["created_at"])
        location = reverse("api-import", args=[self.organization.slug, file.pk])
        return Response(ImportSerializer(file).data, status=202, headers={"Location": location})

    def _once(self, request: Request, call: Callable[[], HttpResponseBase]) -> HttpResponseBase:
        # A key is bound to the bytes of the body, and reading those would take a large file into memory.
        return call()


class _OneImport(ApiView):
    required = {"GET": Permission.ACT}

    def file(self, pk: int) -> ImportFile:
        return selectors.import_file(self.organization, pk)


class ImportView(_OneImport):
    @extend_schema(operation_id="imports_retrieve", responses=ImportSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(ImportSerializer(self.file(pk)).data)


class ImportErrorsView(_OneImport):
    @extend_schema(operation_id="imports_errors", parameters=PAGING, responses=page_of(LineErrorSerializer))
    def get(self, request: Request, pk: int) -> Response:
        """Lines that are passed over, each with its number, column and reason."""
        refuse_unknown(request.query_params, ())
        file = self.file(pk)
        page = keyset_page(request, selectors.wrong_rows(file), ("line",))
        data = [
            {"line": found.line, "column": found.column, "code": row.code, "detail": found.reason}
            for row in page.rows
            for found in [selectors.wrong_line(file, row)]
        ]
        return Response(body(request, page, data))


class ImportPeopleView(_OneImport):
    @extend_schema(
        operation_id="imports_people",
        parameters=[
            *PAGING,
            OpenApiParameter("only", str, enum=list(selectors.ONLY)),
            OpenApiParameter("product", str, enum=csv_layouts.PRODUCT_KEYS),
            OpenApiParameter("status", str, description="The status as the file writes it."),
            OpenApiParameter("search", str),
        ],
        responses=page_of(LinePersonSerializer),
    )
    def get(self, request: Request, pk: int) -> Response:
        """The file's people beside the directory."""
        given = request.query_params
        refuse_unknown(given, ("only", "product", "status", "search"))
        file = self.file(pk)
        rows = selectors.people_rows(
            file,
            search=given.get("search", "")[:200],
            only=choice(given, "only", list(selectors.ONLY)),
            product=choice(given, "product", csv_layouts.PRODUCT_KEYS),
            status=given.get("status", "")[:100],
        )
        page = keyset_page(request, rows.select_related("account"), ("line",))
        people = selectors.file_people(file, page.rows)
        return Response(body(request, page, LinePersonSerializer(people, many=True).data))


class ImportCheckView(_OneImport):
    required = {"POST": Permission.ACT}

    @extend_schema(operation_id="imports_check", request=MappingSerializer, responses={200: ImportSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Find each line's person by the columns as mapped, or as guessed, and count what is wrong."""
        given, file = self.validated(MappingSerializer), self.file(pk)
        return Response(ImportSerializer(check_file(file=file, mapping=given.get("mapping", file.mapping))).data)


class ActivitySerializer(serializers.Serializer[Any]):
    exported_on = serializers.DateField(help_text="The day of the export, at most 14 days ago.")


class FilledSerializer(serializers.Serializer[Any]):
    filled = serializers.IntegerField()


class ImportActivityView(_OneImport):
    required = {"POST": Permission.ACT}

    @extend_schema(operation_id="imports_activity", request=ActivitySerializer, responses={200: FilledSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Fill last logins that Atlassian does not give with the dates of a checked file."""
        given = self.validated(ActivitySerializer)
        count = services.use_activity(file=self.file(pk), exported_on=given["exported_on"], actor=self.actor)
        return Response({"filled": count})


class ImportApplyView(_OneImport):
    required = {"POST": Permission.PREVIEW}

    @extend_schema(
        operation_id="imports_apply", request=ImportApplySerializer, responses={202: OperationDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Plan an action for the file's people, or for some of its lines. An unchecked file is checked as guessed."""
        given, file = self.validated(ImportApplySerializer), self.file(pk)
        if file.status == ImportFile.Status.READ:
            file = check_file(file=file, mapping=file.mapping)
        options, lines = _options(self, given), given.get("lines")
        if given["action"] == "invite":
            operation = plan_invitations(
                organization=self.organization,
                file=file,
                lines=lines,
                uses_file_grants=given["use_file_grants"],
                resources=_resources(self.organization, given["products"]),
                notify=given["notify"],
                message=given["message"],
                **options,
            )
        else:
            for name in ("products", "message", "notify", "use_file_grants"):
                if given[name]:
                    raise InvalidInput(fields={name: [f"This belongs to invite, not to {given['action']}."]})
            rows = selectors.people_rows(file)
            operation = plan_import(
                file=file,
                rows=rows if lines is None else rows.filter(line__in=lines),
                action=given["action"],
                **options,
            )
        return accepted(self, operation)


class InviteView(ApiView):
    required = {"POST": Permission.PREVIEW}

    @extend_schema(operation_id="accounts_invite", request=InviteSerializer, responses={202: OperationDetailSerializer})
    def post(self, request: Request) -> Response:
        """Plan the invitation of addresses, with groups and products for all of them."""
        given = self.validated(InviteSerializer)
        operation = plan_invitations(
            organization=self.organization,
            emails=read_addresses("\n".join(given["emails"])),
            resources=_resources(self.organization, given["products"]),
            notify=given["notify"],
            message=given["message"],
            **_options(self, given),
        )
        return accepted(self, operation)
