"""Who is told, when, and who may not be acted upon because they were not (P10, DESIGN.md §8).

A rule acts on people whose clock started more than N × 24 h and the margin ago. A step "d days before" is reached
d × 24 h earlier; the mail is queued LEAD before that, so that it is with the mail server in time and the action does
not slip to the rule's next run. Nothing here depends on a job having run on a certain day: whoever has reached a step
and was not told in this spell is told at the next look, and the action waits the full days after the mail was handed
over.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.urls import reverse
from django.utils import timezone

from apps.notifications.models import Delivery, EmailTemplate
from apps.notifications.registry import TemplateUse, Undeliverable
from apps.notifications.services import queue_waiting
from apps.operations.models import Operation
from apps.operations.planning import IN, candidates
from apps.operations.selection import ActionSpec
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.selectors import is_copy
from apps.rules import selectors
from apps.rules.models import CleanupRule, NoticeStep
from apps.rules.schedule import next_run
from apps.rules.services.editing import update_rule
from apps.rules.values import RuleInput, selection_for
from apps.users.predicates import last_active
from apps.users.selectors import data_trust
from aum.common.errors import InvalidInput

logger = logging.getLogger(__name__)

LEAD = timedelta(hours=1)
# Between the moment a mail is written and the moment the server takes it.
HANDOVER = timedelta(minutes=2)
MISSING = "notice_missing"


# --- telling ----------------------------------------------------------------------------------------------------------


def owe_notices(now: datetime | None = None) -> int:
    """Queue a notice for everybody who reached a step of a live rule and was not told in this spell; returns how many.

    Nothing for rules in Safe mode, paused or deleted ones, nor while data is not trusted or everything is stopped.
    One rule's error does not keep the others from telling; raises ExceptionGroup afterwards.
    """
    at = now or timezone.now()
    if is_copy():
        return 0
    live = CleanupRule.objects.filter(
        mode=CleanupRule.Mode.LIVE, is_paused=False, deleted_at__isnull=True, notice_steps__isnull=False
    )
    queued, errors = 0, list[Exception]()
    trusted: dict[int, bool] = {}
    for rule in live.select_related("organization").distinct().order_by("pk"):
        organization = rule.organization
        if organization.pk not in trusted:
            trusted[organization.pk] = not organization.is_killed and data_trust(organization).ok
        if not trusted[organization.pk]:
            continue
        if selectors.view_trouble(rule, is_live=True):  # it does not run then, so nobody is told that it will
            continue
        try:
            queued += owe_of_rule(rule, at)
        except Exception as error:
            logger.exception("rule.notices_failed", extra={"rule_id": rule.pk})
            errors.append(error)
    if errors:
        raise ExceptionGroup("rules whose notices could not be queued", errors)
    return queued


@transaction.atomic
def owe_of_rule(rule: CleanupRule, now: datetime) -> int:
    """Queue what one rule owes; returns how many mails. One look at a time, so that counts are those of this look."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('rule-notices'), %s)", [rule.pk])
    steps = list(NoticeStep.objects.filter(rule=rule).select_related("template"))
    values = RuleInput.of(rule)
    queued = 0
    for step in steps:
        if not step.template.is_enabled or step.template.deleted_at is not None:
            continue
        for product in _units(values):
            queued += _owe(rule, values, step, _earlier(steps, step), product, now)
    if queued:
        queue_waiting(rule.organization)
        logger.info("rule.notices_owed", extra={"rule_id": rule.pk, "mails": queued})
    return queued


def _units(values: RuleInput) -> Iterator[str | None]:
    """Products that are judged by themselves, or None once."""
    if values.is_per_product:
        yield from values.target_products
    else:
        yield None


def _earlier(steps: Sequence[NoticeStep], step: NoticeStep) -> list[NoticeStep]:
    """Steps of the ladder that come before `step`: it follows each at its distance, also after a late first mail."""
    return [other for other in steps if other.days_before > step.days_before]


