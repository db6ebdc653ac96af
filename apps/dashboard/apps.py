from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "apps.dashboard"
    label = "dashboard"

    def ready(self) -> None:
        """Tell the navigation, which lies below, how to count what lies above it."""
        from apps.dashboard.navigation import register

        register()
