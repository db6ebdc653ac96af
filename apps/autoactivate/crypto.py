"""Secrets of the ways in. The inbound key opens these and nothing else, so the public surface may hold it.

Without AUM_INBOUND_KEYS it is derived from the keys of credentials, one way: who holds it cannot get back to them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from apps.organizations.crypto import SecretUnreadable


def derived_keys(encryption_keys: tuple[str, ...]) -> tuple[str, ...]:
    """The inbound keys that belong to keys of credentials, as Fernet keys."""
    found = []
    for key in encryption_keys:
        material = base64.urlsafe_b64decode(key.strip())
        made = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"aum inbound secrets").derive(material)
        found.append(base64.urlsafe_b64encode(made).decode())
    return tuple(found)


def inbound_keys() -> tuple[str, ...]:
    """The keys in force: those of the setting, else derived ones. Raises SecretUnreadable where there are none."""
    keys = tuple(settings.AUM_INBOUND_KEYS) or derived_keys(tuple(settings.AUM_ENCRYPTION_KEYS))
    if not keys:
        raise SecretUnreadable("This process was given no AUM_INBOUND_KEYS. `script/aum inbound-keys` prints them.")
    return keys


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key.strip()) for key in keys])


def encrypt(value: str) -> bytes:
    """`value` encrypted with the newest inbound key."""
    return _cipher(inbound_keys()).encrypt(value.encode())


def decrypt(token: bytes) -> str:
    """The secret; raises SecretUnreadable when no key opens it."""
    try:
        return _cipher(inbound_keys()).decrypt(bytes(token)).decode()
    except InvalidToken as error:
        raise SecretUnreadable from error


def rotate(token: bytes) -> bytes:
    """`token` encrypted anew with the newest inbound key; raises SecretUnreadable."""
    try:
        return _cipher(inbound_keys()).rotate(bytes(token))
    except InvalidToken as error:
        raise SecretUnreadable from error


def new_secret() -> str:
    """A secret of 256 bits that survives copying: letters, digits, - and _."""
    return secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """SHA-256 of a secret of ours. They are random and long, so nothing slower is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_same(given: str, expected: str) -> bool:
    """Whether two texts are equal, in a time that tells nothing about where they differ."""
    return hmac.compare_digest(given.encode(), expected.encode())
