"""Creating, changing, switching and deleting e-mail templates; each change has its audit row."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.audit.services import record
from apps.notifications import content
from apps.notifications.models import Delivery, EmailTemplate
from apps.notifications.registry import TemplateUse, registry
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from aum.common.errors import DomainError, InvalidInput, Missing

NAME_LENGTH = 120
MAX_DAYS = 3650
MAX_BCC = 10
TAKEN = "Another template has this name. Choose a different one."


class TemplateChanged(DomainError):
    code = "template_changed"
    detail = "Somebody else changed this template meanwhile. Open it again, then make your change."


class TemplateInUse(DomainError):
    code = "template_in_use"
    detail = "Rules use this template."


class RulesWouldWait(DomainError):
    """Disabling would make live rules wait; `fields` names none, the sentence names the rules."""

    code = "rules_would_wait"
    detail = "Live rules would wait for this template."


@dataclass(frozen=True)
class TemplateInput:
    """All that can be entered of a template; values may be text, as forms and JSON give them."""

    name: str = ""
    event: str = EmailTemplate.Event.OTHER.value
    days_inactive: int | str | None = None
    subject: str = ""
    body: str = ""
    bcc: Iterable[str] | str = ()
    is_enabled: bool = True

    @classmethod
    def of(cls, template: EmailTemplate) -> TemplateInput:
        """The template as it stands."""
        return cls(**{field.name: getattr(template, field.name) for field in dataclasses.fields(cls)})


@dataclass(frozen=True)
class Saved:
    """The template, and what was taken out of its body, in words."""

    template: EmailTemplate
    removed: tuple[str, ...] = ()


def clean(
    values: TemplateInput, organization: Organization, *, template: EmailTemplate | None = None
) -> dict[str, Any]:
    """Columns of valid values, and `removed`. Raises InvalidInput that names each wrong field."""
    errors: dict[str, list[str]] = {}
    name = content.clean_line(str(values.name or ""), NAME_LENGTH + 1)
    if not name:
        errors["name"] = ["Give the template a name."]
    elif len(name) > NAME_LENGTH:
        errors["name"] = [f"Use at most {NAME_LENGTH} characters."]
    elif _is_taken(organization, name, template):
        errors["name"] = [TAKEN]
    event = str(values.event or EmailTemplate.Event.OTHER.value)
    if event not in EmailTemplate.Event.values:
        errors["event"] = [f"Choose one of {', '.join(EmailTemplate.Event.values)}."]
    days = _whole(values.days_inactive)
    if days is None or not 0 <= days <= MAX_DAYS:
        errors["days_inactive"] = [f"Enter a whole number of days from 0 to {MAX_DAYS:,}."]
    subject = str(values.subject or "")
    removed: tuple[str, ...] = ()
    if any(character in "\r\n\x00" for character in subject.strip()):
        errors["subject"] = ["The subject is one line. Take the line break out."]
    subject = content.clean_line(subject, content.MAX_SUBJECT + 1)
    if not subject:
        errors.setdefault("subject", ["Give the mail a subject."])
    elif len(subject) > content.MAX_SUBJECT:
        errors["subject"] = [f"Use at most {content.MAX_SUBJECT} characters."]
    elif faults := content.faults_of(subject, is_subject=True):
        errors.setdefault("subject", faults)
    body = ""
    try:
        sanitised = content.sanitise(str(values.body or ""))
    except InvalidInput as error:
        errors |= error.fields
    else:
        body, removed = sanitised.html, sanitised.removed
        if faults := content.faults_of(body):
            errors["body"] = faults
        elif not content.to_text(body).strip():
            gone = f" What was there is not allowed: {', '.join(removed)}." if removed else ""
            errors["body"] = [f"Write what the mail says.{gone}"]
    bcc, bcc_fault = clean_addresses(values.bcc)
    if bcc_fault:
        errors["bcc"] = [bcc_fault]
    if errors:
        raise InvalidInput(fields=errors)
    return {
        "name": name,
        "event": event,
        "days_inactive": days,
        "subject": subject,
        "body": body,
        "bcc": bcc,
        "is_enabled": bool(values.is_enabled),
        "removed": removed,
    }


def clean_addresses(given: Iterable[str] | str, *, limit: int = MAX_BCC) -> tuple[list[str], str]:
    """(addresses, what is wrong). Text is split at commas, semicolons and lines; each address once."""
    parts = re.split(r"[,;\n\r]+", given) if isinstance(given, str) else [str(part) for part in given]
    addresses = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    for address in addresses:
        try:
            validate_email(address)
            if not address.isascii() or len(address) > 254:
                raise ValidationError("not an address")
        except ValidationError:
            shown = content.clean_line(address, 60)
            return [], f"{shown} is not an email address. Separate several addresses with commas."
    if len(addresses) > limit:
        return [], f"Give at most {limit} addresses."
    return addresses, ""


def create_template(*, organization: Organization, values: TemplateInput, actor: Actor) -> Saved:
    """A new template. Raises InvalidInput."""
    columns = clean(values, organization)
    removed = columns.pop("removed")
    try:
        with transaction.atomic():
            template = EmailTemplate.objects.create(
                organization=organization, edited_by_text=actor.name[:254], edited_at=timezone.now(), **columns
            )
            _record(template, actor, "email_template.created", after=columns)
    except IntegrityError as error:
        raise _name_taken(error) from error
    return Saved(template, removed)


def update_template(
    *,
    template: EmailTemplate,
    values: TemplateInput,
    actor: Actor,
    operator: Operator | None,
    expected_version: int | None = None,
    is_confirmed: bool = False,
) -> Saved:
    """The template with new values. Its days also move the one rule that uses it.

    Raises InvalidInput, TemplateChanged, Missing, and RulesWouldWait when it is switched off without `is_confirmed`
    although live rules use it. Days of a template that several rules use are changed in the rules.
    """
    try:
        with transaction.atomic():
            current = _locked(template)
            if expected_version is not None and current.version != expected_version:
                raise TemplateChanged(
                    f"{current.edited_by_text} changed this template at {current.edited_at:%Y-%m-%d %H:%M} UTC. "
                    "Open it again, then make your change."
                )
            columns = clean(values, current.organization, template=current)
            removed = columns.pop("removed")
            before = {name: getattr(current, name) for name in columns}
            changed = [name for name, value in columns.items() if before[name] != value]
            if not changed:
                return Saved(current, removed)
            if "is_enabled" in changed and not columns["is_enabled"] and not is_confirmed:
                refuse_waiting(current)
            if "days_inactive" in changed:
                registry.set_timing(current, columns["days_inactive"], actor, operator)
            for name in changed:
                setattr(current, name, columns[name])
            current.version += 1
            current.edited_by_text, current.edited_at = actor.name[:254], timezone.now()
            current.save()
            _record(
                current,
                actor,
                "email_template.updated",
                before={name: before[name] for name in changed},
                after={name: columns[name] for name in changed},
            )
    except IntegrityError as error:
        raise _name_taken(error) from error
    return Saved(current, removed)


def set_enabled(
    *, template: EmailTemplate, is_enabled: bool, actor: Actor, is_confirmed: bool = False
) -> EmailTemplate:
    """Switch a template on or off. Off: it goes out under no circumstances, queued mails included.

    Raises RulesWouldWait without `is_confirmed` when live rules use it, Missing.
    """
    with transaction.atomic():
        current = _locked(template)
        if current.is_enabled == is_enabled:
            return current
        if not is_enabled and not is_confirmed:
            refuse_waiting(current)
        current.is_enabled = is_enabled
        current.version += 1
        current.edited_by_text, current.edited_at = actor.name[:254], timezone.now()
        current.save()
        if not is_enabled:
            cancel_waiting(current, f"The template was disabled by {actor.name}.")
        action = "email_template.enabled" if is_enabled else "email_template.disabled"
        _record(current, actor, action, after={"is_enabled": is_enabled})
    return current


def cancel_waiting(template: EmailTemplate, why: str) -> None:
    """Take back what has not been handed over yet."""
    Delivery.objects.filter(template=template, status=Delivery.Status.QUEUED).update(
        status=Delivery.Status.CANCELLED, server_answer=why[:500]
    )


def delete_template(*, template: EmailTemplate, actor: Actor) -> None:
    """Remove a template; what was sent with it stays on record. Raises TemplateInUse that names the rules, Missing."""
    with transaction.atomic():
        current = _locked(template)
        uses = registry.uses(current.organization).get(current.pk, [])
        if uses:
            raise TemplateInUse(f"Used by {names_of(uses)}. Take the notice out of there first.")
        before = {"name": current.name, "subject": current.subject, "body": current.body}
        current.deleted_at = timezone.now()
        current.save(update_fields=["deleted_at"])
        cancel_waiting(current, "The template was deleted.")
        _record(current, actor, "email_template.deleted", before=before)


def duplicate_template(*, template: EmailTemplate, actor: Actor) -> EmailTemplate:
    """A disabled copy under a free name."""
    taken = {
        name.lower()
        for name in EmailTemplate.objects.of(template.organization)
        .filter(deleted_at__isnull=True)
        .values_list("name", flat=True)
    }
    number = 1
    while True:
        suffix = " (copy)" if number == 1 else f" (copy {number})"
        name = template.name[: NAME_LENGTH - len(suffix)].rstrip() + suffix
        if name.lower() not in taken:
            break
        number += 1
    values = dataclasses.replace(TemplateInput.of(template), name=name, is_enabled=False)
    return create_template(organization=template.organization, values=values, actor=actor).template


def ensure_defaults(organization: Organization) -> None:
    """The three templates that an organisation starts with, once: who deleted them does not get them back."""
    if EmailTemplate.objects.of(organization).exists():
        return
    for event, name, subject, body in content.DEFAULTS:
        values = TemplateInput(name=name, event=event, days_inactive=23, subject=subject, body=body)
        try:
            create_template(organization=organization, values=values, actor=Actor.system())
        except InvalidInput:  # another request made it in the same moment
            continue


def refuse_waiting(template: EmailTemplate) -> None:
    """Raises RulesWouldWait when live rules would have to wait for this template."""
    waiting = [use for use in registry.uses(template.organization).get(template.pk, []) if use.is_live]
    if waiting:
        raise RulesWouldWait(
            f"{names_of(waiting)} would wait: without this notice nobody is acted upon. Disable it all the same?"
        )


def names_of(uses: Iterable[TemplateUse]) -> str:
    """“A”, “B” and “C”."""
    names = [f"“{name}”" for name in dict.fromkeys(use.rule_name for use in uses)]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _locked(template: EmailTemplate) -> EmailTemplate:
    found: EmailTemplate | None = (
        EmailTemplate.objects.select_for_update(of=("self",))
        .select_related("organization")
        .filter(pk=template.pk, deleted_at__isnull=True)
        .first()
    )
    if found is None:
        raise Missing("This template was deleted.")
    return found


def _is_taken(organization: Organization, name: str, template: EmailTemplate | None) -> bool:
    others = EmailTemplate.objects.of(organization).filter(name__iexact=name, deleted_at__isnull=True)
    return bool((others.exclude(pk=template.pk) if template else others).exists())


def _name_taken(error: IntegrityError) -> DomainError:
    if "email_template_name_once" not in str(error):
        raise error
    return InvalidInput(fields={"name": [TAKEN]})


def _whole(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value or "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def _record(template: EmailTemplate, actor: Actor, action: str, **fields: Any) -> None:
    record(
        organization=template.organization,
        actor=actor,
        action=action,
        target_kind="email_template",
        target_ref=str(template.pk),
        target_name=template.name,
        **fields,
    )
