"""Pages of Scheduler & Cleanup: the list, the editor with its live summary, and the buttons of a rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from apps.operations.models import Operation
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.rules import schedule, selectors, services
from apps.rules.forms import RuleForm, groups_matching, start_values, values_from
from apps.rules.models import CleanupRule
from apps.rules.values import GROUP_FIELDS, RuleInput, clean
from apps.users.models import Group
from apps.users.products import bits_of
from apps.users.selectors import dashboard_counts
from apps.users.selectors.words import short_label
from aum.common.errors import DomainError, InvalidInput, Missing

SHORT_ACTIONS = {"deactivate": "Deactivate", "suspend": "Suspend", "remove_product_access": "Remove product access"}
VIEW_LABELS = {"all": "All rules", "live": "Live", "safe": "Safe", "paused": "Paused"}
PICKERS = {
    "target_groups": ("Groups", "Only for “Specified groups only”: nobody outside of them is touched.", False),
    "protected_groups": (
        "Protected groups",
        "Members are skipped even if they match. Admins, exempt users and groups protected for the whole organisation "
        "are always skipped.",
        True,
    ),
}
LIVE_NEEDS_PREVIEW = (
    "Live mode needs a preview made after the last edit: save the rule in Safe mode, preview it, check the list, then "
    "switch to Live."
)
LIVE_CHANGES_NOTHING_ELSE = (
    "The preview shows the rule as it was saved, and these fields differ. Save the changes in Safe mode, preview, then "
    "switch to Live."
)
NAMES_SHOWN = 2


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
    if rule.target == CleanupRule.Target.SPECIFIED_GROUPS:
        return "Specified groups: " + ", ".join(sorted(group.name for group in rule.target_groups.all()))
    return "Managed users only" if rule.action == CleanupRule.Action.DEACTIVATE else str(rule.get_target_display())


def _scope_words(rule: CleanupRule) -> str:
    """The products that the rule looks at or takes; "Runs globally" when it looks at all of them."""
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
def run(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Run the rule now, in its own mode, and go to that run."""
    rule = _rule(request, pk)
    access = request.access
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
    """A paused copy in Safe mode, opened in the editor."""
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
    errors: Sequence[str] = ()


def _picker(organization: Organization, form: RuleForm, name: str, search: str) -> Picker:
    label, hint, is_plain = PICKERS[name]
    keys = form.group_ids(name)
    chosen = list(Group.objects.of(organization).filter(pk__in=keys).order_by("name", "pk"))
    found = groups_matching(organization, search, keys)
    return Picker(name, label, hint, is_plain, chosen, found, search, form[name].errors)


@dataclass(frozen=True)
class Summary:
    """What stands beside the editor: the rule in a sentence, and what it would do now."""

    mode: str
    sentence: str = ""
    next_cleanup: str = ""
    estimate: selectors.Estimate | None = None
    warnings: Sequence[str] = ()
    live_refusal: str = ""

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
    return Summary(
        mode=cleaned.mode,
        sentence=selectors.sentence(cleaned, organization=organization),
        next_cleanup=_moment(schedule.next_run(_due(cleaned), timezone.now()), cleaned.timezone),
        estimate=selectors.estimate(organization, cleaned),
        warnings=selectors.warnings(organization, cleaned),
        live_refusal=refusal,
    )


def _named(values: RuleInput, rule: CleanupRule | None) -> RuleInput:
    return dataclasses.replace(values, name=rule.name if rule else f"estimate {timezone.now():%H%M%S%f}")


def _due(values: RuleInput) -> schedule.Scheduled:
    """Cleaned values have a time."""
    assert values.run_at is not None
    return values  # type: ignore[return-value]  # run_at was just shown to be set


def _moment(at: datetime, tz: str) -> str:
    """`Thu 26 Nov 2026, 06:00 UTC`, with the local time where the rule's timezone is another one."""
    text = f"{at.astimezone(UTC):%a %d %b %Y, %H:%M} UTC"
    return text if tz == "UTC" else f"{text} ({at.astimezone(ZoneInfo(tz)):%a %H:%M} {tz})"


