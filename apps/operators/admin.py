"""Django admin for support staff: who may sign in. Roles and tokens are read only; their pages record changes."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from apps.operators.models import ApiToken, Grant, Operator


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Looks, never changes: a change without its audit row must not happen."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        return False


@admin.register(Operator)
class OperatorAdmin(ReadOnlyAdmin):
    list_display = ["email", "name", "is_active", "last_login", "created_at"]
    search_fields = ["email", "name"]
    exclude = ["password"]


@admin.register(Grant)
class GrantAdmin(ReadOnlyAdmin):
    list_display = ["operator", "organization", "role", "granted_at", "granted_by"]
    list_select_related = ["operator", "organization"]


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = ["name", "prefix", "operator", "organization", "expires_at", "last_used_at", "revoked_at"]
    list_select_related = ["operator", "organization"]
    exclude = ["token_hash"]
