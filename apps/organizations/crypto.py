"""Encryption of saved secrets: Fernet with rotation. Keys live outside the database (settings)."""

from __future__ import annotations

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from aum.common.errors import DomainError


class SecretUnreadable(DomainError):
    code = "secret_unreadable"
    detail = (
        "A saved secret cannot be decrypted with the keys of this installation. Put the old key back, or save it anew."
    )


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key.strip()) for key in keys])


def encrypt(value: str) -> bytes:
    """`value` encrypted with the newest key."""
    return _cipher(tuple(settings.AUM_ENCRYPTION_KEYS)).encrypt(value.encode())


def decrypt(token: bytes) -> str:
    """The secret; raises SecretUnreadable when no configured key opens it."""
    try:
        return _cipher(tuple(settings.AUM_ENCRYPTION_KEYS)).decrypt(bytes(token)).decode()
    except InvalidToken as error:
        raise SecretUnreadable from error


def rotate(token: bytes) -> bytes:
    """`token` encrypted anew with the newest key; raises SecretUnreadable."""
    try:
        return _cipher(tuple(settings.AUM_ENCRYPTION_KEYS)).rotate(bytes(token))
    except InvalidToken as error:
        raise SecretUnreadable from error
