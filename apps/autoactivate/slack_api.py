"""The two calls of Slack's Web API that AUM makes, with a workspace's bot token. The base address is a setting."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import requests
from django.conf import settings

from aum.common.errors import DomainError

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = (5.0, 10.0)
MAX_BYTES = 1024 * 1024


class SlackUnavailable(DomainError):
    code = "slack_unavailable"
    detail = "Slack could not be reached. AUM tries again by itself."


class SlackRefused(DomainError):
    code = "slack_refused"
    detail = "Slack refused the call."


@dataclass(frozen=True)
class SlackUser:
    """Who a Slack user id is; `email` is empty where the token may not read it. `fault`: why it is nobody's word."""

    id: str
    name: str
    email: str
    fault: str = ""


def check_token(token: str) -> str:
    """The name of the workspace that the token belongs to. Raises SlackUnavailable, SlackRefused."""
    answer = _call(token, "auth.test", {})
    return str(answer.get("team") or "Slack")[:100]


def user_of(token: str, user_id: str) -> SlackUser:
    """`users.info` of one user. Raises SlackUnavailable, SlackRefused."""
    user = _call(token, "users.info", {"user": user_id}).get("user")
    if not isinstance(user, dict) or user.get("id") != user_id:
        raise SlackRefused("Slack gave no user for this id.")
    profile: Any = user.get("profile")
    profile = profile if isinstance(profile, dict) else {}
    return SlackUser(
        id=user_id,
        name=str(profile.get("real_name") or user.get("name") or user_id)[:200],
        email=str(profile.get("email") or "")[:320],
        fault=_fault(user),
    )


def _fault(user: dict[str, Any]) -> str:
    if user.get("deleted") is True:
        return "The Slack account is deactivated."
    if user.get("is_bot") is True or user.get("is_app_user") is True:
        return "A Slack app asked, not a person."
    if user.get("is_stranger") is True:
        return "The Slack user belongs to another company’s workspace."
    if user.get("is_restricted") is True or user.get("is_ultra_restricted") is True:
        return "The Slack user is a guest."
    if user.get("is_email_confirmed") is False:
        return "The e-mail address in Slack is not confirmed."
    return ""


def _call(token: str, method: str, values: dict[str, str]) -> dict[str, Any]:
    url = f"{settings.AUM_SLACK_API_URL}/{method}"
    headers = {"Authorization": f"Bearer {token}"}
    try:
        with requests.post(
            url, data=values, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True
        ) as answer:
            if answer.status_code == 429 or answer.status_code >= 500:
                raise SlackUnavailable
            content = answer.raw.read(MAX_BYTES, decode_content=True)
            if answer.status_code != 200:
                raise SlackRefused(f"Slack answered with status {answer.status_code}.")
            body = json.loads(content)
    except requests.RequestException as error:
        logger.warning("slack.unreachable", extra={"method": method, "error": type(error).__name__})
        raise SlackUnavailable from error
    except ValueError as error:
        raise SlackRefused("Slack’s answer cannot be read.") from error
    if not isinstance(body, dict) or body.get("ok") is not True:
        code = str(body.get("error") or "unknown")[:60] if isinstance(body, dict) else "unknown"
        if code in ("ratelimited", "internal_error", "service_unavailable"):
            raise SlackUnavailable
        raise SlackRefused(f"Slack refused the call: {code}.")
    return body
