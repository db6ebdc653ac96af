"""Django admin for support staff: who may sign in, roles, invitations, tokens without their secrets."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.operators.models import ApiToken, Grant, Invitation, Operator
from apps.operators.services import disable_operator, revoke_token
from apps.organizations.recorder import Actor
from aum.common.admin import ReadOnlyAdmin
from aum.common.errors import DomainError


@admin.register(Operator)
class OperatorAdmin(ReadOnlyAdmin):
    list_display = ["email", "name", "is_active", "is_staff", "last_login", "created_at"]
    list_filter = ["is_active", "is_staff"]
    search_fields = ["email", "name"]
    actions = ["disable"]

    @admin.action(description="Disable: sign-in, sessions and tokens end")
    def disable(self, request: HttpRequest, chosen: QuerySet[Operator]) -> None:
        """As on the page of people; the last owner of an organisation stays."""
        for operator in chosen:
            try:
                disable_operator(operator=operator, actor=_actor(request))
            except DomainError as refusal:
                messages.error(request, refusal.detail)
            else:
                messages.success(request, f"{operator} can no longer sign in.")


@admin.register(Grant)
class GrantAdmin(ReadOnlyAdmin):
    list_display = ["operator", "organization", "role", "granted_at", "granted_by"]
    list_select_related = ["operator", "organization"]
    list_filter = ["organization", "role"]
    search_fields = ["operator__email"]


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display = ["email", "organization", "roles", "created_by", "expires_at", "accepted_at", "revoked_at"]
    list_select_related = ["organization"]
    list_filter = ["organization"]
    search_fields = ["email"]


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = ["name", "prefix", "operator", "organization", "expires_at", "last_used_at", "revoked_at"]
    list_select_related = ["operator", "organization"]
    list_filter = ["organization"]
    search_fields = ["name", "prefix", "operator__email"]
    actions = ["revoke"]

    @admin.action(description="Revoke the chosen tokens")
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiToken]) -> None:
        """They stop working at once."""
        for token in chosen.select_related("organization"):
            revoke_token(organization=token.organization, token_id=token.pk, actor=_actor(request))
        messages.success(request, "The tokens are revoked.")


def _actor(request: HttpRequest) -> Actor:
    """Support staff as audit rows name them."""
    assert isinstance(request.user, Operator)
    return Actor.operator(request.user, request.META.get("REMOTE_ADDR"))
