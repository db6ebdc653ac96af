"""REST of people and tokens. No token's scope reaches these: they are for signed-in owners and admins."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.models import ApiToken, Grant, Operator, Role
from apps.operators.permissions import Permission, Scope
from apps.operators.selectors import Member, members_of, open_invitations
from apps.operators.services import create_token, invite, revoke_invitation, revoke_token, set_roles
from aum.common.errors import Missing
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.serializers import PlainText, page_of


class PersonSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="operator.pk")
    email = serializers.CharField(source="operator.email")
    name = serializers.CharField(source="operator.name")
    is_active = serializers.BooleanField(source="operator.is_active")
    has_second_factor = serializers.BooleanField()
    last_login = serializers.DateTimeField(source="operator.last_login", allow_null=True)
    roles = serializers.SerializerMethodField()

    def get_roles(self, member: Member) -> list[str]:
        return [grant.role for grant in member.grants]


class PeopleSerializer(serializers.Serializer[Any]):
    results = PersonSerializer(many=True)


class RolesSerializer(serializers.Serializer[Any]):
    roles = serializers.ListField(child=serializers.ChoiceField(Role.choices), allow_empty=True, max_length=10)


class InvitationSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    email = serializers.CharField()
    name = serializers.CharField()
    roles = serializers.ListField(child=serializers.CharField())
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class NewInvitationSerializer(serializers.Serializer[Any]):
    email = PlainText(max_length=254)
    name = PlainText(max_length=150, required=False, allow_blank=True, default="")
    roles = serializers.ListField(child=serializers.ChoiceField(Role.choices), max_length=10)


class InvitedSerializer(InvitationSerializer):
    link = serializers.CharField(help_text="Shown once.")


class TokenSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    prefix = serializers.CharField()
    operator = serializers.CharField(source="operator.email")
    scopes = serializers.ListField(child=serializers.CharField())
    networks = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewTokenSerializer(serializers.Serializer[Any]):
    name = PlainText(max_length=100, required=False, allow_blank=True, default="")
    scopes = serializers.ListField(child=serializers.ChoiceField([scope.value for scope in Scope]), max_length=10)
    networks = serializers.ListField(child=PlainText(max_length=50), required=False, default=list, max_length=50)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class CreatedTokenSerializer(TokenSerializer):
    token = serializers.CharField(help_text="Shown once.")


class PeopleView(ApiView):
    required = {"GET": Permission.OWN}

    @extend_schema(operation_id="people_list", responses=PeopleSerializer)
    def get(self, request: Request) -> Response:
        """Everybody with a role here, disabled ones too; always whole."""
        refuse_unknown(request.query_params, ())
        return Response({"results": PersonSerializer(members_of(self.organization), many=True).data})


class PersonView(ApiView):
    required = {"PUT": Permission.OWN}

    @extend_schema(operation_id="people_set_roles", request=RolesSerializer, responses=PersonSerializer)
    def put(self, request: Request, pk: int) -> Response:
        """Exactly these roles; none takes the person out of the organisation."""
        roles = self.validated(RolesSerializer)["roles"]
        grant = Grant.objects.of(self.organization).filter(operator_id=pk).select_related("operator").first()
        if grant is None:
            raise Missing("There is no such person here.")
        operator: Operator = grant.operator
        set_roles(organization=self.organization, operator=operator, roles=roles, actor=self.actor)
        member = next((row for row in members_of(self.organization) if row.operator.pk == pk), None)
        return Response(PersonSerializer(member or Member(operator, [], False)).data)


class InvitationsView(ApiView):
    required = {"GET": Permission.OWN, "POST": Permission.OWN}

    @extend_schema(operation_id="invitations_list", parameters=PAGING, responses=page_of(InvitationSerializer))
    def get(self, request: Request) -> Response:
        """Open invitations, newest first."""
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, open_invitations(self.organization), ("-id",))
        return Response(body(request, page, InvitationSerializer(page.rows, many=True).data))

    @extend_schema(
        operation_id="invitations_create", request=NewInvitationSerializer, responses={201: InvitedSerializer}
    )
    def post(self, request: Request) -> Response:
        """Invite a person; the link is in this answer only."""
        row, secret = invite(
            organization=self.organization, actor=self.actor, **self.validated(NewInvitationSerializer)
        )
        link = f"{settings.AUM_BASE_URL.rstrip('/')}{reverse('operators:accept', args=[secret])}"
        return Response({**InvitationSerializer(row).data, "link": link}, status=201)


class InvitationView(ApiView):
    required = {"DELETE": Permission.OWN}

    @extend_schema(operation_id="invitations_withdraw", responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Its link stops working at once."""
        revoke_invitation(organization=self.organization, invitation_id=pk, actor=self.actor)
        return Response(status=204)


class TokensView(ApiView):
    required = {"GET": Permission.TOKENS, "POST": Permission.TOKENS}

    @extend_schema(operation_id="tokens_list", parameters=PAGING, responses=page_of(TokenSerializer))
    def get(self, request: Request) -> Response:
        """One's own tokens, never their secrets; an owner sees everybody's."""
        refuse_unknown(request.query_params, ())
        rows = ApiToken.objects.of(self.organization).select_related("operator")
        if not self.access.may(Permission.OWN):
            rows = rows.filter(operator=self.operator)
        page = keyset_page(request, rows, ("-id",))
        return Response(body(request, page, TokenSerializer(page.rows, many=True).data))

    @extend_schema(operation_id="tokens_create", request=NewTokenSerializer, responses={201: CreatedTokenSerializer})
    def post(self, request: Request) -> Response:
        """A token of one's own; it is in this answer only."""
        row, secret = create_token(
            organization=self.organization,
            operator=self.operator,
            actor=self.actor,
            **self.validated(NewTokenSerializer),
        )
        return Response({**TokenSerializer(row).data, "token": secret}, status=201)


class TokenView(ApiView):
    required = {"DELETE": Permission.TOKENS}

    @extend_schema(operation_id="tokens_revoke", responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """The token stops working at once. Others' tokens are for owners."""
        rows = ApiToken.objects.of(self.organization).filter(pk=pk)
        if not self.access.may(Permission.OWN):
            rows = rows.filter(operator=self.operator)
        if not rows.exists():
            raise Missing("There is no such token.")
        revoke_token(organization=self.organization, token_id=pk, actor=self.actor)
        return Response(status=204)
