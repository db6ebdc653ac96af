"""The registry of per-account actions: what each needs, takes or gives, how it is called, verified and undone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from aum.common.errors import InvalidInput

if TYPE_CHECKING:
    from aum.atlassian.client import AtlassianClient
    from aum.atlassian.schemas import WriteAnswer


@dataclass(frozen=True)
class Fresh:
    """One account as Atlassian gives it at this moment, over all its directories.

    `directories`: directory id → membership status (active, suspended, no_membership or a word AUM does not know).
    `groups`: (directory id, group id) pairs; None where they were not given. `roles`: (role, resource) of direct role
    assignments; None where they were not read.
    """

    account_id: str
    exists: bool
    status: str | None = None
    account_status: str | None = None
    claim_status: str | None = None
    directories: Mapping[str, str] = field(default_factory=dict)
    groups: frozenset[tuple[str, str]] | None = None
    roles: frozenset[tuple[str, str]] | None = None

    def as_before(self) -> dict[str, Any]:
        """What undo needs, as JSON."""
        data: dict[str, Any] = {
            "status": self.status,
            "account_status": self.account_status,
            "directories": dict(self.directories),
        }
        if self.groups is not None:
            data["groups"] = sorted([list(pair) for pair in self.groups])
        if self.roles is not None:
            data["roles"] = sorted([list(pair) for pair in self.roles])
        return data


@dataclass(frozen=True)
class Target:
    """An item's subject and target as the calls need them."""

    account_id: str
    directory_id: str = ""
    group_id: str = ""
    # remove_product_access and grant_product_access: [{"kind": "group", "directory", "group"} | {"kind": "role", …}]
    paths: tuple[Mapping[str, str], ...] = ()


class Action(ABC):
    """One thing that can be done to an account. Instances are stateless; `REGISTRY` holds one of each."""

    name: ClassVar[str]
    label: ClassVar[str]
    done_word: ClassVar[str]
    effect: ClassVar[str]
    way_back: ClassVar[str]
    takes_access: ClassVar[bool]
    needs_managed: ClassVar[bool] = False
    needs_unmanaged: ClassVar[bool] = False
    inverse: ClassVar[str | None] = None
    # Changes who administers something: by an owner's hand alone, with a second person (P15).
    is_administrative: ClassVar[bool] = False
    # Place in the fixed order (DECISIONS.md §14).
    rank: ClassVar[int]
    # Atlassian answers a repeat of the call without a second effect, so a lost answer may be followed by another call.
    reads_roles: ClassVar[bool] = False

    @abstractmethod
    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        """Whether the account is already in the state that this action leads to; None when that cannot be told."""

    @abstractmethod
    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        """Make the one call. Raises `aum.atlassian.errors`."""

    def target_gone(self, target: Target, fresh: Fresh) -> bool:
        """True when the subject or target no longer exists, so that there is nothing to do."""
        return not fresh.exists


def _membership(target: Target, fresh: Fresh) -> str:
    return fresh.directories.get(target.directory_id, "no_membership")


class Suspend(Action):
    name, label, done_word, rank = "suspend", "Suspend", "Suspended", 60
    effect = "Blocks access to everything in the organisation. The account, its groups and its roles stay."
    way_back = "Restore gives everything back."
    takes_access, inverse = True, "restore"

    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        return _membership(target, fresh) == "suspended"

    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        return client.suspend(target.account_id, target.directory_id)

    def target_gone(self, target: Target, fresh: Fresh) -> bool:
        return not fresh.exists or _membership(target, fresh) == "no_membership"


class Restore(Suspend):
    name, label, done_word, rank = "restore", "Restore", "Restored", 30
    effect = "Gives the account back its access with its former groups and roles. Its licences are billed again."
    way_back = "Suspend takes it away again."
    takes_access, inverse = False, "suspend"

    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        return _membership(target, fresh) == "active"

    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        return client.restore(target.account_id, target.directory_id)


class Deactivate(Action):
    name, label, done_word, rank = "deactivate", "Deactivate", "Deactivated", 70
    effect = "Disables the managed account everywhere, also in other organisations."
    way_back = "Activate enables it again."
    takes_access, needs_managed, inverse = True, True, "activate"

    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        return None if fresh.account_status is None else fresh.account_status != "active"

    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        return client.deactivate(target.account_id)


