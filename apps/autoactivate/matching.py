"""Whether a rule meets a request: each function gives an empty text, or the reason why not in words (S184)."""

from __future__ import annotations

from dataclasses import dataclass

from apps.autoactivate.domains import domain_of
from apps.autoactivate.models import AssignmentRule, Channel
from apps.users.models import Account


@dataclass(frozen=True)
class Request:
    """What a rule is asked about: through which channel, and for a ticket its project and request type."""

    channel: str
    project_key: str = ""
    request_type_id: str = ""
    request_type_name: str = ""


def why_not_place(rule: AssignmentRule, request: Request) -> str:
    """Why the rule does not listen to where this request comes from."""
    if request.channel not in rule.channels:
        return f"it does not listen to {Channel(request.channel).label}"
    if request.channel != Channel.JSM:
        return ""
    if request.project_key != rule.project_key:
        return f"it is for project {rule.project_key}, not {request.project_key or 'none'}"
    names = {kind["id"]: kind["name"] for kind in rule.request_types}
    if names and request.request_type_id not in names:
        return f"it is for {', '.join(names.values())}, not {request.request_type_name or 'this request type'}"
    return ""


def why_not_method(rule: AssignmentRule, account: Account) -> str:
    """Why the rule does not mean this person. The e-mail is the one that the Organizations API gives."""
    if rule.method == AssignmentRule.Method.DOMAIN:
        domain = domain_of(account.email)
        if not account.email:
            return "Atlassian gives no e-mail for this account, so its domain is not known"
        if domain not in rule.domains:
            return f"{domain or account.email} is not {' or '.join(rule.domains)}"
        return ""
    if rule.trigger_group is None or rule.trigger_group.vanished_at is not None:
        return "its group no longer exists in Atlassian"
    if rule.trigger_group_id not in account.group_ids:
        return f"not a member of {rule.trigger_group.name}"
    return ""
