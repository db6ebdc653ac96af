"""Creating, changing, switching and deleting assignment rules. Each change is a version and an audit row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.audit.services import record
from apps.autoactivate import selectors
from apps.autoactivate.models import AssignmentRule, AssignmentRuleVersion, RuleDraft
from apps.autoactivate.services import lookups
from apps.autoactivate.values import AssignmentInput, Cleaned, clean, content_of
from apps.operations.planning import group_refusal
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import resolve_alert
from apps.users.models import Group
from aum.common.errors import DomainError, InvalidInput, Missing


class SetupNotSeen(DomainError):
    code = "setup_not_seen"
    detail = (
        "Nothing has arrived from outside yet. Set up Jira Automation (or another way in) with the setup guide, and "
        "send one event; then the rule can be switched on."
    )


class RuleChanged(DomainError):
    code = "rule_changed"
    detail = "Somebody else changed this rule meanwhile. Open it again, then make your change."


class RuleUnusable(DomainError):
    code = "rule_unusable"
    detail = "This rule cannot be switched on as it stands. Edit it first."


def judge(organization: Organization, values: AssignmentInput, *, rule: AssignmentRule | None = None) -> Cleaned:
    """The values as they would be saved, with what Jira says about project and request types.

    Raises InvalidInput that names each wrong field; a Jira that cannot be read is said at the project.
    """
    try:
        project = lookups.known_project(organization, values)
    except DomainError as error:
        raise InvalidInput(fields={"project": [error.detail]}) from error
    return clean(values, organization, project=project, rule=rule)


def create_rule(
    *,
    organization: Organization,
    values: AssignmentInput,
    is_active: bool,
    actor: Actor,
    operator: Operator | None,
) -> AssignmentRule:
    """A new rule at version 1. Raises InvalidInput; SetupNotSeen when it is to be active before anything arrived."""
    cleaned = judge(organization, values)
    if is_active:
        _refuse_unseen(organization, cleaned.columns["channels"])
    try:
        with transaction.atomic():
            now = timezone.now()
            rule = AssignmentRule.objects.create(
                organization=organization,
                is_active=is_active,
                edited_by=operator,
                edited_by_text=actor.name[:254],
                edited_at=now,
                **cleaned.columns,
            )
            rule.groups.set(cleaned.groups)
            content = content_of(cleaned.columns, cleaned.groups)
            _keep_version(rule, content)
            _record(rule, actor, "assignment_rule.created", after={**content, "is_active": is_active})
            _drop_draft(organization, operator, None)
            return rule
    except IntegrityError as error:
        raise _name_taken(error) from error


def update_rule(
    *,
    rule: AssignmentRule,
    values: AssignmentInput,
    expected_version: int,
    actor: Actor,
    operator: Operator | None,
) -> AssignmentRule:
    """The rule with new values as its next version; the same rule when nothing changed.

    What is being given goes on. A rule whose new ways in have not been seen to work is switched off and says so. Raises
    RuleChanged, Missing, InvalidInput.
    """
    cleaned = judge(rule.organization, values, rule=rule)
    try:
        with transaction.atomic():
            return _update(locked(rule), cleaned, expected_version, actor, operator)
    except IntegrityError as error:
        raise _name_taken(error) from error


def _update(
    rule: AssignmentRule, cleaned: Cleaned, expected_version: int, actor: Actor, operator: Operator | None
) -> AssignmentRule:
    if rule.version != expected_version:
        raise RuleChanged(
            f"{rule.edited_by_text} changed this rule at {rule.edited_at:%Y-%m-%d %H:%M} UTC. "
            "Open it again, then make your change."
        )
    stored = AssignmentRuleVersion.objects.get(rule=rule, version=rule.version).content
    content = content_of(cleaned.columns, cleaned.groups)
    after = {name: value for name, value in content.items() if stored.get(name) != value}
    _drop_draft(rule.organization, operator, rule)
    if not after:
        return rule
    for name, value in cleaned.columns.items():
        setattr(rule, name, value)
    if rule.is_active and not selectors.is_set_up(rule.organization, rule.channels):
        rule.is_active = False
        after["is_active"] = False
    rule.version += 1
    rule.edited_by, rule.edited_by_text, rule.edited_at = operator, actor.name[:254], timezone.now()
    rule.save()
    rule.groups.set(cleaned.groups)
    _keep_version(rule, content)
    _resolve_alerts(rule, actor)
    before = {name: stored.get(name) for name in after if name != "is_active"}
    _record(rule, actor, "assignment_rule.updated", before=before, after=after)
    return rule


@transaction.atomic
def switch_rule(*, rule: AssignmentRule, is_active: bool, actor: Actor) -> AssignmentRule:
    """Switch a rule on or off without deleting it (S172). Nothing happens when it stands there already.

    Raises SetupNotSeen before an event arrived from outside (S174), RuleUnusable when a group is gone or by now grants
    administration (P15), Missing when the rule was deleted.
    """
    rule = locked(rule)
    if rule.is_active == is_active:
        return rule
    if is_active:
        _refuse_unseen(rule.organization, rule.channels)
        _refuse_unusable(rule)
    rule.is_active = is_active
    rule.save(update_fields=["is_active"])
    _resolve_alerts(rule, actor)
    _record(rule, actor, "assignment_rule.switched_on" if is_active else "assignment_rule.switched_off")
    return rule


@transaction.atomic
def delete_rule(*, rule: AssignmentRule, actor: Actor) -> None:
    """Remove the rule; what it gave stays, with its end where it has one. Raises Missing when it is gone already."""
    rule = locked(rule)
    rule.deleted_at, rule.is_active = timezone.now(), False
    rule.save(update_fields=["deleted_at", "is_active"])
    RuleDraft.objects.filter(rule=rule).delete()
    _resolve_alerts(rule, actor)
    stored = AssignmentRuleVersion.objects.get(rule=rule, version=rule.version).content
    _record(rule, actor, "assignment_rule.deleted", before=stored)


# --- drafts of the wizard -------------------------------------------------------------------------------------------


def save_draft(
    *,
    organization: Organization,
    operator: Operator,
    rule: AssignmentRule | None,
    values: AssignmentInput,
    version: int = 0,
) -> None:
    """Keep what was entered so far, and which version of the rule it began from. Nothing of it is in force."""
    RuleDraft.objects.update_or_create(
        organization=organization,
        operator=operator,
        rule=rule,
        defaults={"values": {**values.to_json(), "version": version}, "updated_at": timezone.now()},
    )


def drop_draft(*, organization: Organization, operator: Operator, rule: AssignmentRule | None) -> None:
    """Forget what was entered in the wizard."""
    _drop_draft(organization, operator, rule)


def _drop_draft(organization: Organization, operator: Operator | None, rule: AssignmentRule | None) -> None:
    RuleDraft.objects.of(organization).filter(operator=operator, rule=rule).delete()


# --- parts ----------------------------------------------------------------------------------------------------------


def locked(rule: AssignmentRule) -> AssignmentRule:
    """The rule's row, locked until the transaction ends; raises Missing when it was deleted."""
    found: AssignmentRule | None = (
        AssignmentRule.objects.select_for_update(of=("self",))
        .select_related("organization")
        .filter(pk=rule.pk, deleted_at__isnull=True)
        .first()
    )
    if found is None:
        raise Missing("This rule was deleted. What it gave stays in the log.")
    return found


