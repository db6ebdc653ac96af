"""Appending audit rows: one at a time with `record`, in bulk with `record_many`."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.utils import timezone

from apps.audit import registry
from apps.audit.chain import commitment
from apps.audit.locks import WRITERS, lock_key
from apps.audit.models import SCHEMA_VERSION, AuditEvent
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from aum.common.logs import request_id as current_http_request

# From here on COPY pays for itself; below it a plain INSERT needs fewer round trips.
COPY_FROM_ROWS = 50
CHUNK_ROWS = 5000
MASK = "•••"
SECRET_KEYS = frozenset(
    {
        "password",
        "secret",
        "token",
        "api_token",
        "api_key",
        "authorization",
        "encrypted_value",
        "client_secret",
        "signing_secret",
        "private_key",
    }
)
_UNLIMITED = sys.maxsize
_encode = DjangoJSONEncoder(ensure_ascii=False, allow_nan=False).encode
_CONTAINERS = (Mapping, list, tuple, set, frozenset)
# Kind, key, name and e-mail of an identity.
_Texts = tuple[str, str, str, str]
COLUMNS = (
    "organization_id",
    "actor_kind",
    "actor_id",
    "action",
    "outcome",
    "target_kind",
    "target_id",
    "target_ref",
    "operation_id",
    "operation_number",
    "rule_id",
    "rule_name",
    "rule_version",
    "group_name",
    "reason",
    "before",
    "after",
    "correlation_id",
    "request_id",
    "call_id",
    "http_request_id",
    "ip_address",
    "schema_version",
)


@dataclass(slots=True)
class EventRow:
    """One row for `record_many`; the fields mean what they mean in `record`."""

    actor: Actor
    action: str
    target_kind: str = ""
    target_ref: str = ""
    target_name: str = ""
    target_email: str = ""
    outcome: str = AuditEvent.Outcome.SUCCESS
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    reason: str = ""
    correlation_id: uuid.UUID | None = None
    operation_id: int | None = None
    operation_number: int | None = None
    rule_id: int | None = None
    rule_name: str = ""
    rule_version: int | None = None
    group_name: str = ""
    request_id: str = ""
    call_id: str = ""


@dataclass(slots=True)
class PastEventRow(EventRow):
    """A row of the invented past of a demo, with the time at which it would have happened."""

    at: datetime | None = None


def record(
    *,
    organization: Organization,
    actor: Actor,
    action: str,
    target_kind: str = "",
    target_ref: str = "",
    target_name: str = "",
    target_email: str = "",
    outcome: str = AuditEvent.Outcome.SUCCESS,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
    correlation_id: uuid.UUID | None = None,
    operation_id: int | None = None,
    operation_number: int | None = None,
    rule_id: int | None = None,
    rule_name: str = "",
    rule_version: int | None = None,
    group_name: str = "",
    request_id: str = "",
    call_id: str = "",
) -> AuditEvent:
    """Append one event in the caller's transaction and return it with its id and time.

    `action` is dotted (`account.suspended`), `outcome` one of AuditEvent.Outcome, `before` and `after` hold the changed
    fields only and never secrets (keys that name one are masked), `request_id` is Atlassian's id of the call, `call_id`
    ours. Name and e-mail of actor and target are kept as text, in AuditIdentity. Text is cut to its column and cleaned
    of what PostgreSQL cannot store. The id of the current HTTP request is added by itself.
    """
    row = EventRow(
        actor=actor,
        action=action,
        target_kind=target_kind,
        target_ref=target_ref,
        target_name=target_name,
        target_email=target_email,
        outcome=outcome,
        before=before,
        after=after,
        reason=reason,
        correlation_id=correlation_id,
        operation_id=operation_id,
        operation_number=operation_number,
        rule_id=rule_id,
        rule_name=rule_name,
        rule_version=rule_version,
        group_name=group_name,
        request_id=request_id,
        call_id=call_id,
    )
    with transaction.atomic(savepoint=False):
        identities = _lock_and_resolve(organization.pk, [row])
        event = _event(next(_values(organization.pk, [row], identities)))
        event.save(force_insert=True)
        registry.tell(organization, [row])
    return event


def record_many(*, organization: Organization, rows: Iterable[EventRow]) -> int:
    """Append `rows` in the caller's transaction and return how many; streams, so any generator will do.

    From 50 rows on by COPY (PERFORMANCE.md 8). The rows are those that `record` would write. Raises ValueError for a
    row with a time of its own, unless the organisation is a demo.
    """
    written = 0
    with transaction.atomic(savepoint=False):
        for chunk in _chunks(rows):
            identities = _lock_and_resolve(organization.pk, chunk)
            values = _values(organization.pk, chunk, identities)
            if any(isinstance(row, PastEventRow) for row in chunk):
                if not organization.is_demo:
                    raise ValueError("Only the past of a demo can be invented.")
                now = timezone.now()
                timed = ((*value, getattr(row, "at", None) or now) for value, row in zip(values, chunk, strict=True))
                _copy(timed, (*COLUMNS, "at"))
                written += len(chunk)
                continue  # nobody is told of an invented past
            if len(chunk) >= COPY_FROM_ROWS:
                _copy(values)
            else:
                AuditEvent.objects.bulk_create([_event(value) for value in values])
            registry.tell(organization, chunk)
            written += len(chunk)
    return written


def _chunks(rows: Iterable[EventRow]) -> Iterator[list[EventRow]]:
    chunk: list[EventRow] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK_ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _lock_and_resolve(organization_id: int, rows: Sequence[EventRow]) -> dict[_Texts, int]:
    """Take the writers' lock and return the id of each identity that `rows` name, made where it is new.

    One round trip when all are known, three when not. The lock is taken before any event id is drawn: the sealer relies
    on it. No cache in the process: the lock needs its round trip anyway, and a cached id could belong to a transaction
    that was rolled back, or to an identity that was erased meanwhile.
    """
    given = {_actor_texts(row.actor) for row in rows}
    given.update(_target_texts(row) for row in rows if row.target_kind or row.target_ref)
    stored: dict[bytes, _Texts] = {}
    fingerprints: dict[_Texts, bytes] = {}
    for texts in given:
        clean = _identity_texts(texts)
        fingerprint = hashlib.sha256("\0".join((str(organization_id), *clean)).encode()).digest()
        stored[fingerprint] = clean
        fingerprints[texts] = fingerprint
    found = _known(organization_id, list(stored), lock=True)
    # Sorted, so that two transactions that add the same people wait for each other instead of locking each other out.
    missing = sorted(stored.keys() - found.keys())
    if missing:
        _add_identities(organization_id, [(fingerprint, stored[fingerprint]) for fingerprint in missing])
        found |= _known(organization_id, missing, lock=False)
    return {texts: found[fingerprint] for texts, fingerprint in fingerprints.items()}


def _known(organization_id: int, fingerprints: list[bytes], *, lock: bool) -> dict[bytes, int]:
    guard = "pg_advisory_xact_lock_shared(%s, %s)" if lock else "1"
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH guard AS MATERIALIZED (SELECT {guard}),"
            # One text is bound in a tenth of the time that an array of bytea takes.
            " wanted AS (SELECT decode(hex, 'hex') AS fingerprint FROM unnest(string_to_array(%s, ',')) AS hex)"
            " SELECT identity.fingerprint, identity.id FROM guard LEFT JOIN"
            " (wanted JOIN audit_auditidentity identity USING (fingerprint)) ON identity.organization_id = %s",
            [
                *(lock_key(WRITERS, organization_id) if lock else ()),
                ",".join([fingerprint.hex() for fingerprint in fingerprints]),
                organization_id,
            ],
        )
        return {bytes(fingerprint): pk for fingerprint, pk in cursor.fetchall() if pk is not None}


def _add_identities(organization_id: int, new: list[tuple[bytes, _Texts]]) -> None:
    """Insert `new`; one that another transaction adds at this moment is waited for and left to it.

    As one JSON text: seven arrays take psycopg longer than the insertion itself.
    """
    rows = []
    for fingerprint, texts in new:
        salt = secrets.token_bytes(16)
        rows.append([*texts, salt.hex(), commitment(salt, *texts).hex(), fingerprint.hex()])
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_auditidentity"
            " (organization_id, kind, key, name, email, salt, commitment, fingerprint)"
            " SELECT %s, r->>0, r->>1, r->>2, r->>3, decode(r->>4, 'hex'), decode(r->>5, 'hex'), decode(r->>6, 'hex')"
            " FROM json_array_elements(%s::json) WITH ORDINALITY AS given (r, place) ORDER BY place"
            " ON CONFLICT (organization_id, fingerprint) DO NOTHING",
            [organization_id, json.dumps(rows, ensure_ascii=False)],
        )


def _actor_texts(actor: Actor) -> _Texts:
    return (actor.kind, actor.ref, actor.name, actor.email)


def _target_texts(row: EventRow) -> _Texts:
    return (row.target_kind, row.target_ref, row.target_name, row.target_email)


def _identity_texts(texts: _Texts) -> _Texts:
    """`texts` cut and cleaned to the columns of AuditIdentity."""
    kind, key, name, email = texts
    return (_text(kind, 30), _text(key, 200), _text(name, 300), _text(email, 320))


def _values(
    organization_id: int, rows: Sequence[EventRow], identities: Mapping[_Texts, int]
) -> Iterator[tuple[Any, ...]]:
    """One tuple per row in the order of COLUMNS; before and after as JSON text."""
    http_request_id = _text(current_http_request.get(), 64)
    # Of the same action the changed fields are mostly the same, and their JSON costs more than the rest of the row.
    known: dict[tuple[tuple[str, Any], ...], str] = {}

    def changed(fields: Mapping[str, Any] | None) -> str | None:
        if not fields or not all(type(value) is str for value in fields.values()):
            return _json(fields)  # 1, 1.0 and True are equal, but not the same JSON
        key = tuple(fields.items())
        text = known.get(key)
        if text is None:
            text = known[key] = str(_json(fields))
        return text

    for row in rows:
        actor = row.actor
        has_target = row.target_kind or row.target_ref
        yield (
            organization_id,
            _text(actor.kind, 30),
            identities[_actor_texts(actor)],
            _text(row.action, 60),
            str(row.outcome),
            _text(row.target_kind, 30),
            identities[_target_texts(row)] if has_target else None,
            _text(row.target_ref, 200),
            row.operation_id,
            row.operation_number,
            row.rule_id,
            row.rule_name and _text(row.rule_name, 200),
            row.rule_version,
            row.group_name and _text(row.group_name, 300),
            row.reason and _text(row.reason, _UNLIMITED),
            changed(row.before),
            changed(row.after),
            row.correlation_id,
            row.request_id and _text(row.request_id, 200),
            row.call_id and _text(row.call_id, 64),
            http_request_id,
            actor.ip_address or None,
            SCHEMA_VERSION,
        )


def _event(values: tuple[Any, ...]) -> AuditEvent:
    fields = dict(zip(COLUMNS, values, strict=True))
    for name in ("before", "after"):
        fields[name] = None if fields[name] is None else json.loads(fields[name])
    return AuditEvent(**fields)


def _copy(values: Iterable[tuple[Any, ...]], columns: Sequence[str] = COLUMNS) -> None:
    with connection.cursor() as cursor:
        statement = f"COPY audit_auditevent ({', '.join(columns)}) FROM STDIN"
        with cursor.copy(statement) as copy:
            for value in values:
                copy.write_row(value)


def _text(value: str, limit: int = _UNLIMITED) -> str:
    """`value` as PostgreSQL can store it: no NUL, no half of a surrogate pair, at most `limit` characters."""
    if value.isascii() and len(value) <= limit and "\0" not in value:
        return value
    value = value.encode("utf-8", "replace").decode().replace("\0", "�")
    return value if len(value) <= limit else value[: limit - 1] + "…"


def _json(value: Mapping[str, Any] | None) -> str | None:
    """`value` as JSON text with storable characters and without secrets."""
    if value is None:
        return None
    text = _encode(value) if _is_plain(value) else ""
    # An escaped character may be one that jsonb does not take.
    if text and text.isascii() and "\\u" not in text:
        return text
    return _encode(_cleaned(value))


def _is_plain(value: Mapping[str, Any]) -> bool:
    """True when `value` is flat and none of its keys names a secret."""
    return SECRET_KEYS.isdisjoint([str(key).lower() for key in value]) and not any(
        isinstance(inner, _CONTAINERS) for inner in value.values()
    )


def _cleaned(value: Any) -> Any:
    """`value` with storable texts, and with the values of keys that name a secret masked at any depth (P12)."""
    if isinstance(value, Mapping):
        return {
            _text(str(key)): MASK if str(key).lower() in SECRET_KEYS and inner else _cleaned(inner)
            for key, inner in value.items()
        }
    if isinstance(value, _CONTAINERS):
        return [_cleaned(inner) for inner in value]
    return _text(value) if isinstance(value, str) else value
