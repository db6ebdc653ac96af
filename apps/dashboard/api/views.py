"""REST of what spans apps: evidence packs, data migrations, imports of logs."""

from __future__ import annotations

from typing import Any

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from apps.audit.selectors import log_imports, retention_days
from apps.audit.services import clear_logs, set_retention, start_log_import, start_verification
from apps.dashboard.activity import erasable_figures
from apps.dashboard.evidence import evidence_name, stream_evidence
from apps.dashboard.migration import KINDS, cards, retry_migration
from apps.dashboard.services import record_evidence
from apps.operations import selectors
from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.users.api.serializers import SyncSerializer
from apps.users.services import NotFromFile, fill_from_file
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.serializers import PlainText, page_of


class EvidenceView(ApiView):
    required = {"GET": Permission.EXPORT}

    @extend_schema(operation_id="operations_evidence", responses={(200, "application/zip"): OpenApiTypes.BINARY})
    def get(self, request: Request, pk: int) -> HttpResponseBase:
        """The evidence pack of an ended run as a zip; its script verify.py checks it offline (docs/evidence.md)."""
        refuse_unknown(request.query_params, ())
        operation = selectors.operation_by_id(self.organization, pk)
        stream = stream_evidence(operation, made_by=self.actor.name)
        record_evidence(operation=operation, actor=self.actor)
        response = StreamingHttpResponse(stream, content_type="application/zip")
        response["Content-Disposition"] = f'attachment; filename="{evidence_name(operation)}"'
        return response


class BackfillSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(list(KINDS))
    name = serializers.CharField(source="title")
    status = serializers.CharField(help_text="Completed, In progress, Paused or Failed.")
    done = serializers.IntegerField()
    total = serializers.IntegerField()
    percent = serializers.IntegerField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    failed_reason = serializers.CharField(allow_blank=True)
    is_cleaned = serializers.BooleanField()


class BackfillListSerializer(serializers.Serializer[Any]):
    results = BackfillSerializer(many=True)


class BackfillRetrySerializer(serializers.Serializer[Any]):
    begun = serializers.BooleanField(help_text="False when it is in progress already.")
    migration = BackfillSerializer()


class BackfillsView(ApiView):
    required = {"GET": Permission.SETTINGS}

    @extend_schema(operation_id="backfills_list", responses=BackfillListSerializer)
    def get(self, request: Request) -> Response:
        """The latest result of Logs migration and Rules migration."""
        refuse_unknown(request.query_params, ())
        return Response({"results": BackfillSerializer(cards(self.organization), many=True).data})


class BackfillRetryView(ApiView):
    required = {"POST": Permission.SETTINGS}

    @extend_schema(operation_id="backfills_retry", request=None, responses={202: BackfillRetrySerializer})
    def post(self, request: Request, kind: str) -> Response:
        """Reset the status of one kind (logs, rules) and start it again; the other is not touched."""
        begun = retry_migration(organization=self.organization, kind=kind, actor=self.actor)
        card = next(card for card in cards(self.organization) if card.kind == kind)
        return Response({"begun": begun, "migration": BackfillSerializer(card).data}, status=202)


class LogImportSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    status = serializers.CharField()
    lines = serializers.IntegerField()
    done = serializers.IntegerField()
    added = serializers.IntegerField()
    refused = serializers.IntegerField()
    refusals = serializers.JSONField(source="errors")
    detail = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class LogImportInputSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=200, default="audit.csv")
    content = serializers.CharField(help_text="The CSV file as text.", trim_whitespace=False)


class LogImportsView(ApiView):
    required = {"GET": Permission.SETTINGS, "POST": Permission.SETTINGS}

    @extend_schema(operation_id="audit_imports_list", parameters=[*PAGING], responses=page_of(LogImportSerializer))
    def get(self, request: Request) -> Response:
        """Imports of other products' audit logs."""
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, log_imports(self.organization), ("-id",))
        return Response(body(request, page, LogImportSerializer(page.rows, many=True).data))

    @extend_schema(
        operation_id="audit_imports_create",
        request=LogImportInputSerializer,
        responses={202: LogImportSerializer},
    )
    def post(self, request: Request) -> Response:
        """Take over an audit CSV with the columns Timestamp, Operation, Rule Name, Performed By, Status, User Email,
        User Action, Group. The same file again is refused with `already_imported`."""
        given = LogImportInputSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        row = start_log_import(
            organization=self.organization,
            name=given.validated_data["name"],
            content=given.validated_data["content"].encode(),
            actor=self.actor,
        )
        return Response(LogImportSerializer(row).data, status=202)


class AuditVerificationSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    status = serializers.CharField()
    ok = serializers.BooleanField(allow_null=True)
    segments_done = serializers.IntegerField()
    segments_total = serializers.IntegerField()
    report = serializers.JSONField()
    detail = serializers.CharField(allow_blank=True)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class VerificationView(ApiView):
    required = {"POST": Permission.VIEW}

    @extend_schema(
        operation_id="audit_verifications_create", request=None, responses={202: AuditVerificationSerializer}
    )
    def post(self, request: Request) -> Response:
        """Read the whole chain again, in the background where it is long; asking again tells how far it is."""
        row = start_verification(organization=self.organization, by=self.actor.name)
        return Response(AuditVerificationSerializer(row).data, status=202)


class RetentionSerializer(serializers.Serializer[Any]):
    days = serializers.DictField(
        child=serializers.IntegerField(allow_null=True),
        help_text="Kind of record (events, imported, archives, imports, syncs) → days, or null to keep it.",
    )


class RetentionView(ApiView):
    required = {"GET": Permission.OWN, "PATCH": Permission.OWN}

    @extend_schema(operation_id="retention_retrieve", responses=RetentionSerializer)
    def get(self, request: Request) -> Response:
        """After how many days each kind of record is removed; a kind that is missing is kept."""
        refuse_unknown(request.query_params, ())
        days = {kind: policy.days for kind, policy in retention_days(self.organization).items()}
        return Response({"days": days})

    @extend_schema(operation_id="retention_update", request=RetentionSerializer, responses=RetentionSerializer)
    def patch(self, request: Request) -> Response:
        """Change the kinds that are named."""
        given = RetentionSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        set_retention(organization=self.organization, days=given.validated_data["days"], actor=self.actor)
        return self.get(request)


class ClearInputSerializer(serializers.Serializer[Any]):
    phrase = serializers.CharField(help_text="`clear logs of <slug>`, typed.")
    reason = serializers.CharField(max_length=500)


class ClearanceSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    status = serializers.CharField()
    events = serializers.IntegerField()
    operations = serializers.IntegerField()
    requested_at = serializers.DateTimeField()


class ClearView(ApiView):
    required = {"POST": Permission.OWN}

    @extend_schema(
        operation_id="audit_events_clear", request=ClearInputSerializer, responses={202: ClearanceSerializer}
    )
    def post(self, request: Request) -> Response:
        """Clear the log: hidden at once, archived, then removed with a signed checkpoint. For owners who signed in."""
        given = ClearInputSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        clearance = clear_logs(
            organization=self.organization,
            phrase=given.validated_data["phrase"],
            reason=given.validated_data["reason"],
            operations=erasable_figures(self.organization).operations,
            actor=self.actor,
        )
        return Response(ClearanceSerializer(clearance).data, status=202)


class ExportFileSerializer(serializers.Serializer[Any]):
    file = serializers.FileField()
    exported_on = serializers.DateField(required=False, allow_null=True, default=None, help_text="Default: today.")
    domains = PlainText(
        max_length=5000,
        required=False,
        allow_blank=True,
        default="",
        help_text="Claimed domains: who has an address there is managed, everybody else external.",
    )


class LookFirstView(ApiView):
    required = {"POST": Permission.SYNC}
    parser_classes = [MultiPartParser, JSONParser]

    @extend_schema(
        operation_id="look_first",
        request={"multipart/form-data": ExportFileSerializer},
        responses={202: SyncSerializer},
    )
    def post(self, request: Request) -> Response:
        """Fill an organisation without credentials from an Atlassian export; the newest file replaces earlier ones.

        At most 20 MB. A worker reads it: ask `sync/` for its state. Refused with
        409 `organization_connected` for any other organisation.
        """
        if not self.organization.is_from_file:
            raise NotFromFile
        given = self.validated(ExportFileSerializer)
        file = given.pop("file")
        run = fill_from_file(
            organization=self.organization, name=file.name or "", content=file.read(), actor=self.actor, **given
        )
        return Response(SyncSerializer(run).data, status=202)
