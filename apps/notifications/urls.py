"""Pages below /o/<org>/: e-mail templates, deliveries, people's answers, the mapping of managers, and webhooks."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from apps.notifications.views import deliveries, templates, webhooks

app_name = "notifications"
urlpatterns: list[URLPattern | URLResolver] = [
    path("emails/", templates.template_list, name="list"),
    path("emails/new/", templates.new, name="new"),
    path("emails/_draft", templates.draft, name="draft"),
    path("emails/_frame", templates.draft_frame, name="draft-frame"),
    path("emails/deliveries/", deliveries.delivery_list, name="deliveries"),
    path("emails/deliveries/<int:pk>/", deliveries.delivery, name="delivery"),
    path("emails/deliveries/<int:pk>/frame/", deliveries.delivery_frame, name="delivery-frame"),
    path("emails/deliveries/<int:pk>/again/", deliveries.again, name="again"),
    path("emails/deliveries/<int:pk>/arrived/", deliveries.arrived, name="arrived"),
    path("emails/deliveries/<int:pk>/decide/", deliveries.decide, name="decide"),
    path("emails/undeliverable/", deliveries.undeliverable, name="undeliverable"),
    path("emails/undeliverable/again/", deliveries.again_all, name="again-all"),
    path("emails/answers/", deliveries.answers, name="answers"),
    path("emails/people/", deliveries.contacts, name="contacts"),
    path("emails/<int:pk>/", templates.edit, name="edit"),
    path("emails/<int:pk>/preview/", templates.preview, name="preview"),
    path("emails/<int:pk>/frame/", templates.frame, name="frame"),
    path("emails/<int:pk>/toggle/", templates.toggle, name="toggle"),
    path("emails/<int:pk>/duplicate/", templates.duplicate, name="duplicate"),
    path("emails/<int:pk>/delete/", templates.delete, name="delete"),
    path("emails/<int:pk>/test/", templates.test, name="test"),
    path("api-access/webhooks/", webhooks.webhook_list, name="webhooks"),
    path("api-access/webhooks/<int:pk>/", webhooks.webhook, name="webhook"),
    path("api-access/webhooks/<int:pk>/test/", webhooks.test, name="webhook-test"),
    path("api-access/webhooks/<int:pk>/toggle/", webhooks.toggle, name="webhook-toggle"),
    path("api-access/webhooks/<int:pk>/secret/", webhooks.secret, name="webhook-secret"),
    path("api-access/webhooks/<int:pk>/delete/", webhooks.delete, name="webhook-delete"),
    path("api-access/webhooks/<int:pk>/log/<int:message>/", webhooks.message, name="webhook-message"),
    path("api-access/webhooks/<int:pk>/log/<int:message>/again/", webhooks.again, name="webhook-again"),
]
