"""Give and take in the running product: what was given back stays given, and nobody loses more than was meant (P4)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.product.harness import Product, SandboxProcess, wait_for

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its processes in /proc"),
    # tests/operations tries the same through the services in every run.
    pytest.mark.slow,
]

OVER = ("previewed", "succeeded", "partial_failure", "failed", "no_effect", "held", "cancelled")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(people=250, seed=11) as running:
        yield running


@pytest.fixture(scope="module")
def product(sandbox: SandboxProcess) -> Iterator[Product]:
    with Product(ATLASSIAN_SITE_ALLOWLIST="127.0.0.1") as running:
        running.arrange(
            "connect",
            url=sandbox.url,
            slug="give",
            settings={"max_count": 240, "max_share_percent": 95, "max_per_day": 2000, "snooze_days": 30},
        )
        yield running


@pytest.fixture(autouse=True)
def _long_ago(product: Product) -> None:
    """What the test before gave is long over."""
    days_pass(product, 400)


def days_pass(product: Product, days: float) -> None:
    """Move what AUM knows of giving into the past: first sights of grants, the idle clock's start, snoozes."""
    moved = product.query(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND (table_name, column_name) IN (('users_account', 'exempt_until'), ('users_account', 'idle_floor_at'), "
        "('users_exemption', 'starts_at'), ('users_exemption', 'until')) "
        "OR table_name LIKE 'users!_%%' ESCAPE '!' AND column_name LIKE '%%granted_seen_at'"
    )
    assert len(moved) > 5
    for table, column in moved:
        product.change(f"UPDATE {table} SET {column} = {column} - interval '{days} days'")


def account(product: Product, name: str) -> str:
    return str(product.query("SELECT account_id FROM users_account WHERE name = %s", name)[0][0])


def end(product: Product, operation: int) -> str:
    """How an operation ended."""
    return str(
        wait_for(
            lambda: [
                word
                for (word,) in product.query("SELECT status FROM operations_operation WHERE id = %s", operation)
                if word in OVER
            ],
            seconds=60,
            what=f"the end of operation {operation}",
        )[0]
    )


def run(product: Product, what: str = "start", **values: Any) -> int:
    """Start an operation and see it end well."""
    operation = int(product.arrange(what, **values)["operation"])
    assert end(product, operation) in ("succeeded", "previewed", "no_effect")
    return operation


def subjects(product: Product, operation: int, outcome: str = "%") -> set[str]:
    rows = product.query(
        "SELECT subject FROM operations_operationitem WHERE operation_id = %s AND outcome LIKE %s", operation, outcome
    )
    return {subject for (subject,) in rows}


def left_out(product: Product, operation: int, who: str) -> tuple[str, str]:
    """(reason, detail) for which a person is left out of a plan."""
    reason, detail = product.query(
        "SELECT l.reason, l.detail FROM operations_leftout l JOIN users_account a ON a.id = l.account_id "
        "WHERE l.operation_id = %s AND a.account_id = %s",
        operation,
        who,
    )[0]
    return str(reason), str(detail)


def test_who_was_given_back_is_left_alone_for_the_snooze_and_taken_again_after_it(product: Product) -> None:
    taken = run(product, slug="give")
    people = subjects(product, taken, "done")
    assert len(people) > 20
    run(product, "undo", operation=taken)

    tonight = run(product, slug="give", mode="safe")

    assert not subjects(product, tonight) & people
    # The last hours of the 30 days, then the days after: the idle clock starts anew when the snooze ends.
    days_pass(product, 29.9)
    assert not subjects(product, run(product, slug="give", mode="safe")) & people
    days_pass(product, 55)
    assert not subjects(product, run(product, slug="give", mode="safe")) & people
    days_pass(product, 10)
    assert subjects(product, run(product, slug="give", mode="safe")) >= people


def test_who_was_given_a_product_today_keeps_it_though_never_active(product: Product, sandbox: SandboxProcess) -> None:
    who = account(product, "No Licence")
    sandbox.control.post("mutate", {"account": who, "add_group": "jira-users-larkspur"})
    product.arrange("sync", slug="give")

    plan: dict[str, Any] = {"slug": "give", "mode": "safe", "action": "remove_product_access", "products": ["jira"]}
    assert who not in subjects(product, run(product, **plan))

    days_pass(product, 63)
    assert who in subjects(product, run(product, **plan))


def test_a_group_that_also_grants_something_else_is_not_left(product: Product) -> None:
    who = account(product, "Two Products One Group")

    preview = run(product, slug="give", mode="safe", action="remove_product_access", products=["jira"], accounts=[who])

    assert subjects(product, preview) == set()
    reason, detail = left_out(product, preview, who)
    assert (reason, "engineering-suite" in detail) == ("shared_group", True), detail


def test_another_path_to_the_seat_is_named_and_nothing_is_half_done(product: Product, sandbox: SandboxProcess) -> None:
    """A path that somebody made after the plan: leaving the planned ones would free no seat."""
    who = account(product, "Direct And Group")
    preview = run(product, slug="give", mode="safe", action="remove_product_access", products=["jira"], accounts=[who])
    assert subjects(product, preview) == {who}
    sandbox.control.post("mutate", {"account": who, "add_group": "engineering-suite"})
    before = sandbox.control.get("state")

    live = run(product, "apply", operation=preview)

    rows = product.query("SELECT outcome, detail FROM operations_operationitem WHERE operation_id = %s", live)
    assert {outcome for outcome, _detail in rows} == {"no_effect_seat_kept"}
    assert "engineering-suite" in rows[0][1]
    assert sandbox.control.get("state") == before
