"""`plan`, `run`, `apply`, `approve`, `reject`, `undo` and `operations …`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from django.utils import timezone

from apps.dashboard.cli.shared import DONE, FAILED, HELD, PARTIAL, Cli, Subcommands, command, group
from apps.operations import selectors, services
from apps.operations.api.serializers import ItemSerializer, OperationSerializer
from apps.operations.models import Operation
from apps.operations.reasons import left_out_label, reason_sentence
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.rules.services import preview_rule, run_rule
from aum.common.errors import NotAllowed

GRACE_SECONDS = 2.0
POLL_SECONDS = 0.3
SLICE_SECONDS = 20.0
ITEMS_SHOWN = 50
Status = Operation.Status
# What a script may take for done; held plans wait for a person, everything else ended without its effect.
CODES = {
    Status.PREVIEWED: DONE,
    Status.SUCCEEDED: DONE,
    Status.NO_EFFECT: DONE,
    Status.PARTIAL_FAILURE: PARTIAL,
    Status.HELD: HELD,
    Status.PAUSED: HELD,
}


def add(commands: Subcommands) -> None:
    plan = command(commands, "plan", plan_rule, "preview a rule: who, and why; changes nothing", writes=True)
    start = command(commands, "run", run_rule_now, "run a rule now in its own mode", writes=True)
    for parser in (plan, start):
        parser.add_argument("--rule", required=True, metavar="ID", help="id or name")
    plan.add_argument("--no-wait", action="store_true", help="do not wait for the plan")
    apply = _on_operation(commands, "apply", apply_plan, "run a preview: exactly its people")
    apply.add_argument("--plan-hash", default="", help="refuse when the plan is another one")
    undo = _on_operation(commands, "undo", undo_run, "give back what a run took")
    undo.add_argument("--account", action="append", metavar="ID", help="only this person; repeat for several")
    approve = _on_operation(commands, "approve", approve_plan, "release a held plan; needs --as")
    approve.add_argument("--plan-hash", default="", help="refuse when the plan is another one")
    approve.add_argument("--confirm-count", type=int, metavar="N", help="one-operator mode: the number of people")
    approve.add_argument(
        "--password-file", metavar="FILE", help="one-operator mode: the password; “-” for standard input"
    )
    approve.add_argument("--reason", default="")
    reject = _on_operation(commands, "reject", reject_plan, "end a held plan; needs --as")
    reject.add_argument("--reason", required=True)
    for parser in (start, apply, undo, approve):
        parser.add_argument("--wait", action="store_true", help="until it ends or is held, with progress")

    below = group(commands, "operations", "plans and runs")
    listing = command(below, "list", list_all, "the newest operations")
    listing.add_argument("--limit", type=int, default=20)
    show = _on_operation(below, "show", show_one, "one operation, its people and what became of them", writes=False)
    show.add_argument("--items", action="store_true", help="list everybody")
    wait = _on_operation(below, "wait", wait_for, "until it ends or is held, with progress", writes=False)
    wait.set_defaults(wait=True)
    for name, run, words in (
        ("pause", pause, "no further call after those under way"),
        ("resume", resume, "go on"),
        ("cancel", cancel, "stop for good"),
        ("retry-failed", retry, "a new run with what failed"),
    ):
        steer = _on_operation(below, name, run, words)
        steer.add_argument("--wait", action="store_true", help="until it ends or is held, with progress")


def _on_operation(commands: Subcommands, name: str, run: Any, words: str, *, writes: bool = True) -> Any:
    parser = command(commands, name, run, words, writes=writes)
    parser.add_argument("--operation", required=True, metavar="N", help="the number of the run")
    return parser


# --- starting ---------------------------------------------------------------------------------------------------------


def plan_rule(cli: Cli) -> int:
    organization = cli.organization(Permission.PREVIEW)
    operation = preview_rule(rule=cli.rule(organization), actor=cli.actor, operator=cli.operator)
    return _ended(cli, operation, wait=not cli.arguments.no_wait)


def run_rule_now(cli: Cli) -> int:
    organization = cli.organization(Permission.RUN_RULES)
    operation = run_rule(rule=cli.rule(organization), actor=cli.actor, operator=cli.operator)
    return _ended(cli, operation, wait=cli.arguments.wait)


def apply_plan(cli: Cli) -> int:
    preview = cli.operation()
    cli.demand(preview.organization, Permission.RUN_RULES if preview.rule_id else Permission.ACT)
    live = services.apply_preview(
        operation=preview,
        plan_hash=cli.arguments.plan_hash or preview.plan_hash,
        actor=cli.actor,
        operator=cli.operator,
    )
    return _ended(cli, live, wait=cli.arguments.wait)


def undo_run(cli: Cli) -> int:
    operation = services.undo_operation(
        operation=cli.operation(Permission.ACT),
        actor=cli.actor,
        operator=cli.operator,
        account_ids=cli.arguments.account,
    )
    return _ended(cli, operation, wait=cli.arguments.wait)


def retry(cli: Cli) -> int:
    operation = services.retry_failed(operation=cli.operation(Permission.ACT), actor=cli.actor, operator=cli.operator)
    return _ended(cli, operation, wait=cli.arguments.wait)


# --- deciding, steering -----------------------------------------------------------------------------------------------


def approve_plan(cli: Cli) -> int:
    operation = cli.operation(Permission.APPROVE)
    operator = cli.operator
    assert operator is not None  # demand refuses approvals without --as
    plan_hash, count = services.approval_hash(operation)
    password = cli.secret(cli.arguments.password_file) if cli.arguments.password_file else None
    services.approve_operation(
        operation=operation,
        plan_hash=cli.arguments.plan_hash or plan_hash,
        operator=operator,
        actor=cli.actor,
        confirm_count=cli.arguments.confirm_count,
        password=password,
        reason=cli.arguments.reason,
    )
    cli.tell(f"Run #{operation.number} is approved: {count:,} people.")
    return _ended(cli, operation, wait=cli.arguments.wait)


def reject_plan(cli: Cli) -> int:
    operation = cli.operation()
    operator = cli.operator
    if operator is None:
        raise NotAllowed("Rejecting needs a person: --as EMAIL.")
    services.reject_operation(operation=operation, operator=operator, actor=cli.actor, reason=cli.arguments.reason)
    return _shown(cli, operation, DONE)


def pause(cli: Cli) -> int:
    return _shown(cli, services.pause_operation(operation=cli.operation(Permission.ACT), actor=cli.actor), DONE)


def resume(cli: Cli) -> int:
    operation = services.resume_operation(operation=cli.operation(Permission.ACT), actor=cli.actor)
    return _ended(cli, operation, wait=cli.arguments.wait)


def cancel(cli: Cli) -> int:
    return _shown(cli, services.cancel_operation(operation=cli.operation(Permission.ACT), actor=cli.actor), DONE)


# --- showing ----------------------------------------------------------------------------------------------------------


def list_all(cli: Cli) -> int:
    rows = selectors.recent(cli.organization(), max(1, min(cli.arguments.limit, 500)))
    cli.show(OperationSerializer(rows, many=True).data, (_headline(row) for row in rows))
    return DONE


def show_one(cli: Cli) -> int:
    return _shown(cli, cli.operation(), DONE, items=cli.arguments.items)


def wait_for(cli: Cli) -> int:
    return _ended(cli, cli.operation(), wait=True)


def _ended(cli: Cli, operation: Operation, *, wait: bool) -> int:
    """Show the operation, followed to its end with `wait`; the exit code that its status means."""
    if not wait:
        operation.refresh_from_db()
        return _shown(cli, operation, HELD if operation.status == Status.HELD else DONE)
    _follow(cli, operation)
    code = CODES.get(Status(operation.status), HELD if operation.is_open else FAILED)
    return _shown(cli, operation, code)


def _follow(cli: Cli, operation: Operation) -> None:
    """Until the operation ends, is held or paused, or the kill switch keeps it; works where no worker does."""
    shown, idle_since = "", time.monotonic()
    while True:
        operation.refresh_from_db()
        line = _progress(operation)
        if line != shown:
            cli.tell(line)
            shown = line
        if not operation.is_open or operation.status in (Status.HELD, Status.PAUSED):
            return
        if operation.status in Operation.WORKING and _is_killed(operation):
            cli.tell("The kill switch is on: the run goes on once it is released.")
            return
        if operation.driven_at is not None:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > GRACE_SECONDS:
            if operation.status == Status.PLANNING:
                services.run_planning(operation.pk)
            else:
                services.execute_operation(operation.pk, budget_seconds=SLICE_SECONDS)
        time.sleep(POLL_SECONDS)


def _is_killed(operation: Operation) -> bool:
    return Organization.objects.filter(pk=operation.organization_id, kill_switch_at__isnull=False).exists()


def _progress(operation: Operation) -> str:
    if operation.status == Status.PLANNING:
        total = f" {operation.progress_done:,} of {operation.progress_total:,}" if operation.progress_total else ""
        return f"#{operation.number} Planning{total}"
    if operation.status in (Status.PREVIEWED, Status.HELD):
        return f"#{operation.number} {operation.get_status_display()}: {operation.people_count:,} people"
    summary = selectors.run_summary(operation)
    detail = f": {operation.status_detail}" if operation.status_detail else ""
    return f"#{operation.number} {operation.get_status_display()} {summary.done:,} of {summary.total:,}{detail}"


def _headline(operation: Operation) -> str:
    return (
        f"#{operation.number}  {operation.get_mode_display()}  {operation.get_status_display()}  {operation.name}  "
        f"{operation.people_count:,} people  {operation.created_at:%Y-%m-%d %H:%M} UTC"
    )


def _shown(cli: Cli, operation: Operation, code: int, *, items: bool = False) -> int:
    operation = selectors.operation_by_number(operation.organization, operation.number)
    summary = selectors.run_summary(operation)
    data = dict(OperationSerializer(operation, context={"counts": {operation.pk: summary.by_outcome}}).data)
    if items and cli.is_json:
        rows = selectors.items_of(operation)
        data["items"] = ItemSerializer(rows, many=True, context={"now": timezone.now()}).data
    cli.show(data, _lines(operation, summary, items=items))
    if operation.status == Status.HELD and not cli.is_json:
        cli.tell(f"Waits for an approval: script/aum approve --operation {operation.number} --as EMAIL")
    return code


def _lines(operation: Operation, summary: selectors.RunSummary, *, items: bool) -> Iterator[str]:
    yield _headline(operation)
    yield from (reason["sentence"] for reason in operation.held_reasons if operation.status == Status.HELD)
    if operation.status_detail:
        yield operation.status_detail
    if operation.plan_hash:
        yield f"Plan {operation.plan_hash}"
    if summary.by_outcome:
        yield "Outcomes: " + ", ".join(f"{name} {count:,}" for name, count in sorted(summary.by_outcome.items()))
    if operation.left_out:
        left = ", ".join(f"{left_out_label(code)} {count:,}" for code, count in sorted(operation.left_out.items()))
        yield f"Left out: {left}"
    now, limit = timezone.now(), None if items else ITEMS_SHOWN
    if not items and operation.mode != Operation.Mode.SAFE:
        return
    for item in selectors.items_of(operation)[:limit]:
        name = item.account.name if item.account else item.subject
        became = f"  {item.outcome}" if item.outcome else ""
        yield f"  {item.subject}  {name}  {item.action}: {reason_sentence(item.reason, now)}{became}"
    if limit is not None and summary.total > limit:
        command_line = f"script/aum operations show --operation {operation.number} --items"
        yield f"  … and {summary.total - limit:,} more: {command_line}"