class Activate(Action):
    name, label, done_word, rank = "activate", "Activate", "Activated", 30
    effect = "Enables the managed account again. Its licences are billed again."
    way_back = "Deactivate disables it again."
    takes_access, needs_managed, inverse = False, True, "deactivate"

    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        return None if fresh.account_status is None else fresh.account_status == "active"

    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        return client.activate(target.account_id)


class Delete(Action):
    name, label, done_word, rank = "delete", "Delete", "Deletion requested", 90
    effect = "Deletes the managed Atlassian account for good after 14 days."
    way_back = "Only within Atlassian's 14 days can the deletion be cancelled."
    takes_access, needs_managed, inverse = True, True, "cancel_delete"

    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        return None if fresh.status is None else fresh.status == "for_deletion" or fresh.account_status == "closed"

    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        return client.delete_account(target.account_id)


class CancelDelete(Action):
    name, label, done_word, rank = "cancel_delete", "Cancel deletion", "Deletion cancelled", 10
    effect = "Keeps the account and activates it."
    way_back = "It can be deleted again."
    takes_access, needs_managed, inverse = False, True, "delete"

    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        return None if fresh.status is None else fresh.status != "for_deletion"

    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        return client.cancel_delete(target.account_id)


class RemoveFromDirectory(Action):
    name, label, done_word, rank = "remove_from_directory", "Remove from directory", "Removed from directory", 80
    effect = "Takes the person out of the directory; groups and roles are lost."
    way_back = "Cannot be undone: the person has to be invited anew."
    # A managed account is deleted instead: outside every directory it would stay, and stay out of sight.
    takes_access, needs_unmanaged = True, True

    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        return _membership(target, fresh) == "no_membership"

    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        return client.remove_from_directory(target.account_id, target.directory_id)


class Invite(Action):
    """A new person by e-mail, with groups and products: 25 to a call, so `services.invites` makes and reads them."""

    name, label, done_word, rank = "invite", "Invite", "Invited", 5
    effect = "Invites the address to the organisation and gives the chosen groups and products. Products take licences."
    way_back = "Undo takes the invitation back: whoever has not used it since is removed from the directory again."
    takes_access, inverse = False, "cancel_invite"

    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        """In a directory, with every group and product of the invitation."""
        if not fresh.exists or "active" not in fresh.directories.values():
            return False
        return all(_holds_path(path, fresh) for path in target.paths)

    def target_gone(self, target: Target, fresh: Fresh) -> bool:
        return False

    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        raise TypeError("Invitations are sent 25 at a time: use services.invites.")


class CancelInvite(RemoveFromDirectory):
    """The undo of an invitation: out of the directories that it put the person into."""

    name, label, done_word, rank = "cancel_invite", "Take back invitation", "Invitation taken back", 81
    effect = "Takes the invited person out of the directory again; groups and roles of the invitation are lost."
    way_back = "Cannot be undone: the person has to be invited anew."
    # Unlike removing somebody by choice, this leaves a managed account as it was before the invitation.
    needs_unmanaged = False


class AddToGroup(Action):
    name, label, done_word, rank = "add_to_group", "Add user to group", "Added to group", 20
    effect = "Adds the person to the group and gives what the group grants."
    way_back = "Remove from the group takes it away again."
    takes_access, inverse = False, "remove_from_group"

    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        return None if fresh.groups is None else (target.directory_id, target.group_id) in fresh.groups

    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        return client.add_to_group(target.account_id, target.group_id, target.directory_id)


class RemoveFromGroup(AddToGroup):
    name, label, done_word, rank = "remove_from_group", "Remove user from group", "Removed from group", 40
    effect = "Takes the person out of the group and away what only the group grants."
    way_back = "Adding to the group gives it back."
    takes_access, inverse = True, "add_to_group"

    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        added = super().is_so(target, fresh)
        return None if added is None else not added

    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        return client.remove_from_group(target.account_id, target.group_id, target.directory_id)


