from django.apps import AppConfig


class SavingsConfig(AppConfig):
    name = "apps.savings"
    label = "savings"

    def ready(self) -> None:
        """Hear of finished runs and merged syncs, and make the filter of insights known."""
        from apps.operations import hooks
        from apps.savings import listeners, predicates
        from apps.users import registries

        predicates.register()
        hooks.on_finished.append(listeners.post_finished_run)
        registries.on_sync_merged.append(listeners.note_sync)
