"""Starting, applying, deciding, steering and undoing: what the buttons of operations do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Count
from django.http import Http404, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from apps.operations import selectors, services
from apps.operations.actions import ADMINISTRATIVE, OF_GROUPS, REGISTRY
from apps.operations.forms import (
    MAX_GROUPS,
    Confirmation,
    DayForm,
    Wanted,
    group_choices,
    keys_of,
    typed_count,
    wanted,
)
from apps.operations.models import Operation, OperationItem
from apps.operations.views.common import find_operation, why_not_apply
from apps.operations.views.words import button_words, managed_words, users_words, will_words
from apps.operators.access import OrganizationRequest, fresh, organization_of, proof_first, require
from apps.operators.permissions import Permission
from apps.users.models import Account, Group, Product
from aum.common.errors import DomainError


@require(Permission.ACT)
@require_POST
def act(request: OrganizationRequest) -> HttpResponse:
    """Plan actions on chosen people in Safe mode and go to that preview, from which they can be applied.

    Where groups or products are still to be chosen, answers with that question: a dialog, or a page of its own.
    """
    organization, access = organization_of(request), request.access
    try:
        asked = wanted(request.POST, organization)
    except DomainError as error:
        return _not_planned(request, error)
    if "find" in request.POST or not asked.is_complete:
        is_answer = "answered" in request.POST and "find" not in request.POST
        return _ask_targets(request, asked, _missing_targets(asked) if is_answer else {})
    try:
        operation = services.plan_operation(
            organization=organization,
            kind=Operation.Kind.MANUAL_OPERATION,
            mode=Operation.Mode.SAFE,
            initiator=Operation.Initiator.MANUAL,
            actor=access.actor,
            operator=access.operator,
            name=asked.name,
            actions=asked.actions,
            selection=asked.selection,
        )
    except DomainError as error:
        if error.fields.keys() & {"groups", "products"}:
            return _ask_targets(request, asked, error.fields)
        return _not_planned(request, error)
    return _to(request, operation)


def _not_planned(request: OrganizationRequest, error: DomainError) -> HttpResponse:
    """The refusal: in a dialog over the list, which keeps its selection, or above the page that asked."""
    if request.htmx:
        return render(request, "operations/_not_planned.html", {"sentence": _sentence(error)}, status=422)
    messages.error(request, _sentence(error))
    return redirect(_own_page(request) or reverse("users:list", args=[organization_of(request).slug]))


def _missing_targets(asked: Wanted) -> dict[str, list[str]]:
    errors = {}
    if asked.group_action and not asked.group_ids:
        errors["groups"] = ["Choose at least one group."]
    if asked.asks_scope and not asked.scope:
        errors["scope"] = ["Choose whether everything or some products are suspended."]
    if asked.asks_products and not asked.products:
        errors["products"] = ["Choose at least one product."]
    return errors


def _ask_targets(request: OrganizationRequest, asked: Wanted, errors: Mapping[str, Sequence[str]]) -> HttpResponse:
    """Ask for the groups and products that the actions still need; what was asked before travels along."""
    organization = organization_of(request)
    context = {
        "asked": asked,
        "title": asked.name,
        "errors": errors,
        "back": _own_page(request) or reverse("users:list", args=[organization.slug]),
        "next": request.POST.get("next", ""),
        "products": [(value, label, value in asked.products) for value, label in Product.choices],
        **_selector(request, asked.group_action, asked.group_ids, asked.only_account_id),
    }
    template = "operations/_targets.html" if request.htmx else "operations/targets.html"
    return render(request, template, context, status=422 if errors else 200)


def _selector(request: OrganizationRequest, action: str, chosen: Sequence[int], held_by: str) -> dict[str, Any]:
    """What the group selector shows; nothing where no group is asked for."""
    data = request.POST if request.method == "POST" else request.GET
    search = data.get("group_search", "").replace("\x00", "").strip()[:200]
    if not action:
        return {"group_action": ""}
    choices, has_more = group_choices(organization_of(request), action, search=search, chosen=chosen, held_by=held_by)
    return {
        "group_action": action,
        "group_label": REGISTRY[action].label,
        "choices": choices,
        "has_more": has_more,
        "search": search,
        "held_by": held_by,
    }


@require(Permission.ACT)
@require_GET
def group_selector(request: OrganizationRequest) -> HttpResponse:
    """The group selector of the bulk bar: the dialog, its list for a search (`list`), or what was confirmed (`done`).

    Without script it is not asked for: Preview actions asks for the groups on a page.
    """
    action = request.GET.get("group_action", "")
    action = action if action in OF_GROUPS else ""
    chosen = tuple(keys_of(request.GET.getlist("groups"))[:MAX_GROUPS])
    if "done" in request.GET or not action:
        groups = Group.objects.of(organization_of(request)).filter(pk__in=chosen) if action else []
        return render(request, "operations/_chosen_groups.html", {"groups": list(groups)})
    context = _selector(request, action, chosen, request.GET.get("held_by", "")[:128])
    template = "operations/_group_choices.html" if "list" in request.GET else "operations/_group_selector.html"
    return render(request, template, context)


def _sentence(error: DomainError) -> str:
    """The refusal in one text: its fields' sentences, else its own."""
    texts = [text for found in error.fields.values() for text in found]
    return " ".join(texts) or error.detail


