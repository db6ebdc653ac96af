"""The shapes in which the three families of Atlassian's APIs report errors."""

from __future__ import annotations

import time
from typing import Any

from apps.sandbox.http import Response, json_response


class ApiError(Exception):
    """Ends the handling of a request with the answer it carries."""

    def __init__(self, response: Response) -> None:
        super().__init__(str(response.status))
        self.response = response


_TITLES = {
    "ADMIN-UAM-400-1": "Bad Request",
    "ADMIN-UAM-400-2": "Inactive user",
    "ADMIN-UAM-400-3": "Invalid Role for Resource",
    "ADMIN-UAM-400-5": "Cloud Resource is empty",
    "ADMIN-UAM-401-1": "Unauthenticated",
    "ADMIN-UAM-403-1": "Forbidden",
    "ADMIN-UAM-404-1": "Unknown Resource",
    "ADMIN-UAM-404-2": "Organization not found",
    "ADMIN-UAM-404-3": "Group Not Found",
    "ADMIN-UAM-409-1": "Cannot create default group",
    "ADMIN-UAM-409-2": "Resource Conflicts",
    "ADMIN-UAM-409-3": "Product License Limit Exceeded",
    "ADMIN-UAM-415-1": "Unsupported Media Type",
    "ADMIN-400-1": "Invalid page cursor",
    "ADMIN-400-3": "Invalid time date",
    "ADMIN-400-4": "Invalid resource",
    "ADMIN-400-19": "Invalid limit",
    "ADMIN-400-24": "Invalid request body",
    "ADMIN-403-3": "Not allowed to manage the org",
    "ADMIN-403-5": "Not allowed to manage the group",
    "ADMIN-403-6": "Not allowed to delete group with default-role attribute",
    "ADMIN-403-7": "Not allowed to delete group which grants admin access to a product or org",
    "ADMIN-404-2": "Organization not found",
    "ADMIN-404-3": "Domain not found",
    "ADMIN-404-4": "Event not found",
    "ADMIN-404-8": "User not found",
    "ADMIN-405-1": "Method not supported",
    "ADMIN-409-3": "License limit exceeded",
    "ADMIN-429-1": "Rate limit exceeded",
    "ADMIN-500-1": "Internal error",
}


def admin_error(code: str, detail: str = "", *, request_id: str = "sandbox", bare: bool = False) -> ApiError:
    """Shape (a): `{"errors": [{id, code, status, title, detail}]}`; `bare` leaves the list away, as workspaces do.

    The status is the number inside the code.
    """
    status = next(int(part) for part in code.split("-") if part.isdigit() and len(part) == 3)
    one = {"id": request_id, "code": code, "status": str(status), "title": _TITLES.get(code, code), "detail": detail}
    return ApiError(json_response(status, one if bare else {"errors": [one]}))


def routing_error(status: int, error: str, message: str, path: str, request_id: str) -> ApiError:
    """Shape (b), from the routing layer in front of the services."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".000+00:00"
    body = {
        "timestamp": stamp,
        "path": f"/api{path}",
        "status": status,
        "error": error,
        "requestId": request_id,
        "message": message,
    }
    return ApiError(json_response(status, body))


def proxy_error(code: int, message: str) -> ApiError:
    """Shape (c): `{"code", "message"}`."""
    return ApiError(json_response(code, {"code": code, "message": message}))


def manage_error(status: int, key: str, *, context: Any = None, detail: Any = None, error_key: str = "") -> ApiError:
    """User management's shape; live answers repeat it as `errorKey` and `errorDetail`."""
    body: dict[str, Any] = {"key": key}
    if context is not None:
        body["context"] = context
    body["errorKey"] = error_key or key
    if detail is not None or context is not None:
        body["errorDetail"] = context if detail is None else detail
    return ApiError(json_response(status, body))


def jira_error(status: int, *messages: str, fields: dict[str, str] | None = None) -> ApiError:
    return ApiError(json_response(status, {"errorMessages": list(messages), "errors": fields or {}}))


def jsm_error(status: int, message: str) -> ApiError:
    body = {"errorMessage": message, "i18nErrorMessage": {"i18nKey": "sandbox", "parameters": []}}
    return ApiError(json_response(status, body))
