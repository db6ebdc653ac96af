"""The part of Markdown that docs/ is written in, as safe HTML: nothing of the source reaches the page unescaped.

Headings with anchors, paragraphs, lists, code by indent or fence, tables, quotes, bold, italic, code, links.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

# A link's target → the address that the page uses, or None when it leads nowhere inside the product.
Resolve = Callable[[str], str | None]
_INLINE = re.compile(
    r"(?P<code>`+)(?P<inside>.+?)(?P=code)"
    r"|!?\[(?P<label>[^\]]*)\]\((?P<target>[^)\s]+)\)"
    r"|\*\*(?P<bold>.+?)\*\*"
    r"|(?<![\w*])[*_](?P<italic>[^*_\s][^*_]*?)[*_](?![\w*])",
    re.DOTALL,
)
_ITEM = re.compile(r"^(?P<indent> *)(?P<mark>[-*+]|\d+[.)]) +(?P<text>.*)$")
_HEADING = re.compile(r"^(#{1,6}) +(.*?) *#*$")
_RULE = re.compile(r"^ {0,3}([-*_])( *\1){2,} *$")
_DIVIDER = re.compile(r"^\|?[ :|-]+\|[ :|-]*$")


@dataclass(frozen=True)
class Heading:
    """One heading of a page, for its table of contents."""

    level: int
    text: str
    anchor: str


def render(source: str, resolve: Resolve = lambda target: None) -> tuple[str, list[Heading]]:
    """The HTML of `source` and its headings; level 1 is left to the page's own title."""
    lines = source.replace("\r\n", "\n").replace("\t", "    ").split("\n")
    renderer = _Renderer(resolve)
    return renderer.blocks(lines), renderer.headings


