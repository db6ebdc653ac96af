"""REST of saved views and of the columns that somebody sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.models import ApiToken
from apps.operators.permissions import Permission, Scope
from apps.users import services
from apps.users.api.filters import FILTERS, account_filters
from apps.users.models import SavedView
from apps.users.selectors import ORDERINGS, used_by, visible_view, visible_views
from apps.users.selectors.columns import BY_KEY, chosen_columns
from apps.users.services.columns import choose_columns, reset_columns
from aum.common.errors import InvalidInput, NotAllowed
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.serializers import PlainText, page_of

READ_ONLY = "This token may only read. Use one with the scope run or admin."


class SavedViewSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    is_shared = serializers.BooleanField()
    owner = serializers.CharField(source="owner_text")
    filter = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()), source="params", help_text="As of bulk actions."
    )
    ordering = serializers.CharField()
    used_by = serializers.SerializerMethodField(help_text="What is bound to it, such as rules.")
    changed_at = serializers.DateTimeField()

    def get_used_by(self, view: SavedView) -> list[str]:
        return used_by(view)


class SavedViewInputSerializer(serializers.Serializer[Any]):
    name = PlainText(max_length=80)
    is_shared = serializers.BooleanField(required=False, default=False)
    filter = serializers.DictField(
        required=False, default=dict, help_text="Parameters of the list of accounts, each a value or a list of values."
    )
    ordering = serializers.ChoiceField(list(ORDERINGS), required=False, default="name")


class ColumnsSerializer(serializers.Serializer[Any]):
    columns = serializers.ListField(child=serializers.ChoiceField(list(BY_KEY)))


class _Writes(ApiView):
    """Views and columns belong to the caller, so every role may write them; a token that only reads may not."""

    def may_write(self, request: Request) -> None:
        token = request.auth
        if isinstance(token, ApiToken) and not {Scope.RUN, Scope.ADMIN} & set(token.scopes):
            raise NotAllowed(READ_ONLY)

    def params(self, given: Mapping[str, Any]) -> dict[str, list[str]]:
        """The filter of a body as parameters; groups may be given by name. Raises InvalidInput at `filter.…`."""
        values: dict[str, list[str]] = {}
        for name, value in given.items():
            if name not in FILTERS:
                raise InvalidInput(
                    fields={f"filter.{name}"[:100]: [f"There is no such filter. Known: {', '.join(FILTERS)}."]}
                )
            parts = value if isinstance(value, list) else [value]
            if any(isinstance(part, dict | list) or part is None for part in parts):
                raise InvalidInput(fields={f"filter.{name}"[:100]: ["Give a text, a number, true or false."]})
            values[str(name)] = [str(part).lower() if isinstance(part, bool) else str(part) for part in parts]
        filters = account_filters(self.organization, values, prefix="filter.")
        params: dict[str, list[str]] = {}
        for name, text in filters.as_params():
            params.setdefault(name, []).append(text)
        return params


class SavedViewsView(_Writes):
    required = {"GET": Permission.VIEW, "POST": Permission.VIEW}

    @extend_schema(operation_id="saved_views_list", parameters=PAGING, responses=page_of(SavedViewSerializer))
    def get(self, request: Request) -> Response:
        """Shared views, and the caller's own."""
        refuse_unknown(request.query_params, ())
        rows = visible_views(self.organization, self.operator).select_related("organization")
        page = keyset_page(request, rows, ("name", "id"))
        return Response(body(request, page, SavedViewSerializer(page.rows, many=True).data))

    @extend_schema(
        operation_id="saved_views_create", request=SavedViewInputSerializer, responses={201: SavedViewSerializer}
    )
    def post(self, request: Request) -> Response:
        """Keep filters and order under a name, privately or shared."""
        self.may_write(request)
        given = self.validated(SavedViewInputSerializer)
        view = services.save_view(
            organization=self.organization,
            operator=self.operator,
            permissions=self.access.permissions,
            name=given["name"],
            params=self.params(given["filter"]),
            ordering=given["ordering"],
            is_shared=given["is_shared"],
            actor=self.actor,
        )
        view.refresh_from_db()
        location = f"{request.path}{view.pk}/"
        return Response(SavedViewSerializer(view).data, status=201, headers={"Location": location})


class SavedViewView(_Writes):
    required = {"GET": Permission.VIEW, "PATCH": Permission.VIEW, "DELETE": Permission.VIEW}

    @extend_schema(operation_id="saved_views_retrieve", responses=SavedViewSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(SavedViewSerializer(self._view(pk)).data)

    @extend_schema(operation_id="saved_views_update", request=SavedViewInputSerializer, responses=SavedViewSerializer)
    def patch(self, request: Request, pk: int) -> Response:
        """Change what is named: name, filter, ordering, is_shared."""
        self.may_write(request)
        given = self.validated(SavedViewInputSerializer, partial=True)
        changes: dict[str, Any] = {name: given[name] for name in ("name", "ordering", "is_shared") if name in given}
        if "filter" in given:
            changes["params"] = self.params(given["filter"])
        view = services.change_view(
            view=self._view(pk),
            operator=self.operator,
            permissions=self.access.permissions,
            changes=changes,
            actor=self.actor,
        )
        return Response(SavedViewSerializer(view).data)

    @extend_schema(operation_id="saved_views_delete", request=None, responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Delete it. Nobody in it is changed."""
        self.may_write(request)
        services.delete_view(
            view=self._view(pk), operator=self.operator, permissions=self.access.permissions, actor=self.actor
        )
        return Response(status=204)

    def _view(self, pk: int) -> SavedView:
        return visible_view(self.organization, self.operator, pk)


class ColumnsView(_Writes):
    required = {"GET": Permission.VIEW, "PUT": Permission.VIEW, "DELETE": Permission.VIEW}

    @extend_schema(operation_id="account_columns_retrieve", responses=ColumnsSerializer)
    def get(self, request: Request) -> Response:
        """The columns of the users list that the caller sees, and that page exports hold."""
        return self._answer()

    @extend_schema(operation_id="account_columns_update", request=ColumnsSerializer, responses=ColumnsSerializer)
    def put(self, request: Request) -> Response:
        """Choose them."""
        self.may_write(request)
        given = self.validated(ColumnsSerializer)
        choose_columns(organization=self.organization, operator=self.operator, columns=given["columns"])
        return self._answer()

    @extend_schema(operation_id="account_columns_reset", request=None, responses={200: ColumnsSerializer})
    def delete(self, request: Request) -> Response:
        """Back to those that everybody starts with."""
        self.may_write(request)
        reset_columns(organization=self.organization, operator=self.operator)
        return self._answer()

    def _answer(self) -> Response:
        columns = [column.key for column in chosen_columns(self.organization, self.operator)]
        return Response(ColumnsSerializer({"columns": columns}).data)
