"""REST addresses under /api/v1/ (docs/api.md). Each view names the permission of each of its methods."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from apps.audit.api import views as audit
from apps.operations.api import views as operations
from apps.operators.api import base, organizations
from apps.rules.api import views as rules
from apps.users.api import views as users

of_operation: list[URLPattern | URLResolver] = [
    path("", operations.OperationView.as_view(), name="api-operation"),
    path("items/", operations.ItemsView.as_view(), name="api-operation-items"),
    path("left-out/", operations.LeftOutView.as_view(), name="api-operation-left-out"),
    path("apply/", operations.ApplyView.as_view(), name="api-operation-apply"),
    path("approve/", operations.ApproveView.as_view(), name="api-operation-approve"),
    path("reject/", operations.RejectView.as_view(), name="api-operation-reject"),
    path("pause/", operations.PauseView.as_view(), name="api-operation-pause"),
    path("resume/", operations.ResumeView.as_view(), name="api-operation-resume"),
    path("cancel/", operations.CancelView.as_view(), name="api-operation-cancel"),
    path("retry-failed/", operations.RetryFailedView.as_view(), name="api-operation-retry-failed"),
    path("undo/", operations.UndoView.as_view(), name="api-operation-undo"),
]
of_organization: list[URLPattern | URLResolver] = [
    path("", organizations.OrganizationView.as_view(), name="api-organization"),
    path("check/", organizations.CheckView.as_view(), name="api-check"),
    path("kill-switch/", organizations.KillSwitchView.as_view(), name="api-kill-switch"),
    path("alerts/", organizations.AlertsView.as_view(), name="api-alerts"),
    path("alerts/<int:pk>/resolve/", organizations.AlertResolveView.as_view(), name="api-alert-resolve"),
    path("sync/", users.SyncView.as_view(), name="api-sync"),
    path("accounts/", users.AccountsView.as_view(), name="api-accounts"),
    path("accounts/export/", users.AccountExportView.as_view(), name="api-accounts-export"),
    path("accounts/<str:account_id>/", users.AccountView.as_view(), name="api-account"),
    path("accounts/<str:account_id>/refresh/", users.AccountRefreshView.as_view(), name="api-account-refresh"),
    path("groups/", users.GroupsView.as_view(), name="api-groups"),
    path("exemptions/", users.ExemptionsView.as_view(), name="api-exemptions"),
    path("exemptions/<int:pk>/", users.ExemptionView.as_view(), name="api-exemption"),
    path("rules/", rules.RulesView.as_view(), name="api-rules"),
    path("rules/<int:pk>/", rules.RuleView.as_view(), name="api-rule"),
    path("rules/<int:pk>/preview/", rules.RulePreviewView.as_view(), name="api-rule-preview"),
    path("rules/<int:pk>/run/", rules.RuleRunView.as_view(), name="api-rule-run"),
    path("bulk-actions/", operations.BulkActionsView.as_view(), name="api-bulk-actions"),
    path("operations/", operations.OperationsView.as_view(), name="api-operations"),
    path("operations/<int:pk>/", include(of_operation)),
    path("approvals/", operations.ApprovalsView.as_view(), name="api-approvals"),
    path("approvals/decided/", operations.DecisionsView.as_view(), name="api-approvals-decided"),
    path("audit-events/", audit.AuditEventsView.as_view(), name="api-audit-events"),
    path("audit-events/export/", audit.AuditExportView.as_view(), name="api-audit-export"),
    path("audit-events/verify/", audit.AuditVerifyView.as_view(), name="api-audit-verify"),
]
urlpatterns: list[URLPattern | URLResolver] = [
    path("organizations/", organizations.OrganizationsView.as_view(), name="api-organizations"),
    path("organizations/<slug:org>/", include(of_organization)),
    path("<path:path>", base.unknown, name="api-unknown"),
]
