"""E-mail domains, compared exactly: what looks alike is not alike (S185)."""

from __future__ import annotations

import re

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}", re.ASCII)
_LOCAL = re.compile(r"[^\s@\x00-\x1f\x7f]{1,64}", re.ASCII)


def clean_domain(text: str) -> str | None:
    """`text` as a domain in lower case; None for anything else, such as an address or letters outside ASCII.

    Whether it is ASCII is asked before lower case is made: the Kelvin sign becomes a plain k.
    """
    text = text.strip().removeprefix("@")
    if not text.isascii():
        return None
    text = text.lower()
    return text if len(text) <= 253 and _DOMAIN.fullmatch(text) else None


def domain_of(email: str | None) -> str | None:
    """The domain of an address in lower case; None where the address is not a plain one."""
    if not email or not email.isascii():
        return None
    local, at, domain = email.partition("@")
    if not at or not _LOCAL.fullmatch(local):
        return None
    cleaned = clean_domain(domain)
    return cleaned if cleaned == domain.lower() else None


def clean_email(text: str) -> str | None:
    """`text` as a plain address with its domain in lower case; None for anything else."""
    text = text.strip()
    domain = domain_of(text)
    return f"{text.partition('@')[0]}@{domain}" if domain and len(text) <= 320 else None
