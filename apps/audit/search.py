"""Searching millions of events by words.

The words of an event are those of its action, rule, group and reason; a query finds events that hold, for each of its
words, one that begins with it. They stand in `AuditSearch` beside each sealed event: rare ones are found through its
index, frequent ones by walking it from the newest, which meets enough of them soon. People, runs and events that are
not sealed yet are looked up by indexes of their own, and the newest of all are united. All ways give the same rows, as
does a walk over the events before the words are complete.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.postgres.search import SearchQuery
from django.db import connection, transaction
from django.db.models import BooleanField, Exists, F, Func, Max, OuterRef, Q

from apps.audit.models import AuditSearch, AuditSegment, LogClearance
from apps.audit.registry import operations, words_complete
from apps.organizations.models import Organization

MAX_WORDS = 12
MAX_PEOPLE = 2000
# Up to so many matches are named one by one; where there are more, a list walks from the newest.
MOST_FOUND = 2000
# As many of the newest rows with the words: walking finds a page sooner than collecting all matches.
SAMPLE_ROWS, FREQUENT_IN_SAMPLE = 2000, 3
_TEXT = "concat_ws(' ', {0}action, {0}rule_name, {0}group_name, {0}reason)"
# Split at everything but letters and digits: the parser of PostgreSQL would take account.suspended for a host.
_WORDS = "to_tsvector('simple', regexp_replace(left(" + _TEXT + ", 4000), '[^[:alnum:]]+', ' ', 'g'))"
WORDS_OF_EVENT = _WORDS.format("e.")
_LETTERS = re.compile(r"[^\W_]+")


class _HasWords(Func):
    """True where the event's own columns hold the words of a tsquery."""

    function = ""
    output_field = BooleanField()
    template = (
        # A subquery, because the planner takes half of the rows for its matches and walks from the newest; of the bare
        # comparison it expects one in a thousand, and reads and sorts everything.
        "(SELECT to_tsvector('simple',"
        " regexp_replace(left(concat_ws(' ', %(expressions)s), 4000), '[^[:alnum:]]+', ' ', 'g'))"
        " @@ to_tsquery('simple', %(query)s))"
    )

    def __init__(self, query: str) -> None:
        super().__init__(F("action"), F("rule_name"), F("group_name"), F("reason"))
        self.query = query

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, tuple[str | int, ...]]:  # type: ignore[override]
        sql, params = super().as_sql(compiler, connection, query="%s", **context)
        return sql, (*params, self.query)

    def get_group_by_cols(self) -> list[Any]:
        return list(self.source_expressions)


def tsquery(text: str) -> str:
    """`said no` as `'said':* & 'no':*`; empty when `text` has no letter and no digit."""
    words = _LETTERS.findall(text.lower())[:MAX_WORDS]
    return " & ".join(f"'{word[:200]}':*" for word in words)


