"""Import users: upload a CSV file, say what its columns mean, check it, choose what happens; then it is a plan."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any, TypeVar

from django.db.models import QuerySet
from django.http import Http404, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRefresh

from apps.audit.services import record
from apps.operations.actions import REGISTRY
from apps.operations.services.imports import GROUP_ACTIONS, IMPORT_ACTIONS, plan_import
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
ONLY = (("", "All lines"), ("disagree", "Disagree with the directory"), ("unknown", "Unknown users"))
SAMPLES = {
    "suspend-list": "Account id,Email\n712020:0f1e2d3c-0000-4000-8000-000000000001,\n,leaver@example.com\n",
    "emails-only": "leaver.one@example.com\nleaver.two@example.com\n",
    "export-users": (
        "User id,User name,email,User status,Added to org,Org role,Jira - example,Last seen in Jira - example\n"
        "712020:0f1e2d3c-0000-4000-8000-000000000001,Ada Example,ada@example.com,Active,3 Jan 2024,,User,28 Apr 2026\n"
    ),
}


def _find(request: OrganizationRequest, pk: int) -> ImportFile:
    try:
        return selectors.import_file(organization_of(request), pk)
    except Missing as error:
        raise Http404 from error


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def imports(request: OrganizationRequest) -> HttpResponse:
    """Earlier imports, and the form for the next."""
    organization = organization_of(request)
    error = ""
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
        raise InvalidInput("The file is larger than 20 MB. Split it.")
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
    file = _find(request, pk)
    if file.status in (Status.READING, Status.FAILED):
        return render(request, "users/import/reading.html", {"file": file})
    if file.status == Status.READ or request.GET.get("step") == "map":
        return render(request, "users/import/map.html", _map_context(file, file.mapping))
    return render(request, "users/import/checked.html", _checked_context(request, file, request.GET))


@require(Permission.ACT)
@require_GET
def import_progress(request: OrganizationRequest, pk: int) -> HttpResponse:
    """The progress of reading, polled; the page is loaded anew when it is over."""
    file = _find(request, pk)
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
    file = _find(request, pk)
    chosen = {name: request.POST.get(name, "") for name in csv_layouts.MEANINGS}
    mapping = {
        name: int(text) for name, text in chosen.items() if text.isascii() and text.isdecimal() and len(text) < 5
    }
    try:
        services.check_import(file=file, mapping=mapping)
    except InvalidInput as error:
        return render(request, "users/import/map.html", _map_context(file, mapping, error.detail), status=422)
    except DomainError:
        pass  # still being read, or refused: its page says so
    return redirect("operations:import", organization_of(request).slug, file.pk)


# --- checked --------------------------------------------------------------------------------------------------------


def _group_keys(data: QueryDict) -> list[int]:
    return [int(text) for text in data.getlist("groups") if text.isascii() and text.isdecimal() and len(text) < 19]


def _action_context(request: OrganizationRequest, data: QueryDict) -> dict[str, Any]:
    """What the action form shows: actions, and groups for its search, those chosen first."""
    keys, search = _group_keys(data), data.get("group_search", "").replace("\x00", "").strip()[:100]
    groups = Group.objects.of(organization_of(request)).filter(vanished_at__isnull=True, is_synced=False)
    chosen = list(groups.filter(pk__in=keys)[:100])
    others = groups.exclude(pk__in=keys)
    if search:
        others = others.filter(name__icontains=search)
    return {
        "actions": [(name, REGISTRY[name].label) for name in IMPORT_ACTIONS],
        "group_actions": GROUP_ACTIONS,
        "action": data.get("action", ""),
        "group_search": search,
        "chosen_groups": chosen,
        "other_groups": list(others.order_by("name")[:SHOWN_GROUPS]),
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
    file = _find(request, pk)
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


def _people_filter(data: QueryDict) -> tuple[str, str]:
    """(search, one of the keys of ONLY)."""
    only = data.get("only", "")
    search = data.get("search", "").replace("\x00", "").strip()[:200]
    return search, only if only in dict(ONLY) else ""


@require(Permission.ACT)
@require_GET
def import_people(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Detailed user info (CSV): the file's people beside the directory."""
    file = _find(request, pk)
    if file.status != Status.CHECKED:
        return redirect("operations:import", organization_of(request).slug, pk)
    return render(request, "users/import/people.html", _people_context(request, file, request.GET))


def _people_context(request: OrganizationRequest, file: ImportFile, data: QueryDict, error: str = "") -> dict[str, Any]:
    search, only = _people_filter(data)
    rows = selectors.people_rows(file, search=search, only=only)
    found, after = selectors.page_of_people(rows, after_key(request), ROWS)
    return {
        "file": file,
        "tab": "people",
        "people": selectors.file_people(file, found),
        "after": after,
        "matching": rows.count(),
        "search": search,
        "only": only,
        "onlys": ONLY,
        "error": error,
        **_action_context(request, data),
    }


@require(Permission.ACT)
@require_POST
def import_act(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Plan the chosen action, for the whole file or for chosen lines, and go to the preview."""
    file = _find(request, pk)
    is_people = "people" in request.POST
    try:
        operation = plan_import(
            file=file,
            rows=_chosen_rows(file, request.POST) if is_people else selectors.people_rows(file),
            action=request.POST.get("action", ""),
            group_ids=_group_keys(request.POST),
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


def _chosen_rows(file: ImportFile, data: QueryDict) -> QuerySet[ImportRow]:
    """The ticked lines, or all that the filter shows. Raises InvalidInput for none."""
    if "all" in data:
        search, only = _people_filter(data)
        return selectors.people_rows(file, search=search, only=only)
    lines = [int(text) for text in data.getlist("lines") if text.isascii() and text.isdecimal() and len(text) < 10]
    if not lines:
        raise InvalidInput("Select at least one line.")
    return selectors.people_rows(file).filter(line__in=lines)
