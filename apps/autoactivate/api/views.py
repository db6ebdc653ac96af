"""REST of activation: rules, ways in, events, access given."""

from __future__ import annotations

import dataclasses
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.autoactivate import selectors, services
from apps.autoactivate.api import serializers as shapes
from apps.autoactivate.models import AccessGrant, AssignmentRule, InboundEvent
from apps.autoactivate.services.sources import ENTERED_SECRETS
from apps.autoactivate.values import FIELDS, AssignmentInput, KnownProject
from apps.operations.api.serializers import OperationDetailSerializer
from apps.operations.api.views import accepted
from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from apps.users.api.filters import group_keys
from aum.common.errors import Missing
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.pagination_parameters import choice
from aum.common.serializers import page_of

GRANT_VIEWS = ("all", "timed", "asked")


class _Rules(ApiView):
    # Jira is asked about project and request types, and no call is made inside a transaction.
    is_atomic = False

    def values(self, base: AssignmentInput, given: dict[str, Any]) -> AssignmentInput:
        """`base` with what was given; groups by our keys. Raises InvalidInput for unknown ones."""
        changes: dict[str, Any] = {}
        for name in FIELDS:
            if name in given:
                changes[name] = tuple(given[name]) if isinstance(given[name], list) else given[name]
        if "groups" in given:
            changes["groups"] = group_keys(self.organization, given["groups"], field="groups")
        if given.get("trigger_group") is not None:
            changes["trigger_group"] = group_keys(self.organization, [given["trigger_group"]], field="trigger_group")[0]
        return dataclasses.replace(base, **changes)

    def answer(self, pk: int, *, status: int = 200, location: str = "") -> Response:
        rule = selectors.rule_by_id(self.organization, pk)
        response = Response(shapes.AssignmentRuleSerializer(rule).data, status=status)
        response["ETag"] = f'"{rule.version}"'
        if location:
            response["Location"] = f"{location}{pk}/"
        return response


class AssignmentRulesView(_Rules):
    required = {"GET": Permission.VIEW, "POST": Permission.RULES}

    @extend_schema(
        operation_id="assignment_rules_list", parameters=PAGING, responses=page_of(shapes.AssignmentRuleSerializer)
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, selectors.rules(self.organization), ("name", "id"))
        return Response(body(request, page, shapes.AssignmentRuleSerializer(page.rows, many=True).data))

    @extend_schema(
        operation_id="assignment_rules_create",
        request=shapes.AssignmentRuleInputSerializer,
        responses={201: shapes.AssignmentRuleSerializer},
    )
    def post(self, request: Request) -> Response:
        """A new rule, switched off unless `is_active`. 409 `setup_not_seen` before an event arrived from outside."""
        given = self.validated(shapes.AssignmentRuleInputSerializer)
        rule = services.create_rule(
            organization=self.organization,
            values=self.values(AssignmentInput(), given),
            is_active=bool(given.get("is_active")),
            actor=self.actor,
            operator=self.operator,
        )
        return self.answer(rule.pk, status=201, location=request.path)


