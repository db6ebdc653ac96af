"""REST of cleanup rules."""

from __future__ import annotations

import dataclasses
import re
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operations.api.serializers import OperationDetailSerializer
from apps.operations.api.views import accepted
from apps.operations.models import Operation
from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.rules import compare, selectors, services
from apps.rules.api.serializers import (
    READ_ONLY,
    DifferencesSerializer,
    LaddersSerializer,
    RuleDetailSerializer,
    RuleEstimateSerializer,
    RuleInputSerializer,
    RuleSerializer,
    RuleVersionSerializer,
    WhatIfSerializer,
)
from apps.rules.models import CleanupRule
from apps.rules.values import FIELDS, GROUP_FIELDS, RuleInput, clean
from apps.users.api.filters import group_keys
from aum.common.errors import InvalidInput
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.pagination_parameters import choice
from aum.common.serializers import page_of

IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="The ETag of the version that the change is made to."
)
_ETAG = re.compile(r'(?:W/)?"(\d{1,9})"', re.ASCII)


def _answer(rule: CleanupRule, *, status: int = 200, location: str = "") -> Response:
    response = Response(RuleDetailSerializer(rule).data, status=status)
    response["ETag"] = f'"{rule.version}"'
    if location:
        response["Location"] = location
    return response


def _tagged(request: Request, rule: CleanupRule, given: dict[str, Any]) -> int:
    """The version that a change is made to: If-Match, else `version` of the body, else the present one."""
    header = request.headers.get("If-Match", "").strip()
    match = _ETAG.fullmatch(header)
    if header and header != "*":
        return int(match[1]) if match else 0
    return int(given.get("version", rule.version))


class _Rules(ApiView):
    def values(self, base: RuleInput, given: dict[str, Any], stored: RuleInput | None = None) -> RuleInput:
        """`base` with what was given; `stored` is the rule as it stands.

        Raises InvalidInput for unknown groups, and for products that contradict each other.
        """
        changes = {name: given[name] for name in FIELDS if name in given}
        for name in GROUP_FIELDS:
            if name in given:
                changes[name] = group_keys(self.organization, given[name], field=name)
        changes = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
        if "products" in given:
            action = given.get("action", base.action)
            place = "target_products" if action == CleanupRule.Action.REMOVE_PRODUCT_ACCESS else "inactive_products"
            changes[place] = _products(stored or base, changes, place, tuple(given["products"]))
        return dataclasses.replace(base, **changes)

    def given(self, request: Request, *, partial: bool = False) -> dict[str, Any]:
        if isinstance(request.data, dict):
            for name in READ_ONLY:
                request.data.pop(name, None)
        return self.validated(RuleInputSerializer, partial=partial)

    def paused(self, rule: CleanupRule, given: dict[str, Any]) -> CleanupRule:
        """Paused or resumed as asked for."""
        wanted = given.get("is_paused", rule.is_paused)
        if wanted and not rule.is_paused:
            return services.pause_rule(rule=rule, reason=given.get("paused_reason", ""), actor=self.actor)
        if rule.is_paused and not wanted:
            return services.resume_rule(rule=rule, actor=self.actor)
        return rule


def _products(before: RuleInput, changes: dict[str, Any], place: str, products: tuple[str, ...]) -> tuple[str, ...]:
    """`products` is another name of `place`. When both come, the one that differs from what is stored counts."""
    stored, named = sorted(getattr(before, place)), changes.get(place)
    if named is None or sorted(named) in (sorted(products), stored):
        return products
    if sorted(products) == stored:
        return tuple(named)
    raise InvalidInput(fields={"products": [f"Give products or {place}, not both."]})


