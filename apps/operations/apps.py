from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "apps.operations"
    label = "operations"

    def ready(self) -> None:
        from apps.operations import hooks, timeline
        from apps.operations.exemption_usage import usage_of_exemptions
        from apps.operations.services import handoffs
        from apps.users import registries
        from apps.users.exempting import usage_providers

        usage_providers.append(usage_of_exemptions)
        hooks.on_finished.append(handoffs.note_finished)
        hooks.on_items_made.append(handoffs.leave_to_provider)
        registries.on_sync_merged.append(handoffs.settle_after_sync)
        timeline.register()
