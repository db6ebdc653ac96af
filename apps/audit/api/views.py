"""REST of the audit log: list, export, verification."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.audit.models import AuditEvent
from apps.audit.selectors import STATUS_WORDS, EventFilters, events, export_rows
from apps.audit.services import record, verify
from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from aum.common.errors import InvalidInput
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.pagination_parameters import choice, instant, whole_number
from aum.common.serializers import page_of

FILTERS = (
    "search",
    "actor",
    "person",
    "action",
    "outcome",
    "type",
    "status",
    "since",
    "until",
    "target_ref",
    "operation",
)
FILTER_PARAMETERS = [
    OpenApiParameter("search", str),
    OpenApiParameter("actor", str),
    OpenApiParameter("person", str, description="Name or e-mail of whoever acted or was acted upon."),
    OpenApiParameter("action", str, description="Exact, or a family such as `account.`"),
    OpenApiParameter("outcome", str, enum=AuditEvent.Outcome.values),
    OpenApiParameter("type", str, description="Kinds of operation, separated by commas; also sync and migration."),
    OpenApiParameter("status", str, description="success, failed, warning, partial, progress or ended, by commas."),
    OpenApiParameter("since", OpenApiTypes.DATETIME),
    OpenApiParameter("until", OpenApiTypes.DATETIME),
    OpenApiParameter("target_ref", str, description="The account_id, or the id, of what was acted upon."),
    OpenApiParameter("operation", int, description="Id of an operation."),
]
SHOWN_FINDINGS = 100


class IdentitySerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    key = serializers.CharField()
    name = serializers.CharField(source="label")
    email = serializers.CharField()


class AuditEventSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    at = serializers.DateTimeField()
    actor = IdentitySerializer()
    action = serializers.CharField()
    target = IdentitySerializer(allow_null=True)
    target_ref = serializers.CharField()
    outcome = serializers.ChoiceField(AuditEvent.Outcome.choices)
    rule = serializers.SerializerMethodField()
    operation = serializers.SerializerMethodField()
    group = serializers.CharField(source="group_name")
    reason = serializers.CharField()
    before = serializers.JSONField()
    after = serializers.JSONField()
    ip_address = serializers.CharField(allow_null=True)
    correlation_id = serializers.UUIDField(allow_null=True)
    atlassian_request_id = serializers.CharField(source="request_id")
    call_id = serializers.CharField()
    request_id = serializers.CharField(source="http_request_id")

    def get_rule(self, event: AuditEvent) -> dict[str, Any] | None:
        if event.rule_id is None:
            return None
        return {"id": event.rule_id, "name": event.rule_name, "version": event.rule_version}

    def get_operation(self, event: AuditEvent) -> dict[str, Any] | None:
        if event.operation_id is None:
            return None
        return {"id": event.operation_id, "number": event.operation_number}


class FindingSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    event_id = serializers.IntegerField(allow_null=True)
    segment = serializers.IntegerField()
    at = serializers.DateTimeField(allow_null=True)
    sentence = serializers.CharField()


class VerifySerializer(serializers.Serializer[Any]):
    ok = serializers.BooleanField()
    rows = serializers.IntegerField()
    segments = serializers.IntegerField()
    purged_segments = serializers.IntegerField()
    findings = serializers.IntegerField()
    first_broken = FindingSerializer(many=True)
    unsealed_rows = serializers.IntegerField()
    unsealed_since = serializers.DateTimeField(allow_null=True)
    anchored_through = serializers.IntegerField(allow_null=True)


def _filters(request: Request) -> EventFilters:
    given = request.query_params
    return EventFilters(
        search=given.get("search", "")[:200],
        actor=given.get("actor", "")[:200],
        person=given.get("person", "")[:200],
        kinds=tuple(part for part in given.get("type", "")[:200].split(",") if part),
        statuses=_statuses(given.get("status", "")),
        action=given.get("action", "")[:60],
        outcome=choice(given, "outcome", AuditEvent.Outcome.values),
        since=instant(given, "since"),
        until=instant(given, "until"),
        target_ref=given.get("target_ref", "")[:200],
        operation_id=whole_number(given, "operation"),
    )


def _statuses(text: str) -> tuple[str, ...]:
    words = tuple(part for part in text.split(",") if part)
    if unknown := [word for word in words if word not in STATUS_WORDS]:
        raise InvalidInput(fields={"status": [f"{unknown[0][:60]} is none of {', '.join(STATUS_WORDS)}."]})
    return words


class AuditEventsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="audit_events_list",
        parameters=[*PAGING, *FILTER_PARAMETERS],
        responses=page_of(AuditEventSerializer),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, FILTERS)
        page = keyset_page(request, events(self.organization, _filters(request)), ("-at", "-id"))
        return Response(body(request, page, AuditEventSerializer(page.rows, many=True).data))


class AuditExportView(ApiView):
    required = {"GET": Permission.EXPORT}

    @extend_schema(
        operation_id="audit_events_export",
        parameters=[*FILTER_PARAMETERS, OpenApiParameter("format", str, enum=["csv", "json"])],
        responses={(200, "text/csv"): str, (200, "application/json"): AuditEventSerializer(many=True)},
    )
    def get(self, request: Request) -> HttpResponseBase:
        """All matching events, newest first, as CSV or as one JSON array. The export itself is an event."""
        refuse_unknown(request.query_params, (*FILTERS, "format"))
        wanted = choice(request.query_params, "format", ("csv", "json")) or "csv"
        filters, organization = _filters(request), self.organization
        record(
            organization=organization,
            actor=self.actor,
            action="audit.exported",
            target_kind="organization",
            target_ref=organization.slug,
            target_name=organization.name,
            after={name: request.query_params[name] for name in FILTERS if name in request.query_params},
        )
        lines = _csv(export_rows(organization, filters)) if wanted == "csv" else _json(events(organization, filters))
        kind = "text/csv; charset=utf-8" if wanted == "csv" else "application/json"
        response = StreamingHttpResponse(lines, content_type=kind)
        name = f"aum-audit-{organization.slug}-{timezone.now():%Y%m%dT%H%MZ}.{wanted}"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


class _Echo:
    def write(self, line: str) -> str:
        return line


def _csv(rows: Iterator[list[str]]) -> Iterator[str]:
    writer: Any = csv.writer(_Echo())
    for row in rows:
        yield writer.writerow(row)


def _json(rows: Any) -> Iterator[str]:
    separator = "["
    for event in rows.iterator(chunk_size=2000):
        yield separator + json.dumps(AuditEventSerializer(event).data, default=_text)
        separator = ",\n"
    yield "[]" if separator == "[" else "]"


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class AuditVerifyView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="audit_events_verify", responses=VerifySerializer)
    def get(self, request: Request) -> Response:
        """Hash every sealed event again. `first_broken` names up to 100 findings."""
        if request.query_params:
            raise InvalidInput(fields={name[:100]: ["There is no such parameter."] for name in request.query_params})
        report = verify(self.organization)
        report.first_broken = report.first_broken[:SHOWN_FINDINGS]
        return Response(VerifySerializer(report).data)
