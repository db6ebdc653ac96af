"""Django admin for support staff: organisations, their credentials without the values, checks, alerts."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.organizations.models import Alert, CapabilityCheck, Credential, Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import resolve_alert, turn_kill_switch_on
from aum.common.admin import ReadOnlyAdmin


@admin.register(Organization)
class OrganizationAdmin(ReadOnlyAdmin):
    list_display = ["name", "slug", "org_id", "is_demo", "is_from_file", "kill_switch_at", "created_at"]
    search_fields = ["name", "slug", "org_id"]
    actions = ["stop"]

    @admin.action(description="Emergency stop: nothing more is written")
    def stop(self, request: HttpRequest, chosen: QuerySet[Organization]) -> None:
        """The kill switch of each; an owner releases it."""
        for organization in chosen:
            turn_kill_switch_on(organization=organization, reason="Stopped by support staff", actor=_actor(request))
        messages.success(request, f"{len(chosen)} stopped. An owner releases the stop under Settings.")


@admin.register(Credential)
class CredentialAdmin(ReadOnlyAdmin):
    list_display = ["organization", "kind", "owner_email", "set_at", "set_by", "expires_on", "is_valid"]
    list_select_related = ["organization"]
    list_filter = ["organization", "kind", "is_valid"]


@admin.register(CapabilityCheck)
class CapabilityCheckAdmin(ReadOnlyAdmin):
    list_display = ["organization", "capability", "ok", "code", "checked_at"]
    list_select_related = ["organization"]
    list_filter = ["organization", "ok"]


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    list_display = ["title", "organization", "severity", "repeats", "last_at", "resolved_at"]
    list_select_related = ["organization"]
    list_filter = ["organization", "severity", "kind"]
    search_fields = ["title", "detail"]
    actions = ["resolve"]

    @admin.action(description="Resolve the chosen alerts")
    def resolve(self, request: HttpRequest, chosen: QuerySet[Alert]) -> None:
        """Each is resolved as on the page of alerts."""
        for alert in chosen.filter(resolved_at__isnull=True).select_related("organization"):
            resolve_alert(organization=alert.organization, dedup_key=alert.dedup_key, by=str(request.user))
        messages.success(request, "The alerts are resolved.")


def _actor(request: HttpRequest) -> Actor:
    """Support staff as audit rows name them."""
    return Actor.operator(request.user, request.META.get("REMOTE_ADDR"))  # type: ignore[arg-type]
