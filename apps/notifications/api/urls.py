"""REST addresses of mail below /api/v1/organizations/<org>/."""

from __future__ import annotations

from django.urls import path

from apps.notifications.api import views, webhooks

urlpatterns = [
    path("email-templates/", views.TemplatesView.as_view(), name="api-email-templates"),
    path("email-templates/<int:pk>/", views.TemplateView.as_view(), name="api-email-template"),
    path("email-templates/<int:pk>/duplicate/", views.TemplateDuplicateView.as_view(), name="api-email-duplicate"),
    path("email-templates/<int:pk>/preview/", views.TemplatePreviewView.as_view(), name="api-email-preview"),
    path("email-templates/<int:pk>/test/", views.TemplateTestView.as_view(), name="api-email-test"),
    path("deliveries/", views.DeliveriesView.as_view(), name="api-deliveries"),
    path("deliveries/<int:pk>/", views.DeliveryView.as_view(), name="api-delivery"),
    path("deliveries/<int:pk>/send-again/", views.DeliveryAgainView.as_view(), name="api-delivery-again"),
    path("deliveries/<int:pk>/arrived/", views.DeliveryArrivedView.as_view(), name="api-delivery-arrived"),
    path("deliveries/<int:pk>/let-follow/", views.DeliveryLetFollowView.as_view(), name="api-delivery-let-follow"),
    path("mail-answers/", views.AnswersView.as_view(), name="api-mail-answers"),
    path("contacts/", views.ContactsView.as_view(), name="api-contacts"),
    path("mail-settings/", views.MailSettingsView.as_view(), name="api-mail-settings"),
    path("mail-settings/test/", views.MailTestView.as_view(), name="api-mail-test"),
    path("alert-channels/", views.ChannelsView.as_view(), name="api-alert-channels"),
    path("alert-channels/<int:pk>/", views.ChannelView.as_view(), name="api-alert-channel"),
    path("alert-channels/<int:pk>/test/", views.ChannelTestView.as_view(), name="api-alert-channel-test"),
    path("alert-channels/<int:pk>/deliveries/", views.ChannelLogView.as_view(), name="api-alert-channel-log"),
    path("webhooks/", webhooks.WebhooksView.as_view(), name="api-webhooks"),
    path("webhooks/<int:pk>/", webhooks.WebhookView.as_view(), name="api-webhook"),
    path("webhooks/<int:pk>/test/", webhooks.WebhookTestView.as_view(), name="api-webhook-test"),
    path("webhooks/<int:pk>/deliveries/", webhooks.WebhookLogView.as_view(), name="api-webhook-log"),
    path("webhooks/<int:pk>/deliveries/<int:message>/", webhooks.WebhookMessageView.as_view(), name="api-webhook-sent"),
    path(
        "webhooks/<int:pk>/deliveries/<int:message>/redeliver/",
        webhooks.WebhookRedeliverView.as_view(),
        name="api-webhook-redeliver",
    ),
]
