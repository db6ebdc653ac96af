"""What happened, appended and never edited, and the signed chain that proves it (docs/decisions/0005-audit-chain.md).

`audit_auditevent` is partitioned by month of `at`; its table, guards and partitions are SQL in the first migration.
"""

from __future__ import annotations

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.contrib.postgres.search import SearchVectorField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now

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
        indexes = [
            models.Index(fields=["organization", "kind", "key"], name="audit_identity_key"),
            GinIndex(
                OpClass("name", name="gin_trgm_ops"), OpClass("email", name="gin_trgm_ops"), name="audit_identity_text"
            ),
        ]

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
            models.Index(fields=["actor", "-at", "-id"], name="audit_event_actor"),
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


class AuditSearch(OrganizationOwned):
    """The words of one sealed event, beside it, so that a search of millions is quick.

    Derived from the event and never evidence: the sealer writes them, and the backfill `audit.search` writes those of
    events that were sealed before there was this table. Words of names and e-mails are not among them.
    """

    event_id = models.BigIntegerField(primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )
    at = models.DateTimeField()
    words = SearchVectorField()

    class Meta:
        verbose_name_plural = "audit search"
        indexes = [
            models.Index(fields=["organization", "-at", "-event_id"], name="audit_search_latest"),
            GinIndex(fields=["words"], name="audit_search_words"),
        ]

    def __str__(self) -> str:
        return f"words of event {self.event_id}"


class LogImport(OrganizationOwned):
    """A file with the audit log of another product, and how far its lines have been taken over."""

    class Status(models.TextChoices):
        RUNNING = "running", "In progress"
        FINISHED = "finished", "Completed"
        FAILED = "failed", "Failed"

    name = models.CharField(max_length=200)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RUNNING)
    # Kept until every line is taken over, so that a killed import goes on.
    content = models.BinaryField(null=True)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveIntegerField()
    # Physical lines of data in the file; lines looked at; new entries; lines that were refused.
    lines = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    added = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    # The first refusals: [{"line", "detail"}].
    errors = models.JSONField(default=list)
    detail = models.TextField(blank=True)
    imported_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["organization", "sha256"], name="log_import_file_once")]

    def __str__(self) -> str:
        return self.name

    @property
    def percent(self) -> int:
        """How much is done, 0 to 100."""
        if self.status == self.Status.FINISHED:
            return 100
        return min(99, self.done * 100 // self.lines) if self.lines else 0


class ImportedEvent(OrganizationOwned):
    """One line of another product's audit log, as its file said. The chain says nothing about it.

    The columns are those of that product's export. `kind` and `outcome` are what AUM's filters make of its words.
    """

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, db_index=False, related_name="+")
    log_import = models.ForeignKey(LogImport, on_delete=models.CASCADE, related_name="events")
    line = models.PositiveIntegerField()
    at = models.DateTimeField()
    operation = models.CharField(max_length=300, blank=True)
    rule_name = models.CharField(max_length=200, blank=True)
    performed_by = models.CharField(max_length=320, blank=True)
    status = models.CharField(max_length=60, blank=True)
    user_email = models.CharField(max_length=320, blank=True)
    user_action = models.CharField(max_length=300, blank=True)
    group_name = models.CharField(max_length=300, blank=True)
    kind = models.CharField(max_length=30, blank=True)
    outcome = models.CharField(max_length=10, blank=True)
    # SHA-256 of the line's cells and how often the file has repeated them before: the same line is taken over once.
    digest = models.BinaryField(max_length=32)
    erased_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "digest"], name="imported_event_once")]
        indexes = [
            models.Index(fields=["organization", "-at", "-id"], name="imported_event_latest"),
            GinIndex(
                OpClass("performed_by", name="gin_trgm_ops"),
                OpClass("user_email", name="gin_trgm_ops"),
                name="imported_event_people",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_action or self.operation} {self.at:%Y-%m-%d}"


class RetentionPolicy(OrganizationOwned):
    """After how many days records of one kind are removed by themselves. No row: they are kept."""

    kind = models.CharField(max_length=30)
    days = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(3650)])
    set_by = models.CharField(max_length=254)
    set_at = models.DateTimeField()
    last_run_at = models.DateTimeField(null=True, blank=True)
    last_removed = models.BigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "retention policies"
        constraints = [
            models.UniqueConstraint(fields=["organization", "kind"], name="retention_kind_once"),
            models.CheckConstraint(condition=models.Q(days__gte=1), name="retention_days_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.days} days"


class LogClearance(OrganizationOwned):
    """Somebody cleared the log: from then on nothing older is shown; it is archived, then removed from the database.

    Events up to `through_event_id`, and runs begun before `requested_at`, have left every view and export the moment
    the row exists; what the worker still does after that can be killed and repeated.
    """

    class Status(models.TextChoices):
        ARCHIVING = "archiving", "Archiving"
        REMOVING = "removing", "Removing"
        FINISHED = "finished", "Cleared"
        FAILED = "failed", "Hidden, not removed"

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.ARCHIVING)
    requested_by = models.CharField(max_length=254)
    requested_at = models.DateTimeField()
    reason = models.CharField(max_length=500, blank=True)
    through_event_id = models.BigIntegerField()
    events = models.BigIntegerField(default=0)
    removed = models.BigIntegerField(default=0)
    operations = models.PositiveIntegerField(default=0)
    detail = models.TextField(blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    # Of the archive, a CSV packed by gzip.
    sha256 = models.CharField(max_length=64, blank=True)
    size_bytes = models.BigIntegerField(default=0)
    archive_removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["organization", "-through_event_id"], name="log_clearance_through")]

    def __str__(self) -> str:
        return f"cleared {self.requested_at:%Y-%m-%d %H:%M}"


class ArchivePart(OrganizationOwned):
    """A piece of an archive; all pieces by number are the gzip file."""

    clearance = models.ForeignKey(LogClearance, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["clearance", "number"], name="archive_part_once")]

    def __str__(self) -> str:
        return f"part {self.number}"


class Verification(OrganizationOwned):
    """One reading of the whole chain: how far it is, and what it found."""

    class Status(models.TextChoices):
        RUNNING = "running", "In progress"
        FINISHED = "finished", "Finished"
        FAILED = "failed", "Failed"

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RUNNING)
    requested_by = models.CharField(max_length=254)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    segments_done = models.PositiveIntegerField(default=0)
    segments_total = models.PositiveIntegerField(default=0)
    # Written with each sign of life; a run without one for five minutes was killed and may be started anew.
    alive_at = models.DateTimeField()
    ok = models.BooleanField(null=True, blank=True)
    # The figures of the report, and up to 100 findings.
    report = models.JSONField(default=dict)
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization"], condition=models.Q(status="running"), name="verification_one_running"
            )
        ]

    def __str__(self) -> str:
        return f"verification {self.started_at:%Y-%m-%d %H:%M}"

    @property
    def percent(self) -> int:
        """How much is read, 0 to 100."""
        return self.segments_done * 100 // self.segments_total if self.segments_total else 0
