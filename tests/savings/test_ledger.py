"""The ledger follows what live runs did: against the sandbox over HTTP, posted twice, undone, seen back by a sync."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Q
from django.utils import timezone

from apps.operations import services as operations
from apps.operations.models import Operation
from apps.operations.selection import AccountsSelection, IdleSelection
from apps.operators.models import Operator
from apps.organizations.models import Alert, Organization
from apps.organizations.recorder import Actor
from apps.pricing.services import PriceInput, add_price, check_licence_use, set_licence_alert
from apps.rules.models import CleanupRule
from apps.rules.people import matching_q
from apps.rules.services import RuleInput, create_rule, pause_rule
from apps.savings.billing import Month
from apps.savings.models import DailySnapshot, LedgerEntry, LedgerPosting
from apps.savings.selectors import Books, people_in, scheduled, seat_lines
from apps.savings.selectors.entries import given_back
from apps.savings.services import after_sync, end_returned, post_missing, post_operation, sweep
from apps.users.models import Account, AccountStatus, MembershipStatus, Product, ProductAccess
from apps.users.predicates import holds_q, protected_q
from apps.users.selectors import dashboard_counts

SYSTEM = Actor.system()
Plan = Callable[..., Operation]
Execute = Callable[[Operation], Operation]


def open_seats(organization: Organization) -> set[tuple[str, str]]:
    rows = LedgerEntry.objects.of(organization).filter(ended_at__isnull=True)
    return set(rows.values_list("account__account_id", "product"))


def some(organization: Organization, **fields: Any) -> AccountsSelection:
    """A few people whom nothing protects: enough for each way of losing a licence, and quick."""
    usable = Account.objects.of(organization).filter(
        ~protected_q(organization),
        ~Q(products=0),
        account_status=1,
        membership_status=1,
        is_for_deletion=False,
        **fields,
    )
    return AccountsSelection(tuple(usable.order_by("pk").values_list("account_id", flat=True)[:12]))


def held(accounts: list[str]) -> set[tuple[str, str]]:
    rows = ProductAccess.objects.filter(account__account_id__in=accounts)
    return set(rows.values_list("account__account_id", "product"))


def test_run_frees_each_product_of_each_person_once_and_undo_gives_them_back(
    organization: Organization, author: Operator, plan: Plan, execute: Execute
) -> None:
    run = execute(plan(selection=some(organization)))
    done = sorted(set(run.items.filter(outcome="done").values_list("subject", flat=True)))
    assert len(done) > 5

    assert post_operation(run.pk)
    assert not post_operation(run.pk)

    expected = held(done)
    still_in = Account.objects.filter(account_id__in=done, membership_status=MembershipStatus.ACTIVE)
    assert open_seats(organization) == expected - held(list(still_in.values_list("account_id", flat=True)))
    assert open_seats(organization)
    assert LedgerEntry.objects.of(organization).filter(source_name=run.name, operation=run).count() == len(
        open_seats(organization)
    )

    undo = operations.undo_operation(operation=run, actor=Actor.operator(author), operator=author, account_ids=done[:3])
    operations.run_planning(undo.pk)
    undo.refresh_from_db()
    assert execute(undo).status == Operation.Status.SUCCEEDED
    assert post_missing() == 1

    ended = LedgerEntry.objects.of(organization).filter(ended_by="run", ended_operation=undo)
    assert {entry.account.account_id for entry in ended.select_related("account")} <= set(done[:3])
    assert {account for account, _product in open_seats(organization)}.isdisjoint(done[:3])
    # Posted anew over what is there: nobody is freed twice.
    count = LedgerEntry.objects.count()
    LedgerEntry.objects.update(operation=None)
    LedgerPosting.objects.all().delete()
    assert post_missing() == 2
    assert LedgerEntry.objects.count() == count
    LedgerEntry.objects.all().delete()
    LedgerPosting.objects.all().delete()
    # The same ledger whichever run is posted first.
    assert post_operation(undo.pk)
    assert post_operation(run.pk)
    assert {account for account, _product in open_seats(organization)}.isdisjoint(done[:3])
    assert ended.count() == LedgerEntry.objects.filter(ended_at__isnull=False).count() > 0


def test_product_that_another_path_still_gives_frees_no_licence(
    organization: Organization, plan: Plan, execute: Execute
) -> None:
    run = execute(plan("remove_product_access", products=("jira",), selection=some(organization, jira_activity__gt=0)))
    done = set(run.items.filter(outcome="done").values_list("subject", flat=True))

    post_operation(run.pk)

    has_jira = {account for account, product in held(sorted(done)) if product == "jira"}
    assert done
    assert {account for account, _product in open_seats(organization)} == done - has_jira
    assert {product for _account, product in open_seats(organization)} == {"jira"}


def test_person_seen_back_in_atlassian_stops_counting(organization: Organization, plan: Plan, execute: Execute) -> None:
    run = execute(plan(selection=some(organization)))
    item = run.items.filter(outcome="done").first()
    assert item is not None
    assert item.before
    # One of them was out already: nothing is freed of who is not billed.
    run.items.filter(subject=item.subject).update(before={**item.before, "account_status": "inactive"})
    post_operation(run.pk)
    assert item.subject not in {account for account, _product in open_seats(organization)}
    entry = LedgerEntry.objects.of(organization).select_related("account").first()
    assert entry is not None
    assert end_returned(organization) == 0
    at = entry.freed_at + timedelta(minutes=5)
    # As a sync writes it when somebody was restored in Atlassian's own pages.
    Account.objects.filter(pk=entry.account_id).update(
        membership_status=MembershipStatus.ACTIVE, status_changed_at=at, pending_until=None
    )

    assert end_returned(organization) > 0

    entry.refresh_from_db()
    assert (entry.ended_by, entry.ended_at) == ("seen", at)
    assert end_returned(organization) == 0


def entry(organization: Organization, account: Account, freed: datetime, ended: datetime | None = None) -> LedgerEntry:
    made: LedgerEntry = LedgerEntry.objects.create(
        organization=organization,
        account=account,
        product="jira",
        action="suspend",
        freed_at=freed,
        source_name="Rule",
        ended_at=ended,
        ended_by="run" if ended else "",
    )
    return made


def test_month_is_the_organisations_own_and_its_lines_add_up(people: Organization) -> None:
    people.timezone = "Pacific/Auckland"
    people.save()
    one, two, three, *_rest = Account.objects.of(people).order_by("pk")
    # 31 October, 11:30 UTC is 1 November in Auckland: counts from 2 November on.
    entry(people, one, datetime(2026, 10, 31, 11, 30, tzinfo=UTC))
    entry(people, two, datetime(2026, 10, 15, 12, tzinfo=UTC))
    # Removed, restored, removed again: one person, not two (S283), and the days of both.
    entry(people, three, datetime(2026, 10, 10, tzinfo=UTC), datetime(2026, 11, 4, tzinfo=UTC))
    entry(people, three, datetime(2026, 11, 20, tzinfo=UTC))
    price = PriceInput(product="jira", unit_price="10", currency="NZD", billing="daily", valid_from="2026-01-01")
    add_price(organization=people, values=price, actor=SYSTEM)
    now = datetime(2026, 12, 20, tzinfo=UTC)
    month = Month.of(date(2026, 11, 1), now.date())

    books = Books.of(people, now)
    savings = books.month(month)
    lines = seat_lines(people, month)

    # 29 + 30 + (3 + 10) days of 30, each 10 / 30.
    assert savings.realised.in_currency("NZD") == Decimal("24.00")
    assert sorted(line.days for line in lines) == [13, 29, 30]
    assert sum((line.amount or Decimal(0) for line in lines), Decimal(0)) == Decimal("24.00")
    assert people_in(people, month, month) == {"jira": 3}
    assert [(name, str(amount)) for _rule, name, amount in savings.by_source()] == [("Rule", "NZ$24.00")]
    assert given_back(books, month, month).count == 1
    assert not books.month(month.shifted(-2, books.today)).realised.in_currency("NZD")


def test_price_holds_from_its_day_and_the_first_one_for_its_whole_month(people: Organization) -> None:
    account = Account.objects.of(people).first()
    assert account is not None
    entry(people, account, datetime(2026, 1, 5, tzinfo=UTC))
    for amount, first in (("8", "2026-03-10"), ("9", "2026-05-01"), ("7", "2026-06-15")):
        price = PriceInput(product="jira", unit_price=amount, currency="USD", valid_from=first)
        add_price(organization=people, values=price, actor=SYSTEM)
    books = Books.of(people, datetime(2026, 12, 20, tzinfo=UTC))

    found = {number: str(books.month(Month.of(date(2026, number, 1), books.today)).realised) for number in range(2, 8)}

    assert found == {2: "", 3: "$8.00", 4: "$8.00", 5: "$9.00", 6: "$9.00", 7: "$7.00"}


def test_day_is_counted_after_a_sync_and_peaks_are_kept(people: Organization) -> None:
    after_sync(people.pk)
    snapshot = DailySnapshot.objects.of(people).get()
    counts = dashboard_counts(people, 60)
    assert snapshot.total == counts.total
    assert snapshot.figures["60"]["inactive"] == counts.inactive
    peak = snapshot.peak_seats["jira"]
    assert peak == next(row.held for row in counts.products if row.product == Product.JIRA)

    Account.objects.of(people).update(account_status=AccountStatus.INACTIVE)
    from django.core.cache import cache

    cache.clear()
    after_sync(people.pk)
    sweep()

    snapshot.refresh_from_db()
    assert DailySnapshot.objects.of(people).count() == 1
    assert (snapshot.seats["jira"], snapshot.peak_seats["jira"]) == (0, peak)


def test_licence_use_above_its_number_raises_one_alert_until_it_falls(people: Organization) -> None:
    used = next(row.held for row in dashboard_counts(people).products if row.product == Product.JIRA)

    set_licence_alert(organization=people, product="jira", above=used, actor=SYSTEM)
    assert not Alert.objects.of(people).filter(kind="licence_use").exists()
    set_licence_alert(organization=people, product="jira", above=str(used - 1), actor=SYSTEM)

    assert check_licence_use(people) == ["jira"]
    alert = Alert.objects.of(people).get(kind="licence_use")
    assert f"{used:,} licences in use, more than {used - 1:,}" in alert.title
    assert alert.repeats == 1

    set_licence_alert(organization=people, product="jira", above=None, actor=SYSTEM)
    alert.refresh_from_db()
    assert alert.resolved_at is not None


def test_live_rules_and_open_plans_schedule_each_licence_once(
    organization: Organization, author: Operator, plan: Plan
) -> None:
    values = RuleInput(name="Idle", inactive_days=60, recurrence="daily", run_at="06:00", include_never_active=False)
    books = Books.of(organization)
    assert scheduled(organization, books).total == 0
    rule = create_rule(organization=organization, values=values, actor=Actor.operator(author), operator=author)
    assert scheduled(organization, books).total == 0
    CleanupRule.objects.filter(pk=rule.pk).update(mode=CleanupRule.Mode.LIVE)
    people = Account.objects.of(organization).filter(matching_q(rule, timezone.now()))

    found = scheduled(organization, books)

    assert found.rules == 1
    assert found.seats["jira"] == people.filter(holds_q(("jira",))).count() > 0
    organization.max_count = 1
    organization.save()
    held = plan(selection=IdleSelection(inactive_days=60))
    assert held.status == Operation.Status.HELD
    again = scheduled(organization, books)
    assert (again.plans, again.seats) == (1, found.seats)
    pause_rule(rule=rule, reason="", actor=SYSTEM)
    planned = held.items.filter(account__jira_activity__gt=0).values("account").distinct()
    assert scheduled(organization, books).seats["jira"] == planned.count()
