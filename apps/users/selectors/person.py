"""One person: state, groups, ways of access, last activity with its source, exemptions, directories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import BooleanField, Case, Value, When

from apps.organizations.models import Organization
from apps.users.exempting import IsExempt, covering_q
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
from apps.users.products import label_of
from apps.users.registries import Upcoming, upcoming_sources
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
    # What frees the seat, in sentences: all of them together, as far as it can be seen.
    frees: tuple[str, ...]


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
    upcoming: tuple[Upcoming, ...]


def person_detail(
    organization: Organization,
    key: int | str,
    *,
    stale_days: int = 30,
    with_upcoming: bool = False,
    now: datetime | None = None,
) -> PersonDetail:
    """The person with our key or Atlassian's account id; also one that has vanished. Raises Missing.

    `with_upcoming` asks higher apps what they will do to the person, a few small queries for each live rule.
    """
    context = Context.of(organization, now=now)
    protected = Case(
        When(IsProtected(True).q(context), then=Value(True)), default=Value(False), output_field=BooleanField()
    )
    found = Account.objects.of(organization).annotate(
        is_protected=protected,
        is_spared=IsExempt(context.now),
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
    tags = {group.pk: GroupTag(group.pk, group.group_id, group.name, group.is_administrative) for group in group_rows}
    row = account_row(account, access, tags, now=context.now, stale_before=context.now - timedelta(days=stale_days))
    memberships = DirectoryMembership.objects.filter(account=account).select_related("directory").order_by("pk")
    return PersonDetail(
        account=account,
        row=row,
        partition=account.part,
        idle_since=account.idle_from,
        group_rows=group_rows,
        paths=tuple(
            _path(use, record, {group.pk: group for group in group_rows}, held=account.group_ids)
            for use, record in zip(row.products, access, strict=True)
        ),
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
        exemptions=tuple(
            Exemption.objects.of(account.organization)
            .filter(covering_q(account))
            .select_related("account", "group")
            .order_by("-starts_at", "-pk")
        ),
        protected_because=_protected_because(account, group_rows, set(context.protected_group_ids())),
        upcoming=tuple(entry for ask in upcoming_sources for entry in ask(account)) if with_upcoming else (),
    )


def _path(use: ProductUse, record: ProductAccess, groups: dict[int, Group], *, held: Sequence[int]) -> AccessPath:
    is_unread = record.direct == ProductAccess.Direct.UNKNOWN
    is_direct = record.direct == ProductAccess.Direct.YES
    return AccessPath(
        use=use,
        source=record.source,
        source_at=record.source_at,
        granted_seen_at=record.granted_seen_at,
        groups=use.via,
        is_direct=is_direct,
        is_direct_unknown=is_unread,
        is_way_unknown=is_unread and not use.via,
        frees=tuple(_frees(record, [groups[tag.pk] for tag in use.via if tag.pk in groups], groups, held)),
    )


def _frees(
    record: ProductAccess, giving: Sequence[Group], groups: dict[int, Group], held: Sequence[int]
) -> Iterator[str]:
    """What has to go for the seat to become free, no more than is known."""
    is_direct = record.direct == ProductAccess.Direct.YES
    names = [group.name for group in giving]
    if giving:
        yield f"Leaving {_all_of(names)}." if not is_direct else f"Leaving {_all_of(names)}, and the direct role."
    elif is_direct:
        yield "Removing the direct role."
    for group in giving:
        if group.is_synced:
            yield f"{group.name} is kept by the identity provider: the user has to leave it there."
        if others := _also_granted(group, record):
            yield f"{group.name} also gives {_listed(others)}, which goes with it."
    if record.direct == ProductAccess.Direct.UNKNOWN:
        if giving:
            yield "Direct roles were not read: one of them may keep the seat."
        else:
            yield "Not known. No group gives it; a direct role or a product's default access may."
    elif not giving and not is_direct:
        yield "Not known. Neither a group nor a direct role gives it; a product's default access may."
    if any(not groups[pk].are_grants_known for pk in held if pk in groups):
        yield "What some of the user's groups grant was not read: one of them may keep the seat."


def _also_granted(group: Group, record: ProductAccess) -> list[str]:
    """Other products of a group, besides the record's own."""
    found = []
    for grant in group.grants:
        product, resource = str(grant.get("product", "")), str(grant.get("resource", ""))
        if product and (product, resource) != (record.product, record.resource):
            site = grant.get("site") or ""
            label = f"{label_of(product)} on {site}" if site and product == record.product else label_of(product)
            if label not in found and not (product == record.product and site == record.site):
                found.append(label)
    return found


def _all_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"all of {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


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
