"""Writes about single sign-on: the identity provider, which of its groups hold which roles, what a sign-in brings."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from allauth.socialaccount.models import SocialAccount
from django.db import transaction
from django.utils import timezone

from apps.operators.models import Grant, GroupRole, IdentityProvider, Operator, Role
from apps.operators.permissions import Permission
from apps.operators.selectors import PROVIDER_ID, identity_provider, permissions_of
from apps.operators.services.roles import set_roles
from apps.operators.services.saml_metadata import read_metadata
from apps.organizations import outgoing
from apps.organizations.crypto import encrypt
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor, record
from apps.organizations.services import raise_alert
from aum.common.errors import DomainError, InvalidInput, NotAllowed

DISCOVERY = "/.well-known/openid-configuration"


class NoRole(DomainError):
    code = "no_role"
    status = 403
    detail = "None of your groups has a role here. Ask an owner to give one of them a role."


class UnverifiedAddress(DomainError):
    code = "unverified_address"
    status = 403
    detail = "The identity provider does not vouch for your e-mail address, so AUM cannot tell who you are."


@dataclass(frozen=True)
class ProviderInput:
    """What the form holds. An empty `client_secret` keeps the saved one; `metadata_url` is for SAML alone."""

    name: str
    issuer: str = ""
    client_id: str = ""
    client_secret: str = ""
    protocol: str = IdentityProvider.Protocol.OIDC.value
    metadata_url: str = ""
    groups_claim: str = "groups"
    is_active: bool = True
    is_password_off: bool = False
    break_glass_id: int | None = None


def may_change_provider(operator: Operator) -> bool:
    """Who decides how everybody signs in: an operator who owns every real organisation of the installation."""
    organizations = Organization.objects.filter(is_demo=False)
    owned = [Permission.OWN in permissions_of(operator, organization) for organization in organizations]
    if owned:
        return all(owned)
    return any(Permission.OWN in permissions_of(operator, demo) for demo in Organization.objects.all())


def save_provider(*, values: ProviderInput, operator: Operator, actor: Actor) -> IdentityProvider:
    """Check the provider by reading what it publishes, then store. Raises InvalidInput at the field, NotAllowed."""
    if not may_change_provider(operator):
        raise NotAllowed("Single sign-on is for all organisations here: only who owns each of them may change it.")
    stored = identity_provider()
    rescuer = Operator.objects.filter(pk=values.break_glass_id or 0, is_active=True).first()
    errors = _faults_of_values(values, stored, rescuer)
    if errors:
        raise InvalidInput(fields=errors)
    is_saml = values.protocol == IdentityProvider.Protocol.SAML
    found = read_metadata(values.metadata_url.strip()) if is_saml else None
    issuer = found.entity_id if found else _clean_issuer(values)
    if not is_saml and (errors := _faults_of(issuer)):
        raise InvalidInput(fields=errors)
    with transaction.atomic():
        row = stored or IdentityProvider()
        if stored is not None and (stored.issuer, stored.protocol) != (issuer, values.protocol):
            # Another provider may use the same names for other people: everybody is found by address once more.
            SocialAccount.objects.filter(provider=PROVIDER_ID).delete()
        row.name, row.protocol, row.issuer = values.name.strip(), values.protocol, issuer
        row.groups_claim, row.is_active = values.groups_claim.strip(), values.is_active
        row.is_password_off, row.break_glass = values.is_password_off, rescuer
        if found is not None:
            row.client_id, row.encrypted_client_secret, row.secret_set_at = "", None, None
            row.metadata_url = values.metadata_url.strip()
            row.metadata, row.metadata_read_at = found.as_json(), timezone.now()
        else:
            row.client_id, row.metadata_url, row.metadata, row.metadata_read_at = (
                values.client_id.strip(),
                "",
                None,
                None,
            )
            if values.client_secret.strip():
                row.encrypted_client_secret, row.secret_set_at = encrypt(values.client_secret.strip()), timezone.now()
        row.save()
        for organization in Organization.objects.all():
            record(
                organization=organization,
                actor=actor,
                action="single_sign_on.saved",
                target_kind="identity_provider",
                target_ref=str(row.pk),
                target_name=row.name,
                after={
                    "protocol": row.protocol,
                    "issuer": issuer,
                    "is_active": row.is_active,
                    "is_password_off": row.is_password_off,
                },
            )
    return row


def _clean_issuer(values: ProviderInput) -> str:
    return values.issuer.strip().rstrip("/").removesuffix(DISCOVERY)


def _faults_of_values(
    values: ProviderInput, stored: IdentityProvider | None, rescuer: Operator | None
) -> dict[str, list[str]]:
    """What is wrong before anything is asked of the provider."""
    if values.protocol not in IdentityProvider.Protocol.values:
        return {"protocol": [f"Choose one of {', '.join(IdentityProvider.Protocol.values)}."]}
    is_saml = values.protocol == IdentityProvider.Protocol.SAML
    needed = ("name", "groups_claim", *(("metadata_url",) if is_saml else ("issuer", "client_id")))
    errors = {field: ["Fill this in."] for field in needed if not str(getattr(values, field)).strip()}
    has_secret = stored is not None and stored.encrypted_client_secret is not None
    if not is_saml and not has_secret and not values.client_secret.strip():
        errors["client_secret"] = ["Enter the secret that the identity provider shows for this client."]
    if values.is_password_off:
        if not values.is_active:
            errors["is_password_off"] = ["Nobody could sign in then. Switch single sign-on on, or keep passwords."]
        elif rescuer is None or not rescuer.has_usable_password() or not _owns_something(rescuer):
            errors["break_glass_id"] = ["Choose an owner with a password: the one way in when the provider is down."]
    return errors


def _owns_something(operator: Operator) -> bool:
    return Grant.objects.filter(operator=operator, role=Role.OWNER).exists()


def _faults_of(issuer: str) -> dict[str, list[str]]:
    """What is wrong with the issuer, by reading its published configuration as a sign-in would."""
    try:
        answer = outgoing.send("GET", issuer + DISCOVERY)
    except DomainError as error:
        return {"issuer": [error.detail]}
    try:
        found = json.loads(answer.text) if answer.ok else None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"authorization_endpoint", "token_endpoint", "jwks_uri"} <= set(found):
        return {"issuer": [f"{issuer}{DISCOVERY} does not answer with the configuration of an identity provider."]}
    if str(found.get("issuer", "")).rstrip("/") != issuer:
        return {"issuer": [f"It calls itself {found.get('issuer')}. Enter exactly that address."]}
    if urlsplit(str(found["token_endpoint"])).scheme != urlsplit(issuer).scheme:
        return {"issuer": ["Its token endpoint uses another scheme than the issuer."]}
    return {}


@transaction.atomic
def set_group_roles(*, organization: Organization, pairs: Sequence[tuple[str, str]], actor: Actor) -> None:
    """Exactly these (group, role); they count from each person's next sign-in. Raises InvalidInput."""
    wanted = {(group.strip(), role) for group, role in pairs if group.strip()}
    if any(role not in Role.values for _, role in wanted):
        raise InvalidInput(fields={"roles": [f"Choose from {', '.join(Role.values)}."]})
    before = sorted(GroupRole.objects.of(organization).values_list("group", "role"))
    if before == sorted(wanted):
        return
    GroupRole.objects.of(organization).delete()
    GroupRole.objects.bulk_create(
        GroupRole(organization=organization, group=group, role=role) for group, role in sorted(wanted)
    )
    record(
        organization=organization,
        actor=actor,
        action="single_sign_on.roles",
        target_kind="organization",
        target_ref=organization.slug,
        before={"roles": [list(pair) for pair in before]},
        after={"roles": [list(pair) for pair in sorted(wanted)]},
    )


