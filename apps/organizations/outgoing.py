"""The one guard of outgoing addresses that people enter (DECISIONS.md §19): mail servers, webhooks, Slack, Teams.

A name is resolved once, every address behind it is judged, and the connection is made to exactly the address that was
judged, so that a second answer of the name server cannot lead inside. Redirects are not followed.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3
from django.conf import settings

from aum.common.errors import DomainError

MAX_ANSWER_BYTES = 64 * 1024
CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0


class AddressRefused(DomainError):
    """The address leads where AUM does not send anything; the sentence says what to do."""

    code = "address_refused"
    status = 422


class Unreachable(DomainError):
    """Nothing answered at the address, or not in time. Whether the request arrived is not known."""

    code = "unreachable"
    status = 502


@dataclass(frozen=True)
class Target:
    """A judged address: `ip` is what to connect to, `host` what certificates and headers name."""

    host: str
    port: int
    ip: str


@dataclass(frozen=True)
class Answer:
    """What came back: status, and at most MAX_ANSWER_BYTES of the body as text."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def _is_allowed_private(host: str, ip: str) -> bool:
    """Whether the installation allows this inner address: AUM_OUTGOING_ALLOWLIST holds hosts, addresses, networks."""
    address = ipaddress.ip_address(ip)
    for entry in settings.AUM_OUTGOING_ALLOWLIST:
        if entry.lower() == host:
            return True
        try:
            if address in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False


def _is_public(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public(str(address.ipv4_mapped))
        if (
            address.sixtofour is not None
            or address.teredo is not None
            or address in ipaddress.ip_network("64:ff9b::/96")
        ):
            return False
    return address.is_global and not address.is_multicast


def resolve(host: str, port: int) -> Target:
    """The address to connect to. Raises AddressRefused when any address behind the name is inside and not allowed."""
    name = host.strip().strip("[]").rstrip(".").lower()
    if not name or not 0 < port < 65536 or any(character.isspace() or character in "/@?#" for character in name):
        raise AddressRefused("Enter the name of a host, such as mail.example.com.")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressRefused(f"The name {name} is not known to the name server. Check it for typing errors.") from error
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    for ip in addresses:
        if not _is_public(ip) and not _is_allowed_private(name, ip):
            raise AddressRefused(
                f"{name} leads to {ip}, an address inside a network. AUM sends nothing there unless the installation "
                "allows it: add the host or network to AUM_OUTGOING_ALLOWLIST."
            )
    return Target(name, port, addresses[0])


def clean_url(address: str) -> str:
    """The address of a webhook: https, or http where the host is allowed explicitly. Raises AddressRefused."""
    parts = urlsplit(address.strip())
    try:
        port = parts.port
    except ValueError as error:
        raise AddressRefused("The port of this address is not a number.") from error
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password or parts.fragment:
        raise AddressRefused("Enter an address such as https://hooks.example.com/services/….")
    if not address.isascii() or any(character.isspace() for character in address.strip()):
        raise AddressRefused("The address holds characters that do not belong into one. Copy it again.")
    target = resolve(host, port or (443 if parts.scheme == "https" else 80))
    if parts.scheme == "http" and not _is_allowed_private(target.host, target.ip):
        raise AddressRefused("Use an address that begins with https://.")
    return address.strip()


def send(
    method: str,
    url: str,
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    read_seconds: float = READ_SECONDS,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> Answer:
    """One request to a guarded address, without redirects and without repeats; at most `max_bytes` of the answer.

    Raises AddressRefused before anything is sent, Unreachable when there is no answer.
    """
    parts = urlsplit(clean_url(url))
    is_tls = parts.scheme == "https"
    target = resolve(parts.hostname or "", parts.port or (443 if is_tls else 80))
    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds)
    pool: urllib3.HTTPConnectionPool
    if is_tls:
        pool = urllib3.HTTPSConnectionPool(
            target.ip, target.port, timeout=timeout, server_hostname=target.host, assert_hostname=target.host, maxsize=1
        )
    else:
        pool = urllib3.HTTPConnectionPool(target.ip, target.port, timeout=timeout, maxsize=1)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    named = f"[{target.host}]" if ":" in target.host else target.host
    given = {
        "Host": named if parts.port is None else f"{named}:{parts.port}",
        "User-Agent": f"AUM/{settings.AUM_VERSION}",
    }
    try:
        response = pool.urlopen(
            method,
            path,
            body=body or None,
            headers={**given, **(headers or {})},
            redirect=False,
            retries=False,
            preload_content=False,
        )
        try:
            text = response.read(max_bytes).decode(errors="replace")
        finally:
            response.release_conn()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unreachable(f"{target.host} did not answer: {_said(error)}.") from error
    finally:
        pool.close()
    return Answer(response.status, text, {name.lower(): value for name, value in response.headers.items()})


def _said(error: Exception) -> str:
    if isinstance(error, urllib3.exceptions.SSLError):
        return "its certificate is not valid"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "no answer in time"
    return "the connection failed"
