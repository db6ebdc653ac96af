"""The one registry of questions about accounts: name, typed parameters, SQL and sentence of each.

Explorer, saved views, rules, REST filters, insights and dashboard counts are lists of predicates. A predicate is a
frozen dataclass: its fields are the parameters, `q()` the SQL as a Django `Q` over Account, `sentence()` the words.
docs/predicates.md describes each; a test checks that none is missing there.

    conditions = [ClaimStatusIs(("unmanaged",)), InactiveDays(60, ("jira",))]
    accounts = matching(organization, conditions, now=now)

Idle means, everywhere (DECISIONS.md §3–§5): strictly more than N × 24 h plus the margin have passed since `idle_since`.
"""

from __future__ import annotations

# The registry keeps the order in which conditions are made: forms list them so.
# isort: off
from apps.users.predicates.meanings import (
    MAX_DAYS,
    SEARCH_LIMIT,
    Context,
    Partition,
    PredicateError,
    cutoff,
    dated_q,
    exempt_q,
    holds_q,
    idle_since,
    inactive_q,
    last_active,
    live_q,
    never_active_q,
    partition_case,
    partition_conditions,
    protected_group_ids,
    never_touched_q,
    protected_q,
    search_q,
    unknown_q,
)
from apps.users.predicates.registry import (
    NOT_IN_RULES,
    REGISTRY,
    Condition,
    Predicate,
    all_of,
    condition_of,
    from_json,
    matching,
    parameters_of,
)
from apps.users.predicates.states import (
    AccountStatusIs,
    ActivityIs,
    ClaimStatusIs,
    ExternalOnly,
    IsExempt,
    IsProtected,
    IsSynced,
    KindIs,
    MembershipStatusIs,
    PartitionIs,
)
from apps.users.predicates.access import GetsBy, HoldsProduct, InAllGroups, InAnyGroup, InNoGroup
from apps.users.predicates.text import EmailDomain, SearchText
from apps.users.predicates.activity import (
    ActiveDays,
    AddedAfter,
    AddedBefore,
    AddedDaysAgo,
    InactiveDays,
    LastActiveAfter,
    LastActiveBefore,
    NeverAcceptedDays,
    NeverActiveDays,
    StatusForDays,
    UsesOneProduct,
)
# isort: on

__all__ = [
    "MAX_DAYS",
    "NOT_IN_RULES",
    "REGISTRY",
    "SEARCH_LIMIT",
    "AccountStatusIs",
    "ActiveDays",
    "ActivityIs",
    "AddedAfter",
    "AddedBefore",
    "AddedDaysAgo",
    "ClaimStatusIs",
    "Condition",
    "Context",
    "EmailDomain",
    "ExternalOnly",
    "GetsBy",
    "HoldsProduct",
    "InAllGroups",
    "InAnyGroup",
    "InNoGroup",
    "InactiveDays",
    "IsExempt",
    "IsProtected",
    "IsSynced",
    "KindIs",
    "LastActiveAfter",
    "LastActiveBefore",
    "MembershipStatusIs",
    "NeverAcceptedDays",
    "NeverActiveDays",
    "Partition",
    "PartitionIs",
    "Predicate",
    "PredicateError",
    "SearchText",
    "StatusForDays",
    "UsesOneProduct",
    "all_of",
    "condition_of",
    "cutoff",
    "dated_q",
    "exempt_q",
    "from_json",
    "holds_q",
    "idle_since",
    "inactive_q",
    "last_active",
    "live_q",
    "matching",
    "never_active_q",
    "never_touched_q",
    "parameters_of",
    "partition_case",
    "partition_conditions",
    "protected_group_ids",
    "protected_q",
    "search_q",
    "unknown_q",
]
