"""How layers below `audit` write audit rows: `audit` registers its writer here, everyone below calls `record`.

The dataclass `Actor` lives here for the same reason; `apps.audit.services` re-exports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

_writer: Callable[..., Any] | None = None


class OperatorLike(Protocol):
    """What an actor needs of `operators.Operator`, which stands above this layer."""

    @property
    def pk(self) -> Any: ...
    @property
    def email(self) -> str: ...
    @property
    def name(self) -> str: ...


class TokenLike(Protocol):
    """What an actor needs of `operators.ApiToken`."""

    @property
    def pk(self) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def operator(self) -> OperatorLike: ...


@dataclass(frozen=True)
class Actor:
    """Who did it: `kind` is one of operator, cli, token, system, scheduler, inbound; `ref` its key within the kind."""

    kind: str
    ref: str
    name: str
    email: str = ""
    ip_address: str | None = None

    @classmethod
    def operator(cls, operator: OperatorLike, ip: str | None = None) -> Actor:
        """A person who signed in."""
        return cls("operator", str(operator.pk), operator.name or operator.email, operator.email, ip)

    @classmethod
    def token(cls, token: TokenLike, ip: str | None = None) -> Actor:
        """A script with a bearer token; the name says whose it is."""
        owner = token.operator
        return cls("token", str(token.pk), f"{owner.name or owner.email} (token {token.name})", owner.email, ip)

    @classmethod
    def cli(cls, os_user: str, operator: OperatorLike | None = None) -> Actor:
        """The command line as `cli:<os user>`, with the address of `--as` where one was given."""
        ref = f"cli:{os_user}"
        if operator is None:
            return cls("cli", ref, ref)
        return cls("cli", ref, f"{ref} as {operator.name or operator.email}", operator.email)

    @classmethod
    def system(cls, name: str = "AUM") -> Actor:
        """AUM itself."""
        return cls("system", "system", name)

    @classmethod
    def scheduler(cls) -> Actor:
        """A schedule that came due."""
        return cls("scheduler", "scheduler", "Scheduler")

    @classmethod
    def inbound(cls, source: str, ref: str, name: str, email: str = "") -> Actor:
        """Somebody outside who asked through `source`: jira, slack, teams, intranet."""
        return cls("inbound", f"{source}:{ref}", name, email)


def register(writer: Callable[..., Any]) -> None:
    """Make `writer` the function behind `record`; `AuditConfig.ready` does it once."""
    global _writer
    _writer = writer


def record(**fields: Any) -> Any:
    """Write one audit row inside the caller's transaction; the fields are those of `audit.services.record`.

    Raises RuntimeError when no writer is registered: a change without its audit row must not happen.
    """
    if _writer is None:
        raise RuntimeError("No audit writer is registered: is apps.audit in INSTALLED_APPS?")
    return _writer(**fields)
