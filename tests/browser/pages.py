"""Helpers of the browser journeys: signing in, watching for faults, checking what axe and a narrow screen see."""

from __future__ import annotations

import time

from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from playwright.sync_api import ConsoleMessage, Page, expect

from apps.operators.models import Operator

# Answers that a journey provokes on purpose; the browser logs each as an error.
EXPECTED = ("status of 401", "status of 403", "status of 404", "status of 409", "status of 422")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RULES = {"runOnly": {"type": "tag", "values": TAGS}}


def watch(page: Page, faults: list[str]) -> None:
    """Collect what the page logs as an error and what its script raises."""

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(known in message.text for known in EXPECTED):
            faults.append(f"{page.url}: {message.text}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))


def sign_in(page: Page, operator: Operator, base_url: str) -> None:
    """Give the page's context a session of `operator`, without going through the form."""
    session = SessionStore()
    session[SESSION_KEY] = str(operator.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = operator.get_session_auth_hash()
    session["account_authentication_methods"] = [{"method": "password", "at": time.time()}]
    session["account_authentication_methods_user"] = str(operator.pk)
    session.save()
    assert session.session_key
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session.session_key, "url": base_url}])


def faults_of(page: Page) -> list[str]:
    """What axe finds on the page once nothing is being fetched for it, one line each.

    A list is dimmed while it is fetched anew, which may begin while axe looks: then a second look finds nothing.
    """
    faults: list[str] = []
    for _look in range(3):
        expect(page.locator(".htmx-request, .htmx-swapping, .htmx-settling")).to_have_count(0)
        found = Axe().run(page, options=RULES)
        faults = [
            f"{violation['id']}: {node['html'][:160]}"
            for violation in found.response["violations"]
            for node in violation["nodes"]
        ]
        if not faults:
            break
        page.wait_for_timeout(400)
    return faults


def scrolls_sideways(page: Page) -> bool:
    """True when the page as a whole is wider than its window; regions of their own may scroll."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