class AddToAdminGroup(AddToGroup):
    name, label, done_word, rank = "add_to_admin_group", "Add user to admin group", "Added to admin group", 21
    effect = "Adds the person to the group and gives the administration that the group grants."
    way_back = "Remove from the admin group takes it away again."
    inverse, is_administrative = "remove_from_admin_group", True


class RemoveFromAdminGroup(RemoveFromGroup):
    name, label, done_word, rank = (
        "remove_from_admin_group",
        "Remove user from admin group",
        "Removed from admin group",
        41,
    )
    effect = "Takes the person out of the group and away the administration that only the group grants."
    way_back = "Undo adds them to the group again; that too needs a second person."
    inverse, is_administrative = "add_to_admin_group", True


class RemoveProductAccess(Action):
    """Leaves every path that gives one product on one site: groups, then direct roles; one call a path."""

    name, label, done_word, rank = "remove_product_access", "Remove product access", "Product access removed", 50
    effect = "Takes the person out of the groups and roles that give the product. The account stays enabled."
    way_back = "Undo gives back exactly those groups and roles."
    takes_access, inverse, reads_roles = True, "grant_product_access", True

    def path_is_so(self, path: Mapping[str, str], fresh: Fresh) -> bool | None:
        """Whether this one path is already in the wanted state."""
        held = _holds_path(path, fresh)
        return None if held is None else not held

    def is_so(self, target: Target, fresh: Fresh) -> bool | None:
        states = [self.path_is_so(path, fresh) for path in target.paths]
        return None if None in states else all(states)

    def next_path(self, target: Target, fresh: Fresh) -> Mapping[str, str] | None:
        """The first path that is not yet in the wanted state."""
        return next((path for path in target.paths if self.path_is_so(path, fresh) is False), None)

    def call_path(self, client: AtlassianClient, target: Target, path: Mapping[str, str]) -> WriteAnswer:
        if path["kind"] == "group":
            return client.remove_from_group(target.account_id, path["group"], path["directory"])
        return client.revoke_role(target.account_id, path["role"], path["resource"])

    def call(self, client: AtlassianClient, target: Target) -> WriteAnswer:
        raise TypeError("Product access is changed path by path: use call_path.")


class GrantProductAccess(RemoveProductAccess):
    name, label, done_word, rank = "grant_product_access", "Give product access", "Product access given", 35
    effect = "Puts the person back into the groups and roles that gave the product."
    way_back = "Remove product access takes it away again."
    takes_access, inverse = False, "remove_product_access"

    def path_is_so(self, path: Mapping[str, str], fresh: Fresh) -> bool | None:
        return _holds_path(path, fresh)

    def call_path(self, client: AtlassianClient, target: Target, path: Mapping[str, str]) -> WriteAnswer:
        if path["kind"] == "group":
            return client.add_to_group(target.account_id, path["group"], path["directory"])
        return client.assign_role(target.account_id, path["role"], path["resource"])


def _holds_path(path: Mapping[str, str], fresh: Fresh) -> bool | None:
    if path["kind"] == "group":
        return None if fresh.groups is None else (path["directory"], path["group"]) in fresh.groups
    return None if fresh.roles is None else (path["role"], path["resource"]) in fresh.roles


REGISTRY: dict[str, Action] = {
    action.name: action
    for action in (
        Suspend(),
        Restore(),
        Deactivate(),
        Activate(),
        Delete(),
        CancelDelete(),
        RemoveFromDirectory(),
        Invite(),
        CancelInvite(),
        AddToGroup(),
        RemoveFromGroup(),
        AddToAdminGroup(),
        RemoveFromAdminGroup(),
        RemoveProductAccess(),
        GrantProductAccess(),
    )
}


ADMINISTRATIVE = frozenset(name for name, action in REGISTRY.items() if action.is_administrative)
# Those that a group is the target of.
ADDING = ("add_to_group", "add_to_admin_group")
LEAVING = ("remove_from_group", "remove_from_admin_group")
OF_GROUPS = (*ADDING, *LEAVING)


def action_named(name: str) -> Action:
    """The registered action; raises InvalidInput that lists the names."""
    try:
        return REGISTRY[name]
    except KeyError:
        raise InvalidInput(fields={"action": [f"Choose one of {', '.join(sorted(REGISTRY))}."]}) from None
