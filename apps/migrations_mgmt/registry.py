"""The data migrations that the installed code knows. Each app registers its own in its `backfills.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connection

# Of one organisation: (organization_id, after_pk, size) and (organization_id, first_pk, last_pk), else as below.
NextOfOrganization = Callable[[int, int | None, int], tuple[int, int] | None]
ApplyToOrganization = Callable[[int, int, int], int]
# (after_pk, size) → first and last primary key of the next rows, or None at the end; after_pk is None at the start.
NextBatch = Callable[[int | None, int], tuple[int, int] | None]
# (first_pk, last_pk) → how many rows were looked at. Runs in a transaction; must give the same result when repeated.
ApplyBatch = Callable[[int, int], int]


@dataclass(frozen=True)
class Spec:
    """How one data migration is cut and applied.

    With `is_per_organization` there is a row for each organisation, and the functions of `of` make the ones that cut,
    count and apply for it.
    """

    name: str
    version: int
    description: str
    apply_batch: ApplyBatch
    next_batch: NextBatch
    count: Callable[[], int]
    batch_size: int
    is_per_organization: bool = False
    next_of: NextOfOrganization | None = None
    apply_of: ApplyToOrganization | None = None
    count_of: Callable[[int], int] | None = None

    def for_organization(self, organization_id: int | None) -> Spec:
        """The same with the organisation filled in; itself for a migration of the installation."""
        if organization_id is None or not self.is_per_organization:
            return self
        next_of, apply_of, count_of = self.next_of, self.apply_of, self.count_of
        assert next_of is not None
        assert apply_of is not None
        assert count_of is not None
        return replace(
            self,
            next_batch=lambda after, size: next_of(organization_id, after, size),
            apply_batch=lambda first, last: apply_of(organization_id, first, last),
            count=lambda: count_of(organization_id),
        )


_specs: dict[tuple[str, int], Spec] = {}


def register(
    name: str,
    version: int,
    *,
    description: str,
    apply_batch: ApplyBatch,
    table: str = "",
    next_batch: NextBatch | None = None,
    count: Callable[[], int] | None = None,
    batch_size: int = 5000,
) -> Spec:
    """Make a data migration known; it starts by itself and is driven by the task `migrations.advance`.

    Either `table` (its column `id` cuts the batches) or both `next_batch` and `count`. `apply_batch` carries its own
    small queries and imports no model, because it outlives the code around it. Raises ImproperlyConfigured when (name,
    version) is taken or neither way of cutting is given.
    """
    if (name, version) in _specs:
        raise ImproperlyConfigured(f"The backfill {name} v{version} is registered twice.")
    if table:
        next_batch, count = next_batch or by_id(table), count or rows_of(table)
    if next_batch is None or count is None:
        raise ImproperlyConfigured(f"The backfill {name} v{version} needs a table, or next_batch and count.")
    spec = Spec(name, version, description, apply_batch, next_batch, count, batch_size)
    _specs[name, version] = spec
    return spec


def register_per_organization(
    name: str,
    version: int,
    *,
    description: str,
    apply_of: ApplyToOrganization,
    next_of: NextOfOrganization,
    count_of: Callable[[int], int],
    batch_size: int = 5000,
) -> Spec:
    """As `register`, with a row of its own for each organisation: one can be retried without touching the others."""
    if (name, version) in _specs:
        raise ImproperlyConfigured(f"The backfill {name} v{version} is registered twice.")
    spec = Spec(
        name,
        version,
        description,
        apply_batch=_needs_organization,
        next_batch=_needs_organization,
        count=_needs_organization,
        batch_size=batch_size,
        is_per_organization=True,
        next_of=next_of,
        apply_of=apply_of,
        count_of=count_of,
    )
    _specs[name, version] = spec
    return spec


def _needs_organization(*_arguments: object) -> Any:
    raise ImproperlyConfigured("This data migration runs for one organisation at a time.")


def unregister(spec: Spec) -> None:
    """Forget `spec`; its rows stay."""
    _specs.pop((spec.name, spec.version), None)


def specs() -> list[Spec]:
    """All known data migrations in the order of their registration."""
    return list(_specs.values())


def spec_of(name: str, version: int) -> Spec | None:
    """The data migration, or None when the installed code does not know it any more."""
    return _specs.get((name, version))


def by_id(table: str) -> NextBatch:
    """Cuts `table` into runs of its primary key `id`."""
    quoted = connection.ops.quote_name(table)

    def next_batch(after_pk: int | None, size: int) -> tuple[int, int] | None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT min(id), max(id) FROM"
                f" (SELECT id FROM {quoted} WHERE %s::bigint IS NULL OR id > %s ORDER BY id LIMIT %s) AS next_rows",
                [after_pk, after_pk, size],
            )
            first, last = cursor.fetchone()
        return None if first is None else (first, last)

    return next_batch


def rows_of(table: str) -> Callable[[], int]:
    """Counts `table`."""
    quoted = connection.ops.quote_name(table)

    def count() -> int:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {quoted}")
            return int(cursor.fetchone()[0])

    return count
