"""From a checked file to a plan: the file says who, the operator says what."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import QuerySet

from apps.operations.actions import REGISTRY
from apps.operations.models import Operation
from apps.operations.selection import AccountsSelection, ActionSpec
from apps.operations.services.plans import plan_operation
from apps.operators.models import Operator
from apps.organizations.recorder import Actor
from apps.users.models import ImportFile, ImportRow
from apps.users.selectors.imports import chosen_account_ids
from aum.common.errors import InvalidInput

USER_ACTIONS = ("suspend", "restore", "deactivate", "activate")
GROUP_ACTIONS = ("add_to_group", "remove_from_group")
IMPORT_ACTIONS = USER_ACTIONS + GROUP_ACTIONS


def plan_import(
    *,
    file: ImportFile,
    rows: QuerySet[ImportRow],
    action: str,
    group_ids: Sequence[int],
    actor: Actor,
    operator: Operator | None,
) -> Operation:
    """Plan `action` in Safe mode for the people of `rows`, lines of the checked `file`; wrong lines are passed over.

    `group_ids` are our keys, for the group actions. Raises InvalidInput, and what `plan_operation` raises.
    """
    if file.status != ImportFile.Status.CHECKED:
        raise InvalidInput("Check the file first.")
    if action not in IMPORT_ACTIONS:
        raise InvalidInput("Choose an action.", fields={"action": ["Choose an action."]})
    account_ids = chosen_account_ids(rows)
    if not account_ids:
        raise InvalidInput("None of these lines names a user who is in the directory.")
    groups = tuple(group_ids) if action in GROUP_ACTIONS else ()
    return plan_operation(
        organization=file.organization,
        kind=Operation.Kind.BULK_CSV_ACTION,
        mode=Operation.Mode.SAFE,
        initiator=Operation.Initiator.MANUAL,
        actor=actor,
        operator=operator,
        name=file.name,
        actions=[ActionSpec(action, group_ids=groups)],
        selection=AccountsSelection(account_ids),
        sentence=f"{REGISTRY[action].label}: {len(account_ids):,} of {file.lines:,} lines of {file.name}.",
    )