class RulesView(_Rules):
    required = {"GET": Permission.VIEW, "POST": Permission.RULES}

    @extend_schema(
        operation_id="rules_list",
        parameters=[*PAGING, OpenApiParameter("view", str, enum=list(selectors.VIEWS))],
        responses=page_of(RuleSerializer),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ("view",))
        view = choice(request.query_params, "view", selectors.VIEWS) or "all"
        page = keyset_page(request, selectors.rules(self.organization, view), ("name", "id"))
        return Response(body(request, page, RuleSerializer(page.rows, many=True).data))

    @extend_schema(operation_id="rules_create", request=RuleInputSerializer, responses={201: RuleDetailSerializer})
    def post(self, request: Request) -> Response:
        """A new rule; in Safe mode unless said otherwise."""
        given = self.given(request)
        with transaction.atomic():
            rule = services.create_rule(
                organization=self.organization,
                values=self.values(RuleInput(), given),
                actor=self.actor,
                operator=self.operator,
            )
            rule = self.paused(rule, given)
        return _answer(rule, status=201, location=f"{request.path}{rule.pk}/")


class RuleView(_Rules):
    required = {
        "GET": Permission.VIEW,
        "PUT": Permission.RULES,
        "PATCH": Permission.RULES,
        "DELETE": Permission.RULES,
    }

    @extend_schema(operation_id="rules_retrieve", responses=RuleDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return _answer(selectors.rule_by_id(self.organization, pk))

    @extend_schema(
        operation_id="rules_replace",
        parameters=[IF_MATCH],
        request=RuleInputSerializer,
        responses={200: RuleDetailSerializer},
    )
    def put(self, request: Request, pk: int) -> Response:
        """Replace the rule: what is not given goes back to its default. 409 `rule_changed` at another version."""
        rule, given = selectors.rule_by_id(self.organization, pk), self.given(request)
        return self._save(request, rule, given, RuleInput())

    @extend_schema(
        operation_id="rules_update",
        parameters=[IF_MATCH],
        request=RuleInputSerializer,
        responses={200: RuleDetailSerializer},
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Change what is given. `is_paused` pauses and resumes. 409 `rule_changed` at another version."""
        rule, given = selectors.rule_by_id(self.organization, pk), self.given(request, partial=True)
        return self._save(request, rule, given, RuleInput.of(rule))

    @extend_schema(operation_id="rules_delete", request=None, responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Delete the rule; its runs and versions stay."""
        services.delete_rule(rule=selectors.rule_by_id(self.organization, pk), actor=self.actor)
        return Response(status=204)

    def _save(self, request: Request, rule: CleanupRule, given: dict[str, Any], base: RuleInput) -> Response:
        with transaction.atomic():
            rule = services.update_rule(
                rule=rule,
                values=self.values(base, given, RuleInput.of(rule)),
                expected_version=_tagged(request, rule, given),
                actor=self.actor,
                operator=self.operator,
                reason=given.get("reason", ""),
            )
            rule = self.paused(rule, given)
        return _answer(selectors.rule_by_id(self.organization, rule.pk))


class RuleEstimateView(_Rules):
    required = {"POST": Permission.VIEW}

    @extend_schema(operation_id="rules_estimate", request=RuleInputSerializer, responses=RuleEstimateSerializer)
    def post(self, request: Request) -> Response:
        """What a rule of these values would do now, without saving it: sentence, next runs, counts with reasons."""
        given = self.values(RuleInput(), self.given(request))
        # A name that no rule has: what is asked about may be a rule that exists.
        values = clean(dataclasses.replace(given, name=uuid4().hex), self.organization)
        return Response(RuleEstimateSerializer(selectors.outlook(self.organization, values, timezone.now())).data)


class RuleLaddersView(_Rules):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="rules_ladders", responses=LaddersSerializer)
    def get(self, request: Request) -> Response:
        """Rules that take from the same people step by step, the gentlest rung first."""
        refuse_unknown(request.query_params, ())
        return Response(LaddersSerializer({"results": selectors.ladders(self.organization)}).data)


class RuleDuplicateView(_Rules):
    required = {"POST": Permission.RULES}

    @extend_schema(operation_id="rules_duplicate", request=None, responses={201: RuleDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """A copy under a free name, in Safe mode."""
        rule = selectors.rule_by_id(self.organization, pk)
        copy = services.duplicate_rule(rule=rule, actor=self.actor, operator=self.operator)
        base = request.path.removesuffix(f"{pk}/duplicate/")
        return _answer(copy, status=201, location=f"{base}{copy.pk}/")


class RulePreviewView(_Rules):
    required = {"POST": Permission.PREVIEW}

    @extend_schema(operation_id="rules_preview", request=None, responses={202: OperationDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """A plan in Safe mode, whatever the rule's own mode: it changes nothing and can be applied."""
        rule = selectors.rule_by_id(self.organization, pk)
        operation = services.preview_rule(
            rule=rule, actor=self.actor, operator=self.operator, is_by_token=self.is_by_token
        )
        return accepted(self, operation)


class RuleWhatIfView(_Rules):
    required = {"POST": Permission.PREVIEW}

    @extend_schema(operation_id="rules_what_if", request=WhatIfSerializer, responses={202: OperationDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """A plan in Safe mode of the rule with other days, to be compared; it can never be applied."""
        given = self.validated(WhatIfSerializer)
        operation = services.what_if(
            rule=selectors.rule_by_id(self.organization, pk),
            actor=self.actor,
            operator=self.operator,
            is_by_token=self.is_by_token,
            **given,
        )
        return accepted(self, operation)


class RuleVersionsView(_Rules):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="rules_versions",
        parameters=PAGING,
        responses=page_of(RuleVersionSerializer),
    )
    def get(self, request: Request, pk: int) -> Response:
        """What the rule said, newest first, with what changed since the version before."""
        refuse_unknown(request.query_params, ())
        rule = selectors.rule_by_id(self.organization, pk)
        page = keyset_page(request, selectors.versions(rule), ("-version",))
        return Response(
            body(request, page, RuleVersionSerializer(selectors.with_changes(rule, page.rows), many=True).data)
        )


class RuleDifferencesView(_Rules):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="rules_differences",
        parameters=[
            OpenApiParameter("new", int, required=True, description="Id of the newer plan or run."),
            OpenApiParameter("old", int, required=True, description="Id of the plan or run it is held against."),
            OpenApiParameter("part", str, enum=list(compare.GROUPS), description="Whom to list; default: added."),
            OpenApiParameter("after", str, description="The last account id of the page before."),
            OpenApiParameter("limit", int, description="At most 500; default 100."),
        ],
        responses=DifferencesSerializer,
    )
    def get(self, request: Request, pk: int) -> Response:
        """Two plans of the rule held against each other: who was added, removed, changed, or stayed."""
        refuse_unknown(request.query_params, ("new", "old", "part", "after", "limit"))
        rule = selectors.rule_by_id(self.organization, pk)
        sides = [self._side(rule, request.query_params.get(name, ""), name) for name in ("new", "old")]
        part = choice(request.query_params, "part", compare.GROUPS) or compare.GROUPS[0]
        limit = _whole(request.query_params.get("limit", "100"), "limit", 500)
        rows = compare.differences(
            sides[0], sides[1], part, after=request.query_params.get("after", "")[:320], limit=limit
        )
        data = {"counts": compare.counts(sides[0], sides[1]), "part": part, "results": rows}
        return Response(DifferencesSerializer(data).data)

    def _side(self, rule: CleanupRule, text: str, name: str) -> Operation:
        found = compare.plans_of(rule).filter(pk=_whole(text, name, 2**31)).first()
        if found is None:
            raise InvalidInput(fields={name: ["This is no finished plan of the rule."]})
        return found


def _whole(text: str, name: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:12]) <= most:
        raise InvalidInput(fields={name: ["Enter a whole number."]})
    return int(text)


class RuleRunView(_Rules):
    required = {"POST": Permission.RUN_RULES}

    @extend_schema(operation_id="rules_run", request=None, responses={202: OperationDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Run the rule now in its own mode."""
        rule = selectors.rule_by_id(self.organization, pk)
        operation = services.run_rule(rule=rule, actor=self.actor, operator=self.operator, is_by_token=self.is_by_token)
        return accepted(self, operation)
