"""REST of organisations: connect, check, kill switch, alerts. They stand here because permissions stand above them."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import OuterRef, QuerySet, Subquery
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operators.api.base import ApiView
from apps.operators.context import may_connect
from apps.operators.models import ApiToken, Role
from apps.operators.permissions import Permission
from apps.operators.selectors import organizations_of
from apps.operators.services import choose_one_operator, grant_role
from apps.organizations.models import Alert, Credential, Organization, Site, validate_timezone
from apps.organizations.selectors import connection_state
from apps.organizations.services import (
    ConnectionInput,
    check_connection,
    connect_organization,
    create_from_file,
    release_kill_switch,
    resolve_alert,
    turn_kill_switch_on,
    update_settings,
)
from aum.atlassian.probe import CapabilityResult
from aum.common.errors import DomainError, InvalidInput, Missing, NotAllowed
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.serializers import PlainText, page_of

PAGING = [
    OpenApiParameter("limit", int, description="Rows of a page, 1 to 500."),
    OpenApiParameter("cursor", str, description="Where the page begins: from `next` or `previous`."),
    OpenApiParameter("count", str, enum=["exact", "estimate"], description="Adds `count`."),
]
# Names that the connection service uses for the inputs of this resource.
_FIELDS = {"email": "admin_email"}


class OrganizationSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    org_id = serializers.CharField()
    site_url = serializers.CharField(allow_null=True)
    admin_email = serializers.CharField(allow_null=True)
    api_url = serializers.CharField()
    timezone = serializers.CharField()
    is_demo = serializers.BooleanField()
    is_from_file = serializers.BooleanField(help_text="Filled from an export file, without credentials.")
    is_one_operator = serializers.BooleanField()
    is_killed = serializers.BooleanField()
    kill_switch_at = serializers.DateTimeField(allow_null=True)
    kill_switch_by = serializers.CharField()
    kill_switch_reason = serializers.CharField()
    max_count = serializers.IntegerField()
    max_share_percent = serializers.FloatField()
    max_group_share_percent = serializers.IntegerField()
    max_per_day = serializers.IntegerField()
    activity_margin_hours = serializers.IntegerField()


class CheckSerializer(serializers.Serializer[Any]):
    capability = serializers.CharField()
    ok = serializers.BooleanField()
    code = serializers.CharField()
    detail = serializers.CharField()
    value = serializers.CharField(allow_null=True, help_text="The input to correct.")


class ConnectionStateSerializer(serializers.Serializer[Any]):
    code = serializers.ChoiceField(["from_file", "not_configured", "invalid", "expiring", "complete"])
    title = serializers.CharField()
    detail = serializers.CharField()


class OrganizationDetailSerializer(OrganizationSerializer):
    connection = ConnectionStateSerializer()


class ConnectedSerializer(OrganizationDetailSerializer):
    checks = CheckSerializer(many=True)


class NewOrganizationSerializer(serializers.Serializer[Any]):
    """With the credentials of its connection; or `is_from_file`, with none: its export is uploaded to `look-first/`."""

    slug = PlainText(max_length=50, required=False, allow_blank=True, default="")
    name = PlainText(max_length=200)
    is_from_file = serializers.BooleanField(required=False, default=False)
    org_id = PlainText(max_length=128, required=False)
    site_url = PlainText(max_length=300, required=False)
    admin_email = PlainText(max_length=254, required=False)
    api_token = PlainText(max_length=2000, write_only=True, required=False)
    api_key = PlainText(max_length=2000, write_only=True, required=False)
    api_url = PlainText(max_length=300, required=False, allow_blank=True, default="")
    timezone = PlainText(max_length=64, required=False, default="UTC")
    api_key_owner = PlainText(max_length=254, required=False, allow_blank=True, default="")
    api_key_expires_on = serializers.DateField(required=False, allow_null=True, default=None)
    api_token_expires_on = serializers.DateField(required=False, allow_null=True, default=None)
    is_one_operator = serializers.BooleanField(required=False, default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        credentials = ("org_id", "site_url", "admin_email", "api_token", "api_key")
        given = [name for name in credentials if name in attrs]
        if attrs["is_from_file"] and given:
            raise serializers.ValidationError(
                {name: ["An organisation from a file has no credentials yet."] for name in given}
            )
        missing = [name for name in credentials if name not in attrs]
        if missing and not attrs["is_from_file"]:
            raise serializers.ValidationError({name: ["This field is required."] for name in missing})
        return attrs


class ReasonSerializer(serializers.Serializer[Any]):
    reason = PlainText()


class AlertSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    kind = serializers.CharField()
    severity = serializers.ChoiceField(Alert.Severity.choices)
    title = serializers.CharField()
    detail = serializers.CharField()
    link = serializers.CharField()
    repeats = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    last_at = serializers.DateTimeField()
    resolved_at = serializers.DateTimeField(allow_null=True)
    resolved_by = serializers.CharField()


def _shown(organizations: QuerySet[Organization]) -> QuerySet[Organization]:
    """With the primary site's address and the e-mail that the token belongs to."""
    site = Site.objects.filter(organization=OuterRef("pk"), is_primary=True).values("url")[:1]
    email = Credential.objects.filter(organization=OuterRef("pk"), kind=Credential.Kind.API_TOKEN)
    return organizations.annotate(site_url=Subquery(site), admin_email=Subquery(email.values("owner_email")[:1]))


def _detail(organization: Organization) -> dict[str, Any]:
    row = _shown(Organization.objects.filter(pk=organization.pk)).get()
    connection = ConnectionStateSerializer(connection_state(organization)).data
    return {**OrganizationSerializer(row).data, "connection": connection}


