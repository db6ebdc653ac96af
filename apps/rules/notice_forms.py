"""The notices section of the rule editor: rows as they were typed, templates to choose from, what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from apps.notifications.models import Audience, EmailTemplate
from apps.notifications.selectors import mail_state
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.notice_values import ACTIONS, steps_of

MAX_ROWS = 9


@dataclass(frozen=True)
class Row:
    """One line of the ladder. `days_inactive` is the same date seen from the other side, where it can be told."""

    template: str
    days_before: str
    audience: str
    days_inactive: int | None
    is_disabled: bool


@dataclass(frozen=True)
class NoticeEditor:
    """Everything `rules/_notices.html` shows."""

    rows: Sequence[Row]
    templates: Sequence[EmailTemplate]
    audiences: Sequence[tuple[str, str]]
    errors: Sequence[str]
    undeliverable: str
    undeliverable_days: Any
    days_errors: Sequence[str]
    warnings: Sequence[str]
    suggested_days: int | None


def notices_from(data: QueryDict) -> tuple[str, ...]:
    """The steps of a sent form; rows without a template are no steps."""
    templates, days, audiences = (data.getlist(f"notice_{name}") for name in ("template", "days", "audience"))
    rows = zip(templates, days, audiences, strict=False)
    return tuple(
        f"{template.strip()}:{count.strip()[:9]}:{audience.strip() or Audience.PERSON.value}"
        for template, count, audience in list(rows)[:MAX_ROWS]
        if template.strip()
    )


def notice_editor(organization: Organization, form: Any, *, more: bool = False) -> NoticeEditor:
    """The section for a form's values; `more` shows one empty row beyond the usual one."""
    values = form.values
    templates = list(EmailTemplate.objects.of(organization).filter(deleted_at__isnull=True))
    disabled = {str(template.pk) for template in templates if not template.is_enabled}
    threshold = _whole(values.inactive_days)
    rows = [
        Row(
            template=str(step.template),
            days_before=str(step.days_before if step.days_before is not None else ""),
            audience=step.audience,
            days_inactive=_since(threshold, step.days_before),
            is_disabled=str(step.template) in disabled,
        )
        for step in steps_of(values.notices or (), inactive_days=threshold)
    ]
    if len(rows) < MAX_ROWS - 1:
        empty = Row("", "", Audience.PERSON.value, None, False)
        rows += [empty] * (2 if more and rows else 1)
    has_steps = any(row.template for row in rows)
    warnings = []
    if has_steps and values.action not in ACTIONS:
        warnings.append("This action takes nothing from people who do not log in, so it sends no notices.")
    if any(row.is_disabled for row in rows):
        warnings.append("A chosen template is disabled. Until it is enabled, the rule acts on nobody.")
    if has_steps and not mail_state(organization).is_ready:
        warnings.append(
            "No mail server is set under Settings, Mail. Until one is, nobody is told and nobody acted upon."
        )
    if has_steps and values.mode != CleanupRule.Mode.LIVE:
        warnings.append("In Safe mode nobody is told. Notices go out once the rule is live.")
    return NoticeEditor(
        rows=rows,
        templates=templates,
        audiences=Audience.choices,
        errors=form.errors.get("notices", ()),
        undeliverable=str(values.undeliverable),
        undeliverable_days=values.undeliverable_days,
        days_errors=form.errors.get("undeliverable_days", ()),
        warnings=warnings,
        suggested_days=threshold - 7 if threshold and threshold > 7 else None,
    )


def _since(threshold: int | None, days_before: Any) -> int | None:
    before = _whole(days_before)
    return threshold - before if threshold is not None and before is not None and before < threshold else None


def _whole(value: Any) -> int | None:
    text = str(value if value is not None else "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else None
