"""What can go wrong with a call to Atlassian, and the one place that turns HTTP outcomes into it.

The status decides first and the body only adds detail, because bodies come in five shapes, as HTML, and not at all
(API.md §2, §3, §4). No other module looks at status codes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Atlassian's codes, from the schemas ApiError and ApplicationError of the Organizations document.
ALREADY_MEMBER_CODES = frozenset({"ADMIN-UAM-409-2"})
LICENCE_LIMIT_CODES = frozenset({"ADMIN-UAM-409-3", "ADMIN-409-3"})

# Reasons of 403 `forbidden.action` that mean: another system owns this account (user management document).
MANAGED_ELSEWHERE_REASONS = frozenset(
    {"externalDirectory.scim", "externalDirectory.google", "authPolicy.saml", "managedAccount", "blocked.exportControl"}
)

DETAIL_LIMIT = 500


class AtlassianError(Exception):
    """A call that did not give what was asked for.

    `status` is the HTTP status or None when no answer came. `code` is Atlassian's own code where it sent one, else one
    of ours (`http_404`, `connect_failed`, ...). `detail` says what happened, `advice` what to do about it. `request_id`
    is Atlassian's, `call_id` ours. Never holds a credential, and picklable, so that it can cross a Celery boundary.
    """

    default_code = "atlassian_error"
    default_advice = "Try again later. If it stays, give the call id to whoever looks after AUM."

    def __init__(
        self,
        detail: str = "",
        *,
        status: int | None = None,
        code: str = "",
        request_id: str | None = None,
        call_id: str = "",
        advice: str = "",
    ) -> None:
        self.detail = detail or "The call to Atlassian failed."
        self.status = status
        self.code = code or (f"http_{status}" if status else self.default_code)
        self.request_id = request_id
        self.call_id = call_id
        self.advice = advice or self.default_advice
        super().__init__(self.detail)

    def __str__(self) -> str:
        parts = [f"{self.detail} [{self.code}]"]
        if self.request_id:
            parts.append(f"Atlassian's request id {self.request_id}")
        if self.call_id:
            parts.append(f"call id {self.call_id}")
        return ", ".join(parts)


class Unauthorized(AtlassianError):
    """401: the credential is unknown, expired, revoked, or of the wrong kind for this host."""

    default_advice = "Check that the credential is of the right kind, has not expired and was pasted whole."


class Forbidden(AtlassianError):
    """403: known, but not allowed.

    `reason_key` is the user management API's reason, e.g. `externalDirectory.scim`. `insufficient_scope`: the key was
    made with scopes that do not cover this call. `managed_elsewhere`: an identity provider or policy owns the account.
    """

    default_advice = (
        "Atlassian refused this for lack of permission. The credential must belong to an organisation admin."
    )

    def __init__(
        self,
        detail: str = "",
        *,
        reason_key: str = "",
        insufficient_scope: bool = False,
        managed_elsewhere: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(detail, **common)
        self.reason_key = reason_key
        self.insufficient_scope = insufficient_scope
        self.managed_elsewhere = managed_elsewhere


class NotFound(AtlassianError):
    """404 or 410: no such thing, or not visible to this credential."""

    default_advice = "It is no longer in Atlassian, or not in this organisation. Run a sync and look again."


class Conflict(AtlassianError):
    """409: the present state forbids it.

    With neither flag set the reason is not known: read the state before deciding anything.
    """

    default_advice = (
        "Atlassian says that the present state does not allow this. Read the person's state and decide again."
    )

    def __init__(
        self, detail: str = "", *, already_member: bool = False, licence_limit: bool = False, **common: Any
    ) -> None:
        super().__init__(detail, **common)
        self.already_member = already_member
        self.licence_limit = licence_limit


class BadRequest(AtlassianError):
    """400, 402, 415, 422 and other refusals of the request itself: repeating it cannot help."""

    default_advice = "Atlassian did not accept the request as it stands. Check the values; repeating it will not help."


class RateLimited(AtlassianError):
    """429: nothing had an effect. `wait_seconds` is how long Atlassian, or our back-off, says to wait from now."""

    default_advice = "Atlassian asked AUM to slow down. The work continues by itself."

    def __init__(self, detail: str = "", *, wait_seconds: float = 0.0, reason: str = "", **common: Any) -> None:
        super().__init__(detail, **common)
        self.wait_seconds = wait_seconds
        self.reason = reason


class WaitTooLong(AtlassianError):
    """Nothing was sent: the shared limit would have kept the caller waiting longer than it allowed."""

    default_code = "wait_too_long"
    default_advice = "Atlassian asked AUM to slow down. The work continues by itself once the wait is over."

    def __init__(self, detail: str = "", *, wait_seconds: float = 0.0, **common: Any) -> None:
        super().__init__(detail, **common)
        self.wait_seconds = wait_seconds


class Unavailable(AtlassianError):
    """Atlassian did not answer usefully, and nothing can have had an effect: may be tried again."""

    default_code = "unavailable"
    default_advice = "Atlassian could not be reached or was out of order. AUM tries again by itself."


class LostAnswer(Unavailable):
    """A write was sent and its answer never came, or came unusable: the effect is unknown. Read the state, never
    repeat.
    """

    default_code = "lost_answer"
    default_advice = (
        "It is not known whether this took effect. AUM reads the state from Atlassian before anything else."
    )


class LimiterUnavailable(Unavailable):
    """The shared limiter (Redis) is out of reach, so nothing was sent (P13)."""

    default_code = "limiter_unavailable"
    default_advice = "Redis is out of reach. Nothing is sent to Atlassian until it is back."


class UnexpectedAnswer(AtlassianError):
    """A success by its status, but not what the published document promises; or an answer that points somewhere
    else.
    """

    default_code = "unexpected_answer"
    default_advice = (
        "Something other than Atlassian's API answered, or the API changed. Check the address; then report the call id."
    )


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error body said, whatever its shape. Empty strings and None where it said nothing."""

    code: str = ""
    detail: str = ""
    request_id: str | None = None
    reason_key: str = ""
    insufficient_scope: bool = False


