"""What operators decide about people and groups: exemptions, snoozes, protection; and a fresh look at one person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from apps.audit.services import EventRow, record, record_many
from apps.organizations.models import Directory, Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import reader_for
from apps.users.cache import mirror_changed
from apps.users.models import Account, DirectoryMembership, Exemption, Group, MembershipStatus, ProtectedGroup
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


def set_exemption(
    *,
    organization: Organization,
    account: Account,
    reason: str,
    until: datetime | None,
    actor: Actor,
    kind: str = Exemption.Kind.EXEMPTION,
) -> Exemption:
    """Keep every cleanup from the account until an instant, or for good with `until` None.

    Raises InvalidInput without a reason or with a past `until`, AlreadyExempt when an exemption is in force (a snooze
    may overlap one).
    """
    reason = _reason(reason)
    _future(until)
    _own(organization, account)
    with transaction.atomic():
        Account.objects.select_for_update().only("pk").get(pk=account.pk)
        now = timezone.now()
        if kind == Exemption.Kind.EXEMPTION and _in_force(account, now).filter(kind=kind).exists():
            raise AlreadyExempt
        exemption: Exemption = Exemption.objects.create(
            organization=organization,
            account=account,
            kind=kind,
            reason=reason,
            starts_at=now,
            until=until,
            set_by=actor.name[:254],
        )
        _settle([account.pk])
        _record(exemption, actor, f"{kind}.set", after=_terms(exemption), reason=reason)
    account.refresh_from_db(fields=["exempt_until"])
    return exemption


def extend_exemption(*, exemption: Exemption, until: datetime | None, reason: str, actor: Actor) -> Exemption:
    """Move the end of an exemption in force. Raises ExemptionOver, InvalidInput."""
    reason = _reason(reason)
    _future(until)
    with transaction.atomic():
        current = _locked(exemption)
        before = _terms(current)
        current.until, current.reason = until, reason
        current.save(update_fields=["until", "reason"])
        _settle([current.account_id])
        _record(current, actor, f"{current.kind}.extended", before=before, after=_terms(current), reason=reason)
    return current


def end_exemption(*, exemption: Exemption, actor: Actor, reason: str = "") -> Exemption:
    """End an exemption now; the idle clock of the account starts at this moment. Raises ExemptionOver."""
    with transaction.atomic():
        current = _locked(exemption)
        current.ended_at = timezone.now()
        current.save(update_fields=["ended_at"])
        _settle([current.account_id])
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
            Exemption(
                organization=organization,
                account=account,
                kind=Exemption.Kind.SNOOZE,
                reason=reason,
                starts_at=now,
                until=until,
                set_by=actor.name[:254],
            )
            for account in accounts
        )
        _settle([account.pk for account in accounts])
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


def _in_force(account: Account, now: datetime) -> QuerySet[Exemption]:
    current: QuerySet[Exemption] = Exemption.objects.filter(account=account, ended_at__isnull=True)
    return current.exclude(until__lte=now)


def _locked(exemption: Exemption) -> Exemption:
    current: Exemption = (
        Exemption.objects.select_for_update(of=("self",)).select_related("account").get(pk=exemption.pk)
    )
    now = timezone.now()
    if current.ended_at is not None or (current.until is not None and current.until <= now):
        raise ExemptionOver
    return current


def _settle(accounts: Iterable[int]) -> None:
    """Derive `Account.exempt_until`: the latest end of all exemptions, past ones included (DECISIONS.md §5)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE users_account a SET exempt_until = e.until
            FROM (
                SELECT account_id, max(LEAST(COALESCE(until, %(forever)s), COALESCE(ended_at, %(forever)s))) AS until
                FROM users_exemption WHERE account_id = ANY(%(accounts)s) GROUP BY account_id
            ) e
            WHERE a.id = e.account_id AND a.exempt_until IS DISTINCT FROM e.until
            RETURNING a.organization_id
            """,
            {"accounts": list(accounts), "forever": FOREVER},
        )
        for organization in {row[0] for row in cursor.fetchall()}:
            mirror_changed(organization)


def _terms(exemption: Exemption) -> dict[str, str | None]:
    return {"until": exemption.until.isoformat() if exemption.until else None, "reason": exemption.reason}


def _record(
    exemption: Exemption,
    actor: Actor,
    action: str,
    *,
    before: dict[str, str | None] | None = None,
    after: dict[str, str | None] | None = None,
    reason: str = "",
) -> None:
    _record_account(exemption.account, actor, action, before=before, after=after, reason=reason)


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
    directories = list(Directory.objects.of(organization).order_by("pk"))
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
