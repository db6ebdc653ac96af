"""Everything that can happen to rules, one public function each."""

from apps.rules.services.editing import (
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
from apps.rules.services.running import GroupMissing, RulePaused, WritesStopped, preview_rule, run_rule
from apps.rules.values import RuleInput, clean

__all__ = [
    "GroupMissing",
    "ImportReport",
    "RuleChange",
    "RuleChanged",
    "RuleError",
    "RuleInput",
    "RulePaused",
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
    "resume_rule",
    "run_rule",
    "sweep",
    "update_rule",
]
