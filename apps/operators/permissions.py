"""The one permission table: what each role may do, and what each token scope may do. docs/people.md explains roles.

Pages, fragments, REST endpoints and commands name one `Permission` each; a test walks all of them for every role.
"""

from __future__ import annotations

from enum import StrEnum

from apps.operators.models import Role


class Permission(StrEnum):
    """Everything that can be allowed. The value stands in refusals."""

    VIEW = "view"  # every page and list: people, rules, runs, audit, exemptions, approvals
    PREVIEW = "preview"  # plans that change nothing
    ACT = "act"  # manual actions on people, within the brakes; retry, undo, pause, cancel of runs
    EXEMPT = "exempt"  # exemptions and snoozes
    SYNC = "sync"  # start a sync
    EXPORT = "export"  # download lists
    RULES = "rules"  # create, edit, pause, delete rules
    RUN_RULES = "run_rules"  # run a rule now
    APPROVE = "approve"  # approve or reject held plans
    SETTINGS = "settings"  # general settings, safeguards
    KILL_SWITCH = "kill_switch"  # stop everything; releasing it needs OWN
    TOKENS = "tokens"  # API tokens of one's own
    OWN = "own"  # credentials, people and roles, retention, release of the kill switch


_VIEWER = frozenset({Permission.VIEW, Permission.EXPORT})
_HELPDESK = _VIEWER | {Permission.PREVIEW, Permission.ACT, Permission.EXEMPT, Permission.SYNC, Permission.KILL_SWITCH}
_ADMIN = _HELPDESK | {Permission.RULES, Permission.RUN_RULES, Permission.SETTINGS, Permission.TOKENS}

ROLE_PERMISSIONS: dict[str, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.HELPDESK: _HELPDESK,
    Role.APPROVER: _VIEWER | {Permission.APPROVE, Permission.KILL_SWITCH},
    Role.ADMIN: _ADMIN,
    # An owner also approves, so that two owners suffice; nobody approves a plan of their own.
    Role.OWNER: _ADMIN | {Permission.OWN, Permission.APPROVE},
}


class Scope(StrEnum):
    """What a bearer token may do, at most; its operator's roles still bind it."""

    READ = "read"
    PREVIEW = "preview"
    RUN = "run"
    APPROVE = "approve"
    ADMIN = "admin"


SCOPE_PERMISSIONS: dict[str, frozenset[Permission]] = {
    Scope.READ: frozenset({Permission.VIEW, Permission.EXPORT}),
    Scope.PREVIEW: frozenset({Permission.VIEW, Permission.PREVIEW, Permission.SYNC}),
    Scope.RUN: frozenset(
        {
            Permission.VIEW,
            Permission.PREVIEW,
            Permission.ACT,
            Permission.RUN_RULES,
            Permission.SYNC,
            Permission.KILL_SWITCH,
        }
    ),
    Scope.APPROVE: frozenset({Permission.VIEW, Permission.APPROVE}),
    # Never credentials, people, retention: no scope carries OWN.
    Scope.ADMIN: frozenset(
        {
            Permission.VIEW,
            Permission.EXPORT,
            Permission.RULES,
            Permission.EXEMPT,
            Permission.SETTINGS,
            Permission.SYNC,
            Permission.PREVIEW,
        }
    ),
}


def permissions_of_roles(roles: frozenset[str]) -> frozenset[Permission]:
    """The union of what `roles` may do."""
    return frozenset().union(*(ROLE_PERMISSIONS[role] for role in roles)) if roles else frozenset()


def permissions_of_scopes(scopes: list[str]) -> frozenset[Permission]:
    """The union of what `scopes` may do; unknown ones allow nothing."""
    return (
        frozenset().union(*(SCOPE_PERMISSIONS.get(scope, frozenset()) for scope in scopes)) if scopes else frozenset()
    )
