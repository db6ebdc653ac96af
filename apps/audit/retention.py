"""The kinds of records that can be removed by age. Each app that has one registers it in `AppConfig.ready`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from apps.organizations.models import Organization

# (organisation, instant) → how many records older than it were removed. Runs again after a kill.
Remove = Callable[[Organization, datetime], int]


@dataclass(frozen=True)
class RetentionKind:
    """One kind of record: its key, its name, and what its removal means."""

    key: str
    label: str
    hint: str
    remove: Remove


_kinds: dict[str, RetentionKind] = {}


def register(kind: RetentionKind) -> None:
    """Make a kind known; one of the same key is replaced."""
    _kinds[kind.key] = kind


def kinds() -> list[RetentionKind]:
    """All kinds in the order of their registration."""
    return list(_kinds.values())


def kind_of(key: str) -> RetentionKind | None:
    """The kind, or None when nobody registered it."""
    return _kinds.get(key)
