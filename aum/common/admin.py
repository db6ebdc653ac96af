"""What every page of the Django admin shares: support staff look, and change nothing but by the actions named here.

A change goes through the services, which check, record and tell; a raw edit of a row would go around all of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:  # generic for the type checker only
    _ModelAdmin = admin.ModelAdmin

# Columns whose names hold one of these are never shown, whatever the table (P12).
SECRET_WORDS = ("encrypted", "secret", "password", "token_hash", "salt", "signature", "reference", "request_hash")
LIST_COLUMNS = 8


def is_secret(field: models.Field[Any, Any]) -> bool:
    """Whether a column may hold a secret, or is binary and so no text for people."""
    return isinstance(field, models.BinaryField) or any(word in field.name for word in SECRET_WORDS)


class ReadOnlyAdmin(_ModelAdmin):
    """Shows rows to whoever may open the admin (`is_staff`) and changes none, not for a superuser either."""

    # Counting ten million rows for a page of a hundred helps nobody.
    show_full_result_count = False
    list_per_page = 50

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> Any:
        secret = [field.name for field in self.opts.concrete_fields if is_secret(field)]
        return [*(super().get_exclude(request, obj) or ()), *secret]


def register_plainly(model: type[models.Model]) -> None:
    """Show a model that has no page of its own: its first columns, filters by organisation and by choices."""
    shown = [field for field in model._meta.concrete_fields if not is_secret(field) and not _is_long(field)]
    columns = [field.name for field in shown if field.name != "id"][:LIST_COLUMNS]
    related = [field.name for field in shown if field.is_relation and field.name in columns]
    filters = [field.name for field in shown if field.choices or field.name == "organization"]
    options = {"list_display": ["pk", *columns], "list_select_related": related or False, "list_filter": filters}
    admin.site.register(model, type(f"{model.__name__}Admin", (ReadOnlyAdmin,), options))


def _is_long(field: models.Field[Any, Any]) -> bool:
    return isinstance(field, models.TextField | models.JSONField)
