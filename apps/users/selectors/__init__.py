"""Reads of the mirror. Each name is importable from here; nothing in this package changes anything."""

from apps.users.selectors.counts import (
    DashboardCounts,
    ProductCounts,
    dashboard_counts,
    groups,
    licensed_count,
)
from apps.users.selectors.explorer import (
    ORDERINGS,
    AccountRow,
    CappedCount,
    ExplorerPage,
    GroupTag,
    ProductUse,
    count_exactly,
    count_matching,
    explorer,
)
from apps.users.selectors.filters import AccountFilters, Chip
from apps.users.selectors.person import AccessPath, DirectoryState, PersonDetail, person_detail
from apps.users.selectors.trust import (
    DataTrust,
    data_trust,
    last_trusted_sync,
    latest_merged_sync,
    latest_sync,
)
from apps.users.selectors.views import saved_view_params, shared_views, used_by, visible_view, visible_views

__all__ = [
    "ORDERINGS",
    "AccessPath",
    "AccountFilters",
    "AccountRow",
    "CappedCount",
    "Chip",
    "DashboardCounts",
    "DataTrust",
    "DirectoryState",
    "ExplorerPage",
    "GroupTag",
    "PersonDetail",
    "ProductCounts",
    "ProductUse",
    "count_exactly",
    "count_matching",
    "dashboard_counts",
    "data_trust",
    "explorer",
    "groups",
    "last_trusted_sync",
    "latest_merged_sync",
    "latest_sync",
    "licensed_count",
    "person_detail",
    "saved_view_params",
    "shared_views",
    "used_by",
    "visible_view",
    "visible_views",
]
