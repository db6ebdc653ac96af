"""The version of an organisation's mirror: counts are cached under it until the next sync or change of our own."""

from __future__ import annotations

import uuid

from django.core.cache import cache
from django.db import transaction

VERSION_SECONDS = 24 * 3600


def mirror_changed(organization: int) -> None:
    """Make cached figures of the organisation stale once the present transaction has committed."""
    transaction.on_commit(lambda: cache.set(version_key(organization), uuid.uuid4().hex, VERSION_SECONDS))


def version_key(organization: int) -> str:
    return f"users:mirror:{organization}"
