"""Every change is a row in a frozen plan before it is a call: Operation is plan and run in one row, OperationItem one
(subject, action, target) of it.

A rule is named by id, version and text, without a foreign key: rules stand above operations and may be deleted while
their history stays.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

from apps.organizations.models import OrganizationOwned
from apps.users.models import Account, Group


class Operation(OrganizationOwned):
    class Kind(models.TextChoices):
        SCHEDULED_CLEANUP = "scheduled_cleanup", "Scheduled Cleanup"
        AUTOMATION_RULE = "automation_rule", "Automation Rule"
        MANUAL_OPERATION = "manual_operation", "Manual Operation"
        USER_IMPORT = "user_import", "User Import"
        BULK_CSV_ACTION = "bulk_csv_action", "Bulk CSV Action"
        ACTIVATION = "activation", "Activation"

    class Mode(models.TextChoices):
        SAFE = "safe", "Safe mode"
        LIVE = "live", "Live mode"

    class Status(models.TextChoices):
        PLANNING = "planning", "Planning"
        HELD = "held", "Held"
        QUEUED = "queued", "Queued"
        RUNNING = "running", "In progress"
        WAITING = "waiting", "Waiting"
        PAUSED = "paused", "Paused"
        PREVIEWED = "previewed", "Previewed"
        SUCCEEDED = "succeeded", "Success"
        PARTIAL_FAILURE = "partial_failure", "Partial failure"
        FAILED = "failed", "Failed"
        NO_EFFECT = "no_effect", "No effect"
        CANCELLED = "cancelled", "Cancelled"
        REJECTED = "rejected", "Rejected"
        EXPIRED = "expired", "Expired"
        SUPERSEDED = "superseded", "Superseded"

    class Initiator(models.TextChoices):
        MANUAL = "manual", "Manual"
        AUTOMATED = "automated", "Automated"

    OPEN = (Status.PLANNING, Status.HELD, Status.QUEUED, Status.RUNNING, Status.WAITING, Status.PAUSED)
    WORKING = (Status.QUEUED, Status.RUNNING, Status.WAITING)

    number = models.PositiveIntegerField()
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    kind = models.CharField(max_length=30, choices=Kind.choices)
    mode = models.CharField(max_length=10, choices=Mode.choices)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PLANNING)
    initiator = models.CharField(max_length=20, choices=Initiator.choices)
    # The author (DECISIONS.md §11): who started the plan or last edited its rule. Never approves it.
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    actor_text = models.CharField(max_length=254)
    actor_ip = models.GenericIPAddressField(null=True, blank=True)
    is_by_token = models.BooleanField(default=False)

    name = models.CharField(max_length=200)
    # Names of actions in their fixed order, joined by "+".
    action = models.CharField(max_length=300)
    reason = models.TextField(blank=True)
    rule_id = models.BigIntegerField(null=True, blank=True)
    rule_version = models.PositiveIntegerField(null=True, blank=True)
    # Frozen selection and protection: {"selection": …, "protected_group_ids": …, "limits": …}
    frozen = models.JSONField(default=dict)
    sentence = models.TextField(blank=True)
    # Kept for planning after a kill; deleted from the row once the plan is frozen.
    request = models.JSONField(default=dict)

    plan_hash = models.CharField(max_length=64, blank=True)
    planned_count = models.PositiveIntegerField(default=0)
    people_count = models.PositiveIntegerField(default=0)
    licensed_count = models.PositiveIntegerField(default=0)
    left_out = models.JSONField(default=dict)
    outcomes = models.JSONField(default=dict)
    # {product: people who lose their licence of it, negative for people who get one}; null before the plan is frozen.
    seats = models.JSONField(null=True, blank=True)
    # Of a finished undo: {"equal", "different"} people, compared with the state before the runs that it undid.
    verification = models.JSONField(null=True, blank=True)
    progress_done = models.PositiveIntegerField(default=0)
    progress_total = models.PositiveIntegerField(default=0)

    # [{"code", "sentence", …}]: why the plan is held; empty when it is not.
    held_reasons = models.JSONField(default=list)
    is_approved = models.BooleanField(default=False)
    status_detail = models.TextField(blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    applies = models.ForeignKey("self", on_delete=models.RESTRICT, null=True, blank=True, related_name="applied_by")
    undo_of = models.ForeignKey("self", on_delete=models.RESTRICT, null=True, blank=True, related_name="undone_by")
    retry_of = models.ForeignKey("self", on_delete=models.RESTRICT, null=True, blank=True, related_name="retried_by")
    sync_run_id = models.BigIntegerField(null=True, blank=True)

    created_at = models.DateTimeField(db_default=Now())
    planned_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    waiting_until = models.DateTimeField(null=True, blank=True)
    first_write_at = models.DateTimeField(null=True, blank=True)
    driven_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "number"], name="operation_number_once"),
            models.UniqueConstraint(
                fields=["rule_id"],
                condition=models.Q(status__in=["planning", "held", "queued", "running", "waiting", "paused"])
                & models.Q(rule_id__isnull=False),
                name="operation_one_open_per_rule",
            ),
            models.UniqueConstraint(
                fields=["applies"],
                condition=~models.Q(status__in=["cancelled", "rejected", "expired", "superseded"]),
                name="operation_applied_once",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="operation_latest"),
            models.Index(fields=["status"], name="operation_status"),
        ]

    def __str__(self) -> str:
        return f"#{self.number} {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("operations:run", args=[self.organization.slug, self.number])

    @property
    def is_open(self) -> bool:
        return self.status in self.OPEN

    @property
    def is_live(self) -> bool:
        return self.mode == self.Mode.LIVE

    @property
    def is_undo(self) -> bool:
        """Whether it gives back what earlier runs changed: one run (`undo_of`), or several of a person or a day."""
        return self.undo_of_id is not None or "undo" in (self.frozen or {})


class OperationItem(OrganizationOwned):
    class Status(models.TextChoices):
        PENDING = "pending", "To go"
        CLAIMED = "claimed", "Working"
        IN_DOUBT = "in_doubt", "Being confirmed"
        FINISHED = "finished", "Finished"

    class Outcome(models.TextChoices):
        DONE = "done", "Done"
        ALREADY_SO = "already_so", "Already so"
        SKIPPED_PROTECTED = "skipped_protected", "Skipped: protected"
        SKIPPED_EXEMPT = "skipped_exempt", "Skipped: exempt"
        SKIPPED_ACTIVE_AGAIN = "skipped_active_again", "Skipped: active again"
        SKIPPED_NOT_MANAGED = "skipped_not_managed", "Skipped: not managed"
        SKIPPED_NOTICE_MISSING = "skipped_notice_missing", "Skipped: notice missing"
        SKIPPED_SHARED_GROUP = "skipped_shared_group", "Skipped: shared group"
        SKIPPED_CONFLICT = "skipped_conflict", "Skipped: changed since"
        SKIPPED_GONE = "skipped_gone", "Skipped: gone"
        SKIPPED_HELD_ROW = "skipped_held_row", "Skipped: held back"
        NO_EFFECT_SEAT_KEPT = "no_effect_seat_kept", "No effect: seat kept"
        HANDED_OFF = "handed_off", "Handed off"
        UNRESOLVED = "unresolved", "Unresolved"
        FAILED = "failed", "Failed"
        FAILED_LICENCE_LIMIT = "failed_licence_limit", "Failed: no free licence"
        CANCELLED = "cancelled", "Cancelled"
        NOT_ATTEMPTED = "not_attempted", "Not attempted"

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="items")
    account = models.ForeignKey(Account, on_delete=models.RESTRICT, null=True, blank=True, related_name="+")
    # The account id, or the e-mail of an invite: what a plan's hash and the audit name.
    subject = models.CharField(max_length=320)
    action = models.CharField(max_length=40)
    # "directory:<id>", "group:<directory id>/<id>", "product:<product>@<resource>", or empty.
    target = models.CharField(max_length=400, blank=True, default="")
    # Place in the fixed order of actions (DECISIONS.md §14).
    rank = models.PositiveSmallIntegerField(default=0)
    parameters = models.JSONField(default=dict)
    # {"code", "idle_since", "products": …}: why this account is in; rendered to words by `reasons.sentence`.
    reason = models.JSONField(default=dict)

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    outcome = models.CharField(max_length=30, choices=Outcome.choices, blank=True, default="")
    detail = models.TextField(blank=True, default="")
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    # Set in the transaction just before the call: from then on its effect must be read, never guessed.
    written_at = models.DateTimeField(null=True, blank=True)
    is_answered = models.BooleanField(default=False)
    # Some paths of the product were left by an earlier try and others not: however it ends, it can be given back.
    is_half_done = models.BooleanField(default=False, db_default=False)
    doubt_reads = models.PositiveSmallIntegerField(default=0)
    next_read_at = models.DateTimeField(null=True, blank=True)
    atlassian_request_id = models.CharField(max_length=128, blank=True, default="")
    call_id = models.CharField(max_length=64, blank=True, default="")
    claimed_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["operation", "subject", "action", "target"], name="item_once"),
            models.CheckConstraint(
                condition=models.Q(status="finished", finished_at__isnull=False) & ~models.Q(outcome="")
                | ~models.Q(status="finished") & models.Q(outcome=""),
                name="item_outcome_iff_finished",
            ),
        ]
        indexes = [
            models.Index(
                fields=["operation", "rank", "id"],
                condition=models.Q(status="pending"),
                name="item_pending",
            ),
            models.Index(
                fields=["status", "lease_until"],
                condition=models.Q(status__in=["claimed", "in_doubt"]),
                name="item_open",
            ),
            models.Index(fields=["operation", "outcome", "id"], name="item_outcome"),
            # What the rolling day took (brakes), counted at each claim.
            models.Index(
                fields=["organization", "written_at"],
                condition=models.Q(written_at__isnull=False),
                name="item_written",
            ),
            models.Index(fields=["account", "-id"], name="item_account"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"


class LeftOut(OrganizationOwned):
    """An account that the selection met and the plan leaves out, with the reason that matters."""

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="left_out_rows")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    reason = models.CharField(max_length=40)
    # What stands in the way, named: the shared group, the synced group.
    detail = models.TextField(blank=True, db_default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["operation", "account"], name="left_out_once")]
        indexes = [models.Index(fields=["operation", "reason", "id"], name="left_out_reason")]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.reason}"


class HandOff(OrganizationOwned):
    """Work that only the identity provider can do, or that it undid: one line of an operation's work list.

    `came_back`: the access was gone and is there again; no rule fights over it until somebody closes the line.
    """

    class State(models.TextChoices):
        OPEN = "open", "Open"
        DONE = "done", "Done"
        CAME_BACK = "came_back", "Came back"
        CLOSED = "closed", "Closed by hand"

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="hand_offs")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    action = models.CharField(max_length=40)
    # As OperationItem.target: "group:<directory>/<id>", "product:<product>@<resource>", or a directory.
    target = models.CharField(max_length=400, blank=True, db_default="")
    # The group or product in words; the sentence that says why AUM cannot do it.
    target_name = models.CharField(max_length=300, blank=True, db_default="")
    detail = models.TextField(blank=True, db_default="")
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    created_at = models.DateTimeField(db_default=Now())
    changed_at = models.DateTimeField(db_default=Now())
    changed_by = models.CharField(max_length=254, blank=True, db_default="")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["operation", "account", "action", "target"], name="hand_off_once")
        ]
        indexes = [
            models.Index(
                fields=["account", "action"],
                condition=models.Q(state__in=["open", "came_back"]),
                name="hand_off_open",
            ),
            models.Index(fields=["organization", "state", "-id"], name="hand_off_state"),
        ]

    def __str__(self) -> str:
        return f"{self.action} of {self.account_id}: {self.get_state_display()}"


class Approval(OrganizationOwned):
    """A decision about exactly one plan: bound to its hash, or to the hash of what a tripped run has left."""

    class Decision(models.TextChoices):
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="approvals")
    plan_hash = models.CharField(max_length=64)
    decision = models.CharField(max_length=10, choices=Decision.choices)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    decided_by_text = models.CharField(max_length=254)
    decided_at = models.DateTimeField()
    reason = models.TextField(blank=True)
    count = models.PositiveIntegerField()
    is_one_operator = models.BooleanField(default=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.get_decision_display()} by {self.decided_by_text}"


class RunDriver(OrganizationOwned):
    """A worker that executes a run at this moment, and how many calls at once it makes (`services.drivers`)."""

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="drivers")
    token = models.UUIDField(unique=True)
    # Host and process.
    name = models.CharField(max_length=80)
    leads = models.BooleanField(default=False)
    slots = models.PositiveSmallIntegerField(default=0)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} on {self.operation_id}: {self.slots}"


class BrakeState(OrganizationOwned):
    """The row that a claim locks while it counts what the last 24 hours took (DECISIONS.md §10)."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization"], name="brake_state_once")]

    def __str__(self) -> str:
        return f"brake of {self.organization_id}"


