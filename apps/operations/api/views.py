"""REST of operations: bulk actions, runs, their items, decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import Count
from django.urls import reverse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operations import selectors, services
from apps.operations.actions import OF_GROUPS, REGISTRY
from apps.operations.api.serializers import (
    ApproveSerializer,
    BulkActionSerializer,
    DecisionSerializer,
    HoldRowsSerializer,
    ItemSerializer,
    LeftOutSerializer,
    OperationDetailSerializer,
    OperationSerializer,
    PlanHashSerializer,
    RejectSerializer,
    RetrySerializer,
    UndoDaySerializer,
    UndoPersonSerializer,
    UndoSerializer,
)
from apps.operations.models import Operation, OperationItem
from apps.operations.planning import LEFT_OUT_LABELS
from apps.operations.selection import AccountsSelection, ActionSpec, FilterSelection, Selection
from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users.api.filters import FILTERS, account_filters, group_keys
from apps.users.models import Account
from aum.common.errors import InvalidInput, Missing, NotAllowed
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.pagination_parameters import choice, choices, instant, whole_number
from aum.common.serializers import page_of

# DESIGN.md §10: whatever a token's operator may do, a script deletes nobody.
NEVER_BY_TOKEN = ("delete",)
FILTER_PARAMETERS = [
    OpenApiParameter("kind", str, description=f"Any of {', '.join(Operation.Kind.values)}."),
    OpenApiParameter("status", str, description=f"Any of {', '.join(Operation.Status.values)}."),
    OpenApiParameter("mode", str, enum=Operation.Mode.values),
    OpenApiParameter("rule", int),
    OpenApiParameter("number", int),
    OpenApiParameter("search", str),
    OpenApiParameter("since", OpenApiTypes.DATETIME),
    OpenApiParameter("until", OpenApiTypes.DATETIME),
]


def operation_list(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    """A page of operations, with the counts of the open ones in one query."""
    counts: dict[int, dict[str, int]] = {row.pk: {} for row in operations if row.is_open}
    finished = OperationItem.objects.filter(operation__in=list(counts), status=OperationItem.Status.FINISHED)
    for row in finished.order_by().values("operation_id", "outcome").annotate(n=Count("pk")):
        counts[row["operation_id"]][row["outcome"]] = row["n"]
    return list(OperationSerializer(operations, many=True, context={"counts": counts}).data)


def operation_body(view: ApiView, operation: Operation) -> dict[str, Any]:
    """One operation as this caller sees it."""
    operation = selectors.operation_by_id(view.organization, operation.pk)
    summary = selectors.run_summary(operation)
    is_held = operation.status == Operation.Status.HELD
    approval_hash, count = services.approval_hash(operation) if is_held else ("", 0)
    refusal = services.may_approve(operation, view.operator) if is_held else None
    why_not = dict(summary.why_not)
    if refusal is not None:
        why_not["approve"] = refusal.sentence
    operation.approval_hash, operation.approval_count = approval_hash, count  # type: ignore[attr-defined]
    operation.seconds_left = summary.seconds_left  # type: ignore[attr-defined]
    operation.expected_seconds = selectors.expected_seconds(operation)  # type: ignore[attr-defined]
    # Lists keep the column; here its words and money take its place.
    operation.seats = selectors.seats_of(operation)
    operation.can = {  # type: ignore[attr-defined]
        "pause": summary.can_pause,
        "resume": summary.can_resume,
        "cancel": summary.can_cancel,
        "undo": summary.can_undo,
        "retry_failed": summary.can_retry,
        "apply": summary.can_apply,
        "approve": is_held and refusal is None and view.access.may(Permission.APPROVE),
        "why_not": why_not,
    }
    counts = {operation.pk: summary.by_outcome}
    return dict(OperationDetailSerializer(operation, context={"counts": counts}).data)


def accepted(view: ApiView, operation: Operation, *, status: int = 202) -> Response:
    """The answer to what started an operation: its state, and where to ask for it again."""
    location = reverse("api-operation", args=[view.organization.slug, operation.pk])
    return Response(operation_body(view, operation), status=status, headers={"Location": location})


# --- starting ---------------------------------------------------------------------------------------------------------


class BulkActionsView(ApiView):
    required = {"POST": Permission.PREVIEW}

    @extend_schema(
        operation_id="bulk_actions_create", request=BulkActionSerializer, responses={202: OperationDetailSerializer}
    )
    def post(self, request: Request) -> Response:
        """Plan one or more actions on named people or on everybody who meets a filter.

        `preview` changes nothing and can be applied; `live` goes through brakes and approval, and needs the permission
        to act. With `filter: {}` everybody is meant.
        """
        given = self.validated(BulkActionSerializer)
        is_live = given["mode"] == "live"
        if is_live:
            self.demand(Permission.ACT, "Your role or the token's scopes allow previews only.")
        names = _action_names(given)
        if self.is_by_token and set(names) & set(NEVER_BY_TOKEN):
            raise NotAllowed("A token cannot delete accounts. Sign in to do it.")
        selection, whom = _selection(self.organization, given)
        operation = services.plan_operation(
            organization=self.organization,
            kind=Operation.Kind.MANUAL_OPERATION,
            mode=Operation.Mode.LIVE if is_live else Operation.Mode.SAFE,
            initiator=Operation.Initiator.MANUAL,
            actor=self.actor,
            operator=self.operator,
            name=(given["name"] or f"{', '.join(REGISTRY[name].label for name in names)}: {whom}")[:200],
            actions=_specs(self.organization, given, names),
            selection=selection,
            reason=given["reason"],
            is_by_token=self.is_by_token,
        )
        return accepted(self, operation)


def _action_names(given: dict[str, Any]) -> list[str]:
    names = [*given.get("actions", ()), *([given["action"]] if "action" in given else ())]
    if not names:
        raise InvalidInput(fields={"action": ["Choose an action."]})
    if "action" in given and "actions" in given:
        raise InvalidInput(fields={"actions": ["Give action or actions, not both."]})
    return list(dict.fromkeys(names))


def _specs(organization: Organization, given: dict[str, Any], names: Sequence[str]) -> list[ActionSpec]:
    if (given["products"] or given["sites"]) and "remove_product_access" not in names:
        # Taken silently, "suspend" with products would suspend people everywhere.
        raise InvalidInput(fields={"products": ["To take only these products, use remove_product_access."]})
    groups = group_keys(organization, given["groups"], field="groups") if given["groups"] else ()
    products, sites = tuple(given["products"]), tuple(given["sites"])
    return [
        ActionSpec(
            name,
            group_ids=groups if name in OF_GROUPS else (),
            products=products if name == "remove_product_access" else (),
            sites=sites if name == "remove_product_access" else (),
        )
        for name in names
    ]


def _selection(organization: Organization, given: dict[str, Any]) -> tuple[Selection, str]:
    """(who, in words). A word of the filter that AUM does not know is refused: it would mean more people."""
    if ("accounts" in given) == ("filter" in given):
        raise InvalidInput(fields={"accounts": ["Give accounts or filter, one of them."]})
    if "filter" in given:
        parameters = {name: _texts(name, value) for name, value in given["filter"].items()}
        filters = account_filters(organization, parameters, prefix="filter.")
        params: dict[str, list[str]] = {}
        for name, value in filters.as_params():
            params.setdefault(name, []).append(value)
        return FilterSelection(params), "all users that match" if params else "all users"
    wanted = list(dict.fromkeys(given["accounts"]))
    if not wanted:
        raise InvalidInput(fields={"accounts": ["Name at least one user."]})
    people = dict(Account.objects.of(organization).filter(account_id__in=wanted).values_list("account_id", "name"))
    unknown = [account_id for account_id in wanted if account_id not in people]
    if unknown:
        raise InvalidInput(fields={"accounts": [f"There is no user {name[:128]} here." for name in unknown[:20]]})
    whom = people[wanted[0]] or wanted[0] if len(wanted) == 1 else f"{len(wanted)} selected users"
    return AccountsSelection(tuple(wanted)), whom


def _texts(name: str, value: Any) -> list[str]:
    """The values of one filter as texts. Raises InvalidInput at `filter.<name>`."""
    field = f"filter.{name[:100]}"
    if name not in FILTERS:
        raise InvalidInput(fields={field: ["There is no such filter."]})
    values = value if isinstance(value, list) else [value]
    texts = [str(part).lower() if isinstance(part, bool) else str(part) for part in values]
    if any(isinstance(part, dict | list) or part is None for part in values) or len(texts) > 500:
        raise InvalidInput(fields={field: ["Give texts, numbers, true or false, or a list of them."]})
    if any("\x00" in text or len(text) > 1000 or not _is_whole(text) for text in texts):
        raise InvalidInput(fields={field: ["This holds a character that cannot be stored, or is too long."]})
    return texts


def _is_whole(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


# --- reading ----------------------------------------------------------------------------------------------------------


class OperationsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="operations_list",
        parameters=[*PAGING, *FILTER_PARAMETERS],
        responses=page_of(OperationSerializer),
    )
    def get(self, request: Request) -> Response:
        given = request.query_params
        refuse_unknown(given, tuple(parameter.name for parameter in FILTER_PARAMETERS))
        rows = selectors.operations(
            self.organization,
            selectors.OperationFilters(
                search=given.get("search", "")[:200],
                kinds=choices(given, "kind", Operation.Kind.values),
                since=instant(given, "since"),
                until=instant(given, "until"),
                rule_id=whole_number(given, "rule"),
            ),
        )
        if statuses := choices(given, "status", Operation.Status.values):
            rows = rows.filter(status__in=statuses)
        if mode := choice(given, "mode", Operation.Mode.values):
            rows = rows.filter(mode=mode)
        if (number := whole_number(given, "number")) is not None:
            rows = rows.filter(number=number)
        page = keyset_page(request, rows, ("-id",))
        return Response(body(request, page, operation_list(page.rows)))


class OperationView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="operations_retrieve", responses=OperationDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(operation_body(self, selectors.operation_by_id(self.organization, pk)))


class ItemsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="operations_items",
        parameters=[
            *PAGING,
            OpenApiParameter("outcome", str, enum=OperationItem.Outcome.values),
            OpenApiParameter("group", str, enum=list(selectors.GROUPS)),
            OpenApiParameter("search", str),
        ],
        responses=page_of(ItemSerializer),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Whom the operation is about, why, and what became of each."""
        given = request.query_params
        refuse_unknown(given, ("outcome", "group", "search"))
        rows = selectors.items_of(
            selectors.operation_by_id(self.organization, pk),
            group=choice(given, "group", selectors.GROUPS) or "all",
            outcome=choice(given, "outcome", OperationItem.Outcome.values),
            search=given.get("search", "")[:200],
        )
        page = keyset_page(request, rows, ("id",))
        data = ItemSerializer(page.rows, many=True, context={"now": timezone.now()}).data
        return Response(body(request, page, data))


