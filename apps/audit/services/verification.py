"""Verification: every sealed event is hashed again and held against its signed segment, and every segment against the
chain, its checkpoints and the anchor outside (P9)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from django.db import connection

from apps.audit.chain import (
    AT,
    COLUMNS_V1,
    GENESIS,
    ROWS_SQL,
    checkpoint_message,
    commitment,
    row_digest,
    segment_head,
    segment_root,
    signing_keys,
)
from apps.audit.models import AuditCheckpoint, AuditIdentity, AuditSegment
from apps.audit.services.anchoring import Anchors, read_anchors
from apps.organizations.models import Organization

Kind = Literal["edited", "removed", "added", "swapped", "segment_broken", "signature"]
BATCH_ROWS = 5000
MAX_FINDINGS = 10_000
MAX_CHECKED_IDENTITIES = 200_000
# Among more edited rows than this, only swaps that took the time along are recognised as swaps.
MAX_PAIRWISE = 300
ENTRY = 8 + 32
ACTOR_ID = COLUMNS_V1.index("e.actor_id")
TARGET_ID = COLUMNS_V1.index("e.target_id")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was sealed.

    `event_id` is None where a whole segment is meant; `identity_id` is set where a name or e-mail was changed, and
    `event_id` is then the first event that shows it.
    """

    kind: Kind
    event_id: int | None
    segment: int
    at: datetime | None
    sentence: str
    identity_id: int | None = None


@dataclass
class VerifyReport:
    """What `verify` found. `first_broken` holds up to 10,000 findings, `findings` counts all of them.

    `anchored_through` is the newest segment whose head also stands in the anchor outside: up to there a chain that was
    written anew would show, even by somebody who has the signing key; None where no anchor is set up. `unsealed_rows`
    are newer than the last segment and proven by nothing yet; `unsealed_since` is the oldest of them.
    """

    segments: int = 0
    purged_segments: int = 0
    rows: int = 0
    findings: int = 0
    first_broken: list[Finding] = field(default_factory=list)
    unsealed_rows: int = 0
    unsealed_since: datetime | None = None
    anchored_through: int | None = None

    @property
    def ok(self) -> bool:
        return self.findings == 0

    def add(self, findings: Iterable[Finding]) -> None:
        """Count `findings` and keep as many as there is room for."""
        for finding in findings:
            self.findings += 1
            if len(self.first_broken) < MAX_FINDINGS:
                self.first_broken.append(finding)


@dataclass(frozen=True)
class _Edited:
    """A row that differs from its digest, kept to recognise rows that changed places."""

    event_id: int
    columns: tuple[Any, ...]
    expected: bytes


@dataclass
class _Rows:
    """What the rows of one segment turned out to be."""

    count: int = 0
    findings: list[Finding] = field(default_factory=list)
    edited: list[_Edited] = field(default_factory=list)
    removed: dict[bytes, int] = field(default_factory=dict)


def verify(organization: Organization, *, on_progress: Callable[[int, int], None] | None = None) -> VerifyReport:
    """Check the whole audit log of `organization` and name every edited, removed, added or swapped event.

    Reads one segment and 5,000 rows at a time. `on_progress` is called with segments done and segments in all. Changes
    nothing. Raises OSError when an anchor is set up and cannot be read.
    """
    return _Verifier(organization).run(on_progress)


def segment_findings(segment: AuditSegment, previous: AuditSegment | None) -> list[Finding]:
    """What is wrong with one unpurged segment and its rows; the purge asks before it removes evidence."""
    verifier = _Verifier(segment.organization)
    return [*verifier.link_findings(segment, previous), *verifier.rows_of(segment, previous).findings]


