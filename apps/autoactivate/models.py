"""Assignment rules, the ways in from outside, what arrived through them, and the access that was given.

The public surface inserts `InboundEvent` rows and reads `InboundSource` and `InboundLink`; everything else is written
by workers and operators (docs/activation.md).
"""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

from apps.operations.models import Operation
from apps.organizations.models import OrganizationOwned
from apps.users.models import Account, Group


class Channel(models.TextChoices):
    """Where a request may come from, as a rule names it."""

    JSM = "jsm", "JSM portal"
    SLACK = "slack", "Slack"
    TEAMS = "teams", "Microsoft Teams"
    INTRANET = "intranet", "Intranet"


class AssignmentRule(OrganizationOwned):
    """Who asks for access through which channel is added to which groups."""

    class Method(models.TextChoices):
        DOMAIN = "email_domain", "Email domain"
        GROUP = "existing_group", "Existing group"

    name = models.CharField(max_length=120)
    is_active = models.BooleanField(default=False)
    channels = ArrayField(models.CharField(max_length=20, choices=Channel.choices), default=list)

    # The service project as Jira gave it; empty where the rule does not listen to JSM.
    project_id = models.CharField(max_length=64, blank=True)
    project_key = models.CharField(max_length=64, blank=True)
    project_name = models.CharField(max_length=255, blank=True)
    service_desk_id = models.CharField(max_length=64, blank=True)
    # [{"id", "name"}]; empty: any request type of the project.
    request_types = models.JSONField(default=list, blank=True)

    method = models.CharField(max_length=20, choices=Method.choices, default=Method.DOMAIN)
    domains = ArrayField(models.CharField(max_length=253), default=list, blank=True)
    trigger_group = models.ForeignKey(Group, on_delete=models.RESTRICT, null=True, blank=True, related_name="+")
    groups = models.ManyToManyField(Group, related_name="+")

    # People that the rule gives access to in a rolling day, and at the same time; null: no limit of the rule's own.
    max_per_day = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    seat_budget = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    expires_after_days = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(3650)]
    )
    needs_approval = models.BooleanField(default=False)
    # Suspended people are restored, deactivated ones of claimed domains activated.
    restores = models.BooleanField(default=False)

    version = models.PositiveIntegerField(default=1)
    edited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    edited_by_text = models.CharField(max_length=254)
    edited_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now())
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "name"],
                condition=models.Q(deleted_at__isnull=True),
                name="assignment_rule_name_once",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("autoactivate:edit", args=[self.organization.slug, self.pk])


class AssignmentRuleVersion(OrganizationOwned):
    """What a rule said at one version; groups by name."""

    rule = models.ForeignKey(AssignmentRule, on_delete=models.CASCADE, related_name="versions")
    version = models.PositiveIntegerField()
    content = models.JSONField()
    edited_by_text = models.CharField(max_length=254)
    edited_at = models.DateTimeField()

    class Meta:
        ordering = ["-version"]
        constraints = [models.UniqueConstraint(fields=["rule", "version"], name="assignment_rule_version_once")]

    def __str__(self) -> str:
        return f"{self.rule_id} version {self.version}"


class RuleDraft(OrganizationOwned):
    """What an operator entered in the wizard so far, so that it can be left and resumed: one for each rule edited."""

    operator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    rule = models.ForeignKey(AssignmentRule, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    values = models.JSONField(default=dict)
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "operator", "rule"], nulls_distinct=False, name="rule_draft_once"
            )
        ]

    def __str__(self) -> str:
        return f"draft of {self.operator_id}"


class InboundSource(OrganizationOwned):
    """One way in: its address, its secret, and when something last came through it.

    A secret that the sender shows (Jira Automation) is kept as a hash, which needs no key to check. One that signs is
    encrypted with the inbound key, which opens nothing else, so that the public surface can check signatures and read
    no credential. `api_token` is encrypted with the keys of credentials: only workers read it.
    """

    class Kind(models.TextChoices):
        JIRA = "jira", "Jira Automation"
        JIRA_WEBHOOK = "jira_webhook", "Jira admin webhook"
        POLL = "poll", "JSM polling"
        SLACK = "slack", "Slack"
        TEAMS = "teams", "Microsoft Teams"
        INTRANET = "intranet", "Intranet"

    CHANNELS = {
        Kind.JIRA: Channel.JSM,
        Kind.JIRA_WEBHOOK: Channel.JSM,
        Kind.POLL: Channel.JSM,
        Kind.SLACK: Channel.SLACK,
        Kind.TEAMS: Channel.TEAMS,
        Kind.INTRANET: Channel.INTRANET,
    }

    kind = models.CharField(max_length=20, choices=Kind.choices)
    # The unguessable part of the address.
    key = models.CharField(max_length=43, unique=True)
    is_enabled = models.BooleanField(default=True)
    secret_hash = models.CharField(max_length=64, blank=True)
    encrypted_secret = models.BinaryField(null=True, blank=True)
    secret_set_at = models.DateTimeField(null=True, blank=True)
    secret_set_by = models.CharField(max_length=254, blank=True)
    previous_hash = models.CharField(max_length=64, blank=True)
    previous_encrypted = models.BinaryField(null=True, blank=True)
    previous_until = models.DateTimeField(null=True, blank=True)
    # Slack's bot token, for users.info.
    api_token = models.BinaryField(null=True, blank=True)
    api_token_set_at = models.DateTimeField(null=True, blank=True)
    # Intranet: whose addresses its signed links may name.
    domains = ArrayField(models.CharField(max_length=253), default=list, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    # Polling: tickets created before this instant are not taken; up to when they were looked for.
    polled_from = models.DateTimeField(null=True, blank=True)
    polled_at = models.DateTimeField(null=True, blank=True)
    poll_error = models.TextField(blank=True)
    # Set by workers when the first verified event from outside was read (S174).
    first_event_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["organization", "kind"], name="inbound_source_kind_once")]

    def __str__(self) -> str:
        return self.get_kind_display()

    @property
    def channel(self) -> str:
        return self.CHANNELS[self.Kind(self.kind)]


