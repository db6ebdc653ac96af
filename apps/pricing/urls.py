"""Pages below /o/<org>/: price book and seats."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from apps.pricing import views

app_name = "pricing"
urlpatterns: list[URLPattern | URLResolver] = [
    path("savings/prices/", views.prices, name="prices"),
    path("savings/prices/first/", views.first_prices, name="first"),
    path("savings/prices/new/", views.new_price, name="new"),
    path("savings/prices/alerts/", views.alerts, name="alerts"),
    path("savings/prices/<int:pk>/", views.edit_price, name="edit"),
    path("savings/prices/<int:pk>/remove/", views.remove_price, name="remove"),
]
