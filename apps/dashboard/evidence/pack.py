"""An evidence pack as a stream: plan, reasons, approvals, notices, outcomes, log entries, their proof, and a page.

The zip is not compressed and carries no dates, so that every byte of it follows from its files and their signed
manifest: the script inside refuses it after one changed byte.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import connection
from django.db.models import Max
from django.utils import timezone

from apps.audit.chain import AT, COLUMNS_V1, ROWS_SQL, instant, signing_keys
from apps.audit.models import AuditEvent, AuditIdentity, AuditSegment
from apps.audit.services import seal
from apps.dashboard.evidence import page
from apps.dashboard.evidence.sources import notices_of
from apps.operations.models import Operation, OperationItem
from apps.operations.reasons import change_words, left_out_label, outcome_sentence, reason_sentence
from apps.rules.models import RuleVersion
from aum.common.errors import DomainError

MODE = 0o100644 << 16
_SCRIPT = Path(__file__).with_name("verify.py")
_IDENTITIES = (COLUMNS_V1.index("e.actor_id"), COLUMNS_V1.index("e.target_id"))
_CHUNK = 2000


class NotEnded(DomainError):
    code = "run_not_ended"
    detail = "The evidence is complete when the run has ended. Wait for it, or stop it."


def evidence_name(operation: Operation) -> str:
    """The name of the file."""
    return f"aum-evidence-{operation.organization.slug}-run-{operation.number}.zip"


def stream_evidence(operation: Operation, *, made_by: str) -> Iterator[bytes]:
    """The zip in pieces, as it is made. Raises NotEnded, before the first piece, for a run that is still open.

    What is logged about the run is sealed first. Reads at most 2,000 rows at a time.
    """
    if operation.is_open:
        raise NotEnded
    seal(operation.organization)
    return _Pack(operation, made_by).stream()


class _Sink:
    """A file that cannot be sought: what is written waits here until it is sent."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        self.pieces.append(bytes(data))
        return len(self.pieces[-1])

    def flush(self) -> None:
        """Nothing waits but what `take` sends."""

    def take(self) -> bytes:
        data = b"".join(self.pieces)
        self.pieces.clear()
        return data


