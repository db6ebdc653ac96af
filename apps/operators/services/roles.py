"""Writes about roles: who may do what in an organisation."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from apps.operators.models import ApiToken, Grant, Operator, Role
from apps.operators.selectors import has_other_operator_within, has_second_factor
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor, record
from aum.common.errors import DomainError, InvalidInput


class OneOperatorRefused(DomainError):
    code = "one_operator_refused"
    detail = "Another person could act here within the last 30 days, so approvals stay with a second person."


class LastOwner(DomainError):
    code = "last_owner"
    detail = "This is the last owner. Make somebody else an owner first."


def lock_owners(organization: Organization) -> set[int]:
    """Keys of the active owners; two changes that would together remove the last one wait for each other here."""
    Organization.objects.select_for_update().get(pk=organization.pk)
    owners = Grant.objects.of(organization).filter(role=Role.OWNER, operator__is_active=True)
    return set(owners.values_list("operator_id", flat=True))


@transaction.atomic
def grant_role(
    *, organization: Organization, operator: Operator, role: str, actor: Actor, is_founding: bool = False
) -> Grant:
    """Give a role. A repeated grant changes nothing; a new one starts the 24 hours without approvals."""
    if role not in Role.values:
        raise InvalidInput(fields={"role": [f"Choose one of {', '.join(Role.values)}."]})
    grant, created = Grant.objects.get_or_create(
        organization=organization,
        operator=operator,
        role=role,
        defaults={"granted_at": timezone.now(), "granted_by": actor.name, "is_founding": is_founding},
    )
    if created:
        # One-operator mode ends with the second person, and cannot be had back while they were there.
        if organization.is_one_operator and has_other_operator_within(organization, operator):
            Organization.objects.filter(pk=organization.pk).update(is_one_operator=False)
        record(
            organization=organization,
            actor=actor,
            action="operator.role_granted",
            target_kind="operator",
            target_ref=str(operator.pk),
            target_name=str(operator),
            target_email=operator.email,
            after={"role": role},
        )
    return grant


@transaction.atomic
def choose_one_operator(*, organization: Organization, operator: Operator, actor: Actor) -> None:
    """Approvals by typing the count and the password. Raises OneOperatorRefused while another person was here (P5)."""
    if has_other_operator_within(organization, operator):
        raise OneOperatorRefused
    Organization.objects.filter(pk=organization.pk).update(is_one_operator=True)
    record(
        organization=organization,
        actor=actor,
        action="organization.one_operator_mode",
        target_kind="organization",
        target_ref=organization.slug,
    )
    organization.refresh_from_db()


@transaction.atomic
def revoke_role(*, organization: Organization, operator: Operator, role: str, actor: Actor) -> None:
    """Take a role. With the last one the operator's tokens of this organisation end. Raises LastOwner."""
    owners = lock_owners(organization)
    if role == Role.OWNER and owners == {operator.pk}:
        raise LastOwner
    deleted, _ = Grant.objects.of(organization).filter(operator=operator, role=role).delete()
    if not deleted:
        return
    if not Grant.objects.of(organization).filter(operator=operator).exists():
        ApiToken.objects.of(organization).filter(operator=operator, revoked_at__isnull=True).update(
            revoked_at=timezone.now()
        )
    record(
        organization=organization,
        actor=actor,
        action="operator.role_revoked",
        target_kind="operator",
        target_ref=str(operator.pk),
        target_name=str(operator),
        target_email=operator.email,
        before={"role": role},
    )


@transaction.atomic
def set_roles(*, organization: Organization, operator: Operator, roles: Iterable[str], actor: Actor) -> None:
    """Exactly these roles; none removes the person from the organisation. Raises InvalidInput, LastOwner."""
    wanted = set(roles)
    if wanted - set(Role.values):
        raise InvalidInput(fields={"roles": [f"Choose from {', '.join(Role.values)}."]})
    held = set(Grant.objects.of(organization).filter(operator=operator).values_list("role", flat=True))
    for role in sorted(wanted - held):
        grant_role(organization=organization, operator=operator, role=role, actor=actor)
    for role in sorted(held - wanted):
        revoke_role(organization=organization, operator=operator, role=role, actor=actor)


@transaction.atomic
def require_second_factor(*, organization: Organization, is_required: bool, operator: Operator, actor: Actor) -> None:
    """Open the organisation only to operators with a second factor. Raises InvalidInput while `operator` has none."""
    if is_required and not has_second_factor(operator):
        raise InvalidInput(
            fields={"is_second_factor_required": ["Set up a second factor of your own first: this would lock you out."]}
        )
    changed = Organization.objects.filter(pk=organization.pk, is_second_factor_required=not is_required)
    if changed.update(is_second_factor_required=is_required):
        record(
            organization=organization,
            actor=actor,
            action="organization.second_factor_required",
            target_kind="organization",
            target_ref=organization.slug,
            before={"is_required": not is_required},
            after={"is_required": is_required},
        )
    organization.refresh_from_db()