class AssignmentRuleView(_Rules):
    required = {
        "GET": Permission.VIEW,
        "PUT": Permission.RULES,
        "PATCH": Permission.RULES,
        "DELETE": Permission.RULES,
    }

    @extend_schema(operation_id="assignment_rules_retrieve", responses=shapes.AssignmentRuleSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return self.answer(pk)

    @extend_schema(
        operation_id="assignment_rules_replace",
        request=shapes.AssignmentRuleInputSerializer,
        responses={200: shapes.AssignmentRuleSerializer},
    )
    def put(self, request: Request, pk: int) -> Response:
        """Replace the rule: what is not given goes back to its default. 409 `rule_changed` at another version."""
        return self._save(selectors.rule_by_id(self.organization, pk), AssignmentInput())

    @extend_schema(
        operation_id="assignment_rules_update",
        request=shapes.AssignmentRuleInputSerializer,
        responses={200: shapes.AssignmentRuleSerializer},
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Change what is given; `is_active` switches on and off. 409 `rule_changed` at another version."""
        rule = selectors.rule_by_id(self.organization, pk)
        return self._save(rule, AssignmentInput.of(rule))

    @extend_schema(operation_id="assignment_rules_delete", request=None, responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Delete the rule; what it gave stays, with its end where it has one."""
        services.delete_rule(rule=selectors.rule_by_id(self.organization, pk), actor=self.actor)
        return Response(status=204)

    def _save(self, rule: AssignmentRule, base: AssignmentInput) -> Response:
        given = self.validated(shapes.AssignmentRuleInputSerializer)
        if set(given) - {"is_active", "version"}:
            rule = services.update_rule(
                rule=rule,
                values=self.values(base, given),
                expected_version=given.get("version", rule.version),
                actor=self.actor,
                operator=self.operator,
            )
        if "is_active" in given:
            services.switch_rule(rule=rule, is_active=given["is_active"], actor=self.actor)
        return self.answer(rule.pk)


class WouldHaveMatchedView(_Rules):
    required = {"POST": Permission.RULES}

    @extend_schema(
        operation_id="assignment_rules_would_match",
        request=shapes.AssignmentRuleInputSerializer,
        responses={200: shapes.WouldHaveMatchedSerializer},
    )
    def post(self, request: Request) -> Response:
        """How many requests of the last 30 days a rule with these values would have matched. Changes nothing."""
        given = self.validated(shapes.AssignmentRuleInputSerializer)
        cleaned = services.judge(self.organization, self.values(AssignmentInput(), given))
        found = services.would_have_matched(
            self.organization,
            columns=cleaned.columns,
            project_key=cleaned.columns["project_key"],
            request_type_ids=tuple(kind["id"] for kind in cleaned.columns["request_types"]),
        )
        return Response(shapes.WouldHaveMatchedSerializer(found).data)


class ServiceProjectsView(ApiView):
    required = {"GET": Permission.VIEW}
    is_atomic = False

    @extend_schema(
        operation_id="service_projects_list",
        parameters=[OpenApiParameter("project", str, description="A key: only this project, with its request types.")],
        responses=shapes.ServiceProjectSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """The service projects that AUM's token sees, as Jira gives them now."""
        refuse_unknown(request.query_params, ("project",))
        key = request.query_params.get("project", "").strip()
        if not key:
            projects = [self._row(project) for project in services.service_projects(self.organization)]
            return Response(projects)
        found = services.known_project(self.organization, AssignmentInput(project=key))
        if found is None:
            raise Missing("There is no such service project.")
        kinds = [{"id": id_, "name": name} for id_, name in found.request_types]
        return Response([{**self._row(found), "request_types": kinds}])

    @staticmethod
    def _row(project: KnownProject) -> dict[str, str]:
        return {"id": project.id, "key": project.key, "name": project.name}


# --- ways in ----------------------------------------------------------------------------------------------------------


class InboundSourcesView(ApiView):
    required = {"GET": Permission.VIEW, "POST": Permission.SETTINGS}

    @extend_schema(operation_id="inbound_sources_list", responses=shapes.InboundSourceSerializer(many=True))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ())
        rows = sorted(selectors.sources(self.organization).values(), key=lambda source: source.pk)
        return Response(shapes.InboundSourceSerializer(rows, many=True).data)

    @extend_schema(
        operation_id="inbound_sources_create",
        request=shapes.NewSourceSerializer,
        responses={201: shapes.InboundSourceSerializer},
    )
    def post(self, request: Request) -> Response:
        """The way in of a kind, with its address; made where it does not exist, without a secret."""
        kind = self.validated(shapes.NewSourceSerializer)["kind"]
        source = services.ensure_source(organization=self.organization, kind=kind)
        return Response(shapes.InboundSourceSerializer(source).data, status=201)


class InboundSourceView(ApiView):
    required = {"GET": Permission.VIEW, "PATCH": Permission.SETTINGS}

    @extend_schema(operation_id="inbound_sources_retrieve", responses=shapes.InboundSourceSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(shapes.InboundSourceSerializer(selectors.source_by_id(self.organization, pk)).data)

    @extend_schema(
        operation_id="inbound_sources_update",
        request=shapes.SourceChangeSerializer,
        responses={200: shapes.InboundSourceSerializer},
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Open or close a way in, switch polling, or set the domains of the intranet."""
        source = selectors.source_by_id(self.organization, pk)
        given = self.validated(shapes.SourceChangeSerializer)
        if "domains" in given:
            source = services.set_domains(source=source, domains=given["domains"], actor=self.actor)
        if "is_enabled" in given:
            source = services.switch_source(source=source, is_enabled=given["is_enabled"], actor=self.actor)
        return Response(shapes.InboundSourceSerializer(source).data)


class InboundSourceRotateView(ApiView):
    required = {"POST": Permission.SETTINGS}
    # A secret is given once and stored nowhere: an answer kept for repeats would hold it.
    is_atomic = False

    @extend_schema(
        operation_id="inbound_sources_rotate",
        request=shapes.RotateSerializer,
        responses={200: shapes.RotatedSerializer},
    )
    def post(self, request: Request, pk: int) -> Response:
        """A new secret, given this once; the earlier one is believed for 24 more hours unless `ends_now`."""
        source = selectors.source_by_id(self.organization, pk)
        given = self.validated(shapes.RotateSerializer)
        ends_now, secret = bool(given.get("ends_now")), ""
        if source.kind in ENTERED_SECRETS:
            source = services.save_secret(
                source=source, secret=given.get("secret", ""), actor=self.actor, ends_now=ends_now
            )
        else:
            source, secret = services.rotate_secret(source=source, actor=self.actor, ends_now=ends_now)
        response = Response({**shapes.InboundSourceSerializer(source).data, "secret": secret})
        response["Cache-Control"] = "no-store"
        return response


# --- events and access ------------------------------------------------------------------------------------------------


class InboundEventsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="inbound_events_list",
        parameters=[
            *PAGING,
            OpenApiParameter("view", str, enum=list(selectors.EVENT_VIEWS)),
            OpenApiParameter("search", str, description="In the ticket's key and the requester's name."),
        ],
        responses=page_of(shapes.InboundEventSerializer),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ("view", "search"))
        view = choice(request.query_params, "view", selectors.EVENT_VIEWS) or "all"
        rows = selectors.events(self.organization, view, request.query_params.get("search", "").strip()[:200])
        page = keyset_page(request, rows, ("-id",))
        return Response(body(request, page, shapes.InboundEventSerializer(page.rows, many=True).data))


class _Event(ApiView):
    def event(self, pk: int) -> InboundEvent:
        return selectors.event_by_id(self.organization, pk)

    def answer(self, pk: int) -> Response:
        return Response(shapes.InboundEventSerializer(self.event(pk)).data)


class InboundEventView(_Event):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="inbound_events_retrieve", responses=shapes.InboundEventSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return self.answer(pk)


class InboundEventRetryView(_Event):
    required = {"POST": Permission.RULES}

    @extend_schema(operation_id="inbound_events_retry", request=None, responses={200: shapes.InboundEventSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Judge an event anew. 409 `not_repeatable` for one that is worked on or gave what it asked for."""
        services.process_again(event=self.event(pk), actor=self.actor)
        return self.answer(pk)


class InboundEventDismissView(_Event):
    required = {"POST": Permission.RULES}

    @extend_schema(operation_id="inbound_events_dismiss", request=None, responses={200: shapes.InboundEventSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """End an event that waits."""
        services.dismiss_event(event=self.event(pk), actor=self.actor)
        return self.answer(pk)


class AccessGrantsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="access_grants_list",
        parameters=[*PAGING, OpenApiParameter("view", str, enum=list(GRANT_VIEWS))],
        responses=page_of(shapes.AccessGrantSerializer),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ("view",))
        view = choice(request.query_params, "view", GRANT_VIEWS) or "all"
        page = keyset_page(request, selectors.grants(self.organization, view), ("-id",))
        return Response(body(request, page, shapes.AccessGrantSerializer(page.rows, many=True).data))


class _Grant(ApiView):
    def grant(self, pk: int) -> AccessGrant:
        return selectors.grant_by_id(self.organization, pk)

    def answer(self, pk: int) -> Response:
        return Response(shapes.AccessGrantSerializer(self.grant(pk)).data)


class AccessGrantAskView(_Grant):
    required = {"POST": Permission.ACT}

    @extend_schema(
        operation_id="access_grants_ask",
        request=shapes.AskSerializer,
        responses={200: shapes.AccessGrantSerializer},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Ask that access ends later; an approver who did not ask decides."""
        given = self.validated(shapes.AskSerializer)
        services.ask_for_more(
            grant=self.grant(pk),
            days=given["days"],
            reason=given["reason"],
            actor=self.actor,
            operator=self.operator,
        )
        return self.answer(pk)


class AccessGrantDecideView(_Grant):
    required = {"POST": Permission.APPROVE}

    @extend_schema(
        operation_id="access_grants_decide",
        request=shapes.DecideSerializer,
        responses={200: shapes.AccessGrantSerializer},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Grant or refuse more time. 403 for whoever asked."""
        given = self.validated(shapes.DecideSerializer)
        services.decide_more(
            grant=self.grant(pk),
            is_granted=given["grant"],
            reason=given.get("reason", ""),
            actor=self.actor,
            operator=self.operator,
        )
        return self.answer(pk)


class AccessGrantUndoView(_Grant):
    required = {"POST": Permission.ACT}

    @extend_schema(operation_id="access_grants_undo", request=None, responses={202: OperationDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Take back what was given, as an undo of its run for this person."""
        operation = services.undo_grant(
            grant=self.grant(pk), actor=self.actor, operator=self.operator, is_by_token=self.is_by_token
        )
        return accepted(self, operation)
