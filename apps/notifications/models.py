"""Mail to people: templates, the mail server, one Delivery per mail as evidence, answers by link; alert channels.

Rules stand above this app: `NoticeStep` (rule, template, days before) is theirs, and what this app needs of them comes
through `apps.notifications.registry`.
"""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.functions import RandomUUID
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Lower, Now
from django.urls import reverse
from django.utils import timezone

from apps.organizations.models import OrganizationOwned
from apps.users.models import Account


class Audience(models.TextChoices):
    """Whom a notice goes to."""

    PERSON = "person", "The user"
    MANAGER = "manager", "Their manager"


class EmailTemplate(OrganizationOwned):
    """A mail with placeholders. `body` is sanitised when it is saved, and once more when it is rendered."""

    class Event(models.TextChoices):
        SUSPEND = "suspend", "Suspension"
        DEACTIVATE = "deactivate", "Deactivation"
        REMOVE_PRODUCT_ACCESS = "remove_product_access", "Product access removal"
        OTHER = "other", "Another management event"

    name = models.CharField("template name", max_length=120)
    event = models.CharField("about", max_length=30, choices=Event.choices, default=Event.OTHER)
    # Days of inactivity after which it is sent: the truth while no rule uses the template. One that does holds the same
    # date seen from the other side, as days before its action, and is kept equal.
    days_inactive = models.PositiveIntegerField(
        "days since inactivity", validators=[MinValueValidator(0), MaxValueValidator(3650)]
    )
    subject = models.CharField("email subject", max_length=200)
    body = models.TextField("email body")
    bcc = ArrayField(models.EmailField(max_length=254), default=list, blank=True)
    is_enabled = models.BooleanField(default=True)
    version = models.PositiveIntegerField(default=1)
    edited_by_text = models.CharField(max_length=254)
    edited_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now())
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                "organization",
                Lower("name"),
                condition=models.Q(deleted_at__isnull=True),
                name="email_template_name_once",
            )
        ]

    def __str__(self) -> str:
        return self.name


class MailSettings(OrganizationOwned):
    """The organisation's mail server, the sender, the pace of sending, and what a keep link may do."""

    class Security(models.TextChoices):
        STARTTLS = "starttls", "STARTTLS"
        TLS = "tls", "TLS from the start"
        NONE = "none", "No encryption"

    host = models.CharField(max_length=253, blank=True)
    port = models.PositiveIntegerField(default=587, validators=[MinValueValidator(1), MaxValueValidator(65535)])
    security = models.CharField(max_length=10, choices=Security.choices, default=Security.STARTTLS)
    username = models.CharField(max_length=254, blank=True)
    encrypted_password = models.BinaryField(null=True, blank=True)
    password_set_at = models.DateTimeField(null=True, blank=True)
    password_set_by = models.CharField(max_length=254, blank=True)
    from_name = models.CharField(max_length=100, blank=True)
    from_address = models.EmailField(max_length=254, blank=True)
    reply_to = models.EmailField(max_length=254, blank=True)
    per_minute = models.PositiveIntegerField(default=300, validators=[MinValueValidator(1), MaxValueValidator(60000)])
    # What "Keep my access" does, and how often within 365 days.
    keep_days = models.PositiveSmallIntegerField(default=30, validators=[MinValueValidator(1), MaxValueValidator(365)])
    keep_per_year = models.PositiveSmallIntegerField(default=2, validators=[MaxValueValidator(12)])
    link_days = models.PositiveSmallIntegerField(default=60, validators=[MinValueValidator(1), MaxValueValidator(180)])
    # Bounces and confirmations of the mail provider arrive with this secret; only its hash is kept.
    bounce_hash = models.CharField(max_length=64, blank=True)
    bounce_set_at = models.DateTimeField(null=True, blank=True)
    # The previous secret stays good for a while after it was replaced.
    bounce_old_hash = models.CharField(max_length=64, blank=True)
    bounce_old_until = models.DateTimeField(null=True, blank=True)

    # State of the server: who sends now, until when it is left alone after failures, what it said last.
    sender_token = models.UUIDField(null=True, blank=True)
    sender_until = models.DateTimeField(null=True, blank=True)
    paused_until = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)
    last_ok_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    last_error_at = models.DateTimeField(null=True, blank=True)
    next_batch_at = models.DateTimeField(null=True, blank=True)
    is_digest_on = models.BooleanField(default=True)
    digest_sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "mail settings"
        constraints = [models.UniqueConstraint(fields=["organization"], name="mail_settings_once")]

    def __str__(self) -> str:
        return f"mail of {self.organization_id}"

    @property
    def is_ready(self) -> bool:
        """Whether mails can be sent: a server and a sender are known."""
        return bool(self.host and self.from_address)


