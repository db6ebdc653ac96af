"""Many figures over the same people in one reading of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import BooleanField, Count, ExpressionWrapper, Q, QuerySet

from apps.users.models import Account

TOTAL = "total"


@dataclass(frozen=True)
class Tally:
    """Figures of people by which of the shared conditions they meet: one entry for each combination that occurs."""

    rows: tuple[tuple[frozenset[str], Mapping[str, int]], ...]

    def sum(self, figure: str = TOTAL, *met: str) -> int:
        """The figure over those who meet all of `met`; without a figure, how many there are."""
        return sum(found[figure] for keys, found in self.rows if keys.issuperset(met))


def tally(people: QuerySet[Account], shared: Mapping[str, Q], figures: Mapping[str, Q]) -> Tally:
    """Count `people` and those of them who meet the condition of each figure, by the conditions `shared`.

    What several figures ask for belongs to `shared`: it is worked out once a person. Booleans to group by let the
    planner see that there are few groups, so that each process adds up its own; a CASE it takes to have tens of
    thousands of values, and sorts everybody on disk. Each more doubles what it expects: a dozen is the most.
    """
    keys = {f"key_{number}": ExpressionWrapper(q, BooleanField()) for number, q in enumerate(shared.values())}
    counts = {f"figure_{number}": Count("pk", filter=q) for number, q in enumerate(figures.values())}
    rows = people.order_by().annotate(**keys).values(*keys).annotate(**{TOTAL: Count("pk")}, **counts)
    return Tally(
        tuple(
            (
                frozenset(name for name, key in zip(shared, keys, strict=True) if row[key]),
                {TOTAL: row[TOTAL], **{name: row[key] for name, key in zip(figures, counts, strict=True)}},
            )
            for row in rows
        )
    )