class _Verifier:
    """One walk over the chain of one organisation."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self.report = VerifyReport()
        self.keys = {key.key_id: key for key in signing_keys()}
        self.heads: dict[int, bytes] = {}
        self.purged_through = 0
        self.edited: list[_Edited] = []
        self.removed: dict[bytes, int] = {}
        self.checked_identities: set[int] = set()

    def run(self, on_progress: Callable[[int, int], None] | None) -> VerifyReport:
        anchors = read_anchors(self.organization)
        numbers = list(AuditSegment.objects.of(self.organization).order_by("number").values_list("number", flat=True))
        previous: AuditSegment | None = None
        for done, number in enumerate(numbers, start=1):
            segment = AuditSegment.objects.of(self.organization).get(number=number)
            self.check_segment(segment, previous)
            previous = segment
            if on_progress is not None:
                on_progress(done, len(numbers))
        self.check_checkpoints()
        if anchors is not None:
            self.check_anchors(anchors)
        self.recognise_swaps()
        self.count_unsealed(previous)
        return self.report

    # The chain

    def checkpoints(self) -> Iterator[tuple[AuditCheckpoint, bool]]:
        """Each checkpoint, and whether its signature is valid."""
        for checkpoint in AuditCheckpoint.objects.of(self.organization).order_by("number"):
            message = checkpoint_message(
                organization_id=self.organization.pk,
                number=checkpoint.number,
                last_id=checkpoint.last_id,
                head=bytes(checkpoint.head),
                rows=checkpoint.rows,
                purged_at=checkpoint.purged_at,
            )
            yield checkpoint, self.is_signed(checkpoint.key_id, bytes(checkpoint.signature), message)

    def check_segment(self, segment: AuditSegment, previous: AuditSegment | None) -> None:
        self.report.segments += 1
        self.heads[segment.number] = bytes(segment.head)
        self.report.add(self.link_findings(segment, previous))
        rows = self.rows_of(segment, previous)
        if rows.findings and segment.purged_at is None:
            # A purge may have taken the rows after we had read the segment.
            now = AuditSegment.objects.of(self.organization).get(number=segment.number)
            if now.purged_at is not None:
                segment, rows = now, self.rows_of(now, previous)
        if segment.purged_at is not None:
            self.report.purged_segments += 1
            if not self.is_purge_signed(segment.number):
                self.report.add([self.broken(segment, "was emptied without a signed purge")])
        self.take(rows)

    def is_purge_signed(self, number: int) -> bool:
        """True when a valid checkpoint covers the segment; reads again, because a purge may be at work beside us."""
        if number > self.purged_through:
            self.purged_through = max((point.number for point, valid in self.checkpoints() if valid), default=0)
        return number <= self.purged_through

    def take(self, rows: _Rows) -> None:
        self.report.rows += rows.count
        self.report.add(rows.findings)
        room = MAX_FINDINGS - len(self.edited) - len(self.removed)
        if room > 0:
            self.edited += rows.edited[:room]
            self.removed |= dict(itertools.islice(rows.removed.items(), room))

    def link_findings(self, segment: AuditSegment, previous: AuditSegment | None) -> Iterator[Finding]:
        """The segment's place in the chain, its head and its signature."""
        expected_number = previous.number + 1 if previous else 1
        for number in range(expected_number, segment.number):
            yield Finding("segment_broken", None, number, None, f"Segment {number} is missing.")
        if segment.number == expected_number and bytes(segment.previous_head) != (
            bytes(previous.head) if previous else GENESIS
        ):
            yield self.broken(segment, "does not continue the segment before it")
        head = segment_head(
            organization_id=self.organization.pk,
            number=segment.number,
            first_id=segment.first_id,
            last_id=segment.last_id,
            count=segment.count,
            root=bytes(segment.root),
            previous_head=bytes(segment.previous_head),
            sealed_at=segment.sealed_at,
        )
        if bytes(segment.head) != head:
            yield self.broken(segment, "was changed: its head does not fit its contents")
        if segment.purged_at is None and not self.list_is_intact(segment):
            yield self.broken(segment, "was changed: its list of events does not fit its root")
        if segment.key_id not in self.keys:
            sentence = f"Segment {segment.number} is signed with key {segment.key_id}, which is not configured here."
            yield Finding("signature", None, segment.number, segment.sealed_at, sentence)
        elif not self.is_signed(segment.key_id, bytes(segment.signature), bytes(segment.head)):
            sentence = f"The signature of segment {segment.number} is not valid."
            yield Finding("signature", None, segment.number, segment.sealed_at, sentence)

    def is_signed(self, key_id: str, signature: bytes, message: bytes) -> bool:
        key = self.keys.get(key_id)
        return key is not None and key.verifies(signature, message)

    @staticmethod
    def broken(segment: AuditSegment, what: str) -> Finding:
        return Finding("segment_broken", None, segment.number, segment.sealed_at, f"Segment {segment.number} {what}.")

    @staticmethod
    def list_is_intact(segment: AuditSegment) -> bool:
        digests = bytes(segment.digests)
        return len(digests) == segment.count * ENTRY and segment_root(digests) == bytes(segment.root)

    def check_checkpoints(self) -> None:
        """Each checkpoint is signed and names a segment that is still there with the same head."""
        for checkpoint, is_valid in self.checkpoints():
            number = checkpoint.number
            if not is_valid:
                sentence = f"The signature of the purge checkpoint at segment {number} is not valid."
                self.report.add([Finding("signature", None, number, checkpoint.purged_at, sentence)])
            elif self.heads.get(number) != bytes(checkpoint.head):
                sentence = f"The purge checkpoint names another segment {number} than the chain holds."
                self.report.add([Finding("segment_broken", None, number, checkpoint.purged_at, sentence)])

    def check_anchors(self, anchors: Anchors) -> None:
        """Every anchored head is in the chain, and the chain ends no earlier than the anchor."""
        self.report.anchored_through = 0
        for number, heads in sorted(anchors.heads.items()):
            mine = self.heads.get(number)
            if mine is None:
                sentence = f"Segment {number} is in the anchor and not in the database: it was removed."
            elif heads != {mine}:
                sentence = f"Segment {number} has another head in the anchor: the chain was written anew."
            else:
                self.report.anchored_through = number
                continue
            self.report.add([Finding("segment_broken", None, number, None, sentence)])

    # The rows

    def rows_of(self, segment: AuditSegment, previous: AuditSegment | None) -> _Rows:
        """Hold the rows between `previous` and the end of `segment` against the segment's list."""
        expected = dict(_entries(bytes(segment.digests)))
        # A list that was changed itself proves nothing about rows; that they differ from it is still worth saying.
        is_proof = segment.purged_at is not None or self.list_is_intact(segment)
        result = _Rows()
        for batch in _batches(self.organization.pk, previous.last_id if previous else None, segment.last_id):
            result.count += len(batch)
            result.findings += self.identity_findings(segment, batch)
            for event_id, group in itertools.groupby(batch, key=lambda row: row[0]):
                self.check_event(segment, event_id, list(group), expected.pop(event_id, None), result, is_proof)
        for event_id, digest in expected.items():
            result.removed[digest] = event_id
            result.findings.append(_row_finding(is_proof, "removed", event_id, segment, None, "was removed"))
        return result

    def check_event(
        self,
        segment: AuditSegment,
        event_id: int,
        rows: list[tuple[Any, ...]],
        expected: bytes | None,
        result: _Rows,
        is_proof: bool,
    ) -> None:
        """Judge all rows that carry `event_id`: more than one where somebody inserted a second."""
        original = next((row for row in rows if row_digest(row[1:]) == expected), None)
        suspects = [row for row in rows if row is not original]
        if expected is not None and original is None:
            row = suspects.pop(0)
            result.edited.append(_Edited(event_id, row[1:], expected))
            result.findings.append(
                _row_finding(
                    is_proof, "edited", event_id, segment, row[1 + AT], "is not as it was sealed: it was edited"
                )
            )
        for row in suspects:
            what = "was added after its time: no segment holds it"
            result.findings.append(_row_finding(is_proof, "added", event_id, segment, row[1 + AT], what))

    def identity_findings(self, segment: AuditSegment, batch: list[tuple[Any, ...]]) -> list[Finding]:
        """Names and e-mails that no longer fit what events were hashed with; each identity is read once."""
        first_event: dict[int, tuple[Any, ...]] = {}
        for row in batch:
            for identity_id in (row[1 + ACTOR_ID], row[1 + TARGET_ID]):
                if identity_id is not None and identity_id not in self.checked_identities:
                    first_event.setdefault(identity_id, row)
        if len(self.checked_identities) > MAX_CHECKED_IDENTITIES:
            self.checked_identities.clear()
        self.checked_identities |= first_event.keys()
        findings = []
        for identity in AuditIdentity.objects.filter(pk__in=first_event).order_by("pk"):
            if not _is_intact(identity):
                row = first_event[identity.pk]
                sentence = (
                    f"The name or e-mail that event {row[0]} shows was changed (identity {identity.pk},"
                    f" {identity.kind} {identity.key})."
                )
                findings.append(Finding("edited", row[0], segment.number, row[1 + AT], sentence, identity.pk))
        return findings

    def recognise_swaps(self) -> None:
        """Turn "edited" into "swapped" where a row carries what was sealed under another id."""
        sealed_as = {edited.expected: edited.event_id for edited in self.edited} | self.removed
        pairwise = self.edited if len(self.edited) <= MAX_PAIRWISE else []
        origin: dict[int, int] = {}
        for edited in self.edited:
            found = sealed_as.get(row_digest(edited.columns))
            for other in pairwise if found is None else ():
                # The contents changed places and the times stayed.
                if other is not edited and row_digest(_with_time_of(other, edited.columns)) == other.expected:
                    found = other.event_id
            if found is not None:
                origin[edited.event_id] = found
        for position, finding in enumerate(self.report.first_broken):
            swapped_from = origin.get(finding.event_id or 0)
            if finding.kind == "edited" and finding.identity_id is None and swapped_from is not None:
                sentence = (
                    f"Event {finding.event_id} carries what was sealed as event {swapped_from}: they were swapped."
                )
                self.report.first_broken[position] = replace(finding, kind="swapped", sentence=sentence)

    def count_unsealed(self, last: AuditSegment | None) -> None:
        after_id = last.last_id if last else None
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*), min(at) FROM audit_auditevent"
                " WHERE organization_id = %s AND (%s::bigint IS NULL OR id > %s)",
                [self.organization.pk, after_id, after_id],
            )
            self.report.unsealed_rows, self.report.unsealed_since = cursor.fetchone()


