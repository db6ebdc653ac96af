"""What was freed and since when (the ledger), figures of each day, and what was decided about insights.

Money is not stored: it follows from the ledger and the price book (docs/savings.md), so that a corrected price corrects
every month that it holds for.
"""

from __future__ import annotations

from django.db import models

from apps.operations.models import Operation
from apps.organizations.models import OrganizationOwned
from apps.users.models import Account


class LedgerEntry(OrganizationOwned):
    """One licence of one person that a finished run freed, until the person returns.

    It counts from the day after `freed_at` to the day before `ended_at`, in the organisation's timezone. A product
    counts once a person, on however many sites.
    """

    class EndedBy(models.TextChoices):
        RUN = "run", "Given back by a run"
        SEEN = "seen", "Seen back in Atlassian"

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    product = models.CharField(max_length=60)
    action = models.CharField(max_length=40)
    freed_at = models.DateTimeField()
    # Null only in the demo's history.
    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    rule_id = models.BigIntegerField(null=True, blank=True)
    # The rule's name, or the run's where no rule stands behind it.
    source_name = models.CharField(max_length=200, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.CharField(max_length=10, choices=EndedBy.choices, blank=True)
    ended_operation = models.ForeignKey(Operation, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    is_demo = models.BooleanField(default=False)

    class Meta:
        ordering = ["-freed_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["operation", "account", "product"], name="ledger_once_a_run"),
            models.UniqueConstraint(
                fields=["account", "product"], condition=models.Q(ended_at__isnull=True), name="ledger_one_open"
            ),
            models.CheckConstraint(
                condition=models.Q(ended_at__isnull=True, ended_by="")
                | models.Q(ended_at__gte=models.F("freed_at")) & ~models.Q(ended_by=""),
                name="ledger_ends_after_start",
            ),
        ]
        indexes = [models.Index(fields=["organization", "freed_at"], name="ledger_freed")]

    def __str__(self) -> str:
        return f"{self.product} of {self.account_id} from {self.freed_at:%Y-%m-%d}"


class LedgerPosting(OrganizationOwned):
    """A finished run whose effect on licences stands in the ledger: what is not posted is taken up by the sweep."""

    operation = models.OneToOneField(Operation, on_delete=models.CASCADE, related_name="ledger_posting")
    posted_at = models.DateTimeField()
    freed = models.PositiveIntegerField()
    given_back = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"run {self.operation_id}"


class DailySnapshot(OrganizationOwned):
    """Figures of one day in the organisation's timezone, as last counted on it. Never made up for days gone by.

    `figures`: range of days → {part of everybody → people}; `seats`: product → licences in use, `peak_seats` the most
    of the day; `idle`: product → people idle for 30 days.
    """

    day = models.DateField()
    taken_at = models.DateTimeField()
    total = models.PositiveIntegerField()
    figures = models.JSONField()
    seats = models.JSONField()
    peak_seats = models.JSONField()
    idle = models.JSONField(default=dict)
    is_demo = models.BooleanField(default=False)

    class Meta:
        ordering = ["-day"]
        constraints = [models.UniqueConstraint(fields=["organization", "day"], name="snapshot_once_a_day")]

    def __str__(self) -> str:
        return f"{self.day}: {self.total}"


class InsightDecision(OrganizationOwned):
    """An insight that somebody put aside: until a moment, or for good with a reason. Undone by ending it."""

    class State(models.TextChoices):
        SNOOZED = "snoozed", "Snoozed"
        DISMISSED = "dismissed", "Dismissed"

    key = models.CharField(max_length=60)
    state = models.CharField(max_length=10, choices=State.choices)
    until = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    # What the insight counted then.
    count = models.PositiveIntegerField()
    decided_by = models.CharField(max_length=254)
    decided_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.CharField(max_length=254, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "key"], condition=models.Q(ended_at__isnull=True), name="insight_decided_once"
            ),
            models.CheckConstraint(
                condition=models.Q(state="snoozed", until__isnull=False)
                | models.Q(state="dismissed", until__isnull=True) & ~models.Q(reason=""),
                name="insight_snooze_ends_dismissal_has_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.state}"
