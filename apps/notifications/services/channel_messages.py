"""How an alert or event looks to Slack, to Microsoft Teams and to a webhook, and the signature of the latter."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 of `<timestamp>.<body>` in hex."""
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


_MARKS = {"error": "🔴", "warning": "🟠", "info": "🔵"}  # fmt: skip


def slack_message(payload: dict[str, Any]) -> dict[str, Any]:
    """An incoming webhook of Slack: text for notifications, blocks for the channel; `& < >` are Slack's own marks."""
    title, detail, name = (
        _slack(str(text)) for text in (payload["title"], payload["detail"], payload["organization"]["name"])
    )
    heading = f"{_MARKS.get(payload['severity'], '')} *{title}*"
    if payload["link"]:
        heading += f"\n<{payload['link']}|Open in AUM>"
    blocks: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": heading[:2900]}}]
    if detail:
        blocks.append({"type": "section", "text": {"type": "plain_text", "text": str(payload["detail"])[:2900]}})
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": f"AUM, {name}"[:1900]}]})
    return {"text": f"{title} ({name})", "blocks": blocks}


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def teams_message(payload: dict[str, Any]) -> dict[str, Any]:
    """An incoming webhook of Microsoft Teams (Workflows): a message with one adaptive card."""
    colour = {"error": "Attention", "warning": "Warning"}.get(payload["severity"], "Accent")
    body: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": _plain(payload["title"]), "weight": "Bolder", "color": colour, "wrap": True},
    ]
    if payload["detail"]:
        body.append({"type": "TextBlock", "text": _plain(payload["detail"]), "wrap": True})
    body.append(
        {
            "type": "TextBlock",
            "text": _plain(f"AUM, {payload['organization']['name']}"),
            "isSubtle": True,
            "size": "Small",
        }
    )
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    }
    if payload["link"]:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open in AUM", "url": payload["link"]}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _plain(text: Any) -> str:
    """Adaptive cards read Markdown: its marks are shown as they are."""
    return "".join(f"\\{character}" if character in r"\*_[]()`#~" else character for character in str(text))[:2000]
