"""Advisory locks of the audit log: two numbers, the purpose and the organisation."""

from __future__ import annotations

# Held shared by whoever appends events, until commit; the sealer takes it alone while it reads max(id).
WRITERS = 0x41554D01
# Held alone by whoever seals or purges one organisation.
SEALER = 0x41554D02
# Held alone by whoever makes partitions; the second number is 0.
PARTITIONS = 0x41554D03
# Held alone by whoever clears or archives the log of one organisation.
CLEARING = 0x41554D04


def lock_key(purpose: int, organization_id: int = 0) -> tuple[int, int]:
    """The two int4 of the lock. Ids beyond 2^31 share locks with small ones, which only makes them wait."""
    return purpose, organization_id % 2**31