def _refuse_unseen(organization: Organization, channels: Sequence[str]) -> None:
    if not selectors.is_set_up(organization, channels):
        raise SetupNotSeen


def _refuse_unusable(rule: AssignmentRule) -> None:
    refusals = group_refusals(list(rule.groups.all()))
    if rule.trigger_group is not None and rule.trigger_group.vanished_at is not None:
        refusals.append(f"{rule.trigger_group.name} is no longer in Atlassian.")
    if refusals:
        raise RuleUnusable(f"{' '.join(refusals)} Edit the rule first.")


def group_refusals(groups: Sequence[Group]) -> list[str]:
    """Why groups cannot be added to as they stand: gone, synced, or giving administration (P15)."""
    found = []
    for group in groups:
        if group.vanished_at is not None:
            found.append(f"{group.name} is no longer in Atlassian.")
        elif refusal := group_refusal(group, "add_to_group"):
            found.append(refusal)
    return found


def _keep_version(rule: AssignmentRule, content: dict[str, Any]) -> None:
    AssignmentRuleVersion.objects.create(
        organization=rule.organization,
        rule=rule,
        version=rule.version,
        content=content,
        edited_by_text=rule.edited_by_text,
        edited_at=rule.edited_at,
    )


def _resolve_alerts(rule: AssignmentRule, actor: Actor) -> None:
    for kind in ("activation_limit", "activation_group"):
        resolve_alert(organization=rule.organization, dedup_key=f"{kind}:{rule.pk}", by=actor.name)


def _name_taken(error: IntegrityError) -> DomainError:
    if "assignment_rule_name_once" not in str(error):
        raise error
    return InvalidInput(fields={"name": ["Another rule has this name. Choose a different one."]})


def _record(rule: AssignmentRule, actor: Actor, action: str, **fields: Any) -> None:
    record(
        organization=rule.organization,
        actor=actor,
        action=action,
        target_kind="assignment_rule",
        target_ref=str(rule.pk),
        target_name=rule.name,
        rule_name=rule.name,
        rule_version=rule.version,
        **fields,
    )
