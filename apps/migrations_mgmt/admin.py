"""Data migrations for support staff: to read only."""

from __future__ import annotations

from django.contrib import admin

from apps.migrations_mgmt.models import Backfill, BackfillBatch
from aum.common.admin import ReadOnlyAdmin


@admin.register(Backfill)
class BackfillAdmin(ReadOnlyAdmin):
    list_display = ("name", "version", "status", "done", "total", "started_at", "finished_at")
    list_filter = ("status",)


@admin.register(BackfillBatch)
class BackfillBatchAdmin(ReadOnlyAdmin):
    list_display = ("backfill", "first_pk", "last_pk", "status", "attempts", "finished_at")
    list_filter = ("status",)
    list_select_related = ("backfill",)
