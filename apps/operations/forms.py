"""What the pages of operations take: who an action is for, and the confirmations before something is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.http import QueryDict

from apps.operations.actions import REGISTRY
from apps.operations.selection import AccountsSelection, FilterSelection, Selection
from apps.organizations.models import Organization
from apps.users.models import Account
from apps.users.selectors import AccountFilters
from aum.common.errors import InvalidInput

# What the users pages offer; group actions and deletion need further questions.
USER_ACTIONS = ("suspend", "restore", "deactivate", "activate")
NOBODY = "Select at least one user."


@dataclass(frozen=True)
class Wanted:
    """An action and whom it is for. `params` stay empty for named people."""

    action: str
    selection: Selection
    name: str


def wanted(data: QueryDict, organization: Organization) -> Wanted:
    """Read the bulk bar (`action`, `accounts` or `all` with `filters`) or one person's button (`only=suspend:12`).

    Raises InvalidInput with sentences for people.
    """
    only, _, key = data.get("only", "").partition(":")
    action = only or data.get("action", "")
    if action not in USER_ACTIONS:
        raise InvalidInput("Choose a user action.")
    label = REGISTRY[action].label
    if not only and "all" in data:
        filters, errors = AccountFilters.parse(QueryDict(data.get("filters", "")[:8000]))
        if errors:
            raise InvalidInput("The filters could not be read. Set them again.")
        params: dict[str, list[str]] = {}
        for name, value in filters.as_params():
            params.setdefault(name, []).append(value)
        return Wanted(
            action, FilterSelection(params), f"{label}: all users that match" if params else f"{label}: all users"
        )
    keys = [key] if only else data.getlist("accounts")
    pks = [int(text) for text in keys if text.isascii() and text.isdecimal() and len(text) < 19]
    people = list(Account.objects.of(organization).filter(pk__in=pks).order_by("pk").values_list("account_id", "name"))
    if not people:
        raise InvalidInput(NOBODY)
    whom = people[0][1] or people[0][0] if len(people) == 1 else f"{len(people)} selected users"
    return Wanted(action, AccountsSelection(tuple(account_id for account_id, _ in people)), f"{label}: {whom}"[:200])


@dataclass(frozen=True)
class Confirmation:
    """A question before something happens: a dialog, or a page of its own.

    `count` is the number that has to be typed; None for a plain confirmation. `tick` is a sentence to be ticked.
    """

    title: str
    url: str
    button: str
    points: Sequence[str] = ()
    count: int | None = None
    count_hint: str = ""
    tick: str = ""
    asks_password: bool = False
    asks_reason: bool = False
    is_reason_required: bool = False
    is_danger: bool = True
    plan_hash: str = ""
    back: str = ""
    errors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reason: str = ""

    def refused(self, data: QueryDict) -> dict[str, list[str]]:
        """What is wrong with an answer; empty when it confirms. The password is judged by the service."""
        errors: dict[str, list[str]] = {}
        if self.count is not None and typed_count(data) != self.count:
            errors["confirm_count"] = [f"Type {self.count}, the number of users."]
        if self.tick and "tick" not in data:
            errors["tick"] = ["Tick this to go on."]
        if self.is_reason_required and not data.get("reason", "").strip():
            errors["reason"] = ["Say why."]
        return errors


def typed_count(data: QueryDict) -> int | None:
    """The number typed, with or without thousands separators; None for anything else."""
    text = data.get("confirm_count", "").strip().replace(",", "").replace(" ", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
