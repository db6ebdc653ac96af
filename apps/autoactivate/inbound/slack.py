"""Slack: signed requests (v0), the url_verification challenge, and slash commands."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from apps.autoactivate.crypto import is_same
from apps.autoactivate.domains import clean_email
from apps.autoactivate.inbound.base import Received, Rejected, json_object, text_of, unbelieved

WINDOW_SECONDS = 300
_USER = re.compile(r"[UW][A-Z0-9]{2,30}", re.ASCII)


def check(timestamp: str, signature: str, body: bytes, secrets: Iterable[str], now_seconds: float) -> None:
    """Raises Rejected unless `signature` is `v0=` + HMAC-SHA256 of `v0:{timestamp}:{body}`, at most 5 minutes off."""
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 13):
        raise unbelieved("timestamp")
    if abs(now_seconds - int(timestamp)) > WINDOW_SECONDS:
        raise Rejected(401, "stale", "The request is more than 5 minutes old. Check the clock of the sender.")
    content = b"v0:" + timestamp.encode() + b":" + body
    made = ["v0=" + hmac.new(secret.encode(), content, hashlib.sha256).hexdigest() for secret in secrets]
    if not sum(is_same(signature.strip(), one) for one in made):
        raise unbelieved()


def challenge_of(content_type: str, body: bytes) -> str:
    """The text to answer to `url_verification` with; "" for any other request."""
    if not content_type.lower().startswith("application/json"):
        return ""
    content = json_object(body)
    return text_of(content.get("challenge"), 500) if content.get("type") == "url_verification" else ""


def read_command(body: bytes) -> Received:
    """Who gave the slash command. Its text may hold an address, which is only ever sent a confirmation."""
    try:
        values = dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=50))
    except (UnicodeDecodeError, ValueError):
        raise Rejected(400, "not_a_form", "Send a slash command as Slack does.") from None
    user = text_of(values.get("user_id"), 40)
    if not _USER.fullmatch(user):
        raise Rejected(400, "no_user", "The command names no Slack user.")
    words = text_of(values.get("text"), 1000).split()
    email = next(filter(None, (clean_email(word.strip("<>,;")) for word in words)), "")
    # Unique for each invocation, and signed with the rest.
    trigger = text_of(values.get("trigger_id"), 100) or hashlib.sha256(body).hexdigest()[:40]
    payload = {
        "user_id": user,
        "team_id": text_of(values.get("team_id"), 40),
        "user_name": text_of(values.get("user_name"), 100),
        "email": email,
        "response_url": text_of(values.get("response_url"), 500),
    }
    return Received("message", f"slack:{trigger}", payload)


def is_ssl_check(body: bytes) -> bool:
    """Slack asks now and then whether the certificate holds; nothing is to be done."""
    return b"ssl_check=1" in body


def reply(text: str) -> bytes:
    """An answer that only the sender sees."""
    return json.dumps({"response_type": "ephemeral", "text": text}).encode()
