"""How plans, runs and their people read on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q

from apps.operations import reasons, services
from apps.operations.actions import ADDING, ADMINISTRATIVE, OF_GROUPS, REGISTRY
from apps.operations.models import LeftOut, Operation, OperationItem
from apps.users.models import Account, ClaimStatus
from apps.users.products import label_of

Status = Operation.Status
# status → kind of badge (aum.common.templatetags.aum.BADGES) and icon where it differs.
BADGES: dict[str, tuple[str, str]] = {
    Status.PLANNING: ("progress", "hourglass"),
    Status.HELD: ("waiting", "approve"),
    Status.QUEUED: ("progress", "hourglass"),
    Status.RUNNING: ("progress", "hourglass"),
    Status.WAITING: ("waiting", "clock"),
    Status.PAUSED: ("paused", "pause"),
    Status.PREVIEWED: ("safe", "eye"),
    Status.SUCCEEDED: ("success", "check"),
    Status.PARTIAL_FAILURE: ("partial", "warning"),
    Status.FAILED: ("failed", "x"),
    Status.NO_EFFECT: ("warning", "warning"),
    Status.CANCELLED: ("skipped", "stop"),
    Status.REJECTED: ("failed", "x"),
    Status.EXPIRED: ("skipped", "clock"),
    Status.SUPERSEDED: ("skipped", "minus"),
}
# action → (before, after, kind of badge, icon) of a change that needs no further words.
CHANGES: dict[str, tuple[str, str, str, str]] = {
    "suspend": ("Active", "Suspended", "warn", "pause"),
    "restore": ("Suspended", "Active", "ok", "check"),
    "deactivate": ("Active", "Deactivated", "danger", "ban"),
    "activate": ("Deactivated", "Active", "ok", "check"),
    "delete": ("Account", "Deleted after 14 days", "danger", "trash"),
    "cancel_delete": ("Awaiting deletion", "Active", "ok", "check"),
    "remove_from_directory": ("Member", "Removed", "danger", "x"),
    "cancel_invite": ("Invited", "Removed", "danger", "x"),
}
# action → what will happen to people, and a button's words around their number.
PLANS: dict[str, tuple[str, str, str]] = {
    "suspend": ("will be suspended", "Suspend", ""),
    "restore": ("will be restored", "Restore", ""),
    "deactivate": ("will be deactivated", "Deactivate", ""),
    "activate": ("will be activated", "Activate", ""),
    "delete": ("will be deleted", "Delete", ""),
    "cancel_delete": ("will be kept", "Keep", ""),
    "remove_from_directory": ("will be removed", "Remove", "from the directory"),
    "invite": ("will be invited", "Invite", ""),
    "cancel_invite": ("will be removed", "Take back the invitation of", ""),
    "add_to_group": ("will be added to groups", "Add", "to groups"),
    "remove_from_group": ("will leave groups", "Remove", "from groups"),
    "add_to_admin_group": ("will be added to admin groups", "Add", "to admin groups"),
    "remove_from_admin_group": ("will leave admin groups", "Remove", "from admin groups"),
    "remove_product_access": ("will lose product access", "Remove product access of", ""),
    "grant_product_access": ("will get product access back", "Give product access back to", ""),
}


def users_words(count: int) -> str:
    return f"{count:,} user{'' if count == 1 else 's'}"


def action_of(operation: Operation) -> str:
    """The action's name; empty when the operation has several."""
    return operation.action if operation.action in PLANS else ""


def _verb_and_rest(operation: Operation, name: str) -> tuple[str, str]:
    """A button's words around the number of users, with the groups' number or the products where the plan has them."""
    _, verb, rest = PLANS[name]
    specs = [spec for spec in (operation.frozen or {}).get("actions", []) if spec["name"] == name]
    # What undoes another run carries that run's actions, whose names are the inverse ones.
    groups = sum(len(spec.get("group_ids", ())) for spec in specs)
    if name in OF_GROUPS and groups:
        to, kind = "to" if name in ADDING else "from", "admin " if name in ADMINISTRATIVE else ""
        rest = f"{to} {groups} {kind}group{'' if groups == 1 else 's'}"
    products = [label_of(product) for spec in specs for product in spec.get("products", ())]
    if name == "remove_product_access" and products:
        verb = f"Remove {in_words(products)} access of"
    return verb, rest


