"""Which addresses credentials may be sent to (DECISIONS.md §1): Atlassian's own, or those an installation allows."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from django.conf import settings

from aum.common.errors import InvalidInput

API_HOST = "api.atlassian.com"
SITE_SUFFIX = ".atlassian.net"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _clean(address: str, *, field: str) -> tuple[str, str]:
    """(`scheme://host[:port][/path]`, host). Raises InvalidInput at `field` for anything else."""
    text = address.strip().rstrip("/")
    if "://" not in text:
        text = f"https://{text}"
    parts = urlsplit(text)
    host = (parts.hostname or "").lower()
    try:
        port = parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidInput(fields={field: ["Enter an address such as https://your-site.atlassian.net."]})
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise InvalidInput(fields={field: ["Use https: AUM sends credentials to no other kind of address."]})
    bracketed = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{bracketed}{f':{port}' if port else ''}{parts.path}", host


def _is_allowed(address: str, host: str) -> bool:
    netloc = urlsplit(address).netloc
    demo = urlsplit(settings.AUM_DEMO_API_URL).netloc if settings.AUM_DEMO_API_URL else None
    return host in settings.ATLASSIAN_SITE_ALLOWLIST or netloc in settings.ATLASSIAN_SITE_ALLOWLIST or netloc == demo


def clean_site_url(address: str) -> str:
    """The site's base address. Raises InvalidInput unless it is Atlassian's or in ATLASSIAN_SITE_ALLOWLIST."""
    url, host = _clean(address, field="site_url")
    if (host.endswith(SITE_SUFFIX) and url == f"https://{host}") or _is_allowed(url, host):
        return url
    raise InvalidInput(
        fields={
            "site_url": [
                f"{host} is not an Atlassian site. Enter the address that ends in {SITE_SUFFIX}, "
                "or add the host to ATLASSIAN_SITE_ALLOWLIST."
            ]
        }
    )


def clean_api_url(address: str) -> str:
    """The API's base address. Raises InvalidInput unless it is Atlassian's, the setting's, or allowed."""
    url, host = _clean(address, field="api_url")
    if url in (f"https://{API_HOST}", settings.ATLASSIAN_API_URL) or _is_allowed(url, host):
        return url
    raise InvalidInput(
        fields={"api_url": [f"{host} is not Atlassian's API. Add the host to ATLASSIAN_SITE_ALLOWLIST to use it."]}
    )
