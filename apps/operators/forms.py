"""Forms about operators: sign-in, own account, people and roles, tokens."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.forms import LoginForm
from allauth.core.internal.ratelimit import get_cache_key, parse_rates
from django import forms
from django.core.cache import cache
from django.http import HttpRequest
from django.utils import timezone

from apps.operators.models import Operator, Role
from apps.operators.permissions import Scope
from apps.operators.services import DEFAULT_TOKEN_DAYS, MAX_TOKEN_DAYS


def tries_left(request: HttpRequest, email: str) -> tuple[int, int]:
    """(tries left for this address, minutes that sign-in pauses afterwards); read from the limiter's own record."""
    rate = next(rate for rate in parse_rates(app_settings.RATE_LIMITS["login_failed"]) if rate.per == "key")
    key = get_adapter(request)._get_login_attempts_cache_key(request, email=email)
    history = cache.get(get_cache_key(request, app="allauth.account", action="login_failed", rate=rate, key=key), [])
    used = sum(1 for at in history if at > time.time() - rate.duration)
    return max(rate.amount - used, 0), max(int(rate.duration // 60), 1)


class SignInForm(LoginForm):  # type: ignore[misc]
    """Sign-in by e-mail and password; a refusal says how many tries are left."""

    # Two fields, both needed: the word beside each would be noise.
    hide_required = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].label = "Email"
        self.fields["login"].widget.attrs["autocomplete"] = "username"
        self.fields["password"].help_text = ""
        for field in self.fields.values():
            field.widget.attrs.pop("placeholder", None)

    def clean(self) -> dict[str, Any]:
        """Moves the refusal to the password field, with the number of tries left."""
        try:
            cleaned: dict[str, Any] = super().clean()
        except forms.ValidationError as error:
            if "login" not in self.cleaned_data:
                raise
            left, minutes = tries_left(self.request, self.cleaned_data["login"])
            if getattr(error, "code", "") == "too_many_login_attempts" or not left:
                text = f"Too many tries for this address. Sign-in pauses for {minutes} minutes; then try again."
            else:
                tries = "1 try" if left == 1 else f"{left} tries"
                text = (
                    f"The email or password is not right. You have {tries} left, "
                    f"then sign-in pauses for {minutes} minutes."
                )
            raise forms.ValidationError({"password": text}) from error
        return cleaned


class FirstOwnerForm(forms.Form):
    """`/setup/<token>/`: the first person of the installation."""

    name = forms.CharField(label="Name", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    email = forms.EmailField(label="Email", widget=forms.EmailInput(attrs={"autocomplete": "username"}))
    password = forms.CharField(
        label="Password",
        help_text="At least 12 characters.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        strip=False,
    )


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    """One's own name, theme and shortcuts."""

    has_shortcuts = forms.BooleanField(label="Keyboard shortcuts", required=False, help_text="Press ? for the list.")

    class Meta:
        model = Operator
        fields = ["name", "theme"]
        widgets = {"theme": forms.RadioSelect}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["theme"].required = False
        self.initial["has_shortcuts"] = not self.instance.shortcuts_off

    def save(self, commit: bool = True) -> Operator:
        """Stores the three settings."""
        self.instance.shortcuts_off = not self.cleaned_data["has_shortcuts"]
        saved: Operator = super().save(commit)
        return saved


ROLE_HINTS = {
    Role.VIEWER: "Reads everything, changes nothing.",
    Role.HELPDESK: "Acts on single people within the limits; exemptions and syncs.",
    Role.APPROVER: "Reads, and approves or rejects held runs of others.",
    Role.ADMIN: "Rules, runs, settings and tokens.",
    Role.OWNER: "Everything, also credentials and people; approves runs of others.",
}


class PersonForm(forms.Form):
    """Add a person to the organisation with one role."""

    name = forms.CharField(label="Name", max_length=150, required=False)
    email = forms.EmailField(label="Email")
    role = forms.ChoiceField(
        label="Role",
        choices=[(role.value, f"{role.label}: {hint}") for role, hint in ROLE_HINTS.items()],
        widget=forms.RadioSelect,
        initial=Role.VIEWER,
    )


SCOPE_HINTS = {
    Scope.READ: "Read: lists, figures, exports",
    Scope.PREVIEW: "Preview: plans that change nothing, and syncs",
    Scope.RUN: "Run: actions and rules, within the limits",
    Scope.APPROVE: "Approve: release held runs of others; never together with Run",
    Scope.ADMIN: "Admin: rules, exemptions, settings",
}


class TokenForm(forms.Form):
    """A new API token."""

    name = forms.CharField(label="Name", max_length=100, help_text="What uses it, such as “nightly report”.")
    scopes = forms.MultipleChoiceField(
        label="Scopes",
        choices=[(scope.value, text) for scope, text in SCOPE_HINTS.items()],
        widget=forms.CheckboxSelectMultiple,
        initial=[Scope.READ.value],
    )
    expires_on = forms.DateField(
        label="Expires on",
        help_text=f"At most {MAX_TOKEN_DAYS} days from now. It ends at the end of that day, UTC.",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["expires_on"].initial = timezone.now().date() + timedelta(days=DEFAULT_TOKEN_DAYS)

    @property
    def expires_at(self) -> datetime:
        """End of the chosen day, or `MAX_TOKEN_DAYS` from now where that comes first by less than a day."""
        day = self.cleaned_data["expires_on"]
        end = datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=UTC)
        latest = timezone.now() + timedelta(days=MAX_TOKEN_DAYS)
        return min(end, latest) if end.date() == latest.date() else end
