"""Kill switch, installation identity, pauses and the organisation's settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from apps.organizations.models import Installation, Organization, RatePause
from apps.organizations.recorder import Actor, record
from aum.common.errors import InvalidInput

SETTINGS_FIELDS = frozenset(
    {
        "name",
        "timezone",
        "currency",
        "activity_margin_hours",
        "snooze_days",
        "calls_in_flight",
        "sync_hour_utc",
        "max_count",
        "max_share_percent",
        "max_group_share_percent",
        "max_per_day",
        "max_data_age_hours",
        "max_people_lost_percent",
        "max_activity_lost_percent",
        "max_failure_percent",
        "held_plan_days",
        "preview_hours",
        "max_regret_percent",
        "allow_delete_rules",
        "catch_up_hours",
    }
)
# Setting that protects people → True when a greater value protects less (P5). All others are free.
LOOSER_WHEN_GREATER: Mapping[str, bool] = {
    "max_count": True,
    "max_share_percent": True,
    "max_group_share_percent": True,
    "max_per_day": True,
    "max_failure_percent": True,
    "activity_margin_hours": False,
    "max_data_age_hours": True,
    "max_people_lost_percent": True,
    "max_activity_lost_percent": True,
    "snooze_days": False,
    "held_plan_days": True,
    "preview_hours": True,
    "max_regret_percent": True,
    "allow_delete_rules": True,
}


@transaction.atomic
def turn_kill_switch_on(*, organization: Organization, reason: str, actor: Actor) -> None:
    """Stop every write of the organisation within one call per worker. Turning it on again changes nothing."""
    changed = Organization.objects.filter(pk=organization.pk, kill_switch_at__isnull=True).update(
        kill_switch_at=timezone.now(), kill_switch_by=actor.name, kill_switch_reason=reason
    )
    if changed:
        record(
            organization=organization,
            actor=actor,
            action="kill_switch.on",
            target_kind="organization",
            target_ref=organization.slug,
            reason=reason,
        )
    organization.refresh_from_db()


@transaction.atomic
def release_kill_switch(*, organization: Organization, reason: str, actor: Actor) -> None:
    """Let writes go on. For a copy of another installation this also takes over its instance id."""
    if not reason.strip():
        raise InvalidInput(fields={"reason": ["Say why it is safe to go on."]})
    changed = Organization.objects.filter(pk=organization.pk, kill_switch_at__isnull=False).update(
        kill_switch_at=None, kill_switch_by="", kill_switch_reason=""
    )
    Installation.objects.filter(pk=1).update(instance_id=settings.AUM_INSTANCE_ID)
    if changed:
        record(
            organization=organization,
            actor=actor,
            action="kill_switch.off",
            target_kind="organization",
            target_ref=organization.slug,
            reason=reason,
        )
    organization.refresh_from_db()


def confirm_instance() -> bool:
    """Tie the database to this installation at start. False when it is a copy: then every kill switch is on."""
    installation, _created = Installation.objects.get_or_create(
        pk=1, defaults={"instance_id": settings.AUM_INSTANCE_ID}
    )
    if installation.instance_id == settings.AUM_INSTANCE_ID:
        return True
    for organization in Organization.objects.filter(kill_switch_at__isnull=True):
        turn_kill_switch_on(
            organization=organization,
            reason="This database belongs to another installation or was restored. Run a full sync, then release.",
            actor=Actor.system(),
        )
    return False


def store_pause(*, organization_id: int, family: str, until: datetime) -> None:
    """Remember in Postgres until when Atlassian said to wait; a later instant wins."""
    pause, created = RatePause.objects.get_or_create(
        organization_id=organization_id, family=family, defaults={"until": until}
    )
    if not created:
        RatePause.objects.filter(pk=pause.pk, until__lt=until).update(until=until)


@transaction.atomic
def update_settings(*, organization: Organization, changes: dict[str, Any], actor: Actor) -> Organization:
    """Apply `changes` to the settings in SETTINGS_FIELDS at once; raises InvalidInput that names each wrong field.

    Who may loosen a safeguard, and when it counts, is decided above: `operations.services.propose_change`.
    """
    unknown = set(changes) - SETTINGS_FIELDS
    if unknown:
        raise InvalidInput(fields={name: ["This setting does not exist."] for name in sorted(unknown)})
    row = Organization.objects.select_for_update().get(pk=organization.pk)
    before = {name: str(getattr(row, name)) for name in changes}
    for name, value in changes.items():
        setattr(row, name, value)
    try:
        row.full_clean()
    except ValidationError as error:
        raise InvalidInput(fields=error.message_dict) from error
    row.save(update_fields=[*changes])
    row.refresh_from_db()
    after = {name: str(getattr(row, name)) for name in changes}
    if after != before:
        record(
            organization=row,
            actor=actor,
            action="organization.settings_changed",
            target_kind="organization",
            target_ref=row.slug,
            before=before,
            after=after,
        )
    return row
