from django.apps import AppConfig


class RulesConfig(AppConfig):
    name = "apps.rules"
    label = "rules"

    def ready(self) -> None:
        from apps.operations import hooks
        from apps.rules import listeners

        hooks.on_undo_started.append(listeners.pause_rule_of_undone_run)
        hooks.on_finished.append(listeners.note_finished_run)