def in_words(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def button_words(operation: Operation, count: int) -> str:
    """What a button does, with the number: "Suspend 63 users", "Add to 2 groups and suspend 14 users"."""
    names = [name for name in operation.action.split("+") if name in PLANS]
    if not names:
        return f"Change {users_words(count)}"
    phrases = []
    for position, name in enumerate(names):
        verb, rest = _verb_and_rest(operation, name)
        if position == len(names) - 1:
            phrase = f"{verb} {users_words(count)}{' ' + rest if rest else ''}"
        else:
            phrase = f"{verb.removesuffix(' of')}{' ' + rest if rest else ''}"
        phrases.append(phrase if not position else phrase[:1].lower() + phrase[1:])
    return in_words(phrases)


def will_words(operation: Operation) -> str:
    """What will happen to the people: "will be added to groups and will be suspended"."""
    names = [name for name in operation.action.split("+") if name in PLANS]
    return in_words([PLANS[name][0] for name in names]) if names else "will change"


def done_word(operation: Operation) -> str:
    name = action_of(operation)
    return REGISTRY[name].done_word.lower() if name in REGISTRY else "changed"


@dataclass(frozen=True)
class Change:
    """What happens to one person, old and new."""

    before: str
    after: str
    kind: str
    icon: str


def change_of(item: OperationItem) -> Change:
    """The change of an item in words."""
    if item.action in CHANGES:
        return Change(*CHANGES[item.action])
    parameters = item.parameters or {}
    if item.action == "invite":
        names = str(parameters.get("name", ""))
        return Change("", f"Invited{' with ' + names if names else ''}", "ok", "plus")
    if item.action in OF_GROUPS:
        group = str(parameters.get("name", "group"))
        return Change("", group, "ok", "plus") if item.action in ADDING else Change(group, "left", "warn", "minus")
    product = label_of(str(parameters.get("product", "product")))
    site = str(parameters.get("site", ""))
    held = f"{product} on {site}" if site else product
    if item.action == "grant_product_access":
        return Change("", held, "ok", "check")
    return Change(held, "removed", "warn", "minus")


# Outcomes that may have changed something although they are no success.
MAYBE_CHANGED = ("no_effect_seat_kept", "unresolved")


@dataclass(frozen=True)
class ItemLine:
    """One row of a plan or run, ready to show."""

    item: OperationItem
    name: str
    email: str
    change: Change
    place: str
    why: str
    last_login: datetime | None
    is_never: bool
    sign: str
    details: str
    tone: str
    word: str
    icon: str
    # What the row offers once the run is over.
    can_undo: bool
    can_retry: bool


def item_line(
    item: OperationItem, now: datetime, sign: str = "", directories: Mapping[str, str] | None = None
) -> ItemLine:
    """The row of an item. `directories`: id → name, where the organisation has several."""
    account = item.account
    tone, word, icon = _result(item)
    return ItemLine(
        item=item,
        name=str(account) if account else item.subject,
        email=(account.email or "e-mail hidden by Atlassian") if account else "",
        change=change_of(item),
        place=(directories or {}).get(str((item.parameters or {}).get("directory", "")), ""),
        why=reasons.reason_sentence(item.reason, now),
        last_login=account.last_active_at if account else None,
        is_never=bool(account and account.last_active_at is None and not account.has_unknown_activity),
        sign=sign,
        details=reasons.outcome_sentence(item),
        tone=tone,
        word=word,
        icon=icon,
        can_undo=bool(REGISTRY[item.action].inverse)
        and (item.outcome == "done" or (item.written_at is not None and item.outcome in MAYBE_CHANGED)),
        can_retry=item.outcome in services.RETRYABLE,
    )


def _result(item: OperationItem) -> tuple[str, str, str]:
    """(tone, word, icon) of an item's state."""
    if item.status == OperationItem.Status.IN_DOUBT:
        return "info", "Being confirmed", "hourglass"
    if item.status != OperationItem.Status.FINISHED:
        return "", str(item.get_status_display()), "clock"
    if item.outcome in ("done", "already_so"):
        return "ok", "Success", "check"
    if item.outcome == "handed_off":
        return "info", "Handed off", "arrow-right"
    if item.outcome in ("failed", "failed_licence_limit", "unresolved", "not_attempted"):
        return "danger", "Failed" if item.outcome != "not_attempted" else "Not attempted", "x"
    return "warn", "Cancelled" if item.outcome == "cancelled" else "Skipped", "minus"


def left_out_words(operation: Operation) -> str:
    """`14 protected, 9 exempt`, the largest first."""
    counts = sorted(operation.left_out.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{count:,} {reasons.left_out_label(code)}" for code, count in counts)


def skipped_words(row: LeftOut) -> str:
    label = reasons.left_out_label(row.reason)
    detail = getattr(row, "detail", "")
    return f"{label[:1].upper()}{label[1:]}{'. ' + detail if detail else ''}"


def managed_words(operation: Operation) -> str:
    """How many of the selection are managed accounts, where only those, or only the others, can be touched."""
    names = operation.action.split("+")
    needs = [REGISTRY[name] for name in names if name in REGISTRY]
    needs = [action for action in needs if action.needs_managed or action.needs_unmanaged]
    if not needs or operation.is_undo:
        return ""
    in_plan = OperationItem.objects.filter(operation=operation).values("account")
    left_out = LeftOut.objects.filter(operation=operation).values("account")
    people = Account.objects.of(operation.organization).filter(Q(pk__in=in_plan) | Q(pk__in=left_out))
    counts = people.aggregate(all=Count("pk"), managed=Count("pk", filter=Q(claim_status=ClaimStatus.MANAGED)))
    total, managed = counts["all"], counts["managed"]
    if not total:
        return ""
    accounts = "is a managed account" if managed == 1 else "are managed accounts"
    effect = "the only ones that this touches" if needs[0].needs_managed else "which this does not touch"
    names_said = in_words([action.label.lower() for action in needs])
    return f"{managed:,} of the {users_words(total)} selected {accounts}, {effect} ({names_said})."