def _own_page(request: OrganizationRequest) -> str:
    """The page that a form names to go back to, where that is one of this organisation's; else empty."""
    target = request.POST.get("next", "")
    base = reverse("operations:approvals", args=[organization_of(request).slug]).removesuffix("approvals/")
    is_own = target.startswith(base) and "\\" not in target and "//" not in target.partition("?")[0]
    return target if is_own else ""


def _to(request: OrganizationRequest, operation: Operation) -> HttpResponse:
    """To the operation's page, from a form or a dialog."""
    target = reverse("operations:run", args=[organization_of(request).slug, operation.number])
    return HttpResponseClientRedirect(target) if request.htmx else redirect(target)


def _steered(request: OrganizationRequest, operation: Operation, do: Callable[[], Any], said: str) -> HttpResponse:
    try:
        do()
        messages.success(request, said)
    except DomainError as error:
        messages.error(request, _sentence(error))
    return _to(request, operation)


@require(Permission.ACT)
@require_POST
def pause(request: OrganizationRequest, number: int) -> HttpResponse:
    """Pause a run; calls under way are finished."""
    operation = find_operation(request, number)
    return _steered(
        request,
        operation,
        lambda: services.pause_operation(operation=operation, actor=request.access.actor),
        "Paused. Nothing further is written until you resume.",
    )


@require(Permission.ACT)
@require_POST
def resume(request: OrganizationRequest, number: int) -> HttpResponse:
    """Let a paused run go on."""
    operation = find_operation(request, number)
    return _steered(
        request,
        operation,
        lambda: services.resume_operation(operation=operation, actor=request.access.actor),
        "The run goes on.",
    )


def _asked(
    request: OrganizationRequest,
    operation: Operation | None,
    question: Confirmation,
    do: Callable[[QueryDict], Operation],
) -> HttpResponse:
    """Ask on GET; on POST check the answer, do it and go to the operation that came of it."""
    if operation is not None:
        question = dataclasses.replace(question, back=operation.get_absolute_url())
    errors: dict[str, list[str]] = {}
    status = 200
    if request.method == "POST":
        errors = question.refused(request.POST)
        status = 422
        if not errors:
            try:
                return _to(request, do(request.POST))
            except DomainError as error:
                errors, status = error.fields or {"": [error.detail]}, error.status
    shown = dataclasses.replace(question, errors=errors, reason=request.POST.get("reason", ""))
    if request.htmx and status not in (200, 409, 422):
        status = 422  # the only refusals that htmx shows in place
    template = "operations/_confirm.html" if request.htmx else "operations/confirm.html"
    return render(request, template, {"question": shown, "operation": operation}, status=status)


def _effects(operation: Operation, count: int) -> list[str]:
    """What happens to the people, and the way back, per action."""
    names = [name for name in operation.action.split("+") if name in REGISTRY]
    if len(names) < 2:
        return [
            text
            for name in names
            for text in (f"{button_words(operation, count)}: {REGISTRY[name].effect}", REGISTRY[name].way_back)
        ]
    people = dict(
        operation.items.order_by()
        .values("action")
        .annotate(n=Count("subject", distinct=True))
        .values_list("action", "n")
    )
    return [
        f"{REGISTRY[name].label}, {users_words(people.get(name, 0))}: {REGISTRY[name].effect} {REGISTRY[name].way_back}"
        for name in names
    ]


