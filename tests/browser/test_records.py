"""Audit, evidence, migration and help in a real browser: last night's cleanup, axe, an evidence pack opened offline."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.dashboard.evidence import stream_evidence
from apps.migrations_mgmt.services import advance
from apps.operators.models import Operator, Role
from apps.organizations.models import Organization
from tests.browser.pages import faults_of, scrolls_sideways, sign_in
from tests.dashboard.test_evidence import make_run

pytestmark = pytest.mark.browser


@pytest.fixture
def acme(transactional_db: None) -> Organization:
    return Organization.objects.create(slug="acme", name="Acme", org_id="acme", api_url="http://localhost")


def test_last_nights_cleanup_is_found_expanded_and_exported_and_the_pages_pass_axe(
    open_page: Callable[..., Page], live_server: LiveServer, acme: Organization, operators: Callable[..., Operator]
) -> None:
    make_run(acme, people=3, outcomes={"done": 3})
    make_run(acme, people=1, number=8, name="Not this one", kind="manual_operation")
    advance()
    page = open_page()
    sign_in(page, operators(acme, "owner@example.com", Role.OWNER), live_server.url)
    page.goto("/o/acme/audit/")

    page.locator("summary", has_text="Operation type").click()
    page.get_by_label("Scheduled Cleanup").check()
    page.wait_for_url("**type=scheduled_cleanup**")
    page.locator("summary", has_text="Status").first.click()
    page.get_by_label("Success", exact=True).check()
    page.wait_for_url("**status=success**")
    row = page.locator("details.oprow")
    expect(row).to_have_count(1)
    row.locator("summary").click()

    expect(row.get_by_role("row", name="557058:0001")).to_contain_text("Suspend")
    page.goto(page.url)
    with page.expect_download() as download:
        page.get_by_role("link", name="Export CSV").click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    assert "person1@example.com" in text
    assert "Not this one" not in text
    faults = {}
    for path in (
        "audit/",
        "audit/?view=detail",
        "audit/cards/total/",
        "audit/verify/",
        "audit/clear/",
        "audit/erase/?q=person",
        "settings/retention/",
        "settings/support/",
        "migration/",
        "help/",
        "help/setup/",
        "help/glossary/",
        "help/docs/audit/",
    ):
        page.goto(f"/o/acme/{path}")
        if found := faults_of(page):
            faults[path] = found
    assert faults == {}
    page.set_viewport_size({"width": 390, "height": 844})
    for path in (
        "audit/",
        "audit/?view=detail",
        "migration/",
        "help/setup/",
        "help/docs/audit/",
        "settings/retention/",
    ):
        page.goto(f"/o/acme/{path}")
        assert not scrolls_sideways(page), path


def test_the_evidence_of_500_opens_offline_and_is_refused_after_one_changed_byte(
    browser: Browser, acme: Organization, tmp_path: Path
) -> None:
    pack = tmp_path / "pack.zip"
    pack.write_bytes(b"".join(stream_evidence(make_run(acme), made_by="Juniper")))
    with zipfile.ZipFile(pack) as archive:
        archive.extractall(tmp_path / "out")
    context = browser.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto((tmp_path / "out" / "index.html").as_uri())

    expect(page.locator("tbody tr")).to_have_count(500)
    assert asked == [(tmp_path / "out" / "index.html").as_uri()]
    small = tmp_path / "small.html"
    with zipfile.ZipFile(
        io.BytesIO(b"".join(stream_evidence(make_run(acme, people=3, number=8), made_by="x")))
    ) as other:
        small.write_bytes(other.read("index.html"))
    page.goto(small.as_uri())
    assert faults_of(page) == []
    context.close()
    page_file = tmp_path / "out" / "outcomes.jsonl"
    answers = []
    for change in (False, True):
        if change:
            page_file.write_bytes(page_file.read_bytes().replace(b'"done"', b'"fone"', 1))
        answers.append(
            subprocess.run(
                [sys.executable, "-I", str(tmp_path / "out" / "verify.py")], capture_output=True, text=True, check=False
            )
        )
    assert [answer.returncode for answer in answers] == [0, 1]
    assert "REFUSED: outcomes.jsonl was changed" in answers[1].stdout