class InboundEvent(OrganizationOwned):
    """One request for access that came from outside, as it was verified, and what became of it.

    `payload` holds identifiers only: an issue key, a Slack or Teams user id, an address that waits for confirmation;
    and, encrypted with the inbound key, the address at which Slack takes an answer.
    """

    class Status(models.TextChoices):
        RECEIVED = "received", "Received"
        CONFIRMING = "confirming", "Waits for confirmation"
        WAITING = "waiting", "Waiting"
        WORKING = "working", "In progress"
        DONE = "done", "Done"
        NO_MATCH = "no_match", "No match"
        REFUSED = "refused", "Refused"
        FAILED = "failed", "Failed"

    # A worker has something to do, now or at `next_try_at`.
    OPEN = (Status.RECEIVED, Status.WAITING)

    class Kind(models.TextChoices):
        TICKET = "ticket", "Ticket"
        MESSAGE = "message", "Message"
        FORM = "form", "Form"
        TEST = "test", "Test"
        CONFIRMATION = "confirmation", "Confirmation"
        EXTENSION = "extension", "Extension"

    source = models.ForeignKey(InboundSource, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    source_kind = models.CharField(max_length=20)
    channel = models.CharField(max_length=20, choices=Channel.choices)
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.TICKET)
    # What makes a repeat a repeat: "issue:30012", "slack:<trigger>", "teams:<activity>", "link:<id>".
    dedup_key = models.CharField(max_length=200)
    payload = models.JSONField(default=dict)
    size_bytes = models.PositiveIntegerField(default=0)
    ip_address = models.GenericIPAddressField(null=True, blank=True)
    received_at = models.DateTimeField(db_default=Now())
    # How often the same event came again.
    repeats = models.PositiveIntegerField(default=0, db_default=0)

    status = models.CharField(max_length=20, choices=Status.choices, default=Status.RECEIVED)
    # A stable word for the outcome ("no_rule", "portal_only", "limit") and the sentence for people.
    code = models.CharField(max_length=40, blank=True, default="", db_default="")
    detail = models.TextField(blank=True, default="", db_default="")
    attempts = models.PositiveIntegerField(default=0, db_default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    processed_at = models.DateTimeField(null=True, blank=True)

    # What was read again from Atlassian, never taken from the body.
    issue_key = models.CharField(max_length=64, blank=True, default="", db_default="")
    project_key = models.CharField(max_length=64, blank=True, default="", db_default="")
    request_type_id = models.CharField(max_length=64, blank=True, default="", db_default="")
    request_type_name = models.CharField(max_length=255, blank=True, default="", db_default="")
    requester = models.CharField("requester in words", max_length=320, blank=True, default="", db_default="")
    requester_id = models.CharField(max_length=128, blank=True, default="", db_default="")
    # By how the requester is known: reporter, slack, mapping, signed_link, sign_in, confirmed.
    identity = models.CharField(max_length=20, blank=True, default="", db_default="")
    account = models.ForeignKey(
        Account, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_constraint=False
    )

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["organization", "dedup_key"], name="inbound_event_once")]
        indexes = [
            models.Index(fields=["organization", "-id"], name="inbound_event_latest"),
            models.Index(
                fields=["next_try_at", "id"],
                condition=models.Q(status__in=["received", "waiting"]),
                name="inbound_event_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.dedup_key}"


class AccessGrant(OrganizationOwned):
    """What one rule gives one person for one event: made with its operation, settled when that ends, over by expiry."""

    class Status(models.TextChoices):
        GIVING = "giving", "Being given"
        GIVEN = "given", "Given"
        HAD_IT = "had_it", "Had it already"
        FAILED = "failed", "Not given"
        REMOVING = "removing", "Being removed"
        ENDED = "ended", "Ended"
        UNDONE = "undone", "Undone"

    # Counted against a rule's seat budget.
    HELD = (Status.GIVING, Status.GIVEN, Status.REMOVING)

    event = models.ForeignKey(InboundEvent, on_delete=models.CASCADE, related_name="grants")
    rule = models.ForeignKey(AssignmentRule, on_delete=models.RESTRICT, related_name="grants")
    rule_version = models.PositiveIntegerField()
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", db_constraint=False)
    operation = models.ForeignKey(Operation, on_delete=models.RESTRICT, null=True, blank=True, related_name="+")
    needs_approval = models.BooleanField(default=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.GIVING)
    # Groups that were really added by this grant: [{"pk", "name"}]; what expiry takes away.
    added = models.JSONField(default=list)
    detail = models.TextField(blank=True, default="")
    created_at = models.DateTimeField()
    given_at = models.DateTimeField(null=True, blank=True)
    expires_after_days = models.PositiveIntegerField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    warned_7_at = models.DateTimeField(null=True, blank=True)
    warned_1_at = models.DateTimeField(null=True, blank=True)
    next_removal_at = models.DateTimeField(null=True, blank=True)
    removal = models.ForeignKey(Operation, on_delete=models.RESTRICT, null=True, blank=True, related_name="+")
    ended_at = models.DateTimeField(null=True, blank=True)

    # Somebody asks for more days; an approver who did not ask decides (B22).
    asked_days = models.PositiveIntegerField(null=True, blank=True)
    asked_reason = models.CharField(max_length=500, blank=True, default="")
    asked_at = models.DateTimeField(null=True, blank=True)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    asked_by_text = models.CharField(max_length=254, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["event", "rule"], name="access_grant_once")]
        indexes = [
            models.Index(fields=["organization", "-id"], name="access_grant_latest"),
            models.Index(fields=["rule", "created_at"], name="access_grant_rule"),
            models.Index(
                fields=["expires_at"],
                condition=models.Q(status="given", expires_at__isnull=False),
                name="access_grant_expiry",
            ),
            models.Index(fields=["operation"], name="access_grant_operation"),
        ]

    def __str__(self) -> str:
        return f"{self.rule_id} for {self.account_id}"

    @property
    def group_names(self) -> str:
        return ", ".join(group["name"] for group in self.added)


class RequesterReply(OrganizationOwned):
    """What the requester of an event was told, where, and what the other side answered; each thing once."""

    class Said(models.TextChoices):
        GIVEN = "given", "Access given"
        CONFIRM = "confirm", "A mail decides"
        APPROVAL = "approval", "Waits for an approval"
        WAITS = "waits", "Waits for a free place"
        NOTHING = "nothing", "No rule"
        REFUSED = "refused", "Refused"
        FAILED = "failed", "Not granted"

    class Way(models.TextChoices):
        SLACK = "slack", "Slack"
        MAIL = "mail", "Mail"

    class Status(models.TextChoices):
        QUEUED = "queued", "Waiting"
        SENT = "sent", "Told"
        FAILED = "failed", "Not told"

    event = models.ForeignKey(InboundEvent, on_delete=models.CASCADE, related_name="replies")
    said = models.CharField(max_length=10, choices=Said.choices)
    text = models.TextField()
    way = models.CharField(max_length=10, choices=Way.choices, blank=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    lease_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    sent_at = models.DateTimeField(null=True, blank=True)
    answer = models.CharField(max_length=300, blank=True)

    class Meta:
        verbose_name_plural = "requester replies"
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["event", "said"], name="requester_reply_once")]
        indexes = [
            models.Index(fields=["next_attempt_at"], condition=models.Q(status="queued"), name="requester_reply_queue")
        ]

    def __str__(self) -> str:
        return f"{self.said} for event {self.event_id}"


class InboundLink(OrganizationOwned):
    """A signed single-use link: random, kept as a hash, for one purpose, until a date."""

    class Purpose(models.TextChoices):
        CONFIRM = "confirm", "Confirm a request"
        REQUEST = "request", "Request access"
        EXTEND = "extend", "Ask for more time"

    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    token_hash = models.CharField(max_length=64, unique=True)
    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    email = models.CharField(max_length=320, blank=True)
    event = models.ForeignKey(InboundEvent, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    grant = models.ForeignKey(AccessGrant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, null=True, blank=True, related_name="+", db_constraint=False
    )
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.CharField(max_length=254, blank=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.get_purpose_display()}, {self.uuid}"


class IdentityMapping(OrganizationOwned):
    """Who an outside id is: entered by an admin, or learned from a confirmed request."""

    channel = models.CharField(max_length=20, choices=Channel.choices)
    external_id = models.CharField(max_length=128)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", db_constraint=False)
    set_at = models.DateTimeField()
    set_by = models.CharField(max_length=254)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "channel", "external_id"], name="identity_mapping_once")
        ]

    def __str__(self) -> str:
        return f"{self.channel}:{self.external_id}"
