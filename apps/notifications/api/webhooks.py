"""REST of signed webhooks: where events go, what was sent, a test, and sending again."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.notifications import selectors, services
from apps.notifications.api import serializers as shapes
from apps.notifications.models import AlertChannel
from apps.notifications.services import ChannelInput
from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.serializers import page_of

WEBHOOK = AlertChannel.Kind.WEBHOOK.value


class WebhooksView(ApiView):
    required = {"GET": Permission.SETTINGS, "POST": Permission.SETTINGS}

    @extend_schema(operation_id="webhooks_list", parameters=PAGING, responses=page_of(shapes.WebhookSerializer))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, selectors.webhooks(self.organization), ("name", "id"))
        return Response(body(request, page, shapes.WebhookSerializer(page.rows, many=True).data))

    @extend_schema(
        operation_id="webhooks_create",
        request=shapes.WebhookInputSerializer,
        responses={201: shapes.WebhookSerializer},
    )
    def post(self, request: Request) -> Response:
        """A new webhook. Bring its secret, or make one on its page: no answer holds it."""
        given = {"events": services.SUGGESTED, **self.validated(shapes.WebhookInputSerializer)}
        row, _secret = services.create_channel(
            organization=self.organization, values=ChannelInput(kind=WEBHOOK, **given), actor=self.actor
        )
        return Response(shapes.WebhookSerializer(row).data, status=201)


class WebhookView(ApiView):
    required = {"GET": Permission.SETTINGS, "PATCH": Permission.SETTINGS, "DELETE": Permission.SETTINGS}

    @extend_schema(operation_id="webhooks_retrieve", responses=shapes.WebhookSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(shapes.WebhookSerializer(selectors.webhook_by_id(self.organization, pk)).data)

    @extend_schema(
        operation_id="webhooks_update", request=shapes.WebhookInputSerializer, responses=shapes.WebhookSerializer
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Change what is given."""
        row = selectors.webhook_by_id(self.organization, pk)
        given = self.validated(shapes.WebhookInputSerializer, partial=True)
        stored: dict[str, Any] = {name: getattr(row, name) for name in ("name", "level", "is_enabled", "events")}
        values = ChannelInput(kind=WEBHOOK, **{**stored, **given})
        changed = services.update_channel(channel=row, values=values, actor=self.actor)
        return Response(shapes.WebhookSerializer(changed).data)

    @extend_schema(operation_id="webhooks_delete", request=None, responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Delete the webhook, what waits, and its log."""
        services.delete_channel(channel=selectors.webhook_by_id(self.organization, pk), actor=self.actor)
        return Response(status=204)


class WebhookTestView(ApiView):
    required = {"POST": Permission.SETTINGS}
    is_atomic = False

    @extend_schema(operation_id="webhooks_test", request=None, responses=shapes.ChannelDeliverySerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Send a test message. 502 `channel_refused` when the other side does not take it."""
        row = selectors.webhook_by_id(self.organization, pk)
        return Response(shapes.ChannelDeliverySerializer(services.test_channel(channel=row, actor=self.actor)).data)


class WebhookLogView(ApiView):
    required = {"GET": Permission.SETTINGS}

    @extend_schema(
        operation_id="webhooks_deliveries",
        parameters=PAGING,
        responses=page_of(shapes.ChannelDeliverySerializer),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Messages to the webhook, newest first; those that ended are kept for 30 days."""
        refuse_unknown(request.query_params, ())
        row = selectors.webhook_by_id(self.organization, pk)
        page = keyset_page(request, row.deliveries.all(), ("-id",))
        return Response(body(request, page, shapes.ChannelDeliverySerializer(page.rows, many=True).data))


class WebhookMessageView(ApiView):
    required = {"GET": Permission.SETTINGS}

    @extend_schema(operation_id="webhooks_delivery", responses=shapes.WebhookMessageSerializer)
    def get(self, request: Request, pk: int, message: int) -> Response:
        """One message with its body."""
        row = selectors.message_by_id(selectors.webhook_by_id(self.organization, pk), message)
        return Response(shapes.WebhookMessageSerializer(row).data)


class WebhookRedeliverView(ApiView):
    required = {"POST": Permission.SETTINGS}

    @extend_schema(operation_id="webhooks_redeliver", request=None, responses={202: shapes.ChannelDeliverySerializer})
    def post(self, request: Request, pk: int, message: int) -> Response:
        """Queue a message once more, with the id that it has."""
        row = selectors.message_by_id(selectors.webhook_by_id(self.organization, pk), message)
        queued = services.redeliver(delivery=row, actor=self.actor)
        return Response(shapes.ChannelDeliverySerializer(queued).data, status=202)
