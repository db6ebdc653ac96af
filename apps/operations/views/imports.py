"""Import users: upload a CSV file, say what its columns mean, check it, choose what happens; then it is a plan."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRefresh

from apps.audit.services import record
from apps.operations.actions import REGISTRY
from apps.operations.services.imports import GROUP_ACTIONS, IMPORT_ACTIONS, check_file, plan_import
from apps.operations.views.common import ROWS, after_key
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.users import csv_layouts
from apps.users.models import Group, ImportFile, ImportRow
from apps.users.selectors import imports as selectors
from apps.users.services import imports as services
from aum.common.csv import neutralise
from aum.common.errors import DomainError, InvalidInput, Missing

Answer = TypeVar("Answer", bound=HttpResponseBase)
Status = ImportFile.Status
SHOWN_GROUPS = 20
SHOWN_WRONG = 20
SAMPLES = {
    "suspend-list": "Account id,Email\n712020:0f1e2d3c-0000-4000-8000-000000000001,\n,leaver@example.com\n",
    "invite-list": (
        "Email,Groups,Products\nnew.one@example.com,team-a;team-b,jira-software\nnew.two@example.com,,confluence\n"
    ),
    "emails-only": "leaver.one@example.com\nleaver.two@example.com\n",
    "export-users": (
        "User id,User name,email,User status,Added to org,Org role,Jira - example,Last seen in Jira - example\n"
        "712020:0f1e2d3c-0000-4000-8000-000000000001,Ada Example,ada@example.com,Active,3 Jan 2024,,User,28 Apr 2026\n"
    ),
}


def find_import(request: OrganizationRequest, pk: int) -> ImportFile:
    """The organisation's file; 404 for any other."""
    try:
        return selectors.import_file(organization_of(request), pk)
    except Missing as error:
        raise Http404 from error


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def imports(request: OrganizationRequest) -> HttpResponse:
    """Earlier imports, and the form for the next."""
    organization = organization_of(request)
    error = csv_layouts.TOO_LARGE if "too-large" in request.GET else ""
    if request.method == "POST":
        try:
            created = services.upload_import(
                organization=organization, actor=request.access.actor, **_uploaded(request)
            )
            return redirect("operations:import", organization.slug, created.pk)
        except InvalidInput as refusal:
            error = refusal.detail
    context = {"files": selectors.import_files(organization), "error": error, "samples": list(SAMPLES)}
    return render(request, "users/import/list.html", context, status=422 if error else 200)


def _uploaded(request: OrganizationRequest) -> dict[str, Any]:
    """Name and content of the uploaded file. Raises InvalidInput for none, and before a large one is read."""
    file: Any = request.FILES.get("file")
    if file is None:
        raise InvalidInput("Choose a file.")
    if file.size > csv_layouts.MAX_BYTES:
        raise InvalidInput(csv_layouts.TOO_LARGE)
    return {"name": file.name or "", "content": file.read()}


@require(Permission.ACT)
@require_GET
def sample(request: OrganizationRequest, name: str) -> HttpResponse:
    """A small file that shows a layout."""
    if name not in SAMPLES:
        raise Http404
    return _download(HttpResponse("\ufeff" + SAMPLES[name], content_type="text/csv; charset=utf-8"), f"{name}.csv")


def _download(response: Answer, name: str) -> Answer:
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@require(Permission.ACT)
@require_GET
def import_page(request: OrganizationRequest, pk: int) -> HttpResponse:
    """The step that the file has reached; `?step=map` goes back to the columns."""
    file = find_import(request, pk)
    if file.status in (Status.READING, Status.FAILED):
        return render(request, "users/import/reading.html", {"file": file})
    if file.status == Status.READ or request.GET.get("step") == "map":
        return render(request, "users/import/map.html", _map_context(file, file.mapping))
    return render(request, "users/import/checked.html", _checked_context(request, file, request.GET))


@require(Permission.ACT)
@require_GET
def import_progress(request: OrganizationRequest, pk: int) -> HttpResponse:
    """The progress of reading, polled; the page is loaded anew when it is over."""
    file = find_import(request, pk)
    if file.status != Status.READING:
        return HttpResponseClientRefresh()
    return render(request, "users/import/_reading.html", {"file": file})