class PersonContact(OrganizationOwned):
    """Manager and language of a person, from the mapping CSV: Atlassian gives neither (DECISIONS.md §6)."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="contact")
    manager_email = models.EmailField(max_length=254, blank=True)
    language = models.CharField(max_length=16, blank=True)
    set_at = models.DateTimeField()
    set_by = models.CharField(max_length=254)

    def __str__(self) -> str:
        return f"contact of {self.account_id}"


class Delivery(OrganizationOwned):
    """One mail, from the moment it is owed to its end. What the server said about it is the evidence (P10)."""

    class Kind(models.TextChoices):
        NOTICE = "notice", "Notice"
        BCC = "bcc", "Copy (BCC)"
        TEST = "test", "Test mail"
        CODE = "code", "Confirmation code"
        ASK = "ask", "Question about an undeliverable notice"
        DIGEST = "digest", "Digest for owners"

    class Status(models.TextChoices):
        QUEUED = "queued", "Waiting"
        CLAIMED = "claimed", "Being sent"
        SENDING = "sending", "Handed over, no answer yet"
        ACCEPTED = "accepted", "Accepted by the mail server"
        IN_DOUBT = "in_doubt", "Answer lost"
        UNDELIVERABLE = "undeliverable", "Undeliverable"
        BOUNCED = "bounced", "Bounced"
        CANCELLED = "cancelled", "Not sent"

    class Problem(models.TextChoices):
        """Why a notice cannot be delivered."""

        NO_ADDRESS = "no_address", "No address is known"
        NO_MANAGER = "no_manager", "No manager is known, and no owner to ask instead"
        REFUSED = "refused", "The mail server refused it"
        BOUNCED = "bounced", "It came back"

    OPEN = (Status.QUEUED, Status.CLAIMED, Status.SENDING)
    FAILED = (Status.UNDELIVERABLE, Status.BOUNCED)

    uuid = models.UUIDField(default=uuid.uuid4, db_default=RandomUUID(), unique=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    status = models.CharField(max_length=15, choices=Status.choices, db_default=Status.QUEUED)
    template = models.ForeignKey(EmailTemplate, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    audience = models.CharField(max_length=10, choices=Audience.choices, db_default=Audience.PERSON)
    # The spell of inactivity that a notice is about: when the idle clock of the person started.
    spell_at = models.DateTimeField(null=True, blank=True)
    last_active_at = models.DateTimeField(null=True, blank=True)
    rule_id = models.BigIntegerField(null=True, blank=True)
    rule_name = models.CharField(max_length=120, db_default="")
    action = models.CharField(max_length=40, db_default="")
    products = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    days_before = models.PositiveIntegerField(null=True, blank=True)
    # Not before this instant would the rule act; the date that the mail named is `announced_at`.
    due_at = models.DateTimeField(null=True, blank=True)
    announced_at = models.DateTimeField(null=True, blank=True)

    recipient = models.CharField(max_length=320, db_default="")
    subject = models.CharField(max_length=400, db_default="")
    # What was sent, without the keep link and without codes.
    html = models.TextField(db_default="")
    text = models.TextField(db_default="")
    copy_of = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="copies")

    created_at = models.DateTimeField(db_default=Now())
    attempts = models.PositiveSmallIntegerField(db_default=0)
    refusals = models.PositiveSmallIntegerField(db_default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    # Who has it in hand: rows of a sender whose lease (MailSettings.sender_until) ended are taken from it.
    lease_token = models.UUIDField(null=True, blank=True)
    handed_at = models.DateTimeField(null=True, blank=True)
    # Codes and test mails do not wait behind notices.
    priority = models.PositiveSmallIntegerField(db_default=5)
    message_id = models.CharField(max_length=200, db_default="")
    accepted_at = models.DateTimeField(null=True, blank=True)
    server_answer = models.TextField(db_default="")
    problem = models.CharField(max_length=15, choices=Problem.choices, db_default="")
    failed_at = models.DateTimeField(null=True, blank=True)
    # Undeliverable: from here on the action may follow all the same, by whose decision.
    release_at = models.DateTimeField(null=True, blank=True)
    released_by = models.CharField(max_length=254, db_default="")
    released_reason = models.TextField(db_default="")
    keep_until = models.DateTimeField("link expires", null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-id"]
        constraints = [
            # Nobody is told twice: one notice per person, template and spell, and to each audience.
            models.UniqueConstraint(
                fields=["template", "account", "audience", "spell_at"],
                condition=models.Q(kind="notice"),
                name="notice_once_per_spell",
            ),
            models.CheckConstraint(
                condition=~models.Q(status="accepted") | models.Q(accepted_at__isnull=False),
                name="delivery_accepted_has_time",
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "priority", "id"],
                condition=models.Q(status="queued"),
                name="delivery_queue",
            ),
            models.Index(fields=["organization", "-id"], name="delivery_latest"),
            models.Index(fields=["organization", "status", "-id"], name="delivery_status"),
            models.Index(fields=["account", "-id"], name="delivery_account"),
            models.Index(fields=["message_id"], condition=~models.Q(message_id=""), name="delivery_message"),
            models.Index(fields=["template", "-accepted_at"], name="delivery_template"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.recipient or '?'}"


class MailEvent(OrganizationOwned):
    """What the mail provider reported, as it came; inserted by the public surface, read by a private process."""

    payload = models.JSONField()
    received_at = models.DateTimeField(db_default=Now())
    processed_at = models.DateTimeField(null=True, blank=True)
    result = models.CharField(max_length=300, db_default="")

    class Meta:
        indexes = [
            models.Index(fields=["id"], condition=models.Q(processed_at__isnull=True), name="mail_event_open"),
        ]

    def __str__(self) -> str:
        return f"mail event {self.pk}"


class KeepDecision(OrganizationOwned):
    """What the holder of a link decided. One per mail: that row is what makes the link good for one use only.

    The public surface inserts it and nothing else; a private process carries it out.
    """

    class Choice(models.TextChoices):
        KEEP = "keep", "Keep my access"
        RELEASE = "release", "I no longer need it"
        RETURN = "return", "Give me my access back"

    class Status(models.TextChoices):
        WAITING = "waiting", "To be carried out"
        APPLIED = "applied", "Carried out"
        APPROVAL = "approval", "Waits for an approval"
        REFUSED = "refused", "Refused"

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="decisions")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    choice = models.CharField(max_length=10, choices=Choice.choices)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.WAITING)
    reason = models.CharField(max_length=500, blank=True)
    ip_address = models.GenericIPAddressField(null=True, blank=True)
    decided_at = models.DateTimeField()
    applied_at = models.DateTimeField(null=True, blank=True)
    detail = models.TextField(blank=True)
    # Until when access is kept.
    until = models.DateTimeField(null=True, blank=True)
    operation_id = models.BigIntegerField(null=True, blank=True)
    needs_approval = models.CharField("why an approval is needed", max_length=300, blank=True)
    returned_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            # A link keeps or releases once; asking for the access back comes after that, and once as well.
            models.UniqueConstraint(
                fields=["delivery"], condition=models.Q(choice__in=["keep", "release"]), name="keep_decided_once"
            ),
            models.UniqueConstraint(
                fields=["delivery"], condition=models.Q(choice="return"), name="keep_returned_once"
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-decided_at"], name="keep_account"),
            models.Index(fields=["status"], condition=models.Q(status="waiting"), name="keep_waiting"),
            models.Index(fields=["operation_id"], name="keep_operation"),
        ]

    def __str__(self) -> str:
        return f"{self.choice} by link {self.delivery_id}"


class KeepCode(OrganizationOwned):
    """A code sent to the person's current address, without which a link cannot give up or ask back (DECISIONS §17)."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="codes")
    choice = models.CharField(max_length=10, choices=KeepDecision.Choice.choices)
    # The code is derived from this and from the installation's secret, so that no table holds it.
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    mail = models.ForeignKey(Delivery, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    tries = models.PositiveSmallIntegerField(default=0)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["delivery", "-id"], name="keep_code_latest")]

    def __str__(self) -> str:
        return f"code for link {self.delivery_id}"


