"""Addresses of plans, runs and approvals below /o/<org>/."""

from __future__ import annotations

from django.urls import path

from apps.operations import views
from apps.operations.views import handoffs, imports, invitations

app_name = "operations"
urlpatterns = [
    path("runs/new/", views.act, name="act"),
    path("runs/new/groups/", views.group_selector, name="group_selector"),
    path("runs/<int:number>/", views.run, name="run"),
    path("runs/<int:number>/_progress", views.progress, name="progress"),
    path("runs/<int:number>/export/", views.export, name="export"),
    path("runs/<int:number>/apply/", views.apply, name="apply"),
    path("runs/<int:number>/approve/", views.approve, name="approve"),
    path("runs/<int:number>/hold-back/", views.hold, name="hold"),
    path("runs/<int:number>/reject/", views.reject, name="reject"),
    path("runs/<int:number>/pause/", views.pause, name="pause"),
    path("runs/<int:number>/resume/", views.resume, name="resume"),
    path("runs/<int:number>/stop/", views.stop, name="stop"),
    path("runs/<int:number>/undo/", views.undo, name="undo"),
    path("runs/<int:number>/undo-preview/", views.undo_preview, name="undo_preview"),
    path("runs/<int:number>/retry/", views.retry, name="retry"),
    path("runs/undo-day/", views.undo_day, name="undo_day"),
    path("users/<int:pk>/undo/", views.undo_person, name="undo_person"),
    path("users/<int:pk>/runs/", views.of_person, name="of_person"),
    path("approvals/", views.approvals, name="approvals"),
    path("hand-offs/", handoffs.hand_offs, name="hand_offs"),
    path("hand-offs/export/", handoffs.export, name="hand_offs_export"),
    path("hand-offs/<int:pk>/close/", handoffs.close, name="hand_off_close"),
    path("imports/", imports.imports, name="imports"),
    path("imports/invite/", invitations.invite, name="invite"),
    path("imports/<int:pk>/invite/", invitations.invite_file, name="import_invite"),
    path("imports/_groups", imports.import_groups, name="import_groups"),
    path("imports/samples/<str:name>/", imports.sample, name="import_sample"),
    path("imports/<int:pk>/", imports.import_page, name="import"),
    path("imports/<int:pk>/_progress", imports.import_progress, name="import_progress"),
    path("imports/<int:pk>/map/", imports.import_map, name="import_map"),
    path("imports/<int:pk>/wrong-lines/", imports.import_wrong, name="import_wrong"),
    path("imports/<int:pk>/people/", imports.import_people, name="import_people"),
    path("imports/<int:pk>/activity/", imports.import_activity, name="import_activity"),
    path("imports/<int:pk>/act/", imports.import_act, name="import_act"),
    path("safeguards/groups/", views.licence_groups, name="licence_groups"),
    path("safeguards/groups/<int:pk>/licence-only/", views.licence_only, name="licence_only"),
    path("safeguards/accounts/<int:pk>/kind/", views.kind, name="kind"),
    path("approvals/safeguards/<int:pk>/approve/", views.approve_safeguard, name="safeguard_approve"),
    path("approvals/safeguards/<int:pk>/reject/", views.reject_safeguard, name="safeguard_reject"),
    path("approvals/safeguards/<int:pk>/withdraw/", views.withdraw_safeguard, name="safeguard_withdraw"),
]
