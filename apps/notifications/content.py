"""What a mail may hold: a closed list of placeholders, a closed list of tags, and how both become HTML and text.

Nothing of an author is ever run: placeholders are replaced by escaped values after the body was sanitised, and the only
element that AUM itself adds is the keep link.
"""

from __future__ import annotations

import difflib
import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from html.parser import HTMLParser

import nh3

from aum.common.errors import InvalidInput

# Stands beside every preview.
SAMPLE_NOTICE = "Placeholders are replaced with sample values."

ALLOWED_TAGS = ("h1", "h2", "h3", "p", "br", "strong", "em", "ul", "ol", "li")
MAX_BODY = 50_000
MAX_SUBJECT = 200
MAX_DEPTH = 60
MAX_TAGS = 1500
# Their content is no text for people: it goes with them.
_CONTENT_GOES = {"script", "style", "iframe", "object", "embed", "noscript", "template", "svg", "math", "title"}


@dataclass(frozen=True)
class Placeholder:
    """A name that a template may hold, what it becomes, and an example."""

    name: str
    label: str
    sample: str
    in_subject: bool = True

    @property
    def token(self) -> str:
        return f"{{{{{self.name}}}}}"


PLACEHOLDERS = {
    entry.name: entry
    for entry in (
        Placeholder("username", "User name", "John Doe"),
        Placeholder("email", "Email", "john.doe@example.com"),
        Placeholder("inactivity_days", "Inactivity days", "23"),
        Placeholder("last_login_date", "Last login date", "2 November 2026"),
        Placeholder("product", "Product", "Jira Software"),
        Placeholder("action", "Action", "suspension of your account"),
        Placeholder("action_date", "Action date", "2 December 2026"),
        Placeholder("rule", "Rule", "Jira idle 30 days"),
        Placeholder("organization", "Organisation", "Example Ltd"),
        Placeholder("keep_access_link", "Keep-access link", "Keep my access", in_subject=False),
    )
}
# Names that people try first.
_SYNONYMS = {
    "user": "username",
    "user_name": "username",
    "name": "username",
    "fullname": "username",
    "display_name": "username",
    "mail": "email",
    "email_address": "email",
    "days": "inactivity_days",
    "days_inactive": "inactivity_days",
    "days_of_inactivity": "inactivity_days",
    "inactive_days": "inactivity_days",
    "last_login": "last_login_date",
    "last_active": "last_login_date",
    "date": "action_date",
    "deadline": "action_date",
    "link": "keep_access_link",
    "keep_link": "keep_access_link",
    "company": "organization",
    "organisation": "organization",
}
_ANY = re.compile(r"\{\{([^{}]{0,200})\}\}")
_NAME = re.compile(r"\s*([a-z_]{1,40})\s*")
_SINGLE = re.compile(r"(?<!\{)\{\s*([a-z_]{1,40})\s*\}(?!\})")
ACTION_WORDS = {
    "suspend": "suspension of your account",
    "deactivate": "deactivation of your account",
    "remove_product_access": "removal of your access",
}


# --- what an author may write -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sanitised:
    """A body with allowed tags only, and in words what was taken out of it."""

    html: str
    removed: tuple[str, ...]


