"""REST of people, groups and syncs."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users import services
from apps.users.api.filters import FILTER_PARAMETERS, FILTERS, ORDERING_PARAMETER, account_filters
from apps.users.api.serializers import (
    AccountDetailSerializer,
    AccountSerializer,
    GroupSerializer,
    SyncSerializer,
    TimelineSerializer,
)
from apps.users.models import Account
from apps.users.predicates import Context
from apps.users.registries import KINDS
from apps.users.selectors import (
    AccountFilters,
    count_exactly,
    explorer,
    groups,
    latest_sync,
    person_detail,
)
from apps.users.selectors.timeline import timeline
from aum.common.errors import Missing
from aum.common.pagination import Page, body, count_asked, cursor_of, keyset_page, limit_of, refuse_unknown
from aum.common.pagination_parameters import choices, instant
from aum.common.serializers import page_of

ACCOUNT_PARAMETERS = [ORDERING_PARAMETER, *FILTER_PARAMETERS]


def _given(request: Request, organization: Organization) -> AccountFilters:
    return account_filters(organization, {name: request.query_params.getlist(name) for name in request.query_params})


class AccountsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="accounts_list", parameters=[*PAGING, *ACCOUNT_PARAMETERS], responses=page_of(AccountSerializer)
    )
    def get(self, request: Request) -> Response:
        parameters = request.query_params
        refuse_unknown(parameters, (*FILTERS, "ordering"))
        filters = _given(request, self.organization)
        asked = count_asked(parameters)
        found = explorer(
            self.organization,
            filters,
            ordering=parameters.get("ordering") or "name",
            cursor=cursor_of(request),
            limit=limit_of(parameters),
        )
        count = None
        if asked:
            count = found.count.value
            if asked == "exact" and found.count.is_capped:
                count = count_exactly(self.organization, filters.as_q(Context.of(self.organization)))
        page = Page(found.rows, found.next_cursor, found.previous_cursor, count)
        return Response(body(request, page, AccountSerializer(found.rows, many=True).data))


def _detail(request: Request, organization: Organization, account_id: str) -> dict[str, Any]:
    person = person_detail(organization, account_id, with_upcoming=True)
    address = reverse("api-account-timeline", args=[organization.slug, account_id])
    return dict(
        AccountDetailSerializer(
            {
                **{name: getattr(person.row, name) for name in person.row.__dataclass_fields__},
                "partition": person.partition,
                "idle_since": person.idle_since,
                "access": person.paths,
                "directories": person.directories,
                "exemptions": person.exemptions,
                "protected_because": person.protected_because,
                "upcoming": person.upcoming,
                "timeline": request.build_absolute_uri(address),
            }
        ).data
    )


class AccountView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="accounts_retrieve", responses=AccountDetailSerializer)
    def get(self, request: Request, account_id: str) -> Response:
        return Response(_detail(request, self.organization, account_id))


class AccountRefreshView(ApiView):
    required = {"POST": Permission.SYNC}
    is_atomic = False

    @extend_schema(operation_id="accounts_refresh", request=None, responses=AccountDetailSerializer)
    def post(self, request: Request, account_id: str) -> Response:
        """Read the person's state and last activity from Atlassian now."""
        account = _account(self.organization, account_id)
        services.refresh_person(account=account, actor=self.actor)
        return Response(_detail(request, self.organization, account_id))


def _account(organization: Organization, account_id: str) -> Account:
    account: Account | None = Account.objects.of(organization).filter(account_id=account_id).first()
    if account is None:
        raise Missing("There is no such user here.")
    return account


class AccountTimelineView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="accounts_timeline",
        parameters=[
            OpenApiParameter("kind", str, many=True, enum=list(KINDS), description="Repeated or separated by commas."),
            OpenApiParameter("before", OpenApiTypes.DATETIME, description="Entries before this moment."),
            OpenApiParameter("limit", int),
        ],
        responses=TimelineSerializer,
    )
    def get(self, request: Request, account_id: str) -> Response:
        """Everything that AUM knows of the person, newest first. `older` is the `before` of the next page."""
        parameters = request.query_params
        refuse_unknown(parameters, ("kind", "before"))
        account = _account(self.organization, account_id)
        page = timeline(
            account,
            kinds=choices(parameters, "kind", tuple(KINDS)),
            before=instant(parameters, "before"),
            limit=limit_of(parameters),
        )
        return Response(TimelineSerializer({"results": page.entries, "older": page.older}).data)


# --- groups, syncs ----------------------------------------------------------------------------------------------------


class GroupsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="groups_list",
        parameters=[*PAGING, OpenApiParameter("search", str)],
        responses=page_of(GroupSerializer),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ("search",))
        rows = groups(self.organization, request.query_params.get("search", "")[:200])
        page = keyset_page(request, rows, ("name", "id"))
        return Response(body(request, page, GroupSerializer(page.rows, many=True).data))


class GroupProtectView(ApiView):
    required = {"POST": Permission.SETTINGS}

    @extend_schema(operation_id="groups_protect", request=None, responses=GroupSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Protect the members of a group from every plan that takes access. Its end is proposed: safeguard-changes/."""
        group = groups(self.organization).filter(pk=pk).first()
        if group is None:
            raise Missing("There is no such group here.")
        services.protect_group(group=group, actor=self.actor)
        return Response(GroupSerializer(groups(self.organization).get(pk=pk)).data)


class SyncView(ApiView):
    required = {"GET": Permission.VIEW, "POST": Permission.SYNC}

    @extend_schema(operation_id="sync_latest", responses=SyncSerializer)
    def get(self, request: Request) -> Response:
        """The latest sync, open or finished."""
        run = latest_sync(self.organization)
        if run is None:
            raise Missing("This organisation was never synced. POST here to start a sync.")
        return Response(SyncSerializer(run).data)

    @extend_schema(operation_id="sync_start", request=None, responses={202: SyncSerializer})
    def post(self, request: Request) -> Response:
        """Start a sync. While one is open that one is the answer."""
        run = services.request_sync(organization=self.organization, actor=self.actor, exist_ok=True)
        run.refresh_from_db()
        return Response(SyncSerializer(run).data, status=202, headers={"Location": request.path})
