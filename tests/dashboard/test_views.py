from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import time, timedelta

import pytest
import responses
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, get_resolver, reverse
from django.utils import timezone
from pytest_django import Settings

from apps.audit.models import AuditEvent
from apps.audit.services import record
from apps.dashboard import heartbeat
from apps.dashboard.selectors import distribution, partition_lines
from apps.operations.models import Operation, OperationItem
from apps.operators.models import Operator, Role
from apps.operators.permissions import ROLE_PERMISSIONS
from apps.organizations.models import Alert, CapabilityCheck, Credential, Organization, RatePause
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert
from apps.rules.models import CleanupRule
from apps.rules.services import create_rule
from apps.rules.values import RuleInput
from apps.savings.selectors import insights
from apps.users.models import Account, SyncRun
from apps.users.predicates import Context
from apps.users.selectors import AccountFilters, count_exactly, dashboard_counts

ClientOf = Callable[..., Client]


def _operation(organization: Organization, number: int, **fields: object) -> Operation:
    return Operation.objects.create(
        **{
            "organization": organization,
            "number": number,
            "kind": Operation.Kind.MANUAL_OPERATION,
            "mode": Operation.Mode.LIVE,
            "status": Operation.Status.SUCCEEDED,
            "initiator": Operation.Initiator.MANUAL,
            "actor_text": "Juniper",
            "name": f"Run {number}",
            "action": "suspend",
            "finished_at": timezone.now(),
            **fields,
        }
    )


def _listed(organization: Organization, query: str) -> int:
    filters, errors = AccountFilters.parse(QueryDict(query))
    assert errors == {}
    return count_exactly(organization, filters.as_q(Context.of(organization)))


@pytest.mark.parametrize("days", [7, 30, 60, 90])
def test_each_figure_equals_the_list_it_opens(synced: Organization, days: int) -> None:
    counts = dashboard_counts(synced, days)

    found = {part.label: _listed(synced, part.query) for part in distribution(counts)}
    shown = {part.label: part.count for part in distribution(counts)}

    assert found == shown
    assert sum(shown.values()) == counts.total
    assert [_listed(synced, row.query) for row in partition_lines(counts)] == [
        row.count for row in partition_lines(counts)
    ]
    about_people = [row for row in insights(synced, days) if row.params]
    assert [_listed(synced, row.list_query) for row in about_people] == [row.count for row in about_people]
    assert len(about_people) >= 9


def test_dashboard_shows_figures_insights_and_activity(synced: Organization, client_of: ClientOf) -> None:
    client = client_of(synced, Role.ADMIN)

    page = client.get(reverse("dashboard:dashboard", args=[synced.slug]), {"range": "60"})

    text = page.content.decode()
    counts = dashboard_counts(synced, 60)
    assert page.status_code == 200
    assert f"{counts.total:,}" in text
    assert "60+ days inactive in Jira" in text
    assert "Directory sync" in text
    assert "Configuration complete" in text
    assert "action=remove_product_access&amp;products=jira&amp;days=60" in text


def test_dashboard_before_the_first_sync_says_what_to_do(organization: Organization, client_of: ClientOf) -> None:
    page = client_of(organization, Role.VIEWER).get(reverse("dashboard:dashboard", args=[organization.slug]))

    assert "Nothing is read yet" in page.content.decode()


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda o: Credential.objects.of(o).delete(), "Connect your organisation"),
        (
            lambda o: CapabilityCheck.objects.of(o).filter(capability="groups").update(ok=False, detail="No groups."),
            "The credentials need your attention",
        ),
        (
            lambda o: Credential.objects.of(o).update(expires_on=timezone.now().date() + timedelta(days=3)),
            "expires in 3 days",
        ),
        (
            lambda o: SyncRun.objects.create(organization=o, status="failed", error_detail="Atlassian is away."),
            "The last sync failed",
        ),
    ],
)
def test_banner_tells_the_state_of_the_connection(
    organization: Organization, client_of: ClientOf, prepare: Callable[[Organization], object], expected: str
) -> None:
    prepare(organization)

    page = client_of(organization, Role.ADMIN).get(reverse("dashboard:dashboard", args=[organization.slug]))

    assert expected in page.content.decode()


