from django.apps import AppConfig


class MigrationsMgmtConfig(AppConfig):
    name = "apps.migrations_mgmt"
    label = "migrations_mgmt"
