"""Django admin for support staff: the mirror, read only. Changes go through the pages, which record them."""

from __future__ import annotations

from django.contrib import admin

from apps.users.models import Account, Exemption, Group, SyncRun
from aum.common.admin import ReadOnlyAdmin


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ["name", "email", "organization", "account_status", "membership_status", "claim_status", "synced_at"]
    list_select_related = ["organization"]
    list_filter = ["account_status", "membership_status", "claim_status", "kind"]
    search_fields = ["account_id", "sort_name", "email"]
    show_full_result_count = False


@admin.register(Group)
class GroupAdmin(ReadOnlyAdmin):
    list_display = ["name", "organization", "is_synced", "is_administrative", "member_count", "vanished_at"]
    list_select_related = ["organization"]
    search_fields = ["name", "group_id"]


@admin.register(Exemption)
class ExemptionAdmin(ReadOnlyAdmin):
    list_display = ["subject", "kind", "reason", "set_by", "until", "ended_at"]
    list_select_related = ["account", "group"]


@admin.register(SyncRun)
class SyncRunAdmin(ReadOnlyAdmin):
    list_display = ["id", "organization", "status", "phase", "people_seen", "is_trusted", "started_at", "finished_at"]
    list_select_related = ["organization"]
