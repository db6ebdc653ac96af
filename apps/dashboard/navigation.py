"""Counts beside the navigation's items."""

from __future__ import annotations

from django.db.models import Q
from django.utils import timezone

from apps.operations.models import Operation, SafeguardChange
from apps.operators.context import nav_counts, nav_seconds
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.savings.selectors import open_count
from apps.users.models import Account, Exemption


def _users(organization: Organization) -> int:
    return int(Account.objects.of(organization).filter(vanished_at__isnull=True).count())


def _exemptions(organization: Organization) -> int:
    now = timezone.now()
    in_force = Q(ended_at__isnull=True, starts_at__lte=now) & (Q(until__isnull=True) | Q(until__gt=now))
    return int(Exemption.objects.of(organization).filter(in_force).count())


def _rules(organization: Organization) -> int:
    return int(CleanupRule.objects.of(organization).filter(deleted_at__isnull=True).count())


def _approvals(organization: Organization) -> int:
    changes = SafeguardChange.objects.of(organization).filter(status=SafeguardChange.Status.PENDING).count()
    return int(Operation.objects.of(organization).filter(status=Operation.Status.HELD).count()) + int(changes)


def register() -> None:
    """Fill the registry of `apps.operators.context`."""
    nav_counts.update(users=_users, exemptions=_exemptions, rules=_rules, approvals=_approvals, insights=open_count)
    nav_seconds.update(users=60)
