"""What is read from Jira and Jira Service Management for the wizard: service projects, request types, past requests."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache

from apps.autoactivate import matching
from apps.autoactivate.models import AssignmentRule
from apps.autoactivate.values import AssignmentInput, KnownProject
from apps.organizations.models import Organization
from apps.organizations.services import reader_for
from apps.users.models import Account
from aum.atlassian.errors import AtlassianError, Forbidden, NotFound
from aum.common.errors import DomainError

CACHE_SECONDS = 60
# More requests than this are not read: the figure is then "at least".
MAX_COUNTED = 2000
REQUEST_TYPE_SCHEMA = "com.atlassian.servicedesk:vp-origin"


class JiraUnreadable(DomainError):
    code = "jira_unreadable"
    status = 502
    detail = "Jira could not be read."


@dataclass(frozen=True)
class RequestTypeChoice:
    id: str
    name: str
    description: str


def service_projects(organization: Organization) -> list[KnownProject]:
    """The service projects that the saved token sees, by name. Raises JiraUnreadable, NotConnected."""
    key = f"service-projects:{organization.pk}"
    found: list[KnownProject] | None = cache.get(key)
    if found is None:
        try:
            with reader_for(organization) as reader:
                found = sorted(
                    (KnownProject(d.project_id, d.project_key, d.project_name, d.id) for d in reader.service_desks()),
                    key=lambda project: (project.name.casefold(), project.key),
                )
        except AtlassianError as error:
            raise _unreadable(error) from error
        cache.set(key, found, CACHE_SECONDS)
    return found


def request_types(organization: Organization, project: KnownProject) -> list[RequestTypeChoice]:
    """The request types of a service project, by name. Raises JiraUnreadable, NotConnected."""
    key = f"request-types:{organization.pk}:{project.service_desk_id}"
    found: list[RequestTypeChoice] | None = cache.get(key)
    if found is None:
        try:
            with reader_for(organization) as reader:
                rows = reader.request_types(project.service_desk_id)
                found = sorted(
                    (RequestTypeChoice(row.id, row.name, row.description) for row in rows),
                    key=lambda kind: (kind.name.casefold(), kind.id),
                )
        except AtlassianError as error:
            raise _unreadable(error) from error
        cache.set(key, found, CACHE_SECONDS)
    return found


def known_project(organization: Organization, values: AssignmentInput) -> KnownProject | None:
    """What Jira says about the project of `values`, with all its request types; None when there is none.

    Raises JiraUnreadable, NotConnected.
    """
    wanted = str(values.project or "").strip()
    if not values.listens_to_jsm or not wanted:
        return None
    project = next((one for one in service_projects(organization) if one.key == wanted), None)
    if project is None:
        return None
    kinds = tuple((kind.id, kind.name) for kind in request_types(organization, project))
    return KnownProject(project.id, project.key, project.name, project.service_desk_id, kinds)


def _unreadable(error: AtlassianError) -> JiraUnreadable:
    if isinstance(error, Forbidden | NotFound):
        return JiraUnreadable(
            "The owner of the API token may not see Jira Service Management. Give that account an agent’s access, "
            "or save another token under Settings."
        )
    return JiraUnreadable(f"Jira could not be read. {error.detail.strip().rstrip('.')}. {error.advice}".strip())


@dataclass(frozen=True)
class PastRequests:
    """Requests of the last 30 days: how many there were in the project, and how many the rule would have matched."""

    total: int
    matched: int
    people: int
    is_capped: bool = False


def would_have_matched(
    organization: Organization, *, columns: dict[str, Any], project_key: str, request_type_ids: tuple[str, ...]
) -> PastRequests:
    """How many requests of the last 30 days a rule with these columns would have matched.

    Reporters are judged by the directory as it was last synced. Raises JiraUnreadable, NotConnected.
    """
    reporters: dict[str, int] = defaultdict(int)
    total = 0
    is_capped = False
    try:
        with reader_for(organization) as reader:
            field = next((f.id for f in reader.fields() if f.custom_type == REQUEST_TYPE_SCHEMA), None)
            jql = f'project = "{project_key}" AND created >= -30d ORDER BY created DESC'
            for issue in reader.iter_issues(jql, request_type_field=field):
                total += 1
                is_fitting = not request_type_ids or issue.request_type_id in request_type_ids
                if issue.reporter is not None and is_fitting:
                    reporters[issue.reporter.account_id] += 1
                if total >= MAX_COUNTED:
                    is_capped = True
                    break
    except AtlassianError as error:
        raise _unreadable(error) from error
    rule = AssignmentRule(
        organization=organization,
        method=str(columns["method"]),
        domains=columns["domains"],
        trigger_group=columns["trigger_group"],
    )
    people = Account.objects.of(organization).filter(account_id__in=reporters, vanished_at__isnull=True)
    fitting = [account.account_id for account in people if not matching.why_not_method(rule, account)]
    return PastRequests(total, sum(reporters[account_id] for account_id in fitting), len(fitting), is_capped)
