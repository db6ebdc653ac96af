"""What verified requests have in common, and reading JSON that a stranger sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

MAX_BODY_BYTES = 512 * 1024


class Rejected(Exception):
    """The request is not believed or cannot be read. `status` is the answer, `reason` one word for the log of refusals.

    The sentence goes to the sender and tells nothing about the secret.
    """

    def __init__(self, status: int, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.reason, self.sentence = status, reason, sentence


@dataclass(frozen=True)
class Received:
    """One verified request as it is stored: `kind` of InboundEvent, what makes it unique, and identifiers only."""

    kind: str
    dedup_key: str
    payload: dict[str, Any] = field(default_factory=dict)


def unbelieved(reason: str = "signature") -> Rejected:
    return Rejected(401, reason, "The secret or signature is missing or wrong.")


def json_object(body: bytes) -> dict[str, Any]:
    """The body as an object; raises Rejected. UTF-8 only, and a byte order mark is not content."""
    try:
        value = json.loads(body.decode("utf-8-sig"))
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise Rejected(400, "not_json", "Send one JSON object in UTF-8.") from None
    if not isinstance(value, dict):
        raise Rejected(400, "not_json", "Send one JSON object in UTF-8.")
    return value


def text_of(value: object, limit: int = 200) -> str:
    """A string or number as trimmed text of at most `limit` characters without control characters; "" otherwise."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    plain = "".join(character for character in str(value) if character.isprintable())
    return plain.encode("utf-8", "replace").decode()[:limit].strip()


def inner(value: object, *names: str) -> object:
    """`value[name][name]…` through objects; None where one is missing."""
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
