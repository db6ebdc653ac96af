"""REST of mail: email templates, deliveries, answers, the mapping of managers, mail settings, alert channels."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.notifications import content, selectors, services
from apps.notifications.api import serializers as shapes
from apps.notifications.models import Delivery, EmailTemplate
from apps.notifications.services import ChannelInput, TemplateInput
from apps.operators.api.base import ApiView
from apps.operators.api.organizations import PAGING
from apps.operators.permissions import Permission
from aum.common.errors import InvalidInput
from aum.common.pagination import body, keyset_page, refuse_unknown
from aum.common.pagination_parameters import choice, whole_number
from aum.common.serializers import page_of


class _Templates(ApiView):
    def answer(self, saved: services.Saved, *, status: int = 200) -> Response:
        row = selectors.template_rows(self.organization, [saved.template])[0]
        data = shapes.EmailTemplateSavedSerializer(row, context={"removed": saved.removed}).data
        return Response(data, status=status)

    def merged(self, given: dict[str, Any], base: TemplateInput) -> TemplateInput:
        values = {name: getattr(base, name) for name in TemplateInput.__dataclass_fields__}
        return TemplateInput(**{**values, **{name: value for name, value in given.items() if name in values}})


class TemplatesView(_Templates):
    required = {"GET": Permission.VIEW, "POST": Permission.RULES}

    @extend_schema(
        operation_id="email_templates_list", parameters=PAGING, responses=page_of(shapes.EmailTemplateSerializer)
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, selectors.templates(self.organization), ("name", "id"))
        rows = selectors.template_rows(self.organization, page.rows)
        return Response(body(request, page, shapes.EmailTemplateSerializer(rows, many=True).data))

    @extend_schema(
        operation_id="email_templates_create",
        request=shapes.EmailTemplateInputSerializer,
        responses={201: shapes.EmailTemplateSavedSerializer},
    )
    def post(self, request: Request) -> Response:
        """A new template. Unknown placeholders are refused; what mails may not hold is taken out and named."""
        given = self.validated(shapes.EmailTemplateInputSerializer)
        values = self.merged(given, TemplateInput())
        saved = services.create_template(organization=self.organization, values=values, actor=self.actor)
        return self.answer(saved, status=201)


class TemplateView(_Templates):
    required = {
        "GET": Permission.VIEW,
        "PUT": Permission.RULES,
        "PATCH": Permission.RULES,
        "DELETE": Permission.RULES,
    }

    @extend_schema(operation_id="email_templates_retrieve", responses=shapes.EmailTemplateSerializer)
    def get(self, request: Request, pk: int) -> Response:
        template = selectors.template_by_id(self.organization, pk)
        row = selectors.template_rows(self.organization, [template])[0]
        return Response(shapes.EmailTemplateSerializer(row).data)

    @extend_schema(
        operation_id="email_templates_replace",
        request=shapes.EmailTemplateInputSerializer,
        responses=shapes.EmailTemplateSavedSerializer,
    )
    def put(self, request: Request, pk: int) -> Response:
        """Replace the template; what is not given goes back to its default."""
        template = selectors.template_by_id(self.organization, pk)
        return self._save(template, self.validated(shapes.EmailTemplateInputSerializer), TemplateInput())

    @extend_schema(
        operation_id="email_templates_update",
        request=shapes.EmailTemplateInputSerializer,
        responses=shapes.EmailTemplateSavedSerializer,
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Change what is given. 409 `rules_would_wait` names the live rules that a disabled template would hold up."""
        template = selectors.template_by_id(self.organization, pk)
        given = self.validated(shapes.EmailTemplateInputSerializer, partial=True)
        return self._save(template, given, TemplateInput.of(template))

    def _save(self, template: EmailTemplate, given: dict[str, Any], base: TemplateInput) -> Response:
        saved = services.update_template(
            template=template,
            values=self.merged(given, base),
            actor=self.actor,
            operator=self.operator,
            expected_version=given.get("version"),
            is_confirmed=given.get("confirm", False),
        )
        return self.answer(saved)

    @extend_schema(operation_id="email_templates_delete", request=None, responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Delete a template that no rule uses; 409 `template_in_use` names the rules otherwise."""
        services.delete_template(template=selectors.template_by_id(self.organization, pk), actor=self.actor)
        return Response(status=204)


class TemplateDuplicateView(_Templates):
    required = {"POST": Permission.RULES}

    @extend_schema(
        operation_id="email_templates_duplicate", request=None, responses={201: shapes.EmailTemplateSavedSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """A disabled copy."""
        template = selectors.template_by_id(self.organization, pk)
        copy = services.duplicate_template(template=template, actor=self.actor)
        return self.answer(services.Saved(copy), status=201)


class TemplatePreviewView(_Templates):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="email_templates_preview", responses=shapes.PreviewSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """The mail with sample values."""
        template = selectors.template_by_id(self.organization, pk)
        values = content.sample_values(
            days=template.days_inactive,
            organization=self.organization.name,
            now=timezone.now(),
            event=template.event,
        )
        made = content.render(subject=template.subject, body=template.body, values=values, keep_url="")
        data = {
            "subject": made.subject,
            "html": made.html,
            "text": made.text,
            "notice": content.SAMPLE_NOTICE,
            "faults": content.faults_of(template.body),
            "removed": [],
        }
        return Response(shapes.PreviewSerializer(data).data)


class TemplateTestView(_Templates):
    required = {"POST": Permission.RULES}
    is_atomic = False

    @extend_schema(operation_id="email_templates_test", request=None, responses=shapes.DeliverySerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Send the template with sample values to the token's own operator. 502 `mail_not_sent` when it is refused."""
        template = selectors.template_by_id(self.organization, pk)
        sent = services.send_test(organization=self.organization, operator=self.operator, template=template)
        return Response(shapes.DeliverySerializer(sent).data)


# --- deliveries -------------------------------------------------------------------------------------------------------


class DeliveriesView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="deliveries_list",
        parameters=[
            *PAGING,
            OpenApiParameter("status", str, enum=list(selectors.VIEWS)),
            OpenApiParameter("kind", str, enum=list(Delivery.Kind.values)),
            OpenApiParameter("template", int),
            OpenApiParameter("account_id", str),
            OpenApiParameter("search", str),
        ],
        responses=page_of(shapes.DeliverySerializer),
    )
    def get(self, request: Request) -> Response:
        """Mails, newest first. `status=undeliverable` is the list of who could not be told."""
        given = request.query_params
        refuse_unknown(given, ("status", "kind", "template", "account_id", "search"))
        rows = selectors.deliveries(
            self.organization,
            view=choice(given, "status", selectors.VIEWS) or "all",
            kind=choice(given, "kind", Delivery.Kind.values),
            template=whole_number(given, "template"),
            account_id=given.get("account_id", "")[:128],
            search=given.get("search", ""),
        )
        page = keyset_page(request, rows, ("-id",))
        return Response(body(request, page, shapes.DeliverySerializer(page.rows, many=True).data))


