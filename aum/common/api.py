"""REST answers to refusals: one place maps errors to `{"code", "detail", "fields"}` (REST.md)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from aum.common.errors import DomainError


def _body(code: str, detail: str, fields: dict[str, list[str]] | None = None) -> dict[str, Any]:
    return {"code": code, "detail": detail, "fields": fields or {}}


def _flatten(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """DRF's nested error detail as `{"name.inner": ["sentence"]}`."""
    if isinstance(detail, dict):
        merged: dict[str, list[str]] = {}
        for name, inner in detail.items():
            merged.update(_flatten(inner, f"{prefix}.{name}" if prefix else str(name)))
        return merged
    if isinstance(detail, list):
        texts = [str(item) for item in detail if not isinstance(item, dict | list)]
        merged = {prefix or "non_field_errors": texts} if texts else {}
        for index, item in enumerate(detail):
            if isinstance(item, dict | list) and item:
                merged.update(_flatten(item, f"{prefix}.{index}"))
        return merged
    return {prefix or "non_field_errors": [str(detail)]}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Django REST framework's hook; None lets an unknown error travel up to the log."""
    if isinstance(error, DomainError):
        set_rollback()
        return Response(_body(error.code, error.detail, error.fields), status=error.status)
    if isinstance(error, Http404):
        error = exceptions.NotFound("There is no such thing here.")
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if not isinstance(error, exceptions.APIException):
        return None
    set_rollback()
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]
    wait_seconds = getattr(error, "wait", None)
    if wait_seconds:
        headers["Retry-After"] = str(int(wait_seconds))
    if isinstance(error, exceptions.ValidationError):
        body = _body("invalid", "Correct the marked fields and try again.", _flatten(error.detail))
        return Response(body, status=status.HTTP_400_BAD_REQUEST)
    code = {
        "permission_denied": "not_allowed",
    }.get(str(error.default_code), str(error.default_code))
    return Response(_body(code, str(error.detail)), status=error.status_code, headers=headers)
