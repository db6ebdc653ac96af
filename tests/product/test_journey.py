"""From the first-owner link to an undone live run, in a browser, against the demo that `script/server` brings."""

from __future__ import annotations

import contextlib
import copy
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page, Response, expect, sync_playwright
from playwright.sync_api import Error as PageError

from tests.product.harness import Product, wait_for

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PASSWORD = "correct horse battery staple"
PEOPLE = 1248

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its processes in /proc"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here"),
]


class Watched:
    """A page, and everything that went wrong in it: console errors, exceptions, answers of 500 and above."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", self._on_exception)
        page.on("response", self._on_response)

    def _on_console(self, line: ConsoleMessage) -> None:
        if line.type == "error":
            self.faults.append(f"console: {line.text}")

    def _on_exception(self, error: PageError) -> None:
        self.faults.append(f"exception: {error}")

    def _on_response(self, answer: Response) -> None:
        if answer.status >= 500:
            self.faults.append(f"{answer.status}: {answer.url}")


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product() as running:
        yield running


@pytest.fixture
def watched() -> Iterator[Watched]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page()
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        yield Watched(page)
        browser.close()


def writes(product: Product) -> list[dict[str, Any]]:
    """Effective writes that came from outside the control address."""
    entries = product.sandbox.get("ledger")["entries"]
    return [entry for entry in entries if entry["effect"] == "changed" and "/_control/" not in entry["path"]]


def rising(page: Page, part: str, *, until: str, seconds: float) -> list[int]:
    """The values that the progress bar in `part` showed, one after the other, until the text `until` stood there."""
    page.locator(part).wait_for()
    seen: list[int] = []
    deadline = time.monotonic() + seconds
    while True:
        # A plan that begins to run loads its page anew.
        with contextlib.suppress(PageError):
            values = page.locator(f"{part} [role=progressbar]").evaluate_all(
                "bars => bars.map(bar => +bar.getAttribute('aria-valuenow'))"
            )
            seen += [value for value in values if seen[-1:] != [value]]
            if page.locator(part).get_by_text(re.compile(until)).count():
                return seen
        assert time.monotonic() < deadline, f"{until!r} did not come; the bar showed {seen}"
        time.sleep(0.1)


def begin_the_demo(product: Product, page: Page) -> None:
    page.goto(product.first_link)
    page.get_by_label("Name").fill("Ada Owner")
    page.get_by_label(re.compile("mail", re.I)).fill("ada@aum.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create owner").click()
    page.get_by_label(re.compile("I work alone")).check()
    # Slow pages of people, so that the sync's progress can be seen.
    (product.data_dir / "run" / "demo-wanted").touch()
    wait_for(lambda: _sandbox_answers(product), seconds=20, what="the sandbox")
    product.sandbox.post("faults", {"kind": "latency", "ms": 350, "path": "users/search"})
    page.get_by_role("button", name="Start the demo").click()
    page.wait_for_url("**/o/demo/first-sync/", timeout=30_000)


def _sandbox_answers(product: Product) -> bool:
    try:
        return bool(product.sandbox.get("info"))
    except OSError:
        return False


def make_the_rule(product: Product, page: Page) -> None:
    """Suspend, 60 days, protected jira-administrators, in Safe mode; ends at its preview."""
    page.goto(f"{product.url}/o/demo/rules/new/")
    page.get_by_label("Scheduling display name").fill("Idle for 60 days")
    expect(page.get_by_role("radio", name=re.compile("Safe mode"))).to_be_checked()
    page.get_by_role("radio", name=re.compile("Suspend users")).check()
    page.get_by_label("Days inactive threshold").fill("60")
    page.get_by_label("Protected groups: search groups to add").press_sequentially("jira-adm", delay=20)
    page.get_by_role("checkbox", name=re.compile("jira-administrators")).first.check()
    page.get_by_role("button", name="Save and preview").click()
    page.wait_for_url("**/o/demo/runs/*/")
    expect(page.locator("section.sum")).to_be_visible(timeout=20_000)


def shown_people(page: Page) -> dict[str, str]:
    """Address of each person in the preview → the reason that stands beside them; all its pages are read."""
    reasons: dict[str, str] = {}
    while True:
        rows = page.locator("#items tbody tr").evaluate_all(
            """rows => rows.map(row => [row.querySelector('th a').getAttribute('href'),
                                        row.querySelector('[data-label=Why]').innerText.trim()])"""
        )
        reasons |= dict(rows)
        following = page.locator("#items a[rel=next]")
        if not following.count():
            return reasons
        page.goto(page.url.partition("?")[0] + str(following.get_attribute("href")))


def switch_to_live_and_run(product: Product, page: Page, rule: int) -> int:
    """Edit the rule to Live, run it now; the number of the run, which is held."""
    page.goto(f"{product.url}/o/demo/rules/{rule}/edit/")
    page.get_by_role("radio", name=re.compile("Live mode")).check()
    page.locator("aside").get_by_role("button", name="Save rule").click()
    page.wait_for_url(f"{product.url}/o/demo/rules/**")
    page.goto(f"{product.url}/o/demo/rules/")
    own = page.get_by_role("row", name=re.compile("Idle for 60 days"))
    own.get_by_role("button", name=re.compile("Run now")).click()
    page.wait_for_url("**/o/demo/runs/*/")
    expect(page.get_by_text("Held before its first change.")).to_be_visible(timeout=20_000)
    return int(page.url.rstrip("/").rpartition("/")[2])


def confirm(page: Page, count: int, button: str) -> None:
    """Fill the question that is open: the count that it asks for, and the password where it asks for one."""
    field = page.get_by_label(f"Type {count:,}".replace(",", "")).or_(page.get_by_label(f"Type {count:,}")).first
    field.fill(str(count))
    password = page.locator("#dialog input[type=password]")
    if password.count():
        password.fill(PASSWORD)
    page.locator("#dialog").get_by_role("button", name=re.compile(button)).click()


def items(product: Product, number: int) -> list[tuple[str, str, str]]:
    """(account, target, outcome) of each item of a run."""
    return product.query(
        "SELECT i.subject, i.target, i.outcome FROM operations_operationitem i "
        "JOIN operations_operation o ON o.id = i.operation_id WHERE o.number = %s",
        number,
    )


def with_suspended(state: dict[str, Any], done: list[tuple[str, str, str]]) -> dict[str, Any]:
    """`state` as it must be when exactly these (account, directory) were suspended, in what a client can set."""
    expected = copy.deepcopy(state)
    for account, target, _outcome in done:
        expected[account]["directories"][target.removeprefix("directory:")] = "suspended"
    return {account: {**one, "status": None} for account, one in expected.items()}


def without_status(state: dict[str, Any]) -> dict[str, Any]:
    """The organisation's word for a person follows from the directories; these alone are compared."""
    return {account: {**one, "status": None} for account, one in state.items()}


