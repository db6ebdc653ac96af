"""Every REST view names a permission for each method, and keeps to it: for roles, scopes, strangers, nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from rest_framework.test import APIClient

from apps.operators.models import Operator, Role
from apps.operators.permissions import ROLE_PERMISSIONS, SCOPE_PERMISSIONS, Permission, Scope
from apps.operators.services import create_token
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor

METHODS = ("get", "post", "put", "patch", "delete")


def _views(
    patterns: list[Any], is_api: bool = False, above: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any, list[str]]]:
    """(name, view class, parameters besides the organisation) of everything under /api/v1/."""
    for pattern in patterns:
        parameters = (*above, *(name for name in pattern.pattern.converters if name != "org"))
        if isinstance(pattern, URLResolver):
            yield from _views(pattern.url_patterns, is_api or str(pattern.pattern) == "api/v1/", parameters)
        elif isinstance(pattern, URLPattern) and is_api and pattern.name != "api-unknown":
            yield str(pattern.name), pattern.callback.view_class, list(parameters)


VIEWS = sorted(_views(get_resolver().url_patterns), key=lambda found: found[0])
OF_ORGANIZATION = [found for found in VIEWS if found[0] != "api-organizations"]
CASES = [
    pytest.param(name, method, view.required[method.upper()], parameters, id=f"{method} {name}")
    for name, view, parameters in OF_ORGANIZATION
    for method in METHODS
    if hasattr(view, method)
]


def _address(name: str, slug: str, parameters: list[str]) -> str:
    values = {"pk": 1, "message": 1, "account_id": "somebody"}
    return reverse(name, kwargs={"org": slug, **{key: values.get(key, "logs") for key in parameters}})


def _call(client: APIClient, method: str, address: str) -> Any:
    return getattr(client, method)(address, {}, format="json") if method != "get" else client.get(address)


@pytest.fixture
def plain(db: None) -> Organization:
    return Organization.objects.create(slug="plain", name="Plain", org_id="p-1", api_url="https://api.atlassian.com")


@pytest.fixture
def bearer(plain: Organization) -> Callable[..., APIClient]:
    def make(operator: Operator, *scopes: str) -> APIClient:
        _row, secret = create_token(
            organization=plain, operator=operator, scopes=scopes, actor=Actor.operator(operator)
        )
        return APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")

    return make


def test_every_view_of_rest_is_walked() -> None:
    assert len(VIEWS) >= 35
    assert {"api-accounts", "api-rule-run", "api-operation-approve", "api-audit-verify"} <= {
        name for name, _, _ in VIEWS
    }


@pytest.mark.parametrize(("name", "view"), [(name, view) for name, view, _ in VIEWS])
def test_each_method_names_its_permission(name: str, view: Any) -> None:
    methods = {method.upper() for method in METHODS if hasattr(view, method)}
    assert methods
    assert methods == set(view.required) - {"HEAD"}
    if name != "api-organizations":
        assert all(isinstance(permission, Permission) for permission in view.required.values())


@pytest.mark.parametrize(("name", "method", "permission", "parameters"), CASES)
def test_roles_scopes_strangers_and_nobody_are_refused(
    name: str,
    method: str,
    permission: Permission,
    parameters: list[str],
    plain: Organization,
    operators: Callable[..., Operator],
    bearer: Callable[..., APIClient],
) -> None:
    address = _address(name, plain.slug, parameters)
    everything = operators(plain, "all@aum.example", *Role.values)
    other = Organization.objects.create(slug="other", name="Other", org_id="o-1", api_url="https://api.atlassian.com")
    stranger = operators(other, "stranger@aum.example", "owner")

    assert _call(APIClient(), method, address).status_code == 401
    client = APIClient()
    client.force_login(stranger)
    assert _call(client, method, address).status_code == 404
    for role in Role.values:
        operator = operators(plain, f"{role}@aum.example", role)
        client = APIClient()
        client.force_login(operator)
        if permission not in ROLE_PERMISSIONS[role]:
            assert _call(client, method, address).status_code == 403, role
    for scope in Scope:
        if permission not in SCOPE_PERMISSIONS[scope]:
            assert _call(bearer(everything, scope), method, address).status_code == 403, scope
    # A token of this organisation opens no other one, whatever its operator may do there.
    token = bearer(everything, "read", "run", "admin", "preview")
    assert _call(token, method, _address(name, other.slug, parameters)).status_code == 404


def test_methods_that_do_not_exist_are_named_so(plain: Organization, operators: Callable[..., Operator]) -> None:
    client = APIClient()
    client.force_login(operators(plain, "o@aum.example", "owner"))

    answer = client.put(_address("api-accounts", plain.slug, []), {}, format="json")

    assert answer.status_code == 405
    assert answer.json()["code"] == "method_not_allowed"


def test_tokens_never_connect_an_organization_or_delete_accounts(
    plain: Organization, operators: Callable[..., Operator], bearer: Callable[..., APIClient]
) -> None:
    client = bearer(operators(plain, "o@aum.example", "owner"), "read", "run", "admin", "preview")

    assert client.post("/api/v1/organizations/", {}, format="json").status_code == 403
    body = {"accounts": ["x"], "action": "delete", "mode": "live"}
    assert client.post(_address("api-bulk-actions", plain.slug, []), body, format="json").status_code == 403


def test_a_viewer_with_an_admin_token_is_still_a_viewer(
    plain: Organization, operators: Callable[..., Operator], bearer: Callable[..., APIClient]
) -> None:
    client = bearer(operators(plain, "v@aum.example", "viewer"), "read", "run", "admin")

    assert client.get(_address("api-rules", plain.slug, [])).status_code == 200
    assert client.post(_address("api-rules", plain.slug, []), {}, format="json").status_code == 403


def test_sessions_need_the_csrf_token(plain: Organization, operators: Callable[..., Operator]) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(operators(plain, "o@aum.example", "owner"))

    assert client.post(_address("api-sync", plain.slug, []), {}, format="json").status_code == 403


def test_unknown_addresses_are_refused_in_json(client: Any) -> None:
    lost = client.get("/api/v1/nowhere/")
    short = client.post("/api/v1/organizations/plain/rules?x=1", {})

    assert (lost.status_code, lost.json()["code"]) == (404, "not_found")
    assert (short.status_code, short["Location"]) == (308, "/api/v1/organizations/plain/rules/?x=1")
