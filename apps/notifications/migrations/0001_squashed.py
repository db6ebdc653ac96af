"""The schema of a new installation in one step; older ones went through the migrations that this replaces."""

import uuid

import django.contrib.postgres.fields
import django.contrib.postgres.functions
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("notifications", "0001_mail")]

    initial = True

    dependencies = [
        ("organizations", "0001_squashed"),
        ("users", "0001_squashed"),
    ]

    operations = [
        migrations.CreateModel(
            name="EmailTemplate",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("name", models.CharField(max_length=120, verbose_name="template name")),
                (
                    "event",
                    models.CharField(
                        choices=[
                            ("suspend", "Suspension"),
                            ("deactivate", "Deactivation"),
                            ("remove_product_access", "Product access removal"),
                            ("other", "Another management event"),
                        ],
                        default="other",
                        max_length=30,
                        verbose_name="about",
                    ),
                ),
                (
                    "days_inactive",
                    models.PositiveIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(3650),
                        ],
                        verbose_name="days since inactivity",
                    ),
                ),
                ("subject", models.CharField(max_length=200, verbose_name="email subject")),
                ("body", models.TextField(verbose_name="email body")),
                (
                    "bcc",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.EmailField(max_length=254), blank=True, default=list, size=None
                    ),
                ),
                ("is_enabled", models.BooleanField(default=True)),
                ("version", models.PositiveIntegerField(default=1)),
                ("edited_by_text", models.CharField(max_length=254)),
                ("edited_at", models.DateTimeField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("deleted_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["name", "id"],
                "constraints": [
                    models.UniqueConstraint(
                        models.F("organization"),
                        django.db.models.functions.text.Lower("name"),
                        condition=models.Q(("deleted_at__isnull", True)),
                        name="email_template_name_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="MailEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("payload", models.JSONField()),
                ("received_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("processed_at", models.DateTimeField(blank=True, null=True)),
                ("result", models.CharField(db_default="", max_length=300)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("processed_at__isnull", True)), fields=["id"], name="mail_event_open"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="MailSettings",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("host", models.CharField(blank=True, max_length=253)),
                (
                    "port",
                    models.PositiveIntegerField(
                        default=587,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(65535),
                        ],
                    ),
                ),
                (
                    "security",
                    models.CharField(
                        choices=[("starttls", "STARTTLS"), ("tls", "TLS from the start"), ("none", "No encryption")],
                        default="starttls",
                        max_length=10,
                    ),
                ),
                ("username", models.CharField(blank=True, max_length=254)),
                ("encrypted_password", models.BinaryField(blank=True, null=True)),
                ("password_set_at", models.DateTimeField(blank=True, null=True)),
                ("password_set_by", models.CharField(blank=True, max_length=254)),
                ("from_name", models.CharField(blank=True, max_length=100)),
                ("from_address", models.EmailField(blank=True, max_length=254)),
                ("reply_to", models.EmailField(blank=True, max_length=254)),
                (
                    "per_minute",
                    models.PositiveIntegerField(
                        default=300,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(60000),
                        ],
                    ),
                ),
                (
                    "keep_days",
                    models.PositiveSmallIntegerField(
                        default=30,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(365),
                        ],
                    ),
                ),
                (
                    "keep_per_year",
                    models.PositiveSmallIntegerField(
                        default=2, validators=[django.core.validators.MaxValueValidator(12)]
                    ),
                ),
                (
                    "link_days",
                    models.PositiveSmallIntegerField(
                        default=60,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(180),
                        ],
                    ),
                ),
                ("bounce_hash", models.CharField(blank=True, max_length=64)),
                ("bounce_set_at", models.DateTimeField(blank=True, null=True)),
                ("bounce_old_hash", models.CharField(blank=True, max_length=64)),
                ("bounce_old_until", models.DateTimeField(blank=True, null=True)),
                ("sender_token", models.UUIDField(blank=True, null=True)),
                ("sender_until", models.DateTimeField(blank=True, null=True)),
                ("paused_until", models.DateTimeField(blank=True, null=True)),
                ("failures", models.PositiveIntegerField(default=0)),
                ("last_ok_at", models.DateTimeField(blank=True, null=True)),
                ("last_error", models.TextField(blank=True)),
                ("last_error_at", models.DateTimeField(blank=True, null=True)),
                ("next_batch_at", models.DateTimeField(blank=True, null=True)),
                ("is_digest_on", models.BooleanField(default=True)),
                ("digest_sent_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "verbose_name_plural": "mail settings",
                "constraints": [models.UniqueConstraint(fields=("organization",), name="mail_settings_once")],
            },
        ),
        migrations.CreateModel(
            name="PersonContact",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "account",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="contact", to="users.account"
                    ),
                ),
                ("manager_email", models.EmailField(blank=True, max_length=254)),
                ("language", models.CharField(blank=True, max_length=16)),
                ("set_at", models.DateTimeField()),
                ("set_by", models.CharField(max_length=254)),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="AlertChannel",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                (
                    "kind",
                    models.CharField(
                        choices=[("slack", "Slack"), ("teams", "Microsoft Teams"), ("webhook", "Signed webhook")],
                        max_length=10,
                    ),
                ),
                ("encrypted_address", models.BinaryField()),
                ("address_hint", models.CharField(max_length=300)),
                ("encrypted_secret", models.BinaryField(blank=True, null=True)),
                ("secret_set_at", models.DateTimeField(blank=True, null=True)),
                (
                    "level",
                    models.CharField(
                        choices=[("info", "Everything"), ("warning", "Warnings and errors"), ("error", "Errors only")],
                        default="warning",
                        max_length=10,
                    ),
                ),
                ("is_enabled", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("edited_by_text", models.CharField(max_length=254)),
                ("edited_at", models.DateTimeField()),
                ("last_alert_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["name", "id"],
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "name"), name="alert_channel_name_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "uuid",
                    models.UUIDField(
                        db_default=django.contrib.postgres.functions.RandomUUID(), default=uuid.uuid4, unique=True
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("notice", "Notice"),
                            ("bcc", "Copy (BCC)"),
                            ("test", "Test mail"),
                            ("code", "Confirmation code"),
                            ("ask", "Question about an undeliverable notice"),
                            ("digest", "Digest for owners"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("queued", "Waiting"),
                            ("claimed", "Being sent"),
                            ("sending", "Handed over, no answer yet"),
                            ("accepted", "Accepted by the mail server"),
                            ("in_doubt", "Answer lost"),
                            ("undeliverable", "Undeliverable"),
                            ("bounced", "Bounced"),
                            ("cancelled", "Not sent"),
                        ],
                        db_default="queued",
                        max_length=15,
                    ),
                ),
                (
                    "template",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="notifications.emailtemplate",
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="users.account",
                    ),
                ),
                (
                    "audience",
                    models.CharField(
                        choices=[("person", "The user"), ("manager", "Their manager")],
                        db_default="person",
                        max_length=10,
                    ),
                ),
                ("spell_at", models.DateTimeField(blank=True, null=True)),
                ("last_active_at", models.DateTimeField(blank=True, null=True)),
                ("rule_id", models.BigIntegerField(blank=True, null=True)),
                ("rule_name", models.CharField(db_default="", max_length=120)),
                ("action", models.CharField(db_default="", max_length=40)),
                (
                    "products",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=60), blank=True, default=list, size=None
                    ),
                ),
                ("days_before", models.PositiveIntegerField(blank=True, null=True)),
                ("due_at", models.DateTimeField(blank=True, null=True)),
                ("announced_at", models.DateTimeField(blank=True, null=True)),
                ("recipient", models.CharField(db_default="", max_length=320)),
                ("subject", models.CharField(db_default="", max_length=400)),
                ("html", models.TextField(db_default="")),
                ("text", models.TextField(db_default="")),
                (
                    "copy_of",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="copies",
                        to="notifications.delivery",
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("attempts", models.PositiveSmallIntegerField(db_default=0)),
                ("refusals", models.PositiveSmallIntegerField(db_default=0)),
                ("next_attempt_at", models.DateTimeField(blank=True, null=True)),
                ("lease_token", models.UUIDField(blank=True, null=True)),
                ("handed_at", models.DateTimeField(blank=True, null=True)),
                ("priority", models.PositiveSmallIntegerField(db_default=5)),
                ("message_id", models.CharField(db_default="", max_length=200)),
                ("accepted_at", models.DateTimeField(blank=True, null=True)),
                ("server_answer", models.TextField(db_default="")),
                (
                    "problem",
                    models.CharField(
                        choices=[
                            ("no_address", "No address is known"),
                            ("no_manager", "No manager is known, and no owner to ask instead"),
                            ("refused", "The mail server refused it"),
                            ("bounced", "It came back"),
                        ],
                        db_default="",
                        max_length=15,
                    ),
                ),
                ("failed_at", models.DateTimeField(blank=True, null=True)),
                ("release_at", models.DateTimeField(blank=True, null=True)),
                ("released_by", models.CharField(db_default="", max_length=254)),
                ("released_reason", models.TextField(db_default="")),
                ("keep_until", models.DateTimeField(blank=True, null=True, verbose_name="link expires")),
            ],
            options={
                "verbose_name_plural": "deliveries",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("status", "queued")),
                        fields=["organization", "priority", "id"],
                        name="delivery_queue",
                    ),
                    models.Index(fields=["organization", "-id"], name="delivery_latest"),
                    models.Index(fields=["organization", "status", "-id"], name="delivery_status"),
                    models.Index(fields=["account", "-id"], name="delivery_account"),
                    models.Index(
                        condition=models.Q(("message_id", ""), _negated=True),
                        fields=["message_id"],
                        name="delivery_message",
                    ),
                    models.Index(fields=["template", "-accepted_at"], name="delivery_template"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("kind", "notice")),
                        fields=("template", "account", "audience", "spell_at"),
                        name="notice_once_per_spell",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("status", "accepted"), _negated=True),
                            ("accepted_at__isnull", False),
                            _connector="OR",
                        ),
                        name="delivery_accepted_has_time",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ChannelDelivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="notifications.alertchannel",
                    ),
                ),
                ("event_key", models.CharField(max_length=120)),
                ("uuid", models.UUIDField(default=uuid.uuid4, unique=True)),
                ("title", models.CharField(max_length=200)),
                ("payload", models.JSONField()),
                ("is_test", models.BooleanField(default=False)),
                (
                    "status",
                    models.CharField(
                        choices=[("queued", "Waiting"), ("sent", "Delivered"), ("failed", "Failed")],
                        default="queued",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField()),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
                ("http_status", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("answer", models.CharField(blank=True, max_length=500)),
            ],
            options={
                "verbose_name_plural": "channel deliveries",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("status", "queued")),
                        fields=["next_attempt_at"],
                        name="channel_delivery_queue",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("is_test", False)),
                        fields=("channel", "event_key"),
                        name="channel_event_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="KeepCode",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "delivery",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="codes", to="notifications.delivery"
                    ),
                ),
                (
                    "choice",
                    models.CharField(
                        choices=[
                            ("keep", "Keep my access"),
                            ("release", "I no longer need it"),
                            ("return", "Give me my access back"),
                        ],
                        max_length=10,
                    ),
                ),
                ("uuid", models.UUIDField(default=uuid.uuid4, unique=True)),
                (
                    "mail",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="notifications.delivery",
                    ),
                ),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("tries", models.PositiveSmallIntegerField(default=0)),
                ("used_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [models.Index(fields=["delivery", "-id"], name="keep_code_latest")],
            },
        ),
        migrations.CreateModel(
            name="KeepDecision",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "delivery",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="decisions",
                        to="notifications.delivery",
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="users.account"
                    ),
                ),
                (
                    "choice",
                    models.CharField(
                        choices=[
                            ("keep", "Keep my access"),
                            ("release", "I no longer need it"),
                            ("return", "Give me my access back"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("waiting", "To be carried out"),
                            ("applied", "Carried out"),
                            ("approval", "Waits for an approval"),
                            ("refused", "Refused"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=500)),
                ("ip_address", models.GenericIPAddressField(blank=True, null=True)),
                ("decided_at", models.DateTimeField()),
                ("applied_at", models.DateTimeField(blank=True, null=True)),
                ("detail", models.TextField(blank=True)),
                ("until", models.DateTimeField(blank=True, null=True)),
                ("operation_id", models.BigIntegerField(blank=True, null=True)),
                (
                    "needs_approval",
                    models.CharField(blank=True, max_length=300, verbose_name="why an approval is needed"),
                ),
                ("returned_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["account", "-decided_at"], name="keep_account"),
                    models.Index(condition=models.Q(("status", "waiting")), fields=["status"], name="keep_waiting"),
                    models.Index(fields=["operation_id"], name="keep_operation"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("choice__in", ["keep", "release"])),
                        fields=("delivery",),
                        name="keep_decided_once",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("choice", "return")), fields=("delivery",), name="keep_returned_once"
                    ),
                ],
            },
        ),
    ]
