"""The permission table, walked: every page below /o/<org>/ names one permission, and every role gets what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from apps.operators.models import Operator, Role
from apps.operators.permissions import (
    ROLE_PERMISSIONS,
    Permission,
    Scope,
    permissions_of_scopes,
)
from apps.organizations.models import Organization

pytestmark = pytest.mark.django_db
NUMBERS = {"int": "999999", "str": "x", "slug": "x", "path": "x", "uuid": "00000000-0000-0000-0000-000000000000"}


def patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry, route)
        else:
            yield route, entry


PAGES = [(route, entry) for route, entry in patterns(get_resolver()) if route.startswith("o/<slug:org>/")]


def address(route: str, slug: str) -> str:
    path = "/" + route.replace("<slug:org>", slug)
    for kind, value in NUMBERS.items():
        while f"<{kind}:" in path:
            before, _, rest = path.partition(f"<{kind}:")
            path = before + value + rest.partition(">")[2]
    return path


@pytest.fixture
def organization() -> Organization:
    return Organization.objects.create(slug="acme", name="Acme", org_id="acme-1", api_url="http://127.0.0.1:1")


def test_there_are_pages_and_each_names_its_permission() -> None:
    unnamed = [route for route, entry in PAGES if not hasattr(entry.callback, "required_permission")]

    assert len(PAGES) > 30
    assert unnamed == []


@pytest.mark.parametrize("role", Role.values)
def test_each_role_is_refused_exactly_where_the_table_says(
    role: str, organization: Organization, operators: Callable[..., Operator], client: Client
) -> None:
    client.force_login(operators(organization, f"{role}@aum.example", role))
    wrong: list[tuple[str, int]] = []
    for route, entry in PAGES:
        permission: Permission = entry.callback.required_permission  # type: ignore[union-attr]
        status = client.get(address(route, organization.slug)).status_code
        if (status == 403) != (permission not in ROLE_PERMISSIONS[role]) or status >= 500:
            wrong.append((route, status))

    assert wrong == []


@pytest.mark.parametrize("role", Role.values)
def test_each_role_is_refused_writes_exactly_where_the_table_says(
    role: str, organization: Organization, operators: Callable[..., Operator]
) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(operators(organization, f"{role}@aum.example", role))
    wrong: list[tuple[str, int]] = []
    for route, entry in PAGES:
        permission: Permission = entry.callback.required_permission  # type: ignore[union-attr]
        if permission in ROLE_PERMISSIONS[role]:
            continue  # what may be done is tried by the tests of each page
        status = client.post(address(route, organization.slug)).status_code
        if status not in (403, 405):
            wrong.append((route, status))

    assert wrong == []


# Addresses outside of an organisation: what nobody in particular gets, by GET and by POST. 302 leads to sign-in.
OUTSIDE: dict[str, tuple[int, int]] = {
    "healthz": (200, 405),
    "readyz": (404, 405),
    "metrics": (404, 405),
    "": (302, 302),
    "login/": (200, 422),
    "logout/": (302, 302),
    "me/password/": (302, 302),
    "reauthenticate/": (302, 302),
    "go-on/": (302, 302),
    "invite/<str:secret>/": (404, 404),
    "me/": (302, 302),
    "me/theme/": (302, 302),
    "me/sessions/": (302, 302),
    "setup/": (302, 302),
    "setup/<str:secret>/": (404, 404),
    "api/schema/": (401, 401),
    "api/docs/": (302, 302),
}
# Whole families: what they answer to nobody is not data.
FAMILIES = ("sso/", "me/two-factor/", "api/v1/", "admin/", "k/", "hooks/", "setup/")


def test_every_address_outside_of_an_organisation_is_known_and_gives_nobody_anything() -> None:
    """A new address needs a row here."""
    Operator.objects.create_user("somebody@aum.example", "correct horse battery")
    client = Client(REMOTE_ADDR="203.0.113.9")
    found: dict[str, tuple[int, int]] = {}
    unknown = []
    for route, _entry in patterns(get_resolver()):
        if route.startswith("o/<slug:org>/") or (route not in OUTSIDE and route.startswith(FAMILIES)):
            continue
        if route not in OUTSIDE:
            unknown.append(route)
            continue
        path = address(route, "acme")
        found[route] = (client.get(path).status_code, client.post(path).status_code)

    assert unknown == []
    assert {route: statuses for route, statuses in found.items() if statuses != OUTSIDE[route]} == {}


def test_families_of_addresses_give_nobody_data(client: Client) -> None:
    statuses = {}
    for route, _entry in patterns(get_resolver()):
        if route.startswith(FAMILIES) and "(?P" not in route:
            path = address(route, "acme").replace("<slug:organization_slug>", "sso")
            statuses[route] = client.get(path).status_code

    open_to_all = {route for route, status in statuses.items() if status == 200}
    styles = {"hooks/icon.svg", "hooks/style.css", "k/icon.svg", "k/style.css"}
    assert open_to_all == {"sso/saml/<slug:organization_slug>/metadata/", *styles}
    assert {status for status in statuses.values() if status >= 500} == set()


def test_stranger_sees_no_organisation_at_all(
    organization: Organization, operators: Callable[..., Operator], client: Client
) -> None:
    other = Organization.objects.create(slug="other", name="Other", org_id="other-1", api_url="http://127.0.0.1:1")
    client.force_login(operators(other, "stranger@aum.example", "owner"))

    found = {route: client.get(address(route, organization.slug)).status_code for route, _entry in PAGES}

    assert {route: status for route, status in found.items() if status != 404} == {}


def test_disabled_operator_may_do_nothing(
    organization: Organization, operators: Callable[..., Operator], client: Client
) -> None:
    operator = operators(organization, "gone@aum.example", "owner")
    client.force_login(operator)
    Operator.objects.filter(pk=operator.pk).update(is_active=False)

    assert client.get(f"/o/{organization.slug}/").status_code in (302, 404)


def test_no_scope_owns_and_none_that_runs_approves() -> None:
    for scope in Scope:
        assert Permission.OWN not in permissions_of_scopes([scope])
    assert Permission.APPROVE not in permissions_of_scopes([Scope.RUN, Scope.ADMIN, Scope.READ, Scope.PREVIEW])


def test_roles_are_sets_not_a_ladder() -> None:
    assert Permission.APPROVE not in ROLE_PERMISSIONS[Role.ADMIN]
    assert Permission.ACT not in ROLE_PERMISSIONS[Role.APPROVER]


def test_signed_out_visitor_is_sent_to_sign_in(organization: Organization, client: Client) -> None:
    answers: dict[str, Any] = {
        route: client.get(address(route, organization.slug)) for route, _entry in PAGES if "delete" not in route
    }

    assert {route for route, answer in answers.items() if answer.status_code != 302} == set()
    assert all(answer["Location"].startswith("/login/") for answer in answers.values())
