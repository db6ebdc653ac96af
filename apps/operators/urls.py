"""Addresses of one's own account, tokens, and people."""

from __future__ import annotations

from django.urls import path

from apps.operators import views

app_name = "operators"
urlpatterns = [
    path("me/", views.me, name="me"),
    path("me/theme/", views.theme, name="theme"),
    path("go-on/", views.go_on, name="go-on"),
    path("invite/<str:secret>/", views.accept, name="accept"),
    path("o/<slug:org>/api-access/", views.tokens, name="tokens"),
    path("o/<slug:org>/api-access/<int:pk>/revoke/", views.revoke, name="revoke"),
    path("o/<slug:org>/settings/people/", views.people, name="people"),
    path("o/<slug:org>/settings/single-sign-on/", views.single_sign_on, name="single-sign-on"),
    path("o/<slug:org>/settings/people/sign-in/", views.sign_in_settings, name="sign-in-settings"),
    path("o/<slug:org>/settings/people/<int:pk>/roles/", views.person_roles, name="roles"),
    path("o/<slug:org>/settings/people/<int:pk>/disable/", views.disable, name="disable"),
    path(
        "o/<slug:org>/settings/people/invitations/<int:pk>/withdraw/",
        views.withdraw_invitation,
        name="withdraw-invitation",
    ),
]
