"""The mirror of an Atlassian directory: one wide row per account, its memberships, what its groups grant, and syncs.

The wide row carries every predicate (PERFORMANCE.md 1): small integers for states, a bit mask for products, last
activity overall and per main product, and an array of groups. Detail tables stay the truth; both change in one
transaction.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F
from django.db.models.functions import Lower, Now

from apps.organizations.models import Directory, Organization, OrganizationOwned
from apps.users.expressions import SortInstant


def _owner_without_index(**options: Any) -> Any:
    """The organisation of a big table: its other indexes start with it, so one of its own would only cost writes."""
    return models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False, **options)


def _detail_of(to: type[models.Model], name: str, *, db_index: bool = False) -> Any:
    """What a row of a detail table belongs to, without a constraint in the database.

    Checking each row of these tables takes longer than a whole first load; they are written by the merge alone, from
    keys that it has just read (docs/decisions/0006-sync.md).
    """
    return models.ForeignKey(to, on_delete=models.CASCADE, related_name=name, db_index=db_index, db_constraint=False)


class Product(models.TextChoices):
    """The paid products with columns of their own; any other key of Atlassian's is kept as it comes."""

    JIRA = "jira", "Jira Software"
    CONFLUENCE = "confluence", "Confluence"
    JSM = "jsm", "Jira Service Management"
    BITBUCKET = "bitbucket", "Bitbucket"


# Bits of Account.products; OTHER stands for any product without a column of its own.
PRODUCT_BITS = {Product.JIRA: 1, Product.CONFLUENCE: 2, Product.JSM: 4, Product.BITBUCKET: 8}
OTHER_PRODUCT_BIT = 16


class AccountStatus(models.IntegerChoices):
    UNKNOWN = 0, "Not known"
    ACTIVE = 1, "Active"
    INACTIVE = 2, "Deactivated"
    CLOSED = 3, "Deleted"


class MembershipStatus(models.IntegerChoices):
    UNKNOWN = 0, "Not known"
    ACTIVE = 1, "Active"
    SUSPENDED = 2, "Suspended"
    NO_MEMBERSHIP = 3, "No membership"


class ClaimStatus(models.IntegerChoices):
    UNKNOWN = 0, "Not known"
    MANAGED = 1, "Managed"
    UNMANAGED = 2, "External"


class ManagementSource(models.IntegerChoices):
    UNKNOWN = 0, "Not known"
    INVITED = 1, "Invited"
    SYNCED = 2, "Identity provider"


class AccountKind(models.IntegerChoices):
    PERSON = 1, "Person"
    SERVICE = 2, "Service"
    APP = 3, "App"
    BOT = 4, "Bot"


class Activity(models.IntegerChoices):
    """Last activity has these states and no others (P1). NOT_APPLICABLE: the product is not held."""

    NOT_APPLICABLE = 0, "Not applicable"
    UNKNOWN = 1, "Not known"
    NEVER = 2, "Never"
    KNOWN = 3, "Known"


