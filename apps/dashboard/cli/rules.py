"""`rules …`: rules as a file under version control (docs/rules.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from apps.dashboard.cli.shared import DONE, FAILED, Cli, Subcommands, UsageError, command, group
from apps.operators.permissions import Permission
from apps.rules.api.serializers import RuleSerializer
from apps.rules.file_schema import rules_schema
from apps.rules.selectors import rules, sentence
from apps.rules.services import ImportReport, diff_rules, export_rules, import_rules


def add(commands: Subcommands) -> None:
    below = group(commands, "rules", "cleanup rules")
    command(below, "list", show_all, "list rules in words")
    export = command(below, "export", export_all, "write all rules as YAML")
    export.add_argument("--output", metavar="FILE", help="instead of standard output")
    take = command(below, "import", import_all, "create and change rules as a file says, all or none", writes=True)
    take.add_argument("file", metavar="FILE", help="“-” reads standard input")
    take.add_argument("--dry-run", action="store_true", help="say what would change, change nothing")
    take.add_argument("--reason", default="", help="why a safeguard gets looser; who approves reads it")
    command(below, "schema", show_schema, "write the JSON schema of a rules file")
    diff = command(below, "diff", show_difference, "say what importing a file would change")
    diff.add_argument("file", metavar="FILE", help="“-” reads standard input")


def show_all(cli: Cli) -> int:
    found = list(rules(cli.organization()))
    cli.show(
        RuleSerializer(found, many=True).data,
        (
            f"{rule.pk}  {rule.mode}{'  paused' if rule.is_paused else ''}  {rule.name}: {sentence(rule)}"
            for rule in found
        ),
    )
    return DONE


def export_all(cli: Cli) -> int:
    text = export_rules(cli.organization())
    if not cli.arguments.output:
        cli.stdout.write(text)
        return DONE
    try:
        Path(cli.arguments.output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{cli.arguments.output} cannot be written: {error.strerror}") from error
    return DONE


def import_all(cli: Cli) -> int:
    organization = cli.organization(Permission.RULES)
    return _reported(
        cli,
        import_rules(
            organization=organization,
            text=cli.text(cli.arguments.file),
            actor=cli.actor,
            operator=cli.operator,
            dry_run=cli.arguments.dry_run,
            reason=cli.arguments.reason,
        ),
    )


def show_schema(cli: Cli) -> int:
    cli.stdout.write(json.dumps(rules_schema(), indent=2) + "\n")
    return DONE


def show_difference(cli: Cli) -> int:
    return _reported(cli, diff_rules(organization=cli.organization(), text=cli.text(cli.arguments.file)))


def _reported(cli: Cli, report: ImportReport) -> int:
    data: dict[str, Any] = {
        "changes": [asdict(change) for change in report.changes],
        "errors": [asdict(error) for error in report.errors],
    }
    cli.show(data, _lines(report))
    for error in report.errors:
        cli.tell(f"{error.rule or 'file'}{f', {error.field}' if error.field else ''}: {error.message}")
    if report.errors:
        cli.tell("Nothing was changed.")
    return FAILED if report.errors else DONE


def _lines(report: ImportReport) -> Iterator[str]:
    for change in report.changes:
        yield f"{change.change}: {change.rule}"
        for name, after in change.after.items():
            if change.change != "created":
                yield f"  {name}: {_short(change.before.get(name))} → {_short(after)}"
            elif after not in (None, False, []):
                yield f"  {name}: {_short(after)}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        parts = [str(part.get("name", part)) if isinstance(part, dict) else str(part) for part in value]
        return ", ".join(parts) or "none"
    return "none" if value is None else str(value)
