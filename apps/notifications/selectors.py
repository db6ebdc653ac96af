"""Reads about mail: templates with their last sending, deliveries, the state of the mail server, answers, channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from apps.notifications.models import (
    AlertChannel,
    ChannelDelivery,
    Delivery,
    EmailTemplate,
    KeepDecision,
    MailSettings,
)
from apps.notifications.registry import TemplateUse, registry
from apps.organizations.models import Organization
from apps.users.text import fold, like_pattern
from aum.common.errors import InvalidInput, Missing

Status = Delivery.Status
# Tabs of the deliveries page: word → (label, condition).
VIEWS: dict[str, tuple[str, Q]] = {
    "all": ("All", Q()),
    "sent": ("Accepted", Q(status=Status.ACCEPTED)),
    "waiting": ("Waiting", Q(status__in=Delivery.OPEN)),
    "in_doubt": ("Answer lost", Q(status=Status.IN_DOUBT)),
    "undeliverable": ("Undeliverable", Q(status__in=Delivery.FAILED)),
    "cancelled": ("Not sent", Q(status=Status.CANCELLED)),
}


# --- the mail server --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MailState:
    """How the mail server does, in words. `badge` is a key of the badges of the pages."""

    is_ready: bool
    sender: str
    badge: str
    label: str
    detail: str
    waiting: int


def mail_state(organization: Organization) -> MailState:
    """From whom mails are sent, and whether they are."""
    row = MailSettings.objects.of(organization).first()
    waiting = Delivery.objects.of(organization).filter(status=Status.QUEUED).count()
    if row is None or not row.is_ready:
        detail = "Mails wait until a mail server and a sender are entered."
        return MailState(False, "", "warning", "No mail server", detail, waiting)
    sender = f"{row.from_name} <{row.from_address}>" if row.from_name else row.from_address
    now = timezone.now()
    if row.last_error and row.failures:
        until = f" Tried again at {row.paused_until:%H:%M} UTC." if row.paused_until and row.paused_until > now else ""
        return MailState(True, sender, "failed", "Mail server does not answer", f"{row.last_error}{until}", waiting)
    if row.last_ok_at is None:
        return MailState(True, sender, "info", "Not tried yet", "Send a test mail to see whether it works.", waiting)
    said = f"Took the last mail on {row.last_ok_at:%d %b %Y, %H:%M} UTC."
    return MailState(True, sender, "success", "Mail server works", said, waiting)


# --- templates --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TemplateRow:
    """A template as the list shows it. `last_sent_at` None: never; `recipients` of the last day it was sent on."""

    template: EmailTemplate
    uses: tuple[TemplateUse, ...]
    last_sent_at: datetime | None
    recipients: int

    @property
    def days(self) -> tuple[int, ...]:
        """Days of inactivity after which it is sent: of each rule that uses it, else its own."""
        found = sorted({use.days_inactive for use in self.uses})
        return tuple(found) or (self.template.days_inactive,)

    @property
    def waiting_rules(self) -> tuple[TemplateUse, ...]:
        """Live rules that wait as long as the template is disabled."""
        return () if self.template.is_enabled else tuple(use for use in self.uses if use.is_live)


def templates(organization: Organization) -> QuerySet[EmailTemplate]:
    """The organisation's templates by name."""
    found: QuerySet[EmailTemplate] = (
        EmailTemplate.objects.of(organization).filter(deleted_at__isnull=True).order_by("name", "pk")
    )
    return found


def template_rows(organization: Organization, rows: Sequence[EmailTemplate] | None = None) -> list[TemplateRow]:
    """Templates with the rules that use them and what was sent, in three queries."""
    found = list(templates(organization)) if rows is None else list(rows)
    uses, sent = registry.uses(organization), _last_sent([row.pk for row in found])
    return [TemplateRow(row, tuple(uses.get(row.pk, ())), *sent.get(row.pk, (None, 0))) for row in found]


