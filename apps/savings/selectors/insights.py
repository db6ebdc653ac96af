"""Findings that ask for an action: each a query with its count, the list that it counts, its money, and what to do.

People are counted by the explorer's own filters, so that the list behind a number is the number. The lists of the four
about idle people leave out who is protected or exempt, because the rule that Take action opens leaves them out too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.core.cache import cache
from django.db.models import Count, Exists, OuterRef, Q
from django.urls import reverse
from django.utils import timezone

from apps.notifications.models import EmailTemplate
from apps.operations.models import Operation
from apps.organizations.models import Organization
from apps.organizations.selectors import EXPIRY_WARNING_DAYS, credential_states
from apps.rules.models import CleanupRule, NoticeStep
from apps.savings.models import InsightDecision
from apps.savings.selectors.ledger import Books
from apps.users.models import Account, Exemption, Product
from apps.users.predicates import Context, holds_q, unknown_q
from apps.users.selectors import AccountFilters, latest_merged_sync
from apps.users.selectors.counts import mirror_version
from apps.users.selectors.tally import TOTAL, tally
from apps.users.selectors.words import short_label
from aum.common.errors import Missing
from aum.common.money import Amounts

CACHE_SECONDS = 900
ENDING_DAYS = 14
UNUSED_DAYS = 90
NEVER_RUN_DAYS = 7
CLASSES = {"jira": "p1", "confluence": "p3", "jsm": "p2", "bitbucket": "p4"}
_USABLE = {"account_status": "active", "membership_status": "active"}
_LEFT_ALONE = {"protected": "false", "exempt": "false"}


@dataclass(frozen=True)
class Entry:
    """One thing that an insight about other things than people counts."""

    title: str
    detail: str
    url: str


@dataclass(frozen=True)
class Insight:
    """A finding. `params` are the explorer's filter of the people counted; `entries` the things otherwise.

    `rule_params` fill the rule editor of Take action; without them the action is to open the list.
    """

    key: str
    title: str
    why: str
    recommendation: str
    noun: str = "user"
    product: str = ""
    count: int = 0
    params: dict[str, str] = field(default_factory=dict)
    rule_params: dict[str, str] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    by_product: dict[str, int] = field(default_factory=dict)
    monthly: Amounts = field(default_factory=Amounts)
    money_note: str = ""
    action_words: str = "Open the list"
    action_url: str = ""
    decision: InsightDecision | None = None

    @property
    def product_label(self) -> str:
        return short_label(self.product) if self.product else "All products"

    @property
    def product_class(self) -> str:
        return CLASSES.get(self.product, "")

    @property
    def list_query(self) -> str:
        """The explorer's query string of exactly the people counted."""
        return urlencode(self.params)

    @property
    def rule_query(self) -> str:
        return urlencode(self.rule_params)

    @property
    def nouns(self) -> str:
        return self.noun if self.count == 1 else f"{self.noun}s"

    @property
    def is_open(self) -> bool:
        """True when there is something to do and nobody put it aside."""
        return self.count > 0 and self.decision is None


def insights(organization: Organization, days: int = 30, *, now: datetime | None = None) -> list[Insight]:
    """All findings, the four of the dashboard first, with counts, money and decisions."""
    now = now or timezone.now()
    books = Books.of(organization, now)
    return [_with_money(insight, books) for insight in _counted_all(organization, days, now)]


def _counted_all(organization: Organization, days: int, now: datetime) -> list[Insight]:
    decisions = _decisions(organization, now)
    return [
        replace(found, decision=decisions.get(found.key))
        for found in [*_about_people(organization, days, now), *_about_things(organization, now)]
    ]


def dashboard_insights(organization: Organization, days: int = 30) -> list[Insight]:
    """The four of the dashboard, in its order (S44–S47)."""
    found = {insight.key: insight for insight in insights(organization, days)}
    return [found[key] for key in ("inactive_jira", "inactive_confluence", "inactive_everywhere", "inactive_jsm")]


def insight_named(organization: Organization, key: str, days: int = 30) -> Insight:
    """One finding; raises Missing."""
    for found in insights(organization, days):
        if found.key == key:
            return found
    raise Missing("There is no such insight.")


def open_count(organization: Organization) -> int:
    """How many ask for an action: beside the navigation's item."""
    return sum(insight.is_open for insight in _counted_all(organization, 30, timezone.now()))


