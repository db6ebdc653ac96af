from django.apps import AppConfig


class UsersConfig(AppConfig):
    name = "apps.users"
    label = "users"

    def ready(self) -> None:
        from apps.audit import retention
        from apps.users.services.imports import remove_old_imports

        retention.register(
            retention.RetentionKind(
                "imports",
                "Imported files",
                "Uploaded CSV files with their rows. Plans that were made from them stay.",
                remove_old_imports,
            )
        )
