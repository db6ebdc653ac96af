"""The filter bar of the users list, and the form of an exemption. Predicates judge the filters; here they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.http import QueryDict

from apps.organizations.models import Organization
from apps.users.models import Group, Product
from apps.users.predicates import AccountStatusIs, ActivityIs, ClaimStatusIs, KindIs, MembershipStatusIs
from apps.users.selectors import AccountFilters, groups
from apps.users.selectors.words import short_label
from aum.common.errors import InvalidInput

LIMITS = (25, 50, 100, 500)
DEFAULT_LIMIT = 50
GROUP_OPERATORS = {
    "any": ("group", "is any of"),
    "all": ("group_all", "is all of"),
    "none": ("group_none", "is none of"),
}
GROUPS_SHOWN = 12
# Filters that the bar has a control for; all others of an address travel along as they came.
BAR = frozenset(
    {"search", "account_status", "membership_status", "claim_status", "product", "inactive_days", "inactive_product"}
    | {"activity", "added_days", "kind", "exempt", "group", "group_all", "group_none"}
)


@dataclass(frozen=True)
class Option:
    value: str
    label: str
    is_chosen: bool


@dataclass(frozen=True)
class Menu:
    """One button of the bar: its options, and what is chosen in words."""

    name: str
    label: str
    options: tuple[Option, ...]

    @property
    def chosen(self) -> str:
        return ", ".join(option.label for option in self.options if option.is_chosen)


@dataclass(frozen=True)
class GroupPicker:
    """Groups to filter by: those chosen first, then the first ones whose name contains `search`."""

    operator: str
    operators: tuple[Option, ...]
    options: tuple[Option, ...]
    search: str

    @property
    def chosen(self) -> str:
        return ", ".join(option.label for option in self.options if option.is_chosen)

    @property
    def operator_label(self) -> str:
        return GROUP_OPERATORS[self.operator][1]


@dataclass(frozen=True)
class FilterBar:
    search: str
    menus: tuple[Menu, ...]
    group: GroupPicker
    inactive_days: str
    inactive_products: tuple[Option, ...]
    activity: tuple[Option, ...]
    added_days: str
    products: tuple[Option, ...]
    kinds: tuple[Option, ...]
    exempt: tuple[Option, ...]
    carried: tuple[tuple[str, str], ...]

    @property
    def more_count(self) -> int:
        """How many of the filters under More are set."""
        sets = (self.activity, self.products, self.kinds, self.exempt)
        chosen = sum(any(option.is_chosen and option.value for option in options) for options in sets)
        return chosen + bool(self.inactive_days) + bool(self.added_days)


def canonical(query: QueryDict) -> QueryDict:
    """The address with the group picker's fields (`group_op`, `g`) turned into the filter that they mean."""
    params = query.copy()
    chosen, operator = params.getlist("g"), params.get("group_op", "any")
    if "group_op" in params or chosen:
        for name, _ in GROUP_OPERATORS.values():
            params.pop(name, None)
        if chosen:
            params.setlist(GROUP_OPERATORS.get(operator, GROUP_OPERATORS["any"])[0], chosen)
    for name in ("g", "group_op", "group_search"):
        params.pop(name, None)
    return params


def filter_bar(organization: Organization, params: QueryDict, filters: AccountFilters, group_search: str) -> FilterBar:
    """The bar as it stands for `params` (canonical)."""

    def values(name: str) -> list[str]:
        return [part for text in params.getlist(name) for part in text.split(",") if part]

    def options(name: str, pairs: Sequence[tuple[str, str]], off: str = "") -> tuple[Option, ...]:
        chosen = values(name)
        first = [Option("", off, not chosen)] if off else []
        return (*first, *(Option(value, label, value in chosen) for value, label in pairs))

    products = [(str(value), short_label(value)) for value in Product.values]
    return FilterBar(
        search=params.get("search", ""),
        menus=(
            Menu(
                "account_status",
                "Account status",
                options("account_status", _words(AccountStatusIs, "active", "deactivated", "for_deletion")),
            ),
            Menu(
                "membership_status",
                "Membership",
                options("membership_status", _words(MembershipStatusIs, "active", "suspended", "no_membership")),
            ),
            Menu(
                "claim_status", "Claim status", options("claim_status", _words(ClaimStatusIs, "managed", "unmanaged"))
            ),
        ),
        group=_picker(organization, params, group_search),
        inactive_days=params.get("inactive_days", ""),
        inactive_products=options("inactive_product", products, off="any product"),
        activity=options("activity", _words(ActivityIs, "known", "never", "unknown"), off="Any"),
        added_days=params.get("added_days", ""),
        products=options("product", products),
        kinds=options("kind", _words(KindIs, "person", "service", "app", "bot")),
        exempt=options("exempt", (("true", "Exempt or snoozed"), ("false", "Not exempt")), off="Any"),
        carried=tuple(pair for pair in filters.as_params() if pair[0] not in BAR),
    )


