"""Pages of Auto-Activate Users below /o/<org>/."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from apps.autoactivate.views import log, rules, setup, wizard

app_name = "autoactivate"
urlpatterns: list[URLPattern | URLResolver] = [
    path("activation/", rules.rule_list, name="list"),
    path("activation/<int:pk>/switch/", rules.switch, name="switch"),
    path("activation/<int:pk>/delete/", rules.delete, name="delete"),
    path("activation/new/", wizard.wizard, name="new"),
    path("activation/new/<slug:step>/", wizard.wizard, name="new-step"),
    path("activation/<int:pk>/edit/", wizard.edit, name="edit"),
    path("activation/<int:pk>/edit/<slug:step>/", wizard.wizard, name="edit-step"),
    path("activation/_groups", wizard.group_options, name="groups"),
    path("activation/_would-match", wizard.would_match, name="would-match"),
    path("activation/setup/", setup.setup, name="setup"),
    path("activation/setup/bot-token/", setup.bot_token, name="bot-token"),
    path("activation/setup/domains/", setup.domains, name="domains"),
    path("activation/setup/people/", setup.people, name="people"),
    path("activation/setup/people/<int:pk>/forget/", setup.forget_person, name="forget-person"),
    path("activation/setup/link/", setup.link, name="link"),
    path("activation/setup/<slug:kind>/secret/", setup.secret, name="secret"),
    path("activation/setup/<slug:kind>/end-overlap/", setup.end_overlap, name="end-overlap"),
    path("activation/setup/<slug:kind>/switch/", setup.switch, name="switch-source"),
    path("activation/setup/<slug:kind>/_arrival", setup.arrivals, name="arrival"),
    path("activation/log/", log.log, name="log"),
    path("activation/log/<int:pk>/", log.event, name="event"),
    path("activation/log/<int:pk>/again/", log.again, name="again"),
    path("activation/log/<int:pk>/dismiss/", log.dismiss, name="dismiss"),
    path("activation/grants/", log.grants, name="grants"),
    path("activation/grants/<int:pk>/more/", log.more, name="more"),
    path("activation/grants/<int:pk>/decide/", log.decide, name="decide"),
    path("activation/grants/<int:pk>/undo/", log.undo, name="undo"),
    path("activation/request/", log.request_access, name="request"),
]
