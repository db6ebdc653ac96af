"""Reads of activation: rules with their use, ways in, events, grants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from apps.autoactivate.models import (
    AccessGrant,
    AssignmentRule,
    IdentityMapping,
    InboundEvent,
    InboundLink,
    InboundSource,
    RuleDraft,
)
from apps.operators.models import Operator
from apps.organizations.models import Organization
from aum.common.errors import Missing

USED_DAYS = 30
EVENT_VIEWS = {
    "all": "All events",
    "open": "In progress",
    "done": "Done",
    "no_match": "No match",
    "trouble": "Refused or failed",
}
_EVENT_STATUSES: dict[str, tuple[str, ...]] = {
    "open": (
        InboundEvent.Status.RECEIVED,
        InboundEvent.Status.CONFIRMING,
        InboundEvent.Status.WAITING,
        InboundEvent.Status.WORKING,
    ),
    "done": (InboundEvent.Status.DONE,),
    "no_match": (InboundEvent.Status.NO_MATCH,),
    "trouble": (InboundEvent.Status.REFUSED, InboundEvent.Status.FAILED),
}


# --- rules ----------------------------------------------------------------------------------------------------------


def rules(organization: Organization) -> QuerySet[AssignmentRule]:
    """All rules by name, each with its groups and `used`: people it gave access in the last 30 days."""
    given = Q(
        grants__created_at__gt=timezone.now() - timedelta(days=USED_DAYS),
        grants__status__in=[
            AccessGrant.Status.GIVEN,
            AccessGrant.Status.REMOVING,
            AccessGrant.Status.ENDED,
            AccessGrant.Status.UNDONE,
        ],
    )
    found: QuerySet[AssignmentRule] = AssignmentRule.objects.of(organization).filter(deleted_at__isnull=True)
    return (
        found.annotate(used=Count("grants", filter=given))
        .select_related("trigger_group", "organization")
        .prefetch_related("groups")
        .order_by("name", "pk")
    )


def rule_by_id(organization: Organization, pk: int) -> AssignmentRule:
    """The rule; raises Missing."""
    rule = rules(organization).filter(pk=pk).first()
    if rule is None:
        raise Missing("There is no such assignment rule here.")
    return rule


def active_rules(organization: Organization) -> list[AssignmentRule]:
    """Rules that are switched on, oldest first."""
    return list(
        AssignmentRule.objects.of(organization)
        .filter(deleted_at__isnull=True, is_active=True)
        .select_related("trigger_group", "organization")
        .prefetch_related("groups")
        .order_by("pk")
    )


def active_count(organization: Organization) -> int:
    """Rules that are switched on."""
    return int(AssignmentRule.objects.of(organization).filter(deleted_at__isnull=True, is_active=True).count())


def draft_of(organization: Organization, operator: Operator, rule: AssignmentRule | None) -> RuleDraft | None:
    """What the operator entered in the wizard and did not save yet."""
    draft: RuleDraft | None = RuleDraft.objects.of(organization).filter(operator=operator, rule=rule).first()
    return draft


# --- ways in --------------------------------------------------------------------------------------------------------


def sources(organization: Organization) -> dict[str, InboundSource]:
    """Kind → way in, for those that exist."""
    return {source.kind: source for source in InboundSource.objects.of(organization)}


def source_by_id(organization: Organization, pk: int) -> InboundSource:
    """The way in; raises Missing."""
    source: InboundSource | None = InboundSource.objects.of(organization).filter(pk=pk).first()
    if source is None:
        raise Missing("There is no such way in here.")
    return source


def source_by_key(kind: str, key: str) -> InboundSource | None:
    """The enabled way in with this address."""
    return InboundSource.objects.select_related("organization").filter(kind=kind, key=key, is_enabled=True).first()


def address_of(source: InboundSource) -> str:
    """Where the sender has to send to; empty for polling, which has no address."""
    if source.kind == InboundSource.Kind.POLL:
        return ""
    return f"{settings.AUM_PUBLIC_URL}/hooks/{source.kind.replace('_', '-')}/{source.key}"


def seen_channels(organization: Organization) -> set[str]:
    """Channels through which at least one event arrived from outside (S174)."""
    seen = InboundSource.objects.of(organization).filter(first_event_at__isnull=False)
    return {source.channel for source in seen}


def is_set_up(organization: Organization, channels: Iterable[str]) -> bool:
    """Whether at least one of a rule's channels was seen to work."""
    return bool(seen_channels(organization) & set(channels))


@dataclass(frozen=True)
class Arrival:
    """The last event of a way in, and how many came within 30 days."""

    count: int = 0
    last_at: datetime | None = None


def arrivals(organization: Organization) -> dict[str, Arrival]:
    """Kind of way in → what came through it."""
    since = timezone.now() - timedelta(days=USED_DAYS)
    found: dict[str, Arrival] = {}
    for kind in InboundSource.Kind.values:
        events = InboundEvent.objects.of(organization).filter(source_kind=kind)
        last = events.order_by("-id").values_list("received_at", flat=True).first()
        if last is not None:
            found[kind] = Arrival(events.filter(received_at__gt=since).count(), last)
    return found