class _Delivery(ApiView):
    def answer(self, row: Delivery) -> Response:
        return Response(shapes.DeliveryDetailSerializer(selectors.delivery_by_id(self.organization, row.pk)).data)


class DeliveryView(_Delivery):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="deliveries_retrieve", responses=shapes.DeliveryDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """One mail with what it said, without its link and codes."""
        return self.answer(selectors.delivery_by_id(self.organization, pk))


class DeliveryAgainView(_Delivery):
    required = {"POST": Permission.RULES}

    @extend_schema(operation_id="deliveries_send_again", request=None, responses=shapes.DeliveryDetailSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Queue an undeliverable, bounced or doubtful mail again."""
        row = selectors.delivery_by_id(self.organization, pk)
        return self.answer(services.send_again(delivery=row, actor=self.actor))


class DeliveryArrivedView(_Delivery):
    required = {"POST": Permission.RULES}

    @extend_schema(
        operation_id="deliveries_arrived",
        request=shapes.ArrivedSerializer,
        responses=shapes.DeliveryDetailSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        """Say that a mail in doubt was taken by the mail server."""
        reason = self.validated(shapes.ArrivedSerializer).get("reason", "")
        row = selectors.delivery_by_id(self.organization, pk)
        return self.answer(services.say_arrived(delivery=row, actor=self.actor, reason=reason))


class DeliveryLetFollowView(_Delivery):
    required = {"POST": Permission.RULES}

    @extend_schema(
        operation_id="deliveries_let_follow",
        request=shapes.LetFollowSerializer,
        responses=shapes.DeliveryDetailSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        """Let the action follow in so many days although the notice could not be delivered, with a reason."""
        given = self.validated(shapes.LetFollowSerializer)
        row = selectors.delivery_by_id(self.organization, pk)
        return self.answer(services.let_follow(delivery=row, actor=self.actor, **given))


class AnswersView(ApiView):
    required = {"GET": Permission.VIEW}

    @extend_schema(operation_id="mail_answers_list", parameters=PAGING, responses=page_of(shapes.AnswerSerializer))
    def get(self, request: Request) -> Response:
        """What people answered by the links of their mails, newest first."""
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, selectors.decisions(self.organization), ("-id",))
        return Response(body(request, page, shapes.AnswerSerializer(page.rows, many=True).data))


class ContactsView(ApiView):
    required = {"POST": Permission.RULES}

    @extend_schema(
        operation_id="contacts_import",
        request=shapes.ContactsInputSerializer,
        responses=shapes.ContactsReportSerializer,
    )
    def post(self, request: Request) -> Response:
        """Map people to managers and languages from the text of a CSV file."""
        text = self.validated(shapes.ContactsInputSerializer)["csv"]
        report = services.import_contacts(organization=self.organization, data=text.encode(), actor=self.actor)
        return Response(shapes.ContactsReportSerializer(report).data)


# --- settings ---------------------------------------------------------------------------------------------------------


class MailSettingsView(ApiView):
    required = {"GET": Permission.SETTINGS}

    @extend_schema(operation_id="mail_settings_retrieve", responses=shapes.MailSettingsSerializer)
    def get(self, request: Request) -> Response:
        """The mail settings. They are changed on their page: the password is a credential, which no token touches."""
        return Response(shapes.MailSettingsSerializer(services.mail_settings(self.organization)).data)


class MailTestView(ApiView):
    required = {"POST": Permission.SETTINGS}
    is_atomic = False

    @extend_schema(operation_id="mail_settings_test", request=None, responses=shapes.DeliverySerializer)
    def post(self, request: Request) -> Response:
        """Send a test mail to the token's own operator. 502 `mail_not_sent` when it is refused."""
        sent = services.send_test(organization=self.organization, operator=self.operator)
        return Response(shapes.DeliverySerializer(sent).data)


class ChannelsView(ApiView):
    required = {"GET": Permission.SETTINGS, "POST": Permission.SETTINGS}

    @extend_schema(operation_id="alert_channels_list", parameters=PAGING, responses=page_of(shapes.ChannelSerializer))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ())
        page = keyset_page(request, selectors.channels(self.organization), ("name", "id"))
        return Response(body(request, page, shapes.ChannelSerializer(page.rows, many=True).data))

    @extend_schema(
        operation_id="alert_channels_create",
        request=shapes.ChannelInputSerializer,
        responses={201: shapes.ChannelSerializer},
    )
    def post(self, request: Request) -> Response:
        """A new channel. The secret of a signed webhook is made on its page, where it is shown once."""
        given = self.validated(shapes.ChannelInputSerializer)
        channel, _secret = services.create_channel(
            organization=self.organization, values=ChannelInput(**given), actor=self.actor
        )
        return Response(shapes.ChannelSerializer(channel).data, status=201)


