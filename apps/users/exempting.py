"""Who is exempt: one SQL expression for explorer, planning, notices and the recheck before each write (P2).

An exemption names a person, a group, a domain of e-mail addresses, or a kind of account. It counts from its start to
its end. Membership is asked at the moment of the question: who joins a group is exempt with it, who leaves is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import BooleanField, F, Func, Q, QuerySet, Value
from django.db.models.functions import Coalesce, Lower
from django.db.models.lookups import In

from apps.organizations.models import Organization
from apps.users.models import Account, AccountKind, Exemption, GroupMembership

_IN_FORCE = "e.starts_at <= %s AND e.ended_at IS NULL AND (e.until IS NULL OR e.until > %s)"


class IsExempt(Func):
    """Whether an exemption or snooze of the account is in force at `now`. Each list is read once a query."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        super().__init__(F("pk"), F("organization_id"), F("kind"), F("email"), output_field=BooleanField())

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        parts = [compiler.compile(expression) for expression in self.get_source_expressions()]
        (pk, organization, kind, email), parameters = [sql for sql, _ in parts], [list(given) for _, given in parts]
        times = [self.now, self.now]
        chosen = "FROM users_exemption e WHERE e.{} AND " + _IN_FORCE
        lists: list[tuple[str, list[Any]]] = [
            (
                f"{pk} IN (SELECT e.account_id {chosen.format('account_id IS NOT NULL')})",
                parameters[0] + times,
            ),
            (
                f"{pk} IN (SELECT m.account_id FROM users_exemption e "
                f"JOIN users_groupmembership m ON m.group_id = e.group_id WHERE {_IN_FORCE})",
                parameters[0] + times,
            ),
            (
                f"({organization}, {kind}) IN (SELECT e.organization_id, e.account_kind "
                f"{chosen.format('account_kind IS NOT NULL')})",
                parameters[1] + parameters[2] + times,
            ),
            (
                f"({organization}, COALESCE(lower(split_part({email}, '@', 2)), '')) IN "
                f"(SELECT e.organization_id, e.domain {chosen.format('domain <> %s')})",
                parameters[1] + parameters[3] + ["", *times],
            ),
        ]
        return "(" + " OR ".join(sql for sql, _ in lists) + ")", [value for _, given in lists for value in given]


def exempt_q(now: datetime) -> Q:
    """Accounts with an exemption or snooze in force at `now`, their own or one of their group, domain or kind."""
    return Q(IsExempt(now))


def exempt_people_q(organization: Organization, now: datetime) -> Q:
    """The same people as `exempt_q`, for lists of them: with only those kinds of exemption that there are, by index.

    One query for the exemptions of groups, domains and kinds, which are few.
    """
    in_force = Exemption.objects.of(organization).filter(in_force_q(now))
    found = Q(pk__in=in_force.filter(account__isnull=False).values("account_id"))
    sets = list(in_force.filter(account__isnull=True).values_list("group_id", "domain", "account_kind"))
    if groups := sorted({group for group, _, _ in sets if group}):
        found |= Q(pk__in=GroupMembership.objects.filter(group__in=groups).values("account"))
    if domains := sorted({domain for _, domain, _ in sets if domain}):
        # Never NULL: the opposite has to hold for people whose address Atlassian hides.
        domain = Coalesce(Lower(Func(F("email"), template="split_part(%(expressions)s, '@', 2)")), Value(""))
        found |= Q(In(domain, domains))
    if kinds := sorted({kind for _, _, kind in sets if kind is not None}):
        found |= Q(kind__in=kinds)
    return found


def in_force_q(now: datetime) -> Q:
    """Exemptions that count at `now`."""
    return Q(starts_at__lte=now, ended_at__isnull=True) & (Q(until__isnull=True) | Q(until__gt=now))


def later_q(now: datetime) -> Q:
    """Exemptions that have not begun: leave dates in the future."""
    return Q(starts_at__gt=now, ended_at__isnull=True)


def over_q(now: datetime) -> Q:
    """Exemptions that ended, by a person or by their date."""
    return Q(ended_at__isnull=False) | Q(until__lte=now)


def covering_q(account: Account) -> Q:
    """Exemptions that name the account, or its group, domain or kind."""
    found = Q(account=account) | Q(group_id__in=account.group_ids) | Q(account_kind=account.kind)
    domain = (account.email or "").rpartition("@")[2].lower()
    return found | Q(domain=domain) if domain else found


def covered_by(exemption: Exemption) -> QuerySet[Account]:
    """People whom the exemption covers now, in force or not."""
    people: QuerySet[Account] = Account.objects.of(exemption.organization).filter(vanished_at__isnull=True)
    if exemption.account_id:
        return people.filter(pk=exemption.account_id)
    if exemption.group_id:
        return people.filter(group_ids__contains=[exemption.group_id])
    if exemption.account_kind is not None:
        return people.filter(kind=exemption.account_kind)
    return people.alias(address=Lower("email")).filter(address__endswith=f"@{exemption.domain}")


# Names of machines: words that stand by themselves in a name or in the part before the @.
SERVICE_NAMES = (
    r"(^|[^a-z])(svc|srv|service|services|bot|robot|automation|automate|jenkins|ci|cicd|build|deploy|integration|"
    r"integrations|api|webhook|noreply|no-reply|donotreply|do-not-reply|system|sysadmin|daemon|sync|backup|monitoring|"
    r"scanner|import|importer|migration|admin-bot|ldap|scim|sso|test-user|shared|mailbox)([^a-z]|$)"
)


def suggested_exemptions(organization: Organization, now: datetime) -> QuerySet[Account]:
    """People whose names look like service or bot accounts and whom nothing exempts, by name.

    Accounts that Atlassian itself calls services, apps or bots are protected already.
    """
    people: QuerySet[Account] = Account.objects.of(organization).filter(
        vanished_at__isnull=True, kind=AccountKind.PERSON, is_for_deletion=False, account_status=1
    )
    return (
        people.alias(address=Lower(Func(F("email"), template="split_part(%(expressions)s, '@', 1)")))
        .filter(Q(sort_name__regex=SERVICE_NAMES) | Q(address__regex=SERVICE_NAMES))
        .exclude(exempt_q(now))
        .order_by("sort_name", "pk")
    )


@dataclass(frozen=True)
class Usage:
    """What an exemption did in the last 90 days: plans that left somebody out because of it, whom, and whose rules."""

    plans: int = 0
    people: int = 0
    rules: tuple[str, ...] = ()


# Filled by the layer that keeps plans: exemptions → their use.
UsageOf = Callable[[Sequence[Exemption]], dict[int, Usage]]
usage_providers: list[UsageOf] = []


def usage_of(exemptions: Sequence[Exemption]) -> dict[int, Usage]:
    """The use of each exemption, by key; nothing where no plan met it."""
    found: dict[int, Usage] = {}
    for provider in usage_providers:
        found.update(provider(exemptions))
    return found
