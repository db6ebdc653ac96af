"""The filter bar of the users list, and the form of an exemption. Predicates judge the filters; here they are shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from django.http import QueryDict

from apps.organizations.models import Organization
from apps.users.models import Group, Product
from apps.users.predicates import (
    AccountStatusIs,
    ActivityIs,
    ClaimStatusIs,
    GetsBy,
    InactiveDays,
    KindIs,
    LastActiveAfter,
    LastActiveBefore,
    MembershipStatusIs,
    Partition,
    Predicate,
)
from apps.users.registries import menu_filters
from apps.users.selectors import AccountFilters, groups
from apps.users.selectors.filters import MEASURED, own_params
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
LOGIN_OPERATORS = (
    ("", "any time"),
    ("days", "more days ago than"),
    ("before", "before"),
    ("after", "on or after"),
    ("never", "never"),
    ("unknown", "not known"),
    ("known", "known"),
)
ADDED_OPERATORS = (
    ("", "any time"),
    ("days", "more days ago than"),
    ("before", "before"),
    ("after", "on or after"),
    ("between", "from, until before"),
)
# "any" is the last login over all products.
LOGIN_ROWS = (("any", "Any product"), *((str(value), short_label(value)) for value in Product.values))
# Filters whose control shows any value; menus show the values that they offer. All others of an address travel along.
WHOLE = frozenset(
    {"search", "group", "group_all", "group_none", "added_days", "added_before", "added_after", "inactive_product"}
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
class TimeRow:
    """One question about a moment: an operator with days or a date (`until`: the end of a range)."""

    key: str
    label: str
    operators: tuple[Option, ...]
    days: str = ""
    date: str = ""
    until: str = ""

    @property
    def operator(self) -> str:
        return next((option.value for option in self.operators if option.is_chosen), "")

    @property
    def chosen(self) -> str:
        """What is asked in few words, for the button; empty when nothing is."""
        is_filled = {"days": self.days, "before": self.date, "after": self.date, "between": self.date and self.until}
        if not is_filled.get(self.operator, True):
            return ""
        said = {
            "days": f"over {self.days} d ago",
            "before": f"before {self.date}",
            "after": f"from {self.date}",
            "between": f"{self.date} to {self.until}",
            "unknown": "not known",
        }
        return said.get(self.operator, self.operator)


@dataclass(frozen=True)
class FilterBar:
    search: str
    menus: tuple[Menu, ...]
    group: GroupPicker
    logins: tuple[TimeRow, ...]
    added: TimeRow
    more: tuple[Menu, ...]
    selects: tuple[Menu, ...]
    carried: tuple[tuple[str, str], ...]

    @property
    def login_chosen(self) -> str:
        """The button's text for last login: "Jira over 60 d ago"."""
        asked = [row for row in self.logins if row.chosen]
        return ", ".join(row.chosen if row.key == "any" else f"{row.label} {row.chosen}" for row in asked)

    @property
    def more_count(self) -> int:
        """How many of the filters under More are set."""
        return sum(
            any(option.is_chosen and option.value for option in menu.options) for menu in (*self.more, *self.selects)
        )


def canonical(query: QueryDict) -> QueryDict:
    """The address with the fields of the bar that are no filters turned into the filters that they mean.

    Those are the group picker (`group_op`, `g`), the rows of last login (`login_op_jira`, …) and the day of joining
    (`added_op`, …). An operator whose value is still missing asks for nothing.
    """
    params = query.copy()
    chosen, operator = params.getlist("g"), params.get("group_op", "any")
    if "group_op" in params or chosen:
        for name, _ in GROUP_OPERATORS.values():
            params.pop(name, None)
        if chosen:
            params.setlist(GROUP_OPERATORS.get(operator, GROUP_OPERATORS["any"])[0], chosen)
    for key, _ in LOGIN_ROWS:
        own = "" if key == "any" else f"{key}:"
        op = params.get(f"login_op_{key}", "")
        days, day = (params.get(f"login_{field}_{key}", "").strip() for field in ("days", "date"))
        if op in ("never", "unknown", "known"):
            params.appendlist("activity", f"{own}{op}")
        elif op == "days" and days:
            params.appendlist("inactive_days", f"{own}{days}")
        elif op in ("before", "after") and day:
            params.appendlist(f"last_active_{op}", f"{own}{day}")
    if "added_op" in params:
        op = params.get("added_op", "")
        days, day, until = (params.get(f"added_value_{field}", "").strip() for field in ("days", "date", "until"))
        wanted = {
            "added_days": days if op == "days" else "",
            "added_before": day if op == "before" else until if op == "between" else "",
            "added_after": day if op in ("after", "between") else "",
        }
        for name, text in wanted.items():
            params.pop(name, None)
            if text:
                params[name] = text
    for name in list(params):
        if name in ("g", "group_op", "group_search", "added_op") or name.startswith(("login_", "added_value_")):
            params.pop(name)
    return params