def _last_sent(pks: Sequence[int]) -> dict[int, tuple[datetime | None, int]]:
    """(when last, to how many people on that day) of each template that was sent."""
    if not pks:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT last.template_id, last.at, n.people
               FROM (SELECT template_id, max(accepted_at) AS at FROM notifications_delivery
                     WHERE template_id = ANY(%s) AND kind = 'notice' AND accepted_at IS NOT NULL
                     GROUP BY template_id) last
               CROSS JOIN LATERAL (
                   SELECT count(DISTINCT d.account_id) AS people FROM notifications_delivery d
                   WHERE d.template_id = last.template_id AND d.kind = 'notice'
                     AND d.accepted_at >= date_trunc('day', last.at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                     AND d.accepted_at <= last.at) n""",
            [list(pks)],
        )
        return {template: (at, people) for template, at, people in cursor.fetchall()}


def template_by_id(organization: Organization, pk: int) -> EmailTemplate:
    """Raises Missing for one that was deleted or is another organisation's."""
    found: EmailTemplate | None = templates(organization).select_related("organization").filter(pk=pk).first()
    if found is None:
        raise Missing("There is no such template. It may have been deleted.")
    return found


# --- deliveries -------------------------------------------------------------------------------------------------------


def deliveries(
    organization: Organization,
    *,
    view: str = "all",
    search: str = "",
    kind: str = "",
    template: int | None = None,
    account_id: str = "",
) -> QuerySet[Delivery]:
    """Mails, newest first. `search` finds in recipient, name and rule. Raises InvalidInput for an unknown view."""
    if view not in VIEWS:
        raise InvalidInput(fields={"status": [f"Choose one of {', '.join(VIEWS)}."]})
    found: QuerySet[Delivery] = (
        Delivery.objects.of(organization).filter(VIEWS[view][1]).select_related("account", "template")
    )
    if kind:
        found = found.filter(kind=kind)
    if template is not None:
        found = found.filter(template_id=template)
    if account_id:
        found = found.filter(account__account_id=account_id)
    if words := search.strip()[:200].replace("\x00", ""):
        pattern = like_pattern(fold(words), before="%", after="%")
        named = Q(account__sort_name__like=pattern) if fold(words) else Q()
        found = found.filter(
            Q(recipient__icontains=words) | Q(rule_name__icontains=words) | Q(message_id=words) | named
        )
    return found.order_by("-pk")


def delivery_counts(organization: Organization) -> dict[str, int]:
    """How many mails each tab shows, in one query."""
    counts: dict[str, int] = Delivery.objects.of(organization).aggregate(
        **{word: Count("pk", filter=condition) if condition else Count("pk") for word, (_, condition) in VIEWS.items()}
    )
    return counts


def delivery_by_id(organization: Organization, pk: int) -> Delivery:
    """Raises Missing."""
    found: Delivery | None = (
        Delivery.objects.of(organization)
        .select_related("organization", "account", "template", "copy_of")
        .filter(pk=pk)
        .first()
    )
    if found is None:
        raise Missing("There is no such mail.")
    return found


def undeliverable(organization: Organization) -> QuerySet[Delivery]:
    """Notices that could not be delivered, the undecided ones first: the list of DESIGN.md §8."""
    rows: QuerySet[Delivery] = (
        Delivery.objects.of(organization)
        .filter(kind=Delivery.Kind.NOTICE, status__in=Delivery.FAILED)
        .select_related("account", "template", "organization")
        .order_by("-pk")
    )
    return rows


def sent_of_delivery(delivery: Delivery) -> list[Delivery]:
    """Copies of a mail, oldest first."""
    return list(delivery.copies.order_by("pk"))


# --- answers ----------------------------------------------------------------------------------------------------------


def decisions(organization: Organization) -> QuerySet[KeepDecision]:
    """What people answered by their links, newest first."""
    found: QuerySet[KeepDecision] = (
        KeepDecision.objects.of(organization).select_related("account", "delivery").order_by("-pk")
    )
    return found


@dataclass(frozen=True)
class Returns:
    """Access that people asked back by their links: how often it was given, and the median time from the click."""

    count: int
    median_seconds: float | None


def returns(organization: Organization, *, since: datetime | None = None) -> Returns:
    """All returns, or those asked for at or after `since` (aware) (B17)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*),
                      percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM returned_at - decided_at))
               FROM notifications_keepdecision
               WHERE organization_id = %s AND choice = 'return' AND returned_at IS NOT NULL
                 AND (%s::timestamptz IS NULL OR decided_at >= %s)""",
            [organization.pk, since, since],
        )
        count, median = cursor.fetchone()
    return Returns(count, float(median) if median is not None else None)


# --- channels ---------------------------------------------------------------------------------------------------------


def channels(organization: Organization) -> QuerySet[AlertChannel]:
    """Channels by name."""
    found: QuerySet[AlertChannel] = AlertChannel.objects.of(organization).order_by("name", "pk")
    return found


def channel_by_id(organization: Organization, pk: int) -> AlertChannel:
    """Raises Missing."""
    found: AlertChannel | None = channels(organization).select_related("organization").filter(pk=pk).first()
    if found is None:
        raise Missing("There is no such channel.")
    return found


def webhooks(organization: Organization) -> QuerySet[AlertChannel]:
    """Signed webhooks by name."""
    return channels(organization).filter(kind=AlertChannel.Kind.WEBHOOK)


def webhook_by_id(organization: Organization, pk: int) -> AlertChannel:
    """Raises Missing."""
    found: AlertChannel | None = webhooks(organization).select_related("organization").filter(pk=pk).first()
    if found is None:
        raise Missing("There is no such webhook.")
    return found


def newest_messages(rows: Iterable[AlertChannel]) -> dict[int, ChannelDelivery]:
    """The newest message of each channel, in one query."""
    newest = ChannelDelivery.objects.filter(channel__in=list(rows)).order_by("channel_id", "-pk").distinct("channel_id")
    return {row.channel_id: row for row in newest.defer("payload")}


def message_by_id(channel: AlertChannel, pk: int) -> ChannelDelivery:
    """Raises Missing."""
    found = ChannelDelivery.objects.filter(channel=channel, pk=pk).select_related("channel__organization").first()
    if found is None:
        raise Missing("There is no such message.")
    row: ChannelDelivery = found
    return row