# action → (the sentence to be ticked, how the people are called who it can touch)
_FINAL = {
    "delete": "I know this cannot be undone: after its 14 days Atlassian deletes these accounts for good.",
    "remove_from_directory": "I know this cannot be undone: these users would have to be invited anew.",
}


def _final_action(operation: Operation) -> str:
    """The operation's action that cannot be undone; empty when all can be."""
    return next((name for name in operation.action.split("+") if name in _FINAL), "")


def _typed(count: int) -> int | None:
    """The count to be typed: one person is a plain confirmation."""
    return count if count > 1 else None


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
@fresh("Apply the plan")
def apply(request: OrganizationRequest, number: int) -> HttpResponse:
    """Apply a preview: exactly its people, after the count was typed."""
    operation = find_operation(request, number)
    refusal = why_not_apply(request.access, operation)
    if refusal:
        return render(request, "operators/refused.html", {"permission": Permission.RUN_RULES}, status=403)
    count, skipped = operation.people_count, sum(operation.left_out.values())
    points = _effects(operation, count)
    if managed := managed_words(operation):
        points.append(managed)
    if skipped:
        is_are = "is" if skipped == 1 else "are"
        if "+" in operation.action:
            points.append(f"{users_words(skipped)} {is_are} left out of at least one of the actions: see Skipped.")
        else:
            points.append(f"The {users_words(skipped)} left out {is_are} not touched.")
    if not ADMINISTRATIVE.isdisjoint(operation.action.split("+")):
        who = (
            "you confirm it by the count and your password"
            if operation.organization.is_one_operator
            else ("another person approves it")
        )
        points.append(f"Changes who administers something: nothing is written before {who}.")
    points.append("Only the users of this preview are touched. Who no longer meets it by then is skipped and named.")
    final = _final_action(operation)
    question = Confirmation(
        title=f"{button_words(operation, count)} now",
        url=reverse("operations:apply", args=[organization_of(request).slug, number]),
        button=button_words(operation, count),
        points=points,
        count=count if final else _typed(count),
        count_hint=f"The number of users who {will_words(operation)}.",
        tick=_FINAL.get(final, ""),
        plan_hash=operation.plan_hash,
    )

    def do(data: QueryDict) -> Operation:
        return services.apply_preview(
            operation=operation,
            plan_hash=data.get("plan_hash", ""),
            actor=request.access.actor,
            operator=request.access.operator,
        )

    return _asked(request, operation, question, do)


@require(Permission.APPROVE)
@require_http_methods(["GET", "POST"])
def approve(request: OrganizationRequest, number: int) -> HttpResponseBase:
    """Approve a held plan. In one-operator mode the count is typed and the password given again."""
    operation = find_operation(request, number)
    plan_hash, count = services.approval_hash(operation)
    alone = operation.organization.is_one_operator
    # Alone, the form itself asks for the password.
    if request.method == "POST" and not alone and (asked := proof_first(request, "Approve the plan")):
        return asked
    question = Confirmation(
        title=f"Approve: {button_words(operation, count)}",
        url=reverse("operations:approve", args=[organization_of(request).slug, number]),
        button=f"Approve {users_words(count)}",
        points=[
            *_effects(operation, count),
            "The approval is for exactly this plan. If the plan changes, it has to be approved anew.",
            "The run starts at once.",
        ],
        count=count if alone else None,
        count_hint="The number of users in this plan.",
        tick=_FINAL.get(_final_action(operation), ""),
        asks_password=alone,
        asks_reason=True,
        plan_hash=plan_hash,
    )

    def do(data: QueryDict) -> Operation:
        operator = request.access.operator
        assert operator is not None
        approved: Operation = services.approve_operation(
            operation=operation,
            plan_hash=data.get("plan_hash", ""),
            operator=operator,
            actor=request.access.actor,
            confirm_count=typed_count(data),
            password=data.get("password") or None,
            reason=data.get("reason", "").strip(),
        )
        messages.success(request, f"Approved. {button_words(operation, count)}: the run starts.")
        return approved

    return _asked(request, operation, question, do)


