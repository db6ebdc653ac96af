"""What the pages of people share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.cache import patch_vary_headers

from apps.operators.access import Access, OrganizationRequest, organization_of
from apps.operators.permissions import Permission
from apps.users.models import Account, Exemption
from apps.users.selectors import (
    AccountRow,
)

NOT_YOURS = "Your role may not change users. Ask a Helpdesk member, an Admin or an Owner."


def varied(response: HttpResponse) -> HttpResponse:
    """Fragment and page share an address: caches are told so."""
    patch_vary_headers(response, ["HX-Request", "HX-Target"])
    return response


def account_of(request: OrganizationRequest, pk: int) -> Account:
    account: Account | None = (
        Account.objects.of(organization_of(request)).select_related("organization").filter(pk=pk).first()
    )
    if account is None:
        raise Http404
    return account


def own_address(request: OrganizationRequest, target: str) -> str:
    """`target` where it is a page of this organisation, else nothing."""
    base = reverse("users:list", args=[organization_of(request).slug]).removesuffix("users/")
    is_own = target.startswith(base) and "\\" not in target and "//" not in target.partition("?")[0]
    return target if is_own else ""


def back_to(request: OrganizationRequest, fallback: str) -> HttpResponse:
    """To the page that the form came from, where that is one of this organisation's."""
    return redirect(own_address(request, request.POST.get("next", "")) or fallback)


@dataclass(frozen=True)
class MenuAction:
    """One line of a person's menu. `refusal` says why it cannot be chosen now; empty when it can."""

    name: str
    label: str
    icon: str
    refusal: str
    # Groups or products are asked for next.
    needs_targets: bool = False


def menu_actions(row: AccountRow, access: Access) -> tuple[MenuAction, ...]:
    """What the row's menu offers, each line with the reason where it cannot be chosen (S90).

    Who is in admin groups is changed by owners alone, so only they see it; protected users are whom it is for.
    """
    keeps = ""
    if row.is_protected:
        keeps = "Protected: no action that takes access is possible."
    elif row.is_exempt:
        keeps = "Exempt: end the exemption first."
    gone = "Not a member of any directory." if row.membership_status == "no_membership" else ""
    is_managed = row.claim_status == "managed"
    external = "" if is_managed else "Only managed accounts can be deactivated and activated."
    undeletable = "" if is_managed else "Only managed accounts can be deleted. Remove the user from the directory."
    if row.membership_status == "suspended":
        membership = MenuAction("restore", "Restore user", "undo", "")
    else:
        membership = MenuAction("suspend", "Suspend user", "pause", keeps or gone)
    if row.account_status == "for_deletion":
        account = MenuAction("activate", "Activate user", "check", "The account awaits its deletion.")
        deletion = MenuAction("cancel_delete", "Cancel deletion", "undo", undeletable)
    else:
        deletion = MenuAction("delete", "Delete user…", "trash", undeletable or keeps)
        if row.account_status == "deactivated":
            account = MenuAction("activate", "Activate user", "check", external)
        else:
            account = MenuAction("deactivate", "Deactivate user", "ban", external or keeps)
    no_groups = "" if row.groups else "In no group."
    no_products = "" if row.products else "No product is given to this user."
    managed = "A managed account: delete it instead." if is_managed else ""
    admin_groups: tuple[MenuAction, ...] = ()
    if access.may(Permission.OWN):
        exempt = "Exempt: end the exemption first." if row.is_exempt else ""
        admin_groups = (
            MenuAction("add_to_admin_group", "Add to admin groups…", "plus", gone, needs_targets=True),
            MenuAction(
                "remove_from_admin_group",
                "Remove from admin groups…",
                "minus",
                exempt or gone or no_groups,
                needs_targets=True,
            ),
        )
    found = (
        membership,
        account,
        MenuAction("add_to_group", "Add to groups…", "plus", gone, needs_targets=True),
        MenuAction("remove_from_group", "Remove from groups…", "minus", keeps or gone or no_groups, needs_targets=True),
        *admin_groups,
        MenuAction(
            "remove_product_access", "Suspend in products…", "pause", keeps or gone or no_products, needs_targets=True
        ),
        deletion,
        MenuAction("remove_from_directory", "Remove from directory…", "x", managed or keeps or gone),
    )
    return (
        found
        if access.may(Permission.ACT)
        else tuple(dataclasses.replace(action, refusal=NOT_YOURS) for action in found)
    )


# The bulk bar's choices; "None" stands before them (S95, S99, S104).


def is_in_force(exemption: Exemption, now: datetime) -> bool:
    return exemption.ended_at is None and (exemption.until is None or exemption.until > now)