def _words(
    predicate: type[AccountStatusIs | MembershipStatusIs | ClaimStatusIs | ActivityIs | KindIs], *names: str
) -> list[tuple[str, str]]:
    return [(name, predicate.words[name][0]) for name in names]


def _picker(organization: Organization, params: QueryDict, search: str) -> GroupPicker:
    operator = next((op for op, (name, _) in GROUP_OPERATORS.items() if params.getlist(name)), "any")
    keys = params.getlist(GROUP_OPERATORS[operator][0])
    chosen_pks = [int(key) for key in keys if key.isascii() and key.isdecimal() and len(key) < 19]
    foreign = [key for key in keys if not (key.isascii() and key.isdecimal())]
    known = Group.objects.of(organization)
    chosen = [*known.filter(pk__in=chosen_pks).order_by("name"), *known.filter(group_id__in=foreign).order_by("name")]
    found = groups(organization, search).exclude(pk__in=[group.pk for group in chosen])[:GROUPS_SHOWN]
    return GroupPicker(
        operator=operator,
        operators=tuple(Option(op, label, op == operator) for op, (_, label) in GROUP_OPERATORS.items()),
        options=(
            *(Option(str(group.pk), group.name, True) for group in chosen),
            *(Option(str(group.pk), group.name, False) for group in found),
        ),
        search=search,
    )


def limit_of(params: QueryDict) -> int:
    """Rows per page: one of LIMITS; `all` means the largest page (View all users)."""
    text = params.get("limit", "")
    return int(text) if text in {str(limit) for limit in LIMITS} else DEFAULT_LIMIT


# --- exemptions -----------------------------------------------------------------------------------------------------

UNTIL_CHOICES = (("30", "30 days"), ("60", "60 days"), ("90", "90 days"), ("date", "A date"), ("always", "Always"))


@dataclass(frozen=True)
class ExemptionForm:
    """What was typed about an exemption, and the sentences of what is wrong with it."""

    reason: str = ""
    until: str = "90"
    until_date: str = ""
    errors: dict[str, list[str]] | None = None

    @classmethod
    def of(cls, data: QueryDict, errors: dict[str, list[str]] | None = None) -> ExemptionForm:
        return cls(data.get("reason", ""), data.get("until", "90"), data.get("until_date", ""), errors)

    @property
    def choices(self) -> tuple[Option, ...]:
        return tuple(Option(value, label, value == self.until) for value, label in UNTIL_CHOICES)

    @property
    def faults(self) -> list[dict[str, str]]:
        labels = {"reason": "Reason", "until": "Until", "account": "User"}
        return [
            {"id": f"id_{name}", "label": labels.get(name, name), "text": text}
            for name, texts in (self.errors or {}).items()
            for text in texts
        ]

    def until_at(self, now: datetime) -> datetime | None:
        """The end: None for always; a date counts to its last moment (UTC). Raises InvalidInput."""
        if self.until == "always":
            return None
        if self.until in ("30", "60", "90"):
            return now + timedelta(days=int(self.until))
        try:
            day = date.fromisoformat(self.until_date.strip())
        except ValueError:
            raise InvalidInput(
                fields={"until": ["Enter a date such as 2027-01-31, or choose a number of days."]}
            ) from None
        return datetime.combine(day, time(23, 59, 59), UTC)