def alerts_only() -> list[str]:
    """What a channel is told when nothing else was chosen."""
    return ["alert.opened"]


class AlertChannel(OrganizationOwned):
    """Where alerts go besides the pages: Slack, Microsoft Teams; or a signed webhook, which hears of events as well."""

    class Kind(models.TextChoices):
        SLACK = "slack", "Slack"
        TEAMS = "teams", "Microsoft Teams"
        WEBHOOK = "webhook", "Signed webhook"

    class Level(models.TextChoices):
        INFO = "info", "Everything"
        WARNING = "warning", "Warnings and errors"
        ERROR = "error", "Errors only"

    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    # The whole address is a secret for Slack and Teams: whoever knows it can write there.
    encrypted_address = models.BinaryField()
    address_hint = models.CharField(max_length=300)
    encrypted_secret = models.BinaryField(null=True, blank=True)
    secret_set_at = models.DateTimeField(null=True, blank=True)
    level = models.CharField(max_length=10, choices=Level.choices, default=Level.WARNING)
    # While a secret is replaced, messages are signed with the previous one as well.
    encrypted_old_secret = models.BinaryField(null=True, blank=True)
    old_secret_until = models.DateTimeField(null=True, blank=True)
    # What a webhook is told (`services.webhooks.EVENTS`); Slack and Teams hear of alerts.
    events = ArrayField(models.CharField(max_length=40), default=alerts_only, db_default=["alert.opened"], blank=True)
    is_enabled = models.BooleanField(default=True)
    # Failures in a row; until when it is left alone, so that one that is down does not keep the others waiting.
    failures = models.PositiveIntegerField(default=0, db_default=0)
    paused_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    edited_by_text = models.CharField(max_length=254)
    edited_at = models.DateTimeField()
    # Alerts up to here were handed to the channel.
    last_alert_at = models.DateTimeField()

    class Meta:
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="alert_channel_name_once")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Its page: webhooks stand under API & webhooks, the others under Settings."""
        is_webhook = self.kind == self.Kind.WEBHOOK
        name = "notifications:webhook" if is_webhook else "organizations:channel"
        return reverse(name, args=[self.organization.slug, self.pk])

    @property
    def is_down(self) -> bool:
        """Whether it is left alone for a while after failures."""
        return self.paused_until is not None and self.paused_until > timezone.now()


class ChannelDelivery(OrganizationOwned):
    """One alert or event on its way to one channel, and what the other side answered."""

    class Status(models.TextChoices):
        QUEUED = "queued", "Waiting"
        SENT = "sent", "Delivered"
        FAILED = "failed", "Failed"

    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="deliveries")
    # What it is about, so that each is told once to a channel.
    event_key = models.CharField(max_length=120)
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    title = models.CharField(max_length=200)
    payload = models.JSONField()
    is_test = models.BooleanField(default=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    lease_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    sent_at = models.DateTimeField(null=True, blank=True)
    http_status = models.PositiveSmallIntegerField(null=True, blank=True)
    answer = models.CharField(max_length=500, blank=True)

    @property
    def event(self) -> str:
        """The type of what is told."""
        return str(self.payload.get("type", ""))

    class Meta:
        verbose_name_plural = "channel deliveries"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "event_key"], condition=models.Q(is_test=False), name="channel_event_once"
            )
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"], condition=models.Q(status="queued"), name="channel_delivery_queue"
            ),
            models.Index(fields=["channel", "-id"], name="channel_delivery_latest"),
        ]

    def __str__(self) -> str:
        return f"{self.title} to {self.channel_id}"
