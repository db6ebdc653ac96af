"""Forms about an organisation: credentials, general settings, safeguards, emergency stop."""

from __future__ import annotations

import zoneinfo
from typing import Any

from django import forms

from apps.organizations.models import Organization
from apps.organizations.services import LOOSER_WHEN_GREATER, ConnectionInput

_SECRET = {"autocomplete": "off", "spellcheck": "false", "class": "mono"}
_PLAIN = {"autocomplete": "off", "spellcheck": "false"}


def _date(label: str) -> forms.DateField:
    return forms.DateField(
        label=label, required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )


class ConnectionForm(forms.Form):
    """ "Configure Atlassian API credentials". Typed values are kept after a refusal, secrets are not shown again."""

    email = forms.EmailField(
        label="Email ID",
        help_text="The organisation admin who created the API token.",
        widget=forms.EmailInput(attrs=_PLAIN),
    )
    api_token = forms.CharField(
        label="API token",
        help_text="For sites, projects and tickets. Created under id.atlassian.com, Security, API tokens.",
        widget=forms.PasswordInput(attrs=_SECRET),
        strip=True,
    )
    api_key = forms.CharField(
        label="API key",
        help_text="Organisation API key without scopes. Created in Atlassian Administration, Settings, API keys.",
        widget=forms.PasswordInput(attrs=_SECRET),
        strip=True,
    )
    org_id = forms.CharField(
        label="Organisation ID",
        help_text="In the address of Atlassian Administration, after /o/.",
        widget=forms.TextInput(attrs=_SECRET),
        max_length=128,
    )
    site_url = forms.CharField(
        label="Site address",
        help_text="Your main site, such as https://example.atlassian.net.",
        widget=forms.TextInput(attrs={**_PLAIN, "inputmode": "url"}),
        max_length=300,
    )
    api_key_expires_on = _date("API key expires on")
    api_token_expires_on = _date("API token expires on")

    def values(self, **more: Any) -> ConnectionInput:
        """What the services take."""
        return ConnectionInput(**self.cleaned_data, **more)


class NewConnectionForm(ConnectionForm):
    """The same for an organisation that is not known yet, with its name."""

    name = forms.CharField(
        label="Name", max_length=200, help_text="As it stands in the navigation, such as Example Ltd."
    )
    field_order = ["name"]


class FileConnectionForm(ConnectionForm):
    """The same for an organisation that a file filled: it has a name already."""


class ReplaceCredentialsForm(ConnectionForm):
    """The same for a saved connection: addresses are frozen, an empty secret keeps the saved one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["org_id"], self.fields["site_url"]
        for name in ("api_token", "api_key"):
            self.fields[name].required = False
            self.fields[name].help_text = "Leave empty to keep the saved one."

    def values(self, **more: Any) -> ConnectionInput:
        return super().values(org_id="", site_url="", **more)


class GeneralForm(forms.ModelForm):  # type: ignore[type-arg]
    """Name, timezone, currency and what screens and syncs follow."""

    # Every field is filled already: the word beside each would be noise.
    hide_required = True

    timezone = forms.ChoiceField(
        label="Timezone", help_text="Schedules run in it. Screens show UTC.", choices=[("UTC", "UTC")]
    )

    class Meta:
        model = Organization
        fields = ["name", "timezone", "currency", "sync_hour_utc", "calls_in_flight", "catch_up_hours"]
        labels = {
            "sync_hour_utc": "Daily sync at",
            "calls_in_flight": "Calls to Atlassian at once",
            "catch_up_hours": "Make up for a missed run within",
        }
        help_texts = {
            "currency": "Three letters, such as EUR.",
            "calls_in_flight": "More is faster until Atlassian asks to slow down.",
            "catch_up_hours": "What was due longer ago, while AUM was not running, is reported as missed.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = sorted(zoneinfo.available_timezones() - {"UTC"})
        self.fields["timezone"].choices = [("UTC", "UTC"), *((name, name.replace("_", " ")) for name in names)]  # type: ignore[attr-defined]


class SafeguardsForm(forms.ModelForm):  # type: ignore[type-arg]
    """What protects people. Which change is a looser one, and who has to agree, is the service's to know."""

    hide_required = True

    reason = forms.CharField(
        label="Reason",
        required=False,
        max_length=500,
        help_text="Needed when a value becomes looser. Who approves reads it, and it stands in the audit log.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    class Meta:
        model = Organization
        fields = [*LOOSER_WHEN_GREATER]
        labels = {
            "max_count": "Hold a run above",
            "max_share_percent": "Hold a run above",
            "max_group_share_percent": "Hold a run that takes from one group more than",
            "max_per_day": "Hold when more than",
            "activity_margin_hours": "Margin for Atlassian's delay",
            "max_data_age_hours": "Refuse live rules when data is older than",
            "max_people_lost_percent": "Distrust a sync that lost more than",
            "max_activity_lost_percent": "Distrust a sync that lost activity of more than",
            "max_failure_percent": "Stop a run when failures exceed",
            "snooze_days": "Rest after a restore",
            "held_plan_days": "A held run waits at most",
            "preview_hours": "A preview can be applied for",
            "max_regret_percent": "A rule pauses itself when access came back for more than",
            "allow_delete_rules": "Let rules delete accounts",
        }
        help_texts = {
            "activity_margin_hours": "Atlassian reports activity up to a day late; thresholds grow by this.",
            "max_group_share_percent": "Counts for groups of 20 people and more; 100 is no limit.",
            "max_regret_percent": "Counted over 90 days: who got it back within 30 days. Counts from 5 people on.",
            "allow_delete_rules": "Only people who are out for a number of days; each run needs an approval.",
            "snooze_days": "Who was restored is left alone by rules for this long.",
        }

    def changes(self) -> dict[str, Any]:
        """Only what differs from before, without the reason."""
        return {name: self.cleaned_data[name] for name in self.changed_data if name in LOOSER_WHEN_GREATER}


class ReasonForm(forms.Form):
    """A reason that stands in the audit log."""

    reason = forms.CharField(label="Reason", max_length=500, widget=forms.Textarea(attrs={"rows": 2}))
