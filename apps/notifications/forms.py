"""Forms of Email Notifications and of mail settings. What is right is judged by the services; these carry values."""

from __future__ import annotations

from typing import Any

from django import forms

from apps.notifications.content import MAX_BODY, MAX_SUBJECT
from apps.notifications.models import AlertChannel, EmailTemplate, MailSettings
from apps.notifications.services import EVENTS, TemplateInput
from apps.notifications.services.settings import MailInput

_PLAIN = {"autocomplete": "off", "spellcheck": "false"}


class TemplateForm(forms.Form):
    """A template. The service names what is wrong at the field."""

    name = forms.CharField(label="Template name", required=False, max_length=500)
    event = forms.ChoiceField(label="About", choices=EmailTemplate.Event.choices, required=False)
    days_inactive = forms.CharField(
        label="Days since inactivity",
        required=False,
        max_length=20,
        widget=forms.TextInput(attrs={"inputmode": "numeric", **_PLAIN}),
    )
    subject = forms.CharField(
        label="Email subject",
        required=False,
        strip=False,
        widget=forms.TextInput(attrs={"maxlength": MAX_SUBJECT, "data-insertable": ""}),
    )
    body = forms.CharField(
        label="Email body",
        required=False,
        strip=False,
        max_length=4 * MAX_BODY,
        widget=forms.Textarea(attrs={"rows": 18, "class": "mono", "spellcheck": "true", "data-insertable": ""}),
        help_text="HTML with h1 h2 h3 p br strong em ul ol li; anything else is taken out and named. Plain text works.",
    )
    bcc = forms.CharField(
        label="BCC recipients",
        required=False,
        max_length=3000,
        widget=forms.Textarea(attrs={"rows": 2, **_PLAIN}),
        help_text="Separate several addresses with commas. Each gets a copy of its own, without the keep-access link.",
    )
    is_enabled = forms.BooleanField(
        label="Enabled: the mail goes out when its conditions are met", required=False, initial=True
    )

    def values(self) -> TemplateInput:
        """What the services take."""
        return TemplateInput(**{name: self.cleaned_data[name] for name in self.fields})

    @classmethod
    def of(cls, template: EmailTemplate, days: int) -> TemplateForm:
        """The form of a saved template; `days` as its rule says."""
        values: dict[str, Any] = {name: getattr(template, name) for name in cls.base_fields}
        return cls(initial=values | {"bcc": ", ".join(template.bcc), "days_inactive": days})


class MailSettingsForm(forms.Form):
    """Mail server, sender, pace and links. A saved password is not shown; empty keeps it."""

    hide_required = True

    host = forms.CharField(
        label="Mail server",
        required=False,
        max_length=253,
        widget=forms.TextInput(attrs={**_PLAIN, "class": "mono"}),
        help_text="Name of the SMTP server, such as smtp.example.com. Empty: no mail is sent.",
    )
    port = forms.CharField(
        label="Port", max_length=10, widget=forms.TextInput(attrs={"inputmode": "numeric", **_PLAIN})
    )
    security = forms.ChoiceField(label="Encryption", choices=MailSettings.Security.choices)
    username = forms.CharField(
        label="User name",
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs=_PLAIN),
        help_text="Empty: the server takes mails without a sign-in.",
    )
    password = forms.CharField(
        label="Password",
        required=False,
        strip=False,
        max_length=2000,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "mono"}),
    )
    from_name = forms.CharField(label="Sender name", required=False, max_length=500)
    from_address = forms.CharField(label="Sender address", required=False, max_length=500)
    reply_to = forms.CharField(
        label="Reply-to address", required=False, max_length=500, help_text="Empty: replies go to the sender address."
    )
    per_minute = forms.CharField(label="Send at most", max_length=10)
    keep_days = forms.CharField(label="“Keep my access” lasts", max_length=10)
    keep_per_year = forms.CharField(label="Each user may use it", max_length=10)
    link_days = forms.CharField(label="A link works for", max_length=10)
    is_digest_on = forms.BooleanField(
        label="Send owners a digest, at most once a day, when somebody was warned or could not be told", required=False
    )

    @classmethod
    def of(cls, row: MailSettings) -> MailSettingsForm:
        """The form of saved settings, without the password."""
        return cls(initial={name: getattr(row, name) for name in cls.base_fields if name != "password"})

    def values(self) -> MailInput:
        """What the service takes."""
        return MailInput(**self.cleaned_data)


class ChannelForm(forms.Form):
    """A channel for administrators' alerts. The saved address is not shown; empty keeps it."""

    hide_required = True

    name = forms.CharField(label="Name", required=False, max_length=300)
    kind = forms.ChoiceField(
        label="Kind", choices=[choice for choice in AlertChannel.Kind.choices if choice[0] != AlertChannel.Kind.WEBHOOK]
    )
    address = forms.CharField(
        label="Address",
        required=False,
        max_length=2000,
        widget=forms.TextInput(attrs={**_PLAIN, "class": "mono", "inputmode": "url"}),
    )
    level = forms.ChoiceField(label="Which alerts", choices=AlertChannel.Level.choices, initial="warning")


class WebhookForm(forms.Form):
    """A signed webhook: where to, and what about. Its secret is made by AUM."""

    hide_required = True

    name = forms.CharField(label="Name", required=False, max_length=300)
    address = forms.CharField(
        label="Address",
        required=False,
        max_length=2000,
        widget=forms.TextInput(attrs={**_PLAIN, "class": "mono", "inputmode": "url", "placeholder": "https://"}),
    )
    events = forms.MultipleChoiceField(
        label="Events",
        required=False,
        choices=[(event.name, f"{event.label}: {event.hint}") for event in EVENTS],
        widget=forms.CheckboxSelectMultiple,
    )
    level = forms.ChoiceField(
        label="Which alerts",
        choices=AlertChannel.Level.choices,
        initial="warning",
        help_text="If you chose Alert opened.",
    )


class DecisionForm(forms.Form):
    """An Admin's decision about somebody who could not be told."""

    days = forms.CharField(label="The action may follow in", max_length=10, initial="14")
    reason = forms.CharField(label="Reason", max_length=500, required=False, widget=forms.Textarea(attrs={"rows": 2}))


class ContactsForm(forms.Form):
    """The mapping CSV of managers and languages."""

    file = forms.FileField(
        label="CSV file",
        help_text="Columns email (or account_id), manager_email, language. The file's entries replace existing ones.",
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,text/csv"}),
    )