def _reached(
    rule: CleanupRule, values: RuleInput, step: NoticeStep, product: str | None, at: datetime, **narrowed: Any
) -> QuerySet[Any]:
    """People whom the rule will act on `step.days_before` days after `at`, annotated with `spell` and `seen`."""
    selection = selection_for(rule.organization, values)
    never = selection.never_active_days
    reached = dataclasses.replace(
        selection,
        inactive_days=max(1, (selection.inactive_days or 0) - step.days_before),
        never_active_days=max(1, never - step.days_before) if never else never,
    )
    people = candidates(rule.organization, reached, values.action, at, product=product, **narrowed)
    judged = (product,) if product and values.is_per_product else values.inactive_products
    found: QuerySet[Any] = people.filter(out=IN).annotate(
        spell=F("clock"), seen=last_active(judged), code=KeyTextTransform("code", "why")
    )
    return found


def _told(step: NoticeStep, outer: str) -> QuerySet[Any]:
    """Mails of this step to the person, of the spell that `outer` names or a later one."""
    return Delivery.objects.filter(
        kind=Delivery.Kind.NOTICE,
        template_id=step.template_id,
        audience=step.audience,
        account=OuterRef("pk"),
        spell_at__gte=OuterRef(outer),
    )


def _arrived(mails: QuerySet[Any], by: datetime, released_by: datetime) -> QuerySet[Any]:
    """Those that the mail server took by an instant, and undeliverable ones released by the other."""
    return mails.filter(
        Q(status=Delivery.Status.ACCEPTED, accepted_at__lte=by)
        | Q(status__in=Delivery.FAILED, release_at__lte=released_by)
    )


_COLUMNS = (
    "organization_id, kind, status, template_id, account_id, audience, spell_at, last_active_at, rule_id, rule_name, "
    "action, products, days_before, due_at"
)


