"""An Atlassian organisation as AUM connects to it: sites, directories, credentials, limits, alerts.

Every table that belongs to an organisation derives from `OrganizationOwned`; its manager's `of()` is the one way that
views, REST and commands reach rows (P14).
"""

from __future__ import annotations

import zoneinfo
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.urls import reverse


class ScopedQuerySet(models.QuerySet[Any]):
    """Queries that begin with the organisation they may see."""

    def of(self, organization: Organization) -> Self:
        """Rows of `organization` only."""
        return self.filter(organization=organization)


ScopedManager = models.Manager.from_queryset(ScopedQuerySet)


class OrganizationOwned(models.Model):
    """A row that belongs to one organisation and is invisible from every other (P14)."""

    organization = models.ForeignKey("organizations.Organization", on_delete=models.CASCADE, related_name="+")

    objects = ScopedManager()

    class Meta:
        abstract = True


def validate_timezone(value: str) -> None:
    """Raises ValidationError unless `value` is a name of the IANA database."""
    if value not in zoneinfo.available_timezones():
        raise ValidationError("Choose a timezone of the IANA list, such as Europe/Vienna or UTC.")


class Organization(models.Model):
    """One Atlassian organisation, its settings and its brakes."""

    slug = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=200)
    org_id = models.CharField("Atlassian organisation id", max_length=128, unique=True)
    # Frozen once credentials are saved: a saved key is never sent to another address.
    api_url = models.CharField(max_length=300)
    timezone = models.CharField(max_length=64, default="UTC", validators=[validate_timezone])
    currency = models.CharField(max_length=3, default="USD", validators=[RegexValidator(r"^[A-Z]{3}$")])
    is_demo = models.BooleanField(default=False)
    # Filled from an uploaded export, without credentials: to look at, never to act. Connecting it makes it a usual one.
    is_from_file = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    kill_switch_at = models.DateTimeField(null=True, blank=True)
    kill_switch_by = models.CharField(max_length=254, blank=True)
    kill_switch_reason = models.TextField(blank=True)
    # Chosen at set-up and always shown: approvals need the typed count and the password instead of a second person.
    is_one_operator = models.BooleanField(default=False)
    # Pages open only to operators who sign in with a second factor (TOTP or a passkey).
    is_second_factor_required = models.BooleanField(default=False, db_default=False)

    max_count = models.PositiveIntegerField(default=500, validators=[MinValueValidator(1)])
    max_share_percent = models.DecimalField(
        max_digits=5, decimal_places=2, default=10, validators=[MinValueValidator(0), MaxValueValidator(100)]
    )
    # Share of any one group (of some size) that a run may take access from.
    max_group_share_percent = models.PositiveSmallIntegerField(
        default=50, db_default=50, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    max_per_day = models.PositiveIntegerField(default=1000, validators=[MinValueValidator(1)])
    activity_margin_hours = models.PositiveSmallIntegerField(default=48, validators=[MaxValueValidator(720)])
    snooze_days = models.PositiveSmallIntegerField(default=30, validators=[MaxValueValidator(365)])
    calls_in_flight = models.PositiveSmallIntegerField(
        default=4, validators=[MinValueValidator(1), MaxValueValidator(64)]
    )
    held_plan_days = models.PositiveSmallIntegerField(
        default=5, validators=[MinValueValidator(1), MaxValueValidator(30)]
    )
    preview_hours = models.PositiveSmallIntegerField(
        default=24, validators=[MinValueValidator(1), MaxValueValidator(720)]
    )
    max_data_age_hours = models.PositiveSmallIntegerField(
        default=36, validators=[MinValueValidator(1), MaxValueValidator(720)]
    )
    max_people_lost_percent = models.PositiveSmallIntegerField(default=10, validators=[MaxValueValidator(100)])
    max_activity_lost_percent = models.PositiveSmallIntegerField(default=10, validators=[MaxValueValidator(100)])
    max_failure_percent = models.PositiveSmallIntegerField(
        default=25, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    # How late a rule may still run; what was due before is reported as missed.
    catch_up_hours = models.PositiveSmallIntegerField(default=6, db_default=6, validators=[MaxValueValidator(72)])
    # A rule pauses itself when more of those it took access from were given it back within 30 days.
    max_regret_percent = models.PositiveSmallIntegerField(
        default=10, db_default=10, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    # Whether rules may delete accounts at all; each such run needs an approval besides.
    allow_delete_rules = models.BooleanField(default=False, db_default=False)
    sync_hour_utc = models.PositiveSmallIntegerField(default=2, validators=[MaxValueValidator(23)])

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("dashboard:dashboard", args=[self.slug])

    @property
    def is_killed(self) -> bool:
        """True while the kill switch is on: nothing is written to Atlassian."""
        return self.kill_switch_at is not None


class Site(OrganizationOwned):
    """An Atlassian site. `resource_id` is its ARI or cloud id as the Organizations API names it."""

    cloud_id = models.CharField(max_length=128, blank=True)
    url = models.CharField(max_length=300)
    name = models.CharField(max_length=200)
    # The site that the personal token is used on: projects, request types and tickets are read here.
    is_primary = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "url"], name="site_url_once"),
            models.UniqueConstraint(
                fields=["organization"], condition=models.Q(is_primary=True), name="site_one_primary"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Directory(OrganizationOwned):
    """A user directory of the organisation; writes name it, because `-` stands for all of them."""

    # The id of the directory that stands for an export file; Atlassian's ids look otherwise.
    OF_FILE = "file"

    directory_id = models.CharField(max_length=128)
    name = models.CharField(max_length=255)
    seen_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "directories"
        constraints = [models.UniqueConstraint(fields=["organization", "directory_id"], name="directory_id_once")]

    def __str__(self) -> str:
        return self.name


class Credential(OrganizationOwned):
    """A secret, encrypted, or a reference (`file:…`, `env:…`) that is read at use and never stored (P12)."""

    class Kind(models.TextChoices):
        API_KEY = "api_key", "Organisation API key"
        API_TOKEN = "api_token", "Personal API token"

    kind = models.CharField(max_length=20, choices=Kind.choices)
    encrypted_value = models.BinaryField(null=True, blank=True)
    reference = models.CharField(max_length=300, blank=True)
    owner_email = models.EmailField(blank=True)
    owner_account_id = models.CharField(max_length=128, blank=True)
    expires_on = models.DateField(null=True, blank=True)
    set_at = models.DateTimeField()
    set_by = models.CharField(max_length=254)
    is_valid = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "kind"], name="credential_kind_once"),
            models.CheckConstraint(
                condition=models.Q(encrypted_value__isnull=False) ^ ~models.Q(reference=""),
                name="credential_value_or_reference",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.organization}"


