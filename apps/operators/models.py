"""People who sign in here, what they may do in which organisation, and the tokens of their scripts."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from apps.organizations.models import Organization, OrganizationOwned


class OperatorManager(BaseUserManager["Operator"]):
    """Creates operators by e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> Operator:
        operator = self.model(email=self.normalize_email(email).lower(), **fields)
        operator.set_password(password)
        operator.save(using=self._db)
        return operator

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> Operator:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> Operator:
        return self.get(email__iexact=username)


class Operator(AbstractBaseUser, PermissionsMixin):
    """A person who signs in to AUM. `is_staff` opens the Django admin and gives no right in any organisation."""

    class Theme(models.TextChoices):
        SYSTEM = "", "As the system"
        LIGHT = "light", "Light"
        DARK = "dark", "Dark"

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=150, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    theme = models.CharField(max_length=10, choices=Theme.choices, default=Theme.SYSTEM, blank=True)
    shortcuts_off = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    disabled_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[OperatorManager] = OperatorManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="operator_email_once")]

    def __str__(self) -> str:
        return self.name or self.email


class Role(models.TextChoices):
    """Roles are sets of permissions (`apps.operators.permissions`), not a ladder; one operator may hold several."""

    VIEWER = "viewer", "Viewer"
    HELPDESK = "helpdesk", "Helpdesk"
    APPROVER = "approver", "Approver"
    ADMIN = "admin", "Admin"
    OWNER = "owner", "Owner"


class Grant(OrganizationOwned):
    """One role of one operator in one organisation. `granted_at` starts the 24 hours before which nobody approves."""

    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="grants")
    role = models.CharField(max_length=20, choices=Role.choices)
    granted_at = models.DateTimeField()
    granted_by = models.CharField(max_length=254)
    # The first owner of an installation is not new to it: the delay would only stop its set-up.
    is_founding = models.BooleanField(default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["operator", "organization", "role"], name="grant_once")]

    def __str__(self) -> str:
        return f"{self.operator}: {self.get_role_display()}"


class ApiToken(OrganizationOwned):
    """A script's token: shown once, stored as a SHA-256 hash (the token has 256 bits of its own), scoped, expiring."""

    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12)
    token_hash = models.CharField(max_length=64, unique=True)
    scopes = ArrayField(models.CharField(max_length=20))
    # Networks in CIDR form that the token may be used from; empty: any.
    networks = ArrayField(models.CharField(max_length=43), default=list, blank=True, db_default=[])
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class Invitation(OrganizationOwned):
    """A one-time link with which a person chooses a password and gets roles; only the hash of its secret is kept."""

    email = models.EmailField()
    name = models.CharField(max_length=150, blank=True)
    roles = ArrayField(models.CharField(max_length=20))
    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=254)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                "organization",
                Lower("email"),
                condition=models.Q(accepted_at__isnull=True, revoked_at__isnull=True),
                name="invitation_open_once",
            )
        ]

    def __str__(self) -> str:
        return f"invitation of {self.email}"


class IdentityProvider(models.Model):
    """The single sign-on of this installation, by OpenID Connect or by SAML; at most one row.

    `is_password_off`: passwords open nothing but for `break_glass`, whose every use alerts all organisations.
    """

    class Protocol(models.TextChoices):
        OIDC = "oidc", "OpenID Connect"
        SAML = "saml", "SAML 2.0"

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    name = models.CharField(max_length=60)
    protocol = models.CharField(max_length=10, choices=Protocol.choices, default="oidc", db_default="oidc")
    # What the provider calls itself: issuer of OpenID Connect, entity id of SAML.
    issuer = models.CharField(max_length=300)
    # OpenID Connect alone.
    client_id = models.CharField(max_length=200, blank=True)
    encrypted_client_secret = models.BinaryField(null=True, blank=True)
    secret_set_at = models.DateTimeField(null=True, blank=True)
    # SAML alone: where its metadata is, and what was read there last ({"sso_url", "certificates"}).
    metadata_url = models.CharField(max_length=500, blank=True, db_default="")
    metadata = models.JSONField(null=True, blank=True)
    metadata_read_at = models.DateTimeField(null=True, blank=True)
    # The claim of OpenID Connect or the attribute of SAML that names groups.
    groups_claim = models.CharField(max_length=300, default="groups")
    is_active = models.BooleanField(default=True)
    is_password_off = models.BooleanField(default=False)
    break_glass = models.ForeignKey(Operator, on_delete=models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(id=1), name="identity_provider_once"),
            models.CheckConstraint(
                condition=models.Q(is_password_off=False) | models.Q(break_glass__isnull=False),
                name="identity_provider_break_glass",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class GroupRole(OrganizationOwned):
    """A group of the identity provider whose members hold a role here; read again at each sign-in."""

    group = models.CharField(max_length=200)
    role = models.CharField(max_length=20, choices=Role.choices)

    class Meta:
        ordering = ["group", "role"]
        constraints = [models.UniqueConstraint(fields=["organization", "group", "role"], name="group_role_once")]

    def __str__(self) -> str:
        return f"{self.group}: {self.get_role_display()}"


class FirstOwnerLink(models.Model):
    """The one-time link that script/server prints while no operator exists; only its hash is kept."""

    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"first owner link of {self.created_at:%Y-%m-%d}"


class IdempotencyKey(OrganizationOwned):
    """The answer to a write that named an `Idempotency-Key`: a repeat gets it again, and changes nothing.

    Stored in the transaction of the write itself, so that there is never an effect without its answer, nor the other
    way round. `request_hash` is keyed, since the body may hold secrets.
    """

    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    request_hash = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    body = models.JSONField(null=True, blank=True)
    location = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "operator", "key"], name="idempotency_key_once")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_key_age")]

    def __str__(self) -> str:
        return self.key


def roles_of(operator: Operator, organization: Organization) -> frozenset[str]:
    """The roles that `operator` holds in `organization`; empty for an operator that was disabled."""
    if not operator.is_active:
        return frozenset()
    return frozenset(Grant.objects.of(organization).filter(operator=operator).values_list("role", flat=True))
