"""REST of the work list for the identity provider."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operations.models import HandOff
from apps.operations.services.handoffs import close_hand_off
from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from aum.common.errors import Missing
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.pagination_parameters import choice, whole_number
from aum.common.serializers import page_of


class HandOffSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    operation = serializers.IntegerField(source="operation_id")
    operation_number = serializers.IntegerField(source="operation.number")
    account_id = serializers.CharField(source="account.account_id")
    name = serializers.CharField(source="account.name")
    email = serializers.CharField(source="account.email", allow_null=True)
    action = serializers.CharField()
    target = serializers.CharField()
    target_name = serializers.CharField()
    detail = serializers.CharField()
    state = serializers.ChoiceField(HandOff.State.choices)
    created_at = serializers.DateTimeField()
    changed_at = serializers.DateTimeField()
    changed_by = serializers.CharField()


class HandOffsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="hand_offs_list",
        parameters=[
            *PAGING,
            OpenApiParameter("state", str, enum=HandOff.State.values),
            OpenApiParameter("operation", int),
        ],
        responses=page_of(HandOffSerializer),
    )
    def get(self, request: Request) -> Response:
        """What the identity provider has to do, what it did, and what it gave back; newest first."""
        given = request.query_params
        refuse_unknown(given, ("state", "operation"))
        rows = HandOff.objects.of(self.organization).select_related("account", "operation")
        if state := choice(given, "state", HandOff.State.values):
            rows = rows.filter(state=state)
        if (operation := whole_number(given, "operation")) is not None:
            rows = rows.filter(operation=operation)
        page = keyset_page(request, rows, ("-id",))
        return Response(body(request, page, HandOffSerializer(page.rows, many=True).data))


class HandOffCloseView(ApiView):
    required = {"POST": Permission.ACT}

    @extend_schema(operation_id="hand_offs_close", request=None, responses={200: HandOffSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Close a line by hand: rules may act on the person again."""
        row = HandOff.objects.of(self.organization).select_related("account", "operation").filter(pk=pk).first()
        if row is None:
            raise Missing("There is no such line.")
        return Response(HandOffSerializer(close_hand_off(hand_off=row, actor=self.actor)).data)
