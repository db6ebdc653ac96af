"""What operators decide about people and groups: exemptions, snoozes, protection; and a fresh look at one person."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from apps.audit.services import EventRow, record, record_many
from apps.organizations.models import Alert, Directory, Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert, reader_for, resolve_alert
from apps.users.cache import mirror_changed
from apps.users.models import (
    Account,
    AccountKind,
    DirectoryMembership,
    Exemption,
    Group,
    MembershipStatus,
    ProtectedGroup,
)
from apps.users.services.mirror import mirror_membership_status, mirror_people, mirror_vanished
from aum.atlassian.client import AtlassianReader
from aum.atlassian.errors import NotFound
from aum.atlassian.schemas import Person, ProductActivity
from aum.common.errors import DomainError, InvalidInput, NotAllowed

# "For good", as an instant that PostgreSQL and Python both hold and no date of an exemption reaches.
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)


class AlreadyExempt(DomainError):
    code = "already_exempt"
    detail = "This user is already exempt. Extend or end that exemption."


class ExemptionOver(DomainError):
    code = "exemption_over"
    detail = "This exemption has already ended."


# --- exemptions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """What an exemption is about: exactly one of these."""

    account: Account | None = None
    group: Group | None = None
    domain: str = ""
    account_kind: int | None = None

    def fields(self, organization: Organization) -> dict[str, Any]:
        """Columns of the row. Raises InvalidInput, NotAllowed for something of another organisation."""
        given = [self.account is not None, self.group is not None, bool(self.domain), self.account_kind is not None]
        if sum(given) != 1:
            raise InvalidInput(fields={"account_id": ["Choose a user, a group, a domain or a kind of account."]})
        if self.account is not None:
            _own(organization, self.account)
        if self.group is not None and self.group.organization_id != organization.pk:
            raise NotAllowed("This group belongs to another organisation.")
        domain = self.domain.strip().lower().removeprefix("@")
        if self.domain and not _DOMAIN.fullmatch(domain):
            raise InvalidInput(fields={"domain": ["Enter a domain such as partner.example."]})
        if self.account_kind is not None and self.account_kind not in AccountKind.values:
            raise InvalidInput(fields={"account_kind": ["Choose a kind of account."]})
        return {"account": self.account, "group": self.group, "domain": domain, "account_kind": self.account_kind}


_DOMAIN = re.compile(r"(?=.{3,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9][a-z0-9-]{0,61}[a-z0-9]")


def set_exemption(
    *,
    organization: Organization,
    reason: str,
    until: datetime | None,
    actor: Actor,
    account: Account | None = None,
    group: Group | None = None,
    domain: str = "",
    account_kind: int | None = None,
    starts_at: datetime | None = None,
    kind: str = Exemption.Kind.EXEMPTION,
) -> Exemption:
    """Keep every cleanup from a person, a group's members, a domain or a kind until an instant; `until` None: for good.

    `starts_at` in the future is a leave. Raises InvalidInput without a reason, with a past `until` or one before the
    start; AlreadyExempt when another exemption of the same subject counts within that time (a snooze may overlap one).
    """
    fields = Subject(account, group, domain, account_kind).fields(organization)
    reason = _reason(reason)
    _future(until)
    with transaction.atomic():
        _lock_subject(organization, fields)
        now = timezone.now()
        start = max(starts_at or now, now)
        if until is not None and until <= start:
            raise InvalidInput(fields={"until": ["Choose an end after the start."]})
        if start >= FOREVER:
            raise InvalidInput(fields={"starts_at": ["Choose a start within this century."]})
        same = Exemption.objects.of(organization).filter(**fields, kind=kind, ended_at__isnull=True)
        within = same.exclude(until__lte=start) if until is None else same.filter(starts_at__lt=until)
        if kind == Exemption.Kind.EXEMPTION and within.exclude(until__lte=start).exists():
            raise AlreadyExempt
        exemption: Exemption = Exemption.objects.create(
            organization=organization,
            **fields,
            kind=kind,
            reason=reason,
            starts_at=start,
            until=until,
            set_by=actor.name[:254],
        )
        _settle_subject(exemption)
        _record(exemption, actor, f"{kind}.set", after=_terms(exemption), reason=reason)
    if account is not None:
        account.refresh_from_db(fields=["exempt_until"])
    return exemption


def _lock_subject(organization: Organization, fields: dict[str, Any]) -> None:
    """Two people who exempt the same subject follow each other."""
    if fields["account"] is not None:
        Account.objects.select_for_update().only("pk").get(pk=fields["account"].pk)
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('exemption'), %s)", [organization.pk])


def extend_exemption(*, exemption: Exemption, until: datetime | None, reason: str, actor: Actor) -> Exemption:
    """Move the end of an exemption in force, or of one that has not begun. Raises ExemptionOver, InvalidInput."""
    reason = _reason(reason)
    _future(until)
    with transaction.atomic():
        current = _locked(exemption)
        if until is not None and until <= current.starts_at:
            raise InvalidInput(fields={"until": ["Choose an end after the start."]})
        before = _terms(current)
        current.until, current.reason, current.reminded_at = until, reason, None
        current.save(update_fields=["until", "reason", "reminded_at"])
        _settle_subject(current)
        _record(current, actor, f"{current.kind}.extended", before=before, after=_terms(current), reason=reason)
    return current


def end_exemption(*, exemption: Exemption, actor: Actor, reason: str = "") -> Exemption:
    """End an exemption now; the idle clock of whom it covered starts at this moment. Raises ExemptionOver."""
    with transaction.atomic():
        current = _locked(exemption)
        current.ended_at = timezone.now()
        current.save(update_fields=["ended_at"])
        _settle_subject(current)
        _record(current, actor, f"{current.kind}.ended", before=_terms(current), reason=reason)
    return current


def snooze(
    *, organization: Organization, accounts: Sequence[Account], until: datetime, reason: str, actor: Actor
) -> int:
    """Snooze many accounts until an instant, in one go; returns how many. Raises InvalidInput."""
    reason = _reason(reason)
    _future(until)
    for account in accounts:
        _own(organization, account)
    now = timezone.now()
    with transaction.atomic():
        Exemption.objects.bulk_create(
            (
                Exemption(
                    organization=organization,
                    account=account,
                    domain="",
                    kind=Exemption.Kind.SNOOZE,
                    reason=reason,
                    starts_at=now,
                    until=until,
                    set_by=actor.name[:254],
                )
                for account in accounts
            ),
            batch_size=2000,
        )
        _settle(organization, [account.pk for account in accounts])
        record_many(
            organization=organization,
            rows=(
                EventRow(
                    actor=actor,
                    action="snooze.set",
                    target_kind="account",
                    target_ref=account.account_id,
                    target_name=account.name,
                    target_email=account.email or "",
                    reason=reason,
                    after={"until": until.isoformat()},
                )
                for account in accounts
            ),
        )
    return len(accounts)


SNOOZE_AT_ONCE = 20_000


def snooze_matching(
    *, organization: Organization, people: QuerySet[Account], until: datetime, reason: str, actor: Actor
) -> int:
    """Snooze everybody of `people`; returns how many. Raises InvalidInput for nobody, and for too many at once."""
    found = list(
        people.order_by("pk").only("pk", "organization_id", "account_id", "name", "email")[: SNOOZE_AT_ONCE + 1]
    )
    if not found:
        raise InvalidInput(fields={"accounts": ["Select at least one user."]})
    if len(found) > SNOOZE_AT_ONCE:
        raise InvalidInput(
            fields={
                "accounts": [f"At most {SNOOZE_AT_ONCE:,} users at once. Exempt a group, a domain or a kind instead."]
            }
        )
    return snooze(organization=organization, accounts=found, until=until, reason=reason, actor=actor)


def _locked(exemption: Exemption) -> Exemption:
    current: Exemption = (
        Exemption.objects.select_for_update(of=("self",)).select_related("account", "group").get(pk=exemption.pk)
    )
    now = timezone.now()
    if current.ended_at is not None or (current.until is not None and current.until <= now):
        raise ExemptionOver
    return current


def _settle_subject(exemption: Exemption) -> None:
    _settle(exemption.organization, [exemption.account_id] if exemption.account_id else None)


def settle_exemptions() -> None:
    """Bring `Account.exempt_until` in line where time or membership changed it: every few minutes.

    Plans do not depend on it: they ask `exempting.exempt_q`. Lists show it, and the idle clock starts at its end.
    """
    now = timezone.now()
    live = Exemption.objects.filter(ended_at__isnull=True).exclude(until__lte=now - SETTLED_WITHIN)
    begun = Q(account__isnull=True) | Q(starts_at__gt=now - SETTLED_WITHIN, starts_at__lte=now)
    recently_over = Exemption.objects.filter(account__isnull=True, ended_at__gt=now - SETTLED_WITHIN)
    wanted = (
        live.filter(begun)
        .values_list("organization", flat=True)
        .union(recently_over.values_list("organization", flat=True))
    )
    for organization in Organization.objects.filter(pk__in=list(wanted)):
        with transaction.atomic():
            _settle(organization, None)


SETTLED_WITHIN = timedelta(hours=1)


def _settle(organization: Organization, accounts: Iterable[int] | None) -> None:
    """Derive `Account.exempt_until`, of these accounts or of all: the latest end of what covers them or did until now.

    A past end stays, since the idle clock starts there (DECISIONS.md §5); who is no longer covered has the present
    moment as end. Sets whose exemption ended more than an hour ago say nothing of their members of today.
    """
    pks = None if accounts is None else list(accounts)
    narrowed = "" if pks is None else "AND a.id = ANY(%(accounts)s)"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH e AS MATERIALIZED (
                SELECT *, LEAST(COALESCE(until, %(forever)s), COALESCE(ended_at, %(forever)s)) AS ends_at
                FROM users_exemption WHERE organization_id = %(organization)s AND starts_at <= %(now)s
            ), s AS MATERIALIZED (
                SELECT * FROM e WHERE account_id IS NULL AND ends_at > %(now)s - interval '1 hour'
            ), covered AS (
                SELECT e.account_id, e.ends_at FROM e WHERE e.account_id IS NOT NULL
                    {"" if pks is None else "AND e.account_id = ANY(%(accounts)s)"}
                UNION ALL
                SELECT m.account_id, s.ends_at FROM s JOIN users_groupmembership m ON m.group_id = s.group_id
                    {"" if pks is None else "WHERE m.account_id = ANY(%(accounts)s)"}
                UNION ALL
                SELECT a.id, s.ends_at FROM s JOIN users_account a ON a.organization_id = s.organization_id
                    AND a.kind = s.account_kind {narrowed}
                UNION ALL
                SELECT a.id, s.ends_at FROM s JOIN users_account a ON s.domain <> ''
                    AND a.organization_id = s.organization_id
                    AND lower(split_part(a.email, '@', 2)) = s.domain {narrowed}
            ), latest AS (
                SELECT account_id, max(ends_at) AS ends_at FROM covered GROUP BY account_id
            ), wanted AS (
                SELECT a.id, CASE
                    WHEN l.ends_at > %(now)s THEN l.ends_at
                    WHEN a.exempt_until > %(now)s THEN
                        CASE WHEN l.ends_at > %(now)s - interval '1 minute' THEN l.ends_at ELSE %(now)s END
                    ELSE GREATEST(a.exempt_until, l.ends_at) END AS until
                FROM users_account a LEFT JOIN latest l ON l.account_id = a.id
                WHERE a.organization_id = %(organization)s {narrowed}
                    AND (l.account_id IS NOT NULL OR a.exempt_until > %(now)s)
            )
            UPDATE users_account a SET exempt_until = w.until FROM wanted w
            WHERE a.id = w.id AND a.exempt_until IS DISTINCT FROM w.until
            """,
            {"organization": organization.pk, "accounts": pks, "forever": FOREVER, "now": timezone.now()},
        )
        if cursor.rowcount:
            mirror_changed(organization.pk)


