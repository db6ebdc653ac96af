"""`audit …`."""

from __future__ import annotations

from dataclasses import asdict

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from apps.audit.chain import signing_keys
from apps.audit.cli import export_command, report_lines, seal_command
from apps.audit.services import record, verify
from apps.dashboard.cli.shared import DONE, FAILED, Cli, Subcommands, UsageError, command, group
from apps.dashboard.evidence import evidence_name, stream_evidence
from apps.dashboard.services import record_evidence
from apps.operations.selectors import operation_by_number
from apps.operators.permissions import Permission
from apps.organizations.models import Organization


def add(commands: Subcommands) -> None:
    below = group(commands, "audit", "the audit log")
    check = command(below, "verify", verify_chain, "hash every event again; exit 1 when the chain does not hold")
    check.add_argument("--all", action="store_true", help="every organisation")
    export = command(below, "export", export_events, "write all events as CSV", writes=True)
    export.add_argument("--output", metavar="FILE", help="instead of standard output")
    command(below, "seal", seal_now, "seal what is not sealed yet")
    evidence = command(below, "evidence", write_evidence, "the evidence pack of a run, as a zip", writes=True)
    evidence.add_argument("--run", type=int, required=True, metavar="NUMBER")
    evidence.add_argument("--output", metavar="FILE", help="instead of its own name in this folder")
    command(below, "key", show_key, "the public keys that packs and segments are verified with")


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


def write_evidence(cli: Cli) -> int:
    organization = cli.organization(Permission.EXPORT)
    operation = operation_by_number(organization, cli.arguments.run)
    name = cli.arguments.output or evidence_name(operation)
    stream = stream_evidence(operation, made_by=cli.actor.name)
    record_evidence(operation=operation, actor=cli.actor)
    try:
        with open(name, "wb") as file:
            file.writelines(stream)
    except OSError as error:
        raise UsageError(f"{name} cannot be written: {error.strerror}") from error
    cli.show({"file": name}, [f"{name}: python3 verify.py {name} checks it (the script is inside)."])
    return DONE


def show_key(cli: Cli) -> int:
    keys = [
        {
            "key_id": key.key_id,
            "public_key": key.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex(),
        }
        for key in signing_keys()
    ]
    cli.show(keys, (f"{key['key_id']}: {key['public_key']}" for key in keys))
    return DONE


def seal_now(cli: Cli) -> int:
    return seal_command(cli.organization(), lambda line: cli.show({"detail": line}, [line]))
