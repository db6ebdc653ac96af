"""Microsoft Teams' outgoing webhook: HMAC over the raw body, with the base64-decoded token as key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterable

from apps.autoactivate.crypto import is_same
from apps.autoactivate.domains import clean_email
from apps.autoactivate.inbound.base import Received, Rejected, inner, json_object, text_of, unbelieved

_TAG = re.compile(r"<[^>]{0,500}>")


def check(header: str, body: bytes, tokens: Iterable[str]) -> None:
    """`Authorization: HMAC <base64>`; raises Rejected."""
    scheme, _, digest = header.strip().partition(" ")
    if scheme.upper() != "HMAC":
        raise unbelieved()
    made = [base64.b64encode(hmac.new(key_of(token), body, hashlib.sha256).digest()).decode() for token in tokens]
    if not sum(is_same(digest.strip(), one) for one in made):
        raise unbelieved()


def key_of(token: str) -> bytes:
    """The key inside the security token that Teams shows; raises ValueError for what is not base64."""
    try:
        return base64.b64decode(token.strip(), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def read_message(body: bytes) -> Received:
    """Who wrote to the webhook. The text may hold an address, which is only ever sent a confirmation."""
    content = json_object(body)
    if text_of(content.get("type"), 20) != "message":
        raise Rejected(400, "not_a_message", "Only messages are taken.")
    activity = text_of(content.get("id"), 100)
    if not activity:
        raise Rejected(400, "no_id", "The message has no id.")
    words = _TAG.sub(" ", str(inner(content, "text") or "")[:4000]).replace("&nbsp;", " ").split()
    email = next(filter(None, (clean_email(word.strip("<>,;")) for word in words)), "")
    conversation = text_of(inner(content, "conversation", "id"), 80)
    payload = {
        "aad_id": text_of(inner(content, "from", "aadObjectId"), 64).lower(),
        "name": text_of(inner(content, "from", "name"), 100),
        "tenant_id": text_of(inner(content, "conversation", "tenantId"), 64),
        "email": email,
    }
    digest = hashlib.sha256(f"{conversation}\n{activity}".encode()).hexdigest()[:40]
    return Received("message", f"teams:{digest}", payload)


def reply(text: str) -> bytes:
    """The synchronous answer that Teams shows under the message."""
    return json.dumps({"type": "message", "text": text}).encode()
