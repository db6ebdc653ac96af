from django.apps import AppConfig


class AutoactivateConfig(AppConfig):
    name = "apps.autoactivate"
    label = "autoactivate"

    def ready(self) -> None:
        from apps.autoactivate import selectors, services
        from apps.operations import hooks
        from apps.operators.context import nav_counts
        from apps.organizations.crypto import rotators

        rotators.append(services.renew_encryption)
        hooks.plan_gates.append(services.approval_gate)
        hooks.on_finished.append(services.note_finished)
        nav_counts["activation"] = selectors.active_count