@require(Permission.VIEW)
@require_http_methods(["GET", "POST"])
def reject(request: OrganizationRequest, number: int) -> HttpResponse:
    """Reject a held plan with a reason; its author may withdraw it. The service judges who may."""
    operation = find_operation(request, number)
    is_own = request.access.operator is not None and request.access.operator.pk == operation.actor_id
    question = Confirmation(
        title=f"{'Withdraw' if is_own else 'Reject'} the plan “{operation.name}”",
        url=reverse("operations:reject", args=[organization_of(request).slug, number]),
        button="Withdraw the plan" if is_own else "Reject the plan",
        points=["Nothing is written. The plan stays readable, and a new one can be made at any time."],
        asks_reason=True,
        is_reason_required=True,
    )

    def do(data: QueryDict) -> Operation:
        operator = request.access.operator
        assert operator is not None
        rejected: Operation = services.reject_operation(
            operation=operation, operator=operator, actor=request.access.actor, reason=data.get("reason", "")
        )
        messages.success(request, "The plan was ended. Nothing was written.")
        return rejected

    return _asked(request, operation, question, do)


@require(Permission.VIEW)
@require_http_methods(["GET", "POST"])
def hold(request: OrganizationRequest, number: int) -> HttpResponse:
    """Hold single users back from a held plan, with a reason. The service judges who may."""
    operation = find_operation(request, number)
    chosen = list(dict.fromkeys(text[:320] for text in request.GET.getlist("account")))[:MAX_HELD_BACK]
    people = OperationItem.objects.filter(operation=operation, subject__in=chosen, status="pending")
    names = [str(item.account or item.subject) for item in people.select_related("account").order_by("pk")[:5]]
    count = people.values("subject").distinct().count()
    if not count:
        messages.error(request, "Tick at least one user who is still in the plan.")
        return _to(request, operation)
    base = reverse("operations:hold", args=[organization_of(request).slug, number])
    more = f" and {count - len(set(names))} more" if count > len(set(names)) else ""
    question = Confirmation(
        title=f"Hold {users_words(count)} back",
        url=f"{base}?{urlencode([('account', subject) for subject in chosen])}",
        button=f"Hold {users_words(count)} back",
        points=[
            f"Not touched by this plan: {', '.join(dict.fromkeys(names))}{more}.",
            "The rest of the plan still waits for its approval, which is then for exactly the rest.",
        ],
        asks_reason=True,
        is_reason_required=True,
        is_danger=False,
    )

    def do(given: QueryDict) -> Operation:
        operator = request.access.operator
        assert operator is not None
        held: Operation = services.hold_rows(
            operation=operation,
            account_ids=chosen,
            reason=given.get("reason", ""),
            operator=operator,
            actor=request.access.actor,
        )
        messages.success(request, f"{users_words(count)} held back. The rest waits for its approval.")
        return held

    return _asked(request, operation, question, do)


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def stop(request: OrganizationRequest, number: int) -> HttpResponse:
    """Stop a run for good: what is done stays done."""
    operation = find_operation(request, number)
    summary = selectors.run_summary(operation)
    question = Confirmation(
        title=f"Stop run #{operation.number}",
        url=reverse("operations:stop", args=[organization_of(request).slug, number]),
        button="Stop run",
        points=[
            f"What is done stays done: {summary.done:,} of {summary.total:,}. It can be undone afterwards.",
            f"{summary.todo:,} to go will not be touched.",
            "A stopped run cannot be resumed. To stop for a while, pause it.",
        ],
    )

    def do(data: QueryDict) -> Operation:
        return services.cancel_operation(operation=operation, actor=request.access.actor)

    return _asked(request, operation, question, do)


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def undo(request: OrganizationRequest, number: int) -> HttpResponse:
    """Undo a run, or one of its people with `?account=`: the inverse plan, applied after the count was typed."""
    operation = find_operation(request, number)
    account = request.GET.get("account") or request.POST.get("account") or ""
    done = services.changed_items([operation])
    if account:
        done = done.filter(subject=account)
    count = done.values("subject").distinct().count()
    base = reverse("operations:undo", args=[organization_of(request).slug, number])
    question = Confirmation(
        title=f"Undo run #{operation.number} for {users_words(count)}",
        url=f"{base}?{_encoded(account=account)}" if account else base,
        button=f"Undo for {users_words(count)}",
        points=[
            "Each user gets back exactly what the run took: status, groups and product access as recorded before it.",
            "Users who were changed since are skipped and shown, not overwritten.",
            *(["The rule is paused, so that it does not take everything again."] if operation.rule_id else []),
        ],
        count=_typed(count),
        count_hint="The number of users whom this undoes.",
    )

    def do(data: QueryDict) -> Operation:
        return services.undo_operation(
            operation=operation,
            actor=request.access.actor,
            operator=request.access.operator,
            account_ids=[account] if account else None,
        )

    return _asked(request, operation, question, do)


