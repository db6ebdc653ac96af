"""What higher apps learn from operations: they add functions to these lists in `AppConfig.ready`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.db.models import Q

from apps.operations.models import Operation, SafeguardChange
from apps.organizations.models import Organization

# A live undo of `operation` begins: a rule pauses itself, so that it does not take everything again tonight.
on_undo_started: list[Callable[[Operation], None]] = []
# An operation reached a final status (in its transaction).
on_finished: list[Callable[[Operation], None]] = []
# Lines of work for the identity provider were opened for an operation that ended (in its transaction).
on_handed_off: list[Callable[[Operation], None]] = []

# A plan's items are made and not yet frozen (in the transaction that freezes them): what must not be in is taken out.
on_items_made: list[Callable[[Operation], None]] = []

# Looser safeguards of a rule: why one cannot be made any more, and making it (in the transaction that ends its wait).
rule_change_obstacles: list[Callable[[SafeguardChange], str]] = []
on_rule_change_due: list[Callable[[SafeguardChange], None]] = []

# Further gates of a live plan: each returns None, or (code, sentence) why it is held. The notice gate registers here.
Gate = Callable[[Operation], "tuple[str, str] | None"]
plan_gates: list[Gate] = []

# Conditions on people of a rule's plan, in SQL: operation and moment → (whom it must leave out, the reason's code).
# None: no condition. They hold for the plan and again at each recheck; `clock` is when a person's idle clock started.
SelectionGate = Callable[[Operation, datetime], "tuple[Q, str] | None"]
selection_gates: list[SelectionGate] = []

# Per-account gates at recheck: account keys → those that must be skipped, with outcome code and sentence.
RecheckGate = Callable[[Organization, Operation, list[int], datetime], "dict[int, tuple[str, str]]"]
recheck_gates: list[RecheckGate] = []
