"""Everything that can happen to the audit log."""

from apps.audit.services.write import EventRow, record, record_many
from apps.organizations.recorder import Actor

__all__ = ["Actor", "EventRow", "record", "record_many"]