class Account(OrganizationOwned):
    """A person (or service, app, bot) in the organisation, as Atlassian last gave it."""

    organization = _owner_without_index()
    account_id = models.CharField(max_length=128)
    name = models.CharField(max_length=500)
    # `text.fold` of the name, or of the account id where there is no name: the NOT NULL key that lists page by and that
    # search reads. Compared byte by byte, so that prefixes use the index and an update of ICU or glibc cannot spoil it.
    sort_name = models.CharField(max_length=500, db_collation="C")
    email = models.CharField(max_length=320, null=True, blank=True)  # noqa: DJ001 - null says that Atlassian hides it
    account_status = models.SmallIntegerField(choices=AccountStatus.choices)
    membership_status = models.SmallIntegerField(choices=MembershipStatus.choices)
    claim_status = models.SmallIntegerField(choices=ClaimStatus.choices)
    management_source = models.SmallIntegerField(choices=ManagementSource.choices, default=ManagementSource.UNKNOWN)
    is_for_deletion = models.BooleanField(default=False)
    kind = models.SmallIntegerField(choices=AccountKind.choices, default=AccountKind.PERSON)
    is_kind_released = models.BooleanField(default=False)
    added_to_org_at = models.DateTimeField(null=True, blank=True)

    products = models.IntegerField(default=0)
    # Newest known activity over all held products; `has_unknown_activity` when any held product's activity is unknown.
    last_active_at = models.DateTimeField(null=True, blank=True)
    has_unknown_activity = models.BooleanField(default=False)
    # False when the last read gave no list of product activity: then nothing absent from it may count as never.
    is_activity_read = models.BooleanField(default=False)
    jira_activity = models.SmallIntegerField(choices=Activity.choices, default=Activity.NOT_APPLICABLE)
    jira_last_active_at = models.DateTimeField(null=True, blank=True)
    jira_granted_seen_at = models.DateTimeField(null=True, blank=True)
    confluence_activity = models.SmallIntegerField(choices=Activity.choices, default=Activity.NOT_APPLICABLE)
    confluence_last_active_at = models.DateTimeField(null=True, blank=True)
    confluence_granted_seen_at = models.DateTimeField(null=True, blank=True)
    jsm_activity = models.SmallIntegerField(choices=Activity.choices, default=Activity.NOT_APPLICABLE)
    jsm_last_active_at = models.DateTimeField(null=True, blank=True)
    jsm_granted_seen_at = models.DateTimeField(null=True, blank=True)
    bitbucket_activity = models.SmallIntegerField(choices=Activity.choices, default=Activity.NOT_APPLICABLE)
    bitbucket_last_active_at = models.DateTimeField(null=True, blank=True)
    bitbucket_granted_seen_at = models.DateTimeField(null=True, blank=True)

    group_ids = ArrayField(models.BigIntegerField(), default=list)
    is_org_admin = models.BooleanField(default=False)
    is_site_admin = models.BooleanField(default=False)
    # The owner of the API key or of the personal token: never a target (P2).
    is_connection_owner = models.BooleanField(default=False)

    status_changed_at = models.DateTimeField(null=True, blank=True)
    # Latest restore, activate, re-invite or re-grant: the idle clock starts anew there (DESIGN.md §12).
    idle_floor_at = models.DateTimeField(null=True, blank=True)
    # Latest end of any exemption or snooze of this account, past or future; 'infinity' is stored as year 9999.
    exempt_until = models.DateTimeField(null=True, blank=True)
    # While set and in the future, a sync does not overwrite statuses and groups: a write is not yet read back.
    pending_until = models.DateTimeField(null=True, blank=True)
    vanished_at = models.DateTimeField(null=True, blank=True)
    # The sync that no longer found the account, or that lost its activity dates: what data trust counts (P11).
    vanished_in_run = models.BigIntegerField(null=True, blank=True)
    activity_lost_in_run = models.BigIntegerField(null=True, blank=True)
    first_seen_at = models.DateTimeField(db_default=Now())
    # When a sync last wrote this row; a sync that finds nothing new does not touch it.
    synced_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "account_id"], name="account_id_once")]
        indexes = [
            models.Index(fields=["organization", "sort_name", "id"], name="account_sort"),
            models.Index(
                fields=["organization", "account_status", "membership_status", "claim_status", "sort_name", "id"],
                name="account_status_sort",
            ),
            models.Index(F("organization"), SortInstant("last_active_at"), F("id"), name="account_last_active"),
            models.Index(F("organization"), SortInstant("added_to_org_at"), F("id"), name="account_added"),
            *(
                models.Index(
                    F("organization"),
                    SortInstant(f"{product}_last_active_at"),
                    F("id"),
                    name=f"account_{product}_active",
                )
                for product in Product.values
            ),
            models.Index(
                F("organization"), OpClass(Lower("email"), name="text_pattern_ops"), name="account_email_prefix"
            ),
            models.Index(
                fields=["organization", "pending_until"],
                condition=models.Q(pending_until__isnull=False),
                name="account_pending",
            ),
            # Rare ones, which a list would otherwise look for among everybody.
            models.Index(
                fields=["organization", "sort_name", "id"], condition=~models.Q(kind=1), name="account_no_person"
            ),
            models.Index(
                fields=["organization", "sort_name", "id"],
                condition=models.Q(has_unknown_activity=True),
                name="account_unknown_activity",
            ),
            GinIndex(fields=["group_ids"], name="account_groups"),
            GinIndex(fields=["sort_name", "email"], opclasses=["gin_trgm_ops", "gin_trgm_ops"], name="account_text"),
        ]

    def __str__(self) -> str:
        return self.name or self.account_id