@transaction.atomic
def operator_of_claims(
    *, known: Operator | None, email: str, is_verified: bool, name: str, groups: Collection[str]
) -> Operator:
    """Who signs in, with the roles that the groups of now give. Raises UnverifiedAddress, NoRole.

    `known` is who signed in with this identity before. Somebody new is found by the address, only when the provider
    vouches for it, or made when a group gives a role. Where an organisation maps groups, they alone decide; elsewhere
    the roles stay as given by hand.
    """
    operator = known
    if operator is None:
        if not email or not is_verified:
            raise UnverifiedAddress
        operator = Operator.objects.filter(email__iexact=email).first()
    roles: dict[int, set[str]] = {}
    for row in GroupRole.objects.filter(organization__in=Organization.objects.all()):
        held = roles.setdefault(row.organization_id, set())
        if row.group in groups:
            held.add(row.role)
    if operator is None:
        if not any(roles.values()):
            raise NoRole
        operator = Operator.objects.create_user(email.lower(), None, name=name)
    if not operator.is_active:
        raise NoRole("Your access was disabled here. Ask an owner.")
    for organization in Organization.objects.filter(pk__in=roles):
        _follow_groups(organization, operator, roles[organization.pk])
    if not Grant.objects.filter(operator=operator).exists():
        raise NoRole
    return operator


def _follow_groups(organization: Organization, operator: Operator, wanted: set[str]) -> None:
    """Roles as the groups say; the last owner keeps that role, and the owner of the sealed way in keeps all."""
    provider = identity_provider()
    if provider is not None and provider.break_glass_id == operator.pk:
        return
    owners = Grant.objects.of(organization).filter(role=Role.OWNER, operator__is_active=True)
    if set(owners.values_list("operator_id", flat=True)) == {operator.pk}:
        wanted = wanted | {Role.OWNER.value}
    set_roles(organization=organization, operator=operator, roles=wanted, actor=Actor.system())


def note_break_glass(*, operator: Operator, actor: Actor) -> None:
    """Everybody hears of a sign-in by the sealed way in: one alert and one audit row in each organisation."""
    for organization in Organization.objects.filter(
        pk__in=Grant.objects.filter(operator=operator).values("organization")
    ):
        with transaction.atomic():
            raise_alert(
                organization=organization,
                kind="break_glass",
                severity="error",
                title="The sealed way in was used",
                detail=f"{operator} signed in with a password while passwords are off.",
            )
            record(
                organization=organization,
                actor=actor,
                action="operator.break_glass",
                target_kind="operator",
                target_ref=str(operator.pk),
                target_name=str(operator),
                target_email=operator.email,
            )
