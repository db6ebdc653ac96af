"""Keep links: `/k/<token>`. A token names one mail and is signed, so that a wrong one is refused without a query."""

from __future__ import annotations

import base64
import uuid

from django.conf import settings
from django.core import signing

from apps.notifications.models import Delivery

_SALT = "aum.keep-link"


def token_of(delivery: Delivery) -> str:
    """The token of a mail's link: 22 characters that name it, and the signature."""
    name = base64.urlsafe_b64encode(delivery.uuid.bytes).decode().rstrip("=")
    return signing.Signer(salt=_SALT, sep=".").sign(name)


def delivery_uuid(token: str) -> uuid.UUID | None:
    """Which mail a token names; None unless it is ours, unaltered."""
    if len(token) > 120 or not token.isascii():
        return None
    try:
        name = signing.Signer(salt=_SALT, sep=".").unsign(token)
        return uuid.UUID(bytes=base64.urlsafe_b64decode(f"{name}=="))
    except (signing.BadSignature, ValueError):
        return None


def keep_url(delivery: Delivery) -> str:
    """The address in the mail."""
    return f"{settings.AUM_PUBLIC_URL}/k/{token_of(delivery)}/"