REMIND_BEFORE = timedelta(days=7)


def remind_of_exemptions() -> None:
    """One alert an organisation for exemptions that end within a week and that nobody was told of (B13). Daily or more.

    Snoozes are short and end silently.
    """
    now = timezone.now()
    ending = Exemption.objects.filter(
        kind=Exemption.Kind.EXEMPTION, ended_at__isnull=True, until__gt=now, until__lte=now + REMIND_BEFORE
    )
    told = ending.filter(reminded_at__isnull=True, starts_at__lte=now).select_related(
        "account", "group", "organization"
    )
    by_organization: dict[Organization, list[Exemption]] = defaultdict(list)
    for exemption in told.order_by("until", "pk"):
        by_organization[exemption.organization].append(exemption)
    for organization, rows in by_organization.items():
        with transaction.atomic():
            names = [f"{row.subject} ({row.until:%d %b}, set by {row.set_by})" for row in rows[:5]]
            more = f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""
            one = len(rows) == 1
            raise_alert(
                organization=organization,
                kind="exemptions_ending",
                severity="warning",
                title=f"{len(rows):,} exemption{'' if one else 's'} end{'s' if one else ''} within 7 days",
                detail=f"{', '.join(names)}{more}. Extend what is still needed; afterwards cleanups judge them anew.",
                link=f"/o/{organization.slug}/exemptions/?view=ending",
                dedup_key="exemptions_ending",
            )
            Exemption.objects.filter(pk__in=[row.pk for row in rows]).update(reminded_at=now)
    still = set(ending.values_list("organization", flat=True))
    opened = Alert.objects.filter(dedup_key="exemptions_ending", resolved_at__isnull=True).select_related(
        "organization"
    )
    for alert in opened.exclude(organization__in=still):
        resolve_alert(organization=alert.organization, dedup_key="exemptions_ending")