def plain(source: str) -> str:
    """The words of `source` without its marks, for searching."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", source)
    return re.sub(r"[`*_#>|]+", " ", text)


class _Renderer:
    def __init__(self, resolve: Resolve) -> None:
        self.resolve = resolve
        self.headings: list[Heading] = []
        self.tables = 0

    def blocks(self, lines: list[str]) -> str:
        """All blocks of `lines`, one after the other."""
        out: list[str] = []
        at = 0
        while at < len(lines):
            line = lines[at]
            if not line.strip():
                at += 1
                continue
            for block in (self.fence, self.heading, self.rule, self.indented, self.quote, self.table, self.list_):
                found = block(lines, at)
                if found is not None:
                    html, at = found
                    out.append(html)
                    break
            else:
                html, at = self.paragraph(lines, at)
                out.append(html)
        return "\n".join(out)

    def fence(self, lines: list[str], at: int) -> tuple[str, int] | None:
        mark = lines[at].lstrip()[:3]
        if mark not in ("```", "~~~"):
            return None
        end = at + 1
        while end < len(lines) and not lines[end].lstrip().startswith(mark):
            end += 1
        return self.code(lines[at + 1 : end]), end + 1

    def indented(self, lines: list[str], at: int) -> tuple[str, int] | None:
        if not lines[at].startswith("    "):
            return None
        end = at
        while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
            end += 1
        body = [line[4:] for line in lines[at:end]]
        while body and not body[-1].strip():
            body.pop()
        return self.code(body), end

    @staticmethod
    def code(lines: list[str]) -> str:
        return f'<pre class="code" tabindex="0"><code>{escape(chr(10).join(lines))}</code></pre>'

    def heading(self, lines: list[str], at: int) -> tuple[str, int] | None:
        found = _HEADING.match(lines[at])
        if not found:
            return None
        level, text = len(found[1]), found[2]
        anchor = re.sub(r"[^a-z0-9]+", "-", plain(text).lower()).strip("-") or "section"
        taken = {heading.anchor for heading in self.headings}
        number, unique = 1, anchor
        while unique in taken:
            number += 1
            unique = f"{anchor}-{number}"
        self.headings.append(Heading(level, plain(text).strip(), unique))
        if level == 1:
            return "", at + 1
        return f'<h{level} id="{unique}">{self.inline(text)}</h{level}>', at + 1

    def rule(self, lines: list[str], at: int) -> tuple[str, int] | None:
        return ("<hr>", at + 1) if _RULE.match(lines[at]) else None

    def quote(self, lines: list[str], at: int) -> tuple[str, int] | None:
        if not lines[at].startswith(">"):
            return None
        end = at
        while end < len(lines) and lines[end].startswith(">"):
            end += 1
        inner = [line[1:].removeprefix(" ") for line in lines[at:end]]
        return f"<blockquote>{self.blocks(inner)}</blockquote>", end

    def table(self, lines: list[str], at: int) -> tuple[str, int] | None:
        if "|" not in lines[at] or at + 1 >= len(lines) or not _DIVIDER.match(lines[at + 1].strip()):
            return None
        head = self.cells(lines[at])
        end = at + 2
        rows = []
        while end < len(lines) and "|" in lines[end] and lines[end].strip():
            rows.append(self.cells(lines[end]))
            end += 1
        heads = "".join(f'<th scope="col">{self.inline(cell)}</th>' if cell.strip() else "<td></td>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{self.inline(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        self.tables += 1
        label = f"Table {self.tables}"
        return f'<div class="table-wrap" tabindex="0" role="region" aria-label="{label}">{table}</div>', end

    @staticmethod
    def cells(line: str) -> list[str]:
        inner = line.strip().removeprefix("|").removesuffix("|").replace(r"\|", "\0")
        return [cell.strip().replace("\0", "|") for cell in inner.split("|")]

    def list_(self, lines: list[str], at: int) -> tuple[str, int] | None:
        first = _ITEM.match(lines[at])
        if not first or len(first["indent"]) > 3:
            return None
        indent, is_ordered = len(first["indent"]), first["mark"][0].isdigit()
        items: list[list[str]] = []
        while at < len(lines):
            found = _ITEM.match(lines[at])
            if found and len(found["indent"]) == indent and found["mark"][0].isdigit() == is_ordered:
                items.append([found["text"]])
            elif not lines[at].strip():
                following = next((line for line in lines[at:] if line.strip()), "")
                if not (following.startswith(" " * (indent + 2)) or _ITEM.match(following)):
                    break
                items[-1].append("")
            elif lines[at].startswith(" " * (indent + 2)) or not (_HEADING.match(lines[at]) or found):
                items[-1].append(lines[at].removeprefix(" " * (indent + 2)))
            else:
                break
            at += 1
        tag = "ol" if is_ordered else "ul"
        rendered = "".join(f"<li>{self.item(item)}</li>" for item in items)
        return f"<{tag}>{rendered}</{tag}>", at

    def item(self, lines: list[str]) -> str:
        html = self.blocks(lines)
        # One paragraph stands without its margins.
        if html.count("<p>") == 1 and html.startswith("<p>"):
            return html.replace("<p>", "", 1).replace("</p>", "", 1)
        return html

    def paragraph(self, lines: list[str], at: int) -> tuple[str, int]:
        end = at + 1
        while end < len(lines) and lines[end].strip() and not self.begins_block(lines[end]):
            end += 1
        return f"<p>{self.inline(' '.join(line.strip() for line in lines[at:end]))}</p>", end

    @staticmethod
    def begins_block(line: str) -> bool:
        return bool(_HEADING.match(line) or _ITEM.match(line) or line.startswith((">", "```", "~~~")))

    def inline(self, text: str) -> str:
        """Text with its marks as HTML; whatever is no mark is escaped."""
        out, at = [], 0
        for found in _INLINE.finditer(text):
            out.append(escape(text[at : found.start()]))
            out.append(self.mark(found))
            at = found.end()
        out.append(escape(text[at:]))
        return "".join(out)

    def mark(self, found: re.Match[str]) -> str:
        if found["code"]:
            return f"<code>{escape(found['inside'].strip())}</code>"
        if found["bold"] is not None:
            return f"<b>{self.inline(found['bold'])}</b>"
        if found["italic"] is not None:
            return f"<i>{self.inline(found['italic'])}</i>"
        label, target = self.inline(found["label"]), found["target"]
        if found[0].startswith("!"):
            return label
        if target.startswith(("http://", "https://")):
            return f'<a href="{escape(target)}" rel="noopener noreferrer">{label}</a>'
        address = self.resolve(target)
        return f'<a href="{escape(address)}">{label}</a>' if address else label
