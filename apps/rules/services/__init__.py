"""Everything that can happen to rules, one public function each."""

from apps.rules.conflicts import RulesConflict
from apps.rules.services.editing import (
    LIVE_NEEDS_PREVIEW,
    LiveNeedsPreview,
    RuleChanged,
    create_rule,
    delete_rule,
    duplicate_rule,
    pause_rule,
    resume_rule,
    update_rule,
)
from apps.rules.services.files import ImportReport, RuleChange, RuleError, diff_rules, export_rules, import_rules
from apps.rules.services.firing import fire, fire_due, sweep
from apps.rules.services.running import (
    DeletionOff,
    GroupMissing,
    RulePaused,
    ViewChanged,
    WritesStopped,
    preview_rule,
    run_rule,
    what_if,
)
from apps.rules.services.silence import report_silence
from apps.rules.values import RuleInput, clean

__all__ = [
    "LIVE_NEEDS_PREVIEW",
    "DeletionOff",
    "GroupMissing",
    "ImportReport",
    "LiveNeedsPreview",
    "RuleChange",
    "RuleChanged",
    "RuleError",
    "RuleInput",
    "RulePaused",
    "RulesConflict",
    "ViewChanged",
    "WritesStopped",
    "clean",
    "create_rule",
    "delete_rule",
    "diff_rules",
    "duplicate_rule",
    "export_rules",
    "fire",
    "fire_due",
    "import_rules",
    "pause_rule",
    "preview_rule",
    "report_silence",
    "resume_rule",
    "run_rule",
    "sweep",
    "update_rule",
    "what_if",
]
