"""What the log knows of operations, which stand above it: a higher app registers an `OperationLookup`.

Also whether the words of all sealed events are stored, which the data migrations above know; and who above hears of
events as they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from apps.organizations.models import Organization
from apps.organizations.recorder import Actor


@dataclass(frozen=True, slots=True)
class OperationFacts:
    """What a line of the log says about the operation that it belongs to."""

    name: str
    kind: str
    kind_label: str


class OperationLookup(Protocol):
    """Questions about operations; keys are those that events carry as `operation_id`."""

    def facts(self, ids: Collection[int]) -> Mapping[int, OperationFacts]:
        """Name and kind of each."""
        ...

    def of_kinds(self, organization: Organization, kinds: Collection[str]) -> Iterable[int]:
        """Operations of these kinds, or a queryset of their keys."""
        ...

    def of_statuses(self, organization: Organization, words: Collection[str]) -> Iterable[int]:
        """Operations whose status is one of the log's words (`partial`, `progress`, `ended`), or a queryset."""
        ...

    def named(self, organization: Organization, text: str) -> Mapping[int, datetime]:
        """Operations whose name or kind holds `text`, and when each was made; at most a thousand, the newest."""
        ...


class NoOperations:
    """Answers as long as nobody registered."""

    def facts(self, ids: Collection[int]) -> Mapping[int, OperationFacts]:
        return {}

    def of_kinds(self, organization: Organization, kinds: Collection[str]) -> Iterable[int]:
        return []

    def of_statuses(self, organization: Organization, words: Collection[str]) -> Iterable[int]:
        return []

    def named(self, organization: Organization, text: str) -> Mapping[int, datetime]:
        return {}


class Written(Protocol):
    """What a listener reads of a row that was just written (`apps.audit.services.EventRow`)."""

    actor: Actor
    action: str
    target_kind: str
    target_ref: str
    target_name: str
    target_email: str
    outcome: str
    after: Mapping[str, Any] | None
    reason: str
    operation_id: int | None
    operation_number: int | None
    rule_id: int | None
    rule_name: str


Listener = Callable[[Organization, Sequence[Written]], None]

_lookup: OperationLookup = NoOperations()
# Action → who hears of it, in the transaction that writes the row: what a listener stores is there if the row is.
_listeners: dict[str, Listener] = {}
# True when every sealed event of the organisation has its words in AuditSearch.
_words_complete: Callable[[Organization], bool] = lambda organization: False  # noqa: E731


def register_operations(lookup: OperationLookup) -> None:
    """Make `lookup` the one that answers; `DashboardConfig.ready` does it once."""
    global _lookup
    _lookup = lookup


def register_words_complete(answer: Callable[[Organization], bool]) -> None:
    """Make `answer` say whether the words of all sealed events are stored."""
    global _words_complete
    _words_complete = answer


def listen(actions: Iterable[str], listener: Listener) -> None:
    """Call `listener` with the rows of these actions, in the writer's transaction; one listener to an action."""
    _listeners.update(dict.fromkeys(actions, listener))


def tell(organization: Organization, rows: Iterable[Written]) -> None:
    """Hand rows that somebody listens to over, those of one listener together."""
    heard: dict[Listener, list[Written]] = {}
    for row in rows:
        listener = _listeners.get(row.action)
        if listener is not None:
            heard.setdefault(listener, []).append(row)
    for listener, found in heard.items():
        listener(organization, found)


def operations() -> OperationLookup:
    """The registered lookup."""
    return _lookup


def words_complete(organization: Organization) -> bool:
    """Whether a search may rely on AuditSearch for everything that is sealed."""
    return _words_complete(organization)
