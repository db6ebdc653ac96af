"""The independent checker: plan, outcomes, audit, mirror, mails and events, beside the pretend Atlassian's ledger.

It reads tables and the sandbox's control address, and shares no code with what it judges. A finding starts with the
name of its kind, see KINDS.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

GRACE_MS = 100
KINDS = {
    "lost": "a planned change, an event or a mail without an end",
    "double": "a write that took effect twice, a mail taken twice, an event handled twice",
    "outside": "a write to somebody, or to something, that no plan holds",
    "told to wait": "a request that started while Atlassian had said to wait",
    "unexplained": "an outcome that nobody could find out, or a mail in doubt that nothing explains",
    "untrue": "an outcome that is not what stands in Atlassian",
    "audit": "not exactly one audit row for each item, or a chain that does not verify",
    "mirror": "AUM's picture of the directory is not Atlassian's",
    "stuck": "something that did not end, or pages that did not come back",
}
_STATUS = {"active": 1, "inactive": 2, "closed": 3}
_MEMBERSHIP = {"active": 1, "suspended": 2}

# One thing that can be changed of an account: ("directory", id), ("account",), ("group", id), ("role", resource, role).
Thing = tuple[str, ...]


class Asks(Protocol):
    """What the checker needs of a product."""

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]: ...


@dataclass
class Report:
    """What was found, and the figures of the trial."""

    broken: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    told_by_reading: int = 0
    # Writes that reached Atlassian and changed nothing, because they had taken effect before.
    repeats: int = 0

    def say(self, kind: str, text: str) -> None:
        assert kind in KINDS, kind
        self.broken.append(f"{kind}: {text}")


@dataclass(frozen=True)
class Item:
    """One row of a plan, as it ended."""

    operation: int
    subject: str
    action: str
    target: str
    status: str
    outcome: str
    request_id: str
    parameters: dict[str, Any]

    @property
    def key(self) -> tuple[int, str, str, str]:
        return self.operation, self.subject, self.action, self.target


def items_of(product: Asks, organization: int) -> list[Item]:
    """Every planned item of the organisation, in the order in which they ended."""
    rows = product.query(
        "SELECT operation_id, subject, action, target, status, outcome, atlassian_request_id, parameters "
        "FROM operations_operationitem WHERE organization_id = %s ORDER BY finished_at NULLS LAST, id",
        organization,
    )
    return [Item(*row) for row in rows]


def check_runs(
    report: Report,
    product: Asks,
    organization: int,
    planned: Iterable[tuple[int, str, str, str]],
    before: dict[str, Any],
    after: dict[str, Any],
    ledger: list[dict[str, Any]],
    *,
    repeats_allowed: int = 0,
    is_tampered: bool = False,
) -> None:
    """Every plan against its outcomes, the ledger, Atlassian's state and the audit log.

    `repeats_allowed`: calls that frozen processes may send late, see docs/reliability.md. `is_tampered`: rows were
    added to a plan on purpose; then only what reached Atlassian counts.
    """
    items = items_of(product, organization)
    report.outcomes = dict(Counter(item.outcome or item.status for item in items))
    report.told_by_reading = sum(1 for item in items if item.outcome == "done" and not item.request_id)
    plans = set(planned)
    runs = {key[0] for key in plans}
    if not is_tampered and {item.key for item in items if item.operation in runs} != plans:
        report.say("outside", "a plan changed after it was frozen")
    if unfinished := [item for item in items if item.status != "finished"]:
        report.say("lost", f"{len(unfinished)} items without an outcome")
    if report.outcomes.get("unresolved"):
        report.say("unexplained", f"{report.outcomes['unresolved']} items unresolved")

    entries = [entry for entry in ledger if entry["actor"] != "control"]
    changed = Counter((entry["account"], entry["method"], entry["path"]) for entry in entries if _took_effect(entry))
    allowed = _writes_of_plans(items)
    if twice := [write for write, number in changed.items() if number > max(1, allowed[write[0]])]:
        report.say("double", f"{len(twice)} writes took effect twice, such as {twice[0]}")
    report.repeats = sum(1 for entry in entries if not _took_effect(entry))
    if report.repeats > repeats_allowed:
        report.say("double", f"{report.repeats} writes were sent again after they had taken effect")
    planned_people = {key[1] for key in plans} | {item.subject for item in items if item.operation not in runs}
    if outside := {entry["account"] for entry in entries} - planned_people:
        report.say("outside", f"writes to {len(outside)} people of no plan")

    expected: dict[tuple[str, Thing], Any] = {}
    for item in items:
        if item.outcome == "done":
            for thing, value in _effects(item):
                expected[item.subject, thing] = value
    was, now = dict(_things(before)), dict(_things(after))
    expected = {key: value for key, value in expected.items() if was.get(key) != value}
    moved = {key: now.get(key) for key in was.keys() | now.keys() if was.get(key) != now.get(key)}
    if moved != expected:
        unsaid = [key for key in moved if key not in expected]
        undone = [key for key, value in expected.items() if moved.get(key) != value]
        example = (unsaid or undone or [""])[0]
        report.say("untrue", f"{len(unsaid)} changed unsaid, {len(undone)} said and not so, such as {example}")
    _check_audit(report, product, organization, items)


def _took_effect(entry: dict[str, Any]) -> bool:
    return bool(entry["effect"] == "changed")


def _writes_of_plans(items: Iterable[Item]) -> Counter[str]:
    """How often the plans mean to do the same to somebody: two runs may do and undo it."""
    counts: Counter[tuple[str, str, str]] = Counter(
        (item.subject, item.action, item.target) for item in items if item.outcome not in ("cancelled", "not_attempted")
    )
    most: Counter[str] = Counter()
    for (subject, _action, _target), number in counts.items():
        most[subject] = max(most[subject], number)
    return most


def _effects(item: Item) -> Iterator[tuple[Thing, Any]]:
    """What stands in Atlassian once the item is done."""
    if item.action in ("suspend", "restore"):
        directory = ("directory", item.target.partition(":")[2])
        yield directory, "suspended" if item.action == "suspend" else "active"
    elif item.action in ("deactivate", "activate"):
        yield ("account",), "inactive" if item.action == "deactivate" else "active"
    elif item.action in ("add_to_group", "remove_from_group"):
        yield ("group", item.target.rpartition("/")[2]), True if item.action == "add_to_group" else None
    elif item.action in ("remove_product_access", "grant_product_access"):
        value = True if item.action == "grant_product_access" else None
        for path in item.parameters["paths"]:
            if path["kind"] == "group":
                yield ("group", path["group"]), value
            else:
                yield ("role", path["resource"], path["role"]), value


def _things(state: dict[str, Any]) -> Iterator[tuple[tuple[str, Thing], Any]]:
    for account, one in state.items():
        yield (account, ("account",)), one["account_status"]
        for directory, status in one["directories"].items():
            yield (account, ("directory", directory)), status
        for group in one["groups"]:
            yield (account, ("group", group)), True
        for resource, role in one["direct_roles"]:
            yield (account, ("role", resource, role)), True


def _check_audit(report: Report, product: Asks, organization: int, items: list[Item]) -> None:
    rows = Counter(
        product.query(
            "SELECT operation_id, target_ref, action, after->>'target', after->>'outcome' FROM audit_auditevent "
            "WHERE organization_id = %s AND action LIKE 'account.%%' AND operation_id IS NOT NULL",
            organization,
        )
    )
    # Who was never tried because the run was stopped is told by the one row of the stop.
    wanted = Counter(
        (item.operation, item.subject, f"account.{item.action}", item.target, item.outcome)
        for item in items
        if item.outcome not in ("cancelled", "not_attempted")
    )
    if rows != wanted:
        missing, added = (wanted - rows).total(), (rows - wanted).total()
        report.say("audit", f"{missing} rows missing, {added} rows too many, for {len(items)} items")


def check_waits(report: Report, early: list[dict[str, Any]]) -> None:
    """Requests that the sandbox saw before the time it had named."""
    if early:
        report.say("told to wait", f"{len(early)} requests, such as {early[0]['method']} {early[0]['path']}")


def check_events(report: Report, product: Asks, organization: int, taken: Counter[str]) -> dict[str, int]:
    """Each ticket that was taken is one event with one end, and gives what it gives once; the counts by status."""
    rows = product.query(
        "SELECT id, payload->>'issue_key', status FROM autoactivate_inboundevent WHERE organization_id = %s "
        "AND kind = 'ticket'",
        organization,
    )
    known = Counter(str(key) for _, key, _ in rows)
    if lost := [key for key in taken if not known[key]]:
        report.say("lost", f"{len(lost)} tickets were taken and are not there")
    if twice := [key for key, number in known.items() if number > 1]:
        report.say("double", f"{len(twice)} tickets are two events")
    if unfinished := [key for _, key, status in rows if status in ("received", "working", "waiting")]:
        report.say("lost", f"{len(unfinished)} tickets without an end")
    grants = Counter(
        product.query(
            "SELECT g.account_id, g.rule_id FROM autoactivate_accessgrant g JOIN operations_operation o "
            "ON o.id = g.operation_id WHERE g.organization_id = %s AND o.status = 'succeeded'",
            organization,
        )
    )
    if twice := [grant for grant, number in grants.items() if number > 1]:
        report.say("double", f"{len(twice)} people were given the same by two runs")
    return dict(Counter(status for *_, status in rows))


def check_mails(report: Report, product: Asks, organization: int, taken: list[tuple[str, str]]) -> dict[str, int]:
    """Each notice was taken at most once and is known as what it is; the counts by status."""
    rows = product.query(
        "SELECT message_id, recipient, status FROM notifications_delivery WHERE organization_id = %s", organization
    )
    status = {message_id: state for message_id, _, state in rows if message_id}
    mine = Counter(message_id for _, message_id in taken if message_id in status)
    strangers = {message_id for _, message_id in taken} - set(status)
    if strangers:
        report.say("outside", f"{len(strangers)} mails that no row knows")
    if twice := [message_id for message_id, number in mine.items() if number > 1]:
        report.say("double", f"{len(twice)} mails were taken twice")
    if unsaid := [m for m in mine if status[m] not in ("accepted", "in_doubt")]:
        report.say("untrue", f"{len(unsaid)} mails were taken and count as {status[unsaid[0]]}")
    if untaken := [m for m, state in status.items() if state == "accepted" and not mine[m]]:
        report.say("untrue", f"{len(untaken)} mails count as taken and were not")
    if unfinished := [state for *_, state in rows if state in ("queued", "claimed", "sending")]:
        report.say("lost", f"{len(unfinished)} mails without an end")
    return dict(Counter(state for *_, state in rows))


def check_nobody_vanished(report: Report, product: Asks, organization: int, known: set[str]) -> None:
    """Whatever was read wrong meanwhile: nobody who was known counts as gone."""
    rows = product.query(
        "SELECT account_id FROM users_account WHERE organization_id = %s AND vanished_at IS NOT NULL", organization
    )
    if gone := known & {row[0] for row in rows}:
        report.say("mirror", f"{len(gone)} people count as gone who are there")


def check_mirror(report: Report, product: Asks, organization: int, known: set[str], state: dict[str, Any]) -> None:
    """After a whole sync: everybody who was known at first stands in the mirror as in Atlassian."""
    rows = product.query(
        "SELECT a.account_id, a.account_status, a.vanished_at IS NULL, "
        "ARRAY(SELECT d.directory_id || '=' || m.status FROM users_directorymembership m "
        "      JOIN organizations_directory d ON d.id = m.directory_id WHERE m.account_id = a.id AND m.status < 3), "
        "ARRAY(SELECT g.group_id FROM users_group g WHERE g.id = ANY(a.group_ids)) "
        "FROM users_account a WHERE a.organization_id = %s",
        organization,
    )
    mirror = {account: (status, here, set(places), set(groups)) for account, status, here, places, groups in rows}
    wrong: dict[str, list[str]] = defaultdict(list)
    for account in known:
        one, there = mirror.get(account), state[account]
        if one is None or not one[1]:
            wrong["is missing"].append(account)
            continue
        if one[0] != _STATUS.get(there["account_status"]):
            wrong["has another status"].append(account)
        places = {f"{d}={_MEMBERSHIP[s]}" for d, s in there["directories"].items() if s in _MEMBERSHIP}
        if len(there["directories"]) == 1 and one[2] != places:
            wrong["stands otherwise in the directory"].append(account)
        if one[3] != set(there["groups"]):
            wrong["is in other groups"].append(account)
    for what, accounts in wrong.items():
        report.say("mirror", f"{len(accounts)} people: {what}, such as {accounts[0]}")