def parse_error_body(content: bytes, content_type: str = "") -> ErrorBody:
    """Read any of the known error bodies; anything else, HTML included, gives an empty `ErrorBody` rather than an
    error.
    """
    text = content.decode("utf-8", errors="replace").strip()
    if not text or "html" in content_type.lower() or text.startswith("<"):
        return ErrorBody()
    try:
        body = json.loads(text)
    except ValueError:
        return ErrorBody(detail=_clip(text)) if content_type.lower().startswith("text/plain") else ErrorBody()
    return _parse_error_object(body) if isinstance(body, dict) else ErrorBody()


def _parse_error_object(body: Mapping[str, Any]) -> ErrorBody:
    errors = body.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        first = errors[0]
        detail = first.get("detail") or first.get("title")
        return ErrorBody(
            code=_word(first.get("code")),
            detail=_clip(detail),
            request_id=_word(first.get("id")) or None,
            insufficient_scope=_names_scope(first.get("code"), detail),
        )
    if isinstance(body.get("key"), str):
        return _parse_user_management(body)
    if "errorMessages" in body or isinstance(errors, dict):
        messages = [str(m) for m in body.get("errorMessages") or [] if m]
        if isinstance(errors, dict):
            messages += [f"{field}: {message}" for field, message in errors.items()]
        return ErrorBody(detail=_clip(" ".join(messages)))
    if isinstance(body.get("errorMessage"), str):
        return ErrorBody(detail=_clip(body["errorMessage"]))
    detail = body.get("message") or body.get("detail") or body.get("title") or body.get("error")
    code = body.get("code")
    # The gateway's {"code": 429, "message"} repeats the status: no code of its own.
    return ErrorBody(
        code=code if isinstance(code, str) else "",
        detail=_clip(detail),
        request_id=_word(body.get("requestId") or body.get("id")) or None,
        insufficient_scope=_names_scope(code, detail),
    )


