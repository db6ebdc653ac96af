"""What the pages of operations take: who an action is for, and the confirmations before something is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django import forms
from django.http import QueryDict

from apps.operations.actions import ADMINISTRATIVE, LEAVING, OF_GROUPS, REGISTRY
from apps.operations.planning import group_refusal
from apps.operations.selection import AccountsSelection, ActionSpec, FilterSelection, Selection
from apps.organizations.models import Directory, Organization
from apps.users.models import Account, Group, Product
from apps.users.selectors import AccountFilters
from aum.common.errors import InvalidInput

# What the users pages offer as user actions; groups have a choice of their own beside it.
USER_ACTIONS = (
    "suspend",
    "restore",
    "deactivate",
    "activate",
    "remove_product_access",
    "delete",
    "cancel_delete",
    "remove_from_directory",
)
NOBODY = "Select at least one user."
NO_ACTION = "Choose a user action or a group action."
MAX_GROUPS = 50


@dataclass(frozen=True)
class Wanted:
    """Actions and whom they are for, as a form asked. `user_action` and `group_action` may be empty, not both.

    `fields`: what carries the same question on to the page that asks for groups and products.
    """

    user_action: str
    group_action: str
    group_ids: tuple[int, ...]
    products: tuple[str, ...]
    selection: Selection
    whom: str
    fields: tuple[tuple[str, str], ...]
    # "all" or "products": whether a suspension is of everything or of chosen products (S99); empty: still to be asked.
    scope: str = "all"

    @property
    def is_complete(self) -> bool:
        """Whether every action has its targets."""
        has_groups = not self.group_action or bool(self.group_ids)
        has_scope = not self.asks_scope or bool(self.scope)
        return has_groups and has_scope and (not self.asks_products or bool(self.products))

    @property
    def asks_scope(self) -> bool:
        """Whether a suspension of several people may be of chosen products only."""
        return dict(self.fields).get("action") == "suspend"

    @property
    def asks_products(self) -> bool:
        return self.user_action == "remove_product_access"

    @property
    def only_account_id(self) -> str:
        """The one person whom it is about; empty for several or a filter."""
        ids = self.selection.account_ids if isinstance(self.selection, AccountsSelection) else ()
        return ids[0] if len(ids) == 1 else ""

    @property
    def actions(self) -> list[ActionSpec]:
        specs = [ActionSpec(self.group_action, group_ids=self.group_ids)] if self.group_action else []
        if self.user_action:
            specs.append(ActionSpec(self.user_action, products=self.products if self.asks_products else ()))
        return specs

    @property
    def name(self) -> str:
        """The operation's name: "Add user to group, Suspend: 14 selected users"."""
        ordered = sorted(self.actions, key=lambda spec: REGISTRY[spec.name].rank)
        return f"{', '.join(REGISTRY[spec.name].label for spec in ordered)}: {self.whom}"[:200]


def wanted(data: QueryDict, organization: Organization) -> Wanted:
    """Read the bulk bar (`action`, `group_action`, `accounts` or `all` with `filters`) or one person's button.

    A button names `only=suspend:12`. `groups` (our keys) and `products` may still be missing; then the result is not
    complete. Raises InvalidInput with sentences for people.
    """
    only, _, key = data.get("only", "").partition(":")
    is_group = only in OF_GROUPS
    user_action = ("" if is_group else only) if only else data.get("action", "")
    group_action = (only if is_group else "") if only else data.get("group_action", "")
    if user_action and user_action not in USER_ACTIONS:
        raise InvalidInput(fields={"action": ["Choose a user action from the list."]})
    if group_action and group_action not in OF_GROUPS:
        raise InvalidInput(fields={"group_action": ["Choose a group action from the list."]})
    if not user_action and not group_action:
        raise InvalidInput(NO_ACTION)
    scope = "all"
    if user_action == "suspend" and not only:
        scope = data.get("scope", "") if data.get("scope") in ("all", "products") else ""
    selection, whom, fields = _selected([key] if only else None, data, organization)
    if only:
        fields = [("only", data.get("only", ""))]
    else:
        fields = [("action", user_action), ("group_action", group_action), *fields]
    if user_action == "suspend" and scope == "products":
        # "Suspend in selected products" takes the ways to these products; the account stays enabled (DECISIONS.md §7).
        user_action = "remove_product_access"
    return Wanted(
        user_action,
        group_action,
        tuple(keys_of(data.getlist("groups"))[:MAX_GROUPS]) if group_action else (),
        tuple(value for value in dict.fromkeys(data.getlist("products")) if value in Product.values),
        selection,
        whom,
        tuple(fields),
        scope,
    )


