"""The audit log for support staff: to read only, newest first."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from apps.audit.models import AuditCheckpoint, AuditEvent, AuditIdentity, AuditSegment
from aum.common.admin import ReadOnlyAdmin


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "organization", "actor", "action", "outcome", "target", "operation_number", "request_id")
    list_filter = ("organization", "outcome")
    list_select_related = ("organization", "actor", "target")
    ordering = ("-at", "-id")


@admin.register(AuditIdentity)
class AuditIdentityAdmin(ReadOnlyAdmin):
    list_display = ("organization", "kind", "key", "name", "email", "erased_at")
    list_filter = ("organization", "kind")
    exclude = ("salt", "commitment", "fingerprint")
    list_select_related = ("organization",)


@admin.register(AuditSegment)
class AuditSegmentAdmin(ReadOnlyAdmin):
    list_display = ("organization", "number", "count", "sealed_at", "anchored_at", "purged_at")
    list_filter = ("organization",)
    exclude = ("digests", "root", "previous_head", "head", "signature")
    list_select_related = ("organization",)
    ordering = ("-pk",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("digests")


@admin.register(AuditCheckpoint)
class AuditCheckpointAdmin(ReadOnlyAdmin):
    list_display = ("organization", "number", "rows", "purged_at")
    list_filter = ("organization",)
    exclude = ("head", "signature")
    list_select_related = ("organization",)
