"""Rules, templates, exemptions and an assignment rule of the demo organisation, and the notices of its invented runs.

Named "(demo)", made by the services that people use, and harmless: the rules are in Safe mode, the assignment rule is
off. Never made for another organisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time, timedelta

from django.utils import timezone

from apps.autoactivate.models import Channel
from apps.autoactivate.services import create_rule as create_assignment
from apps.autoactivate.values import AssignmentInput
from apps.dashboard.demo_history import DEACTIVATION, SUSPENSION
from apps.notifications.models import Audience, Delivery, EmailTemplate
from apps.notifications.services import TemplateInput, create_template
from apps.operations.models import Operation, OperationItem
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.pricing.selectors import local_midnight, today
from apps.rules.models import CleanupRule
from apps.rules.services import create_rule
from apps.rules.values import RuleInput
from apps.users.models import Account, AccountStatus, Group, MembershipStatus
from apps.users.services import set_exemption

DEMO = Actor.system("AUM demo")
WARNED_DAYS = 7
WARNING, LEAVING = "A week's warning (demo)", "Before an account is closed (demo)"
_BODY = (
    "<h2>Your access ends on {{action_date}}</h2><p>Dear {{username}},</p><p>you have not used {{product}} for"
    " <strong>{{inactivity_days}} days</strong>. We free licences that nobody uses.</p><ul><li>Still needed?"
    " {{keep_access_link}}</li><li>Not needed any more? You have nothing to do.</li></ul>"
)
_EXEMPT = (("Parental leave until spring (demo)", 120), ("Seconded to a customer (demo)", 20))


@dataclass(frozen=True)
class DemoRules:
    """The rules by the names of their runs, and the template that warned people before them."""

    rules: dict[str, CleanupRule]
    warning: EmailTemplate


def make_demo_rules(organization: Organization) -> DemoRules:
    """Everything that a person would have set up before the demo's runs; in the caller's transaction."""
    warning = _template(organization, WARNING, EmailTemplate.Event.SUSPEND, 60 - WARNED_DAYS)
    leaving = _template(organization, LEAVING, EmailTemplate.Event.DEACTIVATE, 180 - WARNED_DAYS)
    rules = {
        SUSPENSION: _rule(organization, SUSPENSION, CleanupRule.Action.SUSPEND, 60, warning, time(6)),
        DEACTIVATION: _rule(organization, DEACTIVATION, CleanupRule.Action.DEACTIVATE, 180, leaving, time(7)),
    }
    _exemptions(organization)
    _assignment(organization)
    return DemoRules(rules, warning)


def _template(organization: Organization, name: str, event: str, days: int) -> EmailTemplate:
    values = TemplateInput(
        name=name, event=event, days_inactive=days, subject="{{username}}, your access ends soon", body=_BODY
    )
    return create_template(organization=organization, values=values, actor=DEMO).template


def _rule(
    organization: Organization, name: str, action: str, days: int, template: EmailTemplate, run_at: time
) -> CleanupRule:
    values = RuleInput(
        name=name,
        action=action,
        inactive_days=days,
        include_never_active=True,
        never_active_days=days,
        recurrence=CleanupRule.Recurrence.WEEKLY,
        weekdays=(today(organization).weekday(),),
        run_at=run_at,
        notices=(f"{template.pk}:{WARNED_DAYS}:{Audience.PERSON}",),
        notes="Part of the demo organisation. It is in Safe mode: it shows whom it would change, and changes nobody.",
    )
    return create_rule(organization=organization, values=values, actor=DEMO, operator=None)


def _exemptions(organization: Organization) -> None:
    people = Account.objects.of(organization).filter(
        account_status=AccountStatus.ACTIVE, membership_status=MembershipStatus.ACTIVE, vanished_at__isnull=True
    )
    idle = people.filter(last_active_at__lt=timezone.now() - timedelta(days=90)).order_by("account_id")
    for (reason, days), account in zip(_EXEMPT, idle[: len(_EXEMPT)], strict=False):
        until = local_midnight(organization, today(organization) + timedelta(days=days))
        set_exemption(organization=organization, account=account, reason=reason, until=until, actor=DEMO)


def _assignment(organization: Organization) -> None:
    """Off: nothing has arrived from outside yet, and nobody is given anything by looking at the demo."""
    group = Group.objects.of(organization).filter(name="employees", vanished_at__isnull=True).first()
    if group is None:
        return
    values = AssignmentInput(
        name="Employees of our own domain (demo)",
        channels=(Channel.INTRANET.value,),
        domains=("larkspur-robotics.example",),
        groups=(group.pk,),
        max_per_day=20,
    )
    create_assignment(organization=organization, values=values, is_active=False, actor=DEMO, operator=None)


def make_notices(demo: DemoRules, run: Operation, items: list[OperationItem]) -> list[Delivery]:
    """The notice of each person of a suspension, accepted by an invented mail server a week before. Not saved."""
    at = run.created_at - timedelta(days=WARNED_DAYS, hours=-2)
    return [
        Delivery(
            organization=run.organization,
            kind=Delivery.Kind.NOTICE,
            status=Delivery.Status.ACCEPTED,
            template=demo.warning,
            account=item.account,
            spell_at=at - timedelta(days=60 - WARNED_DAYS),
            rule_id=run.rule_id,
            rule_name=run.name,
            action=run.action,
            days_before=WARNED_DAYS,
            due_at=run.created_at,
            announced_at=run.created_at,
            recipient=item.account.email,
            subject=f"{item.account.name}, your access ends soon"[:400],
            created_at=at,
            attempts=1,
            handed_at=at,
            accepted_at=at + timedelta(seconds=2),
            message_id=f"<demo-{run.number}-{place}@aum.example>",
            server_answer="250 accepted (demo: no mail was sent)",
        )
        for place, item in enumerate(items)
        if item.account and item.account.email
    ]
