"""Rows of a rule's notice ladder."""

from __future__ import annotations

from collections.abc import Sequence

from apps.notifications.models import EmailTemplate
from apps.rules.models import CleanupRule, NoticeStep


def set_steps(rule: CleanupRule, keys: Sequence[str]) -> None:
    """Make the rule's steps those of cleaned `keys`. A template that no other rule uses shows the same date."""
    wanted: dict[tuple[int, str], int] = {}
    for key in keys:
        template, days, audience = key.split(":")
        wanted[int(template), audience] = int(days)
    for step in NoticeStep.objects.filter(rule=rule):
        days_before = wanted.pop((step.template_id, step.audience), None)
        if days_before is None:
            step.delete()
        elif step.days_before != days_before:
            step.days_before = days_before
            step.save(update_fields=["days_before"])
    NoticeStep.objects.bulk_create(
        NoticeStep(
            organization=rule.organization,
            rule=rule,
            template_id=template,
            audience=audience,
            days_before=days_before,
        )
        for (template, audience), days_before in wanted.items()
    )
    for step in NoticeStep.objects.filter(rule=rule):
        others = NoticeStep.objects.filter(template_id=step.template_id, rule__deleted_at__isnull=True)
        if rule.inactive_days and not others.exclude(pk=step.pk).exists():
            days = max(0, rule.inactive_days - step.days_before)
            EmailTemplate.objects.filter(pk=step.template_id).update(days_inactive=days)
