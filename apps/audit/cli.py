"""What `aum audit …` does; the commands parse arguments and call these. Each returns the exit code of the process."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import TextIO

from apps.audit.selectors import EventFilters, export_rows
from apps.audit.services import VerifyReport, seal, verify
from apps.organizations.models import Organization

SHOWN = 100


def verify_command(organization: Organization, write: Callable[[str], object] = print) -> int:
    """Verify and say in sentences what was found: 0 when everything is as it was sealed, 1 when not."""
    report = verify(organization)
    for line in report_lines(organization, report):
        write(line)
    return 0 if report.ok else 1


def seal_command(organization: Organization, write: Callable[[str], object] = print) -> int:
    """Seal what is not sealed yet."""
    made = seal(organization)
    write(f"{made} segment{'' if made == 1 else 's'} sealed.")
    return 0


def export_command(organization: Organization, stream: TextIO, filters: EventFilters | None = None) -> int:
    """Write the events as CSV to `stream`, which was opened with newline=""."""
    csv.writer(stream).writerows(export_rows(organization, filters))
    return 0


def report_lines(organization: Organization, report: VerifyReport) -> list[str]:
    """The report of `verify` as lines for a terminal."""
    lines = [f"{organization.name}: {report.rows:,} sealed events in {report.segments:,} segments read."]
    lines += [f"{finding.kind}: {finding.sentence}" for finding in report.first_broken[:SHOWN]]
    if report.findings > SHOWN:
        lines.append(f"… and {report.findings - SHOWN:,} more findings.")
    if report.purged_segments:
        lines.append(f"{report.purged_segments:,} segments were purged.")
    if report.anchored_through is None:
        lines.append("No anchor is set up: a removed end of the chain would show only as unsealed events.")
    else:
        lines.append(f"Proven by the anchor up to segment {report.anchored_through}.")
    if report.unsealed_rows:
        since = f"{report.unsealed_since:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(f"{report.unsealed_rows:,} events since {since} are not sealed yet and proven by nothing.")
    lines.append("The audit log is intact." if report.ok else "The audit log was TAMPERED with.")
    return lines