class DirectoryMembership(OrganizationOwned):
    """An account's state in one directory; the account's own status is derived from all of them."""

    organization = _owner_without_index(db_constraint=False)
    account = _detail_of(Account, "directory_memberships")
    directory = _detail_of(Directory, "memberships", db_index=True)
    status = models.SmallIntegerField(choices=MembershipStatus.choices)
    management_source = models.SmallIntegerField(choices=ManagementSource.choices, default=ManagementSource.UNKNOWN)
    added_at = models.DateTimeField(null=True, blank=True)
    # Digest of what Atlassian last gave for this pair: an equal one is not merged again. Null after our own change.
    digest = models.UUIDField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "directory"], name="directory_membership_once")]

    def __str__(self) -> str:
        return f"{self.account_id} in {self.directory_id}"


class Group(OrganizationOwned):
    """A group of one directory and what it grants. `grants`: [{"product", "resource", "site", "role"}]."""

    directory = models.ForeignKey(Directory, on_delete=models.CASCADE, related_name="groups")
    group_id = models.CharField(max_length=128)
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    is_synced = models.BooleanField(default=False)
    managed_by = models.CharField(max_length=40, blank=True)
    grants = models.JSONField(default=list)
    # False until the role assignments were read: what an unread group grants is unknown, not nothing.
    are_grants_known = models.BooleanField(default=False)
    granted_products = models.IntegerField(default=0)
    # Grants organisation, site, product or user-access administration (P15).
    is_administrative = models.BooleanField(default=False)
    # An Admin's word that leaving the group takes nothing but the licence.
    is_licence_only = models.BooleanField(default=False)
    member_count = models.IntegerField(default=0)
    vanished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["directory", "group_id"], name="group_id_once")]
        indexes = [models.Index(fields=["organization", "name"], name="group_name")]

    def __str__(self) -> str:
        return self.name


class GroupMembership(OrganizationOwned):
    organization = _owner_without_index(db_constraint=False)
    account = _detail_of(Account, "group_memberships")
    group = _detail_of(Group, "memberships", db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "group"], name="group_membership_once")]

    def __str__(self) -> str:
        return f"{self.account_id} in {self.group_id}"


class ProductAccess(OrganizationOwned):
    """A product that an account holds on one site, its last activity there, and through which groups."""

    class Direct(models.IntegerChoices):
        UNKNOWN = 0, "Not read"
        NO = 1, "No"
        YES = 2, "Yes"

    organization = _owner_without_index(db_constraint=False)
    account = _detail_of(Account, "product_access")
    product = models.CharField(max_length=60)
    resource = models.CharField("resource ARI", max_length=300)
    site = models.CharField("site address or name", max_length=300, blank=True)
    activity = models.SmallIntegerField(choices=Activity.choices)
    last_active_at = models.DateTimeField(null=True, blank=True)
    source = models.CharField(max_length=20, default="api")
    source_at = models.DateTimeField(null=True, blank=True)
    # Null for access that was there at the first sync: its beginning is not known and must not reset the idle clock.
    granted_seen_at = models.DateTimeField(null=True, blank=True)
    group_ids = ArrayField(models.BigIntegerField(), default=list)
    direct = models.SmallIntegerField(choices=Direct.choices, default=Direct.UNKNOWN)

    class Meta:
        verbose_name_plural = "product access"
        constraints = [models.UniqueConstraint(fields=["account", "product", "resource"], name="product_access_once")]
        indexes = [
            models.Index(fields=["organization", "product"], name="product_access_product"),
            models.Index(fields=["account"], condition=models.Q(direct=0, group_ids=[]), name="product_access_unseen"),
        ]

    def __str__(self) -> str:
        return f"{self.product} of {self.account_id}"


class ProtectedGroup(OrganizationOwned):
    """Members of these groups are never in a plan that takes access (P2)."""

    group = models.OneToOneField(Group, on_delete=models.PROTECT, related_name="protection")
    added_at = models.DateTimeField()
    added_by = models.CharField(max_length=254)

    def __str__(self) -> str:
        return str(self.group)