class _Pack:
    def __init__(self, operation: Operation, made_by: str) -> None:
        self.operation = operation
        self.made_by = made_by
        self.made_at = timezone.now()
        self.files: list[dict[str, Any]] = []
        self.identities: set[int] = set()
        self.event_ids: list[int] = []
        # What is logged from here on, such as this download, is no part of the pack.
        newest = AuditEvent.objects.filter(operation_id=operation.pk).aggregate(newest=Max("id"))["newest"]
        self.newest_event_id: int = newest or 0

    def stream(self) -> Iterator[bytes]:
        sink = _Sink()
        with zipfile.ZipFile(sink, "w") as archive:  # type: ignore[call-overload]  # a sink only has to be written to
            for name, lines in self.members():
                yield from self.add(archive, sink, name, lines)
            manifest = self.manifest()
            self.write(archive, "manifest.json", manifest)
            signature = signing_keys()[0].sign(hashlib.sha256(manifest).digest())
            self.write(archive, "manifest.sig", signature.hex().encode())
        yield sink.take()

    def members(self) -> Iterator[tuple[str, Iterable[str]]]:
        """Each file with its lines; the entries come before what is known only after them."""
        yield "README.txt", [page.README]
        yield "verify.py", [_SCRIPT.read_text(encoding="utf-8")]
        yield "key.json", [_pretty(self.keys())]
        yield "run.json", [_pretty(self.run())]
        yield "rule.json", [_pretty(self.rule())]
        yield "approvals.json", [_pretty(self.approvals())]
        yield "notices.json", [_pretty(notices_of(self.operation))]
        yield "plan.jsonl", self.plan()
        yield "left-out.jsonl", self.left_out()
        yield "outcomes.jsonl", self.outcomes()
        yield "events.jsonl", self.events()
        yield "people.jsonl", self.people()
        yield "chain.json", [_pretty(self.chain())]
        yield "index.html", page.render(self.operation, self.approvals(), notices_of(self.operation), self.rows())

    def add(self, archive: zipfile.ZipFile, sink: _Sink, name: str, lines: Iterable[str]) -> Iterator[bytes]:
        digest, size = hashlib.sha256(), 0
        with archive.open(_member(name), "w") as member:
            for line in lines:
                data = line.encode()
                digest.update(data)
                size += len(data)
                member.write(data)
                if sum(len(piece) for piece in sink.pieces) > 65_536:
                    yield sink.take()
        self.files.append({"name": name, "bytes": size, "sha256": digest.hexdigest()})
        yield sink.take()

    @staticmethod
    def write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
        with archive.open(_member(name), "w") as member:
            member.write(data)

    def manifest(self) -> bytes:
        content = {
            "format": "aum-evidence-1",
            "organization": self.operation.organization_id,
            "organization_name": self.operation.organization.name,
            "run": self.operation.number,
            "kind": self.operation.kind,
            "plan_hash": self.operation.plan_hash,
            "made_at": instant(self.made_at),
            "made_by": self.made_by,
            "key_id": signing_keys()[0].key_id,
            "files": self.files,
        }
        return _pretty(content).encode()

    def keys(self) -> dict[str, Any]:
        keys = [
            {
                "key_id": key.key_id,
                "public_key": key.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex(),
            }
            for key in signing_keys()
        ]
        return {"algorithm": "Ed25519", "key_id_is": "start of the SHA-256 of the public key", "keys": keys}

    def run(self) -> dict[str, Any]:
        row = self.operation
        return {
            "number": row.number,
            "uuid": str(row.uuid),
            "name": row.name,
            "kind": row.kind,
            "mode": row.mode,
            "status": row.status,
            "status_detail": row.status_detail,
            "initiator": row.initiator,
            "actor": row.actor_text,
            "actor_ip": row.actor_ip,
            "reason": row.reason,
            "sentence": row.sentence,
            "rule_id": row.rule_id,
            "rule_version": row.rule_version,
            "frozen": row.frozen,
            "plan_hash": row.plan_hash,
            "planned_changes": row.planned_count,
            "people": row.people_count,
            "left_out": row.left_out,
            "outcomes": row.outcomes,
            "held_reasons": row.held_reasons,
            **{
                name: getattr(row, name)
                for name in ("created_at", "planned_at", "started_at", "first_write_at", "finished_at")
            },
            "undo_of": row.undo_of.number if row.undo_of else None,
            "retry_of": row.retry_of.number if row.retry_of else None,
            "applies": row.applies.number if row.applies else None,
        }

    def rule(self) -> dict[str, Any] | None:
        row = self.operation
        if row.rule_id is None:
            return None
        version = RuleVersion.objects.of(row.organization).filter(rule_id=row.rule_id, version=row.rule_version).first()
        if version is None:
            return {"rule_id": row.rule_id, "version": row.rule_version, "content": None}
        return {
            "rule_id": row.rule_id,
            "version": version.version,
            "edited_by": version.edited_by_text,
            "edited_at": version.edited_at,
            "content": version.content,
        }

    def approvals(self) -> list[dict[str, Any]]:
        return [
            {
                "decision": approval.decision,
                "decided_by": approval.decided_by_text,
                "decided_at": approval.decided_at,
                "reason": approval.reason,
                "people": approval.count,
                "plan_hash": approval.plan_hash,
                "is_one_operator": approval.is_one_operator,
            }
            for approval in self.operation.approvals.order_by("pk")
        ]

    def plan(self) -> Iterator[str]:
        """The lines whose hash was approved, in the order and writing in which it was made (planning.freeze)."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT jsonb_build_array(subject, action, target, parameters)::text FROM operations_operationitem"
                ' WHERE operation_id = %s ORDER BY subject COLLATE "C", action COLLATE "C", target COLLATE "C"',
                [self.operation.pk],
            )
            while rows := cursor.fetchmany(_CHUNK):
                yield "".join(f"{row[0]}\n" for row in rows)

    def items(self) -> Iterator[OperationItem]:
        items = OperationItem.objects.filter(operation=self.operation).select_related("account")
        yield from items.order_by("pk").iterator(chunk_size=_CHUNK)

    def outcomes(self) -> Iterator[str]:
        planned_at = self.operation.planned_at or self.operation.created_at
        for item in self.items():
            action, target = change_words(item)
            yield _line(
                {
                    "subject": item.subject,
                    "name": item.account.name if item.account else "",
                    "email": item.account.email if item.account else item.subject,
                    "action": item.action,
                    "action_words": action,
                    "target": item.target,
                    "target_words": target,
                    "reason": item.reason,
                    "reason_words": reason_sentence(item.reason, planned_at),
                    "status": item.status,
                    "outcome": item.outcome,
                    "outcome_words": outcome_sentence(item),
                    "before": item.before,
                    "after": item.after,
                    "written_at": item.written_at,
                    "finished_at": item.finished_at,
                    "attempts": item.attempts,
                    "atlassian_request_id": item.atlassian_request_id,
                    "call_id": item.call_id,
                }
            )

    def left_out(self) -> Iterator[str]:
        rows = self.operation.left_out_rows.select_related("account").order_by("pk")
        for row in rows.iterator(chunk_size=_CHUNK):
            yield _line(
                {
                    "account_id": row.account.account_id,
                    "reason": row.reason,
                    "reason_words": left_out_label(row.reason),
                    "detail": row.detail,
                }
            )

    def events(self) -> Iterator[str]:
        after = 0
        while True:
            with connection.cursor() as cursor:
                cursor.execute(
                    f"{ROWS_SQL} WHERE e.organization_id = %s AND e.operation_id = %s AND e.id > %s AND e.id <= %s"
                    " ORDER BY e.id LIMIT %s",
                    [self.operation.organization_id, self.operation.pk, after, self.newest_event_id, _CHUNK],
                )
                rows = cursor.fetchall()
            for event_id, *columns in rows:
                columns[AT] = instant(columns[AT])
                self.event_ids.append(event_id)
                self.identities.update(columns[place] for place in _IDENTITIES if columns[place] is not None)
                yield _line({"id": event_id, "row": columns})
            if len(rows) < _CHUNK:
                return
            after = rows[-1][0]

    def people(self) -> Iterator[str]:
        found = AuditIdentity.objects.filter(organization=self.operation.organization, pk__in=self.identities)
        for row in found.order_by("pk").iterator(chunk_size=_CHUNK):
            yield _line(
                {
                    "kind": row.kind,
                    "key": row.key,
                    "name": row.name,
                    "email": row.email,
                    "salt": bytes(row.salt).hex(),
                    "commitment": bytes(row.commitment).hex(),
                    "erased": row.erased_at is not None,
                }
            )

    def chain(self) -> dict[str, Any]:
        segments = []
        if self.event_ids:
            held = AuditSegment.objects.of(self.operation.organization).filter(
                last_id__gte=self.event_ids[0], first_id__lte=self.event_ids[-1]
            )
            segments = [
                {
                    "number": row.number,
                    "first_id": row.first_id,
                    "last_id": row.last_id,
                    "count": row.count,
                    "root": bytes(row.root).hex(),
                    "previous_head": bytes(row.previous_head).hex(),
                    "head": bytes(row.head).hex(),
                    "signature": bytes(row.signature).hex(),
                    "key_id": row.key_id,
                    "sealed_at": instant(row.sealed_at),
                    "digests": bytes(row.digests).hex(),
                }
                for row in held.filter(purged_at=None).order_by("number")
                if self._holds_entries(row)
            ]
        return {"organization": self.operation.organization_id, "columns": list(COLUMNS_V1), "segments": segments}

    def _holds_entries(self, segment: AuditSegment) -> bool:
        return any(segment.first_id <= event_id <= segment.last_id for event_id in self.event_ids)

    def rows(self) -> Iterator[page.Row]:
        planned_at = self.operation.planned_at or self.operation.created_at
        for item in self.items():
            action, target = change_words(item)
            who = (item.account.email or item.account.name) if item.account else item.subject
            outcome = item.get_outcome_display() if item.outcome else item.get_status_display()
            yield page.Row(
                who,
                item.subject,
                action,
                target,
                reason_sentence(item.reason, planned_at),
                str(outcome),
                outcome_sentence(item),
                item.finished_at,
            )


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_STORED, MODE, 3
    return info


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=_plain) + "\n"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
