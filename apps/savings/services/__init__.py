"""Everything that can happen to ledger, snapshots and insights."""

from apps.savings.services.insights import (
    MAX_SNOOZE_DAYS,
    SNOOZE_DAYS,
    NotPutAside,
    dismiss_insight,
    reopen_insight,
    snooze_insight,
)
from apps.savings.services.ledger import end_returned, post_missing, post_operation
from apps.savings.services.rounds import after_sync, daily, sweep
from apps.savings.services.snapshots import take_snapshot

__all__ = [
    "MAX_SNOOZE_DAYS",
    "SNOOZE_DAYS",
    "NotPutAside",
    "after_sync",
    "daily",
    "dismiss_insight",
    "end_returned",
    "post_missing",
    "post_operation",
    "reopen_insight",
    "snooze_insight",
    "sweep",
    "take_snapshot",
]
