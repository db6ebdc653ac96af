"""What of signing in is worth an audit row: second factors added, removed and renewed."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authenticator_added, authenticator_removed, authenticator_reset
from django.dispatch import receiver
from django.http import HttpRequest

from apps.operators.models import Operator
from apps.operators.selectors import organizations_of
from apps.organizations.recorder import Actor, record


@receiver(authenticator_added)
def _added(request: HttpRequest, user: Operator, authenticator: Authenticator, **_: Any) -> None:
    _record(request, user, authenticator, "operator.second_factor_added")


@receiver(authenticator_removed)
def _removed(request: HttpRequest, user: Operator, authenticator: Authenticator, **_: Any) -> None:
    _record(request, user, authenticator, "operator.second_factor_removed")


@receiver(authenticator_reset)
def _reset(request: HttpRequest, user: Operator, authenticator: Authenticator, **_: Any) -> None:
    _record(request, user, authenticator, "operator.recovery_codes_renewed")


def _record(request: HttpRequest, operator: Operator, authenticator: Authenticator, action: str) -> None:
    """One row in each organisation that the operator works in."""
    for organization in organizations_of(operator):
        record(
            organization=organization,
            actor=Actor.operator(operator, request.META.get("REMOTE_ADDR")),
            action=action,
            target_kind="operator",
            target_ref=str(operator.pk),
            target_name=str(operator),
            target_email=operator.email,
            after={"kind": authenticator.type},
        )
