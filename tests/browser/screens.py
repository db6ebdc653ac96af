"""`script/screens`: pictures of every page of a running demo, wide and narrow, light and dark; and what axe says.

    AUM_SCREENS_PASSWORD=… script/screens --url http://localhost:8000 --email ada@example.com [--check]

Pages are found by following the links of the demo from its dashboard, one for each kind of address, so that a new page
has its picture without being listed anywhere. With `--check` nothing is drawn: each page is tried with axe and for
scrolling sideways, and the command ends with 1 when something was found. Only GET requests are made.
"""

from __future__ import annotations

import argparse
import base64
import html
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "docs" / "screens"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WIDTHS = {1440: 900, 390: 844}
THEMES = ("light", "dark")
# A longer page is cut here: what follows are more rows of the same kind.
MOST_PIXELS_HIGH = 2600
LARGEST_BYTES = 200_000
QUALITIES = (72, 55, 40, 25)
# Views of a page that its address alone does not show; {…} is the first such link that was found.
STATES = ("{org}audit/?view=detail", "{org}users/?user={user}", "{org}rules/new/?action=remove_product_access")
# Files, and pages that show one thing after another of the same kind.
_NO_PAGE = re.compile(
    r"(\.csv|\.xlsx|\.zip|\.md|/export/|/evidence/|/timeline/|/logout/|/archives/|/admin/|/api/schema/|/example)"
)
_SAME = (
    (re.compile(r"/help/docs/.+/$"), "/help/docs/*/"),
    (re.compile(r"/audit/cards/[a-z]+/"), "/audit/cards/*/"),
    (re.compile(r"/insights/[a-z_]+/(\w+/)?$"), r"/insights/*/\1"),
    (re.compile(r"\d+"), "0"),
)


