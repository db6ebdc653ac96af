"""From a checked file, or typed addresses, to a plan: the file says who, the operator says what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db import transaction
from django.db.models import QuerySet

from apps.operations.actions import REGISTRY
from apps.operations.models import Operation
from apps.operations.selection import AccountsSelection, ActionSpec, InviteSelection
from apps.operations.services import invites
from apps.operations.services.plans import plan_operation
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import Group, ImportFile, ImportRow
from apps.users.selectors.imports import chosen_account_ids, product_places
from apps.users.services.imports import check_import
from aum.common.errors import InvalidInput

USER_ACTIONS = ("suspend", "restore", "activate", "deactivate")
GROUP_ACTIONS = ("add_to_group", "remove_from_group")
IMPORT_ACTIONS = USER_ACTIONS + GROUP_ACTIONS


@transaction.atomic
def check_file(*, file: ImportFile, mapping: Mapping[str, int]) -> ImportFile:
    """Find each line's person and what is wrong with the rest, and count who can be invited.

    Raises InvalidInput, NotReadYet.
    """
    file = check_import(file=file, mapping=mapping)
    invites.judge_file(file)
    file.counts = {**file.counts, "invitable": invites.count_invitable(file)}
    file.save(update_fields=["counts"])
    return file


def _checked(file: ImportFile) -> None:
    if file.status != ImportFile.Status.CHECKED:
        raise InvalidInput("Check the file first.")


def plan_import(
    *,
    file: ImportFile,
    rows: QuerySet[ImportRow],
    action: str,
    group_ids: Sequence[int],
    actor: Actor,
    operator: Operator | None,
    mode: str = Operation.Mode.SAFE,
    reason: str = "",
    is_by_token: bool = False,
) -> Operation:
    """Plan `action` for the people of `rows`, lines of the checked `file`; wrong lines are passed over.

    `group_ids` are our keys, for the group actions. Raises InvalidInput, and what `plan_operation` raises.
    """
    _checked(file)
    if action not in IMPORT_ACTIONS:
        raise InvalidInput("Choose an action.", fields={"action": ["Choose an action."]})
    account_ids = chosen_account_ids(rows)
    if not account_ids:
        raise InvalidInput("None of these lines names a user who is in the directory.")
    groups = tuple(group_ids) if action in GROUP_ACTIONS else ()
    return plan_operation(
        organization=file.organization,
        kind=Operation.Kind.BULK_CSV_ACTION,
        mode=mode,
        initiator=Operation.Initiator.MANUAL,
        actor=actor,
        operator=operator,
        name=file.name,
        actions=[ActionSpec(action, group_ids=groups)],
        selection=AccountsSelection(account_ids),
        reason=reason,
        is_by_token=is_by_token,
        sentence=f"{REGISTRY[action].label}: {len(account_ids):,} of {file.lines:,} lines of {file.name}.",
    )


def plan_invitations(
    *,
    organization: Organization,
    actor: Actor,
    operator: Operator | None,
    emails: Sequence[str] = (),
    file: ImportFile | None = None,
    lines: Sequence[int] | None = None,
    uses_file_grants: bool = False,
    group_ids: Sequence[int] = (),
    resources: Sequence[str] = (),
    notify: bool = False,
    message: str = "",
    mode: str = Operation.Mode.SAFE,
    reason: str = "",
    is_by_token: bool = False,
) -> Operation:
    """Plan the invitation of `emails`, or of the checked `file`'s people who are in no directory (only of `lines`).

    Everybody gets the groups `group_ids` (our keys) and the products `resources` (ARIs); with `uses_file_grants` a
    line's own ones too, and lines whose own ones cannot be given are passed over. Raises InvalidInput, and what
    `plan_operation` raises.
    """
    if file is not None:
        _checked(file)
        if not file.counts.get("invitable"):
            raise InvalidInput("Everybody in this file is in the directory already, so nobody can be invited.")
    if message and not notify:
        raise InvalidInput(fields={"message": ["A message is only sent with Atlassian’s e-mail: switch that on."]})
    groups = Group.objects.of(organization).filter(pk__in=group_ids).order_by("name").values_list("name", flat=True)
    given = [*groups, *(place.label for place in product_places(organization) if place.resource in resources)]
    whom = f"{len(emails):,} address{'' if len(emails) == 1 else 'es'}" if file is None else f"People of {file.name}"
    grants = f" with {', '.join(given)}" if given else ""
    own = " and the groups and products of each line" if uses_file_grants else ""
    return plan_operation(
        organization=organization,
        kind=Operation.Kind.USER_IMPORT,
        mode=mode,
        initiator=Operation.Initiator.MANUAL,
        actor=actor,
        operator=operator,
        name=f"Invite {whom[0].lower()}{whom[1:]}"[:200] if file is None else file.name,
        actions=[ActionSpec("invite", group_ids=tuple(group_ids))],
        selection=InviteSelection(
            emails=tuple(emails),
            import_file_id=file.pk if file else None,
            lines=None if lines is None else tuple(lines),
            uses_file_grants=uses_file_grants,
            resources=tuple(resources),
            notify=notify,
            message=message,
        ),
        reason=reason,
        is_by_token=is_by_token,
        sentence=f"{whom} {'is' if len(emails) == 1 and file is None else 'are'} invited{grants}{own}. "
        "Each new person who gets a product takes a licence of it; where none is free, Atlassian refuses and the line "
        "says so.",
    )
