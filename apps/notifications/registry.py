"""What this app needs of the apps above it. They fill it in `AppConfig.ready`; until then nothing uses a template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from apps.notifications.models import Delivery, EmailTemplate
from apps.operations.selection import ActionSpec
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor


@dataclass(frozen=True)
class TemplateUse:
    """One rule that uses a template. `is_live`: its notices go out, and without them it would wait."""

    rule_id: int
    rule_name: str
    url: str
    is_live: bool
    is_paused: bool
    threshold_days: int
    days_before: int

    @property
    def days_inactive(self) -> int:
        """The same date seen from the other side."""
        return max(0, self.threshold_days - self.days_before)


@dataclass(frozen=True)
class Undeliverable:
    """What a rule does about a notice that cannot be delivered: ask, or let the action follow after some days."""

    is_ask: bool = True
    days: int = 14


def _no_uses(_organization: Organization) -> dict[int, list[TemplateUse]]:
    return {}


def _no_timing(_template: EmailTemplate, _days: int, _actor: Actor, _operator: Operator | None) -> None:
    return None


def _no_date(_organization: Organization, _rule_id: int, not_before: datetime) -> datetime | None:
    return not_before


def _no_objection(_organization: Organization, _notices: Sequence[Delivery]) -> dict[int, str]:
    return {}


def _no_action(_organization: Organization, _rule_id: int) -> ActionSpec | None:
    return None


def _ask(_organization: Organization, _rule_id: int | None) -> Undeliverable:
    return Undeliverable()


@dataclass
class Registry:
    """`uses`: by template. `set_timing`: change the one rule that uses a template. `next_action_at`: the rule's first
    run at or after an instant. `objections`: notices that are no longer to be sent, and why. `action_of`: what a rule
    does. `undeliverable_of`: what follows when somebody cannot be told.
    """

    uses: Callable[[Organization], dict[int, list[TemplateUse]]] = _no_uses
    set_timing: Callable[[EmailTemplate, int, Actor, Operator | None], None] = _no_timing
    next_action_at: Callable[[Organization, int, datetime], datetime | None] = _no_date
    objections: Callable[[Organization, Sequence[Delivery]], dict[int, str]] = _no_objection
    action_of: Callable[[Organization, int], ActionSpec | None] = _no_action
    undeliverable_of: Callable[[Organization, int | None], Undeliverable] = _ask


registry = Registry()
