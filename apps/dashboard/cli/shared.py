"""What all commands share: output, who acts, which organisation, which operation, secrets from files."""

from __future__ import annotations

import argparse
import getpass
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder

from apps.operations.models import Operation
from apps.operations.selectors import operation_by_number
from apps.operators.models import Operator
from apps.operators.permissions import ROLE_PERMISSIONS, Permission
from apps.operators.selectors import permissions_of
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.selectors import organization_by_slug
from apps.rules.models import CleanupRule
from apps.rules.selectors import rule_by_id, rules
from aum.common.errors import DomainError, Missing, NotAllowed

DONE, FAILED, USAGE, HELD, PARTIAL = range(5)
Subcommands = Any  # argparse gives its class no public name
Handler = Callable[["Cli"], int]


class UsageError(Exception):
    """The command was called in a way that cannot work; exit code 2."""


@dataclass
class Cli:
    """One call of the command line."""

    arguments: argparse.Namespace
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO

    # --- output ---

    @property
    def is_json(self) -> bool:
        return bool(getattr(self.arguments, "json", False))

    def show(self, data: Any, lines: Iterable[str]) -> None:
        """`data` as JSON with --json, else `lines` for people."""
        if self.is_json:
            self.stdout.write(json.dumps(data, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2) + "\n")
            return
        for line in lines:
            self.stdout.write(f"{line}\n")

    def tell(self, line: str) -> None:
        """Progress and advice, beside the result."""
        self.stderr.write(f"{line}\n")
        self.stderr.flush()

    def refuse(self, error: DomainError) -> None:
        if self.is_json:
            self.show({"code": error.code, "detail": error.detail, "fields": error.fields}, ())
        self.tell(f"{error.detail} [{error.code}]")
        for name, texts in error.fields.items():
            for text in texts:
                self.tell(f"  {name}: {text}")

    # --- who, where, what ---

    @property
    def operator(self) -> Operator | None:
        """The operator of --as. Raises Missing."""
        email = getattr(self.arguments, "as_email", None)
        return operator_named(email) if email else None

    @property
    def actor(self) -> Actor:
        return Actor.cli(os_user(), self.operator)

    def organization(self, needed: Permission | None = None) -> Organization:
        """The organisation of --organization, or the only one; `needed` must be allowed to who acts.

        Raises Missing, NotAllowed, UsageError.
        """
        slug = getattr(self.arguments, "organization", None)
        if slug:
            organization = organization_by_slug(slug)
        else:
            found = list(Organization.objects.all()[:2])
            if not found:
                raise Missing("No organisation is connected yet: script/aum organization add")
            if len(found) > 1:
                raise UsageError("Several organisations are connected: name one with --organization.")
            organization = found[0]
        if needed is not None:
            self.demand(organization, needed)
        return organization

    def demand(self, organization: Organization, needed: Permission) -> None:
        """Raises NotAllowed unless the operator of --as, or else the role AUM_CLI_ROLE, holds the permission."""
        operator = self.operator
        if operator is not None:
            if needed not in permissions_of(operator, organization):
                raise NotAllowed(f"{operator.email} may not do this in {organization.slug}: it needs “{needed}”.")
            return
        if needed == Permission.APPROVE:
            raise NotAllowed("Approving needs a person: --as EMAIL.")
        role = settings.AUM_CLI_ROLE
        if needed not in ROLE_PERMISSIONS.get(role, frozenset()):
            raise NotAllowed(f"The role of the command line, {role}, does not include “{needed}”: use --as EMAIL.")

    def operation(self, needed: Permission | None = None) -> Operation:
        """The operation of --operation, by its number as pages show it."""
        text = str(self.arguments.operation).lstrip("#")
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise UsageError("Give --operation as the number of the run, such as 42.")
        return operation_by_number(self.organization(needed), int(text))

    def rule(self, organization: Organization) -> CleanupRule:
        """The rule of --rule, by id or name. Raises Missing."""
        text = self.arguments.rule
        if text.isascii() and text.isdecimal() and len(text) < 19:
            return rule_by_id(organization, int(text))
        found = rules(organization).filter(name=text).first()
        if found is None:
            raise Missing(f"There is no rule called {text}.")
        return found

    def secret(self, path: str) -> str:
        """The secret in a file, or the next line of standard input for `-`. Raises UsageError."""
        if path == "-":
            return self.stdin.readline().rstrip("\n")
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from error

    def text(self, path: str) -> str:
        """The whole file, or all of standard input for `-`. Raises UsageError."""
        if path == "-":
            return self.stdin.read()
        try:
            return Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from error


def os_user() -> str:
    """The name of the account that runs the command; its number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def operator_named(email: str) -> Operator:
    """An active operator. Raises Missing."""
    operator = Operator.objects.filter(email__iexact=email.strip(), is_active=True).first()
    if operator is None:
        raise Missing(f"There is no active operator {email}.")
    return operator


# --- parsers ----------------------------------------------------------------------------------------------------------


def common() -> argparse.ArgumentParser:
    """Options of every command."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def command(
    commands: Subcommands, name: str, run: Handler, help_text: str, *, writes: bool = False, organization: bool = True
) -> argparse.ArgumentParser:
    """A command with the common options; `writes` adds --as."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, parents=[common()], help=help_text, description=help_text
    )
    if organization:
        parser.add_argument("--organization", metavar="SLUG", help="not needed where only one is connected")
    if writes:
        parser.add_argument("--as", dest="as_email", metavar="EMAIL", help="act with the roles of this operator")
    parser.set_defaults(handler=run)
    return parser


def group(commands: Subcommands, name: str, help_text: str) -> Subcommands:
    """Commands below a word, such as `rules export`."""
    parser = commands.add_parser(name, help=help_text, description=help_text)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
