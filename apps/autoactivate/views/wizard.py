"""The wizard: project, request types, who is added to what, review. Each step has its own address and is kept."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apps.autoactivate import selectors, services
from apps.autoactivate.models import AssignmentRule, Channel
from apps.autoactivate.values import AssignmentInput, Cleaned, KnownProject, clean, whole
from apps.autoactivate.views.common import found_or_404
from apps.operations.planning import group_refusal
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users.models import Group
from aum.common.errors import DomainError, InvalidInput

STEPS = ("project", "requests", "rule", "review")
STEP_LABELS = {
    "project": "Select internal Jira project",
    "requests": "Request types",
    "rule": "Assignment rule",
    "review": "Review",
}
FIELDS_OF: dict[str, tuple[str, ...]] = {
    "project": ("channels", "project"),
    "requests": ("request_types",),
    "rule": (
        "name",
        "method",
        "domains",
        "trigger_group",
        "groups",
        "max_per_day",
        "seat_budget",
        "expires_after_days",
        "needs_approval",
        "restores",
    ),
}
GROUPS_SHOWN = 24


@dataclass(frozen=True)
class Step:
    number: int
    label: str
    url: str
    is_done: bool
    is_current: bool


class Wizard:
    """One operator's wizard for a new rule, or for one that is edited."""

    def __init__(self, request: OrganizationRequest, pk: int | None) -> None:
        self.request, self.organization = request, organization_of(request)
        self.rule: AssignmentRule | None = None
        if pk is not None:
            self.rule = found_or_404(lambda: selectors.rule_by_id(self.organization, pk))
        draft = selectors.draft_of(self.organization, request.user, self.rule)
        self.has_draft = draft is not None
        self.version = self.rule.version if self.rule else 0
        if draft is not None:
            self.values = AssignmentInput.from_json(draft.values)
            self.version = int(draft.values.get("version", self.version))
        elif self.rule is not None:
            self.values = AssignmentInput.of(self.rule)
        else:
            self.values = AssignmentInput()

    def url(self, step: str) -> str:
        if self.rule is None:
            return reverse("autoactivate:new-step", args=[self.organization.slug, step])
        return reverse("autoactivate:edit-step", args=[self.organization.slug, self.rule.pk, step])

    def steps(self, current: str) -> list[Step]:
        place = STEPS.index(current)
        return [
            Step(number + 1, STEP_LABELS[step], self.url(step), number < place, number == place)
            for number, step in enumerate(STEPS)
        ]

    def keep(self, values: AssignmentInput) -> None:
        self.values = values
        services.save_draft(
            organization=self.organization,
            operator=self.request.user,
            rule=self.rule,
            values=values,
            version=self.version,
        )

    def next_of(self, step: str) -> str:
        following = STEPS[STEPS.index(step) + 1]
        if following == "requests" and not self.values.listens_to_jsm:
            following = "rule"
        return self.url(following)

    def previous_of(self, step: str) -> str:
        if step == "project":
            return reverse("autoactivate:list", args=[self.organization.slug])
        before = STEPS[STEPS.index(step) - 1]
        if before == "requests" and not self.values.listens_to_jsm:
            before = "project"
        return self.url(before)


def _merge(values: AssignmentInput, step: str, posted: QueryDict) -> AssignmentInput:
    """`values` with what the step's form sent; what it does not hold stays."""
    many = ("channels", "request_types", "groups")
    flags = ("needs_approval", "restores")
    changes: dict[str, Any] = {}
    for name in FIELDS_OF[step]:
        if name in many:
            changes[name] = tuple(text[:255] for text in posted.getlist(name)[:500])
        elif name in flags:
            changes[name] = name in posted
        elif name == "domains":
            changes[name] = (posted.get(name, "")[:5000],) if posted.get(name, "").strip() else ()
        else:
            changes[name] = posted.get(name, "")[:500].strip()
    if step == "requests" and posted.get("which") == "any":
        changes["request_types"] = ()
    if step == "project" and changes["project"] != values.project:
        changes["request_types"] = ()
    return dataclasses.replace(values, **changes)


@require(Permission.RULES)
@require_http_methods(["GET", "POST"])
def wizard(request: OrganizationRequest, step: str = "project", pk: int | None = None) -> HttpResponse:
    """One step: shows it, or keeps what was sent and goes on."""
    if step not in STEPS:
        raise Http404
    state = Wizard(request, pk)
    if request.method == "GET":
        return _show(state, step)
    if "discard" in request.POST:
        services.drop_draft(organization=state.organization, operator=request.user, rule=state.rule)
        messages.success(request, "What you entered is forgotten.")
        return redirect("autoactivate:list", state.organization.slug)
    if step == "review":
        return _save(state)
    values = _merge(state.values, step, request.POST)
    if "find" in request.POST:
        state.values = values
        return _show(state, step)
    if step == "requests" and request.POST.get("which") == "some" and not values.request_types:
        return _show(state, step, values, {"request_types": ["Choose at least one request type, or any."]})
    try:
        cleaned = _clean_step(state, step, values)
    except InvalidInput as error:
        return _show(state, step, values, error.fields)
    if step == "rule" and values.domains:
        # As they are saved, so that the review shows what will be compared.
        values = dataclasses.replace(values, domains=tuple(cleaned.columns["domains"]) or values.domains)
    state.keep(values)
    return redirect(state.next_of(step))


