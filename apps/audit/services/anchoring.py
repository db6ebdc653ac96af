"""Heads written to a file outside the database, one JSON line each, so that a dropped end of the chain shows.

The file belongs on storage that only takes appends, or is shipped elsewhere; `AUM_AUDIT_ANCHOR_FILE` names it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from apps.audit.chain import instant, signing_keys
from apps.audit.models import AuditSegment
from apps.organizations.models import Organization

logger = logging.getLogger(__name__)
BATCH = 500


@dataclass
class Anchors:
    """The validly signed heads that the anchor file holds of one organisation, by number of segment."""

    heads: dict[int, set[bytes]] = field(default_factory=dict)


def anchor_file() -> Path | None:
    """Where heads go, or None while no anchor is set up."""
    name = getattr(settings, "AUM_AUDIT_ANCHOR_FILE", "")
    return Path(name) if name else None


def anchor_heads(organization: Organization) -> int:
    """Append the heads that are not in the file yet; returns how many. A crash in between writes a line twice, at most.

    A file that cannot be written is logged as an error and tried again with the next sealing.
    """
    path = anchor_file()
    if path is None:
        return 0
    segments = list(
        AuditSegment.objects.of(organization).filter(anchored_at=None).order_by("number").defer("digests")[:BATCH]
    )
    if not segments:
        return 0
    try:
        _append(path, "".join(_line(organization, segment) for segment in segments).encode())
    except OSError as error:
        logger.error("audit.anchor_failed", extra={"file": str(path), "error": type(error).__name__})
        return 0
    AuditSegment.objects.filter(pk__in=[segment.pk for segment in segments]).update(anchored_at=timezone.now())
    return len(segments)


def read_anchors(organization: Organization) -> Anchors | None:
    """The anchored heads of `organization`; None without an anchor. Lines that no known key signed do not count.

    Raises OSError when the file is set up and cannot be read.
    """
    path = anchor_file()
    if path is None:
        return None
    anchors = Anchors()
    keys = {key.key_id: key for key in signing_keys()}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["organization"] != organization.pk:
                    continue
                number, head = int(entry["segment"]), bytes.fromhex(entry["head"])
                key = keys.get(entry["key_id"])
                valid = key is not None and key.verifies(bytes.fromhex(entry["signature"]), head)
            except (ValueError, KeyError, TypeError):
                continue
            if valid:
                anchors.heads.setdefault(number, set()).add(head)
    return anchors


def _line(organization: Organization, segment: AuditSegment) -> str:
    entry = {
        "organization": organization.pk,
        "org_id": organization.org_id,
        "segment": segment.number,
        "last_id": segment.last_id,
        "head": bytes(segment.head).hex(),
        "signature": bytes(segment.signature).hex(),
        "key_id": segment.key_id,
        "sealed_at": instant(segment.sealed_at),
    }
    return json.dumps(entry) + "\n"


def _append(path: Path, data: bytes) -> None:
    """Write `data` at the end and to the disk, one writer at a time."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)
