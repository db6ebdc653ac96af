"""Django admin for support staff: rules, their versions and due slots, read only."""

from __future__ import annotations

from django.contrib import admin

from apps.rules.models import CleanupRule, DueSlot, RuleVersion
from aum.common.admin import ReadOnlyAdmin


@admin.register(CleanupRule)
class CleanupRuleAdmin(ReadOnlyAdmin):
    list_display = ["name", "organization", "mode", "action", "is_paused", "version", "next_run_at", "deleted_at"]
    list_select_related = ["organization"]
    list_filter = ["mode", "action", "is_paused"]
    search_fields = ["name"]


@admin.register(RuleVersion)
class RuleVersionAdmin(ReadOnlyAdmin):
    list_display = ["rule", "version", "edited_by_text", "edited_at"]
    list_select_related = ["rule"]


@admin.register(DueSlot)
class DueSlotAdmin(ReadOnlyAdmin):
    list_display = ["rule", "due_at", "state", "operation_number", "handled_at"]
    list_select_related = ["rule"]