def _clean_step(state: Wizard, step: str, values: AssignmentInput) -> Cleaned:
    """The values as columns; raises InvalidInput that names what is wrong in this step's fields."""
    project: KnownProject | None = None
    if step != "rule":
        try:
            project = services.known_project(state.organization, values)
        except DomainError as error:
            raise InvalidInput(fields={"project" if step == "project" else "request_types": [error.detail]}) from error
    named = _named(state, values)
    return clean(named, state.organization, project=project, rule=state.rule, only=FIELDS_OF[step])


def _show(
    state: Wizard, step: str, values: AssignmentInput | None = None, errors: dict[str, list[str]] | None = None
) -> HttpResponse:
    values = values or state.values
    errors = errors or {}
    context: dict[str, Any] = {
        "step": step,
        "steps": state.steps(step),
        "rule": state.rule,
        "values": values,
        "errors": errors,
        "faults": [
            {"id": f"id_{name}", "label": LABELS.get(name, name), "text": text}
            for name, texts in errors.items()
            for text in texts
        ],
        "back": state.previous_of(step),
        "has_draft": state.has_draft,
        "may_edit": True,
        **getattr(_Contexts, step)(state, values, errors),
    }
    return render(state.request, f"autoactivate/wizard_{step}.html", context, status=422 if errors else 200)


LABELS = {
    "channels": "Requests come from",
    "project": "Service project",
    "request_types": "Request types",
    "name": "Name",
    "method": "Assignment method",
    "domains": "Email domain",
    "trigger_group": "Group the user is in",
    "groups": "Groups to add",
    "max_per_day": "Limit a day",
    "seat_budget": "Seat budget",
    "expires_after_days": "Access ends after",
}


class _Contexts:
    """What each step shows besides the values."""

    @staticmethod
    def project(state: Wizard, values: AssignmentInput, errors: dict[str, list[str]]) -> dict[str, Any]:
        projects, trouble = _projects(state.organization)
        return {"projects": projects, "trouble": trouble, "channel_choices": Channel.choices}

    @staticmethod
    def requests(state: Wizard, values: AssignmentInput, errors: dict[str, list[str]]) -> dict[str, Any]:
        projects, trouble = _projects(state.organization)
        project = next((one for one in projects if one.key == values.project), None)
        kinds: list[Any] = []
        if project is not None:
            try:
                kinds = list(services.request_types(state.organization, project))
            except DomainError as error:
                trouble = error.detail
        return {"project": project, "kinds": kinds, "trouble": trouble, "project_url": state.url("project")}

    @staticmethod
    def rule(state: Wizard, values: AssignmentInput, errors: dict[str, list[str]]) -> dict[str, Any]:
        posted = state.request.POST
        return {
            "domains_text": ", ".join(values.domains),
            "pickers": [
                picker(state.organization, name, _keys(values, name), posted.get(f"{name}_search", ""))
                for name in ("trigger_group", "groups")
            ],
        }

    @staticmethod
    def review(state: Wizard, values: AssignmentInput, errors: dict[str, list[str]]) -> dict[str, Any]:
        groups = list(Group.objects.of(state.organization).filter(pk__in=_keys(values, "groups")).order_by("name"))
        trigger = Group.objects.of(state.organization).filter(pk__in=_keys(values, "trigger_group")).first()
        projects, trouble = _projects(state.organization)
        project = next((one for one in projects if one.key == values.project), None)
        names: dict[str, str] = {}
        if project is not None and not trouble:
            try:
                names = {kind.id: kind.name for kind in services.request_types(state.organization, project)}
            except DomainError as error:
                trouble = error.detail
        is_set_up = selectors.is_set_up(state.organization, values.channels)
        return {
            "groups": groups,
            "trigger": trigger,
            "project": project,
            "kinds": [names.get(kind, kind) for kind in values.request_types],
            "channels": [str(Channel(channel).label) for channel in values.channels if channel in Channel.values],
            "trouble": trouble,
            "is_set_up": is_set_up,
            "why_not": "" if is_set_up else services.SetupNotSeen.detail,
            "count_url": reverse("autoactivate:would-match", args=[state.organization.slug]),
            "step_urls": {step: state.url(step) for step in STEPS},
            "suggested_name": _suggested_name(state, values),
        }


def _keys(values: AssignmentInput, name: str) -> list[int]:
    given = values.groups if name == "groups" else (values.trigger_group,)
    return [number for value in given if (number := whole(value)) is not None]


