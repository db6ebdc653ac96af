"""Filters of the audit pages and the choice of who approves."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.audit.selectors import EventFilters
from apps.dashboard.selectors import STATUS_WORDS, SYNC_KIND, RunFilters
from apps.operations.models import Operation

# Kinds that this version can produce; others would be filters that never find anything.
KINDS = (
    Operation.Kind.SCHEDULED_CLEANUP,
    Operation.Kind.AUTOMATION_RULE,
    Operation.Kind.MANUAL_OPERATION,
)

# Families of actions in the log: an action begins with one of these.
FAMILIES = (
    ("account.", "People"),
    ("operation.", "Runs"),
    ("rule.", "Rules"),
    ("sync.", "Syncs"),
    ("exemption.", "Exemptions"),
    ("group.", "Groups"),
    ("operator.", "Roles"),
    ("token.", "Tokens"),
    ("organization.", "Settings"),
    ("credentials.", "Credentials"),
    ("kill_switch.", "Emergency stop"),
    ("audit.", "Log"),
)


class AuditFilterForm(forms.Form):
    """The query string of `/audit/`; what is wrong in it is left out, and named on the page."""

    q = forms.CharField(required=False, max_length=200, strip=True)
    performer = forms.CharField(required=False, max_length=200, strip=True)
    when = forms.ChoiceField(
        required=False,
        choices=[
            ("", "Any time"),
            ("24h", "Last 24 hours"),
            ("today", "Today"),
            ("yesterday", "Yesterday"),
            ("7d", "7 days"),
        ],
    )
    since = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}))
    type = forms.MultipleChoiceField(
        required=False, choices=[*((kind.value, kind.label) for kind in KINDS), (SYNC_KIND, "Directory Sync")]
    )
    status = forms.MultipleChoiceField(
        required=False, choices=[(word, label) for word, (label, _, _) in STATUS_WORDS.items()]
    )
    action = forms.ChoiceField(required=False, choices=[("", "Any"), *FAMILIES])
    outcome = forms.ChoiceField(required=False, choices=[("", "Any"), *AuditEvent.Outcome.choices])

    def value(self, name: str) -> Any:
        """The cleaned value, or an empty one where it was wrong."""
        self.is_valid()
        return self.cleaned_data.get(name) or ("" if name not in ("type", "status") else [])

    @property
    def bounds(self) -> tuple[datetime | None, datetime | None]:
        """[since, until) in UTC; named ranges win over dates."""
        now = timezone.now()
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        named = {
            "24h": (now - timedelta(hours=24), None),
            "today": (midnight, None),
            "yesterday": (midnight - timedelta(days=1), midnight),
            "7d": (now - timedelta(days=7), None),
        }
        if self.value("when"):
            return named[self.value("when")]
        first, last = self.value("since"), self.value("until")
        return (
            datetime.combine(first, time(), UTC) if first else None,
            datetime.combine(last, time(), UTC) + timedelta(days=1) if last else None,
        )

    def run_filters(self) -> RunFilters:
        """For the view Operation runs."""
        since, until = self.bounds
        return RunFilters(
            search=self.value("q"),
            performer=self.value("performer"),
            kinds=tuple(self.value("type")),
            statuses=tuple(self.value("status")),
            since=since,
            until=until,
        )

    def event_filters(self) -> EventFilters:
        """For the Detailed view."""
        since, until = self.bounds
        return EventFilters(
            search=self.value("q"),
            actor=self.value("performer"),
            action=self.value("action"),
            outcome=self.value("outcome"),
            since=since,
            until=until,
        )


class ApprovalChoiceForm(forms.Form):
    """Who approves held runs: chosen at set-up, shown permanently."""

    approver = forms.ChoiceField(
        label="Who approves held runs?",
        choices=[
            ("second", "A second person. Nobody approves a run of their own."),
            ("one", "I work alone here. I type the count and my password instead; it ends when a second person joins."),
        ],
        widget=forms.RadioSelect,
        initial="second",
    )

    @property
    def is_one_operator(self) -> bool:
        """True when the person works alone."""
        return bool(self.cleaned_data.get("approver") == "one")