def _owe(
    rule: CleanupRule,
    values: RuleInput,
    step: NoticeStep,
    earlier: Sequence[NoticeStep],
    product: str | None,
    now: datetime,
) -> int:
    at = now + LEAD
    products = [product] if product else list(values.target_products or values.inactive_products)
    is_told = ~Q(status=Delivery.Status.CANCELLED)
    if product:
        # Another product of the same person and spell joins the mail that is not sent yet.
        joins = Q(status=Delivery.Status.QUEUED, attempts=0, rule_id=rule.pk) & ~Q(products__contains=[product])
        is_told &= ~joins
    people = _reached(rule, values, step, product, at).filter(~Exists(_told(step, "spell").filter(is_told)))
    for other in earlier:
        apart = timedelta(days=other.days_before - step.days_before)
        people = people.filter(
            Exists(_arrived(_told(other, "spell"), at - apart, at + timedelta(days=step.days_before)))
        )
    sql, parameters = people.order_by("pk").values_list("pk", "spell", "seen", "code").query.sql_with_params()
    margin = timedelta(hours=rule.organization.activity_margin_hours)
    idle = timedelta(days=rule.inactive_days or 0) + margin
    never = timedelta(days=rule.never_active_days or rule.inactive_days or 0) + margin
    # psycopg binds a timedelta as an interval.
    bound: list[Any] = [
        rule.organization_id,
        step.template_id,
        step.audience,
        rule.pk,
        rule.name,
        rule.action,
        products,
        step.days_before,
        idle,
        never,
        *parameters,
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO notifications_delivery AS d ({_COLUMNS})
                SELECT %s, 'notice', 'queued', %s, c.id, %s, c.spell, c.seen, %s, %s, %s, %s::varchar[], %s,
                       c.spell + CASE WHEN c.code = 'idle' THEN %s ELSE %s END
                FROM ({sql}) AS c(id, spell, seen, code)
                ON CONFLICT (template_id, account_id, audience, spell_at) WHERE kind = 'notice' DO UPDATE
                SET status = 'queued', next_attempt_at = NULL, server_answer = '', rule_id = EXCLUDED.rule_id,
                    rule_name = EXCLUDED.rule_name, action = EXCLUDED.action, days_before = EXCLUDED.days_before,
                    due_at = EXCLUDED.due_at,
                    products = CASE WHEN d.status = 'cancelled' THEN EXCLUDED.products
                                    ELSE (SELECT array_agg(DISTINCT p ORDER BY p)
                                          FROM unnest(d.products || EXCLUDED.products) AS p) END
                WHERE d.status = 'cancelled' OR (d.status = 'queued' AND d.attempts = 0)""",
            bound,
        )
        return int(cursor.rowcount)


def objections(organization: Organization, notices: Sequence[Delivery]) -> dict[int, str]:
    """Of mails about to be sent: those that are no longer true, and why. The person, the rule or the step changed."""
    found: dict[int, str] = {}
    by_step: dict[tuple[int | None, int | None, str], list[Delivery]] = defaultdict(list)
    for notice in notices:
        by_step[notice.rule_id, notice.template_id, notice.audience].append(notice)
    rules = {
        rule.pk: rule
        for rule in CleanupRule.objects.of(organization).filter(pk__in=[n.rule_id for n in notices if n.rule_id])
    }
    at = timezone.now() + LEAD
    for (rule_id, template_id, audience), some in by_step.items():
        rule = rules.get(rule_id or 0)
        refusal = _rule_refusal(rule)
        step = None
        if rule is not None and not refusal:
            step = NoticeStep.objects.filter(rule=rule, template_id=template_id, audience=audience).first()
            refusal = "" if step else "The rule no longer has this notice."
        if rule is None or step is None:
            found |= {notice.pk: refusal for notice in some}
            continue
        found |= _untrue(rule, step, some, at)
    return found


def _rule_refusal(rule: CleanupRule | None) -> str:
    if rule is None or rule.deleted_at is not None:
        return "The rule was deleted."
    if rule.mode != CleanupRule.Mode.LIVE:
        return "The rule is in Safe mode: nobody is told about it."
    return "The rule is paused." if rule.is_paused else ""


def _untrue(rule: CleanupRule, step: NoticeStep, notices: Sequence[Delivery], at: datetime) -> dict[int, str]:
    values = RuleInput.of(rule)
    pks = [notice.account_id for notice in notices if notice.account_id]
    still: dict[int, list[str]] = defaultdict(list)
    spells: dict[int, datetime] = {n.account_id: n.spell_at for n in notices if n.account_id and n.spell_at}
    for product in _units(values):
        rows = _reached(rule, values, step, product, at, account_pks=pks).values_list("pk", "spell")
        for pk, spell in rows:
            if spell <= spells.get(pk, spell):
                still[pk].append(product or "")
    found: dict[int, str] = {}
    for notice in notices:
        products = still.get(notice.account_id or 0)
        if not products:
            found[notice.pk] = "The rule would no longer act: the user logged in, is protected or exempt, or changed."
        elif values.is_per_product:
            notice.products = [product for product in notice.products if product in products] or products
    return found


# --- the gate ---------------------------------------------------------------------------------------------------------


def untold(operation: Operation, now: datetime) -> tuple[Q, str] | None:
    """Whom a plan of a rule with notices must leave out: whoever was not told by every step, the full days ago.

    A rule in Safe mode tells nobody, so its previews show everybody it would act on. Registered with operations.
    """
    rule = _rule_of(operation)
    if rule is None or (not operation.is_live and rule.mode == CleanupRule.Mode.SAFE):
        return None
    missing = Q()
    for step in NoticeStep.objects.filter(rule=rule):
        by = now - timedelta(days=step.days_before)
        # Nor before the date that the mail named: a schedule that was moved forward does not surprise anybody.
        kept = Q(announced_at__isnull=True) | Q(announced_at__lte=now) | Q(release_at__lte=now)
        missing |= ~Q(Exists(_arrived(_told(step, "clock"), by, now).filter(kept)))
    return (missing, MISSING) if missing else None


def _rule_of(operation: Operation) -> CleanupRule | None:
    run = operation
    while run.rule_id is None and run.retry_of is not None:
        run = run.retry_of
    if run.rule_id is None:
        return None
    return CleanupRule.objects.of(operation.organization).filter(pk=run.rule_id).first()


# --- what templates and mails ask of rules ----------------------------------------------------------------------------


def uses(organization: Organization) -> dict[int, list[TemplateUse]]:
    """Rules that use each template, by its key."""
    found: dict[int, list[TemplateUse]] = defaultdict(list)
    steps = NoticeStep.objects.of(organization).filter(rule__deleted_at__isnull=True).select_related("rule")
    for step in steps.order_by("rule__name", "-days_before"):
        rule = step.rule
        found[step.template_id].append(
            TemplateUse(
                rule_id=rule.pk,
                rule_name=rule.name,
                url=reverse("rules:edit", args=[organization.slug, rule.pk]),
                is_live=rule.mode == CleanupRule.Mode.LIVE and not rule.is_paused,
                is_paused=rule.is_paused,
                threshold_days=rule.inactive_days or 0,
                days_before=step.days_before,
            )
        )
    return dict(found)


def set_timing(template: EmailTemplate, days_inactive: int, actor: Actor, operator: Operator | None) -> None:
    """The template's "days since inactivity" is another name of the step's "days before": change the one rule.

    Raises InvalidInput when several rules use it, or when the rule would act before.
    """
    steps = list(
        NoticeStep.objects.filter(template=template, rule__deleted_at__isnull=True).select_related("rule__organization")
    )
    if not steps:
        return
    rules = {step.rule_id for step in steps}
    if len(rules) > 1:
        raise InvalidInput(
            fields={
                "days_inactive": ["Several rules use this template. Change the days before the action in each rule."]
            }
        )
    rule = steps[0].rule
    days_before = (rule.inactive_days or 0) - days_inactive
    if days_before < 1:
        raise InvalidInput(
            fields={"days_inactive": [f"“{rule.name}” acts at {rule.inactive_days} days. Enter fewer days than that."]}
        )
    values = RuleInput.of(rule)
    notices = tuple(
        f"{template.pk}:{days_before}:{key.split(':')[2]}" if key.split(":")[0] == str(template.pk) else key
        for key in values.notices
    )
    try:
        update_rule(
            rule=rule,
            values=dataclasses.replace(values, notices=notices),
            expected_version=rule.version,
            actor=actor,
            operator=operator,
        )
    except InvalidInput as error:
        said = next(iter(error.fields.values()), [error.detail])[0]
        hint = " Change the days in the rule, where the reason can be given." if "reason" in error.fields else ""
        raise InvalidInput(fields={"days_inactive": [f"“{rule.name}” cannot be changed: {said}{hint}"]}) from error


def next_action_at(organization: Organization, rule_id: int, not_before: datetime) -> datetime | None:
    """The rule's first run that keeps `not_before`; None when it has none."""
    rule = CleanupRule.objects.of(organization).filter(pk=rule_id).first()
    return next_run(rule, not_before + HANDOVER) if rule else None


def action_of(organization: Organization, rule_id: int) -> ActionSpec | None:
    """What the rule does, with its targets; None for a deleted one."""
    rule = CleanupRule.objects.of(organization).filter(pk=rule_id, deleted_at__isnull=True).first()
    return RuleInput.of(rule).action_spec() if rule else None


def undeliverable_of(organization: Organization, rule_id: int | None) -> Undeliverable:
    """What follows when somebody cannot be told."""
    rule = CleanupRule.objects.of(organization).filter(pk=rule_id or 0).first()
    if rule is None:
        return Undeliverable()
    return Undeliverable(rule.undeliverable == CleanupRule.Undeliverable.ASK, rule.undeliverable_days)


def register() -> None:
    """Fill the registries of operations and notifications."""
    from apps.notifications.registry import registry
    from apps.operations import hooks

    hooks.selection_gates.append(untold)
    registry.uses = uses
    registry.set_timing = set_timing
    registry.next_action_at = next_action_at
    registry.objections = objections
    registry.action_of = action_of
    registry.undeliverable_of = undeliverable_of
