"""Writes to the mirror, one public function per thing that can happen."""

from apps.users.services.sync import SyncAlreadyRunning, cancel_sync, request_sync, run_sync, sweep_syncs
from apps.users.services.trust import BaselineRefused, accept_baseline

__all__ = [
    "BaselineRefused",
    "SyncAlreadyRunning",
    "accept_baseline",
    "cancel_sync",
    "request_sync",
    "run_sync",
    "sweep_syncs",
]
