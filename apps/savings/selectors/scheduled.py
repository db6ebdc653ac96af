"""What open live rules and plans are about to free: licences, each once, and what they would save a month."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from django.core.cache import cache
from django.db.models import Q
from django.utils import timezone

from apps.operations.models import Operation, OperationItem
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.people import matching_q
from apps.rules.selectors import gone_groups
from apps.savings.selectors.ledger import Books
from apps.users.cache import version_key
from apps.users.models import Account, AccountStatus, MembershipStatus, Product
from apps.users.predicates import holds_q, live_q
from aum.common.money import Amounts

CACHE_SECONDS = 300
WHOLE = ("suspend", "deactivate", "delete", "remove_from_directory")


@dataclass(frozen=True)
class Scheduled:
    """Licences by product that the next runs would free, of how many rules and plans, and their worth a month."""

    seats: dict[str, int] = field(default_factory=dict)
    rules: int = 0
    plans: int = 0
    monthly: Amounts = field(default_factory=Amounts)

    @property
    def total(self) -> int:
        return sum(self.seats.values())


def scheduled(organization: Organization, books: Books) -> Scheduled:
    """Counted over sets: somebody in two rules and a plan counts once a product."""
    rules = list(
        CleanupRule.objects.of(organization)
        .filter(mode=CleanupRule.Mode.LIVE, is_paused=False, deleted_at__isnull=True)
        .select_related("organization")
        .order_by("pk")
    )
    plans = list(
        Operation.objects.of(organization)
        .filter(mode=Operation.Mode.LIVE, status__in=Operation.OPEN)
        .order_by("pk")
        .values_list("pk", "progress_done")
    )
    about = ":".join([*(f"r{rule.pk}v{rule.version}" for rule in rules), *(f"o{pk}d{done}" for pk, done in plans)])
    version = cache.get(version_key(organization.pk), "")
    key = f"savings:scheduled:{organization.pk}:{version}:{hashlib.sha256(about.encode()).hexdigest()[:24]}"
    found = cache.get(key)
    if found is None:
        found = _count(organization, rules, [pk for pk, _done in plans]) if rules or plans else {}
        cache.set(key, found, CACHE_SECONDS)
    monthly = Amounts.total(books.worth(product, number) for product, number in found.items() if number)
    return Scheduled(found, len(rules), len(plans), monthly)


def _count(organization: Organization, rules: list[CleanupRule], plans: list[int]) -> dict[str, int]:
    now = timezone.now()
    acting = [rule for rule in rules if not gone_groups(rule)]
    usable = Q(account_status=AccountStatus.ACTIVE, membership_status=MembershipStatus.ACTIVE, is_for_deletion=False)
    matches = [(rule, matching_q(rule, now)) for rule in acting if rule.action in (*WHOLE, "remove_product_access")]
    items = OperationItem.objects.of(organization).filter(
        operation__in=plans, status__in=[OperationItem.Status.PENDING, OperationItem.Status.CLAIMED]
    )
    found: dict[str, int] = {}
    for product in Product.values:
        taken = Q(pk__in=items.filter(action__in=WHOLE).values("account_id")) | Q(
            pk__in=items.filter(action="remove_product_access", target__startswith=f"product:{product}@").values(
                "account_id"
            )
        )
        for rule, matching in matches:
            if rule.action in WHOLE or product in rule.target_products:
                taken |= matching
        people = Account.objects.of(organization).filter(live_q(), usable, holds_q((product,))).filter(taken)
        found[product] = people.count()
    return found