class Exemption(OrganizationOwned):
    """Whom no cleanup touches from a start until a date, or for good: a person, a group, a domain, or a kind.

    A snooze is the short form for one person. `exempting` asks who is covered.
    """

    class Kind(models.TextChoices):
        EXEMPTION = "exemption", "Exemption"
        SNOOZE = "snooze", "Snooze"

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="exemptions", null=True, blank=True)
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="exemptions", null=True, blank=True)
    # Of e-mail addresses that Atlassian gives, in lower case, without the @.
    domain = models.CharField(max_length=253, blank=True, db_default="")
    account_kind = models.SmallIntegerField(choices=AccountKind.choices, null=True, blank=True)
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.EXEMPTION)
    reason = models.CharField(max_length=500)
    starts_at = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)
    set_by = models.CharField(max_length=254)
    ended_at = models.DateTimeField(null=True, blank=True)
    # When somebody was told that it ends soon; a new end asks again.
    reminded_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(reason=""), name="exemption_has_reason"),
            models.CheckConstraint(
                condition=models.Q(account__isnull=False, group__isnull=True, domain="", account_kind__isnull=True)
                | models.Q(account__isnull=True, group__isnull=False, domain="", account_kind__isnull=True)
                | models.Q(account__isnull=True, group__isnull=True, account_kind__isnull=True) & ~models.Q(domain="")
                | models.Q(account__isnull=True, group__isnull=True, domain="", account_kind__isnull=False),
                name="exemption_of_one_thing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.subject}"

    @property
    def subject(self) -> str:
        """Whom it is about, in words."""
        if self.account is not None:
            return str(self.account)
        if self.group is not None:
            return f"the members of {self.group}"
        return (
            f"everybody at {self.domain}" if self.domain else f"accounts of the kind {self.get_account_kind_display()}"
        )


class SyncRun(OrganizationOwned):
    """One reading of the whole directory; also the state from which a killed one goes on."""

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "In progress"
        SUCCEEDED = "succeeded", "Success"
        PARTIAL = "partial", "Partial"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    OPEN = (Status.QUEUED, Status.RUNNING)
    # Who began the invented syncs of a demo's past, which are written down after its first real one.
    DEMO_PAST = "Scheduler (demo)"

    class Source(models.TextChoices):
        API = "api", "Atlassian"
        FILE = "file", "An uploaded export"

    status = models.CharField(max_length=20, choices=Status.choices, default=Status.QUEUED)
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.API, db_default=Source.API)
    # Of a file's run, while the file is kept; its name stays in `found`.
    import_file = models.ForeignKey("ImportFile", on_delete=models.SET_NULL, related_name="+", null=True, blank=True)
    initiator = models.CharField(max_length=20, default="manual")
    started_by = models.CharField(max_length=254, blank=True)
    phase = models.CharField(max_length=40, default="queued")
    # Where each directory's paging stands, which groups were read: enough to go on after a kill.
    cursor = models.JSONField(default=dict)
    # What the phases before the people found: directories, resources, groups; for whoever resumes. The products on
    # their sites stay: {"resources": [[product, last part of the ARI, ARI, site]]}. Of a file: its name, the day of the
    # export, the claimed domains.
    found = models.JSONField(default=dict)
    people_seen = models.IntegerField(default=0)
    people_total = models.IntegerField(null=True, blank=True)
    groups_seen = models.IntegerField(default=0)
    people_added = models.IntegerField(default=0)
    people_changed = models.IntegerField(default=0)
    people_vanished = models.IntegerField(default=0)
    # Figures that data trust is judged by, of this run: {"people", "with_activity", "unknown_activity", …}.
    trust = models.JSONField(default=dict)
    is_trusted = models.BooleanField(null=True, blank=True)
    distrust_reasons = models.JSONField(default=list)
    baseline_accepted_by = models.CharField(max_length=254, blank=True)
    baseline_accepted_at = models.DateTimeField(null=True, blank=True)
    baseline_reason = models.CharField(max_length=500, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error_detail = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    # Null between two slices of work; a sweep enqueues a run whose lease or wait is over.
    lease_token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)

    # Set on what `request_sync` returns: the run was there before.
    was_open: bool = False

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization"],
                condition=models.Q(status__in=["queued", "running"]),
                name="sync_one_open",
            )
        ]

    def __str__(self) -> str:
        return f"sync {self.pk} of {self.organization}"