def test_pages_ask_as_many_queries_for_twenty_rows_as_for_two(organization: Organization, client_of: ClientOf) -> None:
    client = client_of(organization, Role.OWNER)
    urls = [reverse(f"dashboard:{name}", args=[organization.slug]) for name in ("dashboard", "audit", "alerts")]

    def fill(numbers: range) -> None:
        for number in numbers:
            _operation(organization, number)
            raise_alert(organization=organization, kind="x", severity="info", title="t", dedup_key=f"k{number}")
            SyncRun.objects.create(organization=organization, status="succeeded")
            values = RuleInput(name=f"Rule {number}", inactive_days=60, run_at=time(6))
            create_rule(organization=organization, values=values, actor=Actor.system(), operator=Operator.objects.get())

    def count() -> dict[str, int]:
        found = {}
        for url in urls:
            client.get(url)  # figures and counts of the navigation come from the cache from now on
            with CaptureQueriesContext(connection) as captured:
                assert client.get(url).status_code == 200
            found[url] = len(captured)
        return found

    fill(range(1, 3))
    few = count()
    fill(range(3, 21))

    assert count() == few


def test_detailed_view_asks_as_many_queries_for_twenty_rows_as_for_two(
    organization: Organization, client_of: ClientOf
) -> None:
    client = client_of(organization, Role.VIEWER)
    url = reverse("dashboard:audit", args=[organization.slug]) + "?view=detail"

    def fill(count: int) -> None:
        for number in range(count):
            record(
                organization=organization,
                actor=Actor.system(f"Somebody {number}"),
                action="account.suspended",
                target_kind="account",
                target_ref=f"a{number}",
                target_name=f"Person {number}",
            )

    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url).status_code == 200
        return len(captured)

    fill(2)
    client.get(url)
    few = count()
    fill(18)

    assert count() == few


def test_a_cards_list_asks_as_many_queries_for_twenty_rows_as_for_two(
    organization: Organization, client_of: ClientOf
) -> None:
    client = client_of(organization, Role.VIEWER)
    url = reverse("dashboard:audit-card", args=[organization.slug, "total"])

    def fill(numbers: range) -> None:
        for number in numbers:
            OperationItem.objects.create(
                organization=organization,
                operation=_operation(organization, number),
                subject=f"a{number}",
                action="suspend",
            )

    def count() -> int:
        client.get(url)
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url).status_code == 200
        return len(captured)

    fill(range(1, 3))
    few = count()
    fill(range(3, 21))

    assert count() == few


def test_long_stretches_of_success_are_folded(organization: Organization, client_of: ClientOf) -> None:
    at = timezone.now().replace(hour=0, minute=0, second=0) - timedelta(days=1)
    for number in range(1, 11):
        status = "failed" if number == 3 else "succeeded"
        _operation(organization, number, status=status, created_at=at + timedelta(minutes=number))

    text = client_of(organization, Role.VIEWER).get(reverse("dashboard:audit", args=[organization.slug]))

    before, _, rest = text.content.decode().partition('<details class="stretch">')
    folded, _, after = rest.partition('class="dot danger"')
    assert "4 more operations, all successful" in folded
    # The row of the failure begins before its sign.
    assert [part.count('<details class="oprow"') for part in (before, folded, after)] == [3, 4 + 1, 2]