def _selected(
    only: list[str] | None, data: QueryDict, organization: Organization
) -> tuple[Selection, str, list[tuple[str, str]]]:
    """(selection, in words, the fields that carry it)."""
    if only is None and "all" in data:
        text = data.get("filters", "")[:8000]
        filters, errors = AccountFilters.parse(QueryDict(text))
        if errors:
            raise InvalidInput("The filters could not be read. Set them again.")
        params: dict[str, list[str]] = {}
        for name, value in filters.as_params():
            params.setdefault(name, []).append(value)
        whom = "all users that match" if params else "all users"
        return FilterSelection(params), whom, [("all", "1"), ("filters", text)]
    given = [part for text in data.getlist("accounts") for part in text.split(",")]
    pks = keys_of(given if only is None else only)
    people = list(
        Account.objects.of(organization).filter(pk__in=pks).order_by("pk").values_list("pk", "account_id", "name")
    )
    if not people:
        raise InvalidInput(NOBODY)
    whom = people[0][2] or people[0][1] if len(people) == 1 else f"{len(people):,} selected users"
    selection = AccountsSelection(tuple(account_id for _, account_id, _ in people))
    return selection, whom, [("accounts", str(pk)) for pk, _, _ in people]


def keys_of(texts: Sequence[str]) -> list[int]:
    """The keys among `texts`, each once; anything else is dropped."""
    return list(dict.fromkeys(int(t) for t in texts if t.isascii() and t.isdecimal() and len(t) < 19))


class DayForm(forms.Form):
    """The day of which all runs are undone, in UTC as the screens are."""

    day = forms.DateField(
        label="Day (UTC)",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text="All live runs that started on it.",
        error_messages={"invalid": "Choose a day, such as 2026-11-24.", "required": "Choose a day."},
    )


@dataclass(frozen=True)
class GroupChoice:
    """One group of the selector. `refusal` says why it cannot be chosen; empty when it can."""

    pk: int
    label: str
    is_chosen: bool
    refusal: str


GROUPS_SHOWN = 30


def group_choices(
    organization: Organization, action: str, *, search: str, chosen: Sequence[int], held_by: str = ""
) -> tuple[list[GroupChoice], bool]:
    """The selector's groups, those chosen first, and whether more match than are shown.

    `held_by`: the one person (Atlassian id) whose groups are offered for a removal, instead of all.
    """
    known = Group.objects.of(organization).filter(vanished_at__isnull=True).select_related("directory")
    found = known.exclude(pk__in=chosen).order_by("name", "pk")
    if search:
        found = found.filter(name__icontains=search)
    if action in ADMINISTRATIVE:
        found = found.filter(is_administrative=True)
    if held_by and action in LEAVING:
        held = Account.objects.of(organization).filter(account_id=held_by).values_list("group_ids", flat=True).first()
        found = found.filter(pk__in=held or [])
    rows = list(found[: GROUPS_SHOWN + 1])
    shown = [*(known.filter(pk__in=chosen).order_by("name", "pk") if chosen else []), *rows[:GROUPS_SHOWN]]
    names_places = Directory.objects.of(organization).count() > 1
    return [
        GroupChoice(
            group.pk,
            f"{group.name}, {group.directory.name}" if names_places else group.name,
            group.pk in chosen,
            group_refusal(group, action),
        )
        for group in shown
    ], len(rows) > GROUPS_SHOWN


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