def identity_ids(organization: Organization, text: str, *, kinds: tuple[str, ...] = ()) -> list[int]:
    """Identities whose name, e-mail or key holds `text`, at most 2,000: their ids let the planner see how many rows
    belong to each."""
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM audit_auditidentity WHERE organization_id = %s AND (name ILIKE %s OR email ILIKE %s"
            " OR key = %s) AND (%s::text[] = '{}' OR kind = ANY(%s)) ORDER BY id DESC LIMIT %s",
            [organization.pk, pattern, pattern, text, list(kinds), list(kinds), MAX_PEOPLE],
        )
        return [row[0] for row in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The moments that a list covers: `since` ≤ at < `until`, and after the row `before` = (its at, its id)."""

    since: datetime | None = None
    until: datetime | None = None
    before: tuple[datetime, int] | None = None

    def sql(self, key: str) -> tuple[str, list[Any]]:
        """A condition on the columns `at` and `key`, and its parameters; empty without a bound."""
        parts: list[tuple[str, list[Any]]] = []
        if self.since is not None:
            parts.append((" AND at >= %s", [self.since]))
        if self.until is not None:
            parts.append((" AND at < %s", [self.until]))
        if self.before is not None:
            # The second half says nothing new; it lets the planner leave out later partitions.
            parts.append((f" AND (at, {key}) < (%s, %s) AND at <= %s", [*self.before, self.before[0]]))
        return "".join(sql for sql, _ in parts), [value for _, values in parts for value in values]


def matching(organization: Organization, text: str, bounds: Bounds = Bounds(), *, page_size: int | None = None) -> Q:
    """The condition on events that `text` stands for: words, people acted upon, run numbers, names of runs.

    Within `bounds`, which the caller asks for as well. With `page_size` it may leave out all but the newest so many
    events: right for a page without other filters.
    """
    search = _Search.of(organization, text)
    if search.is_indexed:
        most = MOST_FOUND if page_size is None else page_size
        found = search.newest(bounds, most + 1)
        if len(found) <= most or page_size is not None:
            return _these(found)
    return search.condition()


def _these(found: list[tuple[int, datetime]]) -> Q:
    """Exactly these events. Their moments let the planner look into the partitions of theirs only."""
    if not found:
        return Q(pk__in=[])
    moments = [at for _, at in found]
    return Q(pk__in=[pk for pk, _ in found], at__gte=min(moments), at__lte=max(moments))


@dataclass(frozen=True, slots=True)
class _Search:
    """What one text stands for in one organisation."""

    organization: Organization
    text: str
    query: str
    people: list[int]
    runs: Mapping[int, datetime]
    run_number: int | None
    is_indexed: bool

    @classmethod
    def of(cls, organization: Organization, text: str) -> _Search:
        query = tsquery(text)
        number = text.removeprefix("#")
        return cls(
            organization=organization,
            text=text,
            query=query,
            people=identity_ids(organization, text),
            runs=operations().named(organization, text),
            run_number=int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None,
            is_indexed=bool(query) and words_complete(organization),
        )

    def condition(self) -> Q:
        """Judges each event by itself, for lists that walk from the newest and for those before the index."""
        found = Q(target_ref=self.text) | Q(target_id__in=self.people)
        if self.is_indexed:
            words = SearchQuery(self.query, config="simple", search_type="raw")
            stored = AuditSearch.objects.filter(event_id=OuterRef("pk"), words=words)
            found |= Exists(stored) | Q(_HasWords(self.query), pk__gt=self._sealed_through())
        elif self.query:
            found |= Q(_HasWords(self.query))
        if self.runs:
            found |= Q(operation_id__in=list(self.runs))
        if self.run_number is not None:
            found |= Q(operation_number=self.run_number)
        return found

    def newest(self, bounds: Bounds, limit: int) -> list[tuple[int, datetime]]:
        """Up to `limit` events (id, at), newest first: each kind of match by the index that serves it, united."""
        pk = self.organization.pk
        within, values = bounds.sql("id")
        last = f" ORDER BY at DESC, id DESC LIMIT {int(limit)}"
        events = f"SELECT id, at FROM audit_auditevent e WHERE organization_id = %s AND id > %s{within}"
        cleared = self._cleared_through()
        branches = [
            self._by_words(bounds, limit),
            (
                f"{events} AND id > %s AND ({WORDS_OF_EVENT} @@ to_tsquery('simple', %s) OR target_ref = %s"
                f" OR operation_number = %s){last}",
                [pk, cleared, *values, self._sealed_through(), self.query, self.text, self.run_number],
            ),
        ]
        # References are found as keys of identities: an erased person's texts are gone, and the key stays.
        if self.people:
            branches.append((f"{events} AND target_id = ANY(%s::bigint[]){last}", [pk, cleared, *values, self.people]))
        if self.runs:
            # No event of a run is older than the run: older partitions need not be walked in vain.
            of_runs = f"{events} AND at >= %s AND operation_id = ANY(%s::bigint[]){last}"
            branches.append((of_runs, [pk, cleared, *values, min(self.runs.values()), list(self.runs)]))
        sql = " UNION ".join(f"({branch})" for branch, _ in branches)
        with transaction.atomic(), connection.cursor() as cursor:
            # Of a word that begins with something the planner expects two in a hundred rows, and would read them all.
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"{sql}{last}", [value for _, parameters in branches for value in parameters])
            found = [(row[0], row[1]) for row in cursor.fetchall()]
            cursor.execute("SET LOCAL enable_seqscan TO DEFAULT")
        return found

    def _by_words(self, bounds: Bounds, limit: int) -> tuple[str, list[Any]]:
        """Sealed events by the stored words: frequent ones by walking from the newest, rare ones collected first."""
        within, values = bounds.sql("event_id")
        holds = "words @@ to_tsquery('simple', %s)"
        last = f" AND event_id > %s{within} ORDER BY at DESC, event_id DESC LIMIT {int(limit)}"
        parameters = [self.organization.pk, self.query, self._cleared_through(), *values]
        if self._is_frequent(bounds):
            # Put so that the index of the words cannot serve it: of two frequent words the planner expects few rows.
            stored = f"audit_auditsearch WHERE organization_id = %s AND ({holds}) IS TRUE"
            return f"SELECT event_id AS id, at FROM {stored}{last}", parameters
        # The sum keeps the planner from every index but that of the words: any other would read all that is stored.
        stored = f"SELECT event_id, at FROM audit_auditsearch WHERE organization_id + 0 = %s AND {holds}"
        found = f"WITH found AS MATERIALIZED ({stored}) SELECT event_id AS id, at FROM found"
        return f"{found} WHERE true{last}", parameters

    def _is_frequent(self, bounds: Bounds) -> bool:
        """Whether enough of the newest events hold the words for a walk to meet a page of them soon.

        Looked at rather than estimated: of words that begin with something the planner knows nothing.
        """
        within, values = bounds.sql("event_id")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM (SELECT words FROM audit_auditsearch WHERE organization_id = %s"
                f"{within} ORDER BY at DESC, event_id DESC LIMIT %s) AS newest"
                " WHERE words @@ to_tsquery('simple', %s)",
                [self.organization.pk, *values, SAMPLE_ROWS, self.query],
            )
            found: int = cursor.fetchone()[0]
        return found >= FREQUENT_IN_SAMPLE

    def _cleared_through(self) -> int:
        """What was cleared has left every list, though the worker may not have removed it yet."""
        found = LogClearance.objects.of(self.organization).aggregate(through=Max("through_event_id"))["through"]
        return int(found or 0)

    def _sealed_through(self) -> int:
        segments = AuditSegment.objects.of(self.organization).order_by("-number")
        return segments.values_list("last_id", flat=True).first() or 0


def store_words(organization_id: int, first_id: int, last_id: int) -> int:
    """Write the words of the events `first_id` to `last_id` anew, in the caller's transaction; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM audit_auditsearch WHERE organization_id = %s AND event_id BETWEEN %s AND %s",
            [organization_id, first_id, last_id],
        )
        cursor.execute(
            "INSERT INTO audit_auditsearch (event_id, organization_id, at, words)"
            f" SELECT DISTINCT ON (e.id) e.id, e.organization_id, e.at, {WORDS_OF_EVENT} FROM audit_auditevent e"
            " WHERE e.organization_id = %s AND e.id BETWEEN %s AND %s ORDER BY e.id"
            " ON CONFLICT (event_id) DO NOTHING",
            [organization_id, first_id, last_id],
        )
        return int(cursor.rowcount)
