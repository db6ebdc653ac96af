"""`organization …` and `kill-switch …`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from apps.dashboard.cli.shared import DONE, FAILED, Cli, Subcommands, command, group
from apps.operators.context import may_connect
from apps.operators.models import Operator, Role
from apps.operators.permissions import Permission
from apps.operators.services import choose_one_operator, grant_role
from apps.organizations.models import Organization
from apps.organizations.selectors import connection_state
from apps.organizations.services import (
    ConnectionInput,
    check_connection,
    connect_organization,
    release_kill_switch,
    turn_kill_switch_on,
    update_settings,
)
from apps.organizations.services.connections import ConnectionRefused
from aum.common.errors import NotAllowed


def add(commands: Subcommands) -> None:
    below = group(commands, "organization", "Atlassian organisations")
    connect = command(below, "add", connect_one, "check credentials and connect", writes=True, organization=False)
    connect.add_argument("--slug", required=True, help="short name in addresses")
    connect.add_argument("--name", required=True)
    connect.add_argument("--org-id", required=True)
    connect.add_argument("--site-url", required=True)
    connect.add_argument("--admin-email", required=True)
    connect.add_argument("--api-token-file", required=True, metavar="FILE")
    connect.add_argument("--api-key-file", required=True, metavar="FILE")
    connect.add_argument("--api-url", default="", help="another address of the API, from the allow-list")
    connect.add_argument("--timezone", default="UTC")
    connect.add_argument("--one-operator", action="store_true", help="approvals by typing the count and the password")
    command(below, "check", check, "try the saved credentials, one capability at a time", writes=True)
    command(below, "list", show_all, "list organisations and their connection", organization=False)

    below = group(commands, "kill-switch", "stop every write to Atlassian, or let writes go on")
    for name, run, words in (("on", switch_on, "stop every write"), ("off", switch_off, "let writes go on")):
        switch = command(below, name, run, words, writes=True)
        switch.add_argument("--reason", required=True)


def _checks(results: Iterable[Any]) -> list[dict[str, Any]]:
    return [
        {"capability": r.capability, "ok": r.ok, "code": r.code, "detail": r.detail, "value": r.value} for r in results
    ]


def _check_lines(checks: Iterable[dict[str, Any]]) -> list[str]:
    return [f"{'ok  ' if check['ok'] else 'FAIL'}  {check['capability']}: {check['detail']}" for check in checks]


def connect_one(cli: Cli) -> int:
    """Its owner is the operator of --as, else those who were made owners before any organisation existed."""
    given = cli.arguments
    owners = [cli.operator] if cli.operator else list(Operator.objects.filter(is_staff=True, is_active=True))
    if cli.operator is not None and not may_connect(cli.operator):
        raise NotAllowed("Only an owner may connect a further organisation.")
    values = ConnectionInput(
        email=given.admin_email,
        org_id=given.org_id,
        site_url=given.site_url,
        api_token=cli.secret(given.api_token_file),
        api_key=cli.secret(given.api_key_file),
        api_url=given.api_url,
        name=given.name,
        slug=given.slug,
    )
    try:
        organization, results = connect_organization(values=values, actor=cli.actor)
    except ConnectionRefused as error:
        for line in _check_lines(_checks(error.results)):
            cli.tell(line)
        raise
    for owner in owners:
        grant_role(organization=organization, operator=owner, role=Role.OWNER, actor=cli.actor, is_founding=True)
    if given.one_operator and owners:
        choose_one_operator(organization=organization, operator=owners[0], actor=cli.actor)
    if given.timezone != organization.timezone:
        update_settings(organization=organization, changes={"timezone": given.timezone}, actor=cli.actor)
    checks = _checks(results)
    cli.show(
        {"slug": organization.slug, "name": organization.name, "owners": [o.email for o in owners], "checks": checks},
        [*_check_lines(checks), f"{organization.name} is connected as {organization.slug}."],
    )
    return DONE


def check(cli: Cli) -> int:
    checks = _checks(check_connection(organization=cli.organization(Permission.SETTINGS)))
    cli.show(checks, _check_lines(checks))
    return DONE if all(found["ok"] for found in checks) else FAILED


def show_all(cli: Cli) -> int:
    data = []
    for organization in Organization.objects.all():
        state = connection_state(organization)
        data.append(
            {
                "slug": organization.slug,
                "name": organization.name,
                "org_id": organization.org_id,
                "is_demo": organization.is_demo,
                "is_from_file": organization.is_from_file,
                "is_killed": organization.is_killed,
                "connection": {"code": state.code, "title": state.title, "detail": state.detail},
            }
        )
    cli.show(
        data,
        (
            f"{row['slug']}  {row['name']}  {row['connection']['title']}"  # type: ignore[index]
            + ("  KILL SWITCH ON" if row["is_killed"] else "")
            for row in data
        ),
    )
    return DONE


def switch_on(cli: Cli) -> int:
    organization = cli.organization(Permission.KILL_SWITCH)
    turn_kill_switch_on(organization=organization, reason=cli.arguments.reason, actor=cli.actor)
    return _switched(cli, organization, f"Nothing is written to Atlassian for {organization.slug} any more.")


def switch_off(cli: Cli) -> int:
    organization = cli.organization(Permission.OWN)
    release_kill_switch(organization=organization, reason=cli.arguments.reason, actor=cli.actor)
    return _switched(cli, organization, f"Writes for {organization.slug} go on.")


def _switched(cli: Cli, organization: Organization, sentence: str) -> int:
    cli.show({"slug": organization.slug, "is_killed": organization.is_killed}, [sentence])
    return DONE