def possible_seats(found: Iterable[Insight]) -> dict[str, int]:
    """Idle licences that a rule could free, by product: the counts of the findings about single products."""
    return {row.product: row.count for row in found if row.key.startswith("inactive_") and row.product}


def put_aside(organization: Organization) -> list[InsightDecision]:
    """Decisions in force, the newest first."""
    return sorted(_decisions(organization, timezone.now()).values(), key=lambda row: row.decided_at, reverse=True)


def _decisions(organization: Organization, now: datetime) -> dict[str, InsightDecision]:
    rows = InsightDecision.objects.of(organization).filter(
        Q(until__isnull=True) | Q(until__gt=now), ended_at__isnull=True
    )
    return {row.key: row for row in rows}


# --- about people -----------------------------------------------------------------------------------------------------


def _about_people(organization: Organization, days: int, now: datetime) -> list[Insight]:
    version = mirror_version(organization, latest_merged_sync(organization))
    hygiene = [_counted(organization, blank, now, version) for blank in _hygiene()]
    idle = _idle(days)
    about = [[blank.params for blank in idle], UNUSED_DAYS]
    figures = _cached(organization, version, about, lambda: _figures_together(organization, idle, now))
    counted = [replace(one, count=figures[one.key], by_product=figures[f"{one.key} by product"]) for one in idle]
    return [*counted, *hygiene, *_unused(figures)]


def _idle(days: int) -> list[Insight]:
    texts = {
        "jira": ("Licensed for Jira, no Jira login for {days} days.", "Consider removing Jira access."),
        "confluence": ("No Confluence visit for {days} days.", "Consider removing Confluence access."),
        "jsm": (
            "Agents with no Jira Service Management login for {days} days.",
            "Consider removing Jira Service Management access.",
        ),
        "bitbucket": ("No Bitbucket visit for {days} days.", "Consider removing Bitbucket access."),
    }
    products = [
        Insight(
            key=f"inactive_{product}",
            title=f"{days}+ days inactive in {short_label(product)}",
            why=why.format(days=days),
            recommendation=recommendation,
            product=product,
            params={**_USABLE, "inactive_days": str(days), "inactive_product": product, **_LEFT_ALONE},
            rule_params={
                "action": "remove_product_access",
                "products": product,
                "days": str(days),
                "name": f"Remove {short_label(product)} access after {days} days",
            },
        )
        for product, (why, recommendation) in texts.items()
    ]
    everywhere = Insight(
        key="inactive_everywhere",
        title=f"{days}+ days inactive everywhere",
        why=f"No login to any licensed product for {days} days.",
        recommendation="Consider suspending these accounts globally.",
        params={**_USABLE, "inactive_days": str(days), **_LEFT_ALONE},
        rule_params={"action": "suspend", "days": str(days), "name": f"Suspend after {days} days"},
        money_note="overlaps the others",
    )
    never = Insight(
        key="never_logged_in",
        title="Never logged in",
        why=f"Hold a licence for more than {days} days and never used it. The invitation is billed already.",
        recommendation="Ask whether they still need it, then suspend them.",
        params={**_USABLE, "never_active_days": str(days), **_LEFT_ALONE},
        rule_params={
            "action": "suspend",
            "days": "",
            "never_days": str(days),
            "name": f"Suspend who never logged in for {days} days",
        },
    )
    return [products[0], products[1], everywhere, products[2], products[3], never]


def _hygiene() -> list[Insight]:
    return [
        Insight(
            key="overlapping",
            title="Licence in two overlapping groups",
            why="Two or more groups give them the same product, so leaving one of them frees no licence.",
            recommendation="Keep one group for each product, and take people out of the others.",
            params={"insight": "overlapping"},
        ),
        Insight(
            key="half_suspended",
            title="Suspended but still billed",
            why="Suspended in one directory and active in another: their licences stay billed.",
            recommendation="Suspend them in the other directory as well, or restore them.",
            params={"insight": "half_suspended"},
            action_words="Choose and act",
        ),
        Insight(
            key="deactivated_in_groups",
            title="Deactivated users in groups",
            why="The account is off, the groups are kept: whoever activates it gives back all of their access.",
            recommendation="Remove them from groups that they should not come back to.",
            params={"insight": "deactivated_in_groups"},
            action_words="Choose and act",
        ),
        Insight(
            key="external_admins",
            title="External users with admin groups",
            why="Accounts that your organisation does not manage are in groups that grant administration.",
            recommendation="Check each of them with the owner of the product.",
            params={"claim_status": "unmanaged", "grants": "administration", **_USABLE},
        ),
    ]