class SyncedPerson(models.Model):
    """Staging of a running sync: one row per person and directory, as read, until the merge. Unlogged.

    Groups are our own keys, since groups are read first. A crash of PostgreSQL empties an unlogged table, so a sync
    that resumes compares the rows with what its cursor says and starts the people again when they differ.
    """

    sync_run = models.ForeignKey(
        SyncRun, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    # Key of the directory; 0 for managed accounts outside every directory.
    directory = models.BigIntegerField()
    page = models.IntegerField()
    account_id = models.CharField(max_length=128)
    name = models.CharField(max_length=500)
    sort_name = models.CharField(max_length=500)
    email = models.CharField(max_length=320, null=True)  # noqa: DJ001 - null says that Atlassian hides it
    account_status = models.SmallIntegerField()
    membership_status = models.SmallIntegerField()
    claim_status = models.SmallIntegerField()
    management_source = models.SmallIntegerField()
    is_for_deletion = models.BooleanField()
    kind = models.SmallIntegerField()
    added_to_org_at = models.DateTimeField(null=True)
    # null: the roles were not given.
    is_org_admin = models.BooleanField(null=True)
    is_site_admin = models.BooleanField(null=True)
    # Three arrays of one length. null: not given by Atlassian (unknown); empty: given and empty (never).
    products = ArrayField(models.CharField(max_length=60), null=True)
    resources = ArrayField(models.CharField(max_length=300), null=True)
    last_active = ArrayField(models.DateTimeField(null=True), null=True)
    groups = ArrayField(models.BigIntegerField(), null=True)
    digest = models.UUIDField()

    class Meta:
        indexes = [models.Index(fields=["sync_run", "account_id"], name="synced_person_run")]

    def __str__(self) -> str:
        return self.account_id


class ImportFile(OrganizationOwned):
    """An uploaded CSV file about people, and how far it has come: read, mapped, checked.

    `mapping`: account_id, email, name, status → index of the column. `counts`: what the check found. A file is worked
    on by its rows; `content` is kept only until they are stored.
    """

    class Status(models.TextChoices):
        READING = "reading", "Being read"
        READ = "read", "To be checked"
        CHECKED = "checked", "Checked"
        FAILED = "failed", "Cannot be read"

    name = models.CharField(max_length=200)
    size_bytes = models.IntegerField()
    content = models.BinaryField(null=True)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.READING)
    error = models.CharField(max_length=500, blank=True)
    layout = models.CharField(max_length=40, blank=True)
    headers = models.JSONField(default=list)
    mapping = models.JSONField(default=dict)
    lines = models.IntegerField(default=0)
    rows_total = models.IntegerField(null=True, blank=True)
    rows_stored = models.IntegerField(default=0)
    counts = models.JSONField(default=dict)
    uploaded_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(db_default=Now())
    checked_at = models.DateTimeField(null=True, blank=True)
    # When the file's dates filled what the API does not give, and who chose that.
    activity_used_at = models.DateTimeField(null=True, blank=True)
    activity_used_by = models.CharField(max_length=254, blank=True, db_default="")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class ImportRow(OrganizationOwned):
    """One person of an import. `code` is empty for a line that can be acted on; `line` is the number in the file."""

    class Code(models.TextChoices):
        RAGGED = "ragged", "More cells than headings: a comma in a cell needs quotation marks"
        EMPTY = "empty", "Neither account id nor e-mail"
        MALFORMED = "malformed", "Not an e-mail address"
        UNKNOWN = "unknown", "No such user in the directory"
        AMBIGUOUS = "ambiguous", "More than one user has this e-mail; give the account id"
        DUPLICATE = "duplicate", "The same user as an earlier line"

    # Bits of `disagrees`: what the file says otherwise than the directory.
    STATUS, NAME, EMAIL, LAST_LOGIN, ACCESS = 1, 2, 4, 8, 16

    organization = _owner_without_index(db_constraint=False)
    import_file = models.ForeignKey(ImportFile, on_delete=models.CASCADE, related_name="rows", db_index=False)
    line = models.IntegerField()
    cells = models.JSONField()
    last_seen = models.JSONField(default=dict)
    is_ragged = models.BooleanField(default=False)
    # Why the groups or products that the line names cannot be given; empty where they can, or where it names none.
    fault = models.TextField(blank=True, db_default="")
    # Cells that could not be read and are passed over, in a sentence.
    notes = models.TextField(blank=True, db_default="")
    # Product → its sites, as the file says who may use what.
    holds = models.JSONField(default=dict, db_default=models.Value({}, models.JSONField()))
    # [[product, site, ISO date or "never"]]: what `last_seen` sums up by product.
    sightings = models.JSONField(default=list, db_default=models.Value([], models.JSONField()))
    # The file says of every product that it speaks of: never.
    is_never = models.BooleanField(default=False, db_default=False)
    account_id_text = models.TextField(blank=True)
    email = models.TextField(blank=True)
    code = models.CharField(max_length=20, choices=Code.choices, blank=True)
    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, related_name="+", null=True, blank=True, db_constraint=False
    )
    disagrees = models.SmallIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["import_file", "line"], name="import_line_once")]
        indexes = [models.Index(fields=["import_file", "code", "line"], name="import_row_code")]

    def __str__(self) -> str:
        return f"line {self.line} of {self.import_file_id}"


