"""Pages of Scheduler & Cleanup: the list, the editor with its live summary, and the buttons of a rule."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from apps.operations.models import Operation
from apps.operations.reasons import SafeguardLine, safeguard_lines
from apps.operators.access import OrganizationRequest, organization_of, proof_first, require
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.rules import selectors, services
from apps.rules.forms import (
    ConditionRow,
    RuleForm,
    condition_choices,
    groups_matching,
    is_key,
    start_values,
    values_from,
    with_conditions_changed,
)
from apps.rules.models import CleanupRule
from apps.rules.notice_forms import notice_editor
from apps.rules.values import GROUP_ACTIONS, GROUP_FIELDS, RuleInput, clean
from apps.users.models import Group
from apps.users.products import bits_of
from apps.users.selectors import dashboard_counts
from apps.users.selectors.views import shared_views
from apps.users.selectors.words import short_label
from aum.common.errors import DomainError, InvalidInput, Missing

SHORT_ACTIONS = {
    "deactivate": "Deactivate",
    "suspend": "Suspend",
    "remove_product_access": "Remove product access",
    "remove_from_group": "Remove from groups",
    "add_to_group": "Add to groups",
    "restore": "Restore",
    "activate": "Activate",
    "delete": "Delete",
}
VIEW_LABELS = {"all": "All rules", "live": "Live", "safe": "Safe", "paused": "Paused"}
PICKERS = {
    "action_groups": (
        "Groups to add or remove",
        "Only for “Add to groups” and “Remove from groups”. Groups that grant administration and groups that the "
        "identity provider manages cannot be chosen.",
        True,
    ),
    "target_groups": ("Groups", "Only for “Specified groups only”: nobody outside of them is touched.", False),
    "protected_groups": (
        "Protected groups",
        "Members are skipped even if they match. Admins, exempt users and groups protected for the whole organisation "
        "are always skipped.",
        True,
    ),
}
NAMES_SHOWN = 2
RUNS_SHOWN = 5


# --- the list -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    label: str
    count: int
    url: str
    is_current: bool


@dataclass(frozen=True)
class Line:
    """One rule in the list, in words."""

    rule: CleanupRule
    url: str
    toggle_url: str
    target: str
    action: str
    scope: str
    frequency: str
    time: str
    protected: str
    protected_all: str
    next_run_at: datetime | None


def _line(rule: CleanupRule, organization: Organization) -> Line:
    protected = sorted(group.name for group in rule.protected_groups.all())
    more = f" +{len(protected) - NAMES_SHOWN}" if len(protected) > NAMES_SHOWN else ""
    toggle = "rules:resume" if rule.is_paused else "rules:pause"
    return Line(
        rule=rule,
        url=reverse("rules:edit", args=[organization.slug, rule.pk]),
        toggle_url=reverse(toggle, args=[organization.slug, rule.pk]),
        target=_target_words(rule),
        action=SHORT_ACTIONS.get(rule.action, rule.action),
        scope=_scope_words(rule),
        frequency=_frequency_words(rule),
        time=f"{rule.run_at:%H:%M} {rule.timezone}",
        protected=", ".join(protected[:NAMES_SHOWN]) + more if protected else "none of its own",
        protected_all=", ".join(protected),
        next_run_at=selectors.next_run_at(rule),
    )


def _target_words(rule: CleanupRule) -> str:
    if rule.saved_view is not None:
        return f"View: {rule.saved_view.name}"
    if rule.target == CleanupRule.Target.SPECIFIED_GROUPS:
        return "Specified groups: " + ", ".join(sorted(group.name for group in rule.target_groups.all()))
    if rule.conditions:
        number = len(rule.conditions)
        return f"{number} condition{'' if number == 1 else 's'}"
    return "Managed users only" if rule.action == CleanupRule.Action.DEACTIVATE else str(rule.get_target_display())


def _scope_words(rule: CleanupRule) -> str:
    """The products that the rule looks at or takes; "Runs globally" when it looks at all of them."""
    if rule.action in GROUP_ACTIONS:
        return ", ".join(sorted(group.name for group in rule.action_groups.all()))
    products = rule.target_products or rule.inactive_products
    return ", ".join(short_label(product) for product in products) if products else "Runs globally"


def _frequency_words(rule: CleanupRule) -> str:
    form = RuleForm(RuleInput(weekdays=tuple(rule.weekdays), month_day=rule.month_day))
    if rule.recurrence == CleanupRule.Recurrence.WEEKLY:
        return "Weekly, " + ", ".join(choice.label[:3] for choice in form.weekday_choices() if choice.is_chosen)
    if rule.recurrence == CleanupRule.Recurrence.MONTHLY:
        day = next((choice.label for choice in form.month_day_choices() if choice.is_chosen), "")
        return f"Monthly, {day[:1].lower()}{day[1:]}"
    return "Daily"


def _list_context(request: OrganizationRequest, view: str) -> dict[str, Any]:
    organization = organization_of(request)
    view = view if view in VIEW_LABELS else "all"
    counts = selectors.rule_counts(organization)
    base = reverse("rules:list", args=[organization.slug])
    running, paused = counts["all"] - counts["paused"], counts["paused"]
    on_schedule = "1 rule runs" if running == 1 else f"{running} rules run"
    facts = f"{on_schedule} on schedule, {paused} paused."
    return {
        "lines": [_line(rule, organization) for rule in selectors.rules(organization, view)],
        "views": [
            View(label, counts[key], base if key == "all" else f"{base}?view={key}", key == view)
            for key, label in VIEW_LABELS.items()
        ],
        "current_view": view,
        "total": counts["all"],
        "facts": facts if counts["all"] else "",
        "may_edit": request.access.may(Permission.RULES),
        "may_run": request.access.may(Permission.RUN_RULES),
        "may_preview": request.access.may(Permission.PREVIEW),
    }


@require(Permission.VIEW)
@require_GET
def rule_list(request: OrganizationRequest) -> HttpResponse:
    """All rules, or one view of them."""
    context = _list_context(request, request.GET.get("view", "all"))
    partial = request.htmx and request.htmx.target == "list"
    return render(request, "rules/_table.html" if partial else "rules/list.html", context)


# --- buttons --------------------------------------------------------------------------------------------------------


def _rule(request: OrganizationRequest, pk: int) -> CleanupRule:
    try:
        return selectors.rule_by_id(organization_of(request), pk)
    except Missing as error:
        raise Http404 from error


def _list_answer(request: OrganizationRequest) -> HttpResponse:
    """The list as it now is: the fragment for htmx, else back to the page."""
    view = request.POST.get("view", "all")
    if request.htmx:
        return render(request, "rules/_table_and_toasts.html", _list_context(request, view))
    base = reverse("rules:list", args=[organization_of(request).slug])
    return redirect(base if view not in VIEW_LABELS or view == "all" else f"{base}?view={view}")


def _started(request: OrganizationRequest, start: Callable[[], Operation]) -> HttpResponse:
    """To the operation that `start` makes, or back to the list with the reason why there is none."""
    try:
        operation = start()
    except DomainError as error:
        messages.error(request, error.detail)
        return redirect("rules:list", organization_of(request).slug)
    return redirect("operations:run", organization_of(request).slug, operation.number)


@require(Permission.PREVIEW)
@require_POST
def preview(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Plan the saved rule in Safe mode and go to that plan."""
    rule = _rule(request, pk)
    access = request.access
    return _started(request, lambda: services.preview_rule(rule=rule, actor=access.actor, operator=access.operator))