def _counted(organization: Organization, blank: Insight, now: datetime, version: str) -> Insight:
    """The insight with its count and the licences of the people counted, by product."""
    figures = _cached(organization, version, blank.params, lambda: _figures(organization, blank.params, now))
    return replace(blank, count=figures["count"], by_product=figures["products"])


def _figures_together(organization: Organization, idle: list[Insight], now: datetime) -> dict[str, Any]:
    """The findings about idle people and about unused products, in one pass over who could work (PERFORMANCE.md 7).

    Who is exempt is taken off afterwards: asked of each person, it keeps PostgreSQL to one process.
    """
    context = Context.of(organization, now=now)
    people = Account.objects.of(organization).filter(_meets(_USABLE, context))
    shared = {product: holds_q((product,)) for product in Product.values}
    shared["not protected"] = _meets({"protected": "false"}, context)
    since = context.cutoff(UNUSED_DAYS)
    used = {
        f"{product} used": Q(**{f"{product}_last_active_at__gte": since}) | unknown_q((product,))
        for product in Product.values
    }
    figures, left_out = dict[str, Q](), _USABLE | _LEFT_ALONE
    for blank in idle:
        assert left_out.items() <= blank.params.items(), blank.key
        own = {name: value for name, value in blank.params.items() if name not in left_out}
        figures[blank.key] = _meets(own, context)
    everybody = tally(people, shared, {**figures, **used})
    exempt = tally(people.filter(_meets({"exempt": "true"}, context)), shared, figures)

    def left_alone(figure: str, *met: str) -> int:
        return everybody.sum(figure, "not protected", *met) - exempt.sum(figure, "not protected", *met)

    return {
        **{blank.key: left_alone(blank.key) for blank in idle},
        **{
            f"{blank.key} by product": {
                product: left_alone(blank.key, product) for product in Product.values if not blank.product
            }
            for blank in idle
        },
        "held": {product: everybody.sum(TOTAL, product) for product in Product.values},
        "used": {product: everybody.sum(f"{product} used", product) for product in Product.values},
    }


def _meets(params: dict[str, str], context: Context) -> Q:
    """The explorer's condition for these parameters of its address."""
    filters, errors = AccountFilters.parse(params)
    assert not errors, errors
    return filters.as_q(context)


def _figures(organization: Organization, params: dict[str, str], now: datetime) -> dict[str, Any]:
    people = Account.objects.of(organization).filter(_meets(params, Context.of(organization, now=now)))
    wanted = {product: Count("pk", filter=holds_q((product,))) for product in Product.values}
    row = people.aggregate(people=Count("pk"), **wanted)
    return {"count": row["people"], "products": {product: row[product] for product in Product.values}}


def _cached(organization: Organization, version: str, about: Any, count: Callable[[], Any]) -> Any:
    """Counts hold until the mirror changes, and a quarter of an hour at most: a cut-off moves on by itself."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
    return cache.get_or_set(f"insights:{organization.pk}:{version}:{digest}", count, CACHE_SECONDS)


def _with_money(insight: Insight, books: Books) -> Insight:
    """What the action would save a month, by today's prices; nothing where it frees no licence."""
    if insight.key in ("inactive_everywhere", "never_logged_in", "half_suspended"):
        freed = insight.by_product
    elif insight.product:
        freed = {insight.product: insight.count}
    else:
        return insight
    return replace(insight, monthly=Amounts.total(books.worth(product, n) for product, n in freed.items() if n))


def _unused(figures: dict[str, Any]) -> list[Insight]:
    """Products that are held and that nobody used for a long time."""
    idle = [(product, held) for product, held in figures["held"].items() if held and not figures["used"][product]]
    return [
        Insight(
            key=f"unused_{product}",
            title=f"Nobody uses {short_label(product)}",
            why=f"Everybody who holds it has been away from it for more than {UNUSED_DAYS} days.",
            recommendation="Ask whether the product is still needed before its renewal.",
            product=product,
            count=held,
            params={**_USABLE, "product": product},
        )
        for product, held in idle
    ]


