"""REST addresses under /api/v1/ (docs/api.md). Each view names the permission of each of its methods."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path, register_converter

from apps.audit.api import views as audit
from apps.autoactivate.api import views as activation
from apps.dashboard.api import views as dashboard
from apps.operations.api import handoffs, imports, safeguards, settings
from apps.operations.api import views as operations
from apps.operators.api import base, organizations, people
from apps.pricing.api import views as pricing
from apps.rules.api import views as rules
from apps.savings.api import views as savings
from apps.users.api import exemptions, saved_views
from apps.users.api import exports as user_exports
from apps.users.api import views as users
from aum.common.converters import AnyPathConverter

register_converter(AnyPathConverter, "any")

of_operation: list[URLPattern | URLResolver] = [
    path("", operations.OperationView.as_view(), name="api-operation"),
    path("items/", operations.ItemsView.as_view(), name="api-operation-items"),
    path("left-out/", operations.LeftOutView.as_view(), name="api-operation-left-out"),
    path("apply/", operations.ApplyView.as_view(), name="api-operation-apply"),
    path("approve/", operations.ApproveView.as_view(), name="api-operation-approve"),
    path("hold-rows/", operations.HoldRowsView.as_view(), name="api-operation-hold-rows"),
    path("reject/", operations.RejectView.as_view(), name="api-operation-reject"),
    path("pause/", operations.PauseView.as_view(), name="api-operation-pause"),
    path("resume/", operations.ResumeView.as_view(), name="api-operation-resume"),
    path("cancel/", operations.CancelView.as_view(), name="api-operation-cancel"),
    path("retry-failed/", operations.RetryFailedView.as_view(), name="api-operation-retry-failed"),
    path("undo/", operations.UndoView.as_view(), name="api-operation-undo"),
    path("evidence/", dashboard.EvidenceView.as_view(), name="api-operation-evidence"),
]
of_organization: list[URLPattern | URLResolver] = [
    path("", organizations.OrganizationView.as_view(), name="api-organization"),
    path("settings/", settings.SettingsView.as_view(), name="api-settings"),
    path("check/", organizations.CheckView.as_view(), name="api-check"),
    path("kill-switch/", organizations.KillSwitchView.as_view(), name="api-kill-switch"),
    path("alerts/", organizations.AlertsView.as_view(), name="api-alerts"),
    path("alerts/<int:pk>/resolve/", organizations.AlertResolveView.as_view(), name="api-alert-resolve"),
    path("people/", people.PeopleView.as_view(), name="api-people"),
    path("people/<int:pk>/", people.PersonView.as_view(), name="api-person"),
    path("invitations/", people.InvitationsView.as_view(), name="api-invitations"),
    path("invitations/<int:pk>/", people.InvitationView.as_view(), name="api-invitation"),
    path("tokens/", people.TokensView.as_view(), name="api-tokens"),
    path("tokens/<int:pk>/", people.TokenView.as_view(), name="api-token"),
    path("sync/", users.SyncView.as_view(), name="api-sync"),
    path("accounts/", users.AccountsView.as_view(), name="api-accounts"),
    path("accounts/export/", user_exports.AccountExportView.as_view(), name="api-accounts-export"),
    path("accounts/invite/", imports.InviteView.as_view(), name="api-accounts-invite"),
    path("accounts/<str:account_id>/", users.AccountView.as_view(), name="api-account"),
    path("account-columns/", saved_views.ColumnsView.as_view(), name="api-account-columns"),
    path("account-exports/", user_exports.ExportJobsView.as_view(), name="api-account-exports"),
    path("account-exports/<int:pk>/", user_exports.ExportJobView.as_view(), name="api-account-export"),
    path("account-exports/<int:pk>/file/", user_exports.ExportFileView.as_view(), name="api-account-export-file"),
    path("saved-views/", saved_views.SavedViewsView.as_view(), name="api-saved-views"),
    path("saved-views/<int:pk>/", saved_views.SavedViewView.as_view(), name="api-saved-view"),
    path("accounts/<str:account_id>/timeline/", users.AccountTimelineView.as_view(), name="api-account-timeline"),
    path("accounts/<str:account_id>/refresh/", users.AccountRefreshView.as_view(), name="api-account-refresh"),
    path("accounts/<str:account_id>/undo/", operations.UndoPersonView.as_view(), name="api-account-undo"),
    path("groups/", users.GroupsView.as_view(), name="api-groups"),
    path("groups/<int:pk>/protect/", users.GroupProtectView.as_view(), name="api-group-protect"),
    path("exemptions/", exemptions.ExemptionsView.as_view(), name="api-exemptions"),
    path("exemptions/snooze/", exemptions.SnoozeView.as_view(), name="api-exemptions-snooze"),
    path("exemptions/suggestions/", exemptions.SuggestionsView.as_view(), name="api-exemptions-suggestions"),
    path("exemptions/<int:pk>/", exemptions.ExemptionView.as_view(), name="api-exemption"),
    path("rules/", rules.RulesView.as_view(), name="api-rules"),
    path("rules/estimate/", rules.RuleEstimateView.as_view(), name="api-rule-estimate"),
    path("rules/ladders/", rules.RuleLaddersView.as_view(), name="api-rule-ladders"),
    path("rules/<int:pk>/duplicate/", rules.RuleDuplicateView.as_view(), name="api-rule-duplicate"),
    path("rules/<int:pk>/", rules.RuleView.as_view(), name="api-rule"),
    path("rules/<int:pk>/preview/", rules.RulePreviewView.as_view(), name="api-rule-preview"),
    path("rules/<int:pk>/what-if/", rules.RuleWhatIfView.as_view(), name="api-rule-what-if"),
    path("rules/<int:pk>/versions/", rules.RuleVersionsView.as_view(), name="api-rule-versions"),
    path("rules/<int:pk>/differences/", rules.RuleDifferencesView.as_view(), name="api-rule-differences"),
    path("rules/<int:pk>/run/", rules.RuleRunView.as_view(), name="api-rule-run"),
    path("hand-offs/", handoffs.HandOffsView.as_view(), name="api-hand-offs"),
    path("hand-offs/<int:pk>/close/", handoffs.HandOffCloseView.as_view(), name="api-hand-off-close"),
    path("imports/", imports.ImportsView.as_view(), name="api-imports"),
    path("imports/<int:pk>/", imports.ImportView.as_view(), name="api-import"),
    path("imports/<int:pk>/errors/", imports.ImportErrorsView.as_view(), name="api-import-errors"),
    path("imports/<int:pk>/people/", imports.ImportPeopleView.as_view(), name="api-import-people"),
    path("imports/<int:pk>/check/", imports.ImportCheckView.as_view(), name="api-import-check"),
    path("imports/<int:pk>/activity/", imports.ImportActivityView.as_view(), name="api-import-activity"),
    path("imports/<int:pk>/apply/", imports.ImportApplyView.as_view(), name="api-import-apply"),
    path("bulk-actions/", operations.BulkActionsView.as_view(), name="api-bulk-actions"),
    path("operations/", operations.OperationsView.as_view(), name="api-operations"),
    path("operations/undo-day/", operations.UndoDayView.as_view(), name="api-undo-day"),
    path("operations/<int:pk>/", include(of_operation)),
    path("prices/", pricing.PricesView.as_view(), name="api-prices"),
    path("prices/<int:pk>/", pricing.PriceView.as_view(), name="api-price"),
    path("licences/", pricing.LicencesView.as_view(), name="api-licences"),
    path("savings/", savings.SavingsView.as_view(), name="api-savings"),
    path("savings/licences/", savings.SavingsLicencesView.as_view(), name="api-savings-licences"),
    path("snapshots/", savings.SnapshotsView.as_view(), name="api-snapshots"),
    path("insights/", savings.InsightsView.as_view(), name="api-insights"),
    path("insights/<slug:key>/", savings.InsightView.as_view(), name="api-insight"),
    path("insights/<slug:key>/snooze/", savings.InsightSnoozeView.as_view(), name="api-insight-snooze"),
    path("insights/<slug:key>/dismiss/", savings.InsightDismissView.as_view(), name="api-insight-dismiss"),
    path("insights/<slug:key>/reopen/", savings.InsightReopenView.as_view(), name="api-insight-reopen"),
    path("assignment-rules/", activation.AssignmentRulesView.as_view(), name="api-assignment-rules"),
    path("assignment-rules/<int:pk>/", activation.AssignmentRuleView.as_view(), name="api-assignment-rule"),
    path("assignment-rules/would-match/", activation.WouldHaveMatchedView.as_view(), name="api-would-match"),
    path("service-projects/", activation.ServiceProjectsView.as_view(), name="api-service-projects"),
    path("inbound-sources/", activation.InboundSourcesView.as_view(), name="api-inbound-sources"),
    path("inbound-sources/<int:pk>/", activation.InboundSourceView.as_view(), name="api-inbound-source"),
    path("inbound-sources/<int:pk>/rotate/", activation.InboundSourceRotateView.as_view(), name="api-inbound-rotate"),
    path("inbound-events/", activation.InboundEventsView.as_view(), name="api-inbound-events"),
    path("inbound-events/<int:pk>/", activation.InboundEventView.as_view(), name="api-inbound-event"),
    path("inbound-events/<int:pk>/retry/", activation.InboundEventRetryView.as_view(), name="api-inbound-retry"),
    path("inbound-events/<int:pk>/dismiss/", activation.InboundEventDismissView.as_view(), name="api-inbound-dismiss"),
    path("access-grants/", activation.AccessGrantsView.as_view(), name="api-access-grants"),
    path("access-grants/<int:pk>/ask/", activation.AccessGrantAskView.as_view(), name="api-access-grant-ask"),
    path("access-grants/<int:pk>/decide/", activation.AccessGrantDecideView.as_view(), name="api-access-grant-decide"),
    path("access-grants/<int:pk>/undo/", activation.AccessGrantUndoView.as_view(), name="api-access-grant-undo"),
    path("", include("apps.notifications.api.urls")),
    path("approvals/", operations.ApprovalsView.as_view(), name="api-approvals"),
    path("approvals/decided/", operations.DecisionsView.as_view(), name="api-approvals-decided"),
    path("safeguard-changes/", safeguards.SafeguardChangesView.as_view(), name="api-safeguard-changes"),
    path(
        "safeguard-changes/<int:pk>/approve/", safeguards.SafeguardApproveView.as_view(), name="api-safeguard-approve"
    ),
    path("safeguard-changes/<int:pk>/reject/", safeguards.SafeguardRejectView.as_view(), name="api-safeguard-reject"),
    path(
        "safeguard-changes/<int:pk>/withdraw/",
        safeguards.SafeguardWithdrawView.as_view(),
        name="api-safeguard-withdraw",
    ),
    path("audit-events/", audit.AuditEventsView.as_view(), name="api-audit-events"),
    path("audit-events/export/", audit.AuditExportView.as_view(), name="api-audit-export"),
    path("audit-events/verify/", audit.AuditVerifyView.as_view(), name="api-audit-verify"),
    path("audit-events/verifications/", dashboard.VerificationView.as_view(), name="api-audit-verifications"),
    path("audit-events/clear/", dashboard.ClearView.as_view(), name="api-audit-clear"),
    path("audit-imports/", dashboard.LogImportsView.as_view(), name="api-audit-imports"),
    path("retention/", dashboard.RetentionView.as_view(), name="api-retention"),
    path("look-first/", dashboard.LookFirstView.as_view(), name="api-look-first"),
    path("backfills/", dashboard.BackfillsView.as_view(), name="api-backfills"),
    path("backfills/<slug:kind>/retry/", dashboard.BackfillRetryView.as_view(), name="api-backfill-retry"),
]
urlpatterns: list[URLPattern | URLResolver] = [
    path("organizations/", organizations.OrganizationsView.as_view(), name="api-organizations"),
    path("organizations/<slug:org>/", include(of_organization)),
    path("<any:path>", base.unknown, name="api-unknown"),
]
