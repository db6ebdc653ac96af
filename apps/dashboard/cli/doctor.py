"""`doctor`: every dependency, version, setting and connection, with what to do."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata

import redis
from celery import current_app
from cryptography.fernet import Fernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError

from apps.audit.chain import signing_keys
from apps.dashboard.cli.shared import DONE, FAILED, Cli, Subcommands, command
from apps.operators.models import Role
from apps.operators.selectors import has_operators
from apps.organizations.models import Credential, Organization
from apps.organizations.selectors import connection_state, is_copy
from apps.organizations.services import check_connection
from apps.organizations.services.connections import connection_of
from apps.users.selectors import data_trust
from aum.common.errors import DomainError

# Lines of a lock: name==version, perhaps only for some machines.
_PINNED = re.compile(r"^([A-Za-z0-9_.\-]+)==([^\s;\\]+)\s*(?:;\s*([^\\]+?))?\s*\\?$", re.MULTILINE)
MINIMUM_POSTGRES = 140000
WORKER_SECONDS = 1.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `state` is ok, warning or error; `advice` says what to do about the latter two."""

    name: str
    state: str
    detail: str
    advice: str = ""


def add(commands: Subcommands) -> None:
    parser = command(commands, "doctor", examine, "look at everything AUM needs", organization=False)
    parser.add_argument("--online", action="store_true", help="also try the saved credentials at Atlassian")


def examine(cli: Cli) -> int:
    """Exit code 1 when something keeps AUM from working; warnings do not."""
    found = [finding for part in PARTS for finding in part()]
    # Without a database nothing more can be known.
    if all(finding.state != "error" for finding in found if finding.name in ("database", "migrations")):
        found += [*_installation(), *_organizations(is_online=cli.arguments.online)]
    cli.show([asdict(finding) for finding in found], _lines(found))
    return FAILED if any(finding.state == "error" for finding in found) else DONE


def _lines(found: list[Finding]) -> Iterator[str]:
    marks = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}
    for finding in found:
        yield f"{marks[finding.state]}  {finding.name}: {finding.detail}"
        if finding.advice:
            yield f"         → {finding.advice}"


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> Iterator[Finding]:
    """Installed versions beside the lock, requirements/base.txt."""
    lock = settings.BASE_DIR / "requirements" / "base.txt"
    try:
        pinned = _PINNED.findall(lock.read_text(encoding="utf-8"))
    except OSError:
        yield Finding("packages", "warning", f"{lock} cannot be read.", "Compare `pip list` with the release's lock.")
        return
    wrong = []
    for name, wanted, marker in pinned:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if not marker:  # with a marker it may belong to other machines only
                wrong.append(f"{name} is missing")
            continue
        if version != wanted:
            wrong.append(f"{name} is {version}, not {wanted}")
    if wrong:
        advice = "Run script/aum once more: it installs the lock. In a container: rebuild the image."
        yield Finding("packages", "error", "; ".join(wrong[:10]), advice)
    else:
        yield Finding("packages", "ok", f"{len(pinned)} packages as locked; AUM {settings.AUM_VERSION}")


def _settings() -> Iterator[Finding]:
    if settings.DEBUG:
        yield Finding("debug", "warning", "AUM_DEBUG is on.", "Turn it off wherever others can reach AUM.")
    try:
        for key in settings.AUM_ENCRYPTION_KEYS:
            Fernet(key.strip())
        yield Finding("encryption keys", "ok", f"{len(settings.AUM_ENCRYPTION_KEYS)} set")
    except ValueError as error:
        yield Finding(
            "encryption keys", "error", str(error), "Set AUM_ENCRYPTION_KEYS to Fernet keys: script/make-secrets"
        )
    try:
        yield Finding("audit signing key", "ok", f"{signing_keys()[0].key_id} signs")
    except ImproperlyConfigured as error:
        yield Finding("audit signing key", "error", str(error), "script/make-secrets makes one.")
    if settings.AUM_CLI_ROLE not in Role.values:
        yield Finding("AUM_CLI_ROLE", "error", settings.AUM_CLI_ROLE, f"Set one of {', '.join(Role.values)}.")
    if settings.AUM_BASE_URL.startswith("https://"):
        yield Finding("address", "ok", settings.AUM_BASE_URL)
    else:
        advice = "Put AUM behind TLS and set AUM_BASE_URL to its https address, unless it is for this machine only."
        yield Finding("address", "warning", f"{settings.AUM_BASE_URL} is not https.", advice)
    if settings.AUM_EMBEDDED:
        advice = "Fine for a trial. docs/deploy.md describes servers of your own."
        yield Finding("servers", "warning", "PostgreSQL and Valkey are embedded.", advice)
    try:
        probe = settings.AUM_DATA_DIR / ".doctor"
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        yield Finding("data folder", "ok", str(settings.AUM_DATA_DIR))
    except OSError as error:
        advice = "Make it writable for the user who runs AUM, or set AUM_DATA_DIR."
        yield Finding("data folder", "error", f"{settings.AUM_DATA_DIR}: {error.strerror}", advice)


