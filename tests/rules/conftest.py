from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.operators.models import Operator
from apps.organizations.models import Credential, Directory, Organization
from apps.organizations.recorder import Actor
from apps.rules.models import CleanupRule
from apps.rules.services import RuleInput, create_rule
from apps.users.models import (
    Account,
    AccountStatus,
    Activity,
    ClaimStatus,
    DirectoryMembership,
    Group,
    MembershipStatus,
    SyncRun,
)
from apps.users.products import bits_of

WEDNESDAY = datetime(2026, 11, 25, 12, tzinfo=UTC)
ACTOR = Actor("operator", "1", "Ada", "ada@example.com")


def make_organization(slug: str) -> Organization:
    """Connected in name only: credentials are saved and nothing is behind them."""
    organization = Organization.objects.create(
        slug=slug, name=slug.title(), org_id=f"org-{slug}", api_url="http://127.0.0.1:1", activity_margin_hours=0
    )
    for kind in Credential.Kind.values:
        Credential.objects.create(
            organization=organization, kind=kind, reference="env:NOTHING", set_at=timezone.now(), set_by="test"
        )
    return organization


@pytest.fixture
def organization(db: None) -> Organization:
    return make_organization("acme")


@pytest.fixture
def operator(db: None) -> Operator:
    return Operator.objects.create_user("ada@example.com", "long enough for this", name="Ada")


@pytest.fixture
def make_group(organization: Organization) -> Callable[..., Group]:
    def make(name: str, *, of: Organization | None = None, **fields: Any) -> Group:
        owner = of or organization
        directory, _created = Directory.objects.get_or_create(
            organization=owner, directory_id=f"dir-{owner.slug}", defaults={"name": "Main", "seen_at": timezone.now()}
        )
        fields = {"group_id": f"id-{name}", "directory": directory} | fields
        return Group.objects.create(organization=owner, name=name, **fields)

    return make


@pytest.fixture
def make_account(organization: Organization) -> Callable[..., Account]:
    """An active person with Jira who was last seen `idle_days` before now; None: never seen, added `added_days` ago."""

    def make(
        account_id: str,
        *,
        idle_days: float | None = 90,
        added_days: float = 400,
        products: Iterable[str] = ("jira",),
        groups: Iterable[Group] = (),
        of: Organization | None = None,
        **fields: Any,
    ) -> Account:
        now = timezone.now()
        seen_at = None if idle_days is None else now - timedelta(days=idle_days)
        state = Activity.NEVER if seen_at is None else Activity.KNOWN
        for product in products:
            fields = {f"{product}_activity": state, f"{product}_last_active_at": seen_at} | fields
        values: dict[str, Any] = {
            "name": account_id.title(),
            "sort_name": account_id,
            "email": f"{account_id}@example.com",
            "account_status": AccountStatus.ACTIVE,
            "membership_status": MembershipStatus.ACTIVE,
            "claim_status": ClaimStatus.MANAGED,
            "added_to_org_at": now - timedelta(days=added_days),
            "products": bits_of(products),
            "last_active_at": seen_at,
            "is_activity_read": True,
            "group_ids": [group.pk for group in groups],
        }
        owner = of or organization
        account = Account.objects.create(organization=owner, account_id=account_id, **(values | fields))
        directory, _created = Directory.objects.get_or_create(
            organization=owner, directory_id=f"dir-{owner.slug}", defaults={"name": "Main", "seen_at": now}
        )
        DirectoryMembership.objects.create(
            organization=owner, account=account, directory=directory, status=MembershipStatus.ACTIVE
        )
        return account

    return make


@pytest.fixture
def trusted_sync(organization: Organization) -> SyncRun:
    now = timezone.now()
    return SyncRun.objects.create(
        organization=organization, status=SyncRun.Status.SUCCEEDED, is_trusted=True, started_at=now, finished_at=now
    )


def made_live(rule: CleanupRule) -> CleanupRule:
    """The rule as if it had been previewed and switched to Live in the version that it has."""
    version = rule.versions.get(version=rule.version)
    version.content["mode"] = rule.mode = "live"
    version.save(update_fields=["content"])
    rule.save(update_fields=["mode"])
    return rule


def rule_input(**fields: Any) -> RuleInput:
    """The smallest valid values: suspend everybody idle for 60 days, in Safe mode, daily at 06:00 UTC."""
    smallest: dict[str, Any] = {"name": "Suspend after 60 days", "inactive_days": 60, "run_at": time(6)}
    return RuleInput(**(smallest | fields))


@pytest.fixture
def make_rule(organization: Organization, operator: Operator) -> Callable[..., CleanupRule]:
    def make(*, of: Organization | None = None, mode: str = "safe", **fields: Any) -> CleanupRule:
        values = rule_input(**fields)
        rule = create_rule(organization=of or organization, values=values, actor=ACTOR, operator=operator)
        return made_live(rule) if mode == "live" else rule

    return make
