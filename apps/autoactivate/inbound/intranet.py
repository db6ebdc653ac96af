"""The intranet: requests of its server with a secret header, and links that it signs for people it has signed in."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from apps.autoactivate.crypto import is_same
from apps.autoactivate.domains import clean_email, domain_of
from apps.autoactivate.inbound.base import Received, Rejected, json_object, text_of, unbelieved

MAX_LINK_SECONDS = 24 * 3600


def read_request(body: bytes, domains: Iterable[str]) -> Received:
    """`{"email", "request_id"}`: the address gets a mail that decides. Only addresses of the intranet's own domains."""
    content = json_object(body)
    email = clean_email(text_of(content.get("email"), 320))
    if email is None:
        raise Rejected(422, "no_email", "Give the requester's address as “email”.")
    check_domain(email, domains)
    request_id = text_of(content.get("request_id"), 100)
    if not request_id:
        raise Rejected(422, "no_request_id", "Give a “request_id” that is the same when a request is repeated.")
    return Received("form", f"intranet:{request_id}", {"email": email, "identity": ""})


def check_domain(email: str, domains: Iterable[str]) -> None:
    """Raises Rejected for an address outside the domains that this intranet may name."""
    if domain_of(email) not in set(domains):
        raise Rejected(422, "foreign_domain", "This address is not of a domain that this intranet may name.")


def signature_of(secret: str, email: str, expires: str, nonce: str) -> str:
    """What the intranet signs: the three values, each on its own line, as HMAC-SHA256 in hex."""
    return hmac.new(secret.encode(), f"{email}\n{expires}\n{nonce}".encode(), hashlib.sha256).hexdigest()


def check_link(values: Mapping[str, str], secrets: Iterable[str], domains: Iterable[str], now_seconds: float) -> str:
    """The address that a signed link names; raises Rejected for a wrong, old or foreign one.

    Whether its nonce was used before is told by storing the event: the nonce is what makes it unique.
    """
    email, expires = values.get("email", ""), values.get("expires", "")
    nonce, signature = values.get("nonce", ""), values.get("signature", "")
    if not (expires.isascii() and expires.isdecimal() and len(expires) < 13 and 16 <= len(nonce) <= 100):
        raise unbelieved("link")
    made = [signature_of(secret, email, expires, nonce) for secret in secrets]
    if not sum(is_same(signature.lower(), one) for one in made):
        raise unbelieved("link")
    if not now_seconds < int(expires) <= now_seconds + MAX_LINK_SECONDS:
        raise Rejected(410, "expired", "This link has expired. Open it again from your intranet.")
    cleaned = clean_email(email)
    if cleaned is None:
        raise Rejected(422, "no_email", "This link names no address.")
    check_domain(cleaned, domains)
    return cleaned


def link_key(nonce: str) -> str:
    """The unique key of an event that came by a signed link."""
    return f"link:{hashlib.sha256(nonce.encode('utf-8', 'replace')).hexdigest()[:40]}"