def _parse_user_management(body: Mapping[str, Any]) -> ErrorBody:
    key = body["key"]
    raw_context = body.get("context")
    context: Mapping[str, Any] = raw_context if isinstance(raw_context, dict) else {}
    raw_reason = context.get("reason")
    reason: Mapping[str, Any] = raw_reason if isinstance(raw_reason, dict) else {}
    codes = [c for c in context.get("errorCodes") or [] if isinstance(c, dict)]
    said = [str(c.get("message") or c.get("code") or "") for c in codes]
    error_detail = body.get("errorDetail")
    detail = context.get("message") or (error_detail if isinstance(error_detail, str) else "") or ""
    if any(said):
        detail = f"{detail} ({', '.join(filter(None, said))})".strip()
    return ErrorBody(
        code=_word(key),
        detail=_clip(detail),
        reason_key=_word(reason.get("key")),
        insufficient_scope=_names_scope(key),
    )


def error_from_answer(
    *,
    status: int,
    content: bytes,
    content_type: str,
    request_id: str | None,
    call_id: str,
    is_write: bool,
    wait_seconds: float = 0.0,
    reason: str = "",
) -> AtlassianError:
    """The error for an answer whose status is not a success. `wait_seconds` and `reason` are those of a 429."""
    body = parse_error_body(content, content_type)
    common: dict[str, Any] = {
        "status": status,
        "code": body.code,
        "request_id": request_id or body.request_id,
        "call_id": call_id,
    }
    detail = body.detail
    if status == 429:
        return RateLimited(
            detail or "Atlassian asked to slow down.", wait_seconds=wait_seconds, reason=reason, **common
        )
    if status == 401:
        return Unauthorized(detail or "Atlassian did not accept the credential.", **common)
    if status == 403:
        return _forbidden(body, common)
    if status in (404, 410):
        return NotFound(detail or "Atlassian does not know this.", **common)
    if status == 409:
        return _conflict(body, common)
    if status >= 500 or status == 408:
        kind = LostAnswer if is_write else Unavailable
        return kind(detail or f"Atlassian answered with an error of its own ({status}).", **common)
    if 300 <= status < 400:
        common["code"] = "redirect"
        if is_write:
            return LostAnswer(f"A redirect ({status}) came instead of an answer; redirects are not followed.", **common)
        return UnexpectedAnswer(
            f"A redirect ({status}) came instead of an answer; redirects are not followed.",
            advice="Check the address: Atlassian's own addresses do not redirect.",
            **common,
        )
    advice = "Atlassian says that a paid plan is needed for this." if status == 402 else ""
    return BadRequest(detail or f"Atlassian did not accept the request ({status}).", advice=advice, **common)


def _forbidden(body: ErrorBody, common: dict[str, Any]) -> Forbidden:
    if body.insufficient_scope:
        return Forbidden(
            body.detail or "The organisation API key was made with scopes that do not cover this.",
            insufficient_scope=True,
            advice="Create an organisation API key without scopes and paste it in Settings: no scope covers this.",
            **common,
        )
    if body.reason_key in MANAGED_ELSEWHERE_REASONS:
        return Forbidden(
            body.detail or f"This account is governed elsewhere ({body.reason_key}).",
            reason_key=body.reason_key,
            managed_elsewhere=True,
            advice="Do this in the identity provider that manages the account; AUM cannot.",
            **common,
        )
    return Forbidden(body.detail or "Atlassian refused this.", reason_key=body.reason_key, **common)


def _conflict(body: ErrorBody, common: dict[str, Any]) -> Conflict:
    licence_limit = body.code in LICENCE_LIMIT_CODES
    return Conflict(
        body.detail or "The present state does not allow this.",
        already_member=body.code in ALREADY_MEMBER_CODES,
        licence_limit=licence_limit,
        advice="All licences of this product are in use. Free one or buy more, then try again."
        if licence_limit
        else "",
        **common,
    )


def _names_scope(*texts: object) -> bool:
    """Whether any of the texts says that the key's scopes do not suffice (`insufficientScope`, in any spelling)."""
    return any("insufficientscope" in str(text).lower().replace("-", "").replace(" ", "") for text in texts)


def _word(value: object) -> str:
    return _clip(value)[:128]


def _clip(value: object) -> str:
    """One line of at most DETAIL_LIMIT characters: error bodies can echo whatever was sent."""
    if not isinstance(value, str | int | float):
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return line if len(line) <= DETAIL_LIMIT else line[: DETAIL_LIMIT - 1] + "…"