class ChannelView(ApiView):
    required = {"GET": Permission.SETTINGS, "PATCH": Permission.SETTINGS, "DELETE": Permission.SETTINGS}

    @extend_schema(operation_id="alert_channels_retrieve", responses=shapes.ChannelSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(shapes.ChannelSerializer(selectors.channel_by_id(self.organization, pk)).data)

    @extend_schema(
        operation_id="alert_channels_update",
        request=shapes.ChannelInputSerializer,
        responses=shapes.ChannelSerializer,
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Change what is given; the kind stays."""
        channel = selectors.channel_by_id(self.organization, pk)
        given = self.validated(shapes.ChannelInputSerializer, partial=True)
        if given.get("kind", channel.kind) != channel.kind:
            raise InvalidInput(fields={"kind": ["The kind of a channel stays. Add another channel instead."]})
        stored = {"name": channel.name, "kind": channel.kind, "level": channel.level, "is_enabled": channel.is_enabled}
        changed = services.update_channel(channel=channel, values=ChannelInput(**{**stored, **given}), actor=self.actor)
        return Response(shapes.ChannelSerializer(changed).data)

    @extend_schema(operation_id="alert_channels_delete", request=None, responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Delete the channel and its log."""
        services.delete_channel(channel=selectors.channel_by_id(self.organization, pk), actor=self.actor)
        return Response(status=204)


class ChannelTestView(ApiView):
    required = {"POST": Permission.SETTINGS}
    is_atomic = False

    @extend_schema(operation_id="alert_channels_test", request=None, responses=shapes.ChannelDeliverySerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Send a test message. 502 `channel_refused` when the other side does not take it."""
        channel = selectors.channel_by_id(self.organization, pk)
        sent = services.test_channel(channel=channel, actor=self.actor)
        return Response(shapes.ChannelDeliverySerializer(sent).data)


class ChannelLogView(ApiView):
    required = {"GET": Permission.SETTINGS}

    @extend_schema(
        operation_id="alert_channels_deliveries",
        parameters=PAGING,
        responses=page_of(shapes.ChannelDeliverySerializer),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Messages to the channel, newest first."""
        refuse_unknown(request.query_params, ())
        channel = selectors.channel_by_id(self.organization, pk)
        page = keyset_page(request, channel.deliveries.all(), ("-id",))
        return Response(body(request, page, shapes.ChannelDeliverySerializer(page.rows, many=True).data))