def _map_context(file: ImportFile, mapping: dict[str, int], error: str = "") -> dict[str, Any]:
    choices = [
        {"name": name, "label": label, "index": mapping.get(name)} for name, label in csv_layouts.MEANINGS.items()
    ]
    layout = csv_layouts.LAYOUTS.get(file.layout, "")
    return {"file": file, "columns": selectors.columns(file), "choices": choices, "layout": layout, "error": error}


@require(Permission.ACT)
@require_POST
def import_map(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Take the columns as chosen and check every line."""
    file = find_import(request, pk)
    chosen = {name: request.POST.get(name, "") for name in csv_layouts.MEANINGS}
    mapping = {
        name: int(text) for name, text in chosen.items() if text.isascii() and text.isdecimal() and len(text) < 5
    }
    try:
        check_file(file=file, mapping=mapping)
    except InvalidInput as error:
        return render(request, "users/import/map.html", _map_context(file, mapping, error.detail), status=422)
    except DomainError:
        pass  # still being read, or refused: its page says so
    return redirect("operations:import", organization_of(request).slug, file.pk)


# --- checked --------------------------------------------------------------------------------------------------------


def group_keys(data: QueryDict) -> list[int]:
    """Our keys of the ticked groups."""
    return [int(text) for text in data.getlist("groups") if text.isascii() and text.isdecimal() and len(text) < 19]


def group_choices(request: OrganizationRequest, data: QueryDict, *, for_invites: bool = False) -> dict[str, Any]:
    """Groups for a form's search, those chosen first. For invitations none whose members administer something."""
    keys, search = group_keys(data), data.get("group_search", "").replace("\x00", "").strip()[:100]
    groups = Group.objects.of(organization_of(request)).filter(vanished_at__isnull=True, is_synced=False)
    if for_invites or "for_invites" in data:
        groups = groups.filter(is_administrative=False, are_grants_known=True)
    chosen = list(groups.filter(pk__in=keys)[:100])
    others = groups.exclude(pk__in=keys)
    if search:
        others = others.filter(name__icontains=search)
    return {
        "group_search": search,
        "chosen_groups": chosen,
        "other_groups": list(others.order_by("name")[:SHOWN_GROUPS]),
    }


def _action_context(request: OrganizationRequest, data: QueryDict) -> dict[str, Any]:
    """What the action form shows: actions, and groups for its search."""
    return {
        "actions": [(name, REGISTRY[name].label) for name in IMPORT_ACTIONS],
        "group_actions": GROUP_ACTIONS,
        "action": data.get("action", ""),
        **group_choices(request, data),
    }


def _checked_context(
    request: OrganizationRequest, file: ImportFile, data: QueryDict, error: str = ""
) -> dict[str, Any]:
    return {
        "file": file,
        "tab": "check",
        "wrong": list(selectors.wrong_lines(file, selectors.wrong_rows(file)[:SHOWN_WRONG])),
        "reasons": [
            (label, file.counts.get(str(code), 0))
            for code, label in ImportRow.Code.choices
            if file.counts.get(str(code))
        ],
        "layout": csv_layouts.LAYOUTS.get(file.layout, ""),
        "has_dates": bool(csv_layouts.columns_of(file.headers, file.layout).seen),
        "today": timezone.now().date(),
        "error": error,
        **_action_context(request, data),
    }


@require(Permission.ACT)
@require_GET
def import_groups(request: OrganizationRequest) -> HttpResponse:
    """The groups of the action form for a search."""
    return render(request, "users/import/_groups.html", _action_context(request, request.GET))


class _Echo:
    """A file of which csv writes each line straight into the answer."""

    def write(self, value: str) -> str:
        return value


@require(Permission.ACT)
@require_GET
def import_wrong(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """The wrong lines as they stand in the file, each with its number, the column and the reason; logged."""
    file = find_import(request, pk)
    record(
        organization=organization_of(request),
        actor=request.access.actor,
        action="import.exported",
        target_kind="import",
        target_ref=str(file.pk),
        target_name=file.name,
    )
    writer = csv.writer(_Echo())

    def lines() -> Iterator[str]:
        yield "\ufeff" + writer.writerow(map(neutralise, ["line", "column", "reason", *file.headers]))
        for row in selectors.wrong_rows(file).iterator(chunk_size=2000):
            found = selectors.wrong_line(file, row)
            cells = [str(found.line), found.column, found.reason, *map(str, row.cells)]
            yield writer.writerow(map(neutralise, cells))

    return _download(
        StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8"), f"aum-wrong-lines-{file.pk}.csv"
    )


def _people_filter(data: QueryDict) -> dict[str, str]:
    """What `people_rows` takes, from the query or the form; unknown words narrow nothing."""
    only, product = data.get("only", ""), data.get("product", "")
    return {
        "search": data.get("search", "").replace("\x00", "").strip()[:200],
        "only": only if only in selectors.ONLY else "",
        "product": product if product.replace("-", "").isalnum() else "",
        "status": data.get("status", "").replace("\x00", "")[:100],
    }


@require(Permission.ACT)
@require_GET
def import_people(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Detailed user info (CSV): the file's people beside the directory."""
    file = find_import(request, pk)
    if file.status != Status.CHECKED:
        return redirect("operations:import", organization_of(request).slug, pk)
    return render(request, "users/import/people.html", _people_context(request, file, request.GET))


def _people_context(request: OrganizationRequest, file: ImportFile, data: QueryDict, error: str = "") -> dict[str, Any]:
    chosen = _people_filter(data)
    rows = selectors.people_rows(file, **chosen)
    found, after = selectors.page_of_people(rows, after_key(request), ROWS)
    return {
        "file": file,
        "tab": "people",
        "people": selectors.file_people(file, found),
        "after": after,
        "matching": rows.count(),
        **chosen,
        "filter": urlencode({name: value for name, value in chosen.items() if value}),
        "onlys": [("", "All lines"), *((key, label) for key, (label, _) in selectors.ONLY.items())],
        "products": selectors.products_of(file),
        "statuses": selectors.statuses_of(file),
        "layout": csv_layouts.LAYOUTS.get(file.layout, ""),
        "error": error,
        **_action_context(request, data),
    }


@require(Permission.ACT)
@require_POST
def import_act(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Plan the chosen action, for the whole file or for chosen lines, and go to the preview."""
    file = find_import(request, pk)
    is_people = "people" in request.POST
    try:
        operation = plan_import(
            file=file,
            rows=_chosen_rows(file, request.POST) if is_people else selectors.people_rows(file),
            action=request.POST.get("action", ""),
            group_ids=group_keys(request.POST),
            actor=request.access.actor,
            operator=request.access.operator,
        )
    except DomainError as error:
        said = " ".join(text for texts in error.fields.values() for text in texts) or error.detail
        if file.status != Status.CHECKED:
            return redirect("operations:import", organization_of(request).slug, pk)
        if is_people:
            context = _people_context(request, file, request.POST, said)
            return render(request, "users/import/people.html", context, status=422)
        return render(
            request, "users/import/checked.html", _checked_context(request, file, request.POST, said), status=422
        )
    return redirect("operations:run", organization_of(request).slug, operation.number)


@require(Permission.ACT)
@require_POST
def import_activity(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Fill last logins that Atlassian does not give with the dates of the file."""
    file = find_import(request, pk)
    try:
        day = date.fromisoformat(request.POST.get("exported_on", "").strip())
    except ValueError:
        day = date.min
    try:
        count = services.use_activity(file=file, exported_on=day, actor=request.access.actor)
    except DomainError as error:
        said = " ".join(text for texts in error.fields.values() for text in texts) or error.detail
        messages.error(request, said)
    else:
        messages.success(request, f"{count:,} last login{'' if count == 1 else 's'} filled from the file.")
    return redirect("operations:import", organization_of(request).slug, pk)


def _chosen_rows(file: ImportFile, data: QueryDict) -> QuerySet[ImportRow]:
    """The ticked lines, or all that the filter shows. Raises InvalidInput for none."""
    if "all" in data:
        return selectors.people_rows(file, **_people_filter(data))
    lines = [int(text) for text in data.getlist("lines") if text.isascii() and text.isdecimal() and len(text) < 10]
    if not lines:
        raise InvalidInput("Select at least one line.")
    return selectors.people_rows(file).filter(line__in=lines)
