"""The evidence pack of one run (docs/evidence.md)."""

from apps.dashboard.evidence.pack import NotEnded, evidence_name, stream_evidence

__all__ = ["NotEnded", "evidence_name", "stream_evidence"]