class CapabilityCheck(OrganizationOwned):
    """The last outcome of one credential check, such as `list_people`."""

    capability = models.CharField(max_length=40)
    position = models.PositiveSmallIntegerField(default=0)
    ok = models.BooleanField()
    code = models.CharField(max_length=60, blank=True)
    detail = models.TextField(blank=True)
    value = models.CharField("which value failed", max_length=20, blank=True)
    checked_at = models.DateTimeField()

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["organization", "capability"], name="capability_once")]

    def __str__(self) -> str:
        return f"{self.capability}: {'ok' if self.ok else self.code}"


class RatePause(OrganizationOwned):
    """Until when Atlassian said to wait, beside the limiter's own copy: read at each chunk claim (P13)."""

    family = models.CharField(max_length=60)
    until = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "family"], name="rate_pause_family_once")]

    def __str__(self) -> str:
        return f"{self.family} until {self.until:%H:%M:%S}"


class Installation(models.Model):
    """One row that ties this database to the instance id kept outside it, so that a copy never acts."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    instance_id = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="installation_single_row")]

    def __str__(self) -> str:
        return self.instance_id


class Alert(OrganizationOwned):
    """Something a person must see. Lower layers write it; channels deliver it."""

    class Severity(models.TextChoices):
        INFO = "info", "Information"
        WARNING = "warning", "Warning"
        ERROR = "error", "Error"

    kind = models.CharField(max_length=60)
    severity = models.CharField(max_length=10, choices=Severity.choices)
    title = models.CharField(max_length=200)
    detail = models.TextField(blank=True)
    link = models.CharField(max_length=300, blank=True)
    # The same trouble raises one open alert; a repeat counts up.
    dedup_key = models.CharField(max_length=200)
    repeats = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()
    last_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=254, blank=True)

    class Meta:
        ordering = ["-last_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "dedup_key"],
                condition=models.Q(resolved_at__isnull=True),
                name="alert_open_once",
            )
        ]

    def __str__(self) -> str:
        return self.title
