"""Jira Automation ("Send web request", a secret header) and Jira's admin webhooks (X-Hub-Signature)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Any

from apps.autoactivate.crypto import hash_of, is_same
from apps.autoactivate.inbound.base import Received, Rejected, inner, json_object, text_of, unbelieved

SECRET_HEADER = "X-AUM-Secret"
_ISSUE_KEY = re.compile(r"[A-Z][A-Z0-9_]{0,31}-[1-9][0-9]{0,11}", re.ASCII)
# A key may lie here in Jira's format, in Automation's, and in the custom body of the setup guide.
_PLACES = (("issueKey",), ("issue", "key"), ("key",))


def check_secret(given: str, hashes: Iterable[str]) -> None:
    """Raises Rejected unless `given` is a secret with one of these hashes."""
    digest = hash_of(given)
    # All are compared, so that the time does not tell which one it was.
    if not sum(is_same(digest, expected) for expected in hashes if expected):
        raise unbelieved("secret")


def check_signature(header: str, body: bytes, secrets: Iterable[str]) -> None:
    """`sha256=<hex HMAC-SHA256 of the raw body>` under one of `secrets`; raises Rejected."""
    method, _, digest = header.strip().partition("=")
    if method.lower() != "sha256" or len(digest) != 64:
        raise unbelieved()
    made = [hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() for secret in secrets]
    if not sum(is_same(digest.lower(), one) for one in made):
        raise unbelieved()


def issue_key(text: object) -> str:
    """An issue key in upper case; "" for anything else."""
    key = text_of(text, 64).upper()
    return key if _ISSUE_KEY.fullmatch(key) else ""


def read_automation(body: bytes) -> Received:
    """The ticket that a web request of Jira Automation names, or a test where it names none."""
    content = json_object(body) if body.strip() else {}
    keys = [issue_key(inner(content, *place)) for place in _PLACES]
    key = next(filter(None, keys), "")
    if key:
        return _ticket(key)
    return Received("test", f"test:jira:{hashlib.sha256(body).hexdigest()[:32]}", {})


def read_webhook(body: bytes, identifier: str) -> Received:
    """The ticket that an admin webhook tells of; events that are no new ticket prove the way and ask for nothing."""
    content = json_object(body)
    event = text_of(content.get("webhookEvent"), 64)
    key = issue_key(inner(content, "issue", "key"))
    if event == "jira:issue_created" and key:
        return _ticket(key)
    identifier = text_of(identifier, 100) or hashlib.sha256(body).hexdigest()[:32]
    return Received("test", f"webhook:{identifier}", {"event": event})


def _ticket(key: str) -> Received:
    payload: dict[str, Any] = {"issue_key": key}
    return Received("ticket", f"issue:{key}", payload)


def require_json(content_type: str) -> None:
    """Raises Rejected for a body that is announced as something else."""
    if content_type and content_type.partition(";")[0].strip().lower() not in ("application/json", "text/plain"):
        raise Rejected(415, "content_type", "Send the body as application/json.")