class OrganizationsView(ApiView):
    """Organisations that the caller has a role in."""

    required = {"GET": None, "HEAD": None, "POST": None}
    is_atomic = False

    @extend_schema(operation_id="organizations_list", parameters=PAGING, responses=page_of(OrganizationSerializer))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ())
        rows = organizations_of(self.operator)
        if isinstance(request.auth, ApiToken):
            rows = rows.filter(pk=request.auth.organization_id)
        page = keyset_page(request, _shown(rows), ("name", "id"))
        return Response(body(request, page, OrganizationSerializer(page.rows, many=True).data))

    @extend_schema(
        operation_id="organizations_create", request=NewOrganizationSerializer, responses={201: ConnectedSerializer}
    )
    def post(self, request: Request) -> Response:
        """Connect an Atlassian organisation: saved only when Atlassian accepts the values. Never by a token."""
        if self.is_by_token:
            raise NotAllowed("A token cannot touch credentials. Sign in, or use script/aum organization add.")
        if not may_connect(self.operator):
            raise NotAllowed("Only an owner may connect a further organisation.")
        given = self.validated(NewOrganizationSerializer)
        is_one_operator, zone = given.pop("is_one_operator"), given.pop("timezone")
        try:
            validate_timezone(zone)
        except ValidationError as error:
            raise InvalidInput(fields={"timezone": error.messages}) from error
        organization, results = self._made(given)
        grant_role(
            organization=organization, operator=self.operator, role=Role.OWNER, actor=self.actor, is_founding=True
        )
        if is_one_operator:
            choose_one_operator(organization=organization, operator=self.operator, actor=self.actor)
        if zone != organization.timezone:
            update_settings(organization=organization, changes={"timezone": zone}, actor=self.actor)
        answer = {**_detail(organization), "checks": CheckSerializer(results, many=True).data}
        return Response(answer, status=201, headers={"Location": f"{request.path}{organization.slug}/"})

    def _made(self, given: dict[str, Any]) -> tuple[Organization, list[CapabilityResult]]:
        if given.pop("is_from_file"):
            return create_from_file(name=given["name"], actor=self.actor), []
        try:
            return connect_organization(
                values=ConnectionInput(email=given.pop("admin_email"), **given), actor=self.actor
            )
        except DomainError as error:
            error.fields = {_FIELDS.get(name, name): texts for name, texts in error.fields.items()}
            raise


class OrganizationView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="organizations_retrieve", responses=OrganizationDetailSerializer)
    def get(self, request: Request) -> Response:
        return Response(_detail(self.organization))


class CheckView(ApiView):
    required = {"POST": Permission.SETTINGS}
    is_atomic = False

    @extend_schema(operation_id="organizations_check", request=None, responses=CheckSerializer(many=True))
    def post(self, request: Request) -> Response:
        """Try the saved credentials, one capability at a time."""
        return Response(CheckSerializer(check_connection(organization=self.organization), many=True).data)


class KillSwitchView(ApiView):
    """The emergency stop: while it is on, nothing is written to Atlassian."""

    required = {"POST": Permission.KILL_SWITCH, "DELETE": Permission.OWN}

    @extend_schema(
        operation_id="kill_switch_on", request=ReasonSerializer, responses={200: OrganizationDetailSerializer}
    )
    def post(self, request: Request) -> Response:
        reason = self.validated(ReasonSerializer)["reason"]
        turn_kill_switch_on(organization=self.organization, reason=reason, actor=self.actor)
        return Response(_detail(self.organization))

    @extend_schema(
        operation_id="kill_switch_off",
        parameters=[OpenApiParameter("reason", str, required=True, description="Why it is safe to go on.")],
        request=None,
        responses={200: OrganizationDetailSerializer},
    )
    def delete(self, request: Request) -> Response:
        reason = request.query_params.get("reason") or self._reason_in_body(request)
        release_kill_switch(organization=self.organization, reason=reason[:500], actor=self.actor)
        return Response(_detail(self.organization))

    @staticmethod
    def _reason_in_body(request: Request) -> str:
        given = request.data.get("reason", "") if isinstance(request.data, dict) else ""
        return given if isinstance(given, str) and "\x00" not in given else ""


class AlertsView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="alerts_list",
        parameters=[
            *PAGING,
            OpenApiParameter("state", str, enum=["open", "resolved", "all"], description="open unless given."),
        ],
        responses=page_of(AlertSerializer),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ("state",))
        state = request.query_params.get("state", "open")
        if state not in ("open", "resolved", "all"):
            raise InvalidInput(fields={"state": ["Choose open, resolved or all."]})
        rows = Alert.objects.of(self.organization)
        if state != "all":
            rows = rows.filter(resolved_at__isnull=state == "open")
        page = keyset_page(request, rows, ("-id",))
        return Response(body(request, page, AlertSerializer(page.rows, many=True).data))


class AlertResolveView(ApiView):
    required = {"POST": Permission.SETTINGS}

    @extend_schema(operation_id="alerts_resolve", request=None, responses=AlertSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Close an open alert; it opens anew when its cause comes back."""
        alert = Alert.objects.of(self.organization).filter(pk=pk).first()
        if alert is None:
            raise Missing("There is no such alert.")
        if alert.resolved_at is None:
            resolve_alert(organization=self.organization, dedup_key=alert.dedup_key, by=self.actor.name)
            alert.refresh_from_db()
        return Response(AlertSerializer(alert).data)
