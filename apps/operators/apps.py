from django.apps import AppConfig


class OperatorsConfig(AppConfig):
    name = "apps.operators"
    label = "operators"

    def ready(self) -> None:
        """Listen to what django-allauth does with second factors; have their secrets encrypted anew with the others."""
        from apps.operators import listeners  # noqa: F401 - importing connects it
        from apps.operators.adapters import rotate_secrets
        from apps.organizations import crypto

        crypto.rotators.append(rotate_secrets)
