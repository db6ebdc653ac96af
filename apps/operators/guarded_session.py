"""A `requests` session that reaches only judged addresses (`apps.organizations.outgoing`), if a library wants one."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter

from apps.organizations.outgoing import CONNECT_SECONDS, READ_SECONDS, clean_url, resolve


class _PinnedAdapter(HTTPAdapter):
    """Connects to the address that was judged; certificate and Host header name the host."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        """Raises AddressRefused before anything is sent."""
        parts = urlsplit(clean_url(str(request.url)))
        target = resolve(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        request.headers["Host"] = parts.netloc
        literal = f"[{target.ip}]" if ":" in target.ip else target.ip
        request.url = urlunsplit((parts.scheme, f"{literal}:{target.port}", parts.path or "/", parts.query, ""))
        if parts.scheme == "https":
            self.poolmanager.connection_pool_kw.update(server_hostname=target.host, assert_hostname=target.host)
        options["timeout"] = (CONNECT_SECONDS, READ_SECONDS)
        return super().send(request, **options)


class GuardedSession(requests.Session):
    """No redirects, no proxies of the environment, time-outs on every call."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.max_redirects = 0
        for scheme in ("http://", "https://"):
            self.mount(scheme, _PinnedAdapter())

    def request(self, *args: Any, **options: Any) -> requests.Response:
        return super().request(*args, **{**options, "allow_redirects": False})