class LeftOutView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="operations_left_out",
        parameters=[*PAGING, OpenApiParameter("reason", str, enum=sorted(LEFT_OUT_LABELS))],
        responses=page_of(LeftOutSerializer),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Whom the selection met and the plan leaves out, with the reason."""
        refuse_unknown(request.query_params, ("reason",))
        operation = selectors.operation_by_id(self.organization, pk)
        reason = choice(request.query_params, "reason", sorted(LEFT_OUT_LABELS))
        page = keyset_page(request, selectors.left_out_of(operation, reason=reason), ("id",))
        return Response(body(request, page, LeftOutSerializer(page.rows, many=True).data))


class ApprovalsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="approvals_list", parameters=PAGING, responses=page_of(OperationSerializer))
    def get(self, request: Request) -> Response:
        """Held plans that wait for a decision, oldest first."""
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, selectors.waiting_approvals(self.organization), ("id",))
        return Response(body(request, page, operation_list(page.rows)))


class DecisionsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="approvals_decided", parameters=PAGING, responses=page_of(DecisionSerializer))
    def get(self, request: Request) -> Response:
        """What was decided, newest first."""
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, selectors.decided_approvals(self.organization), ("-id",))
        return Response(body(request, page, DecisionSerializer(page.rows, many=True).data))


# --- steering ---------------------------------------------------------------------------------------------------------


class _Steering(ApiView):
    """POST on one operation."""

    required = {"POST": Permission.ACT}

    def operation(self, pk: int) -> Operation:
        return selectors.operation_by_id(self.organization, pk)


class ApplyView(_Steering):
    # An Admin's permission for a rule's preview, asked for below; a Helpdesk's for others.
    required = {"POST": Permission.PREVIEW}

    @extend_schema(
        operation_id="operations_apply", request=PlanHashSerializer, responses={202: OperationDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Run a preview: a new live operation with exactly its items."""
        given, preview = self.validated(PlanHashSerializer), self.operation(pk)
        self.demand(Permission.RUN_RULES if preview.rule_id else Permission.ACT)
        if self.is_by_token and set(preview.action.split("+")) & set(NEVER_BY_TOKEN):
            raise NotAllowed("A token cannot delete accounts. Sign in to do it.")
        live = services.apply_preview(
            operation=preview,
            plan_hash=given["plan_hash"],
            actor=self.actor,
            operator=self.operator,
            is_by_token=self.is_by_token,
        )
        return accepted(self, live)


