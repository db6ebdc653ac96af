"""The columns of the users list: which there are, and which somebody chose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.users.models import ColumnChoice


@dataclass(frozen=True)
class Column:
    """One column beside the person. `ordering`: what its heading sorts by."""

    key: str
    label: str
    ordering: str = ""
    is_default: bool = False


COLUMNS: tuple[Column, ...] = (
    Column("account_status", "Account status", is_default=True),
    Column("membership_status", "Membership", is_default=True),
    Column("claim_status", "Claim status"),
    Column("kind", "Kind"),
    Column("source", "Synced by"),
    Column("groups", "Groups", is_default=True),
    Column("added", "Added to org", "added", is_default=True),
    Column("last_login", "Last login", "last_active", is_default=True),
    Column("sites", "Products by site"),
    Column("protected", "Protected"),
    Column("exempt", "Exempt until"),
    Column("account_id", "Account id"),
)
BY_KEY = {column.key: column for column in COLUMNS}
DEFAULT = tuple(column.key for column in COLUMNS if column.is_default)


def chosen_columns(organization: Organization, operator: Operator | None) -> tuple[Column, ...]:
    """What the operator wants to see, or the default; columns that no longer exist are left out."""
    found = ColumnChoice.objects.of(organization).filter(operator=operator).first() if operator is not None else None
    return columns_of(found.columns if found is not None else DEFAULT)


def columns_of(keys: Iterable[str]) -> tuple[Column, ...]:
    """The columns of these keys in the list's own order."""
    wanted = set(keys)
    return tuple(column for column in COLUMNS if column.key in wanted)
