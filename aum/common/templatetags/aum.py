"""Template tags and filters of every page; settings make them builtin, so no template loads them."""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django import template
from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple, Form, RadioSelect
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from aum.common.templatetags.icons import ICONS

register = template.Library()

# name → (class, icon, word): one look for each state, wherever it is shown.
BADGES: dict[str, tuple[str, str, str]] = {
    "success": ("ok", "check", "Success"),
    "failed": ("danger", "x", "Failed"),
    "partial": ("warn", "warning", "Partial failure"),
    "warning": ("warn", "warning", "Warning"),
    "progress": ("info", "hourglass", "In progress"),
    "skipped": ("", "minus", "Skipped"),
    "waiting": ("warn", "hourglass", "Waiting"),
    "active": ("ok", "check", "Active"),
    "suspended": ("warn", "pause", "Suspended"),
    "deactivated": ("", "ban", "Deactivated"),
    "safe": ("info", "eye", "Safe mode"),
    "live": ("accent", "bolt", "Live mode"),
    "paused": ("", "pause", "Paused"),
    "external": ("line", "external", "External"),
    "exempt": ("accent", "shield", "Exempt"),
    "ok": ("ok", "check", ""),
    "warn": ("warn", "warning", ""),
    "danger": ("danger", "x", ""),
    "info": ("info", "info", ""),
    "accent": ("accent", "check", ""),
    "line": ("line", "", ""),
    "plain": ("", "", ""),
}


def cut(text: str, letters: int) -> str:
    """`text`, or its beginning with an ellipsis: `letters` at most."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


@register.simple_tag
@functools.cache
def icon(name: str, classes: str = "") -> SafeString:
    """`{% icon "eye" %}`: the inline SVG; a name that does not exist raises KeyError."""
    return format_html(
        '<svg class="i{}" viewBox="0 0 16 16" aria-hidden="true">{}</svg>',
        f" {classes}" if classes else "",
        mark_safe(ICONS[name]),
    )


@register.simple_tag
def badge(kind: str, text: str = "", icon_name: str = "") -> SafeString:
    """`{% badge "partial" %}` or `{% badge "ok" "Set" "lock" %}`: icon and word. `kind` is a key of `BADGES`."""
    css, default_icon, word = BADGES[kind]
    drawn = icon(icon_name or default_icon) if icon_name or default_icon else ""
    return format_html('<span class="badge{}">{}{}</span>', f" {css}" if css else "", drawn, text or word)


@register.simple_tag
def group_tag(group: Any, shown: int = 0) -> SafeString:
    """`{% group_tag tag 15 %}`: a group's name, cut after `shown` letters, marked where it grants administration."""
    name = str(group.name)
    text = cut(name, shown) if shown else name
    if not group.is_administrative:
        return format_html('<span class="tag" title="{}">{}</span>', name, text)
    said = ", grants administration"
    return format_html(
        '<span class="tag adm" title="{}{}">{}{}<span class="vh">{}</span></span>', name, said, icon("key"), text, said
    )


def _day(value: date) -> str:
    return f"{value.day} {value:%b %Y}"


