"""Writes about organisations, one public function per thing that can happen."""

from apps.organizations.services.alerts import raise_alert, resolve_alert
from apps.organizations.services.connections import (
    ConnectionInput,
    ConnectionRefused,
    DemoUnavailable,
    NotConnected,
    check_connection,
    client_for,
    connect_organization,
    delete_demo,
    demo_values,
    reader_for,
    rotate_secrets,
    save_credentials,
    unusable_credentials,
    want_demo,
)
from apps.organizations.services.safety import (
    LOOSER_WHEN_GREATER,
    SETTINGS_FIELDS,
    confirm_instance,
    release_kill_switch,
    store_pause,
    turn_kill_switch_on,
    update_settings,
)

__all__ = [
    "LOOSER_WHEN_GREATER",
    "SETTINGS_FIELDS",
    "ConnectionInput",
    "ConnectionRefused",
    "DemoUnavailable",
    "NotConnected",
    "check_connection",
    "client_for",
    "confirm_instance",
    "connect_organization",
    "delete_demo",
    "demo_values",
    "raise_alert",
    "reader_for",
    "release_kill_switch",
    "resolve_alert",
    "rotate_secrets",
    "save_credentials",
    "store_pause",
    "turn_kill_switch_on",
    "unusable_credentials",
    "update_settings",
    "want_demo",
]