def test_from_the_first_link_to_an_undone_live_run(product: Product, watched: Watched) -> None:
    began = time.monotonic()
    page = watched.page
    begin_the_demo(product, page)
    seen = rising(page, "#setup-sync", until="people read in", seconds=40)
    assert len([value for value in seen if value > 0]) >= 2, f"the sync's progress stood still: {seen}"
    assert seen == sorted(seen)
    expect(page.get_by_text(f"{PEOPLE:,} people read")).to_be_visible()
    sandbox = product.sandbox
    sandbox.post("faults", {"clear": True, "set": []})
    start = sandbox.get("state")

    make_the_rule(product, page)
    preview = int(page.url.rstrip("/").rpartition("/")[2])
    planned = items(product, preview)
    people = {account for account, _target, _outcome in planned}
    reasons = shown_people(page)
    assert len(reasons) == len(people) > 100
    assert all(reasons.values()), "somebody is listed without a reason"
    assert writes(product) == [], "a preview wrote to Atlassian"
    assert sandbox.get("state") == start

    rule = product.query("SELECT id FROM rules_cleanuprule WHERE name = 'Idle for 60 days'")[0][0]
    number = switch_to_live_and_run(product, page, rule)
    assert writes(product) == [], "a held run wrote to Atlassian"
    count = product.query("SELECT people_count FROM operations_operation WHERE number = %s", number)[0][0]
    assert {account for account, _target, _outcome in items(product, number)} == people
    page.get_by_role("link", name=re.compile("Approve")).click()
    confirm(page, count, "Approve")
    seen = rising(page, "#progress", until="Success|Partial failure", seconds=60)
    assert len(seen) >= 3, f"the run's progress stood still: {seen}"
    assert seen == sorted(seen)

    results = items(product, number)
    done = [item for item in results if item[2] == "done"]
    # Lists call a person active who is suspended in one of two directories; only the look before the write tells.
    already = [item for item in results if item[2] == "already_so"]
    assert len(done) + len(already) == len(results), Counter(outcome for _account, _target, outcome in results)
    assert without_status(start) == with_suspended(start, already)
    assert len(done) > 100
    assert without_status(sandbox.get("state")) == with_suspended(start, done)
    rows = product.query(
        "SELECT target_ref, after->>'target', after->>'outcome' FROM audit_auditevent "
        "WHERE operation_number = %s AND action = 'account.suspend'",
        number,
    )
    assert Counter(rows) == Counter(results), "not exactly one audit row for each item"
    page.goto(f"{product.url}/o/demo/audit/")
    expect(page.get_by_text("Idle for 60 days").first).to_be_visible()

    page.goto(f"{product.url}/o/demo/runs/{number}/")
    page.get_by_role("link", name=re.compile("Undo run")).click()
    confirm(page, len({account for account, _target, _outcome in done}), "Undo|Start|Restore")
    page.wait_for_url(lambda url: "/runs/" in url and not url.endswith(f"/runs/{number}/"))
    rising(page, "#progress", until="Success|Partial failure|Held before", seconds=60)
    assert page.get_by_text("Held before").count() == 0
    assert sandbox.get("state") == start, "after the undo something is not as it was"

    assert watched.faults == []
    assert "Traceback" not in product.log()
    assert time.monotonic() - began < 90