def mappings(organization: Organization) -> QuerySet[IdentityMapping]:
    """Who outside ids are, newest first."""
    found: QuerySet[IdentityMapping] = IdentityMapping.objects.of(organization)
    return found.select_related("account").order_by("-pk")


# --- events and grants ----------------------------------------------------------------------------------------------


def is_known_sender(event: InboundEvent) -> bool:
    """Whether the sender of a Teams message is on the list of people, so that no mail has to decide."""
    external_id = str(event.payload.get("aad_id") or "")
    people = IdentityMapping.objects.filter(organization_id=event.organization_id, channel=event.channel)
    return bool(external_id) and people.filter(external_id=external_id).exists()


def events(organization: Organization, view: str = "all", search: str = "") -> QuerySet[InboundEvent]:
    """Events of one view, newest first, with what they gave."""
    found: QuerySet[InboundEvent] = InboundEvent.objects.of(organization).exclude(
        kind__in=[InboundEvent.Kind.CONFIRMATION]
    )
    if view in _EVENT_STATUSES:
        found = found.filter(status__in=_EVENT_STATUSES[view])
    if search:
        found = found.filter(Q(issue_key__icontains=search) | Q(requester__icontains=search) | Q(requester_id=search))
    return (
        found.select_related("account", "source")
        .prefetch_related("grants__rule", "grants__operation", "replies")
        .order_by("-id")
    )


def event_counts(organization: Organization) -> dict[str, int]:
    """Events per view."""
    wanted = {name: Count("pk", filter=Q(status__in=statuses)) for name, statuses in _EVENT_STATUSES.items()}
    found = (
        InboundEvent.objects.of(organization)
        .exclude(kind=InboundEvent.Kind.CONFIRMATION)
        .aggregate(all=Count("pk"), **wanted)
    )
    return {name: int(number) for name, number in found.items()}


def event_by_id(organization: Organization, pk: int) -> InboundEvent:
    """The event; raises Missing."""
    event = events(organization).filter(pk=pk).first()
    if event is None:
        raise Missing("There is no such event here.")
    return event


def grants(organization: Organization, view: str = "all", search: str = "") -> QuerySet[AccessGrant]:
    """What rules gave, newest first; `view` timed: with an end that is to come; asked: more time was asked for."""
    found: QuerySet[AccessGrant] = AccessGrant.objects.of(organization).exclude(
        status__in=[AccessGrant.Status.FAILED, AccessGrant.Status.HAD_IT]
    )
    if view == "timed":
        found = found.filter(
            status__in=[AccessGrant.Status.GIVEN, AccessGrant.Status.REMOVING], expires_at__isnull=False
        )
    if view == "asked":
        found = found.filter(status=AccessGrant.Status.GIVEN, asked_at__isnull=False)
    if search:
        found = found.filter(Q(account__sort_name__icontains=search.casefold()) | Q(account__email__icontains=search))
    return found.select_related("account", "rule", "operation", "removal", "event", "organization").order_by("-id")


def grant_counts(organization: Organization) -> dict[str, int]:
    """Grants per view."""
    return {view: int(grants(organization, view).count()) for view in ("all", "timed", "asked")}


def grant_by_id(organization: Organization, pk: int) -> AccessGrant:
    """The grant; raises Missing."""
    grant = grants(organization).filter(pk=pk).first()
    if grant is None:
        raise Missing("There is no such grant here.")
    return grant


def days_left(grant: AccessGrant) -> int | None:
    """Whole days until the access ends, rounded up; None where it does not end."""
    if grant.expires_at is None:
        return None
    return -((timezone.now() - grant.expires_at) // timedelta(days=1))


def used_today(rule: AssignmentRule, now: datetime) -> QuerySet[AccessGrant]:
    """Grants of the rolling day that count against a rule's limit, oldest first."""
    return rule.grants.filter(
        created_at__gt=now - timedelta(days=1),
        status__in=[*AccessGrant.HELD, AccessGrant.Status.ENDED, AccessGrant.Status.UNDONE],
    ).order_by("created_at")


def held_seats(rule: AssignmentRule) -> int:
    """People who hold access by this rule now, those who are being given it among them."""
    return int(rule.grants.filter(status__in=AccessGrant.HELD).values("account_id").distinct().count())


def link_by_hash(token_hash: str, purpose: str) -> InboundLink | None:
    """A link that can still be used: neither used, nor being used, nor expired."""
    link: InboundLink | None = (
        InboundLink.objects.filter(
            token_hash=token_hash, purpose=purpose, used_at__isnull=True, expires_at__gt=timezone.now()
        )
        .select_related("organization", "event", "grant__rule", "account")
        .first()
    )
    if link is None:
        return None
    is_taken = InboundEvent.objects.filter(organization=link.organization, dedup_key=f"uselink:{link.pk}").exists()
    return None if is_taken else link
