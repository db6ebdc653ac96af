"""Django admin for support staff: read only, secrets never."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from apps.organizations.models import Alert, CapabilityCheck, Credential, Organization


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Looks, never changes: a change without its audit row must not happen."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        return False


@admin.register(Organization)
class OrganizationAdmin(ReadOnlyAdmin):
    list_display = ["name", "slug", "org_id", "is_demo", "kill_switch_at", "created_at"]


@admin.register(Credential)
class CredentialAdmin(ReadOnlyAdmin):
    list_display = ["organization", "kind", "owner_email", "set_at", "set_by", "expires_on", "is_valid"]
    list_select_related = ["organization"]
    exclude = ["encrypted_value", "reference"]


@admin.register(CapabilityCheck)
class CapabilityCheckAdmin(ReadOnlyAdmin):
    list_display = ["organization", "capability", "ok", "code", "checked_at"]
    list_select_related = ["organization"]


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    list_display = ["organization", "severity", "title", "repeats", "last_at", "resolved_at"]
    list_select_related = ["organization"]
