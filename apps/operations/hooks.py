"""What higher apps learn from operations: they add functions to these lists in `AppConfig.ready`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from apps.operations.models import Operation
from apps.organizations.models import Organization

# A live undo of `operation` begins: a rule pauses itself, so that it does not take everything again tonight.
on_undo_started: list[Callable[[Operation], None]] = []
# An operation reached a final status (in its transaction).
on_finished: list[Callable[[Operation], None]] = []


# Further gates of a live plan: each returns None, or (code, sentence) why it is held. The notice gate registers here.
Gate = Callable[[Operation], "tuple[str, str] | None"]
plan_gates: list[Gate] = []

# Per-account gates at recheck: account keys → those that must be skipped, with outcome code and sentence.
RecheckGate = Callable[[Organization, Operation, list[int], datetime], "dict[int, tuple[str, str]]"]
recheck_gates: list[RecheckGate] = []
