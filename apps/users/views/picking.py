"""People picked by hand on several pages of the list, kept in the session until they are cleared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users.models import Account
from apps.users.views.common import own_address

# As many as a form can carry on to the pages that ask for groups and confirmation; a filter has no such end.
MOST = 2000
SESSION_KEY = "picked_people"


@dataclass(frozen=True)
class Picked:
    """Keys of the people picked: those on the page that is shown, and the others."""

    here: frozenset[int]
    elsewhere: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.here) + len(self.elsewhere)

    @property
    def elsewhere_text(self) -> str:
        """The others as one field of a form."""
        return ",".join(str(pk) for pk in self.elsewhere)


def keys_of(texts: Iterable[str]) -> list[int]:
    """The keys in texts that hold one or several, each once; anything else is dropped."""
    parts = (part.strip() for text in texts for part in text.split(","))
    return list(dict.fromkeys(int(part) for part in parts if part.isascii() and part.isdecimal() and len(part) < 19))


def picked(request: HttpRequest, organization: Organization, shown: Iterable[int]) -> Picked:
    """Who is picked in this session; `shown` are the people of the page."""
    kept: list[int] = request.session.get(SESSION_KEY, {}).get(str(organization.pk), [])
    on_page = set(shown)
    return Picked(frozenset(pk for pk in kept if pk in on_page), tuple(pk for pk in kept if pk not in on_page))


@require(Permission.VIEW)
@require_POST
def pick(request: OrganizationRequest) -> HttpResponse:
    """Remember the page's boxes: `shown` were on it, `accounts` are checked; `clear` forgets everybody.

    Answers 204 to the script. A form without script names in `to` where it goes on to, such as the next page.
    """
    organization = organization_of(request)
    everybody = dict(request.session.get(SESSION_KEY, {}))
    kept: list[int] = [] if "clear" in request.POST else everybody.get(str(organization.pk), [])
    if "clear" not in request.POST:
        shown = set(keys_of(request.POST.getlist("shown")))
        checked = [pk for pk in keys_of(request.POST.getlist("accounts")) if pk in shown]
        own = set(Account.objects.of(organization).filter(pk__in=checked).values_list("pk", flat=True))
        kept = [pk for pk in kept if pk not in shown] + [pk for pk in checked if pk in own]
    everybody[str(organization.pk)] = kept[:MOST]
    if not kept:
        everybody.pop(str(organization.pk))
    request.session[SESSION_KEY] = everybody
    if request.headers.get("X-AUM-Pick"):
        response = HttpResponse(status=204)
        response["X-AUM-Dropped"] = str(max(len(kept) - MOST, 0))
        return response
    return redirect(own_address(request, request.POST.get("to", "")) or reverse("users:list", args=[organization.slug]))
