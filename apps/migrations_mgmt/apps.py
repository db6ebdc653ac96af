from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class MigrationsMgmtConfig(AppConfig):
    name = "apps.migrations_mgmt"
    label = "migrations_mgmt"

    def ready(self) -> None:
        autodiscover_modules("backfills")