# As many as one page of a plan shows.
MAX_HELD_BACK = 50


def _encoded(**values: str) -> str:
    query = QueryDict(mutable=True)
    query.update(values)
    return query.urlencode()


def _derived(request: OrganizationRequest, operation: Operation, make: Callable[[], Operation]) -> HttpResponse:
    """To the operation that `make` makes from this one, or back with the reason why there is none."""
    try:
        return _to(request, make())
    except DomainError as error:
        messages.error(request, _sentence(error))
        return _to(request, operation)


@require(Permission.ACT)
@require_POST
def undo_preview(request: OrganizationRequest, number: int) -> HttpResponse:
    """Plan the undo in Safe mode first."""
    operation = find_operation(request, number)
    return _derived(
        request,
        operation,
        lambda: services.undo_operation(
            operation=operation,
            actor=request.access.actor,
            operator=request.access.operator,
            mode=Operation.Mode.SAFE,
        ),
    )


@require(Permission.ACT)
@require_POST
def retry(request: OrganizationRequest, number: int) -> HttpResponse:
    """A new run with what failed, of everybody or of the person whom `account` names."""
    operation = find_operation(request, number)
    account = request.POST.get("account", "")[:320]
    return _derived(
        request,
        operation,
        lambda: services.retry_failed(
            operation=operation,
            actor=request.access.actor,
            operator=request.access.operator,
            account_ids=[account] if account else None,
        ),
    )


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def undo_person(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Undo what the runs of the last 30 days did to one person: first a preview of the net effect."""
    organization = organization_of(request)
    account: Account | None = Account.objects.of(organization).filter(pk=pk).first()
    if account is None:
        raise Http404
    runs = services.runs_of_person(account)
    question = Confirmation(
        title=f"Undo for {account}",
        url=reverse("operations:undo_person", args=[organization.slug, pk]),
        button="Preview undo",
        points=[
            *_run_points(runs),
            "Next comes a preview of what is given back. Nothing is changed before you apply it.",
            "What somebody else changed since is skipped and shown, not overwritten.",
        ],
        is_danger=False,
        back=reverse("users:person", args=[organization.slug, pk]),
    )

    def do(_data: QueryDict) -> Operation:
        return services.undo_person(
            account=account,
            actor=request.access.actor,
            operator=request.access.operator,
            mode=Operation.Mode.SAFE,
        )

    return _asked(request, None, question, do)


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def undo_day(request: OrganizationRequest) -> HttpResponse:
    """Undo all runs that started on one day (UTC): choose the day, see its runs, then a preview of the net effect."""
    organization = organization_of(request)
    form = DayForm(request.POST or request.GET or {"day": timezone.now().date().isoformat()})
    runs = list(services.runs_of_day(organization, form.cleaned_data["day"])) if form.is_valid() else []
    if request.method == "POST" and form.is_valid():
        try:
            operation = services.undo_day(
                organization=organization,
                day=form.cleaned_data["day"],
                actor=request.access.actor,
                operator=request.access.operator,
                mode=Operation.Mode.SAFE,
            )
        except DomainError as error:
            form.add_error("day", _sentence(error))
        else:
            return _to(request, operation)
    context = {"form": form, "runs": runs, "day": form.cleaned_data.get("day") if form.is_bound else None}
    return render(request, "operations/undo_day.html", context, status=422 if form.errors else 200)


def _run_points(runs: Iterable[Operation]) -> list[str]:
    """Runs in one line each, the newest five, and how many more there are."""
    found = list(runs)
    lines = [f"Run #{run.number} {run.name}, {run.started_at:%d %b %Y, %H:%M} UTC." for run in found[:5]]
    if found[5:]:
        lines.append(f"And {len(found) - 5} more runs.")
    return lines or ["No run of the last 30 days changed anything of this user that can be given back."]
