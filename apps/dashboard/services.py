"""Changes of what spans apps: a person's name in the log and its imports, the support contacts."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from django.db import transaction

from apps.audit.services import erase_identity, erase_imported, record
from apps.dashboard.models import SupportContact
from apps.operations.models import Operation
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor


def erase_person(
    *, organization: Organization, kind: str, key: str, emails: Collection[str], reason: str, actor: Actor
) -> int:
    """Erase name and e-mail of one person from every entry and from imported logs; returns from how many texts."""
    with transaction.atomic():
        count = erase_identity(organization=organization, kind=kind, key=key, actor=actor, reason=reason)
        for email in emails:
            count += erase_imported(organization=organization, email=email, actor=actor, reason=reason)
    return count


def set_support_contact(*, organization: Organization, values: Mapping[str, str], actor: Actor) -> SupportContact:
    """Keep the support contacts of an organisation; nothing is written where nothing changed."""
    with transaction.atomic():
        found, _ = SupportContact.objects.select_for_update().get_or_create(organization=organization)
        contact: SupportContact = found
        before = {name: getattr(contact, name) for name in values if getattr(contact, name) != values[name]}
        if before:
            for name in before:
                setattr(contact, name, values[name])
            contact.save()
            record(
                organization=organization,
                actor=actor,
                action="organization.support_changed",
                target_kind="organization",
                target_ref=organization.slug,
                target_name=organization.name,
                before=before,
                after={name: values[name] for name in before},
            )
    return contact


def record_evidence(*, operation: Operation, actor: Actor) -> None:
    """Log that the evidence pack of a run left the product."""
    record(
        organization=operation.organization,
        actor=actor,
        action="operation.evidence_exported",
        target_kind="operation",
        target_ref=str(operation.number),
        target_name=operation.name,
        operation_id=operation.pk,
        operation_number=operation.number,
        after={"plan_hash": operation.plan_hash},
    )
