"""REST of looser safeguards: what waits, proposing, deciding. Tokens only read (DESIGN.md §10)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operations import selectors, services
from apps.operations.models import SafeguardChange
from apps.operations.reasons import safeguard_lines
from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users.models import Account, Group
from aum.common.errors import InvalidInput, Missing, NotAllowed
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.pagination_parameters import choice
from aum.common.serializers import PlainText, page_of

PROPOSABLE = {
    SafeguardChange.Kind.UNPROTECT_GROUP.value: "group",
    SafeguardChange.Kind.LICENCE_ONLY.value: "group",
    SafeguardChange.Kind.RELEASE_KIND.value: "account",
}


class SafeguardChangeSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    kind = serializers.ChoiceField(SafeguardChange.Kind.choices)
    status = serializers.ChoiceField(SafeguardChange.Status.choices)
    sentences = serializers.SerializerMethodField()
    changes = serializers.JSONField(help_text="setting or field: [from, to]")
    group = serializers.IntegerField(source="group_id", allow_null=True)
    account_id = serializers.CharField(source="account.account_id", default=None, allow_null=True)
    rule = serializers.IntegerField(source="rule_id", allow_null=True)
    reason = serializers.CharField()
    proposed_by = serializers.CharField(source="proposed_by_text")
    proposed_at = serializers.DateTimeField()
    approved_by = serializers.CharField(source="approved_by_text")
    approved_at = serializers.DateTimeField(allow_null=True)
    effective_at = serializers.DateTimeField(allow_null=True)
    applied_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    ending_reason = serializers.CharField()

    def get_sentences(self, change: SafeguardChange) -> list[str]:
        return [line.sentence for line in safeguard_lines(change)]


class ProposeSerializer(serializers.Serializer[Any]):
    """What becomes looser. The end of one is given with `is_on: false`; it counts at once."""

    kind = serializers.ChoiceField(sorted(PROPOSABLE))
    group = serializers.IntegerField(required=False, allow_null=True, default=None)
    account = PlainText(required=False, allow_null=True, default=None, max_length=128)
    is_on = serializers.BooleanField(required=False, default=True)
    reason = PlainText(max_length=500)


class SafeguardDecideSerializer(serializers.Serializer[Any]):
    reason = PlainText(required=False, allow_blank=True, default="", max_length=500)


def _refuse_token(view: ApiView) -> None:
    if view.is_by_token:
        raise NotAllowed("A token cannot loosen a safeguard or decide about one. Sign in to do it.")


class SafeguardChangesView(ApiView):
    required = {"GET": Permission.VIEW, "POST": Permission.SETTINGS}

    @extend_schema(
        operation_id="safeguard_changes_list",
        parameters=[*PAGING, OpenApiParameter("status", str, enum=SafeguardChange.Status.values)],
        responses=page_of(SafeguardChangeSerializer),
    )
    def get(self, request: Request) -> Response:
        """Looser safeguards that were proposed, newest first."""
        refuse_unknown(request.query_params, ("status",))
        rows = SafeguardChange.objects.of(self.organization).select_related("group", "account")
        if status := choice(request.query_params, "status", SafeguardChange.Status.values):
            rows = rows.filter(status=status)
        page = keyset_page(request, rows.order_by("-id"), ("-id",))
        return Response(body(request, page, SafeguardChangeSerializer(page.rows, many=True).data))

    @extend_schema(
        operation_id="safeguard_changes_propose",
        request=ProposeSerializer,
        responses={201: SafeguardChangeSerializer, 204: None},
    )
    def post(self, request: Request) -> Response:
        """Propose to end a group's protection, to mark a group licence-only, or to treat an account like a person.

        Another person approves it, and an hour later it counts. With `is_on: false` a mark is taken back at once.
        """
        given = self.validated(ProposeSerializer)
        by = {"reason": given["reason"], "actor": self.actor}
        if not given["is_on"]:
            self._tighten(given, by)
            return Response(status=204)
        _refuse_token(self)
        by["operator"] = self.operator
        kind = given["kind"]
        if kind == SafeguardChange.Kind.RELEASE_KIND:
            change = services.propose_release_kind(account=_account(self.organization, given), **by)
        elif kind == SafeguardChange.Kind.LICENCE_ONLY:
            change = services.propose_licence_only(group=_group(self.organization, given), **by)
        else:
            change = services.propose_unprotect(group=_group(self.organization, given), **by)
        return Response(SafeguardChangeSerializer(change).data, status=201)

    def _tighten(self, given: dict[str, Any], by: dict[str, Any]) -> None:
        if given["kind"] == SafeguardChange.Kind.RELEASE_KIND:
            services.tighten_kind(account=_account(self.organization, given), **by)
        elif given["kind"] == SafeguardChange.Kind.LICENCE_ONLY:
            services.tighten_licence_only(group=_group(self.organization, given), **by)
        else:
            raise InvalidInput(fields={"is_on": ["A group is protected by groups/{id}/protect/."]})


def _group(organization: Organization, given: dict[str, Any]) -> Group:
    found: Group | None = Group.objects.of(organization).filter(pk=given["group"], vanished_at__isnull=True).first()
    if found is None:
        raise InvalidInput(fields={"group": ["There is no such group here."]})
    return found


def _account(organization: Organization, given: dict[str, Any]) -> Account:
    found: Account | None = Account.objects.of(organization).filter(account_id=given["account"] or "").first()
    if found is None:
        raise InvalidInput(fields={"account": ["There is no such user here."]})
    return found


class _Deciding(ApiView):
    required = {"POST": Permission.APPROVE}

    def change(self, pk: int) -> SafeguardChange:
        _refuse_token(self)
        try:
            return selectors.safeguard_change_by_id(self.organization, pk)
        except Missing:
            raise Missing("There is no such change here.") from None


class SafeguardApproveView(_Deciding):
    @extend_schema(operation_id="safeguard_changes_approve", request=None, responses=SafeguardChangeSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Approve another person's proposal. In one-operator mode that is done in the browser."""
        change = services.approve_change(change=self.change(pk), operator=self.operator, actor=self.actor)
        return Response(SafeguardChangeSerializer(change).data)


class SafeguardRejectView(_Deciding):
    @extend_schema(
        operation_id="safeguard_changes_reject", request=SafeguardDecideSerializer, responses=SafeguardChangeSerializer
    )
    def post(self, request: Request, pk: int) -> Response:
        """Reject with a reason, also within the hour after an approval."""
        reason = self.validated(SafeguardDecideSerializer)["reason"]
        change = services.reject_change(change=self.change(pk), operator=self.operator, actor=self.actor, reason=reason)
        return Response(SafeguardChangeSerializer(change).data)


class SafeguardWithdrawView(_Deciding):
    required = {"POST": Permission.SETTINGS}

    @extend_schema(
        operation_id="safeguard_changes_withdraw",
        request=SafeguardDecideSerializer,
        responses=SafeguardChangeSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        """Take back one's own proposal."""
        reason = self.validated(SafeguardDecideSerializer)["reason"]
        change = services.withdraw_change(
            change=self.change(pk), operator=self.operator, actor=self.actor, reason=reason
        )
        return Response(SafeguardChangeSerializer(change).data)
