"""Reads of the mirror. Each name is importable from here; nothing in this package changes anything."""

from apps.users.selectors.trust import (
    DataTrust,
    data_trust,
    last_trusted_sync,
    latest_merged_sync,
    latest_sync,
)

__all__ = [
    "DataTrust",
    "data_trust",
    "last_trusted_sync",
    "latest_merged_sync",
    "latest_sync",
]
