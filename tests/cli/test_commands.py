"""Single commands: who may, exit codes, secrets, wrong input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from cryptography.fernet import Fernet
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.models import BinaryField
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.audit.services import seal
from apps.autoactivate import crypto as inbound_crypto
from apps.autoactivate.models import InboundSource
from apps.notifications.models import AlertChannel, MailSettings
from apps.operators.adapters import MfaAdapter
from apps.operators.models import ApiToken, IdentityProvider, Operator
from apps.operators.selectors import hash_secret
from apps.organizations import crypto
from apps.organizations.models import Credential, Organization
from apps.rules.models import CleanupRule

RULES = 'version: 1\nrules:\n  - name: Idle\n    inactive_days: {days}\n    run_at: "06:00"\n'


@pytest.fixture
def plain(db: None) -> Organization:
    return Organization.objects.create(slug="plain", name="Plain", org_id="p-1", api_url="https://api.atlassian.com")


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["operator"],
        ["sync", "--organisation", "x"],
        ["apply"],
        ["token", "create", "--operator", "x"],
        ["kill-switch", "on"],
        ["operator", "create", "--email", "x@x.example", "--password-file", "/no/such/file"],
        ["rules", "import", "/no/such/file"],
        ["operations", "show", "--operation", "first"],
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str], aum: Callable[..., Any], plain: Organization) -> None:
    aum(*words, code=2)


def test_help_lists_every_command(aum: Callable[..., Any]) -> None:
    text = aum("help").out

    for word in ("operator", "token", "organization", "sync", "rules", "plan", "apply", "undo", "audit", "doctor"):
        assert word in text


def test_manage_py_hands_everything_over() -> None:
    """The real process: exit code 2 for usage, without a database."""
    command = [
        sys.executable,
        "-c",
        "import sys; from django.core.management import execute_from_command_line as run; "
        "run(['manage.py', *sys.argv[1:]])",
        "aum",
        "nonsense",
    ]
    environment = {"PATH": "", "DJANGO_SETTINGS_MODULE": "aum.settings_test", "PYTHONPATH": str(settings.BASE_DIR)}

    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert result.returncode == 2
    assert "invalid choice" in result.stderr


def test_call_command_raises_the_exit_code(plain: Organization) -> None:
    with pytest.raises(SystemExit) as stop:
        call_command("aum", "operations", "show", "--operation", "1")

    assert stop.value.code == 1


def test_several_organizations_need_a_name(aum: Callable[..., Any], plain: Organization) -> None:
    Organization.objects.create(slug="other", name="Other", org_id="o-1", api_url="https://api.atlassian.com")

    assert "--organization" in aum("rules", "list", code=2).err
    aum("rules", "list", "--organization", "plain")
    aum("rules", "list", "--organization", "nowhere", code=1)


# --- operators and tokens ---------------------------------------------------------------------------------------------


def test_operators_are_made_listed_and_disabled(aum: Callable[..., Any], plain: Organization) -> None:
    make = ("operator", "create", "--password-file", "-", "--organization", "plain")
    aum(*make, "--email", "Anna@x.example", "--role", "viewer", stdin="correct horse battery\n")
    weak = aum(*make, "--email", "b@x.example", "--role", "admin", stdin="short\n", code=1)
    twice = aum(*make, "--email", "anna@X.example", "--role", "admin", stdin="correct horse battery\n", code=1)

    assert "password" in weak.err
    assert "email" in twice.err
    listed = aum("operator", "list", "--json").data
    assert [(row["email"], row["roles"]) for row in listed] == [
        ("anna@x.example", [{"organization": "plain", "role": "viewer"}])
    ]
    aum("operator", "disable", "--email", "anna@x.example")
    assert not Operator.objects.get().is_active
    aum("operator", "disable", "--email", "anna@x.example", code=1)


def test_only_an_owner_can_be_made_first(aum: Callable[..., Any]) -> None:
    make = ("operator", "create", "--email", "a@x.example", "--password-file", "-")

    aum(*make, "--role", "viewer", stdin="correct horse battery\n", code=2)
    aum(*make, "--role", "owner", stdin="correct horse battery\n")

    assert Operator.objects.get().is_staff


def test_a_token_is_printed_once(
    aum: Callable[..., Any], plain: Organization, operators: Callable[..., Operator]
) -> None:
    operators(plain, "anna@x.example", "admin")
    make = ("token", "create", "--operator", "anna@x.example", "--organization", "plain", "--scopes")
    made = aum(*make, "read,run", "--json").data
    bare = aum(*make, "read")

    assert ApiToken.objects.get(pk=made["id"]).token_hash == hash_secret(made["token"])
    assert bare.out.strip().startswith("aum_")
    assert len(bare.out.splitlines()) == 1
    assert made["token"] not in aum("token", "list").out
    aum("token", "revoke", "--token", made["id"])
    assert ApiToken.objects.get(pk=made["id"]).revoked_at
    aum("token", "revoke", "--token", 10**6, code=1)
    assert made["token"] not in str(list(AuditEvent.objects.values()))


def test_tokens_that_must_not_be(
    aum: Callable[..., Any], plain: Organization, operators: Callable[..., Operator]
) -> None:
    operators(plain, "anna@x.example", "owner")
    operators(plain, "bert@x.example", "owner")
    Operator.objects.create_user("nobody@x.example", "correct horse battery")
    make = ("token", "create", "--organization", "plain", "--scopes")

    aum(*make, "read,run,approve", "--operator", "anna@x.example", "--as", "anna@x.example", code=1)
    aum(*make, "everything", "--operator", "anna@x.example", code=1)
    aum(*make, "approve", "--operator", "anna@x.example", code=1)
    aum(*make, "read", "--operator", "anna@x.example", "--as", "bert@x.example", code=1)
    aum(*make, "read", "--operator", "nobody@x.example", code=1)
    assert not ApiToken.objects.exists()
    aum(*make, "approve", "--operator", "anna@x.example", "--as", "anna@x.example")


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["sync"],
        ["rules", "import", "-"],
        ["plan", "--rule", "Idle"],
        ["run", "--rule", "Idle"],
        ["kill-switch", "on", "--reason", "x"],
        ["kill-switch", "off", "--reason", "x"],
        ["organization", "check"],
        ["token", "revoke", "--token", "1"],
        ["operator", "grant", "--email", "viewer@x.example", "--role", "owner"],
    ],
)
def test_a_viewer_writes_nothing(
    words: list[str], aum: Callable[..., Any], plain: Organization, operators: Callable[..., Operator]
) -> None:
    operators(plain, "viewer@x.example", "viewer")
    before = AuditEvent.objects.count()

    result = aum(*words, "--as", "viewer@x.example", code=1)

    assert "[not_allowed]" in result.err
    assert AuditEvent.objects.count() == before


def test_without_as_the_role_of_the_command_line_counts(
    aum: Callable[..., Any], plain: Organization, settings: Any
) -> None:
    settings.AUM_CLI_ROLE = "viewer"
    assert "AUM_CLI_ROLE" not in aum("rules", "list").err
    assert "--as EMAIL" in aum("kill-switch", "on", "--reason", "x", code=1).err

    settings.AUM_CLI_ROLE = "admin"
    aum("kill-switch", "on", "--reason", "x")
    aum("kill-switch", "off", "--reason", "x", code=1)

    settings.AUM_CLI_ROLE = "owner"
    aum("kill-switch", "off", "--reason", "x")
    event = AuditEvent.objects.filter(action="kill_switch.off").get()
    assert (event.actor_kind, event.actor.name.startswith("cli:")) == ("cli", True)


def test_the_command_line_never_approves_by_itself(aum: Callable[..., Any], plain: Organization, settings: Any) -> None:
    settings.AUM_CLI_ROLE = "owner"

    assert "--as EMAIL" in aum("approve", "--operation", "1", code=1).err


def test_unknown_and_disabled_operators_cannot_act(
    aum: Callable[..., Any], plain: Organization, operators: Callable[..., Operator]
) -> None:
    operator = operators(plain, "gone@x.example", "owner")
    operator.is_active = False
    operator.save()

    for email in ("gone@x.example", "never@x.example"):
        assert "no active operator" in aum("kill-switch", "on", "--reason", "x", "--as", email, code=1).err


# --- rules, audit, keys, doctor ---------------------------------------------------------------------------------------


def test_rules_go_out_and_come_back_the_same(aum: Callable[..., Any], plain: Organization, tmp_path: Path) -> None:
    aum("rules", "import", "-", stdin=RULES.format(days=60))
    first = aum("rules", "export").out
    file = tmp_path / "rules.yaml"
    aum("rules", "export", "--output", file)

    again = aum("rules", "import", file, "--json").data

    assert [change["change"] for change in again["changes"]] == ["unchanged"]
    assert aum("rules", "export").out == first == file.read_text()
    assert "inactive_days: 60 → 90" in aum("rules", "diff", "-", stdin=RULES.format(days=90)).out
    assert aum("rules", "import", "-", "--dry-run", stdin=RULES.format(days=90)).code == 0
    assert CleanupRule.objects.get().inactive_days == 60
    assert "60 days" in aum("rules", "list").out


@pytest.mark.parametrize("text", ["", "{", "version: 2\nrules: []", RULES.format(days=0), RULES.format(days="x")])
def test_a_wrong_file_changes_nothing(text: str, aum: Callable[..., Any], plain: Organization) -> None:
    result = aum("rules", "import", "-", stdin=text, code=1)

    assert "Nothing was changed." in result.err
    assert not CleanupRule.objects.exists()


def test_things_that_do_not_exist_are_said(aum: Callable[..., Any], plain: Organization) -> None:
    assert "no such run" in aum("operations", "show", "--operation", "#7", code=1).err
    assert "no rule called" in aum("plan", "--rule", "Nope", code=1).err
    assert aum("undo", "--operation", "7", "--json", code=1).data["code"] == "not_found"


def test_verify_fails_on_a_changed_row(aum: Callable[..., Any], plain: Organization) -> None:
    aum("kill-switch", "on", "--reason", "x")
    seal(plain)
    aum("audit", "verify", "--all")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = 'replica'")
        cursor.execute("UPDATE audit_auditevent SET reason = 'y' WHERE organization_id = %s", [plain.pk])
        cursor.execute("SET LOCAL session_replication_role = 'origin'")

    broken = aum("audit", "verify", code=1)

    assert "edited" in broken.out


def test_keys_are_rotated(
    aum: Callable[..., Any], plain: Organization, operators: Callable[..., Any], settings: Any
) -> None:
    """Whatever is encrypted, wherever it lies: the old key can go afterwards."""
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.AUM_ENCRYPTION_KEYS, settings.AUM_INBOUND_KEYS = [old], []
    now, adapter = timezone.now(), MfaAdapter()
    operator = operators(plain, "owner@example.com", "owner")
    stored: list[tuple[Any, str, Callable[[bytes], str]]] = [
        (
            Credential(organization=plain, kind="api_key", set_at=now, set_by="x"),
            "encrypted_value",
            crypto.decrypt,
        ),
        (
            IdentityProvider(name="x", issuer="https://x.example", client_id="x", secret_set_at=now),
            "encrypted_client_secret",
            crypto.decrypt,
        ),
        (MailSettings(organization=plain), "encrypted_password", crypto.decrypt),
        (
            AlertChannel(
                organization=plain,
                name="x",
                kind="webhook",
                address_hint="x",
                edited_by_text="x",
                edited_at=now,
                last_alert_at=now,
                encrypted_secret=crypto.encrypt("secret"),
            ),
            "encrypted_address",
            crypto.decrypt,
        ),
        (
            InboundSource(organization=plain, kind="slack", key="k1", api_token=crypto.encrypt("secret")),
            "encrypted_secret",
            inbound_crypto.decrypt,
        ),
    ]
    for row, column, decrypt in stored:
        setattr(row, column, (inbound_crypto if decrypt is inbound_crypto.decrypt else crypto).encrypt("secret"))
        row.save()
    app = Authenticator.objects.create(user=operator, type="totp", data={"secret": adapter.encrypt("secret")})
    settings.AUM_ENCRYPTION_KEYS = [new, old]

    assert aum("rotate-key", "--json").data == {"rotated": 8}

    settings.AUM_ENCRYPTION_KEYS = [new]
    for row, column, decrypt in stored:
        row.refresh_from_db()
        assert decrypt(bytes(getattr(row, column))) == "secret", row
    app.refresh_from_db()
    assert adapter.decrypt(app.data["secret"]) == "secret"
    assert crypto.decrypt(bytes(stored[3][0].encrypted_secret)) == "secret"
    assert crypto.decrypt(bytes(stored[4][0].api_token)) == "secret"
    settings.AUM_ENCRYPTION_KEYS = [old]
    assert "cannot be decrypted" in aum("rotate-key", code=1).err


def test_no_encrypted_column_is_forgotten_by_the_rotation() -> None:
    known = {
        "organizations.Credential.encrypted_value",
        "operators.IdentityProvider.encrypted_client_secret",
        "notifications.MailSettings.encrypted_password",
        "notifications.AlertChannel.encrypted_address",
        "notifications.AlertChannel.encrypted_secret",
        "notifications.AlertChannel.encrypted_old_secret",
        "autoactivate.InboundSource.encrypted_secret",
        "autoactivate.InboundSource.previous_encrypted",
        "autoactivate.InboundSource.api_token",
    }
    found = {
        f"{model._meta.label}.{field.name}"
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if isinstance(field, BinaryField) and model._meta.app_label not in ("audit", "users")
    }

    assert found == known


def test_doctor_names_what_is_wrong_and_what_to_do(aum: Callable[..., Any], plain: Organization, settings: Any) -> None:
    found = {row["name"]: row for row in aum("doctor", "--json", code=1).data}

    assert {"python", "packages", "database", "migrations", "queue", "workers", "instance"} <= set(found)
    assert found["database"]["state"] == found["migrations"]["state"] == "ok"
    assert found["organisation plain"]["advice"]
    assert all(row["advice"] for row in found.values() if row["state"] != "ok")
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert "ERROR    queue" in aum("doctor", code=1).out