def _live_refusal(rule: CleanupRule | None) -> str:
    """Why Live cannot be chosen yet; empty when it can, or when the rule is live already."""
    if rule is not None and (rule.mode == CleanupRule.Mode.LIVE or selectors.has_fresh_preview(rule)):
        return ""
    return LIVE_NEEDS_PREVIEW


def _live_objection(values: RuleInput, rule: CleanupRule | None) -> str:
    """Why these values cannot be saved as Live: the preview has to show exactly them."""
    if values.mode != CleanupRule.Mode.LIVE or (rule is not None and rule.mode == CleanupRule.Mode.LIVE):
        return ""
    refusal = _live_refusal(rule)
    if refusal or rule is None:
        return refusal
    stored = RuleInput.of(rule)
    try:
        cleaned = clean(values, rule.organization, rule=rule)
    except InvalidInput:
        return ""  # the service names each wrong field
    if dataclasses.replace(cleaned, mode=stored.mode) != clean(stored, rule.organization, rule=rule):
        return LIVE_CHANGES_NOTHING_ELSE
    return ""


def _editor(
    request: OrganizationRequest, form: RuleForm, rule: CleanupRule | None, *, status: int = 200
) -> HttpResponse:
    organization = organization_of(request)
    summary = _summary(organization, form.values, rule)
    searches = {name: request.POST.get(f"{name}_search", "") for name in GROUP_FIELDS}
    context = {
        "form": form,
        "rule": rule,
        "pickers": [_picker(organization, form, name, searches[name]) for name in GROUP_FIELDS],
        "summary": summary,
        "live_refusal": summary.live_refusal,
        "next_cleanup": summary.next_cleanup or "not known yet",
        "timezone": rule.timezone if rule else organization.timezone,
        "managed_count": dashboard_counts(organization).managed,
        "target_choices": form.products("target_products"),
        "inactive_choices": form.products("inactive_products"),
        "granting": _granting_groups(organization, form),
        "may_edit": request.access.may(Permission.RULES),
        "may_preview": request.access.may(Permission.PREVIEW),
    }
    return render(request, "rules/edit.html", context, status=status)


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
    if objection := _live_objection(form.values, rule):
        return _editor(request, _refused(form, {"mode": [objection]}), rule, status=422)
    try:
        saved = save()
    except DomainError as error:
        return _editor(request, _refused(form, error.fields or {"": [error.detail]}), rule, status=error.status)
    messages.success(request, f"“{saved.name}” is saved.")
    if request.POST.get("then") == "preview" and request.access.may(Permission.PREVIEW):
        access = request.access
        return _started(
            request, lambda: services.preview_rule(rule=saved, actor=access.actor, operator=access.operator)
        )
    return redirect("rules:list", organization_of(request).slug)


def _refused(form: RuleForm, errors: dict[str, list[str]]) -> RuleForm:
    return RuleForm(form.values, version=form.version, errors=errors)


@require(Permission.RULES)
@require_http_methods(["GET", "POST"])
def new(request: OrganizationRequest) -> HttpResponse:
    """Create a rule; the address may fill it in: `action, products, days, name`."""
    if request.method == "GET":
        return _editor(request, RuleForm(start_values(request.GET)), None)
    form = RuleForm(values_from(request.POST))
    if "find" in request.POST:
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
    form = RuleForm(values_from(request.POST, base=RuleInput.of(rule)), version=version)
    if "find" in request.POST:
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
    if name not in PICKERS:
        raise Http404
    typed: dict[str, Any] = {name: tuple(request.GET.getlist(name))}
    search = request.GET.get(f"{name}_search", "")
    picker = _picker(organization_of(request), RuleForm(RuleInput(**typed)), name, search)
    return render(request, "rules/_group_results.html", {"picker": picker})
