"""A rule whose people keep coming back pauses itself (B12)."""

from __future__ import annotations

from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert
from apps.rules import selectors
from apps.rules.models import CleanupRule
from apps.rules.services.editing import pause_rule
from aum.common.errors import Missing


def pause_if_regretted(rule: CleanupRule) -> bool:
    """Pause the rule, with an alert that names its owner, when more came back than the setting allows."""
    if rule.is_paused or rule.deleted_at:
        return False
    regret = selectors.regret(rule)
    if not regret.is_above:
        return False
    reason = (
        f"{regret.restored:,} of the {regret.reclaimed:,} people it took access from in {selectors.REGRET_WINDOW.days} "
        f"days got it back within {selectors.REGRET_WITHIN.days} days: {regret.percent:.0f} %, "
        f"more than the limit of {regret.limit} %."
    )
    try:
        pause_rule(rule=rule, reason=reason, actor=Actor.system())
    except Missing:  # deleted meanwhile
        return False
    owner = f" Owner: {rule.owner.name or rule.owner.email}." if rule.owner else ""
    raise_alert(
        organization=rule.organization,
        kind="rule_regret",
        severity="error",
        title=f"{rule.name} paused itself: too many people came back",
        detail=f"{reason}{owner} Raise its threshold or protect these people, then resume it.",
        link=f"/o/{rule.organization.slug}/rules/{rule.pk}/edit/",
        dedup_key=f"rule_regret:{rule.pk}",
    )
    return True