class _Finder(HTMLParser):
    """Names of everything that sanitising takes out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.removed: dict[str, None] = {}
        self.depth = self.deepest = 0
        self.has_markup = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.has_markup = self.has_markup or tag in ALLOWED_TAGS
        if tag not in ("br", "p", "li"):
            self.depth += 1
            self.deepest = max(self.deepest, self.depth)
        if tag not in ALLOWED_TAGS:
            what = f"<{tag[:20]}>" + (" and what is in it" if tag in _CONTENT_GOES else "")
            self.removed[what] = None
        for name, _value in attrs:
            self.removed[f"the attribute {name[:30]}"] = None

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("br", "p", "li"):
            self.depth = max(0, self.depth - 1)

    def handle_comment(self, data: str) -> None:
        self.removed["a comment"] = None

    def handle_decl(self, decl: str) -> None:
        self.removed["<!doctype>"] = None

    def unknown_decl(self, data: str) -> None:
        self.removed["a comment"] = None

    def handle_pi(self, data: str) -> None:
        self.removed["a processing instruction"] = None


def sanitise(body: str) -> Sanitised:
    """`body` with the allowed tags only, tags closed, without attributes. Text without any tag gets paragraphs.

    Raises InvalidInput for a body that is too long or nested too deeply.
    """
    text = "".join(character for character in body if character in "\n\t" or unicodedata.category(character)[0] != "C")
    if len(text) > MAX_BODY:
        raise InvalidInput(fields={"body": [f"Use at most {MAX_BODY:,} characters."]})
    if text.count("<") > MAX_TAGS:
        raise InvalidInput(fields={"body": [f"Use at most {MAX_TAGS:,} tags."]})
    finder = _Finder()
    finder.feed(text)
    finder.close()
    if finder.deepest > MAX_DEPTH:
        raise InvalidInput(fields={"body": [f"The tags are nested more than {MAX_DEPTH} deep. Use a simpler layout."]})
    if not finder.has_markup:
        text = _paragraphs(text)
    return Sanitised(_clean(text).strip(), tuple(finder.removed)[:20])


def _clean(text: str) -> str:
    return nh3.clean(text, tags=set(ALLOWED_TAGS), attributes={}, clean_content_tags=_CONTENT_GOES, strip_comments=True)


def _paragraphs(text: str) -> str:
    """Blank lines begin a paragraph, single ones a new line."""
    parts = [part.strip() for part in re.split(r"\n[ \t]*\n+", text.replace("\r\n", "\n")) if part.strip()]
    return "\n".join(f"<p>{part}</p>".replace("\n", "<br>\n") for part in parts)


def faults_of(text: str, *, is_subject: bool = False) -> list[str]:
    """Sentences about placeholders that do not exist, or not here; empty when all of them can be filled."""
    faults: dict[str, None] = {}
    for match in _ANY.finditer(text):
        name = _NAME.fullmatch(html.unescape(match[1]))
        known = PLACEHOLDERS.get(name[1]) if name else None
        if known is None:
            faults[_unknown(html.unescape(match[1]).strip())] = None
        elif is_subject and not known.in_subject:
            faults[f"{known.token} is a link and does not work in a subject. Put it into the body."] = None
    rest = _ANY.sub("", text)
    if "{{" in rest or "}}" in rest:
        faults["A placeholder is not closed: write two braces before and after its name, such as {{username}}."] = None
    if "{%" in rest or "{#" in rest:
        faults["Commands such as {% … %} do not exist here. Use the placeholders only."] = None
    for match in _SINGLE.finditer(rest):
        if match[1] in PLACEHOLDERS or match[1] in _SYNONYMS:
            near = PLACEHOLDERS[_SYNONYMS.get(match[1], match[1])]
            faults[f"{match[0]} has single braces. Write {near.token}."] = None
    return list(faults)[:5]


def _unknown(name: str) -> str:
    shown = f"{{{{{name[:40]}}}}}"
    nearest = nearest_name(name)
    if nearest:
        return f"There is no placeholder {shown}. Did you mean {PLACEHOLDERS[nearest].token}?"
    return f"There is no placeholder {shown}. Choose one of the list."


def nearest_name(name: str) -> str:
    """The placeholder that an author probably meant; empty when nothing is near."""
    word = re.sub(r"[^a-z]+", "_", name.lower()).strip("_")
    if word in PLACEHOLDERS:
        return word
    if word in _SYNONYMS:
        return _SYNONYMS[word]
    near = difflib.get_close_matches(word, [*PLACEHOLDERS, *_SYNONYMS], n=1, cutoff=0.6)
    return _SYNONYMS.get(near[0], near[0]) if near else ""


def clean_line(text: str, limit: int) -> str:
    """One line for a header: no line breaks, no control characters, no invisible direction marks, cut to `limit`."""
    kept = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    plain = "".join(c for c in kept if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn"))
    return " ".join(plain.split())[:limit].strip()


# --- filling in -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rendered:
    """One mail: its subject, and its body as HTML document and as text."""

    subject: str
    html: str
    text: str


def render(
    *, subject: str, body: str, values: Mapping[str, str], keep_url: str | None, footer: Sequence[str] = ()
) -> Rendered:
    """The mail with `values` filled in. `keep_url` None leaves the link out, and "" shows it without a target.

    Sanitised once more, whatever is stored. Unknown names stay empty: a mail never shows a placeholder.
    """
    fragment = _clean(body)
    label = PLACEHOLDERS["keep_access_link"].sample
    link = ""
    if keep_url is not None:
        target = f' href="{html.escape(keep_url, quote=True)}"' if keep_url else ""
        link = f"<a{target}>{label}</a>"

    def fill(match: re.Match[str]) -> str:
        name = html.unescape(match[1]).strip()
        return link if name == "keep_access_link" else html.escape(_value(values, name), quote=False)

    filled = _ANY.sub(fill, fragment)
    notes = "".join(f"<p>{html.escape(line, quote=False)}</p>" for line in footer)
    line = clean_line(_ANY.sub(lambda match: _value(values, html.unescape(match[1]).strip()), subject), 400)
    return Rendered(line, document(line, filled, notes), to_text(filled + notes))


def _value(values: Mapping[str, str], name: str) -> str:
    return clean_line(values.get(name, ""), 500)


_STYLE = """
body{margin:0;padding:24px 12px;background:#f6f7f9;color:#151a24;
font:16px/1.5 -apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.mail{max-width:600px;margin:0 auto;padding:28px 32px;background:#fff;border:1px solid #dfe3ea;border-radius:10px;
overflow-wrap:anywhere}
h1{font-size:24px;line-height:1.25;margin:0 0 16px}h2{font-size:20px;line-height:1.3;margin:24px 0 12px}
h3{font-size:17px;margin:20px 0 8px}p{margin:0 0 14px}ul,ol{margin:0 0 14px;padding-left:24px}li{margin:0 0 4px}
a{color:#3a3fc0;font-weight:600}.note{max-width:600px;margin:16px auto 0;color:#5c6678;font-size:13px}
.note p{margin:0 0 4px}
@media (prefers-color-scheme:dark){body{background:#0e1117;color:#edf0f6}
.mail{background:#161a22;border-color:#2a313d}a{color:#a8adff}.note{color:#97a1b3}}
""".strip()


def document(subject: str, fragment: str, notes: str = "") -> str:
    """The whole HTML document of a mail."""
    below = f'<div class="note">{notes}</div>' if notes else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(subject, quote=False)}</title><style>{_STYLE}</style></head>"
        f'<body><div class="mail">{fragment}</div>{below}</body></html>'
    )


class _Text(HTMLParser):
    """HTML of ours as plain text: paragraphs, lists with marks, links with their address."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.lists: list[int | None] = []
        self.href = ""

    def _break(self, lines: int) -> None:
        while self.parts and not self.parts[-1].strip("\n "):
            self.parts.pop()
        if self.parts:
            self.parts.append("\n" * lines)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            self.parts.append("\n")
        elif tag in ("p", "h1", "h2", "h3"):
            if not (self.parts and self.parts[-1].endswith((" - ", ". "))):
                self._break(2)
        elif tag in ("ul", "ol"):
            self._break(1 if self.lists else 2)
            self.lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._break(1)
            mark = "- "
            if self.lists and self.lists[-1] is not None:
                self.lists[-1] += 1
                mark = f"{self.lists[-1]}. "
            self.parts.append("  " * max(0, len(self.lists) - 1) + mark)
        elif tag == "a":
            self.href = dict(attrs).get("href") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self.href:
            self.parts.append(f" <{self.href}>")
            self.href = ""
        elif tag in ("p", "h1", "h2", "h3"):
            self._break(2)
        elif tag in ("ul", "ol"):
            if self.lists:
                self.lists.pop()
            self._break(1 if self.lists else 2)

    def handle_data(self, data: str) -> None:
        text = re.sub(r"\s+", " ", data)
        if text.strip() or (self.parts and not self.parts[-1].endswith(("\n", " "))):
            self.parts.append(text.lstrip() if not self.parts or self.parts[-1].endswith("\n") else text)


def to_text(fragment: str) -> str:
    """The same words without markup, for readers that show no HTML."""
    reader = _Text()
    reader.feed(fragment)
    reader.close()
    text = "".join(reader.parts)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"


def day_text(day: date | datetime) -> str:
    """`2 December 2026`."""
    return f"{day.day} {day:%B %Y}"


def sample_values(*, days: int, organization: str, now: datetime, event: str = "") -> dict[str, str]:
    """Values for previews: John Doe, idle for as long as the template's own days; the action is what it is about."""
    return {name: entry.sample for name, entry in PLACEHOLDERS.items()} | {
        "inactivity_days": str(days),
        "last_login_date": day_text(now - timedelta(days=days)),
        "action_date": day_text(now + timedelta(days=7)),
        "organization": organization,
        "action": ACTION_WORDS.get(event, ACTION_WORDS["suspend"]),
    }


# --- what an organisation starts with ---------------------------------------------------------------------------------

_LINES = """<h1>Your account has not been used for a while</h1>
<p>Dear {{{{username}}}},</p>
<p>your last login to {{{{product}}}} at {{{{organization}}}} was on {{{{last_login_date}}}},
{{{{inactivity_days}}}} days ago. {why}</p>
<p><strong>Without a login, the {{{{action}}}} follows on {{{{action_date}}}}.</strong></p>
<p>What you can do:</p>
<ul>
<li>Log in before that date, and nothing happens.</li>
<li>If you need your access but cannot log in now: {{{{keep_access_link}}}}.</li>
</ul>
<p>{after}</p>"""
DEFAULTS: tuple[tuple[str, str, str, str], ...] = (
    # event, name, subject, body
    (
        "suspend",
        "Suspension notice",
        "Your account will be suspended on {{action_date}}",
        _LINES.format(
            why="Licences that nobody uses are given to people who need them.",
            after="A suspended account keeps its groups and roles and can be restored. Nothing is deleted.",
        ),
    ),
    (
        "deactivate",
        "Deactivation notice",
        "Your account will be deactivated on {{action_date}}",
        _LINES.format(
            why="Accounts that nobody uses are deactivated.",
            after="A deactivated account cannot log in until an administrator activates it. Nothing is deleted.",
        ),
    ),
    (
        "remove_product_access",
        "Product access notice",
        "Your access to {{product}} ends on {{action_date}}",
        _LINES.format(
            why="Licences that nobody uses are given to people who need them.",
            after="Only your access to {{product}} ends. Your account and your other products stay as they are.",
        ),
    ),
)
