"""What makes two requests with one `Idempotency-Key` the same: method, address and body."""

from __future__ import annotations

from django.utils.crypto import salted_hmac

from aum.common.errors import DomainError, InvalidInput

HEADER = "Idempotency-Key"
MAX_LENGTH = 255
KEPT_HOURS = 24


class IdempotencyMismatch(DomainError):
    code = "idempotency_mismatch"
    detail = "This Idempotency-Key was used for another request. Use a new one for each thing to be done."


def clean_key(text: str) -> str:
    """The key, or an empty text for none. Raises InvalidInput for one that is too long or not printable ASCII."""
    key = text.strip()
    if len(key) > MAX_LENGTH or not key.isascii() or not (key.isprintable()):
        raise InvalidInput(fields={HEADER: [f"Use at most {MAX_LENGTH} printable ASCII characters."]})
    return key


def request_hash(method: str, path: str, body: bytes) -> str:
    """A keyed hash, because bodies may hold secrets; the same for equal requests only."""
    content = b"\0".join((method.encode(), path.encode(), body))
    return salted_hmac("aum.common.idempotency", content, algorithm="sha256").hexdigest()