def _terms(exemption: Exemption) -> dict[str, str | None]:
    terms = {"until": exemption.until.isoformat() if exemption.until else None, "reason": exemption.reason}
    if exemption.starts_at > timezone.now():
        terms["starts_at"] = exemption.starts_at.isoformat()
    return terms


def _record(
    exemption: Exemption,
    actor: Actor,
    action: str,
    *,
    before: dict[str, str | None] | None = None,
    after: dict[str, str | None] | None = None,
    reason: str = "",
) -> None:
    if exemption.account is not None:
        _record_account(exemption.account, actor, action, before=before, after=after, reason=reason)
        return
    group = exemption.group
    record(
        organization=exemption.organization,
        actor=actor,
        action=action,
        target_kind="group" if group else "exemption",
        target_ref=group.group_id if group else str(exemption.pk),
        target_name=exemption.subject,
        group_name=group.name if group else "",
        before=before,
        after=after,
        reason=reason,
    )


def _record_account(
    account: Account,
    actor: Actor,
    action: str,
    *,
    before: dict[str, str | None] | None = None,
    after: dict[str, str | None] | None = None,
    reason: str = "",
) -> None:
    record(
        organization=account.organization,
        actor=actor,
        action=action,
        target_kind="account",
        target_ref=account.account_id,
        target_name=account.name,
        target_email=account.email or "",
        before=before,
        after=after,
        reason=reason,
    )


