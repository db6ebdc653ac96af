"""SQL building blocks that indexes and queries share, so that their texts agree and PostgreSQL recognises the index."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Func
from django.db.models.fields import CharField


class SortInstant(Func):
    """An instant as a NOT NULL sort key: one that is not there sorts before all others.

    Keyset paging compares rows, and a row comparison with NULL is not true in either direction.
    """

    function = "COALESCE"
    template = "COALESCE(%(expressions)s, '-infinity'::timestamptz)"
    arity = 1

    def __init__(self, expression: Any, **extra: Any) -> None:
        super().__init__(expression, output_field=models.DateTimeField(), **extra)


@CharField.register_lookup
class Like(models.Lookup):
    """`column LIKE pattern` with a ready pattern: case-sensitive, for columns that are stored folded."""

    lookup_name = "like"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        left, left_parameters = self.process_lhs(compiler, connection)
        right, right_parameters = self.process_rhs(compiler, connection)
        return f"{left} LIKE {right}", (*left_parameters, *right_parameters)


@CharField.register_lookup
class ILike(models.Lookup):
    """`column ILIKE pattern`: Django's icontains writes UPPER(), which no trigram index serves (PERFORMANCE.md 3)."""

    lookup_name = "ilike"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        left, left_parameters = self.process_lhs(compiler, connection)
        right, right_parameters = self.process_rhs(compiler, connection)
        return f"{left} ILIKE {right}", (*left_parameters, *right_parameters)