def _entries(digests: bytes) -> Iterator[tuple[int, bytes]]:
    """Event id and digest of each entry of a segment's list."""
    for start in range(0, len(digests) - ENTRY + 1, ENTRY):
        yield int.from_bytes(digests[start : start + 8], "big", signed=True), digests[start + 8 : start + ENTRY]


def _batches(organization_id: int, after_id: int | None, last_id: int) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of ROWS_SQL with after_id < id ≤ last_id by id, about BATCH_ROWS at a time; rows of one id stay together."""
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                f"{ROWS_SQL} WHERE e.organization_id = %s AND e.id <= %s AND (%s::bigint IS NULL OR e.id > %s)"
                " ORDER BY e.id FETCH FIRST %s ROWS WITH TIES",
                [organization_id, last_id, after_id, after_id, BATCH_ROWS],
            )
            rows = list(cursor.fetchall())
        if not rows:
            return
        yield rows
        if len(rows) < BATCH_ROWS:
            return
        after_id = rows[-1][0]


def _row_finding(
    is_proof: bool, kind: Kind, event_id: int, segment: AuditSegment, at: datetime | None, what: str
) -> Finding:
    if is_proof:
        return Finding(kind, event_id, segment.number, at, f"Event {event_id} {what}.")
    sentence = f"Event {event_id} differs from the list of segment {segment.number}, which was changed itself."
    return Finding("segment_broken", event_id, segment.number, at, sentence)


def _is_intact(identity: AuditIdentity) -> bool:
    """True when the texts are those that events were hashed with, or were erased."""
    if identity.erased_at is not None:
        return not identity.name and not identity.email
    texts = (identity.kind, identity.key, identity.name, identity.email)
    return commitment(bytes(identity.salt), *texts) == bytes(identity.commitment)


def _with_time_of(other: _Edited, columns: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*columns[:AT], other.columns[AT], *columns[AT + 1 :])
