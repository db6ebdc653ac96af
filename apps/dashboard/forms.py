"""Filters of the audit pages and the choice of who approves."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.audit.selectors import EventFilters
from apps.dashboard.activity import OTHER_KINDS, STATUS_LABELS, RunFilters
from apps.operations.models import Operation

KINDS = (
    Operation.Kind.AUTOMATION_RULE,
    Operation.Kind.MANUAL_OPERATION,
    Operation.Kind.USER_IMPORT,
    Operation.Kind.BULK_CSV_ACTION,
    Operation.Kind.SCHEDULED_CLEANUP,
    Operation.Kind.ACTIVATION,
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
    ("import.", "Imports"),
    ("migration.", "Migrations"),
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
            ("30d", "30 days"),
        ],
    )
    since = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}))
    type = forms.MultipleChoiceField(
        required=False, choices=[*((kind.value, kind.label) for kind in KINDS), *OTHER_KINDS]
    )
    status = forms.MultipleChoiceField(required=False, choices=list(STATUS_LABELS.items()))
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
            "30d": (now - timedelta(days=30), None),
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
        """For the Detailed view and the export: every filter of both views."""
        since, until = self.bounds
        return EventFilters(
            search=self.value("q"),
            person=self.value("performer"),
            kinds=tuple(self.value("type")),
            statuses=tuple(self.value("status")),
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


class ExportFileForm(forms.Form):
    """An export of Atlassian Administration that fills an organisation without credentials."""

    file = forms.FileField(
        label="Export file",
        help_text="CSV, at most 20 MB and 100,000 rows, as Atlassian wrote it.",
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,.txt,text/csv,text/plain"}),
    )
    exported_on = forms.DateField(
        label="Exported on",
        required=False,
        help_text="Today, where it is left empty.",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    domains = forms.CharField(
        label="Domains that your organisation has claimed",
        required=False,
        max_length=5000,
        help_text="Such as example.com, example.org. Who has an address there counts as managed, everybody else as "
        "external; left empty, that is not known. An export of managed accounts says it by itself.",
    )

    def upload(self) -> dict[str, Any]:
        """Name and content of the file."""
        file = self.cleaned_data["file"]
        file.seek(0)
        return {"name": file.name, "content": file.read()}

    def details(self) -> dict[str, Any]:
        """What the file does not say itself."""
        return {"exported_on": self.cleaned_data["exported_on"], "domains": self.cleaned_data["domains"]}


class LookFirstForm(ExportFileForm):
    """The same with the name of the organisation, which does not exist yet."""

    name = forms.CharField(
        label="Name", max_length=200, help_text="As it stands in the navigation, such as Example Ltd."
    )
    field_order = ["name"]


class SupportForm(forms.Form):
    """Where people turn to; all of it may be empty."""

    support_name = forms.CharField(label="Name of the support", required=False, max_length=120)
    support_url = forms.URLField(
        label="Support page", required=False, max_length=300, assume_scheme="https", help_text="A page or ticket form."
    )
    support_email = forms.EmailField(
        label="Support e-mail", required=False, help_text="Email Support opens a mail to this address."
    )
    booking_url = forms.URLField(
        label="Booking link",
        required=False,
        max_length=300,
        assume_scheme="https",
        help_text="Book a Meeting opens this page. Empty: the tile is hidden.",
    )