class SavedView(OrganizationOwned):
    """A list of people kept under a name: the explorer's filters and order. Private to its owner, or shared.

    `params`: parameter → values, as `AccountFilters.parse` reads them. A cleanup rule may be bound to a shared view
    (`apps.users.registries.view_users`), so nothing that is in use is deleted or made private.
    """

    name = models.CharField(max_length=80)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    owner_text = models.CharField(max_length=254)
    is_shared = models.BooleanField(default=False)
    params = models.JSONField(default=dict)
    ordering = models.CharField(max_length=40, default="name")
    created_at = models.DateTimeField(db_default=Now())
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                F("organization"), Lower("name"), condition=models.Q(is_shared=True), name="shared_view_name_once"
            ),
            models.UniqueConstraint(
                F("organization"),
                F("owner"),
                Lower("name"),
                condition=models.Q(is_shared=False),
                name="private_view_name_once",
            ),
            models.CheckConstraint(condition=~models.Q(name=""), name="saved_view_has_name"),
        ]

    def __str__(self) -> str:
        return self.name


class ColumnChoice(OrganizationOwned):
    """Which columns of the users list one operator wants to see in one organisation, in the list's own order."""

    operator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    columns = ArrayField(models.CharField(max_length=40))

    class Meta:
        constraints = [models.UniqueConstraint(fields=["operator", "organization"], name="column_choice_once")]

    def __str__(self) -> str:
        return ", ".join(self.columns)


class ExportJob(OrganizationOwned):
    """An export too long for one request: a worker writes the file, which can be fetched until it expires.

    `query` is the filter as the explorer's query string; `account_pks`, where given, are the people chosen by hand.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "In progress"
        SUCCEEDED = "succeeded", "Success"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        EXPIRED = "expired", "Expired"

    class Format(models.TextChoices):
        CSV = "csv", "CSV"
        XLSX = "xlsx", "Excel workbook"

    OPEN = (Status.QUEUED, Status.RUNNING)

    operator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    requested_by = models.CharField(max_length=254)
    format = models.CharField(max_length=10, choices=Format.choices, default=Format.CSV)
    query = models.TextField(blank=True)
    account_pks = ArrayField(models.BigIntegerField(), null=True, blank=True)
    ordering = models.CharField(max_length=40, default="name")
    columns = ArrayField(models.CharField(max_length=40))
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.QUEUED)
    rows_total = models.IntegerField(default=0)
    rows_done = models.IntegerField(default=0)
    # Name below the organisation's folder of AUM_DATA_DIR/exports; empty once the file is gone.
    file_name = models.CharField(max_length=120, blank=True)
    size_bytes = models.BigIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    # The worker's sign of life: a job that gave none for a while is written again from its beginning.
    alive_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["status"], condition=models.Q(status__in=["queued", "running"]), name="export_job_open"
            ),
            models.Index(fields=["expires_at"], condition=models.Q(status="succeeded"), name="export_job_expires"),
        ]

    def __str__(self) -> str:
        return f"export {self.pk}"
