"""One person: state, groups, ways of access, last activity with its source, exemptions, directories."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import BooleanField, Case, Value, When

from apps.organizations.models import Organization
from apps.users.models import (
    Account,
    DirectoryMembership,
    Exemption,
    Group,
    ManagementSource,
    MembershipStatus,
    ProductAccess,
)
from apps.users.predicates import Context, IsProtected, idle_since, partition_case
from apps.users.selectors.explorer import AccountRow, GroupTag, ProductUse, account_row
from aum.common.errors import Missing


@dataclass(frozen=True)
class AccessPath:
    """A product on a site and what gives it: groups, a direct role, or something that cannot be seen."""

    use: ProductUse
    source: str
    source_at: datetime | None
    granted_seen_at: datetime | None
    groups: tuple[GroupTag, ...]
    is_direct: bool
    # Direct roles were not read; where no group gives the product either, the way is not known.
    is_direct_unknown: bool
    is_way_unknown: bool


@dataclass(frozen=True)
class DirectoryState:
    directory_id: str
    name: str
    status: str
    status_label: str
    management_source: str
    added_at: datetime | None


@dataclass(frozen=True)
class PersonDetail:
    """`row` is the list's row of the person; `group_rows` are the Group rows behind its tags."""

    account: Account
    row: AccountRow
    partition: str
    idle_since: datetime
    group_rows: tuple[Group, ...]
    paths: tuple[AccessPath, ...]
    directories: tuple[DirectoryState, ...]
    exemptions: tuple[Exemption, ...]
    protected_because: tuple[str, ...]


def person_detail(
    organization: Organization, key: int | str, *, stale_days: int = 30, now: datetime | None = None
) -> PersonDetail:
    """The person with our key or Atlassian's account id; also one that has vanished. Raises Missing."""
    context = Context.of(organization, now=now)
    protected = Case(
        When(IsProtected(True).q(context), then=Value(True)), default=Value(False), output_field=BooleanField()
    )
    found = Account.objects.of(organization).annotate(
        is_protected=protected,
        idle_from=idle_since(now=context.now),
        part=partition_case(context.cutoff(stale_days)),
    )
    account: Any = found.filter(pk=key).first() if isinstance(key, int) else found.filter(account_id=key).first()
    if account is None:
        raise Missing("There is no such user here.")
    access = list(ProductAccess.objects.filter(account=account).order_by("product", "site", "resource"))
    group_rows = tuple(
        Group.objects.of(organization).filter(pk__in=account.group_ids).select_related("directory").order_by("name")
    )
    tags = {group.pk: GroupTag(group.pk, group.group_id, group.name) for group in group_rows}
    row = account_row(account, access, tags, now=context.now, stale_before=context.now - timedelta(days=stale_days))
    memberships = DirectoryMembership.objects.filter(account=account).select_related("directory").order_by("pk")
    return PersonDetail(
        account=account,
        row=row,
        partition=account.part,
        idle_since=account.idle_from,
        group_rows=group_rows,
        paths=tuple(_path(use, record) for use, record in zip(row.products, access, strict=True)),
        directories=tuple(
            DirectoryState(
                directory_id=membership.directory.directory_id,
                name=membership.directory.name,
                status=MembershipStatus(membership.status).name.lower(),
                status_label=str(MembershipStatus(membership.status).label),
                management_source=str(ManagementSource(membership.management_source).label),
                added_at=membership.added_at,
            )
            for membership in memberships
        ),
        exemptions=tuple(Exemption.objects.filter(account=account).order_by("-starts_at", "-pk")),
        protected_because=_protected_because(account, group_rows, set(context.protected_group_ids())),
    )


def _path(use: ProductUse, record: ProductAccess) -> AccessPath:
    is_unread = record.direct == ProductAccess.Direct.UNKNOWN
    return AccessPath(
        use=use,
        source=record.source,
        source_at=record.source_at,
        granted_seen_at=record.granted_seen_at,
        groups=use.via,
        is_direct=record.direct == ProductAccess.Direct.YES,
        is_direct_unknown=is_unread,
        is_way_unknown=is_unread and not use.via,
    )


def _protected_because(account: Account, groups: tuple[Group, ...], protected: set[int]) -> tuple[str, ...]:
    """Why no plan may take access from the account (P2), in sentences."""
    reasons = []
    if account.is_org_admin:
        reasons.append("Administers the organisation.")
    if account.is_site_admin:
        reasons.append("Administers a site.")
    if account.is_connection_owner:
        reasons.append("Owns the credentials that AUM connects with.")
    reasons += [f"Member of the protected group {group.name}." for group in groups if group.pk in protected]
    if account.kind != 1 and not account.is_kind_released:
        reasons.append(f"Taken for a {account.get_kind_display().lower()} account, not a person.")
    return tuple(reasons)
