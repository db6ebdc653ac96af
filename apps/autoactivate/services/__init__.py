"""Writes of activation, one public function per thing that can happen."""

from apps.autoactivate.services.granting import approval_gate
from apps.autoactivate.services.lifetime import (
    NothingAsked,
    NotTimed,
    ask_for_more,
    decide_more,
    note_finished,
    undo_grant,
)
from apps.autoactivate.services.lifetime import sweep as sweep_grants
from apps.autoactivate.services.links import make_request_link
from apps.autoactivate.services.lookups import (
    JiraUnreadable,
    known_project,
    request_types,
    service_projects,
    would_have_matched,
)
from apps.autoactivate.services.polling import poll, poll_all
from apps.autoactivate.services.processing import (
    NotRepeatable,
    dismiss_event,
    process_again,
    process_event,
    submit_signed_in,
)
from apps.autoactivate.services.processing import sweep as sweep_events
from apps.autoactivate.services.replies import deliver as deliver_reply
from apps.autoactivate.services.replies import sweep as sweep_replies
from apps.autoactivate.services.rules import (
    RuleChanged,
    RuleUnusable,
    SetupNotSeen,
    create_rule,
    delete_rule,
    drop_draft,
    judge,
    save_draft,
    switch_rule,
    update_rule,
)
from apps.autoactivate.services.sources import (
    NoSecret,
    end_previous_secret,
    ensure_source,
    remove_mapping,
    renew_encryption,
    rotate_secret,
    save_bot_token,
    save_mappings,
    save_secret,
    set_domains,
    switch_source,
)

__all__ = [
    "JiraUnreadable",
    "NoSecret",
    "NotRepeatable",
    "NotTimed",
    "NothingAsked",
    "RuleChanged",
    "RuleUnusable",
    "SetupNotSeen",
    "approval_gate",
    "ask_for_more",
    "create_rule",
    "decide_more",
    "delete_rule",
    "deliver_reply",
    "dismiss_event",
    "drop_draft",
    "end_previous_secret",
    "ensure_source",
    "judge",
    "known_project",
    "make_request_link",
    "note_finished",
    "poll",
    "poll_all",
    "process_again",
    "process_event",
    "remove_mapping",
    "renew_encryption",
    "request_types",
    "rotate_secret",
    "save_bot_token",
    "save_draft",
    "save_mappings",
    "save_secret",
    "service_projects",
    "set_domains",
    "submit_signed_in",
    "sweep_events",
    "sweep_grants",
    "sweep_replies",
    "switch_rule",
    "switch_source",
    "undo_grant",
    "update_rule",
    "would_have_matched",
]
