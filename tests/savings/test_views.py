"""The pages of savings, prices and insights, and their REST: what they show is what they count."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operators.models import Role
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.pricing.models import ProductPrice
from apps.pricing.services import PriceInput, add_price
from apps.rules.models import CleanupRule
from apps.savings.models import InsightDecision, LedgerEntry
from apps.savings.selectors import insight_named, insights, open_count
from apps.users.models import Account

ClientOf = Callable[..., Client]
SYSTEM = Actor.system()


@pytest.fixture
def freed(people: Organization) -> list[LedgerEntry]:
    """Three people whose Jira was freed two months ago."""
    at = timezone.now() - timedelta(days=62)
    return [
        LedgerEntry.objects.create(
            organization=people,
            account=account,
            product="jira",
            action="suspend",
            freed_at=at,
            source_name="Idle",
        )
        for account in Account.objects.of(people).order_by("pk")[:3]
    ]


def page(client: Client, organization: Organization, name: str, *args: object, **query: str) -> str:
    answer = client.get(reverse(name, args=[organization.slug, *args]), query)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def test_without_prices_there_are_licences_and_a_request_for_prices(
    people: Organization, freed: list[LedgerEntry], client_of: ClientOf
) -> None:
    client = client_of(people, Role.ADMIN)

    text = page(client, people, "savings:savings")
    board = page(client, people, "dashboard:dashboard")

    assert "No prices yet" in text
    assert "3 <small>licences</small>" in text
    assert "$" not in text.partition("<main")[2]
    assert "Enter prices" in board
    assert "$" not in board.partition("<main")[2]


def test_first_prices_turn_licences_into_money_everywhere_alike(
    people: Organization, freed: list[LedgerEntry], client_of: ClientOf
) -> None:
    client = client_of(people, Role.ADMIN)
    url = reverse("pricing:first", args=[people.slug])
    wrong = client.post(url, {"price_jira": "7,53", "valid_from": "2026-01-01", "billing": "monthly"})
    assert wrong.status_code == 422
    assert "with a point before the decimals" in wrong.content.decode()
    assert 'value="7,53"' in wrong.content.decode()
    assert not ProductPrice.objects.exists()

    day = f"{timezone.now() - timedelta(days=400):%Y-%m-%d}"
    saved = client.post(url, {"price_jira": "7.53", "price_jsm": "20", "valid_from": day, "billing": "monthly"})
    assert saved.status_code == 302
    assert AuditEvent.objects.filter(action="price.added").count() == 2

    text, board = page(client, people, "savings:savings"), page(client, people, "dashboard:dashboard")
    listed = page(client, people, "savings:licences")
    assert "$22.59" in text
    assert '<span class="v">$22.59</span>' in board
    assert "3 licences free for at least a day, $22.59 realised" in listed
    assert listed.count("$7.53") == 3
    rows = list(
        csv.DictReader(
            io.StringIO(
                client.get(reverse("savings:export", args=[people.slug]), {"what": "licences"}).content.decode(
                    "utf-8-sig"
                )
            )
        )
    )
    assert [row["amount"] for row in rows] == ["7.53"] * 3
    assert AuditEvent.objects.filter(action="savings.exported").count() == 1
    months = client.get(reverse("savings:export", args=[people.slug])).content.decode("utf-8-sig")
    assert f"{timezone.now():%Y-%m},jira,realised,3,22.59,USD" in months


def test_free_and_returned_licences_open_the_lists_that_they_count(
    people: Organization, freed: list[LedgerEntry], client_of: ClientOf
) -> None:
    client = client_of(people, Role.VIEWER)
    back = freed[0]
    LedgerEntry.objects.filter(pk=back.pk).update(ended_at=timezone.now() - timedelta(days=3), ended_by="seen")

    text = page(client, people, "savings:savings")
    free = page(client, people, "savings:licences", show="free", product="jira")
    returned = page(client, people, "savings:licences", show="returned")

    url = reverse("savings:licences", args=[people.slug])
    assert f'<a href="{url}?show=free&amp;product=jira">2</a>' in text
    assert f'<a href="{url}?show=free">2</a>' in text
    assert "1 <small>licences</small>" in text
    assert [name in free for name in (entry.account.name for entry in freed)] == [False, True, True]
    assert free.count('<th scope="row">') == 2
    assert back.account.name in returned
    assert returned.count('<th scope="row">') == 1


def test_price_with_tiers_is_entered_changed_and_removed(people: Organization, client_of: ClientOf) -> None:
    client = client_of(people, Role.ADMIN)
    values = {
        "product": "jira",
        "tier": "Premium",
        "currency": "eur",
        "billing": "annual",
        "tier_mode": "graduated",
        "valid_from": "2026-01-01",
        "renewal_on": "2026-06-01",
        "tier_from_1": "1",
        "tier_price_1": "90",
        "tier_from_2": "101",
        "tier_price_2": "72.5",
    }

    refused = client.post(reverse("pricing:new", args=[people.slug]), {**values, "tier_from_1": "5"})
    assert "The first tier begins at user 1." in refused.content.decode()
    client.post(reverse("pricing:new", args=[people.slug]), values)
    price = ProductPrice.objects.get()
    assert "from user 101: €72.50" in page(client, people, "pricing:prices")

    edit = reverse("pricing:edit", args=[people.slug, price.pk])
    assert 'value="72.5"' in client.get(edit).content.decode()
    client.post(edit, {**values, "tier_price_2": "70"})
    assert [str(tier.unit_price) for tier in price.tiers.all()] == ["90.0000", "70.0000"]
    again = client.post(reverse("pricing:new", args=[people.slug]), values)
    assert "already has a price from 2026-01-01" in again.content.decode()

    client.post(reverse("pricing:remove", args=[people.slug, price.pk]))
    assert not ProductPrice.objects.exists()
    actions = AuditEvent.objects.filter(action__startswith="price.").order_by("id").values_list("action", flat=True)
    assert list(actions) == ["price.added", "price.changed", "price.removed"]


def test_insight_is_snoozed_dismissed_with_a_reason_and_opened_again(people: Organization, client_of: ClientOf) -> None:
    client, before = client_of(people, Role.ADMIN), open_count(people)
    args = [people.slug, "inactive_jira"]
    assert before > 2

    client.post(reverse("savings:snooze", args=args), {"days": "7"})
    assert open_count(people) == before - 1
    bare = client.post(reverse("savings:dismiss", args=args), {"reason": " "})
    assert bare.status_code == 422
    client.post(reverse("savings:dismiss", args=args), {"reason": "Seasonal staff"})
    assert "Seasonal staff" in page(client, people, "savings:insights")
    assert InsightDecision.objects.filter(ended_at__isnull=True).count() == 1
    client.post(reverse("savings:reopen", args=args))

    assert open_count(people) == before
    actions = AuditEvent.objects.filter(target_kind="insight").order_by("id").values_list("action", flat=True)
    assert list(actions) == ["insight.snoozed", "insight.dismissed", "insight.reopened"]
    InsightDecision.objects.create(
        organization=people,
        key="inactive_jira",
        state="snoozed",
        until=timezone.now() - timedelta(seconds=1),
        count=1,
        decided_by="x",
        decided_at=timezone.now() - timedelta(days=7),
    )
    assert insight_named(people, "inactive_jira").is_open


def test_findings_about_things_count_what_they_list(people: Organization, client_of: ClientOf) -> None:
    CleanupRule.objects.create(
        organization=people,
        name="Forgotten",
        inactive_days=60,
        run_at="06:00",
        edited_at=timezone.now() - timedelta(days=30),
        scheduled_from=timezone.now() - timedelta(days=30),
    )
    client = client_of(people, Role.VIEWER)

    found = {insight.key: insight for insight in insights(people) if not insight.params}

    assert found["rules_never_run"].count == 1
    for insight in found.values():
        text = page(client, people, "savings:insight", insight.key)
        assert text.count('<th scope="row">') == insight.count
    assert "Forgotten" in page(client, people, "savings:insight", "rules_never_run")


def test_viewer_reads_and_changes_nothing(people: Organization, client_of: ClientOf) -> None:
    client = client_of(people, Role.VIEWER)

    assert "Take action" in page(client, people, "savings:insights")
    for name, args in (
        ("pricing:first", []),
        ("pricing:alerts", []),
        ("savings:snooze", ["inactive_jira"]),
        ("savings:dismiss", ["inactive_jira"]),
    ):
        assert client.post(reverse(name, args=[people.slug, *args])).status_code == 403


def test_prices_of_another_organisation_are_out_of_sight(people: Organization, client_of: ClientOf) -> None:
    other = Organization.objects.create(slug="other", name="Other", org_id="other", api_url="http://127.0.0.1:1")
    price = add_price(
        organization=other,
        values=PriceInput(product="jira", unit_price="9", valid_from="2026-01-01"),
        actor=SYSTEM,
    )
    client = client_of(people, Role.OWNER)

    assert client.get(reverse("pricing:edit", args=[people.slug, price.pk])).status_code == 404
    assert "Price book" not in page(client, people, "pricing:prices")


def test_rest_says_what_the_pages_say(people: Organization, freed: list[LedgerEntry], client_of: ClientOf) -> None:
    client, base = client_of(people, Role.ADMIN), f"/api/v1/organizations/{people.slug}"

    def send(method: str, path: str, body: object = None) -> tuple[int, Any]:
        answer = client.generic(method, f"{base}/{path}", json.dumps(body or {}), content_type="application/json")
        return answer.status_code, answer.json() if answer.content else None

    status, refused = send("POST", "prices/", {"product": "jira", "unit_price": "free", "valid_from": "soon"})
    assert (status, set(refused["fields"])) == (422, {"unit_price", "valid_from"})
    tiers = [{"from_users": 1, "unit_price": "8.15"}, {"from_users": 101, "unit_price": 6.4}]
    price = {"product": "jira", "currency": "USD", "tier_mode": "graduated", "tiers": tiers, "valid_from": "2025-01-01"}
    status, made = send("POST", "prices/", price)
    assert (status, made["tiers"][1]["unit_price"]) == (201, "6.4000")
    status, changed = send("PATCH", f"prices/{made['id']}/", {"tier_mode": "flat", "unit_price": "7.53"})
    assert (status, changed["unit_price"], changed["tiers"]) == (200, "7.5300", [])

    _status, found = send("GET", "savings/")
    assert found["realised"] == [{"currency": "USD", "amount": "22.59"}]
    assert len(found["months"]) == 12
    lines = send("GET", "savings/licences/?product=jira")[1]
    assert (lines["count"], [line["amount"] for line in lines["results"]]) == (3, ["7.53"] * 3)
    assert send("GET", "savings/?month=2999-01")[0] == 422

    every = send("GET", "insights/")[1]
    for row in every:
        if row["filter"]:
            query = urlencode({**row["filter"], "count": "exact", "limit": 1})
            assert send("GET", f"accounts/?{query}")[1]["count"] == row["count"], row["key"]
    assert send("POST", "insights/inactive_jira/reopen/")[0] == 409
    assert send("POST", "insights/inactive_jira/snooze/", {"days": 7})[1]["is_open"] is False
    assert send("POST", "insights/inactive_jira/dismiss/", {"reason": ""})[0] == 400
    assert send("POST", "insights/inactive_jira/reopen/")[1]["is_open"] is True
    assert send("POST", "insights/no-such/snooze/", {"days": 7})[0] == 404

    assert send("PUT", "licences/", {"product": "jira", "above": 1})[1]["is_over"] is True
    assert {row["product"] for row in send("GET", "licences/")[1]} >= {"jira", "confluence", "jsm", "bitbucket"}
    assert send("GET", "snapshots/")[0] == 200
    assert send("DELETE", f"prices/{made['id']}/")[0] == 204
