"""Everything that can happen to templates, mails, links and channels, one public function each."""

from apps.notifications.services.channels import (
    ChannelInput,
    ChannelRefused,
    create_channel,
    delete_channel,
    rotate_channel_secret,
    switch_channel,
    update_channel,
)
from apps.notifications.services.contacts import import_contacts
from apps.notifications.services.deliveries import let_follow, say_arrived, send_again
from apps.notifications.services.digest import send_digests
from apps.notifications.services.events import process_events, receive, settings_for
from apps.notifications.services.sending import (
    accept,
    cancel,
    drive,
    mail_settings,
    queue_waiting,
    sweep,
    undeliverable,
)
from apps.notifications.services.settings import MailInput, rotate_bounce_secret, save_mail_settings
from apps.notifications.services.sweeping import sweep_all
from apps.notifications.services.telling import deliver_waiting, queue_alerts, redeliver, signed_request, test_channel
from apps.notifications.services.templates import (
    RulesWouldWait,
    Saved,
    TemplateChanged,
    TemplateInput,
    TemplateInUse,
    create_template,
    delete_template,
    duplicate_template,
    ensure_defaults,
    set_enabled,
    update_template,
)
from apps.notifications.services.testing import MailNotSent, send_test
from apps.notifications.services.webhooks import EVENTS, NAMES, SUGGESTED, EventType

__all__ = [
    "EVENTS",
    "NAMES",
    "SUGGESTED",
    "ChannelInput",
    "ChannelRefused",
    "EventType",
    "MailInput",
    "MailNotSent",
    "RulesWouldWait",
    "Saved",
    "TemplateChanged",
    "TemplateInUse",
    "TemplateInput",
    "accept",
    "cancel",
    "create_channel",
    "create_template",
    "delete_channel",
    "delete_template",
    "deliver_waiting",
    "drive",
    "duplicate_template",
    "ensure_defaults",
    "import_contacts",
    "let_follow",
    "mail_settings",
    "process_events",
    "queue_alerts",
    "queue_waiting",
    "receive",
    "redeliver",
    "rotate_bounce_secret",
    "rotate_channel_secret",
    "save_mail_settings",
    "say_arrived",
    "send_again",
    "send_digests",
    "send_test",
    "set_enabled",
    "settings_for",
    "signed_request",
    "sweep",
    "sweep_all",
    "switch_channel",
    "test_channel",
    "undeliverable",
    "update_channel",
    "update_template",
]
