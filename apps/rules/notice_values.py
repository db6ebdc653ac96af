"""The notices of a rule as values: steps as "<template>:<days before>:<audience>", judged as the other fields are.

A step comes from a form as such a text, and from REST and YAML as a mapping with `template` (key or name),
`days_before` (or `days_inactive`, the same date seen from the other side) and `audience`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.notifications.models import Audience, EmailTemplate
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule

MAX_STEPS = 8
MAX_UNDELIVERABLE_DAYS = 365
# Only who loses something by not logging in is told about it beforehand.
ACTIONS = ("suspend", "deactivate", "remove_product_access", "remove_from_group")
_TEXT = re.compile(r"([0-9]{1,18}):([^:]*):([a-z]{1,10})")


@dataclass(frozen=True)
class Step:
    """One step as it was given: texts, where they came as text."""

    template: Any = ""
    days_before: Any = None
    audience: str = Audience.PERSON.value

    @property
    def key(self) -> str:
        return f"{self.template}:{self.days_before if self.days_before is not None else ''}:{self.audience}"


def steps_of(notices: Sequence[Any], *, inactive_days: Any = None) -> list[Step]:
    """The steps as far as they can be read: what a form shows again after a refusal."""
    return [_read(entry, inactive_days) for entry in notices]


def _read(entry: Any, inactive_days: Any) -> Step:
    if isinstance(entry, Mapping):
        days = entry.get("days_before")
        if days in (None, "") and entry.get("days_inactive") not in (None, ""):
            threshold, since = _whole(inactive_days), _whole(entry["days_inactive"])
            days = threshold - since if threshold is not None and since is not None else None
        audience = str(entry.get("audience") or Audience.PERSON.value)
        return Step(entry.get("template", ""), days, audience)
    match = _TEXT.fullmatch(str(entry).strip())
    return Step(match[1], match[2].strip(), match[3]) if match else Step(str(entry)[:100])


def clean_notices(values: Any, organization: Organization, refuse: Callable[[str, str], None]) -> dict[str, Any]:
    """`notices`, `undeliverable` and `undeliverable_days` of valid values; tells `refuse` about the first wrong one."""
    threshold = _whole(getattr(values, "inactive_days", None))
    policy = _policy(values, refuse)
    if values.action not in ACTIONS or threshold is None:
        return {"notices": (), **policy}
    steps = steps_of(values.notices or (), inactive_days=threshold)
    if len(steps) > MAX_STEPS:
        refuse("notices", f"Use at most {MAX_STEPS} notices.")
        return {"notices": (), **policy}
    templates = _templates(organization, steps)
    keys: dict[tuple[int, str], str] = {}
    for step in steps:
        template = templates.get(str(step.template).strip().lower())
        days = _whole(step.days_before)
        if template is None:
            refuse("notices", "Choose a template that exists under Email Notifications.")
        elif days is None or days < 1:
            refuse("notices", f"Enter how many days before the action “{template.name}” is sent, 1 or more.")
        elif days >= threshold:
            refuse(
                "notices",
                f"“{template.name}” would be sent {days} days before an action at {threshold} days, so before anybody "
                f"is inactive at all. Enter at most {threshold - 1}.",
            )
        elif step.audience not in Audience.values:
            refuse("notices", f"Choose whom “{template.name}” goes to: {' or '.join(Audience.values)}.")
        elif (template.pk, step.audience) in keys:
            refuse(
                "notices",
                f"“{template.name}” is used twice. Nobody gets the same mail twice: duplicate the template for a "
                "second notice.",
            )
        else:
            keys[template.pk, step.audience] = Step(template.pk, days, step.audience).key
    ordered = sorted(keys.values(), key=lambda key: (-int(key.split(":")[1]), key))
    return {"notices": tuple(ordered), **policy}


def _policy(values: Any, refuse: Callable[[str, str], None]) -> dict[str, Any]:
    choice = str(values.undeliverable or CleanupRule.Undeliverable.ASK.value)
    if choice not in CleanupRule.Undeliverable.values:
        refuse("undeliverable", f"Choose one of {', '.join(CleanupRule.Undeliverable.values)}.")
    given = values.undeliverable_days
    days = _whole(given) if given not in (None, "") else 14
    if days is None or not 1 <= days <= MAX_UNDELIVERABLE_DAYS:
        refuse("undeliverable_days", f"Enter a number of days from 1 to {MAX_UNDELIVERABLE_DAYS}.")
        days = 14
    return {"undeliverable": choice, "undeliverable_days": days}


def _templates(organization: Organization, steps: Sequence[Step]) -> dict[str, EmailTemplate]:
    """By key as text, and by name in lower case."""
    present = EmailTemplate.objects.of(organization).filter(deleted_at__isnull=True)
    found: dict[str, EmailTemplate] = {}
    if steps:
        for template in present:
            found[template.name.lower()] = template
            found[str(template.pk)] = template
    return found


def notices_content(notices: Sequence[str], organization: Organization) -> list[dict[str, Any]]:
    """Cleaned steps as versions and audit rows keep them, with the template's name beside its key."""
    steps = steps_of(notices)
    names = dict(
        EmailTemplate.objects.of(organization)
        .filter(pk__in=[int(step.template) for step in steps])
        .values_list("pk", "name")
    )
    return [
        {
            "key": step.key,
            "template": names.get(int(step.template), ""),
            "days_before": int(step.days_before),
            "audience": step.audience,
        }
        for step in steps
    ]


def _whole(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
