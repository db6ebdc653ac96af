from typing import TYPE_CHECKING

from django.apps import AppConfig

if TYPE_CHECKING:
    from apps.users.models import SyncRun


class DashboardConfig(AppConfig):
    name = "apps.dashboard"
    label = "dashboard"

    def ready(self) -> None:
        """Tell the navigation, which lies below, how to count what lies above it."""
        from apps.dashboard import records
        from apps.dashboard.navigation import register
        from apps.users.registries import on_sync_merged

        register()
        records.register()
        on_sync_merged.append(_wish_for_history)
        on_sync_merged.append(_forget_counts)


def _forget_counts(run: "SyncRun") -> None:
    """The navigation says at once how many users there are."""
    from apps.operators.context import forget_counts

    forget_counts(run.organization_id)


def _wish_for_history(run: "SyncRun") -> None:
    """The demo's first sync is followed by its past; the task does nothing the second time."""
    from aum.common.tasks import enqueue_on_commit

    if run.organization.is_demo:
        enqueue_on_commit("dashboard.demo_money", organization_id=run.organization_id)
        enqueue_on_commit("dashboard.demo_records", organization_id=run.organization_id)
