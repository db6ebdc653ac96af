"""Which columns of the users list somebody sees: a setting of the person, like the theme."""

from __future__ import annotations

from collections.abc import Sequence

from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.users.models import ColumnChoice
from apps.users.selectors.columns import BY_KEY, COLUMNS
from aum.common.errors import InvalidInput


def choose_columns(*, organization: Organization, operator: Operator, columns: Sequence[str]) -> tuple[str, ...]:
    """Keep the columns that `operator` wants beside the person; none is a choice too. Raises InvalidInput."""
    if any(key not in BY_KEY for key in columns):
        raise InvalidInput(fields={"columns": [f"Choose from {', '.join(BY_KEY)}."]})
    keys = [column.key for column in COLUMNS if column.key in columns]
    ColumnChoice.objects.update_or_create(organization=organization, operator=operator, defaults={"columns": keys})
    return tuple(keys)


def reset_columns(*, organization: Organization, operator: Operator) -> None:
    """Back to the columns that everybody starts with."""
    ColumnChoice.objects.of(organization).filter(operator=operator).delete()