@require(Permission.RUN_RULES)
@require_POST
def run(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """Run the rule now, in its own mode, and go to that run."""
    rule = _rule(request, pk)
    access = request.access
    if rule.mode == CleanupRule.Mode.LIVE and (asked := proof_first(request, f"Run “{rule.name}” now")):
        return asked
    return _started(request, lambda: services.run_rule(rule=rule, actor=access.actor, operator=access.operator))


def _changed(request: OrganizationRequest, change: Callable[[], str]) -> HttpResponse:
    """Do `change`, say its sentence or its refusal, show the list."""
    try:
        messages.success(request, change())
    except DomainError as error:
        messages.error(request, error.detail)
    return _list_answer(request)


@require(Permission.RULES)
@require_POST
def pause(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Stop the rule's schedule."""
    rule = _rule(request, pk)

    def change() -> str:
        services.pause_rule(rule=rule, reason="", actor=request.access.actor)
        return f"“{rule.name}” is paused. It does not run until it is resumed."

    return _changed(request, change)


@require(Permission.RULES)
@require_POST
def resume(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Start the rule's schedule again."""
    rule = _rule(request, pk)

    def change() -> str:
        services.resume_rule(rule=rule, actor=request.access.actor)
        return f"“{rule.name}” runs on schedule again."

    return _changed(request, change)


@require(Permission.RULES)
@require_POST
def duplicate(request: OrganizationRequest, pk: int) -> HttpResponse:
    """A copy in Safe mode, opened in the editor."""
    rule = _rule(request, pk)
    try:
        copy = services.duplicate_rule(rule=rule, actor=request.access.actor, operator=request.access.operator)
    except DomainError as error:
        messages.error(request, error.detail)
        return redirect("rules:list", organization_of(request).slug)
    messages.success(request, f"Copied to “{copy.name}”.")
    return redirect("rules:edit", organization_of(request).slug, copy.pk)


@require(Permission.RULES)
@require_http_methods(["GET", "POST"])
def delete(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Delete a rule whose name was typed. A dialog for htmx, a page otherwise."""
    rule = _rule(request, pk)
    error = ""
    if request.method == "POST":
        if request.POST.get("confirm_name", "").strip() == rule.name:
            services.delete_rule(rule=rule, actor=request.access.actor)
            messages.success(request, f"“{rule.name}” is deleted. Its runs stay in the log.")
            target = reverse("rules:list", args=[organization_of(request).slug])
            return HttpResponseClientRedirect(target) if request.htmx else redirect(target)
        error = "Type the name of the rule exactly as it is shown."
    template = "rules/_delete.html" if request.htmx else "rules/delete.html"
    return render(request, template, {"rule": rule, "error": error}, status=422 if error else 200)


# --- the editor -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picker:
    """One group picker: groups chosen, groups found by `search`."""

    name: str
    label: str
    hint: str
    is_plain: bool
    chosen: list[Group]
    found: list[Group]
    search: str
    # Groups are offered once somebody looks for them, so that the page is not full of them.
    is_searched: bool
    errors: Sequence[str] = ()


def _picker(organization: Organization, form: RuleForm, name: str, data: QueryDict) -> Picker:
    label, hint, is_plain = PICKERS[name]
    errors = form[name].errors
    return _group_picker(organization, name, label, hint, is_plain, form.group_ids(name), data, errors)


def _condition_rows(
    organization: Organization, form: RuleForm, data: QueryDict
) -> list[tuple[ConditionRow, Picker | None]]:
    """The rows of conditions, each with its group picker where it asks for groups."""
    found: list[tuple[ConditionRow, Picker | None]] = []
    for row in form.condition_rows():
        picker = None
        for part in row.parts:
            if part.kind == "groups":
                name = f"{row.prefix}_groups"
                label = f"Groups of condition {row.place + 1}"
                picker = _group_picker(organization, name, label, "", True, part.group_ids, data)
        found.append((row, picker))
    return found


def _group_picker(
    organization: Organization,
    name: str,
    label: str,
    hint: str,
    is_plain: bool,
    keys: Sequence[int],
    data: QueryDict,
    errors: Sequence[str] = (),
) -> Picker:
    chosen = list(Group.objects.of(organization).filter(pk__in=keys).order_by("name", "pk"))
    search = data.get(f"{name}_search", "")
    is_searched = bool(search) or name in (data.get("find"), data.get("field"))
    found = groups_matching(organization, search, keys) if is_searched else []
    return Picker(name, label, hint, is_plain, chosen, found, search, is_searched, errors)


@dataclass(frozen=True)
class Summary:
    """What stands beside the editor: the rule in a sentence, and what it would do now."""

    mode: str
    sentence: str = ""
    next_cleanup: str = ""
    estimate: selectors.Estimate | None = None
    warnings: Sequence[str] = ()
    live_refusal: str = ""
    next_runs: Sequence[str] = ()
    is_paused: bool = False

    @property
    def bar_width(self) -> int:
        """Matches as a share of the licensed people, for a bar of 100."""
        return min(100, round(self.estimate.share_percent)) if self.estimate else 0


def _summary(organization: Organization, values: RuleInput, rule: CleanupRule | None) -> Summary:
    """The summary of `values` as typed; without sentence and figures while they are not valid."""
    refusal = _live_refusal(rule)
    try:
        # The name has its own field to complain at; a rule is counted before it has one.
        cleaned = clean(_named(values, rule), organization, rule=rule)
    except InvalidInput:
        return Summary(str(values.mode), live_refusal=refusal)
    outlook = selectors.outlook(organization, cleaned, timezone.now(), runs=RUNS_SHOWN)
    runs = [_moment(at, cleaned.timezone) for at in outlook.next_runs]
    return Summary(
        mode=cleaned.mode,
        sentence=outlook.sentence,
        next_cleanup=runs[0],
        next_runs=runs,
        estimate=outlook.estimate,
        warnings=outlook.warnings,
        live_refusal=refusal,
        is_paused=bool(rule and rule.is_paused),
    )


def _named(values: RuleInput, rule: CleanupRule | None) -> RuleInput:
    return dataclasses.replace(values, name=rule.name if rule else f"estimate {timezone.now():%H%M%S%f}")


def _moment(at: datetime, tz: str) -> str:
    """`Thu 26 Nov 2026, 06:00 UTC`, with the local time where the rule's timezone is another one."""
    text = f"{at.astimezone(UTC):%a %d %b %Y, %H:%M} UTC"
    return text if tz == "UTC" else f"{text} ({at.astimezone(ZoneInfo(tz)):%a %H:%M} {tz})"


def _live_refusal(rule: CleanupRule | None) -> str:
    """Why Live cannot be chosen yet; empty when it can, or when the rule is live already."""
    if rule is not None and (rule.mode == CleanupRule.Mode.LIVE or selectors.has_fresh_preview(rule)):
        return ""
    return services.LIVE_NEEDS_PREVIEW


def _editor(
    request: OrganizationRequest, form: RuleForm, rule: CleanupRule | None, *, status: int = 200
) -> HttpResponse:
    organization = organization_of(request)
    summary = _summary(organization, form.values, rule)
    pickers = {name: _picker(organization, form, name, request.POST) for name in GROUP_FIELDS}
    context = {
        "condition_rows": _condition_rows(organization, form, request.POST),
        "condition_choices": condition_choices(),
        "owner_choices": form.owner_choices(selectors.possible_owners(organization)),
        "view_choices": form.view_choices(list(shared_views(organization).values_list("pk", "name"))),
        "action_picker": pickers["action_groups"],
        "pending": _pending(rule),
        "regret": selectors.regret(rule) if rule else None,
        "ladder": selectors.ladder_of(rule) if rule else None,
        "form": form,
        "rule": rule,
        "pickers": [pickers["target_groups"], pickers["protected_groups"]],
        "summary": summary,
        "live_refusal": summary.live_refusal,
        "next_cleanup": summary.next_cleanup or "not known yet",
        "timezone": rule.timezone if rule else organization.timezone,
        "managed_count": dashboard_counts(organization).managed,
        "notices": notice_editor(organization, form, more=request.POST.get("find") == "notice"),
        "target_choices": form.products("target_products"),
        "inactive_choices": form.products("inactive_products"),
        "granting": _granting_groups(organization, form),
        "may_edit": request.access.may(Permission.RULES),
        "may_preview": request.access.may(Permission.PREVIEW),
    }
    return render(request, "rules/edit.html", context, status=status)


def _pending(rule: CleanupRule | None) -> list[SafeguardLine]:
    """What waits for another person to make the rule's safeguards looser."""
    if rule is None:
        return []
    return [line for change in selectors.open_changes(rule) for line in safeguard_lines(change)]


def _granting_groups(organization: Organization, form: RuleForm) -> str:
    """Names of the groups that give the chosen products, at most eight and how many more."""
    chosen = [choice.value for choice in form.products("target_products") if choice.is_chosen]
    if not chosen:
        return ""
    mask = bits_of(chosen)
    rows = Group.objects.of(organization).filter(vanished_at__isnull=True).exclude(granted_products=0)
    names = [name for name, bits in rows.order_by("name").values_list("name", "granted_products") if bits & mask]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _save(
    request: OrganizationRequest, form: RuleForm, rule: CleanupRule | None, save: Callable[[], CleanupRule]
) -> HttpResponse:
    """Save, then go where the button said; a refusal shows the editor again with its reasons."""
    try:
        saved = save()
    except DomainError as error:
        return _editor(request, _refused(form, error.fields or {"": [error.detail]}), rule, status=error.status)
    messages.success(request, f"“{saved.name}” is saved.")
    if rule is not None and selectors.open_changes(saved).exists():
        messages.warning(request, "What makes the rule's safeguards looser waits under Approvals for another person.")
    if request.POST.get("then") == "preview" and request.access.may(Permission.PREVIEW):
        access = request.access
        return _started(
            request, lambda: services.preview_rule(rule=saved, actor=access.actor, operator=access.operator)
        )
    return redirect("rules:list", organization_of(request).slug)


def _refused(form: RuleForm, errors: dict[str, list[str]]) -> RuleForm:
    return RuleForm(form.values, version=form.version, errors=errors, reason=form.reason)


def _is_no_save(request: OrganizationRequest) -> bool:
    """A button of the page that changes what is typed, without saving it."""
    return "find" in request.POST or "conditions" in request.POST


def _typed(request: OrganizationRequest, rule: CleanupRule | None, version: int | None) -> RuleForm:
    """The form as it was sent, after the button of the list of conditions that was pressed."""
    values = values_from(request.POST, base=RuleInput.of(rule) if rule else None)
    added = None
    if command := request.POST.get("conditions", ""):
        values, added = with_conditions_changed(values, command, request.POST.get("add_condition", ""))
    return RuleForm(values, version=version, reason=request.POST.get("reason", "")[:500], new_condition=added)


@require(Permission.RULES)
@require_http_methods(["GET", "POST"])
def new(request: OrganizationRequest) -> HttpResponse:
    """Create a rule; the address may fill it in: `action, products, days, name`."""
    if request.method == "GET":
        return _editor(request, RuleForm(start_values(request.GET)), None)
    form = _typed(request, None, None)
    if _is_no_save(request):
        return _editor(request, form, None)
    access = request.access
    return _save(
        request,
        form,
        None,
        lambda: services.create_rule(
            organization=organization_of(request), values=form.values, actor=access.actor, operator=access.operator
        ),
    )


@require(Permission.VIEW)
@require_http_methods(["GET", "POST"])
def edit(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Show a rule to everybody, and save it for those who may."""
    rule = _rule(request, pk)
    if request.method == "GET":
        return _editor(request, RuleForm(RuleInput.of(rule), version=rule.version), rule)
    if not request.access.may(Permission.RULES):
        return render(request, "operators/refused.html", {"permission": Permission.RULES}, status=403)
    version = _whole(request.POST.get("version", ""))
    form = _typed(request, rule, version)
    if _is_no_save(request):
        return _editor(request, form, rule)
    access = request.access
    return _save(
        request,
        form,
        rule,
        lambda: services.update_rule(
            rule=rule,
            values=form.values,
            expected_version=version or 0,
            actor=access.actor,
            operator=access.operator,
            reason=form.reason,
        ),
    )


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


@require(Permission.VIEW)
@require_POST
def estimate(request: OrganizationRequest) -> HttpResponse:
    """The summary of the editor's present values, for a new rule or for `rule`."""
    key = _whole(request.POST.get("rule", ""))
    rule = _rule(request, key) if key else None
    base = RuleInput.of(rule) if rule else None
    values = values_from(request.POST, base=base)
    summary = _summary(organization_of(request), values, rule)
    return render(request, "rules/_summary.html", {"summary": summary, "is_partial": True})


@require(Permission.VIEW)
@require_GET
def group_options(request: OrganizationRequest) -> HttpResponse:
    """The groups that a picker offers for its search; those already ticked are left out."""
    name = request.GET.get("field", "")
    if name not in PICKERS and not re.fullmatch(r"c[0-9]{1,2}_groups", name, re.ASCII):
        raise Http404
    keys = [int(text) for text in request.GET.getlist(name) if is_key(text)]
    label = PICKERS[name][0] if name in PICKERS else "Groups of this condition"
    picker = _group_picker(organization_of(request), name, label, "", True, keys, request.GET)
    return render(request, "rules/_group_results.html", {"picker": picker})