@dataclass(frozen=True)
class Screen:
    """A page: the name of its pictures, and its address."""

    name: str
    path: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/screens", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://localhost:8000", help="of a running AUM with a demo")
    parser.add_argument("--email", required=True, help="of an owner without a second factor")
    parser.add_argument("--organization", default="demo", help="slug (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="run axe over the pages instead of drawing them")
    parser.add_argument("--only", default="", help="names of pages that hold this text")
    parser.add_argument("--width", type=int, action="append", choices=list(WIDTHS), help="both when none is given")
    parser.add_argument("--theme", action="append", choices=list(THEMES), help="both when none is given")
    given = parser.parse_args()
    password = os.environ.get("AUM_SCREENS_PASSWORD", "")
    if not password:
        parser.error("set AUM_SCREENS_PASSWORD")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        state = sign_in(browser, given.url, given.email, password)
        screens = [*find(browser, given.url, state, f"/o/{given.organization}/"), Screen("login", "/login/")]
        screens = [screen for screen in screens if given.only in screen.name]
        print(f"{len(screens)} pages", flush=True)
        looks = [(width, theme) for theme in given.theme or THEMES for width in given.width or WIDTHS]
        if given.check:
            return check(browser, given.url, state, screens, looks)
        draw(browser, given.url, state, screens, looks)
        if not given.only:
            write_index(screens)
    return 0


def sign_in(browser: Browser, url: str, email: str, password: str) -> str:
    """The cookies of `email`, signed in through the form, as a file that contexts read."""
    context = browser.new_context(base_url=url)
    page = context.new_page()
    page.goto("/login/")
    page.get_by_label("Email", exact=False).first.fill(email)
    page.get_by_label("Password").first.fill(password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "/login/" not in address)
    path = ROOT / "var" / "screens-state.json"
    path.parent.mkdir(exist_ok=True)
    context.storage_state(path=str(path))
    context.close()
    return str(path)


def find(browser: Browser, url: str, state: str, start: str) -> Iterator[Screen]:
    """Every kind of page that links lead to, breadth first, then the states."""
    context = browser.new_context(base_url=url, storage_state=state)
    known: dict[str, str] = {}
    wanted = [start, "/me/"]
    first_user = ""
    while wanted:
        path = wanted.pop(0)
        kind = kind_of(path)
        if kind in known or _NO_PAGE.search(path):
            continue
        answer = context.request.get(path, max_redirects=0, timeout=120_000)
        known[kind] = path
        if answer.status != 200 or "text/html" not in answer.headers.get("content-type", ""):
            continue
        first_user = first_user or (found[1] if (found := re.search(r"/users/(\d+)/$", path)) else "")
        yield Screen(name_of(path, start), path)
        for link in re.findall(r'<a\b[^>]*?\bhref="([^"#]+)', answer.text()):
            target = urlsplit(urljoin(url + path, html.unescape(link)))
            if target.netloc == urlsplit(url).netloc and target.path.startswith((start, "/me/")):
                wanted.append(target.path)
    for text in STATES:
        if "{user}" not in text or first_user:
            path = text.format(org=start, user=first_user)
            yield Screen(name_of(path, start), path)
    context.close()


def kind_of(path: str) -> str:
    """Addresses of one kind have one picture."""
    for pattern, same in _SAME:
        path = pattern.sub(same, path)
    return path


def name_of(path: str, start: str) -> str:
    """`/o/demo/rules/12/edit/` as `rules-edit`."""
    text = path.removeprefix(start).removeprefix("/") or "dashboard"
    text = re.sub(r"[0-9]+", "one" if text.endswith("/") else "", text)
    return re.sub(r"[^a-z]+", "-", text.lower().replace("/one/", "-one-")).strip("-")


def opened(browser: Browser, url: str, state: str, width: int, theme: str) -> BrowserContext:
    return browser.new_context(
        base_url=url,
        storage_state=state,
        viewport={"width": width, "height": WIDTHS[width]},
        color_scheme="dark" if theme == "dark" else "light",
        reduced_motion="reduce",
    )


Looks = list[tuple[int, str]]


def draw(browser: Browser, url: str, state: str, screens: list[Screen], looks: Looks) -> None:
    """A WebP each, below LARGEST_BYTES."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for width, theme in looks:
        context = opened(browser, url, state, width, theme)
        for screen in screens:
            if screen.name == "login":
                context.clear_cookies()
            page = context.new_page()
            open_at(page, screen.path)
            data = picture(page, width)
            (FOLDER / f"{screen.name}-{width}-{theme}.webp").write_bytes(data)
            page.close()
        context.close()
        print(f"{theme}, {width} px: {len(screens)} pictures", flush=True)


def open_at(page: Page, path: str) -> None:
    """The page once what it fetches by itself has arrived."""
    page.goto(path, timeout=120_000)
    page.wait_for_timeout(300)


def picture(page: Page, width: int) -> bytes:
    """The whole page down to MOST_PIXELS_HIGH."""
    height = min(int(page.evaluate("document.documentElement.scrollHeight")), MOST_PIXELS_HIGH)
    height = max(height, WIDTHS[width])
    page.set_viewport_size({"width": width, "height": height})
    session = page.context.new_cdp_session(page)
    data = b""
    for quality in QUALITIES:
        answer = session.send("Page.captureScreenshot", {"format": "webp", "quality": quality})
        data = base64.b64decode(answer["data"])
        if len(data) < LARGEST_BYTES:
            break
    return data


def check(browser: Browser, url: str, state: str, screens: list[Screen], looks: Looks) -> int:
    """What axe finds, and pages that scroll sideways; 1 when there is any."""
    from axe_playwright_python.sync_playwright import Axe

    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    faults = 0
    for width, theme in looks:
        context = opened(browser, url, state, width, theme)
        page = context.new_page()
        for screen in screens:
            if screen.name == "login":
                context.clear_cookies()
            open_at(page, screen.path)
            found = Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}})
            lines = [
                f"{violation['id']}: {node['html'][:150]}"
                for violation in found.response["violations"]
                for node in violation["nodes"][:2]
            ]
            if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                lines.append("scrolls sideways")
            for line in lines:
                print(f"{screen.path} ({width}, {theme}): {line}", flush=True)
            faults += len(lines)
        context.close()
        print(f"{theme}, {width} px: {len(screens)} pages tried", flush=True)
    print(f"{faults} findings")
    return int(bool(faults))


def write_index(screens: list[Screen]) -> None:
    """docs/screens/README.md: each page with its four pictures."""
    lines = [
        "# Screens",
        "",
        "Every page of the demo organisation at 1440 and 390 px, light and dark. Its people are fictional. Made by",
        "`script/screens`, which follows the links of a running demo and draws a page of each kind; long ones are cut.",
        "",
        "| Page | 1440 px | 390 px |",
        "|---|---|---|",
    ]
    for screen in sorted(screens, key=lambda screen: (screen.name != "dashboard", screen.name)):
        cells = (" · ".join(f"[{theme}]({screen.name}-{width}-{theme}.webp)" for theme in THEMES) for width in WIDTHS)
        lines.append(f"| {screen.name.replace('-', ' ')} | {' | '.join(cells)} |")
    shown = [screen.name for screen in screens]
    for name in ("dashboard", "users", "rules", "audit", "savings"):
        if name in shown:
            lines += ["", f"## {name.capitalize()}", "", f"![{name}]({name}-1440-light.webp)"]
    (FOLDER / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
