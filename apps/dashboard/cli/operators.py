"""`operator …` and `token …`."""

from __future__ import annotations

from django.utils import timezone

from apps.dashboard.cli.shared import DONE, Cli, Subcommands, UsageError, command, group, operator_named
from apps.operators.models import ApiToken, Grant, Operator, Role
from apps.operators.permissions import Permission, Scope
from apps.operators.selectors import has_operators, permissions_of
from apps.operators.services import create_operator, create_token, disable_operator, grant_role, revoke_token
from apps.organizations.models import Organization
from apps.organizations.selectors import organization_by_slug
from aum.common.errors import InvalidInput, Missing, NotAllowed


def add(commands: Subcommands) -> None:
    below = group(commands, "operator", "people who sign in to AUM")
    create = command(below, "create", create_one, "make an operator, with a role where an organisation is connected")
    create.add_argument("--email", required=True)
    create.add_argument("--name", default="")
    create.add_argument("--role", choices=Role.values)
    create.add_argument("--password-file", required=True, metavar="FILE", help="“-” reads standard input")
    give = command(below, "grant", grant, "give an operator a role in an organisation", writes=True)
    give.add_argument("--email", required=True)
    give.add_argument("--role", required=True, choices=Role.values)
    command(below, "list", show_all, "list operators and their roles", organization=False)
    disable = command(
        below, "disable", disable_one, "end sign-in, sessions and tokens of an operator", organization=False
    )
    disable.add_argument("--email", required=True)

    below = group(commands, "token", "API tokens")
    make = command(below, "create", create_a_token, "print a new token, once", writes=True)
    make.add_argument("--operator", required=True, metavar="EMAIL")
    make.add_argument("--scopes", required=True, help=f"separated by commas, from {', '.join(Scope)}")
    make.add_argument("--name", default="")
    command(below, "list", list_tokens, "list tokens, never their secrets")
    revoke = command(below, "revoke", revoke_one, "end a token at once", writes=True)
    revoke.add_argument("--token", required=True, type=int, metavar="ID")


def create_one(cli: Cli) -> int:
    """Before any organisation exists, an owner is the first one: whoever connects organisations (`is_staff`)."""
    given = cli.arguments
    organization = _where(cli) if given.role else None
    if given.role and organization is None and given.role != Role.OWNER:
        raise UsageError("No organisation is connected yet, so only an owner can be made.")
    is_first = not has_operators()
    operator = create_operator(email=given.email, password=cli.secret(given.password_file), name=given.name)
    if organization is not None:
        grant_role(organization=organization, operator=operator, role=given.role, actor=cli.actor, is_founding=is_first)
    elif given.role == Role.OWNER:
        Operator.objects.filter(pk=operator.pk).update(is_staff=True)
    where = f" in {organization.slug}" if organization else ""
    cli.show(
        {
            "id": operator.pk,
            "email": operator.email,
            "role": given.role,
            "organization": organization and organization.slug,
        },
        [f"{operator.email} is made{f', {given.role}{where}' if given.role else ''}."],
    )
    return DONE


def _where(cli: Cli) -> Organization | None:
    if cli.arguments.organization:
        return organization_by_slug(cli.arguments.organization)
    return cli.organization() if Organization.objects.exists() else None


def grant(cli: Cli) -> int:
    organization = cli.organization()
    if cli.operator is not None:
        cli.demand(organization, Permission.OWN)
    row = grant_role(
        organization=organization,
        operator=operator_named(cli.arguments.email),
        role=cli.arguments.role,
        actor=cli.actor,
    )
    cli.show(
        {"email": row.operator.email, "role": row.role, "granted_at": row.granted_at},
        [f"{row.operator.email} is {row.role} in {organization.slug}."],
    )
    return DONE


def show_all(cli: Cli) -> int:
    roles: dict[int, list[dict[str, str]]] = {}
    for row in Grant.objects.select_related("organization").order_by("organization__slug", "role"):
        roles.setdefault(row.operator_id, []).append({"organization": row.organization.slug, "role": row.role})
    data = [
        {
            "id": operator.pk,
            "email": operator.email,
            "name": operator.name,
            "is_active": operator.is_active,
            "roles": roles.get(operator.pk, []),
        }
        for operator in Operator.objects.order_by("email")
    ]
    cli.show(
        data,
        (
            f"{row['email']}  {'' if row['is_active'] else '(disabled)  '}"
            + ", ".join(f"{role['role']} in {role['organization']}" for role in roles.get(int(str(row["id"])), []))
            for row in data
        ),
    )
    return DONE


def disable_one(cli: Cli) -> int:
    operator = operator_named(cli.arguments.email)
    disable_operator(operator=operator, actor=cli.actor)
    cli.show({"email": operator.email, "is_active": False}, [f"{operator.email} can no longer sign in."])
    return DONE


# --- tokens -----------------------------------------------------------------------------------------------------------


def create_a_token(cli: Cli) -> int:
    """A token that approves is made by its own person only: the command line never approves by itself."""
    organization = cli.organization(Permission.TOKENS) if cli.operator is None else cli.organization()
    operator = operator_named(cli.arguments.operator)
    if not permissions_of(operator, organization):
        raise InvalidInput(fields={"operator": [f"{operator.email} has no role in {organization.slug}."]})
    scopes = cli.arguments.scopes.split(",")
    if cli.operator is not None and cli.operator != operator:
        raise NotAllowed("Tokens are made for oneself: --as and --operator differ.")
    if Scope.APPROVE in (scope.strip() for scope in scopes) and cli.operator != operator:
        raise NotAllowed(f"A token that approves is made by its own person: --as {operator.email}.")
    row, secret = create_token(
        organization=organization, operator=operator, scopes=scopes, actor=cli.actor, name=cli.arguments.name
    )
    cli.show(
        {
            "id": row.pk,
            "token": secret,
            "name": row.name,
            "scopes": row.scopes,
            "organization": organization.slug,
            "expires_at": row.expires_at,
        },
        [secret],
    )
    if not cli.is_json:
        cli.tell(f"Shown once. Token {row.pk} of {operator.email}, until {row.expires_at:%Y-%m-%d}.")
    return DONE


def list_tokens(cli: Cli) -> int:
    now = timezone.now()
    rows = ApiToken.objects.of(cli.organization()).select_related("operator").order_by("pk")
    data = [
        {
            "id": row.pk,
            "name": row.name,
            "prefix": row.prefix,
            "operator": row.operator.email,
            "scopes": row.scopes,
            "expires_at": row.expires_at,
            "last_used_at": row.last_used_at,
            "is_valid": row.revoked_at is None and row.expires_at > now and row.operator.is_active,
        }
        for row in rows
    ]
    cli.show(
        data,
        (
            f"{row['id']}  {row['prefix']}…  {row['operator']}  {','.join(row['scopes'])}  "
            f"until {row['expires_at']:%Y-%m-%d}{'' if row['is_valid'] else '  (ended)'}  {row['name']}"
            for row in data
        ),
    )
    return DONE


def revoke_one(cli: Cli) -> int:
    organization = cli.organization(Permission.TOKENS)
    token = ApiToken.objects.of(organization).filter(pk=cli.arguments.token).first()
    if token is None:
        raise Missing("There is no such token.")
    if cli.operator not in (None, token.operator):
        cli.demand(organization, Permission.OWN)
    revoke_token(organization=organization, token_id=token.pk, actor=cli.actor)
    cli.show({"id": token.pk, "revoked": True}, [f"Token {token.pk} is revoked."])
    return DONE