def test_timeline_pages_through_everything_once(organization: Organization, client_of: ClientOf) -> None:
    client = client_of(organization, Role.VIEWER)
    at = timezone.now()
    for number in range(1, 41):
        _operation(organization, number, created_at=at - timedelta(minutes=number // 3))
        SyncRun.objects.create(
            organization=organization, status="succeeded", created_at=at - timedelta(minutes=number // 3)
        )

    url, seen = reverse("dashboard:audit", args=[organization.slug]), list[str]()
    query = ""
    while True:
        text = client.get(url + query).content.decode()
        seen += re.findall(r'href="(/o/acme/(?:runs/\d+|sync/\d+)/)">Open', text)
        following = re.search(r'rel="next" href="([^"]+)"', text)
        if following is None:
            break
        query = following[1].replace("&amp;", "&")

    assert len(seen) == 80
    assert len(set(seen)) == 80


@pytest.mark.parametrize(
    "after",
    [
        "x",
        "2026-13-45T00:00:00Z,o1",
        "2026-11-24T00:00:00,o1",
        "2026-11-24T00:00:00Z,z1",
        "2026-11-24T00:00:00Z,o" + "9" * 40,
    ],
)
def test_an_edited_page_mark_gives_the_first_page(organization: Organization, client_of: ClientOf, after: str) -> None:
    page = client_of(organization, Role.VIEWER).get(
        reverse("dashboard:audit", args=[organization.slug]), {"after": after}
    )

    assert page.status_code == 200


def test_timeline_filters_by_type_status_performer_and_date(organization: Organization, client_of: ClientOf) -> None:
    client = client_of(organization, Role.VIEWER)
    _operation(organization, 1, name="Good one")
    _operation(organization, 2, name="Bad one", status=Operation.Status.FAILED, actor_text="Tansy")
    _operation(organization, 3, name="Old one", created_at=timezone.now() - timedelta(days=9))
    SyncRun.objects.create(organization=organization, status="failed", error_detail="away")
    url = reverse("dashboard:audit", args=[organization.slug])

    def shown(**query: object) -> set[str]:
        text = client.get(url, query).content.decode()
        return {name for name in ("Good one", "Bad one", "Old one", "Directory sync") if f">{name}<" in text}

    assert shown() == {"Good one", "Bad one", "Old one", "Directory sync"}
    assert shown(type=["sync"]) == {"Directory sync"}
    assert shown(status=["failed"]) == {"Bad one", "Directory sync"}
    assert shown(performer="tansy") == {"Bad one"}
    assert shown(q="good") == {"Good one"}
    assert shown(q="#3") == {"Old one"}
    assert shown(when="24h") == {"Good one", "Bad one", "Directory sync"}
    assert "No operation matches" in client.get(url, {"q": "nothing like it"}).content.decode()


def test_a_wrong_filter_is_named_and_left_out(organization: Organization, client_of: ClientOf) -> None:
    _operation(organization, 1, name="Good one")

    page = client_of(organization, Role.VIEWER).get(
        reverse("dashboard:audit", args=[organization.slug]), {"since": "yesterday", "status": "wild"}
    )

    text = page.content.decode()
    assert page.status_code == 200
    assert "Good one" in text
    assert "It is left out." in text


def test_figures_of_the_day_equal_their_lists(organization: Organization, client_of: ClientOf) -> None:
    client = client_of(organization, Role.VIEWER)
    _operation(organization, 1)
    _operation(organization, 2, status=Operation.Status.FAILED)
    _operation(organization, 3, status=Operation.Status.RUNNING)
    _operation(organization, 4, created_at=timezone.now() - timedelta(days=2))
    SyncRun.objects.create(organization=organization, status="succeeded")
    url = reverse("dashboard:audit", args=[organization.slug])

    text = client.get(url).content.decode()
    figures = re.findall(r'class="card stat" href="([^"]+)"><span class="k">[^<]+</span><span class="v">(\d+)', text)

    assert [count for _, count in figures] == ["4", "2", "1", "1", "0"]
    for (card, count), status in zip(figures, ("", "success", "failed", "progress"), strict=False):
        listed = client.get(url, {"when": "24h", "status": status}).content.decode()
        assert listed.count('class="oprow"') == int(count)
        assert client.get(card).status_code == 200


def test_a_timeline_row_opens_to_its_users(organization: Organization, client_of: ClientOf) -> None:
    operation = _operation(organization, 1, people_count=3, outcomes={"done": 2, "failed": 1})

    page = client_of(organization, Role.VIEWER).get(
        reverse("dashboard:audit-run", args=[organization.slug, operation.number])
    )

    text = page.content.decode()
    assert "<html" not in text
    assert "3 users" in text
    assert "failed" in text


def test_a_row_names_each_person_with_action_target_and_outcome(synced: Organization, client_of: ClientOf) -> None:
    operation = _operation(synced, 1, people_count=2)
    first, second = Account.objects.of(synced).exclude(email=None).order_by("pk")[:2]
    for account, outcome in ((first, "done"), (second, "failed")):
        OperationItem.objects.create(
            organization=synced,
            operation=operation,
            account=account,
            subject=account.account_id,
            action="suspend",
            status="finished",
            outcome=outcome,
            detail="Ask its administrator." if outcome == "failed" else "",
            finished_at=timezone.now(),
        )

    page = client_of(synced, Role.VIEWER).get(reverse("dashboard:audit-run", args=[synced.slug, 1]))

    text = page.content.decode()
    assert str(first.email) in text
    assert "Suspended" in text
    assert "Ask its administrator." in text


def test_export_streams_what_the_filters_show_and_is_logged(organization: Organization, client_of: ClientOf) -> None:
    for outcome in ("success", "failed"):
        record(
            organization=organization,
            actor=Actor.system(),
            action="account.suspended",
            outcome=outcome,
            target_kind="account",
            target_ref="a1",
            target_name="=cmd()",
        )
    client = client_of(organization, Role.VIEWER)

    response = client.get(reverse("dashboard:audit-export", args=[organization.slug]), {"outcome": "failed"})

    text = b"".join(response.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["outcome"] for row in rows] == ["failed"]
    assert rows[0]["target"] == "'=cmd()"
    assert AuditEvent.objects.of(organization).filter(action="audit.exported").exists()


def test_verify_reads_the_chain_only_when_asked(organization: Organization, client_of: ClientOf) -> None:
    client = client_of(organization, Role.VIEWER)
    url = reverse("dashboard:audit-verify", args=[organization.slug])

    asked, done = client.get(url), client.post(url, follow=True)

    assert "Not verified on this page yet" in asked.content.decode()
    assert "The log is as it was written." in done.content.decode()


def test_an_event_of_another_organisation_is_not_found(organization: Organization, client_of: ClientOf) -> None:
    other = Organization.objects.create(slug="other", name="Other", org_id="o", api_url="https://api.atlassian.com")
    record(organization=other, actor=Actor.system(), action="x", target_kind="organization", target_ref="other")
    event = AuditEvent.objects.of(other).get()

    page = client_of(organization, Role.OWNER).get(reverse("dashboard:audit-event", args=["acme", event.pk]))

    assert page.status_code == 404


def test_refresh_starts_one_sync_however_often_it_is_pressed(organization: Organization, client_of: ClientOf) -> None:
    client = client_of(organization, Role.HELPDESK)
    url = reverse("dashboard:start-sync", args=[organization.slug])

    first = client.post(url, headers={"HX-Request": "true"})
    second = client.post(url, headers={"HX-Request": "true"})

    assert SyncRun.objects.of(organization).count() == 1
    assert 'hx-trigger="every 2s"' in first.content.decode()
    assert second.status_code == 200
    assert client.get(url).status_code == 405


def test_polling_ends_with_the_sync(organization: Organization, client_of: ClientOf) -> None:
    client = client_of(organization, Role.VIEWER)
    sync = SyncRun.objects.create(organization=organization, created_at=timezone.now() - timedelta(minutes=2))
    url = reverse("dashboard:sync-progress", args=[organization.slug])

    slow = client.get(url)
    SyncRun.objects.filter(pk=sync.pk).update(status="succeeded")
    done = client.get(url)

    assert 'hx-trigger="every 5s"' in slow.content.decode()
    assert "hx-trigger" not in done.content.decode()
    assert done["HX-Refresh"] == "true"


def test_a_distrusted_sync_is_accepted_with_a_reason_by_those_who_may(
    organization: Organization, client_of: ClientOf
) -> None:
    sync = SyncRun.objects.create(
        organization=organization,
        status="succeeded",
        is_trusted=False,
        distrust_reasons=["Half of the people are gone."],
    )
    url = reverse("dashboard:sync", args=[organization.slug, sync.pk])
    approver = client_of(organization, Role.APPROVER)

    refused = client_of(organization, Role.ADMIN).post(url, {"reason": "Fine"})
    without = approver.post(url, {"reason": ""})
    approver.post(url, {"reason": "We left a company"})

    assert (refused.status_code, without.status_code) == (403, 422)
    sync.refresh_from_db()
    assert sync.is_trusted
    assert sync.baseline_reason == "We left a company"
    assert approver.post(url, {"reason": "Again"}).status_code == 422


def test_an_alert_is_closed_by_those_who_may(organization: Organization, client_of: ClientOf) -> None:
    alert = raise_alert(organization=organization, kind="x", severity="error", title="Look here")
    url = reverse("dashboard:close-alert", args=[organization.slug, alert.pk])

    refused = client_of(organization, Role.VIEWER).post(url)
    closed = client_of(organization, Role.ADMIN).post(url, follow=True)

    assert refused.status_code == 403
    assert "Closed: Look here" in closed.content.decode()
    assert Alert.objects.get(pk=alert.pk).resolved_by == "Admin"


def test_help_ticks_what_is_done(synced: Organization, client_of: ClientOf) -> None:
    text = client_of(synced, Role.VIEWER).get(reverse("dashboard:help-setup", args=[synced.slug])).content.decode()

    assert 'First sync<span class="vh">, done</span>' in text
    assert 'First rule, in Safe mode<span class="vh">, to do</span>' in text


def _own_routes() -> list[tuple[str, URLPattern]]:
    found: list[tuple[str, URLPattern]] = []
    for namespace in ("dashboard", "organizations"):
        _prefix, resolver = get_resolver().namespace_dict[namespace]
        for pattern in resolver.url_patterns:
            assert isinstance(pattern, URLPattern)
            found.append((f"{namespace}:{pattern.name}", pattern))
    return found


@pytest.mark.parametrize("role", list(Role.values))
def test_every_page_refuses_the_roles_without_its_permission(
    organization: Organization, client_of: ClientOf, role: str
) -> None:
    client = client_of(organization, role)

    for name, pattern in _own_routes():
        permission = pattern.callback.required_permission  # type: ignore[attr-defined]
        arguments = [organization.slug, *(1 for _ in pattern.pattern.converters)]
        response = client.get(reverse(name, args=arguments))
        is_refused = response.status_code == 403
        assert is_refused == (permission not in ROLE_PERMISSIONS[role]), name


def test_strangers_and_anonymous_people_see_nothing(organization: Organization, client_of: ClientOf) -> None:
    other = Organization.objects.create(slug="other", name="Other", org_id="o", api_url="https://api.atlassian.com")
    stranger = client_of(other, Role.OWNER)

    for name, pattern in _own_routes():
        arguments = [organization.slug, *(1 for _ in pattern.pattern.converters)]
        url = reverse(name, args=arguments)
        assert stranger.get(url).status_code == 404, name
        answer = Client().get(url)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/login/")
    fragment = Client().get(reverse("dashboard:sync-progress", args=["acme"]), headers={"HX-Request": "true"})
    assert fragment.status_code == 401
    assert fragment["HX-Redirect"].startswith("/login/")


def test_health_asks_no_database_and_readiness_is_not_for_everybody(db: None) -> None:
    client = Client()

    with CaptureQueriesContext(connection) as captured:
        assert client.get("/healthz").status_code == 200
    assert len(captured) == 0
    assert client.get("/readyz").json() == {"database": True, "queue": True, "workers": False, "old_syncs": []}
    heartbeat.beat()
    assert client.get("/readyz").json()["workers"] is True
    assert client.get("/readyz", REMOTE_ADDR="203.0.113.9").status_code == 404
    assert client.get("/readyz", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 404


def test_what_can_do_harm_asks_again_who_one_is_and_what_stops_harm_does_not(
    organization: Organization, client_of: ClientOf, operators: Callable[..., Operator], settings: Settings
) -> None:
    owner, approver = client_of(organization, Role.OWNER), client_of(organization, Role.APPROVER)
    author = operators(organization, "author@example.com", Role.ADMIN)
    values = RuleInput(name="Idle", inactive_days=60, run_at=time(6))
    rule = create_rule(organization=organization, values=values, actor=Actor.system(), operator=author)
    held = _operation(organization, 7, status=Operation.Status.HELD, actor=author, plan_hash="a" * 64)
    settings.AUM_REAUTHENTICATE_MINUTES = 0

    def asks(client: Client, path: str, method: str = "post", **fields: str) -> bool:
        answer = getattr(client, method)(f"/o/{organization.slug}/{path}", fields)
        return answer.status_code == 302 and answer["Location"].startswith("/reauthenticate/")

    assert asks(owner, "runs/7/apply/")
    assert asks(approver, f"runs/{held.number}/approve/", plan_hash="a" * 64)
    assert asks(owner, "settings/connection/replace/", api_key="new")
    assert asks(owner, "settings/connection/replace/", "get")
    assert asks(owner, "settings/people/")
    assert not asks(owner, f"rules/{rule.pk}/run/")
    CleanupRule.objects.filter(pk=rule.pk).update(mode=CleanupRule.Mode.LIVE)
    assert asks(owner, f"rules/{rule.pk}/run/")
    assert not asks(owner, "settings/stop/", reason="Something is wrong")
    assert asks(owner, "settings/stop/", reason="All is well")
    organization.refresh_from_db()
    assert organization.is_killed
    # A secret is not kept in the session.
    assert "new" not in str(dict(owner.session))


def test_figures_tell_of_runs_waits_and_alerts_and_not_everybody(organization: Organization) -> None:
    raise_alert(organization=organization, kind="x", severity="warning", title="Look", detail="here")
    RatePause.objects.create(organization=organization, family="users", until=timezone.now() + timedelta(seconds=60))
    heartbeat.beat()
    client = Client()

    text = client.get("/metrics").content.decode()

    assert 'aum_alerts_open{organization="acme",severity="warning"} 1.0' in text
    assert re.search(r'aum_atlassian_pause_seconds\{organization="acme"\} [56]\d\.', text)
    assert re.search(r'aum_queue_length\{queue="operations"\} \d+\.', text)
    assert re.search(r"^aum_heartbeat_age_seconds \d+\.", text, re.MULTILINE)
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.9").status_code == 404


def test_silence_is_heard_outside_only_while_all_is_well(organization: Organization, settings: Settings) -> None:
    settings.AUM_HEARTBEAT_URL = "http://127.0.0.1:9/alive"
    with responses.RequestsMock() as fake:
        fake.get("http://127.0.0.1:9/alive", status=200)
        heartbeat.beat()
        assert len(fake.calls) == 1
        SyncRun.objects.create(
            organization=organization, status="succeeded", finished_at=timezone.now() - timedelta(days=3)
        )
        heartbeat.beat()
        assert len(fake.calls) == 1


def test_api_reference_needs_no_inline_code(organization: Organization, client_of: ClientOf) -> None:
    page = client_of(organization, Role.VIEWER).get("/api/docs/")

    assert "script-src 'self'" in page["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)", page.content.decode())
    assert Client().get("/api/docs/").status_code == 302
    assert Client().get("/api/schema/").status_code in (401, 403)
