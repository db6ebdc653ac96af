from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "apps.notifications"
    label = "notifications"

    def ready(self) -> None:
        from apps.audit import registry
        from apps.notifications.models import AlertChannel, EmailTemplate, MailSettings
        from apps.notifications.services import keep, webhooks
        from apps.operations import hooks
        from apps.operators.context import nav_counts
        from apps.organizations.crypto import rotate_column, rotators

        hooks.plan_gates.append(keep.return_gate)
        hooks.on_finished.append(keep.note_finished)
        hooks.on_handed_off.append(webhooks.note_hand_off)
        registry.listen(webhooks.ACTIONS, webhooks.note_events)
        rotators.append(lambda: rotate_column(MailSettings, "encrypted_password"))
        rotators.append(lambda: rotate_column(AlertChannel, "encrypted_address"))
        rotators.append(lambda: rotate_column(AlertChannel, "encrypted_secret"))
        rotators.append(lambda: rotate_column(AlertChannel, "encrypted_old_secret"))
        enabled = {"is_enabled": True, "deleted_at__isnull": True}
        nav_counts["emails"] = lambda organization: EmailTemplate.objects.of(organization).filter(**enabled).count()
