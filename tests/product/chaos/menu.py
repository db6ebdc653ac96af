"""What a trial is made of, chosen by its seed: work under way, what strikes AUM, what Atlassian does wrong."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

LATENCY_MS = 60
WRITES = "/suspend$|/restore$|/lifecycle/|/memberships|/roles/(assign|revoke)"
READS = "users/search"
TICKETS = "/rest/servicedeskapi/request"

# A process of the product and what becomes of it; or something between or beside the processes.
STRIKES: tuple[tuple[str, str], ...] = (
    ("web", "main"),
    ("web", "child"),
    ("worker", "child"),
    ("worker", "main"),
    ("worker", "frozen"),
    ("worker", "mailing"),
    ("runner", "child"),
    ("runner", "writing"),
    ("runner", "main"),
    ("runner", "frozen"),
    ("beat", "main"),
    ("postgres", "main"),
    ("valkey", "main"),
    ("network", "refused"),
    ("network", "silent"),
    ("network", "half"),
    ("queue", "filled"),
    ("queue", "lost"),
    ("clock", "ahead"),
    ("clock", "behind"),
)
# What the pretend Atlassian does wrong, each at most `count` times, so that every trial can end.
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "rate_limit", "style": "retry_after", "seconds": 1, "path": WRITES, "count": 4},
    {"kind": "rate_limit", "style": "reset", "seconds": 1, "path": WRITES, "count": 4},
    {"kind": "rate_limit", "style": "none", "seconds": 1, "path": WRITES, "count": 3},
    {"kind": "rate_limit", "style": "html", "seconds": 1, "path": WRITES, "count": 3},
    {"kind": "rate_limit", "style": "retry_after", "seconds": 1, "path": READS, "count": 3},
    {"kind": "quota", "limit": 40, "window_ms": 1000},
    {"kind": "error", "status": 500, "body": "html", "path": WRITES, "count": 4},
    {"kind": "error", "status": 502, "body": "json", "path": WRITES, "count": 4},
    {"kind": "error", "status": 503, "body": "none", "path": READS, "count": 3},
    {"kind": "error", "status": 503, "body": "json", "retry_after": 1, "path": WRITES, "count": 3},
    {"kind": "reset", "path": WRITES, "count": 4},
    {"kind": "reset", "path": READS, "count": 3},
    {"kind": "reset", "path": TICKETS, "count": 2},
    {"kind": "lost_answer", "how": "close", "path": WRITES, "count": 5},
    {"kind": "lost_answer", "how": "reset", "path": WRITES, "count": 5},
    {"kind": "slow_answer", "ms": 1500, "path": WRITES, "count": 4},
    {"kind": "latency", "ms": 2500, "path": WRITES, "count": 6},
    {"kind": "lag", "ms": 700},
    {"kind": "html", "path": READS, "count": 2},
    {"kind": "html", "path": WRITES, "count": 3},
    {"kind": "malformed", "path": READS, "count": 2},
    {"kind": "malformed", "path": WRITES, "count": 3},
    {"kind": "repeat_page", "path": READS, "count": 4},
    {"kind": "repeat_cursor", "path": READS, "count": 2},
    {"kind": "truncated_list", "keep": 5, "path": READS, "count": 2},
    {"kind": "nulls", "path": READS, "count": 4},
    {"kind": "unknown_enum", "path": READS, "count": 4},
    {"kind": "drop_people", "percent": 20},
    {"kind": "drop_activity", "percent": 60},
)
ACTIONS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    # Action, products, weight.
    ("suspend", (), 5),
    ("deactivate", (), 2),
    ("remove_product_access", ("jira",), 3),
    ("add_to_group", (), 2),
)
# Between two pages of a list, and in a mirror that was just read wrong.
SYNC_FAULTS = frozenset(
    {"repeat_page", "repeat_cursor", "truncated_list", "nulls", "unknown_enum", "drop_people", "drop_activity"}
)


@dataclass
class Choice:
    """What one seed stands for."""

    seed: int
    runs: list[dict[str, Any]] = field(default_factory=list)
    is_undone: bool = False
    has_sync: bool = False
    has_notices: bool = False
    tickets: int = 0
    strikes: list[tuple[str, str]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    # Strike while the plan is being made, too.
    is_early: bool = False
    # Somebody adds a person to the first plan behind AUM's back before it is carried out.
    is_tampered: bool = False

    @classmethod
    def of(cls, seed: int, values: dict[str, Any]) -> Choice:
        """A trial that is written down instead of chosen."""
        strikes = [(service, how) for service, how in values.pop("strikes", [])]
        return cls(seed, strikes=strikes, **values)


def choose(seed: int) -> Choice:
    """The trial of a seed; the same for ever, as long as the menu is the same."""
    rng = random.Random(seed)
    choice = Choice(seed)
    for _ in range(2 if rng.random() < 0.25 else 1):
        action, products, _weight = rng.choices(ACTIONS, [weight for *_, weight in ACTIONS])[0]
        choice.runs.append({"action": action, "products": products, "people": rng.randint(15, 35)})
    choice.is_undone = rng.random() < 0.5
    choice.faults = rng.sample(FAULTS, rng.randint(0, 3))
    is_reading = any(fault["kind"] in SYNC_FAULTS for fault in choice.faults)
    choice.has_sync = rng.random() < (0.9 if is_reading else 0.4)
    choice.has_notices = rng.random() < 0.35
    choice.tickets = rng.randint(4, 9) if rng.random() < 0.5 else 0
    # Each strike in turn, so that a few trials already meet all of them.
    first = STRIKES[seed % len(STRIKES)]
    choice.strikes = [first, *rng.choices(STRIKES, k=rng.randint(0, 2))]
    rng.shuffle(choice.strikes)
    choice.is_early = rng.random() < 0.3
    choice.is_tampered = rng.random() < 0.06
    if ("worker", "mailing") in choice.strikes:
        choice.has_notices = choice.is_early = True
    if choice.is_tampered:
        choice.runs[0] |= {"action": "suspend", "products": ()}
    return choice
