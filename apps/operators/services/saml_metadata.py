"""Metadata of a SAML identity provider: read through the guard of outgoing addresses, kept, and read again daily.

Certificates change: what the provider publishes counts. While it cannot be read, what was read last does.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.utils import timezone
from lxml.etree import LxmlError
from onelogin.saml2.errors import OneLogin_Saml2_Error
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser

from apps.operators.models import IdentityProvider
from apps.organizations import outgoing
from aum.common.errors import DomainError, InvalidInput

logger = logging.getLogger(__name__)
MAX_BYTES = 1024 * 1024
FRESH = timedelta(hours=24)


@dataclass(frozen=True)
class SamlMetadata:
    """What a sign-in needs of the provider: its name for itself, where it is, and with which keys it signs."""

    entity_id: str
    sso_url: str
    certificates: list[str]

    def as_json(self) -> dict[str, Any]:
        """As `IdentityProvider.metadata` keeps it."""
        return {"sso_url": self.sso_url, "certificates": self.certificates}


def read_metadata(url: str) -> SamlMetadata:
    """Fetch and understand the metadata behind `url`. Raises InvalidInput that says what is wrong or missing."""
    try:
        answer = outgoing.send("GET", url, max_bytes=MAX_BYTES)
    except DomainError as error:
        raise InvalidInput(fields={"metadata_url": [error.detail]}) from error
    if not answer.ok:
        raise _refused(f"It answered with {answer.status} instead of metadata.")
    return parse_metadata(answer.text)


def parse_metadata(text: str) -> SamlMetadata:
    """The provider in this XML. Raises InvalidInput."""
    try:
        found = OneLogin_Saml2_IdPMetadataParser.parse(text).get("idp", {})
    except (LxmlError, OneLogin_Saml2_Error, ValueError) as error:
        raise _refused("It does not answer with the metadata of a SAML identity provider.") from error
    entity_id, sso_url = str(found.get("entityId", "")), str(found.get("singleSignOnService", {}).get("url", ""))
    several = found.get("x509certMulti", {}).get("signing", [])
    certificates = [str(text) for text in several or [found.get("x509cert", "")] if text]
    if not entity_id or len(entity_id) > 300:
        raise _refused("It does not say who the identity provider is (entityID).")
    if urlsplit(sso_url).scheme not in ("http", "https"):
        raise _refused("It names no address for signing in by redirect (HTTP-Redirect).")
    if not certificates:
        raise _refused("It names no certificate that answers are signed with.")
    return SamlMetadata(entity_id, sso_url, certificates)


def _refused(sentence: str) -> InvalidInput:
    return InvalidInput(fields={"metadata_url": [sentence]})


def refresh_metadata(row: IdentityProvider) -> IdentityProvider:
    """Read old metadata again, before somebody is sent to the provider; what was read last stays when that fails."""
    if row.metadata_read_at is not None and row.metadata_read_at > timezone.now() - FRESH:
        return row
    try:
        found = read_metadata(row.metadata_url)
        if found.entity_id != row.issuer:
            raise _refused(f"It calls itself {found.entity_id} now.")
    except InvalidInput as error:
        logger.warning("single_sign_on.metadata_not_read", extra={"detail": str(error.fields)})
        return row
    row.metadata, row.metadata_read_at = found.as_json(), timezone.now()
    row.save(update_fields=["metadata", "metadata_read_at"])
    return row