def _reason(reason: str) -> str:
    if not reason.strip():
        raise InvalidInput(fields={"reason": ["Give a reason."]})
    return reason.strip()[:500]


def _future(until: datetime | None) -> None:
    if until is not None and not timezone.now() < until < FOREVER:
        raise InvalidInput(fields={"until": ["Choose a moment in the future."]})


def _own(organization: Organization, account: Account) -> None:
    if account.organization_id != organization.pk:
        raise NotAllowed("This user belongs to another organisation.")


# --- protection -------------------------------------------------------------------------------------------------------


def protect_group(*, group: Group, actor: Actor, reason: str = "") -> ProtectedGroup:
    """Protect the members of a group from every plan that takes access (P2); a second time changes nothing."""
    with transaction.atomic():
        row, is_new = ProtectedGroup.objects.get_or_create(
            group=group,
            defaults={
                "organization": group.organization,
                "added_at": timezone.now(),
                "added_by": actor.name[:254],
            },
        )
        if is_new:
            _record_group(group, actor, "group.protected", reason=reason)
            mirror_changed(group.organization_id)
    return row


def unprotect_group(*, group: Group, actor: Actor, reason: str = "") -> bool:
    """Take a group's protection away; False when it had none. Who may do so, and when it counts, is decided above."""
    with transaction.atomic():
        removed, _ = ProtectedGroup.objects.filter(group=group).delete()
        if removed:
            _record_group(group, actor, "group.unprotected", reason=reason)
            mirror_changed(group.organization_id)
    return bool(removed)


