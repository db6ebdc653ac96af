from django.apps import AppConfig


class RulesConfig(AppConfig):
    name = "apps.rules"
    label = "rules"

    def ready(self) -> None:
        from apps.operations import hooks
        from apps.rules import listeners, people
        from apps.rules.services import loosened, notices

        people.register()
        notices.register()
        hooks.on_undo_started.append(listeners.pause_rule_of_undone_run)
        hooks.on_finished.append(listeners.note_finished_run)
        hooks.on_items_made.append(listeners.yield_to_gentler_rules)
        hooks.recheck_gates.append(listeners.gentler_rule_gate)
        hooks.rule_change_obstacles.append(loosened.obstacle)
        hooks.on_rule_change_due.append(loosened.apply)
