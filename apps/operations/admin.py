"""Django admin for support staff: plans, runs and decisions, read only."""

from __future__ import annotations

from django.contrib import admin

from apps.operations.models import Approval, Operation, OperationItem, RunDriver, SafeguardChange
from aum.common.admin import ReadOnlyAdmin


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    list_display = ["number", "organization", "name", "mode", "status", "people_count", "actor_text", "created_at"]
    list_select_related = ["organization"]
    list_filter = ["status", "mode", "kind"]
    search_fields = ["name", "uuid"]


@admin.register(OperationItem)
class OperationItemAdmin(ReadOnlyAdmin):
    list_display = [
        "operation",
        "subject",
        "action",
        "target",
        "status",
        "outcome",
        "atlassian_request_id",
        "finished_at",
    ]
    list_select_related = ["operation"]
    list_filter = ["status", "outcome"]
    search_fields = ["subject", "atlassian_request_id", "call_id"]
    raw_id_fields = ["operation", "account"]
    show_full_result_count = False


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    list_display = ["operation", "decision", "decided_by_text", "decided_at", "count", "is_one_operator"]
    list_select_related = ["operation"]


@admin.register(SafeguardChange)
class SafeguardChangeAdmin(ReadOnlyAdmin):
    list_display = [
        "organization",
        "kind",
        "status",
        "proposed_by_text",
        "proposed_at",
        "approved_by_text",
        "effective_at",
    ]
    list_select_related = ["organization"]
    list_filter = ["status", "kind"]


@admin.register(RunDriver)
class RunDriverAdmin(ReadOnlyAdmin):
    list_display = ["operation", "organization", "name", "leads", "slots", "seen_at"]
    list_select_related = ["organization", "operation"]
    search_fields = ["name"]
    raw_id_fields = ["operation"]
