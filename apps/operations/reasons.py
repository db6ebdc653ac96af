"""Words for what plans and runs store as codes: why somebody is in, what became of them, why others were left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.utils.dateparse import parse_datetime

from apps.operations.actions import REGISTRY
from apps.operations.models import OperationItem, SafeguardChange
from apps.operations.planning import LEFT_OUT_LABELS
from apps.users.models import Group
from apps.users.products import label_of


def _days(instant: Any, now: datetime) -> int | None:
    at = parse_datetime(instant) if isinstance(instant, str) else None
    return (now - at).days if at else None


def _in_products(products: list[str]) -> str:
    labels = [label_of(product) for product in products]
    return f" to {', '.join(labels)}" if labels else ""


def reason_sentence(reason: Mapping[str, Any], now: datetime) -> str:
    """Why an account is in a plan: "74 days since the last login to Jira Software"."""
    code = reason.get("code")
    products = _in_products(reason.get("products") or [])
    if code == "idle":
        days = _days(reason.get("last_active_at"), now)
        idle = _days(reason.get("idle_since"), now)
        text = f"{days:,} days since the last login{products}" if days is not None else "No recent login"
        if idle is not None and days is not None and idle < days - 1:
            text += f"; its clock started anew {idle:,} days ago"
        return text
    if code == "never_active":
        days = _days(reason.get("added_to_org_at"), now)
        invited = f"; invited {days:,} days ago" if days is not None else ""
        return f"Never logged in{products}{invited}"
    if code == "invite":
        return f"Line {reason['line']:,} of the file" if reason.get("line") else "Address given"
    if code == "status":
        days = _days(reason.get("since"), now)
        text = f"Deactivated or suspended for {days:,} days" if days is not None else "Deactivated or suspended"
        return "; ".join([text, *reason.get("conditions", [])])
    if code == "conditions":
        return "; ".join(reason.get("conditions") or []) or "Meets the rule"
    if code == "undo":
        return f"Undoes what run #{reason.get('number')} did"
    return "Selected"


def change_words(item: OperationItem) -> tuple[str, str]:
    """(what the plan does in words, with its target)."""
    action = REGISTRY[item.action]
    target = item.parameters.get("name") or ""
    if item.action in ("remove_product_access", "grant_product_access"):
        site = item.parameters.get("site") or ""
        target = label_of(item.parameters.get("product", "")) + (f" on {site}" if site else "")
    return action.label, target


def outcome_sentence(item: OperationItem) -> str:
    """What became of an item, with its reason."""
    action = REGISTRY[item.action]
    if item.status == OperationItem.Status.IN_DOUBT:
        return "Being confirmed: AUM reads the state from Atlassian."
    if item.status != OperationItem.Status.FINISHED:
        return "To go" if item.status == OperationItem.Status.PENDING else "Working"
    if item.outcome == OperationItem.Outcome.DONE:
        target = change_words(item)[1]
        return f"{action.done_word}{f': {target}' if target else ''}"
    if item.outcome == OperationItem.Outcome.SKIPPED_HELD_ROW and item.detail:
        return item.detail  # names who held it back, and why
    label = OperationItem.Outcome(item.outcome).label
    return f"{label}. {item.detail}" if item.detail else str(label)


def left_out_label(code: str) -> str:
    """A reason for which people are left out of a plan, in words."""
    return LEFT_OUT_LABELS.get(code, code.replace("_", " "))


# Setting → (what it does, unit of its value).
SAFEGUARD_WORDS: Mapping[str, tuple[str, str]] = {
    "max_count": ("Hold a run above", "people"),
    "max_share_percent": ("Hold a run above", "% of licensed people"),
    "max_group_share_percent": ("Hold a run that takes from one group more than", "% of its people"),
    "max_per_day": ("Hold when more people lose access within 24 hours than", "people"),
    "max_failure_percent": ("Stop a run when failures exceed", "% of its steps"),
    "activity_margin_hours": ("Margin for Atlassian’s delay", "hours"),
    "max_data_age_hours": ("Refuse live rules when data is older than", "hours"),
    "max_people_lost_percent": ("Distrust a sync that lost more than", "% of people"),
    "max_activity_lost_percent": ("Distrust a sync that lost activity of more than", "% of people"),
    "snooze_days": ("Rest after a restore", "days"),
    "held_plan_days": ("A held run waits at most", "days"),
    "preview_hours": ("A preview can be applied for", "hours"),
    "max_regret_percent": ("A rule pauses itself when access came back for more than", "% of its people"),
    "allow_delete_rules": ("Let rules delete accounts", ""),
}


@dataclass(frozen=True)
class SafeguardLine:
    """One value of a proposed change, in words. A group has no values: what is lost stands in `label`."""

    label: str
    before: str = ""
    after: str = ""
    # What follows, where there are no values.
    effect: str = "Its members can lose access"

    @property
    def sentence(self) -> str:
        return f"{self.label}: {self.before} → {self.after}" if self.after else self.label


def safeguard_lines(change: SafeguardChange) -> list[SafeguardLine]:
    """What a change loosens: "Hold a run above", "500", "600 people". Reads `change.group`."""
    if change.kind == SafeguardChange.Kind.LICENCE_ONLY and change.group is not None:
        label = f"Mark the group {change.group.name} licence-only"
        return [SafeguardLine(label, effect="It is left for a product although it grants more")]
    if change.account is not None:
        label = f"Treat {change.account} ({change.account.get_kind_display().lower()}) like a person"
        return [SafeguardLine(label, effect="Cleanups can take its access")]
    if change.group is not None:
        return [SafeguardLine(f"End the protection of the group {change.group.name}")]
    if change.kind == SafeguardChange.Kind.RULE:
        return [_rule_line(change, name, before, after) for name, (before, after) in change.changes.items()]
    lines = []
    for name, (before, after) in change.changes.items():
        label, unit = SAFEGUARD_WORDS[name]
        gap = "" if unit.startswith("%") or not unit else " "
        lines.append(SafeguardLine(label, _number(before), f"{_number(after)}{gap}{unit}"))
    return lines


def _rule_line(change: SafeguardChange, name: str, before: str, after: str) -> SafeguardLine:
    """One safeguard of a rule; an empty limit means that only the organisation's binds."""
    if name == "protected_groups":
        lost = {int(key) for key in before.split(",") if key} - {int(key) for key in after.split(",") if key}
        names = Group.objects.filter(organization_id=change.organization_id, pk__in=lost).order_by("name")
        gone = ", ".join(names.values_list("name", flat=True))
        return SafeguardLine(f"Rule {change.rule_name}: no longer protect {gone}")
    if name == "notices":
        return SafeguardLine(f"Rule {change.rule_name}: warn users", _notice_days(before), _notice_days(after))
    if name == "undeliverable":
        label = f"Rule {change.rule_name}: when a notice cannot be delivered"
        return SafeguardLine(label, "ask and wait", "act after some days")
    if name == "undeliverable_days":
        label = f"Rule {change.rule_name}: act after a notice that could not be delivered"
        return SafeguardLine(label, before, f"{after} days")
    label, unit = SAFEGUARD_WORDS[name]
    gap = "" if unit.startswith("%") else " "
    wanted = f"{_number(after)}{gap}{unit}" if after else "the organisation’s limit"
    return SafeguardLine(f"Rule {change.rule_name}: {label.lower()}", _number(before), wanted)


def _notice_days(text: str) -> str:
    """Steps "<template>:<days before>:<audience>" as "14 and 7 days before"."""
    days = [key.split(":")[1] for key in text.split(",") if key]
    return f"{' and '.join(days)} days before" if days else "not at all"


def _number(text: str) -> str:
    """A stored value with thousands separators and without trailing zeros; a switch as on or off."""
    if text in ("True", "False"):
        return "on" if text == "True" else "off"
    whole, _, rest = f"{Decimal(text):,f}".partition(".")
    rest = rest.rstrip("0")
    return f"{whole}.{rest}" if rest else whole