class SafeguardChange(OrganizationOwned):
    """A proposal to loosen safeguards: approved by another person, and in force an hour after that (P5).

    A row never changes what it proposes; a new idea is a new row, and supersedes the open ones it overlaps.
    """

    class Kind(models.TextChoices):
        SETTINGS = "settings", "Settings"
        UNPROTECT_GROUP = "unprotect_group", "End of a group's protection"
        LICENCE_ONLY = "licence_only", "Group marked licence-only"
        RELEASE_KIND = "release_kind", "Account treated like a person"
        RULE = "rule", "Safeguards of a rule"

    class Status(models.TextChoices):
        PENDING = "pending", "Waits for approval"
        APPROVED = "approved", "Approved"
        APPLIED = "applied", "In force"
        REJECTED = "rejected", "Rejected"
        WITHDRAWN = "withdrawn", "Withdrawn"
        SUPERSEDED = "superseded", "Superseded"
        VOID = "void", "No longer possible"

    OPEN = (Status.PENDING, Status.APPROVED)
    # From the approval to the effect: the time in which somebody who was not asked can still object.
    EFFECT_WAIT = timedelta(hours=1)

    kind = models.CharField(max_length=20, choices=Kind.choices)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    # {setting: [from, to]} as text; empty for a group. Of a rule: limits ("" means none), keys of protected groups.
    changes = models.JSONField(default=dict, blank=True)
    group = models.ForeignKey(Group, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    rule_id = models.BigIntegerField(null=True, blank=True)
    rule_name = models.CharField(max_length=120, blank=True, default="", db_default="")
    reason = models.TextField()

    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    proposed_by_text = models.CharField(max_length=254)
    proposed_at = models.DateTimeField()

    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    approved_by_text = models.CharField(max_length=254, blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)
    is_one_operator = models.BooleanField(default=False)
    effective_at = models.DateTimeField(null=True, blank=True)
    applied_at = models.DateTimeField(null=True, blank=True)

    # Rejected, withdrawn, superseded or void.
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by_text = models.CharField(max_length=254, blank=True)
    ending_reason = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(kind__in=["settings", "rule"], group__isnull=True, account__isnull=True)
                | models.Q(kind__in=["unprotect_group", "licence_only"], group__isnull=False, account__isnull=True)
                | models.Q(kind="release_kind", group__isnull=True, account__isnull=False),
                name="safeguard_is_about_one_thing",
            ),
            models.CheckConstraint(
                condition=models.Q(kind="rule", rule_id__isnull=False)
                | ~models.Q(kind="rule") & models.Q(rule_id__isnull=True),
                name="safeguard_rule_iff_rule",
            ),
            models.CheckConstraint(
                condition=models.Q(is_one_operator=True) | ~models.Q(approved_by=models.F("proposed_by")),
                name="safeguard_approved_by_another",
            ),
            models.CheckConstraint(
                condition=~models.Q(status__in=["approved", "applied"])
                | models.Q(effective_at__gte=models.F("approved_at") + timedelta(hours=1)),
                name="safeguard_waits_an_hour",
            ),
            models.CheckConstraint(
                condition=models.Q(status="applied", applied_at__gte=models.F("effective_at"))
                | ~models.Q(status="applied") & models.Q(applied_at__isnull=True),
                name="safeguard_applied_when_due",
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "id"],
                condition=models.Q(status__in=["pending", "approved"]),
                name="safeguard_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} proposed by {self.proposed_by_text}"