def _database() -> Iterator[Finding]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version_num')::int, current_setting('server_version')")
            number, version = cursor.fetchone()
    except (DatabaseError, OSError) as error:
        advice = "Start it with script/server, or correct DATABASE_URL."
        yield Finding("database", "error", str(error).strip().splitlines()[0], advice)
        return
    if number < MINIMUM_POSTGRES:
        yield Finding("database", "error", f"PostgreSQL {version}", "Upgrade PostgreSQL to 14 or newer.")
        return
    yield Finding("database", "ok", f"PostgreSQL {version}")
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(str(migration) for migration, _backwards in missing[:3])
        yield Finding("migrations", "error", f"{len(missing)} not applied: {names}", "manage.py migrate")
    else:
        yield Finding("migrations", "ok", "all applied")


def _queue() -> Iterator[Finding]:
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=3, socket_connect_timeout=3) as client:
            info = client.info("server")
    except (redis.RedisError, OSError) as error:
        advice = "Start it with script/server, or correct REDIS_URL. Without it nothing is written to Atlassian."
        yield Finding("queue", "error", f"{type(error).__name__}: {error}", advice)
        return
    version = info.get("valkey_version") or info.get("redis_version")
    yield Finding("queue", "ok", f"{info.get('server_name', 'redis')} {version}")
    try:
        workers = current_app.control.ping(timeout=WORKER_SECONDS)
    except (OperationalError, OSError) as error:
        yield Finding("workers", "error", str(error), "Check REDIS_URL.")
        return
    if workers:
        yield Finding(
            "workers", "ok", f"{len(workers)} answer: {', '.join(sorted(name for w in workers for name in w))}"
        )
    else:
        advice = "Start script/server, or the worker service. Commands with --wait do their own work meanwhile."
        yield Finding("workers", "warning", "None answers.", advice)


PARTS: tuple[Callable[[], Iterator[Finding]], ...] = (_python, _packages, _settings, _database, _queue)


def _installation() -> Iterator[Finding]:
    if is_copy():
        advice = "Run a full sync, then have an owner release each kill switch with a reason."
        yield Finding("instance", "error", "This database belongs to another installation or was restored.", advice)
    else:
        yield Finding("instance", "ok", settings.AUM_INSTANCE_ID)
    latest = PeriodicTask.objects.filter(last_run_at__isnull=False).order_by("-last_run_at").first()
    if latest is None or latest.last_run_at is None:
        advice = "Start script/server, or the beat service, so that rules and syncs run by themselves."
        yield Finding("beat", "warning", "No schedule has run yet.", advice)
    else:
        yield Finding("beat", "ok", f"last ran {latest.name} at {latest.last_run_at:%Y-%m-%d %H:%M:%S} UTC")
    if not has_operators():
        advice = "script/server prints the link of the first owner; or script/aum operator create --role owner"
        yield Finding("operators", "warning", "Nobody can sign in yet.", advice)


def _organizations(*, is_online: bool) -> Iterator[Finding]:
    for organization in Organization.objects.all():
        name = f"organisation {organization.slug}"
        if organization.is_killed:
            advice = (
                f"When it is safe: script/aum kill-switch off --organization {organization.slug} --reason … --as OWNER"
            )
            yield Finding(name, "warning", f"Kill switch on: {organization.kill_switch_reason}", advice)
        if organization.is_from_file:
            yield Finding(name, "ok", "Filled from an export file, not connected: nothing can be changed.")
            continue
        yield _credentials(organization, name)
        state = connection_state(organization)
        kind = {"complete": "ok", "expiring": "warning"}.get(state.code, "error")
        yield Finding(
            name, kind, f"{state.title}. {state.detail}", "" if kind == "ok" else "Open Settings, Connection."
        )
        trust = data_trust(organization)
        if trust.ok:
            yield Finding(name, "ok", "The last sync is recent and trusted.")
        else:
            advice = f"script/aum sync --organization {organization.slug} --wait"
            yield Finding(name, "warning", " ".join(trust.reasons), advice)
        if is_online:
            for result in check_connection(organization=organization):
                if not result.ok:
                    yield Finding(name, "error", f"{result.capability}: {result.detail}")


def _credentials(organization: Organization, name: str) -> Finding:
    if not Credential.objects.of(organization).exists():
        return Finding(name, "warning", "No credentials are saved.", "Open Settings, Connection.")
    try:
        connection_of(organization)
    except DomainError as error:
        return Finding(name, "error", error.detail, "Put the old key back into AUM_ENCRYPTION_KEYS, or save them anew.")
    return Finding(name, "ok", "The saved credentials can be read.")
