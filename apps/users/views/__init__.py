"""Pages of people: the list with its filters and side panel, saved views, exports, one person, exemptions."""

from apps.users.views.exemptions import end, exempt, exempt_set, exemptions, extend, snooze
from apps.users.views.exports import download, end_export, export, export_job, exports
from apps.users.views.lists import columns, group_options, start_sync, user_list
from apps.users.views.people import person, refresh, timeline_export
from apps.users.views.picking import pick
from apps.users.views.saved import delete_view, edit_view, save_view, update_view

__all__ = [
    "columns",
    "delete_view",
    "download",
    "edit_view",
    "end",
    "end_export",
    "exempt",
    "exempt_set",
    "exemptions",
    "export",
    "export_job",
    "exports",
    "extend",
    "group_options",
    "person",
    "pick",
    "refresh",
    "save_view",
    "snooze",
    "start_sync",
    "timeline_export",
    "update_view",
    "user_list",
]
