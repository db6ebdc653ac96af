"""REST of savings, insights and daily figures."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.savings import selectors, services
from apps.savings.api.serializers import (
    DismissSerializer,
    InsightSerializer,
    SavingsSerializer,
    SeatLinesSerializer,
    SnapshotSerializer,
    SnoozeSerializer,
)
from apps.savings.models import DailySnapshot
from apps.savings.selectors import MonthSavings
from apps.savings.services.snapshots import RANGES
from aum.common.errors import InvalidInput
from aum.common.money import Amounts
from aum.common.pagination import body, keyset_page, limit_of, refuse_unknown
from aum.common.serializers import page_of

MONTH = OpenApiParameter(
    "month", str, description="Such as 2026-11, in the organisation's timezone; this month if left out."
)
RANGE = OpenApiParameter("range", int, enum=list(RANGES), description="Days without a login; 30 if left out.")


def _days(request: Request) -> int:
    text = request.query_params.get("range", "30")
    if text not in {str(days) for days in RANGES}:
        raise InvalidInput(fields={"range": [f"Choose one of {', '.join(map(str, RANGES))}."]})
    return int(text)


def _month(row: MonthSavings) -> dict[str, Any]:
    return {"month": row.month.key, "seats": row.seats, "amounts": row.realised.to_json()}


class SavingsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="savings_retrieve", parameters=[MONTH], responses=SavingsSerializer)
    def get(self, request: Request) -> Response:
        """One month by product and rule, the twelve months to it, what is scheduled and what is possible."""
        refuse_unknown(request.query_params, ("month",))
        organization = self.organization
        month = selectors.parse_month(request.query_params.get("month", ""), organization)
        books = selectors.Books.of(organization)
        months = books.months(month, 12)
        this, people = months[-1], selectors.people_in(organization, month, month)
        free = selectors.free_now(organization)
        possible = selectors.possible_seats(selectors.insights(organization))
        coming, back = selectors.scheduled(organization, books), selectors.given_back(books, months[0].month, month)
        worth = Amounts.total(books.worth(product, count) for product, count in possible.items() if count)
        answer = {
            "month": month.key,
            "is_running": month.is_running,
            "has_prices": books.has_prices,
            "realised": this.realised.to_json(),
            "realised_seats": this.seats,
            "products": [
                {
                    "product": row.product,
                    "seats": row.seats,
                    "amount": None if row.amount is None else str(row.amount),
                    "currency": row.currency,
                    "people": people.get(row.product, 0),
                    "free_now": free.get(row.product, 0),
                    "used": books.seats.get(row.product, 0),
                }
                for row in this.products
            ],
            "rules": [
                {"rule_id": rule, "name": name, "amounts": amount.to_json()} for rule, name, amount in this.by_source()
            ],
            "months": [_month(row) for row in months],
            "projected": [_month(books.projected(ahead)) for ahead in (1, 2)],
            "scheduled": {"seats": coming.seats, "monthly": coming.monthly.to_json()},
            "possible": {"seats": possible, "monthly": worth.to_json()},
            "given_back": {"count": back.count, "monthly": back.monthly.to_json()},
            "is_demo_history": organization.is_demo and selectors.is_demo_history(organization),
        }
        return Response(SavingsSerializer(answer).data)


class SavingsLicencesView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="savings_licences_list",
        parameters=[
            MONTH,
            OpenApiParameter("product", str),
            OpenApiParameter("limit", int),
            OpenApiParameter("offset", int),
        ],
        responses=SeatLinesSerializer,
    )
    def get(self, request: Request) -> Response:
        """Everybody behind a month, once a product; the amounts of a product add up to its amount."""
        parameters = request.query_params
        refuse_unknown(parameters, ("month", "product", "offset"))
        month = selectors.parse_month(parameters.get("month", ""), self.organization)
        lines = selectors.seat_lines(self.organization, month, parameters.get("product", "")[:60])
        text, limit = parameters.get("offset", "0"), limit_of(parameters)
        if not (text.isascii() and text.isdecimal() and len(text) < 9):
            raise InvalidInput(fields={"offset": ["Enter a whole number from 0 on."]})
        start = int(text)
        answer = {"month": month.key, "count": len(lines), "results": lines[start : start + limit]}
        return Response(SeatLinesSerializer(answer).data)


class InsightsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="insights_list", parameters=[RANGE], responses=InsightSerializer(many=True))
    def get(self, request: Request) -> Response:
        """All findings: open ones, those put aside, those in order."""
        refuse_unknown(request.query_params, ("range",))
        return Response(InsightSerializer(selectors.insights(self.organization, _days(request)), many=True).data)


class _Insight(ApiView):
    def answer(self, key: str, days: int = 30) -> Response:
        return Response(InsightSerializer(selectors.insight_named(self.organization, key, days)).data)


class InsightView(_Insight):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="insights_retrieve", parameters=[RANGE], responses=InsightSerializer)
    def get(self, request: Request, key: str) -> Response:
        refuse_unknown(request.query_params, ("range",))
        return self.answer(key, _days(request))


class InsightSnoozeView(_Insight):
    required = {"POST": Permission.RULES}

    @extend_schema(operation_id="insights_snooze", request=SnoozeSerializer, responses=InsightSerializer)
    def post(self, request: Request, key: str) -> Response:
        """Hide the insight for so many days."""
        given = self.validated(SnoozeSerializer)
        services.snooze_insight(organization=self.organization, key=key, days=given["days"], actor=self.actor)
        return self.answer(key)


class InsightDismissView(_Insight):
    required = {"POST": Permission.RULES}

    @extend_schema(operation_id="insights_dismiss", request=DismissSerializer, responses=InsightSerializer)
    def post(self, request: Request, key: str) -> Response:
        """Hide the insight for good, with a reason."""
        given = self.validated(DismissSerializer)
        services.dismiss_insight(organization=self.organization, key=key, reason=given["reason"], actor=self.actor)
        return self.answer(key)


class InsightReopenView(_Insight):
    required = {"POST": Permission.RULES}

    @extend_schema(operation_id="insights_reopen", request=None, responses=InsightSerializer)
    def post(self, request: Request, key: str) -> Response:
        """Show an insight again; 409 `not_put_aside` where it is open."""
        services.reopen_insight(organization=self.organization, key=key, actor=self.actor)
        return self.answer(key)


class SnapshotsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="snapshots_list", parameters=PAGING, responses=page_of(SnapshotSerializer))
    def get(self, request: Request) -> Response:
        """Figures of each day, the newest first: what the dashboard's trends are drawn from."""
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, DailySnapshot.objects.of(self.organization), ("-day", "-id"))
        return Response(body(request, page, SnapshotSerializer(page.rows, many=True).data))
