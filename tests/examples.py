"""How many examples a property is tried with: 200 each time, 2,000 in `script/test --full` (DECISIONS.md §26)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("AUM_EXAMPLES", "200"))
# For a property over rows of the database: one example is a transaction that is taken back.
OVER_ROWS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
OVER_VALUES = settings(max_examples=EXAMPLES, deadline=None)
