"""REST of the price book and of licence alerts."""

from __future__ import annotations

import dataclasses
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.pricing import selectors, services
from apps.pricing.api.serializers import (
    LicenceAlertInputSerializer,
    LicencesSerializer,
    PriceInputSerializer,
    PriceSerializer,
    licence_row,
)
from apps.pricing.services import PriceInput
from apps.pricing.services.prices import values_of
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.serializers import page_of


def _values(base: PriceInput, given: dict[str, Any]) -> PriceInput:
    if "tiers" in given:
        given["tiers"] = tuple((row["from_users"], row["unit_price"]) for row in given["tiers"])
    return dataclasses.replace(base, **given)


class PricesView(ApiView):
    required = {"GET": Permission.VIEW, "POST": Permission.SETTINGS}

    @extend_schema(
        operation_id="prices_list",
        parameters=[*PAGING, OpenApiParameter("product", str)],
        responses=page_of(PriceSerializer),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ("product",))
        rows = selectors.prices(self.organization)
        if product := request.query_params.get("product"):
            rows = rows.filter(product=product)
        page = keyset_page(request, rows, ("-id",))
        return Response(body(request, page, PriceSerializer(page.rows, many=True).data))

    @extend_schema(operation_id="prices_create", request=PriceInputSerializer, responses={201: PriceSerializer})
    def post(self, request: Request) -> Response:
        """A price of a product from a day on; `currency` is the organisation's unless given."""
        given = self.validated(PriceInputSerializer)
        price = services.add_price(
            organization=self.organization, values=_values(PriceInput(), given), actor=self.actor
        )
        location = f"{request.path}{price.pk}/"
        return Response(PriceSerializer(price).data, status=201, headers={"Location": location})


class PriceView(ApiView):
    required = {"GET": Permission.VIEW, "PATCH": Permission.SETTINGS, "DELETE": Permission.SETTINGS}

    @extend_schema(operation_id="prices_retrieve", responses=PriceSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(PriceSerializer(selectors.price_by_id(self.organization, pk)).data)

    @extend_schema(operation_id="prices_update", request=PriceInputSerializer, responses=PriceSerializer)
    def patch(self, request: Request, pk: int) -> Response:
        """Correct a price; savings of its months are computed anew."""
        price = selectors.price_by_id(self.organization, pk)
        values = _values(values_of(price), self.validated(PriceInputSerializer, partial=True))
        return Response(PriceSerializer(services.change_price(price=price, values=values, actor=self.actor)).data)

    @extend_schema(operation_id="prices_delete", request=None, responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        services.remove_price(price=selectors.price_by_id(self.organization, pk), actor=self.actor)
        return Response(status=204)


class LicencesView(ApiView):
    """Licences in use by product, and the number above which an alert is raised."""

    required = {"GET": Permission.VIEW, "PUT": Permission.SETTINGS}

    @extend_schema(operation_id="licences_list", responses=LicencesSerializer(many=True))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ())
        used, alerts = selectors.seats(self.organization), selectors.licence_alerts(self.organization)
        rows = [licence_row(key, used.get(key, 0), alerts.get(key)) for key in dict.fromkeys((*used, *alerts))]
        return Response(LicencesSerializer(rows, many=True).data)

    @extend_schema(operation_id="licences_set_alert", request=LicenceAlertInputSerializer, responses=LicencesSerializer)
    def put(self, request: Request) -> Response:
        """Alert when more than `above` licences of `product` are in use; null turns the alert off."""
        given = self.validated(LicenceAlertInputSerializer)
        alert = services.set_licence_alert(organization=self.organization, actor=self.actor, **given)
        used = selectors.seats(self.organization).get(given["product"], 0)
        return Response(LicencesSerializer(licence_row(given["product"], used, alert)).data)