def set_licence_only(*, group: Group, value: bool, actor: Actor, reason: str = "") -> None:
    """Record an Admin's word that leaving the group takes nothing but the licence, or take it back."""
    with transaction.atomic():
        if Group.objects.filter(pk=group.pk, is_licence_only=not value).update(is_licence_only=value):
            group.is_licence_only = value
            _record_group(group, actor, "group.licence_only" if value else "group.not_licence_only", reason=reason)


def release_kind(*, account: Account, value: bool, actor: Actor, reason: str) -> None:
    """Let cleanups treat a service, bot or app like a person, or protect it again. Raises InvalidInput."""
    reason = _reason(reason)
    with transaction.atomic():
        if Account.objects.filter(pk=account.pk, is_kind_released=not value).update(is_kind_released=value):
            account.is_kind_released = value
            _record_account(
                account, actor, "account.kind_released" if value else "account.kind_protected", reason=reason
            )
            mirror_changed(account.organization_id)


def _record_group(group: Group, actor: Actor, action: str, *, reason: str) -> None:
    record(
        organization=group.organization,
        actor=actor,
        action=action,
        target_kind="group",
        target_ref=group.group_id,
        target_name=group.name,
        group_name=group.name,
        reason=reason,
    )


# --- a fresh look -----------------------------------------------------------------------------------------------------


def refresh_person(*, account: Account, actor: Actor) -> Account:
    """Read one person's statuses, groups and last activity from Atlassian now, and return the account as it then is.

    Atlassian's own dates are up to 24 h late. Raises the errors of `aum.atlassian.errors`; an account that Atlassian no
    longer gives in any directory is marked as gone.
    """
    organization = account.organization
    read_at = timezone.now()
    directories = list(Directory.objects.of(organization).exclude(directory_id=Directory.OF_FILE).order_by("pk"))
    with reader_for(organization) as reader:
        rows = [(place, _find(reader, account.account_id, place.directory_id)) for place in directories]
        found = [(place, person) for place, person in rows if person is not None]
        outside = None if found else _find(reader, account.account_id, "-")
        activity = _last_active(reader, account.account_id) if found or outside else None
    with transaction.atomic():
        for place, person in found:
            mirror_people(organization, [_with(person, activity)], read_at=read_at, directory=place)
        if outside is not None:
            mirror_people(organization, [_with(outside, activity)], read_at=read_at)
        missing = {place.pk for place, person in rows if person is None}
        left = DirectoryMembership.objects.filter(account=account, directory__in=missing).select_related("directory")
        for membership in left:
            mirror_membership_status(account, membership.directory, MembershipStatus.NO_MEMBERSHIP)
        if not found and outside is None:
            mirror_vanished(account)
        account.refresh_from_db()
        _record_account(account, actor, "account.refreshed")
    mirror_changed(organization.pk)
    return account


def _find(reader: AtlassianReader, account_id: str, directory_id: str) -> Person | None:
    return reader.find_users([account_id], directory_id).get(account_id)


def _last_active(reader: AtlassianReader, account_id: str) -> tuple[ProductActivity, ...] | None:
    try:
        return reader.last_active(account_id).products
    except NotFound:
        return None


def _with(person: Person, activity: tuple[ProductActivity, ...] | None) -> Person:
    """The person with the dates of both lists; the newest counts when rows are staged."""
    if not activity:
        return person
    return replace(person, products=(*(person.products or ()), *activity))