class ApproveView(_Steering):
    required = {"POST": Permission.APPROVE}

    @extend_schema(
        operation_id="operations_approve", request=ApproveSerializer, responses={200: OperationDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Release exactly the held plan whose `approval_hash` is given as plan_hash; never one's own.

        In one-operator mode the number of people and the password are asked for, and no token can answer.
        """
        given = self.validated(ApproveSerializer)
        operation = services.approve_operation(
            operation=self.operation(pk), operator=self.operator, actor=self.actor, **given
        )
        return accepted(self, operation, status=200)


class RejectView(_Steering):
    required = {"POST": Permission.VIEW}

    @extend_schema(
        operation_id="operations_reject", request=RejectSerializer, responses={200: OperationDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """End a held plan, with a reason. Its author may withdraw it."""
        if not (self.access.may(Permission.APPROVE) or self.access.may(Permission.ACT)):
            raise NotAllowed("Only who may approve, or its author, ends a held plan.")
        operation = services.reject_operation(
            operation=self.operation(pk),
            operator=self.operator,
            actor=self.actor,
            reason=self.validated(RejectSerializer)["reason"],
        )
        return accepted(self, operation, status=200)


class HoldRowsView(_Steering):
    required = {"POST": Permission.VIEW}

    @extend_schema(
        operation_id="operations_hold_rows", request=HoldRowsSerializer, responses={200: OperationDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Take people out of a held plan, with a reason; the approval is then for exactly the rest."""
        if not (self.access.may(Permission.APPROVE) or self.access.may(Permission.ACT)):
            raise NotAllowed("Only who may approve, or its author, holds users back.")
        given = self.validated(HoldRowsSerializer)
        operation = services.hold_rows(
            operation=self.operation(pk),
            account_ids=given["accounts"],
            reason=given["reason"],
            operator=self.operator,
            actor=self.actor,
        )
        return accepted(self, operation, status=200)


class PauseView(_Steering):
    @extend_schema(operation_id="operations_pause", request=None, responses={200: OperationDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """No further call after those under way."""
        return self.steer(pk, services.pause_operation)

    def steer(self, pk: int, do: Callable[..., Operation]) -> Response:
        return accepted(self, do(operation=self.operation(pk), actor=self.actor), status=200)


class ResumeView(PauseView):
    @extend_schema(operation_id="operations_resume", request=None, responses={200: OperationDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Go on with a paused run."""
        return self.steer(pk, services.resume_operation)


class CancelView(PauseView):
    @extend_schema(operation_id="operations_cancel", request=None, responses={200: OperationDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Stop for good. What is done stays done."""
        return self.steer(pk, services.cancel_operation)


class RetryFailedView(_Steering):
    @extend_schema(
        operation_id="operations_retry_failed", request=RetrySerializer, responses={202: OperationDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """A new live operation with what failed, of everybody or of `accounts`."""
        operation = services.retry_failed(
            operation=self.operation(pk),
            actor=self.actor,
            operator=self.operator,
            account_ids=self.validated(RetrySerializer)["accounts"],
            is_by_token=self.is_by_token,
        )
        return accepted(self, operation)


class UndoView(_Steering):
    @extend_schema(operation_id="operations_undo", request=UndoSerializer, responses={202: OperationDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """A new operation that gives back what the run took, from everybody or from `accounts`."""
        given = self.validated(UndoSerializer)
        operation = services.undo_operation(
            operation=self.operation(pk),
            actor=self.actor,
            operator=self.operator,
            account_ids=given["accounts"],
            mode=_undo_mode(given["mode"]),
            is_by_token=self.is_by_token,
        )
        return accepted(self, operation)


class UndoPersonView(ApiView):
    required = {"POST": Permission.ACT}

    @extend_schema(operation_id="users_undo", request=UndoPersonSerializer, responses={202: OperationDetailSerializer})
    def post(self, request: Request, account_id: str) -> Response:
        """Give one person back the net of what all runs took since a moment."""
        given = self.validated(UndoPersonSerializer)
        account = Account.objects.of(self.organization).filter(account_id=account_id).first()
        if account is None:
            raise Missing("There is no such user here.")
        operation = services.undo_person(
            account=account,
            actor=self.actor,
            operator=self.operator,
            since=given["since"],
            mode=_undo_mode(given["mode"]),
            is_by_token=self.is_by_token,
        )
        return accepted(self, operation)


class UndoDayView(ApiView):
    required = {"POST": Permission.ACT}

    @extend_schema(
        operation_id="operations_undo_day", request=UndoDaySerializer, responses={202: OperationDetailSerializer}
    )
    def post(self, request: Request) -> Response:
        """Give back the net of what all runs of a day took."""
        given = self.validated(UndoDaySerializer)
        operation = services.undo_day(
            organization=self.organization,
            day=given["day"],
            actor=self.actor,
            operator=self.operator,
            mode=_undo_mode(given["mode"]),
            is_by_token=self.is_by_token,
        )
        return accepted(self, operation)


def _undo_mode(word: str) -> str:
    return Operation.Mode.LIVE if word == "live" else Operation.Mode.SAFE
