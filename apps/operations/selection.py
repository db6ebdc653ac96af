"""What a plan is made from, as data: a planning that was killed is taken up by another worker from the same JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True)
class IdleSelection:
    """People whom a cleanup rule is about: last login, state and conditions, all at once.

    `inactive_days` None: last login does not matter, or only that there was none (`include_never_active`). `states`:
    one of `planning.STATES`. `status_days`: in the present status for more than that. `conditions`: JSON of
    `users.predicates.Condition`, a shared view's filters among them as they stood when the plan was asked for.
    `per_product`: each target product is judged by its own last login (S152); else idleness is measured over
    `inactive_products`, or over all products when that is empty. `target_group_ids` None means everybody.
    """

    inactive_days: int | None
    inactive_products: tuple[str, ...] = ()
    per_product: bool = False
    include_never_active: bool = False
    never_active_days: int | None = None
    target_group_ids: tuple[int, ...] | None = None
    protected_group_ids: tuple[int, ...] = ()
    states: str = "active"
    status_days: int | None = None
    conditions: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class FilterSelection:
    """Everybody whom the explorer's filter shows at planning time; `params` are its query parameters."""

    params: Mapping[str, list[str]]
    protected_group_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class AccountsSelection:
    """Named people, by Atlassian's account ids."""

    account_ids: tuple[str, ...]
    protected_group_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class InviteSelection:
    """People to invite by e-mail: typed ones, or those of an import's lines (None: of all that can be invited).

    `resources`: ARIs of the products that everybody gets, as a sync found them; groups stand in the ActionSpec.
    `uses_file_grants`: a line's own groups and products are given besides.
    """

    emails: tuple[str, ...] = ()
    import_file_id: int | None = None
    lines: tuple[int, ...] | None = None
    uses_file_grants: bool = False
    resources: tuple[str, ...] = ()
    notify: bool = False
    message: str = ""
    protected_group_ids: tuple[int, ...] = ()


Selection = IdleSelection | FilterSelection | AccountsSelection | InviteSelection
_KINDS: dict[str, type[Any]] = {
    "idle": IdleSelection,
    "filter": FilterSelection,
    "accounts": AccountsSelection,
    "invite": InviteSelection,
}


def selection_to_json(selection: Selection) -> dict[str, Any]:
    """The selection as JSON, with its kind."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(selection, cls))
    return {"kind": kind, **dataclasses.asdict(selection)}


def selection_from_json(data: Mapping[str, Any]) -> Selection:
    """The inverse of `selection_to_json`."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in data.items() if name != "kind"
    }
    selection: Selection = _KINDS[data["kind"]](**fields)
    return selection


@dataclass(frozen=True)
class ActionSpec:
    """One action with its targets: groups by our key, products by key, sites by address (empty: all sites)."""

    name: str
    group_ids: tuple[int, ...] = ()
    products: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ActionSpec:
        return cls(
            data["name"],
            tuple(data.get("group_ids", ())),
            tuple(data.get("products", ())),
            tuple(data.get("sites", ())),
        )


@dataclass(frozen=True)
class Limits:
    """A rule's own limits; None means that only the organisation's bind."""

    max_count: int | None = None
    max_share_percent: Decimal | None = None
    max_group_share_percent: int | None = None

    def to_json(self) -> dict[str, Any]:
        share = None if self.max_share_percent is None else str(self.max_share_percent)
        return {
            "max_count": self.max_count,
            "max_share_percent": share,
            "max_group_share_percent": self.max_group_share_percent,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Limits:
        share = data.get("max_share_percent")
        return cls(
            data.get("max_count"), None if share is None else Decimal(share), data.get("max_group_share_percent")
        )


@dataclass(frozen=True)
class RuleRef:
    """The rule that a plan is made for. `author_id`: the operator who last edited it and so never approves it."""

    id: int
    version: int
    name: str
    author_id: int | None