def _suggested_name(state: Wizard, values: AssignmentInput) -> str:
    """A name that says what the rule does, free in this organisation."""
    place = values.project if values.listens_to_jsm else "Requests"
    base = f"{place}: {values.domains[0].split(',')[0].strip()}" if values.domains else f"{place} access"
    taken = set(
        AssignmentRule.objects.of(state.organization).filter(deleted_at__isnull=True).values_list("name", flat=True)
    )
    name, number = base[:100], 2
    while name in taken:
        name, number = f"{base[:100]} {number}", number + 1
    return name


def _projects(organization: Organization) -> tuple[list[KnownProject], str]:
    """(service projects, why they cannot be read)."""
    try:
        return services.service_projects(organization), ""
    except DomainError as error:
        return [], error.detail


# --- groups ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picker:
    """Groups that may be chosen: those chosen, and those found by `search`."""

    name: str
    label: str
    hint: str
    is_single: bool
    chosen: list[Group]
    found: list[Group]
    search: str
    withheld: int = 0
    more: int = 0


def picker(organization: Organization, name: str, keys: list[int], search: str) -> Picker:
    """The picker of one field. Groups that AUM may not add to are not offered."""
    groups = Group.objects.of(organization).filter(vanished_at__isnull=True)
    chosen = list(Group.objects.of(organization).filter(pk__in=keys).order_by("name", "pk"))
    matching = groups.exclude(pk__in=keys)
    if words := search.strip()[:120].replace("\x00", ""):
        matching = matching.filter(name__icontains=words)
    withheld = 0
    if name == "groups":
        may_be_added = matching.filter(is_synced=False, is_administrative=False, are_grants_known=True)
        withheld = matching.count() - may_be_added.count()
        matching = may_be_added
    found = list(matching.order_by("name", "pk")[:GROUPS_SHOWN])
    more = max(0, matching.count() - GROUPS_SHOWN)
    assert all(not group_refusal(group, "add_to_group") for group in found if name == "groups")
    if name == "groups":
        return Picker(
            name,
            "Groups to add",
            "Every chosen group is added. Groups that grant administration or come from the identity provider are not "
            "offered.",
            False,
            chosen,
            found,
            search,
            withheld,
            more,
        )
    hint = "Whoever is in this group and asks is added."
    return Picker(name, "Group the user is in", hint, True, chosen, found, search, more=more)


@require(Permission.RULES)
@require_GET
def group_options(request: OrganizationRequest) -> HttpResponse:
    """The groups that a picker offers for its search."""
    name = request.GET.get("field", "")
    if name not in ("groups", "trigger_group"):
        raise Http404
    keys = [number for text in request.GET.getlist(name) if (number := whole(text)) is not None]
    found = picker(organization_of(request), name, keys, request.GET.get(f"{name}_search", ""))
    return render(request, "autoactivate/_group_results.html", {"picker": found})


# --- the end --------------------------------------------------------------------------------------------------------


@require(Permission.RULES)
@require_POST
def would_match(request: OrganizationRequest) -> HttpResponse:
    """How many requests of the last 30 days the rule in the wizard would have matched."""
    key = whole(request.POST.get("rule", ""))
    state = Wizard(request, key)
    context: dict[str, Any] = {"count": None, "trouble": ""}
    if state.values.listens_to_jsm:
        try:
            cleaned = services.judge(state.organization, _named(state, state.values), rule=state.rule)
            context["count"] = services.would_have_matched(
                state.organization,
                columns=cleaned.columns,
                project_key=cleaned.columns["project_key"],
                request_type_ids=tuple(kind["id"] for kind in cleaned.columns["request_types"]),
            )
        except DomainError as error:
            context["trouble"] = error.detail
    return render(request, "autoactivate/_would_match.html", context)


def _named(state: Wizard, values: AssignmentInput) -> AssignmentInput:
    """The values with the suggested name where none was typed: it follows the domain until it is saved."""
    return dataclasses.replace(values, name=values.name or _suggested_name(state, values))


def _save(state: Wizard) -> HttpResponse:
    """Save what was entered, switched on where that was asked for."""
    request, values = state.request, _named(state, state.values)
    is_active = request.POST.get("then") == "activate"
    access = request.access
    try:
        if state.rule is None:
            saved = services.create_rule(
                organization=state.organization,
                values=values,
                is_active=is_active,
                actor=access.actor,
                operator=access.operator,
            )
        else:
            saved = services.update_rule(
                rule=state.rule,
                values=values,
                expected_version=state.version,
                actor=access.actor,
                operator=access.operator,
            )
            if is_active and not saved.is_active:
                saved = services.switch_rule(rule=saved, is_active=True, actor=access.actor)
    except DomainError as error:
        return _show(state, "review", values, error.fields or {"": [error.detail]})
    ending = "and switched on" if saved.is_active else "and stays off until you switch it on"
    messages.success(request, f"“{saved.name}” is saved {ending}.")
    return redirect("autoactivate:list", state.organization.slug)


@require(Permission.RULES)
@require_GET
def edit(request: OrganizationRequest, pk: int) -> HttpResponse:
    """The wizard of an existing rule, at its last page, where everything is shown."""
    state = Wizard(request, pk)
    return redirect(state.url("review"))
