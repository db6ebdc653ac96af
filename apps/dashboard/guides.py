"""Help & Guides: the setup guide with ticks from real state, the glossary, and the documents of docs/."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from pathlib import Path

from django.conf import settings
from django.urls import reverse

from apps.autoactivate.selectors import active_count
from apps.dashboard.markdown import Heading, plain, render
from apps.notifications.selectors import mail_state
from apps.operations.models import Operation
from apps.operators.models import Grant
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.organizations.selectors import connection_state
from apps.rules.models import CleanupRule
from apps.users.models import ProtectedGroup
from apps.users.selectors import latest_merged_sync

DOCS = Path(settings.BASE_DIR) / "docs"
# For who works on AUM, not for who works with it.
_NOT_HELP = ("PLAN", "screens/")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Module:
    """One module of the setup guide. `is_done` is None where there is nothing to tick."""

    key: str
    title: str
    is_done: bool | None
    state: str
    url: str
    action: str
    permission: str
    doc: str


def modules(organization: Organization) -> list[Module]:
    """The modules in the order in which they are done, with what this organisation has done already."""

    def page(name: str) -> str:
        return reverse(name, args=[organization.slug])

    state = connection_state(organization)
    sync = latest_merged_sync(organization)
    rules = CleanupRule.objects.of(organization).filter(deleted_at__isnull=True)
    live = Operation.objects.of(organization).filter(mode=Operation.Mode.LIVE, started_at__isnull=False)
    people = Grant.objects.filter(organization=organization).values("operator").distinct().count()
    groups = ProtectedGroup.objects.of(organization).count()
    own, edit = Permission.SETTINGS, Permission.RULES
    found = [
        Module("prerequisites", "Before you begin", state.is_usable, "", "", "", "", "deploy"),
        Module(
            "credentials",
            "API token and API key",
            state.is_usable,
            "Both secrets work." if state.is_usable else "The connection is not usable yet.",
            page("organizations:connection"),
            "Organisation connection",
            own,
            "",
        ),
        Module(
            "sync",
            "First sync",
            sync is not None,
            f"Last read {sync.finished_at:%Y-%m-%d %H:%M} UTC."
            if sync and sync.finished_at
            else "Nothing is read yet.",
            page("dashboard:dashboard"),
            "Dashboard",
            "",
            "",
        ),
        Module(
            "groups",
            "Protected groups",
            groups > 0,
            f"{groups} protected." if groups else "No group is protected yet.",
            page("organizations:groups"),
            "Protected groups",
            own,
            "safeguards",
        ),
        Module(
            "rule",
            "First rule, in Safe mode",
            rules.exists(),
            f"{rules.count()} rules." if rules.exists() else "No rule yet.",
            page("rules:list"),
            "Scheduler & Cleanup",
            edit,
            "rules",
        ),
        Module(
            "live",
            "First run, and its undo",
            live.exists(),
            "A run has acted." if live.exists() else "Nothing has acted yet.",
            page("operations:approvals"),
            "Approvals",
            "",
            "safeguards",
        ),
    ]
    mail = mail_state(organization)
    active = active_count(organization)
    found += [
        Module(
            "emails",
            "E-mail notifications",
            mail.is_ready,
            f"{mail.label}." if mail.is_ready else mail.detail,
            page("notifications:list"),
            "Email Notifications",
            edit,
            "notifications",
        ),
        Module(
            "activation",
            "Jira automation and activation",
            active > 0,
            f"{active} active." if active else "No assignment rule is active yet.",
            page("autoactivate:list"),
            "Auto-Activate Users",
            edit,
            "activation",
        ),
        Module(
            "people",
            "Users of AUM",
            people > 1,
            f"{people} {'person has' if people == 1 else 'people have'} a role here."
            + ("" if people > 1 else " A second person can approve what you start."),
            page("operators:people"),
            "People and roles",
            Permission.OWN,
            "people",
        ),
    ]
    return found


@dataclass(frozen=True)
class Verb:
    """One way of taking access away, and what it does."""

    name: str
    who: str
    access: str
    bill: str
    data: str
    back: str


VERBS = (
    Verb(
        "Suspend",
        "Everybody, managed or external",
        "Lost at once, on every site of the organisation. The account itself stays and works elsewhere.",
        "No licence is counted while the person is suspended.",
        "Everything stays: issues, pages, comments, group memberships.",
        "Restore, at any time. Groups and products are as before.",
    ),
    Verb(
        "Deactivate",
        "Managed accounts only",
        "The account is closed everywhere, for other organisations as well.",
        "No licence is counted for any product.",
        "Everything stays, with the person’s name.",
        "Activate, at any time. Groups and products are as before.",
    ),
    Verb(
        "Remove product access",
        "Everybody, managed or external",
        "Lost for the chosen products and sites; the person can still sign in to the others.",
        "The licences of these products end.",
        "Everything stays. The groups that gave the access are left.",
        "Undo of the run gives back exactly these groups and roles.",
    ),
    Verb(
        "Remove from directory",
        "Everybody who is not managed here",
        "The membership ends with all groups and products.",
        "No licence is counted.",
        "What the person made stays. Group memberships are forgotten by Atlassian.",
        "Only a new invitation. AUM says so before it acts.",
    ),
    Verb(
        "Delete",
        "Managed accounts only",
        "Closed at once, and gone for good after 14 days.",
        "No licence is counted.",
        "What the person made stays under a neutral name; personal data is erased by Atlassian.",
        "Cancel within 14 days. After that there is no way back.",
    ),
)


@dataclass(frozen=True)
class Doc:
    """One document of docs/: its title, its HTML (safe), and its headings."""

    name: str
    title: str
    html: str
    headings: tuple[Heading, ...]
    words: str
    about: str


@dataclass(frozen=True)
class Found:
    """A document that holds the words, with where they stand."""

    name: str
    title: str
    excerpt: str


def doc_names() -> list[str]:
    """Names of all documents: `rules`, `decisions/0005-audit-chain`; the index first."""
    names = [path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")]
    names = [name for name in names if not name.startswith(_NOT_HELP)]
    return sorted(names, key=lambda name: (name != "README", "/" in name, name.lower()))


def doc(name: str, base: str) -> Doc | None:
    """The document `name` with links below the address `base`; None when there is none."""
    if not _NAME.fullmatch(name) or name.startswith(_NOT_HELP) or not (DOCS / f"{name}.md").is_file():
        return None
    path = DOCS / f"{name}.md"
    return _doc(name, base, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _doc(name: str, base: str, changed_ns: int) -> Doc:
    source = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    folder = (DOCS / name).parent

    def resolve(target: str) -> str | None:
        path, _, anchor = target.partition("#")
        if not path:
            return f"#{anchor}"
        wanted = (folder / path).resolve()
        if wanted.suffix != ".md" or not wanted.is_relative_to(DOCS.resolve()) or not wanted.is_file():
            return None
        found = wanted.relative_to(DOCS.resolve()).with_suffix("").as_posix()
        if found.startswith(_NOT_HELP):
            return None
        address = f"{base}{found}/"
        return f"{address}#{anchor}" if anchor else address

    html, headings = render(source, resolve)
    title = next((heading.text for heading in headings if heading.level == 1), name)
    return Doc(name, title, html, tuple(headings), " ".join(plain(source).split()), _about(html))


def _about(html: str) -> str:
    """The first sentence of a document, at most 160 characters."""
    first = re.search(r"<p>(.*?)</p>", html, re.DOTALL)
    text = " ".join(unescape(re.sub(r"<[^>]+>", "", first[1])).split()) if first else ""
    sentence = re.split(r"(?<=[.!?:]) ", text)[0].rstrip(":")
    return sentence if len(sentence) <= 160 else sentence[:159].rsplit(" ", 1)[0] + "…"


def search_docs(text: str, base: str) -> list[Found]:
    """Documents that hold every word of `text`, the ones that say it in their title first."""
    words = [word.lower() for word in text.split()][:8]
    found: list[tuple[int, Found]] = []
    for name in doc_names():
        document = doc(name, base)
        if document is None or not words or not all(word in document.words.lower() for word in words):
            continue
        in_title = all(word in document.title.lower() for word in words)
        found.append((0 if in_title else 1, Found(name, document.title, _excerpt(document.words, words[0]))))
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def _excerpt(text: str, word: str, around: int = 110) -> str:
    place = text.lower().find(word)
    start, end = max(0, place - around), place + around
    return ("…" if start else "") + text[start:end].strip() + ("…" if end < len(text) else "")
