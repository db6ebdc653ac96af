"""`sync`: ask for one, and with --wait see it through, by workers or in this process."""

from __future__ import annotations

import time

from apps.dashboard.cli.shared import DONE, FAILED, PARTIAL, Cli, Subcommands, command
from apps.operators.permissions import Permission
from apps.users.api.serializers import SyncSerializer
from apps.users.models import SyncRun
from apps.users.services import request_sync, run_sync

# Workers that are there take a run within a moment; then this process only watches.
GRACE_SECONDS = 2.0
POLL_SECONDS = 0.3
CODES = {SyncRun.Status.SUCCEEDED: DONE, SyncRun.Status.PARTIAL: PARTIAL}


def add(commands: Subcommands) -> None:
    parser = command(commands, "sync", sync, "read the directory from Atlassian", writes=True)
    parser.add_argument("--wait", action="store_true", help="until it is finished, with progress")


def sync(cli: Cli) -> int:
    organization = cli.organization(Permission.SYNC)
    run = request_sync(organization=organization, actor=cli.actor, exist_ok=True)
    if run.was_open:
        cli.tell("A sync is under way already.")
    if not cli.arguments.wait:
        run.refresh_from_db()
        return _shown(cli, run, DONE)
    _follow(cli, run)
    return _shown(cli, run, CODES.get(SyncRun.Status(run.status), FAILED))


def _follow(cli: Cli, run: SyncRun) -> None:
    shown, idle_since = "", time.monotonic()
    while True:
        run.refresh_from_db()
        total = f" of {run.people_total:,}" if run.people_total else ""
        line = f"{run.get_status_display()}: {run.phase}, {run.people_seen:,}{total} people"
        if line != shown:
            cli.tell(line)
            shown = line
        if run.status not in SyncRun.OPEN:
            return
        if run.lease_token is not None:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > GRACE_SECONDS:
            cli.tell("No worker took it, so this command does it.")
            run_sync(run.pk, budget_seconds=None, wait_here=True)
        time.sleep(POLL_SECONDS)


def _shown(cli: Cli, run: SyncRun, code: int) -> int:
    lines = [f"Sync {run.pk}: {run.get_status_display()}, {run.people_seen:,} people, {run.groups_seen:,} groups."]
    lines += [str(reason) for reason in run.distrust_reasons]
    if run.error_detail:
        lines.append(run.error_detail)
    cli.show(SyncSerializer(run).data, lines)
    return code