def filter_bar(
    organization: Organization, params: QueryDict, filters: AccountFilters, group_search: str, typed: QueryDict
) -> FilterBar:
    """The bar as it stands for `params` (canonical); `typed` is the address as it came, with half-filled fields."""

    def values(name: str) -> list[str]:
        return [part for text in params.getlist(name) for part in text.split(",") if part]

    def options(name: str, pairs: Sequence[tuple[str, str]], off: str = "") -> tuple[Option, ...]:
        chosen = values(name)
        first = [Option("", off, not chosen)] if off else []
        return (*first, *(Option(value, label, value in chosen) for value, label in pairs))

    logins, left = _login_rows(filters, typed)
    products = [(str(value), f"Has {short_label(value)}") for value in Product.values]
    added = [(menu.name, menu.label, [(c.value, c.label) for c in menu.choices(organization)]) for menu in menu_filters]
    bar = FilterBar(
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
        logins=logins,
        added=_added_row(params, typed),
        more=(
            Menu("product", "Products", options("product", products)),
            Menu("kind", "Kinds of account", options("kind", _words(KindIs, "person", "service", "app", "bot"))),
            Menu(
                "partition", "State", options("partition", [(str(part.value), str(part.label)) for part in Partition])
            ),
            Menu(
                "grants",
                "Access by",
                options("grants", [(value, label[:1].upper() + label[1:]) for value, label in GetsBy.words.items()]),
            ),
            *(Menu(name, label, options(name, pairs)) for name, label, pairs in added if pairs),
        ),
        selects=tuple(
            Menu(name, label, options(name, (("true", yes), ("false", no)), "Any"))
            for name, label, yes, no in (
                ("exempt", "Exemption", "Exempt or snoozed", "Not exempt"),
                ("is_synced", "Identity provider", "Synced from it", "Not synced"),
                ("protected", "Protection", "Protected", "Not protected"),
            )
        ),
        carried=(),
    )
    offered = {(menu.name, option.value) for menu in (*bar.menus, *bar.more, *bar.selects) for option in menu.options}
    carried = [
        *(pair for pair in filters.as_params() if pair[0] not in WHOLE | MEASURED | {"days"} and pair not in offered),
        *(("days", value) for value in params.getlist("days")[:1] if values("partition")),
        *(pair for condition in left for pair in own_params(condition)),
    ]
    return dataclasses.replace(bar, carried=tuple(carried))


def _login_rows(filters: AccountFilters, typed: QueryDict) -> tuple[tuple[TimeRow, ...], list[Predicate]]:
    """The rows of last login, and the conditions that they cannot show: those travel along, with chips of their own."""
    found: dict[str, dict[str, str]] = {}
    left: list[Predicate] = []
    for condition in filters.conditions:
        if condition.name not in MEASURED:
            continue
        products: tuple[str, ...] = condition.products  # type: ignore[attr-defined]  # all of these have it
        key = products[0] if products else "any"
        if len(products) > 1 or key not in dict(LOGIN_ROWS) or key in found:
            left.append(condition)
        elif isinstance(condition, InactiveDays):
            found[key] = {"op": "days", "days": str(condition.days)}
        elif isinstance(condition, LastActiveBefore | LastActiveAfter):
            op = "before" if isinstance(condition, LastActiveBefore) else "after"
            found[key] = {"op": op, "date": _day(condition.at)}
        elif isinstance(condition, ActivityIs) and len(condition.values) == 1:
            found[key] = {"op": condition.values[0]}
        else:
            left.append(condition)
    rows = []
    for key, label in LOGIN_ROWS:
        shown = found.get(key) or {
            "op": typed.get(f"login_op_{key}", ""),
            "days": typed.get(f"login_days_{key}", "")[:20],
            "date": typed.get(f"login_date_{key}", "")[:40],
        }
        rows.append(
            TimeRow(key, label, _operators(LOGIN_OPERATORS, shown["op"]), shown.get("days", ""), shown.get("date", ""))
        )
    return tuple(rows), left


