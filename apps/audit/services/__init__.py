"""Everything that can happen to the audit log."""

from apps.audit.services.anchoring import anchor_heads
from apps.audit.services.clearing import (
    NothingToClear,
    carry_out_clearance,
    clear_logs,
    clear_phrase,
    remove_archive,
    resume_clearances,
)
from apps.audit.services.importing import (
    AlreadyImported,
    resume_log_imports,
    retry_log_import,
    run_log_import,
    start_log_import,
)
from apps.audit.services.partitions import ensure_partitions
from apps.audit.services.purging import (
    NotADemo,
    PurgeRefused,
    erase_identity,
    erase_imported,
    forget_organization,
    purge_segments,
)
from apps.audit.services.retaining import apply_all_retention, apply_retention, register_kinds, set_retention
from apps.audit.services.sealing import seal, seal_all
from apps.audit.services.verification import Finding, VerifyReport, verify
from apps.audit.services.verifying import run_verification, start_verification
from apps.audit.services.writing import EventRow, PastEventRow, record, record_many
from apps.organizations.recorder import Actor

__all__ = [
    "Actor",
    "AlreadyImported",
    "EventRow",
    "Finding",
    "NotADemo",
    "NothingToClear",
    "PastEventRow",
    "PurgeRefused",
    "VerifyReport",
    "anchor_heads",
    "apply_all_retention",
    "apply_retention",
    "carry_out_clearance",
    "clear_logs",
    "clear_phrase",
    "ensure_partitions",
    "erase_identity",
    "erase_imported",
    "forget_organization",
    "purge_segments",
    "record",
    "record_many",
    "register_kinds",
    "remove_archive",
    "resume_clearances",
    "resume_log_imports",
    "retry_log_import",
    "run_log_import",
    "run_verification",
    "seal",
    "seal_all",
    "set_retention",
    "start_log_import",
    "start_verification",
    "verify",
]
