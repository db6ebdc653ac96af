"""What happened, appended and never edited, and the signed chain that proves it (docs/decisions/0005-audit-chain.md).

`audit_auditevent` is partitioned by month of `at`; its table, guards and partitions are SQL in the first migration.
"""

from __future__ import annotations

from django.db import models

from apps.organizations.models import Organization, OrganizationOwned

SCHEMA_VERSION = 1


class ClockTimestamp(models.Func):
    """The moment of the insert; `now()` would give every row of a long transaction its beginning."""

    template = "clock_timestamp()"
    output_field = models.DateTimeField()


class AuditIdentity(OrganizationOwned):
    """Name and e-mail of an actor or a target as they were, erasable without breaking the chain.

    `commitment` is the SHA-256 of a random salt, kind, key, name and e-mail, and is what events are hashed with: a
    changed name is noticed, while an erasure takes text and salt away and leaves a hash that nobody can guess from.
    `fingerprint` is the plain SHA-256 of the content, so that the same content is stored once; random after an erasure.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, db_index=False, related_name="+")
    kind = models.CharField(max_length=30)
    key = models.CharField(max_length=200, blank=True)
    name = models.CharField(max_length=300, blank=True)
    email = models.CharField(max_length=320, blank=True)
    salt = models.BinaryField(max_length=16, blank=True)
    commitment = models.BinaryField(max_length=32)
    fingerprint = models.BinaryField(max_length=32)
    erased_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "audit identities"
        constraints = [
            models.UniqueConstraint(fields=["organization", "fingerprint"], name="audit_identity_content_once")
        ]
        indexes = [models.Index(fields=["organization", "kind", "key"], name="audit_identity_key")]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """The name, else the e-mail, else the key; says so when it was erased."""
        if self.erased_at is not None:
            return "Erased person"
        return self.name or self.email or self.key


class AuditEvent(OrganizationOwned):
    """One thing that happened. The primary key in the database is (organization, id, at).

    The foreign keys have no constraint in the database: three checks a row made COPY 2.8 times slower, and
    identities cannot be deleted, nor an organisation that still has one.
    """

    class Outcome(models.TextChoices):
        SUCCESS = "success", "Success"
        FAILED = "failed", "Failed"
        WARNING = "warning", "Warning"
        SKIPPED = "skipped", "Skipped"
        INFO = "info", "Information"

    id = models.BigAutoField(primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, db_constraint=False, db_index=False, related_name="+"
    )
    at = models.DateTimeField(db_default=ClockTimestamp())
    actor_kind = models.CharField(max_length=30)
    actor = models.ForeignKey(
        AuditIdentity, on_delete=models.PROTECT, db_constraint=False, db_index=False, related_name="+"
    )
    action = models.CharField(max_length=60)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.SUCCESS)
    target_kind = models.CharField(max_length=30, blank=True)
    target = models.ForeignKey(
        AuditIdentity,
        on_delete=models.PROTECT,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="+",
    )
    # The account_id or primary key of the target: no personal text, so it stays after an erasure.
    target_ref = models.CharField(max_length=200, blank=True)
    operation_id = models.BigIntegerField(null=True, blank=True)
    operation_number = models.IntegerField(null=True, blank=True)
    rule_id = models.BigIntegerField(null=True, blank=True)
    rule_name = models.CharField(max_length=200, blank=True)
    rule_version = models.IntegerField(null=True, blank=True)
    group_name = models.CharField(max_length=300, blank=True)
    reason = models.TextField(blank=True)
    # The changed fields only.
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)
    correlation_id = models.UUIDField(null=True, blank=True)
    # Atlassian's id of the call, our id of it, and the id of the page or REST request.
    request_id = models.CharField(max_length=200, blank=True)
    call_id = models.CharField(max_length=64, blank=True)
    http_request_id = models.CharField(max_length=64, blank=True)
    ip_address = models.GenericIPAddressField(null=True, blank=True)
    # Which set of columns the sealer hashes (`apps.audit.chain`).
    schema_version = models.SmallIntegerField(default=SCHEMA_VERSION)

    class Meta:
        indexes = [
            models.Index(fields=["organization", "-at", "-id"], name="audit_event_latest"),
            models.Index(
                fields=["organization", "-at", "-id"],
                condition=models.Q(outcome="failed"),
                name="audit_event_failed",
            ),
            models.Index(
                fields=["correlation_id"],
                condition=models.Q(correlation_id__isnull=False),
                name="audit_event_correlation",
            ),
            models.Index(
                fields=["operation_id", "id"],
                condition=models.Q(operation_id__isnull=False),
                name="audit_event_operation",
            ),
            models.Index(fields=["target", "at"], condition=models.Q(target__isnull=False), name="audit_event_target"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target_ref}".strip()


class AuditSegment(OrganizationOwned):
    """Up to 5,000 events, hashed together, chained to the segment before and signed with a key kept elsewhere."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, db_index=False, related_name="+")
    number = models.PositiveIntegerField()
    first_id = models.BigIntegerField()
    last_id = models.BigIntegerField()
    count = models.PositiveIntegerField()
    # Per row 8 bytes of id, big-endian, then the 32 bytes of its digest; empty once purged.
    digests = models.BinaryField()
    root = models.BinaryField(max_length=32)
    previous_head = models.BinaryField(max_length=32)
    head = models.BinaryField(max_length=32)
    signature = models.BinaryField(max_length=64)
    key_id = models.CharField(max_length=16)
    sealed_at = models.DateTimeField()
    purged_at = models.DateTimeField(null=True, blank=True)
    # When the head was written to the anchor outside; null as long as it was not.
    anchored_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "number"], name="audit_segment_number_once"),
            models.CheckConstraint(condition=models.Q(count__gt=0), name="audit_segment_not_empty"),
        ]

    def __str__(self) -> str:
        return f"segment {self.number}"


class AuditCheckpoint(OrganizationOwned):
    """The signed statement that the rows of all segments up to `number` were purged on purpose."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, db_index=False, related_name="+")
    number = models.PositiveIntegerField()
    last_id = models.BigIntegerField()
    head = models.BinaryField(max_length=32)
    rows = models.BigIntegerField()
    purged_at = models.DateTimeField()
    signature = models.BinaryField(max_length=64)
    key_id = models.CharField(max_length=16)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["organization", "number"], name="audit_checkpoint_once")]

    def __str__(self) -> str:
        return f"checkpoint at segment {self.number}"
