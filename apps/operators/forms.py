"""Forms about operators: sign-in, own account, people and roles, tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.forms import LoginForm
from allauth.core.internal.ratelimit import get_cache_key, parse_rates
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from django import forms
from django.core.cache import cache
from django.http import HttpRequest
from django.utils import timezone

from apps.operators.models import IdentityProvider, Operator, Role
from apps.operators.permissions import Scope
from apps.operators.selectors import active_provider
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
            self.refuse_password()
        except forms.ValidationError as error:
            if getattr(error, "code", "") == "password_off":
                raise
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

    def refuse_password(self) -> None:
        """While passwords are off, only the sealed way in is open. Raises ValidationError."""
        provider = active_provider()
        if provider is not None and provider.is_password_off and provider.break_glass_id != self.user.pk:
            raise forms.ValidationError(f"Passwords are off here. Sign in with {provider.name}.", code="password_off")


class CodeForm(AuthenticateForm):  # type: ignore[misc]
    """The second step of signing in: a code of the app, or a recovery code."""

    hide_required = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _name_code(self.fields["code"])


class CodeAgainForm(ReauthenticateForm):  # type: ignore[misc]
    """The same, asked again before something dangerous."""

    hide_required = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _name_code(self.fields["code"])


def _name_code(field: forms.Field) -> None:
    field.label = "Code"
    field.help_text = "Six digits from your app, or one of your recovery codes."
    field.widget.attrs = {"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True}


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


def _roles_field() -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        label="Roles",
        choices=[(role.value, f"{role.label}: {hint}") for role, hint in ROLE_HINTS.items()],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one role."},
    )


class InvitationForm(forms.Form):
    """Invite a person to the organisation."""

    email = forms.EmailField(label="Email")
    name = forms.CharField(label="Name", max_length=150, required=False)
    roles = _roles_field()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["roles"].initial = [Role.VIEWER.value]


class RolesForm(forms.Form):
    """The roles of one person; none takes them out of the organisation."""

    roles = _roles_field()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["roles"].required = False
        self.fields["roles"].help_text = "Without any role the person no longer sees this organisation."


class AcceptForm(forms.Form):
    """`/invite/<secret>/`: name and password of a person who is new here."""

    name = forms.CharField(label="Name", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    password = forms.CharField(
        label="Password",
        help_text="At least 12 characters.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        strip=False,
    )


class ProviderForm(forms.Form):
    """The identity provider of the installation."""

    name = forms.CharField(label="Name", max_length=60, help_text="Shown on the button, such as “Okta”.")
    protocol = forms.ChoiceField(
        label="Protocol",
        required=False,
        choices=IdentityProvider.Protocol.choices,
        initial="oidc",
        widget=forms.RadioSelect,
    )
    issuer = forms.CharField(
        label="Issuer",
        required=False,
        max_length=300,
        help_text="The address under which /.well-known/openid-configuration answers.",
    )
    client_id = forms.CharField(label="Client ID", required=False, max_length=200)
    client_secret = forms.CharField(
        label="Client secret",
        required=False,
        max_length=500,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    metadata_url = forms.CharField(
        label="Metadata address",
        required=False,
        max_length=500,
        help_text="Where the provider publishes its metadata. It is read now, and again each day somebody signs in.",
    )
    groups_claim = forms.CharField(
        label="Claim or attribute with the groups",
        max_length=300,
        initial="groups",
        help_text="Read at each sign-in. For SAML the attribute’s full name.",
    )
    is_active = forms.BooleanField(label="Offer single sign-on", required=False, initial=True)
    is_password_off = forms.BooleanField(
        label="Switch passwords off",
        required=False,
        help_text="Then only the person below can sign in with a password, and everybody is alerted when that happens.",
    )
    break_glass_id = forms.TypedChoiceField(
        label="Who keeps a password", required=False, coerce=int, empty_value=None, choices=[("", "Nobody")]
    )

    def __init__(self, *args: Any, owners: Iterable[Operator] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people = [(str(owner.pk), f"{owner} ({owner.email})") for owner in owners]
        self.fields["break_glass_id"].choices = [("", "Nobody"), *people]  # type: ignore[attr-defined]

    def clean_protocol(self) -> str:
        """OpenID Connect unless another one is chosen."""
        return self.cleaned_data["protocol"] or IdentityProvider.Protocol.OIDC.value


class GroupRolesForm(forms.Form):
    """Which groups of the identity provider hold which role; one line each."""

    mapping = forms.CharField(
        label="Groups and roles",
        required=False,
        widget=forms.Textarea(attrs={"rows": 6, "class": "mono", "placeholder": "aum-admins: admin"}),
        help_text="One a line: the group as the provider names it, a colon, and viewer, helpdesk, approver, admin or "
        "owner. While there is a line, groups alone decide about roles here.",
    )

    def clean_mapping(self) -> list[tuple[str, str]]:
        """(group, role) of each line; a wrong line is named by its number."""
        pairs = []
        for number, line in enumerate(str(self.cleaned_data["mapping"]).splitlines(), start=1):
            if not line.strip():
                continue
            group, _, role = line.rpartition(":")
            if not group.strip() or role.strip().lower() not in Role.values:
                raise forms.ValidationError(f"Line {number} is not “group: role”. Roles: {', '.join(Role.values)}.")
            pairs.append((group.strip(), role.strip().lower()))
        return pairs


class SignInSettingsForm(forms.Form):
    """How operators of the organisation have to sign in."""

    is_second_factor_required = forms.BooleanField(
        label="Require a second factor",
        required=False,
        help_text="Pages of this organisation open only to people who set up an authenticator app or a passkey.",
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

    networks = forms.CharField(
        label="Allowed networks",
        required=False,
        help_text="Addresses or networks that may use it, separated by commas or spaces. Empty: from anywhere.",
        widget=forms.TextInput(attrs={"placeholder": "203.0.113.0/24"}),
    )

    def clean_networks(self) -> list[str]:
        """The single entries; the service says which one is no network."""
        return str(self.cleaned_data["networks"]).replace(",", " ").split()

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
