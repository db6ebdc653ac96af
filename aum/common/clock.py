"""The one clock that all processes share: that of the database."""

from __future__ import annotations

from datetime import datetime

from django.db import connection


def database_now() -> datetime:
    """The present instant (aware, UTC) by the database's clock, also within a transaction.

    For leases and whatever else one machine writes and another judges: their own clocks may differ, or be moved.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row = cursor.fetchone()
    assert row is not None
    instant: datetime = row[0]
    return instant