def _added_row(params: QueryDict, typed: QueryDict) -> TimeRow:
    days, before, after = (params.get(f"added_{name}", "")[:40] for name in ("days", "before", "after"))
    op = "days" if days else "between" if before and after else "before" if before else "after" if after else ""
    if not op:
        op, days = typed.get("added_op", ""), typed.get("added_value_days", "")[:20]
        after, before = (typed.get(f"added_value_{name}", "")[:40] for name in ("date", "until"))
    first, until = (before, "") if op == "before" else (after, before)
    return TimeRow("added", "Added", _operators(ADDED_OPERATORS, op), days, _short(first), _short(until))


def _operators(pairs: Sequence[tuple[str, str]], chosen: str) -> tuple[Option, ...]:
    known = chosen if chosen in dict(pairs) else ""
    return tuple(Option(value, label, value == known) for value, label in pairs)


def _day(at: datetime) -> str:
    """The instant as a date field takes it; with its time where it is not midnight."""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%d}" if at.time() == time(0) else f"{at:%Y-%m-%dT%H:%M:%S}"


def _short(text: str) -> str:
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return text
    return _day(at if at.tzinfo else at.replace(tzinfo=UTC))


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
ONLY_OWNERS = "Only an Owner exempts for good. Choose an end."


@dataclass(frozen=True)
class ExemptionForm:
    """What was typed about an exemption or a snooze, and the sentences of what is wrong with it."""

    reason: str = ""
    until: str = "90"
    until_date: str = ""
    start: str = ""
    may_always: bool = False
    errors: dict[str, list[str]] | None = None

    @classmethod
    def of(cls, data: QueryDict, *, may_always: bool = False, is_snooze: bool = False) -> ExemptionForm:
        return cls(
            data.get("reason", ""),
            data.get("until", "30" if is_snooze else "90"),
            data.get("until_date", ""),
            data.get("start", ""),
            may_always,
        )

    def refused(self, errors: dict[str, list[str]]) -> ExemptionForm:
        return replace(self, errors=errors)

    @property
    def choices(self) -> tuple[Option, ...]:
        offered = UNTIL_CHOICES if self.may_always else UNTIL_CHOICES[:-1]
        return tuple(Option(value, label, value == self.until) for value, label in offered)

    @property
    def faults(self) -> list[dict[str, str]]:
        labels = {"reason": "Reason", "until": "Until", "account": "User", "starts_at": "From", "accounts": "Users"}
        return [
            {"id": f"id_{name}", "label": labels.get(name, name.replace("_", " ").capitalize()), "text": text}
            for name, texts in (self.errors or {}).items()
            for text in texts
        ]

    def starts_at(self, now: datetime) -> datetime | None:
        """The first moment of the day on which a leave begins (UTC); None for at once. Raises InvalidInput."""
        if not self.start.strip():
            return None
        day = _day_of(self.start, "starts_at", "Enter a date such as 2027-01-31, or leave it empty for now.")
        start = datetime.combine(day, time(0, 0), UTC)
        if day < now.date():
            raise InvalidInput(fields={"starts_at": ["Choose today or a day in the future."]})
        return start if start > now else None

    def until_at(self, start: datetime) -> datetime | None:
        """The end, from `start` on: None for always; a date counts to its last moment (UTC). Raises InvalidInput."""
        if self.until == "always":
            if not self.may_always:
                raise InvalidInput(fields={"until": [ONLY_OWNERS]})
            return None
        if self.until in ("30", "60", "90"):
            return start + timedelta(days=int(self.until))
        day = _day_of(self.until_date, "until", "Enter a date such as 2027-01-31, or choose a number of days.")
        return datetime.combine(day, time(23, 59, 59), UTC)


def _day_of(text: str, field: str, sentence: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(fields={field: [sentence]}) from None
