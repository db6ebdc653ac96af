"""A bare client of the sandbox for tests: one request, its status, its parsed body. Standard library only."""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from apps.sandbox.server import Sandbox


@dataclass(frozen=True)
class Answer:
    """`body` is None for an empty body, text where it is no JSON."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.body["data"]
        return rows


class Client:
    """Sends requests as the owner of the sandbox's organisation; `key` names another credential."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.known = sandbox.credentials
        self.directories = [d["id"] for d in sandbox.control.get("credentials")["directories"]]
        self.v1 = f"/admin/v1/orgs/{self.known.org_id}"
        self.v2 = f"/admin/v2/orgs/{self.known.org_id}"
        self.primary, self.external = (f"{self.v2}/directories/{d}" for d in self.directories)
        self.everywhere = f"{self.v2}/directories/-"

    def authorization(self, path: str, key: str | None) -> str | None:
        """The header for a path: the organisation key, or e-mail and token on the site host."""
        if key == "none":
            return None
        if path.startswith(("/rest/", "/_site/", "/ex/")):
            secret = getattr(self.known, key or ("scoped_token" if path.startswith("/ex/") else "api_token"))
            return "Basic " + base64.b64encode(f"{self.known.email}:{secret}".encode()).decode()
        return "Bearer " + str(getattr(self.known, key or "api_key"))

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """One request on a connection of its own; OSError or http.client errors where there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.sandbox.port, timeout=20)
        sent = dict(headers or {})
        authorization = self.authorization(path, key)
        if authorization is not None:
            sent["Authorization"] = authorization
        data = raw
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        target = quote(path, safe="/:,-_.~@") + ("?" + urlencode(query, doseq=True) if query else "")
        try:
            connection.request(method, target, data, sent)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        parsed: Any = None
        if text:
            try:
                parsed = json.loads(text)
            except ValueError:
                parsed = text.decode()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, parsed)

    def search(self, directory: str = "-", **body: Any) -> Answer:
        return self.call("POST", f"{self.v2}/directories/{directory}/users/search", body)

    def everybody(self, directory: str = "-", **body: Any) -> list[dict[str, Any]]:
        """All pages of a search of people."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.search(directory, **({"limit": 100, **body} if not cursor else {"limit": 100, **cursor}))
            assert page.status == 200, page
            found += page.rows
            if "next" not in page.body["links"]:
                return found
            cursor = {"cursor": page.body["links"]["next"]}

    def named(self, name: str) -> dict[str, Any]:
        """The one person of this exact name, with everything expanded."""
        expand = ["platformRoles", "counts.resources", "productAccess", "groups"]
        found = [p for p in self.search(searchTerm=name, expand=expand, limit=100).rows if p["name"] == name]
        assert len(found) == 1, name
        return found[0]

    def account(self, name: str) -> str:
        return str(self.named(name)["accountId"])

    def group(self, name: str) -> str:
        found = self.call("POST", f"{self.everywhere}/groups/search", {"groupNames": [name]}).rows
        assert len(found) == 1, name
        return str(found[0]["id"])

    def workspace(self, type_key: str, site: str = "larkspur") -> str:
        """The ARI of a product on a site."""
        rows = self.call("POST", f"{self.v2}/workspaces", {"limit": 100}).rows
        found = [r for r in rows if (r["attributes"]["typeKey"], r["attributes"]["name"]) == (type_key, site)]
        return str(found[0]["id"])

    def state(self, account: str) -> dict[str, Any]:
        state: dict[str, Any] = self.sandbox.control.get(f"state/account/{account}")
        return state
