"""Everything that can happen to the audit log."""

from apps.audit.services.anchoring import anchor_heads
from apps.audit.services.partitions import ensure_partitions
from apps.audit.services.purging import NotADemo, PurgeRefused, erase_identity, forget_organization, purge_segments
from apps.audit.services.sealing import seal, seal_all
from apps.audit.services.verification import Finding, VerifyReport, verify
from apps.audit.services.writing import EventRow, record, record_many
from apps.organizations.recorder import Actor

__all__ = [
    "Actor",
    "EventRow",
    "Finding",
    "NotADemo",
    "PurgeRefused",
    "VerifyReport",
    "anchor_heads",
    "ensure_partitions",
    "erase_identity",
    "forget_organization",
    "purge_segments",
    "record",
    "record_many",
    "seal",
    "seal_all",
    "verify",
]