@register.filter
def ago(value: datetime | None) -> str:
    """How long ago, or until when, in one unit: "12 min ago", "in 3 h", "just now"; empty for None."""
    if value is None:
        return ""
    seconds = (timezone.now() - value).total_seconds()
    for limit, size, unit in ((3600, 60, "min"), (86400, 3600, "h"), (float("inf"), 86400, "d")):
        if abs(seconds) < limit:
            amount = int(abs(seconds) // size)
            if not amount:
                return "just now" if seconds >= 0 else "in a moment"
            return f"{amount} {unit} ago" if seconds >= 0 else f"in {amount} {unit}"
    raise AssertionError("the last limit is infinite")


@register.filter
def utc(value: datetime | date | None, style: str = "") -> SafeString | str:
    """`<time>` as "24 Nov 2026, 11:50 UTC" with the relative time as title.

    `style`: "" as above, "short" without "UTC" (a heading says it), "seconds", "clock" (time only), "date".
    """
    if value is None:
        return ""
    if not isinstance(value, datetime):
        return format_html('<time datetime="{}">{}</time>', value.isoformat(), _day(value))
    instant = value.astimezone(UTC)
    text = {
        "": f"{_day(instant)}, {instant:%H:%M} UTC",
        "short": f"{_day(instant)}, {instant:%H:%M}",
        "seconds": f"{_day(instant)}, {instant:%H:%M:%S}",
        "clock": f"{instant:%H:%M:%S}",
        "date": _day(instant),
    }[style]
    title = f"{_day(instant)}, {instant:%H:%M:%S} UTC" if style == "clock" else ago(value)
    return format_html('<time datetime="{}" title="{}">{}</time>', f"{instant:%Y-%m-%dT%H:%M:%SZ}", title, text)


@register.filter
def num(value: Any) -> str:
    """A whole number with thousands separators; a dash for None."""
    return "–" if value is None or value == "" else f"{int(value):,}"


@register.filter
def percent(part: float | None, total: float | None) -> str:
    """`part` of `total` in whole per cent, "<1%" for a little, "0%" of nothing."""
    if not part or not total:
        return "0%"
    share = 100 * float(part) / float(total)
    return "<1%" if share < 1 else f"{share:.0f}%"


@register.filter
def duration(value: timedelta | float | None) -> str:
    """Seconds or a timedelta as "38 s", "1 min 08 s", "2 h 05 min"; empty for None."""
    if value is None:
        return ""
    seconds = int(value.total_seconds() if isinstance(value, timedelta) else value)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"


@register.filter
def initials(value: Any) -> str:
    """Two letters for an avatar: of the first and last word (of an address: before the @), or the first two of one."""
    words = [word for word in str(value).partition("@")[0].replace(".", " ").split() if word[0].isalnum()]
    if not words:
        return "?"
    return (words[0][0] + words[-1][0] if len(words) > 1 else words[0][:2]).upper()


@register.filter
def may(access: Any, permission: str) -> bool:
    """`{% if access|may:"rules" %}`: whether this request's roles allow the permission of that value."""
    return bool(access) and permission in access.permissions


@register.simple_tag(takes_context=True)
def qs(context: template.Context, **changes: Any) -> str:
    """`?…` of this page with `changes`: a value replaces, None or "" removes, a list sets several."""
    query = context["request"].GET.copy()
    for name, value in changes.items():
        if value is None or value == "":
            query.pop(name, None)
        elif isinstance(value, list | tuple):
            query.setlist(name, [str(item) for item in value])
        else:
            query[name] = str(value)
    return f"?{query.urlencode()}"


@register.simple_tag
def field(
    bound: BoundField, label: str = "", hint: str = "", css: str = "", suffix: str = "", after: str = ""
) -> SafeString:
    """One form field: label, widget, hint, errors, with `aria-describedby` and `aria-invalid`.

    `css` is added to the input's class ("lg", "mono"), `suffix` stands behind it ("days"), `after` is a sentence below.
    """
    widget = bound.field.widget
    is_set = isinstance(widget, RadioSelect | CheckboxSelectMultiple)
    is_check = isinstance(widget, CheckboxInput)
    hint = hint or str(bound.help_text or after)
    element_id = bound.id_for_label or bound.auto_id
    described = " ".join(([f"{element_id}_error"] if bound.errors else []) + ([f"{element_id}_hint"] if hint else []))
    attrs: dict[str, Any] = {} if is_check or is_set else {"class": f"input {css}".strip()}
    own_class = widget.attrs.get("class")
    if own_class:
        attrs["class"] = f"{attrs.get('class', '')} {own_class}".strip()
    if described:
        attrs["aria-describedby"] = described
    if bound.errors:
        attrs["aria-invalid"] = "true"
    return render_to_string(
        "components/_field.html",
        {
            "bound": bound,
            "id": element_id,
            "label": label or bound.label,
            "hint": hint,
            "suffix": suffix,
            "tag": "fieldset" if is_set else "div",
            "is_check": is_check,
            "is_set": is_set,
            "widget_html": bound.as_widget(attrs=attrs),
        },
    )


@register.simple_tag
def field_errors(form: Form) -> SafeString | str:
    """The summary above a form that was refused: it takes focus and links to each wrong field."""
    if not form.errors:
        return ""
    faults = []
    for name, errors in form.errors.items():
        bound = form[name] if name in form.fields else None
        for error in errors:
            faults.append(
                {"id": bound.id_for_label if bound else "", "label": bound.label if bound else "", "text": error}
            )
    return render_to_string("components/_form_errors.html", {"faults": faults})