# --- about other things -----------------------------------------------------------------------------------------------


def _about_things(organization: Organization, now: datetime) -> list[Insight]:
    return [
        _exemptions_ending(organization, now),
        _rules_never_run(organization, now),
        _templates_unused(organization),
        _credentials_expiring(organization),
    ]


def _exemptions_ending(organization: Organization, now: datetime) -> Insight:
    rows = (
        Exemption.objects.of(organization)
        .filter(
            ended_at__isnull=True,
            starts_at__lte=now,
            until__gt=now,
            until__lte=now + timedelta(days=ENDING_DAYS),
            kind=Exemption.Kind.EXEMPTION,
        )
        .select_related("account", "group")
        .order_by("until", "pk")
    )
    ending = f"{reverse('users:exemptions', args=[organization.slug])}?view=ending"
    entries = tuple(
        Entry(
            f"{row.subject[:1].upper()}{row.subject[1:]}",
            f"until {row.until:%d %b %Y}: {row.reason}",
            # A group, a domain or a kind has no page of its own.
            reverse("users:person", args=[organization.slug, row.account_id]) if row.account_id else ending,
        )
        for row in rows
        if row.until
    )
    return Insight(
        key="exemptions_ending",
        title="Exemptions that end soon",
        why=f"Within {ENDING_DAYS} days cleanup rules see these people again.",
        recommendation="Extend those that still have a reason.",
        noun="exemption",
        count=len(entries),
        entries=entries,
        action_words="Open exemptions",
        action_url=reverse("users:exemptions", args=[organization.slug]),
    )


def _rules_never_run(organization: Organization, now: datetime) -> Insight:
    ran = Operation.objects.filter(rule_id=OuterRef("pk"))
    rows = (
        CleanupRule.objects.of(organization)
        .filter(~Exists(ran), deleted_at__isnull=True, edited_at__lt=now - timedelta(days=NEVER_RUN_DAYS))
        .order_by("name", "pk")
    )
    entries = tuple(
        Entry(
            row.name,
            "paused" if row.is_paused else "active, yet never run",
            reverse("rules:edit", args=[organization.slug, row.pk]),
        )
        for row in rows
    )
    return Insight(
        key="rules_never_run",
        title="Rules that never ran",
        why=f"Made more than {NEVER_RUN_DAYS} days ago, without a preview or a run since.",
        recommendation="Preview them, or delete those that nobody needs.",
        noun="rule",
        count=len(entries),
        entries=entries,
        action_words="Open rules",
        action_url=reverse("rules:list", args=[organization.slug]),
    )


def _templates_unused(organization: Organization) -> Insight:
    used = NoticeStep.objects.filter(template=OuterRef("pk"), rule__deleted_at__isnull=True)
    rows = (
        EmailTemplate.objects.of(organization)
        .filter(~Exists(used), deleted_at__isnull=True, is_enabled=True)
        .order_by("name", "pk")
    )
    entries = tuple(
        Entry(row.name, "enabled, in no rule", reverse("notifications:edit", args=[organization.slug, row.pk]))
        for row in rows
    )
    return Insight(
        key="templates_unused",
        title="Templates without a rule",
        why="Enabled mails that no rule sends: whoever wrote them believes that people are warned.",
        recommendation="Put them into a rule, or disable them.",
        noun="template",
        count=len(entries),
        entries=entries,
        action_words="Open templates",
        action_url=reverse("notifications:list", args=[organization.slug]),
    )


def _credentials_expiring(organization: Organization) -> Insight:
    url = reverse("organizations:connection", args=[organization.slug])
    entries = tuple(
        Entry(state.label, f"{'expires' if state.days_left >= 0 else 'expired'} on {state.expires_on}", url)
        for state in credential_states(organization)
        if state.days_left is not None and state.days_left <= EXPIRY_WARNING_DAYS
    )
    return Insight(
        key="credentials_expiring",
        title="Credentials that expire soon",
        why="Without them nothing is read and no rule runs.",
        recommendation="Create new ones and save them before that day.",
        noun="credential",
        count=len(entries),
        entries=entries,
        action_words="Open the connection",
        action_url=url,
    )
