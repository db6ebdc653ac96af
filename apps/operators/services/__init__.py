"""Writes about operators: people, roles, invitations, tokens."""

from apps.operators.services.invitations import accept_invitation, invite, revoke_invitation
from apps.operators.services.people import (
    LinkUsed,
    create_first_owner,
    create_operator,
    disable_operator,
    enable_operator,
    make_first_owner_link,
)
from apps.operators.services.roles import (
    LastOwner,
    OneOperatorRefused,
    choose_one_operator,
    grant_role,
    require_second_factor,
    revoke_role,
    set_roles,
)
from apps.operators.services.single_sign_on import (
    NoRole,
    ProviderInput,
    UnverifiedAddress,
    may_change_provider,
    note_break_glass,
    operator_of_claims,
    save_provider,
    set_group_roles,
)
from apps.operators.services.tokens import DEFAULT_TOKEN_DAYS, MAX_TOKEN_DAYS, create_token, revoke_token

__all__ = [
    "DEFAULT_TOKEN_DAYS",
    "MAX_TOKEN_DAYS",
    "LastOwner",
    "LinkUsed",
    "NoRole",
    "OneOperatorRefused",
    "ProviderInput",
    "UnverifiedAddress",
    "accept_invitation",
    "choose_one_operator",
    "create_first_owner",
    "create_operator",
    "create_token",
    "disable_operator",
    "enable_operator",
    "grant_role",
    "invite",
    "make_first_owner_link",
    "may_change_provider",
    "note_break_glass",
    "operator_of_claims",
    "require_second_factor",
    "revoke_invitation",
    "revoke_role",
    "revoke_token",
    "save_provider",
    "set_group_roles",
    "set_roles",
]
