"""Cleanup rules, their versions, and the slots in which they were due."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse
from django_celery_beat.models import PeriodicTask

from apps.notifications.models import Audience, EmailTemplate
from apps.organizations.models import OrganizationOwned, validate_timezone
from apps.users.models import Group, Product, SavedView

RULE_SCHEMA = 2


class CleanupRule(OrganizationOwned):
    class Mode(models.TextChoices):
        SAFE = "safe", "Safe mode"
        LIVE = "live", "Live mode"

    class Action(models.TextChoices):
        DEACTIVATE = "deactivate", "Deactivate (managed users only)"
        SUSPEND = "suspend", "Suspend users (all users)"
        REMOVE_PRODUCT_ACCESS = "remove_product_access", "Remove product access"
        REMOVE_FROM_GROUP = "remove_from_group", "Remove from groups"
        ADD_TO_GROUP = "add_to_group", "Add to groups"
        RESTORE = "restore", "Restore suspended users"
        ACTIVATE = "activate", "Activate deactivated users (managed users only)"
        DELETE = "delete", "Delete users deactivated or suspended (managed users only)"

    class Target(models.TextChoices):
        ALL_EXCEPT_PROTECTED = "all_except_protected", "All users except protected groups"
        SPECIFIED_GROUPS = "specified_groups", "Specified groups only"

    class Recurrence(models.TextChoices):
        DAILY = "daily", "Daily"
        WEEKLY = "weekly", "Weekly"
        MONTHLY = "monthly", "Monthly"

    class Undeliverable(models.TextChoices):
        ASK = "ask", "Ask the manager or an owner, and wait"
        ACT = "act", "Act after some days"

    LAST_DAY = 31  # a day beyond the month's end means its last day

    name = models.CharField("scheduling display name", max_length=120)
    mode = models.CharField(max_length=10, choices=Mode.choices, default=Mode.SAFE)
    action = models.CharField(max_length=40, choices=Action.choices, default=Action.SUSPEND)
    # Where idleness is measured; empty: all products, and for remove_product_access each target product by itself.
    inactive_products = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    target_products = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    target_sites = ArrayField(models.CharField(max_length=300), default=list, blank=True)
    # Groups that add_to_group and remove_from_group are about.
    action_groups = models.ManyToManyField(Group, related_name="+", blank=True)
    # Null: last login does not matter, the conditions alone choose.
    inactive_days = models.PositiveIntegerField(
        "days inactive threshold", null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(3650)]
    )
    # For delete: in the present status for more than so many days.
    status_days = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(3650)]
    )
    # [{"name", parameters, "not"}]: predicates that hold as well, or do not; groups by our keys (docs/rules.md).
    conditions = models.JSONField(default=list, blank=True)
    # A shared view whose filters hold as well. Restricted: losing it would widen the rule without a word.
    saved_view = models.ForeignKey(SavedView, on_delete=models.RESTRICT, null=True, blank=True, related_name="+")
    include_never_active = models.BooleanField(default=False)
    never_active_days = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(3650)]
    )
    target = models.CharField(max_length=30, choices=Target.choices, default=Target.ALL_EXCEPT_PROTECTED)
    target_groups = models.ManyToManyField(Group, related_name="+", blank=True)
    protected_groups = models.ManyToManyField(Group, related_name="+", blank=True)

    recurrence = models.CharField(max_length=10, choices=Recurrence.choices, default=Recurrence.DAILY)
    weekdays = ArrayField(models.PositiveSmallIntegerField(), default=list, blank=True)  # 0 is Monday
    month_day = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(31)]
    )
    run_at = models.TimeField("execution time")
    timezone = models.CharField(max_length=64, default="UTC", validators=[validate_timezone])
    # Minutes after the execution time within which a run counts as on time.
    window_minutes = models.PositiveIntegerField(default=60, db_default=60)
    # Local dates on which the rule is not due: "2026-12-24" or "2026-12-24..2027-01-06".
    blackout_dates = ArrayField(models.CharField(max_length=24), default=list, blank=True)

    # Tighter limits of this rule; null means those of the organisation.
    max_count = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    max_share_percent = models.DecimalField(
        max_digits=5,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
    )

    # When a notice cannot be delivered: somebody is asked, or the action follows so many days after the failure.
    undeliverable = models.CharField(
        max_length=10, choices=Undeliverable.choices, default=Undeliverable.ASK, db_default=Undeliverable.ASK
    )
    undeliverable_days = models.PositiveIntegerField(
        default=14, db_default=14, validators=[MinValueValidator(1), MaxValueValidator(365)]
    )

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    notes = models.TextField(blank=True, default="", db_default="")

    version = models.PositiveIntegerField(default=1)
    # How the row is written; the data migration `rules.schema` moves older rows to RULE_SCHEMA.
    schema_version = models.PositiveSmallIntegerField(default=RULE_SCHEMA, db_default=1)
    edited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    edited_by_text = models.CharField(max_length=254)
    edited_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now())
    is_paused = models.BooleanField(default=False)
    paused_reason = models.CharField(max_length=300, blank=True)
    # The run that pausing the rule paused, so that resuming the rule lets exactly that one go on.
    run_paused_with_rule = models.PositiveIntegerField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    last_run_at = models.DateTimeField(null=True, blank=True)
    last_operation_number = models.PositiveIntegerField(null=True, blank=True)
    # Slots before this instant are not owed: creation, resume, an edit of the schedule.
    scheduled_from = models.DateTimeField()
    # For display; firing computes its slots anew. Null while the rule is paused or deleted.
    next_run_at = models.DateTimeField(null=True, blank=True)
    periodic_task = models.OneToOneField(
        PeriodicTask, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "name"], condition=models.Q(deleted_at__isnull=True), name="rule_name_once"
            ),
            models.CheckConstraint(condition=models.Q(inactive_days__gte=1), name="rule_inactive_days_positive"),
            models.CheckConstraint(
                condition=models.Q(include_never_active=False) | models.Q(never_active_days__gte=1),
                name="rule_never_active_days_given",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("rules:edit", args=[self.organization.slug, self.pk])

    @property
    def notices(self) -> list[str]:
        """The steps of its notices as `RuleInput` holds them, the earliest mail first."""
        return [step.key for step in self.notice_steps.all()]

    @property
    def product_labels(self) -> list[str]:
        """The products that the rule is about, in words; empty when it runs globally."""
        labels = dict(Product.choices)
        return [str(labels.get(key, key)) for key in (self.target_products or self.inactive_products)]


class NoticeStep(OrganizationOwned):
    """One mail of a rule, so many days before its action. The template's "days since inactivity" is the same date."""

    rule = models.ForeignKey(CleanupRule, on_delete=models.CASCADE, related_name="notice_steps")
    template = models.ForeignKey(EmailTemplate, on_delete=models.RESTRICT, related_name="+")
    days_before = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(3650)])
    audience = models.CharField(max_length=10, choices=Audience.choices, default=Audience.PERSON)

    class Meta:
        ordering = ["-days_before", "id"]
        constraints = [
            models.UniqueConstraint(fields=["rule", "template", "audience"], name="notice_step_template_once"),
            models.CheckConstraint(condition=models.Q(days_before__gte=1), name="notice_step_days_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.template_id}, {self.days_before} days before {self.rule_id}"

    @property
    def key(self) -> str:
        return f"{self.template_id}:{self.days_before}:{self.audience}"


class RuleVersion(OrganizationOwned):
    """What a rule said at one version: runs name it, so their history stays readable."""

    rule = models.ForeignKey(CleanupRule, on_delete=models.CASCADE, related_name="versions")
    version = models.PositiveIntegerField()
    content = models.JSONField()
    edited_by_text = models.CharField(max_length=254)
    edited_at = models.DateTimeField()

    class Meta:
        ordering = ["-version"]
        constraints = [models.UniqueConstraint(fields=["rule", "version"], name="rule_version_once")]

    def __str__(self) -> str:
        return f"{self.rule} v{self.version}"


class DueSlot(OrganizationOwned):
    """One instant at which a rule was due; unique, so it fires once, whoever comes first."""

    class State(models.TextChoices):
        FIRED = "fired", "Fired"
        CAUGHT_UP = "caught_up", "Caught up"
        MISSED = "missed", "Missed"
        REFUSED = "refused", "Refused"

    rule = models.ForeignKey(CleanupRule, on_delete=models.CASCADE, related_name="slots")
    due_at = models.DateTimeField()
    state = models.CharField(max_length=12, choices=State.choices)
    handled_at = models.DateTimeField(db_default=Now())
    operation_number = models.PositiveIntegerField(null=True, blank=True)
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ["-due_at"]
        constraints = [models.UniqueConstraint(fields=["rule", "due_at"], name="due_slot_once")]

    def __str__(self) -> str:
        return f"{self.rule} at {self.due_at:%Y-%m-%d %H:%M}"
