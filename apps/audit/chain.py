"""The hashes and signatures of the audit chain, as pure functions (docs/decisions/0005-audit-chain.md).

Everything is SHA-256 over a JSON list of texts and numbers without spaces, so that other tools can compute it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

GENESIS = bytes(32)
# SQL of each column that version 1 of the row digest covers, in order; e is the event, a its actor, t its target.
# JSON columns as PostgreSQL's own text: numbers keep every digit and keys one order.
COLUMNS_V1 = (
    "e.schema_version",
    "e.organization_id",
    "e.at",
    "e.actor_kind",
    "e.actor_id",
    "a.key",
    "encode(a.commitment, 'hex')",
    "e.action",
    "e.outcome",
    "e.target_kind",
    "e.target_id",
    "t.key",
    "encode(t.commitment, 'hex')",
    "e.target_ref",
    "e.operation_id",
    "e.operation_number",
    "e.rule_id",
    "e.rule_name",
    "e.rule_version",
    "e.group_name",
    "e.reason",
    "e.before::text",
    "e.after::text",
    "e.correlation_id::text",
    "e.request_id",
    "e.call_id",
    "e.http_request_id",
    "host(e.ip_address)",
)
AT = COLUMNS_V1.index("e.at")
ROWS_SQL = (
    f"SELECT e.id, {', '.join(COLUMNS_V1)}"
    " FROM audit_auditevent e"
    " LEFT JOIN audit_auditidentity a ON a.id = e.actor_id"
    " LEFT JOIN audit_auditidentity t ON t.id = e.target_id"
)


def _sha(parts: Sequence[Any]) -> bytes:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()).digest()


def instant(at: datetime) -> str:
    """`at` as the chain writes it: UTC with six digits, whatever the time zone of the session."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def commitment(salt: bytes, kind: str, key: str, name: str, email: str) -> bytes:
    """What events are hashed with instead of a name: proves it while the salt is kept, says nothing once it is gone."""
    return _sha(["aum-identity", salt.hex(), kind, key, name, email])


def row_digest(columns: Sequence[Any]) -> bytes:
    """32 bytes over one row of ROWS_SQL without its id; the id stands beside the digest in the segment."""
    parts = list(columns)
    parts[AT] = instant(parts[AT])
    return _sha(parts)


def segment_root(digests: bytes) -> bytes:
    """32 bytes over the whole list of ids and digests."""
    return hashlib.sha256(digests).digest()


def segment_head(
    *,
    organization_id: int,
    number: int,
    first_id: int,
    last_id: int,
    count: int,
    root: bytes,
    previous_head: bytes,
    sealed_at: datetime,
) -> bytes:
    """32 bytes that stand for this segment and, through `previous_head`, for all before it."""
    return _sha(
        [
            "aum-segment",
            organization_id,
            number,
            first_id,
            last_id,
            count,
            root.hex(),
            previous_head.hex(),
            instant(sealed_at),
        ]
    )


def checkpoint_message(
    *, organization_id: int, number: int, last_id: int, head: bytes, rows: int, purged_at: datetime
) -> bytes:
    """What a checkpoint's signature covers."""
    return _sha(["aum-checkpoint", organization_id, number, last_id, head.hex(), rows, instant(purged_at)])


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key pair; `key_id` is the start of the SHA-256 of its public half."""

    key_id: str
    private: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        try:
            self.private.public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True


def signing_keys() -> list[SigningKey]:
    """The keys of AUM_AUDIT_SIGNING_KEY: hex seeds, separated by commas; the first signs, all of them verify.

    Raises ImproperlyConfigured when one is not 64 hexadecimal digits.
    """
    keys = []
    for seed in settings.AUM_AUDIT_SIGNING_KEY.replace("\n", ",").split(","):
        if not seed.strip():
            continue
        try:
            private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed.strip()))
        except ValueError as error:
            raise ImproperlyConfigured(
                "AUM_AUDIT_SIGNING_KEY must be 64 hexadecimal digits; see docs/audit.md."
            ) from error
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        keys.append(SigningKey(hashlib.sha256(public).hexdigest()[:16], private))
    if not keys:
        raise ImproperlyConfigured("AUM_AUDIT_SIGNING_KEY is empty; see docs/audit.md.")
    return keys
