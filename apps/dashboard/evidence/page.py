"""The readable page of an evidence pack: one file that opens offline and refers to nothing outside itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

from apps.operations.models import Operation
from apps.operations.reasons import left_out_label

README = """Evidence pack of one AUM run

index.html       what happened, to read; opens offline
verify.py        checks that nothing was changed: python3 verify.py PACK.zip --key HEX
run.json         who, what, when, why
rule.json        what the rule said at that version
plan.jsonl       the plan whose hash was approved, one change a line
left-out.jsonl   who was selected and left out, with the reason
approvals.json   who decided, about which plan hash
notices.json     what was sent to these people before
outcomes.jsonl   each change with its reason, outcome, state before and after, and Atlassian's request id
events.jsonl     the log entries of the run, as they were hashed
people.jsonl     names and e-mails, with the salts that tie them to the entries
chain.json       the sealed segments that hold the entries
key.json         public keys; compare the fingerprint with the installation's own
manifest.json    SHA-256 of each file, signed in manifest.sig

Times are UTC.
"""
_STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: start; }
th, td { text-align: start; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #8886; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; } dt { opacity: .75; } dd { margin: 0; }
code { overflow-wrap: anywhere; } .scroll { overflow-x: auto; }
@media print { body { margin: 0; max-width: none; } thead { display: table-header-group; } }
"""


@dataclass(frozen=True)
class Row:
    """One change of the run, in words."""

    who: str
    subject: str
    action: str
    target: str
    reason: str
    outcome: str
    detail: str
    at: datetime | None


def render(
    operation: Operation, approvals: Sequence[dict[str, Any]], notices: Sequence[dict[str, Any]], rows: Iterable[Row]
) -> Iterator[str]:
    """The page in pieces."""
    title = f"Evidence of run #{operation.number}: {operation.name}"
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>\n<h1>{escape(title)}</h1>\n"
        f"<p>{escape(operation.organization.name)}. {escape(operation.sentence or '')}</p>\n"
    )
    yield _facts(operation)
    yield _approvals(approvals)
    yield _notices(notices)
    yield _left_out(operation)
    yield (
        '<h2>Changes</h2><div class="scroll" tabindex="0" role="region" aria-label="Changes"><table><thead><tr>'
        + "".join(f'<th scope="col">{name}</th>' for name in ("User", "Action", "On", "Why", "Outcome", "Finished"))
        + "</tr></thead><tbody>\n"
    )
    for row in rows:
        cells = (row.action, row.target or "–", row.reason, f"{row.outcome}. {row.detail}", _utc(row.at))
        yield (
            f'<tr><th scope="row">{escape(row.who)}<br><code>{escape(row.subject)}</code></th>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + "</tr>\n"
        )
    yield (
        "</tbody></table></div>\n<h2>Is this as it was made?</h2><p>Run <code>python3 verify.py</code> in this folder,"
        " or with the zip file as its argument. It needs nothing but Python, and refuses the pack after one changed"
        " byte. Give the installation’s public key with <code>--key</code>, so that nobody can have signed another."
        "</p>\n"
        "</main></body></html>\n"
    )


def _facts(operation: Operation) -> str:
    outcomes = ", ".join(f"{count:,} {code.replace('_', ' ')}" for code, count in operation.outcomes.items())
    facts = (
        ("Status", operation.get_status_display()),
        ("Mode", operation.get_mode_display()),
        ("Type", operation.get_kind_display()),
        ("Initiator", f"{operation.get_initiator_display()}, {operation.actor_text}"),
        ("Reason", operation.reason),
        ("Rule", f"{operation.rule_id}, version {operation.rule_version}" if operation.rule_id else ""),
        ("Users", f"{operation.people_count:,}, {operation.planned_count:,} changes"),
        ("Outcomes", outcomes),
        ("Planned", _utc(operation.planned_at)),
        ("Started", _utc(operation.started_at)),
        ("Finished", _utc(operation.finished_at)),
        ("Remark", operation.status_detail),
        ("Plan hash", operation.plan_hash),
        ("Run ID", str(operation.uuid)),
    )
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts if value)
    return f"<dl>{lines}</dl>\n"


def _approvals(approvals: Sequence[dict[str, Any]]) -> str:
    if not approvals:
        return "<h2>Approvals</h2><p>None was needed: the plan was within the limits, or it was a preview.</p>\n"
    lines = "".join(
        f"<li>{escape(str(one['decision'])).capitalize()} by {escape(one['decided_by'])}, {_utc(one['decided_at'])},"
        f" {one['people']:,} users{'. ' + escape(one['reason']) if one['reason'] else ''}."
        f" Plan hash <code>{escape(one['plan_hash'])}</code></li>"
        for one in approvals
    )
    return f"<h2>Approvals</h2><ul>{lines}</ul>\n"


def _notices(notices: Sequence[dict[str, Any]]) -> str:
    if not notices:
        return "<h2>Notices</h2><p>No notice was sent for this run.</p>\n"
    lines = "".join(
        f"<li>{escape(str(one.get('at', '')))}: {escape(str(one.get('recipient', '')))},"
        f" {escape(str(one.get('subject', '')))}, {escape(str(one.get('status', '')))}</li>"
        for one in notices
    )
    return f"<h2>Notices</h2><ul>{lines}</ul>\n"


def _left_out(operation: Operation) -> str:
    if not operation.left_out:
        return ""
    lines = "".join(f"<li>{escape(left_out_label(code))}: {count}</li>" for code, count in operation.left_out.items())
    return f"<h2>Left out of the plan</h2><ul>{lines}</ul>\n"


def _utc(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else "–"
