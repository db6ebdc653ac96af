"""REST of exemptions and snoozes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users import services
from apps.users.api.filters import account_filters, group_keys
from apps.users.api.serializers import (
    KIND_NAMES,
    ExemptionSerializer,
    ExemptionSnoozedSerializer,
    ExemptionSnoozeSerializer,
    ExtendExemptionSerializer,
    NewExemptionSerializer,
    SuggestionSerializer,
)
from apps.users.exempting import in_force_q, later_q, suggested_exemptions, usage_of
from apps.users.models import Account, Exemption, Group
from apps.users.predicates import Context
from aum.common.errors import InvalidInput, Missing, NotAllowed
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.pagination_parameters import choice, flag
from aum.common.serializers import page_of

DEFAULT_DAYS = 90
ONLY_OWNERS = "Only an Owner who is signed in exempts for good. Give an end."


def _account(organization: Organization, account_id: str) -> Account:
    found: Account | None = Account.objects.of(organization).filter(account_id=account_id).first()
    if found is None:
        raise Missing("There is no such account.")
    return found


class ExemptionsView(ApiView):
    required = {"GET": Permission.VIEW, "POST": Permission.EXEMPT}

    @extend_schema(
        operation_id="exemptions_list",
        parameters=[
            *PAGING,
            OpenApiParameter("in_force", bool),
            OpenApiParameter("later", bool, description="Those that have not begun."),
            OpenApiParameter("kind", str, enum=Exemption.Kind.values),
            OpenApiParameter("account_id", str, description="Exemptions of this person alone."),
        ],
        responses=page_of(ExemptionSerializer),
    )
    def get(self, request: Request) -> Response:
        """Exemptions of people, groups, domains and kinds, with the plans that each changed in the last 90 days."""
        parameters = request.query_params
        refuse_unknown(parameters, ("in_force", "later", "kind", "account_id"))
        rows = Exemption.objects.of(self.organization).select_related("account", "group")
        if kind := choice(parameters, "kind", Exemption.Kind.values):
            rows = rows.filter(kind=kind)
        if account_id := parameters.get("account_id"):
            rows = rows.filter(account__account_id=account_id)
        now = timezone.now()
        for name, wanted in (("in_force", in_force_q(now)), ("later", later_q(now))):
            given = flag(parameters, name)
            if given is not None:
                rows = rows.filter(wanted if given else ~wanted)
        page = keyset_page(request, rows, ("-id",))
        context = {"usage": usage_of(page.rows)}
        return Response(body(request, page, ExemptionSerializer(page.rows, many=True, context=context).data))

    @extend_schema(
        operation_id="exemptions_create", request=NewExemptionSerializer, responses={201: ExemptionSerializer}
    )
    def post(self, request: Request) -> Response:
        """Keep every cleanup from a person, a group's members, a domain or a kind until a moment."""
        given = self.validated(NewExemptionSerializer)
        until = given.get("until", (given["starts_at"] or timezone.now()) + timedelta(days=DEFAULT_DAYS))
        if until is None and not self.access.may(Permission.OWN):
            raise NotAllowed(ONLY_OWNERS)
        group = None
        if "group" in given:
            (pk,) = group_keys(self.organization, [given["group"]], field="group")
            group = Group.objects.of(self.organization).get(pk=pk)
        exemption = services.set_exemption(
            organization=self.organization,
            account=_account(self.organization, given["account_id"]) if "account_id" in given else None,
            group=group,
            domain=given.get("domain", ""),
            account_kind=KIND_NAMES[given["account_kind"]] if "account_kind" in given else None,
            reason=given["reason"],
            starts_at=given["starts_at"],
            until=until,
            actor=self.actor,
        )
        location = f"{request.path}{exemption.pk}/"
        return Response(ExemptionSerializer(exemption).data, status=201, headers={"Location": location})


class ExemptionView(ApiView):
    required = {"GET": Permission.VIEW, "PATCH": Permission.EXEMPT, "DELETE": Permission.EXEMPT}

    @extend_schema(operation_id="exemptions_retrieve", responses=ExemptionSerializer)
    def get(self, request: Request, pk: int) -> Response:
        exemption = self._exemption(pk)
        return Response(ExemptionSerializer(exemption, context={"usage": usage_of([exemption])}).data)

    @extend_schema(operation_id="exemptions_update", request=ExtendExemptionSerializer, responses=ExemptionSerializer)
    def patch(self, request: Request, pk: int) -> Response:
        """Move the end of an exemption in force, or of one that has not begun; both fields are needed."""
        given = self.validated(ExtendExemptionSerializer)
        if given["until"] is None and not self.access.may(Permission.OWN):
            raise NotAllowed(ONLY_OWNERS)
        exemption = services.extend_exemption(
            exemption=self._exemption(pk), until=given["until"], reason=given["reason"], actor=self.actor
        )
        return Response(ExemptionSerializer(exemption).data)

    @extend_schema(operation_id="exemptions_end", request=None, responses={200: ExemptionSerializer})
    def delete(self, request: Request, pk: int) -> Response:
        """End it now. It stays in the list with the moment of its end."""
        exemption = services.end_exemption(exemption=self._exemption(pk), actor=self.actor)
        return Response(ExemptionSerializer(exemption).data)

    def _exemption(self, pk: int) -> Exemption:
        found: Exemption | None = (
            Exemption.objects.of(self.organization).select_related("account", "group").filter(pk=pk).first()
        )
        if found is None:
            raise Missing("There is no such exemption.")
        return found


class SnoozeView(ApiView):
    required = {"POST": Permission.EXEMPT}

    @extend_schema(
        operation_id="exemptions_snooze", request=ExemptionSnoozeSerializer, responses={201: ExemptionSnoozedSerializer}
    )
    def post(self, request: Request) -> Response:
        """Keep every cleanup from named people, or from everybody who meets a filter, for some days."""
        given = self.validated(ExemptionSnoozeSerializer)
        if ("accounts" in given) == ("filter" in given):
            raise InvalidInput(fields={"accounts": ["Give accounts or filter, one of them."]})
        if ("days" in given) == ("until" in given):
            raise InvalidInput(fields={"until": ["Give days or until, one of them."]})
        until = given["until"] if "until" in given else timezone.now() + timedelta(days=given["days"])
        people = Account.objects.of(self.organization).filter(vanished_at__isnull=True)
        if "accounts" in given:
            people = people.filter(account_id__in=given["accounts"])
        else:
            texts = {name: _texts(value) for name, value in given["filter"].items()}
            filters = account_filters(self.organization, texts, prefix="filter.")
            people = people.filter(filters.as_q(Context.of(self.organization)))
        count = services.snooze_matching(
            organization=self.organization, people=people, until=until, reason=given["reason"], actor=self.actor
        )
        return Response({"snoozed": count, "until": until}, status=201)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(part).lower() if isinstance(part, bool) else str(part) for part in values]


class SuggestionsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="exemptions_suggestions", parameters=PAGING, responses=page_of(SuggestionSerializer))
    def get(self, request: Request) -> Response:
        """People whose names look like service or bot accounts and whom nothing exempts."""
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, suggested_exemptions(self.organization, timezone.now()).order_by(), ("id",))
        return Response(body(request, page, SuggestionSerializer(page.rows, many=True).data))
