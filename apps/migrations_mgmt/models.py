"""Data migrations that outlive a deploy: one row each, with batches that are claimed, repeated and split."""

from __future__ import annotations

from django.db import models

from apps.organizations.models import Organization


class Backfill(models.Model):
    """One registered data migration in one version, of one organisation or, without one, of the installation."""

    class Status(models.TextChoices):
        PENDING = "pending", "Waiting"
        RUNNING = "running", "In progress"
        PAUSED = "paused", "Paused"
        FINISHED = "finished", "Finished"
        FAILED = "failed", "Failed"

    name = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    # Rows to look at and rows looked at; `total` is what there was when it started.
    total = models.BigIntegerField(default=0)
    done = models.BigIntegerField(default=0)
    # Batches are cut up to this primary key; when `is_cut`, there is nothing left to cut.
    cursor = models.BigIntegerField(null=True, blank=True)
    is_cut = models.BooleanField(default=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    failed_reason = models.TextField(blank=True)
    # Cleaned away, 15 days after its finish: its batches are gone, name, version and finish stay.
    hidden_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name", "version"]
        constraints = [
            models.UniqueConstraint(
                fields=["name", "version"],
                condition=models.Q(organization__isnull=True),
                name="backfill_installation_once",
            ),
            models.UniqueConstraint(fields=["organization", "name", "version"], name="backfill_organization_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    @property
    def is_open(self) -> bool:
        """True while it waits, runs or rests."""
        return self.status in (self.Status.PENDING, self.Status.RUNNING, self.Status.PAUSED)

    @property
    def percent(self) -> int:
        """How much is done, 0 to 100."""
        if self.status == self.Status.FINISHED:
            return 100
        return min(99, self.done * 100 // self.total) if self.total else 0


class BackfillBatch(models.Model):
    """The rows with first_pk ≤ pk ≤ last_pk. A batch that failed twice is replaced by its two halves."""

    class Status(models.TextChoices):
        PENDING = "pending", "Waiting"
        FINISHED = "finished", "Finished"
        FAILED = "failed", "Failed"

    backfill = models.ForeignKey(Backfill, on_delete=models.CASCADE, related_name="batches")
    first_pk = models.BigIntegerField()
    last_pk = models.BigIntegerField()
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.TextField(blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["first_pk"]
        verbose_name_plural = "backfill batches"
        constraints = [
            models.UniqueConstraint(fields=["backfill", "first_pk"], name="backfill_batch_once"),
            models.CheckConstraint(
                condition=models.Q(first_pk__lte=models.F("last_pk")), name="backfill_batch_not_empty"
            ),
        ]
        indexes = [models.Index(fields=["backfill", "status", "first_pk"], name="backfill_batch_next")]

    def __str__(self) -> str:
        return f"{self.first_pk}–{self.last_pk}"
