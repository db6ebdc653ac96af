"""Whatever is sent, the sandbox refuses in Atlassian's words: it never fails itself (500) and changes nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from apps.sandbox.core import APIS
from apps.sandbox.server import Sandbox
from tests.sandbox.client import Client

BODIES: tuple[Any, ...] = (
    [],
    "text",
    7,
    {"limit": "many", "expand": 7},
    {"limit": True, "cursor": 5},
    {"accountIds": "x", "emails": {}, "status": ["dead"], "sortBy": "name", "query": 7},
    {"accountId": 7, "role": [], "resource": {}, "resourceId": 1, "roleId": None, "name": [], "emails": [7]},
    {"emails": ["a@b.example"], "permissionRules": ["x"], "additionalGroups": 7},
    {"query": {"and": [{"field": {"name": 7}}, 5]}, "sortBy": [7], "groupNames": [1]},
    {"jql": 7, "fields": "x", "nextPageToken": 7, "accountIds": 7, "requestFieldValues": []},
    {"cursor": "eyJraW5kIjoidXNlcnMifQ"},
)
RAW: tuple[bytes, ...] = (b"", b"{", b"\xff\xfe", b"null", b"[" * 3000)


def _path(client: Client, template: str) -> str:
    known = {
        "orgId": client.known.org_id,
        "directoryId": client.directories[0],
        "accountId": "nobody",
        "userId": "nobody",
        "serviceDeskId": "1",
        "requestTypeId": "11",
    }
    return re.sub(r"\{(\w+)\}", lambda match: known.get(match[1], "none"), template)


@pytest.mark.parametrize("module", [api for api in APIS if not api.__name__.endswith("control_api")])
def test_wrong_bodies_are_refused_everywhere(sandbox: Sandbox, client: Client, module: Any) -> None:
    for route in module.routes.all:
        path = _path(client, route.template)
        for body in BODIES:
            answer = client.call(route.method, path, body)
            assert answer.status < 500, (route.template, body, answer)
        for raw in RAW:
            answer = client.call(route.method, path, raw=raw, headers={"Content-Type": "application/json"})
            assert answer.status < 500, (route.template, raw, answer)

    changed = [e for e in sandbox.control.get("ledger")["entries"] if e["effect"] == "changed"]
    assert [entry["path"] for entry in changed if not entry["path"].endswith("/invite")] == []


@pytest.mark.parametrize("module", [api for api in APIS if not api.__name__.endswith("control_api")])
def test_wrong_parameters_are_refused_everywhere(client: Client, module: Any) -> None:
    for route in module.routes.all:
        for query in (
            {"limit": "x", "cursor": "x", "startAt": "x", "maxResults": "-1", "start": "x", "from": "x", "jql": "("},
            {"cursor": "eyJraW5kIjoidXNlcnMifQ", "limit": "0", "startAt": "9" * 30, "nextPageToken": "AAAA"},
            {"jql": "project = HELP AND created > soon", "status": "dead", "searchTerm": "\x00", "groupId": ""},
        ):
            answer = client.call(route.method, _path(client, route.template), query=query)
            assert answer.status < 500, (route.template, query, answer)
