"""Putting an insight aside, and taking that back. Each leaves a row in the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from apps.audit.services import record
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.savings.models import InsightDecision
from apps.savings.selectors.insights import Insight, insight_named
from aum.common.errors import DomainError, InvalidInput

SNOOZE_DAYS = (7, 30, 90)
MAX_SNOOZE_DAYS = 365


class NotPutAside(DomainError):
    code = "not_put_aside"
    detail = "This insight is open. Reload the page."


@transaction.atomic
def snooze_insight(*, organization: Organization, key: str, days: int, actor: Actor) -> InsightDecision:
    """Hide the insight for so many days. Raises Missing for an unknown key, InvalidInput for other days."""
    insight = insight_named(organization, key)
    if not 1 <= days <= MAX_SNOOZE_DAYS:
        raise InvalidInput(fields={"days": [f"Enter a whole number of days from 1 to {MAX_SNOOZE_DAYS}."]})
    until = timezone.now() + timedelta(days=days)
    return _decide(organization, insight, actor, InsightDecision.State.SNOOZED, until=until)


@transaction.atomic
def dismiss_insight(*, organization: Organization, key: str, reason: str, actor: Actor) -> InsightDecision:
    """Hide the insight for good, with a reason. Raises Missing and InvalidInput."""
    insight = insight_named(organization, key)
    words = " ".join(reason.replace("\x00", "").split())[:500]
    if not words:
        raise InvalidInput(fields={"reason": ["Say why this finding does not matter here."]})
    return _decide(organization, insight, actor, InsightDecision.State.DISMISSED, reason=words)


@transaction.atomic
def reopen_insight(*, organization: Organization, key: str, actor: Actor) -> None:
    """Show the insight again. Raises Missing, and NotPutAside where it is open."""
    insight = insight_named(organization, key)
    if not _end(organization, insight.key, actor):
        raise NotPutAside
    _record(organization, insight, actor, "insight.reopened")


def _decide(
    organization: Organization, insight: Insight, actor: Actor, state: str, **fields: object
) -> InsightDecision:
    _end(organization, insight.key, actor)
    decision: InsightDecision = InsightDecision.objects.create(
        organization=organization,
        key=insight.key,
        state=state,
        count=insight.count,
        decided_by=actor.name,
        decided_at=timezone.now(),
        **fields,
    )
    after = {"count": insight.count, "until": decision.until.isoformat() if decision.until else None}
    _record(organization, insight, actor, f"insight.{state}", reason=decision.reason, after=after)
    return decision


def _end(organization: Organization, key: str, actor: Actor) -> int:
    Organization.objects.select_for_update().get(pk=organization.pk)
    return int(
        InsightDecision.objects.of(organization)
        .filter(key=key, ended_at__isnull=True)
        .update(ended_at=timezone.now(), ended_by=actor.name)
    )


def _record(
    organization: Organization,
    insight: Insight,
    actor: Actor,
    action: str,
    *,
    reason: str = "",
    after: Mapping[str, object] | None = None,
) -> None:
    record(
        organization=organization,
        actor=actor,
        action=action,
        target_kind="insight",
        target_ref=insight.key,
        target_name=insight.title,
        reason=reason,
        after=after,
    )
