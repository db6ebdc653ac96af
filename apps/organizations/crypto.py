"""Encryption of saved secrets: Fernet with rotation. Keys live outside the database (settings)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models

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


# What encrypts saved secrets anew after a new key was put in front; each returns how many there were. Apps above add
# theirs in `ready()`, so that a key can go once `rotate_secrets` has run.
rotators: list[Callable[[], int]] = []


def rotate_column(model: type[models.Model], name: str, renew: Callable[[bytes], bytes] = rotate) -> int:
    """Encrypt a column of all rows of a model anew; how many held something. Runs inside a transaction."""
    rows = list(model._default_manager.select_for_update().exclude(**{name: None}))
    for row in rows:
        setattr(row, name, renew(bytes(getattr(row, name))))
        row.save(update_fields=[name])
    return len(rows)
