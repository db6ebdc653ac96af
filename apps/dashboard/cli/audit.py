"""`audit …`."""

from __future__ import annotations

from dataclasses import asdict

from apps.audit.cli import export_command, report_lines, seal_command
from apps.audit.services import record, verify
from apps.dashboard.cli.shared import DONE, FAILED, Cli, Subcommands, UsageError, command, group
from apps.operators.permissions import Permission
from apps.organizations.models import Organization


def add(commands: Subcommands) -> None:
    below = group(commands, "audit", "the audit log")
    check = command(below, "verify", verify_chain, "hash every event again; exit 1 when the chain does not hold")
    check.add_argument("--all", action="store_true", help="every organisation")
    export = command(below, "export", export_events, "write all events as CSV", writes=True)
    export.add_argument("--output", metavar="FILE", help="instead of standard output")
    command(below, "seal", seal_now, "seal what is not sealed yet")


def verify_chain(cli: Cli) -> int:
    chosen = list(Organization.objects.all()) if cli.arguments.all else [cli.organization()]
    reports = [(organization, verify(organization)) for organization in chosen]
    cli.show(
        [
            {
                "organization": organization.slug,
                "ok": report.ok,
                **asdict(report),
                "first_broken": [asdict(finding) for finding in report.first_broken[:100]],
            }
            for organization, report in reports
        ],
        (line for organization, report in reports for line in report_lines(organization, report)),
    )
    return DONE if all(report.ok for _organization, report in reports) else FAILED


def export_events(cli: Cli) -> int:
    organization = cli.organization(Permission.EXPORT)
    record(
        organization=organization,
        actor=cli.actor,
        action="audit.exported",
        target_kind="organization",
        target_ref=organization.slug,
        target_name=organization.name,
    )
    if not cli.arguments.output:
        return export_command(organization, cli.stdout)
    try:
        with open(cli.arguments.output, "w", encoding="utf-8", newline="") as stream:
            return export_command(organization, stream)
    except OSError as error:
        raise UsageError(f"{cli.arguments.output} cannot be written: {error.strerror}") from error


def seal_now(cli: Cli) -> int:
    return seal_command(cli.organization(), lambda line: cli.show({"detail": line}, [line]))
