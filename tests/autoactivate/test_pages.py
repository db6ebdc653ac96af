"""The pages as a browser without script uses them, the secrets that are shown once, and the same over REST."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from apps.audit.models import AuditEvent
from apps.autoactivate import services
from apps.autoactivate.models import AssignmentRule, InboundEvent, InboundSource, RuleDraft
from apps.operators.models import Operator
from apps.operators.services import create_token
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import Group
from tests.autoactivate.conftest import ACTOR, addable, domain_rule, open_way, seen

pytestmark = pytest.mark.django_db(transaction=True)


def page(name: str, *arguments: object) -> str:
    return reverse(f"autoactivate:{name}", args=["acme", *arguments])


def test_wizard_leads_without_script_to_a_rule_that_waits_for_its_first_event(
    organization: Organization, small: Sandbox, admin: Operator, client: Client
) -> None:
    client.force_login(admin)
    groups = addable(organization, 2)
    synced = Group.objects.of(organization).filter(is_synced=True).first()
    administrative = Group.objects.of(organization).filter(is_administrative=True, is_synced=False).first()
    assert synced is not None
    assert administrative is not None

    first = client.get(page("new"))
    assert b"IT Support" in first.content
    assert client.post(page("new"), {"channels": "jsm"}).status_code == 422
    step = client.post(page("new"), {"channels": "jsm", "project": "HELP"})
    assert step["Location"] == page("new-step", "requests")
    assert b"Get IT help" in client.get(step["Location"]).content
    assert client.post(step["Location"], {"which": "some"}).status_code == 422
    step = client.post(step["Location"], {"which": "some", "request_types": ["11", "12"]})
    wrong = {"method": "email_domain", "domains": "employer..com", "groups": [synced.pk, administrative.pk]}
    refused = client.post(step["Location"], wrong | {"max_per_day": "0"})
    assert refused.status_code == 422
    for sentence in ("is not a domain", "managed in the identity provider", "grants administration", "Enter 1 to"):
        assert sentence in refused.content.decode()
    assert 'employer..com">' not in refused.content.decode().partition('id="id_name"')[2][:120]
    assert client.post(step["Location"], {"method": "email_domain", "domains": "gmail.com"}).status_code == 422
    found = client.post(step["Location"], {"find": "groups", "groups_search": groups[0].name[:4]})
    assert found.status_code == 200
    assert RuleDraft.objects.get().values["project"] == "HELP"
    right = {"method": "email_domain", "domains": "EMPLOYER.com, other.org", "groups": [g.pk for g in groups]}
    step = client.post(step["Location"], right | {"seat_budget": "20", "expires_after_days": "30"})
    review = client.get(step["Location"]).content.decode()
    assert "Everybody at employer.com, other.org" in review
    assert "HELP: employer.com" in review
    assert "Nothing has arrived from outside yet" in review
    assert "Would have matched" in client.post(page("would-match"), {"rule": ""}).content.decode()
    assert client.post(step["Location"], {"then": "activate"}).status_code == 422
    assert client.post(step["Location"], {"then": "save"})["Location"] == page("list")

    rule = AssignmentRule.objects.get()
    assert (rule.domains, rule.seat_budget, rule.is_active) == (["employer.com", "other.org"], 20, False)
    assert {kind["name"] for kind in rule.request_types} == {"Request access", "Get IT help"}
    listed = client.get(page("list")).content.decode()
    for text in ("IT Support", "Email domain", "employer.com, other.org", groups[0].name, groups[1].name):
        assert text in listed
    assert "Set up Jira Automation first" in listed
    assert not RuleDraft.objects.exists()
    client.post(page("switch", rule.pk))
    assert not AssignmentRule.objects.filter(is_active=True).exists()

    # An event from outside proves the way; then it can be switched on, edited by its version, and deleted by name.
    way = open_way(organization)
    assert client.post(way.path, "{}", "application/json", headers={"X-AUM-Secret": "wrong"}).status_code == 401
    assert "a wrong or missing secret" in client.get(page("arrival", "jira")).content.decode()
    assert client.post(way.path, "{}", "application/json", headers={"X-AUM-Secret": way.secret}).status_code == 202
    services.process_event(InboundEvent.objects.get().pk)
    assert "Event received" in client.get(page("arrival", "jira")).content.decode()
    switched = client.post(page("switch", rule.pk), headers={"HX-Request": "true"}).content.decode()
    assert 'hx-swap-oob="true">Whoever asks' in switched
    assert "Rules switched on: 1 of 1." in switched
    assert AssignmentRule.objects.filter(is_active=True).exists()
    edit = page("edit-step", rule.pk, "rule")
    client.post(edit, right | {"name": "Renamed", "method": "existing_group", "trigger_group": administrative.pk})
    client.post(page("edit-step", rule.pk, "review"), {"then": "save"})
    rule.refresh_from_db()
    assert (rule.name, rule.version, rule.method, rule.trigger_group) == (
        "Renamed",
        2,
        "existing_group",
        administrative,
    )
    assert client.post(page("delete", rule.pk), {"confirm_name": "no"}).status_code == 422
    assert client.post(page("delete", rule.pk), {"confirm_name": "Renamed"}).status_code == 302
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {f"assignment_rule.{word}" for word in ("created", "switched_on", "updated", "deleted")} <= actions


def test_a_secret_is_shown_once_and_rotated_with_overlap(
    organization: Organization, admin: Operator, client: Client
) -> None:
    client.force_login(admin)

    made = client.post(page("secret", "jira"))
    first = re.search(r'id="new-secret"[^>]*>([^<]+)<', made.content.decode())
    assert first is not None
    assert made["Cache-Control"] == "no-store"
    assert first[1] not in client.get(page("setup")).content.decode()
    source = InboundSource.objects.get(kind="jira")
    assert first[1] not in str(InboundSource.objects.filter(pk=source.pk).values())
    second = re.search(r'id="new-secret"[^>]*>([^<]+)<', client.post(page("secret", "jira")).content.decode())
    assert second is not None

    def send(secret: str) -> int:
        answer = client.post(f"/hooks/jira/{source.key}", "{}", "application/json", headers={"X-AUM-Secret": secret})
        return answer.status_code

    assert [send(first[1]), send(second[1])] == [202, 202]
    client.post(page("end-overlap", "jira"))
    assert [send(first[1]), send(second[1])] == [401, 202]
    client.post(page("switch-source", "jira"), {"is_enabled": "off"})
    assert send(second[1]) == 404
    big = "x" * (600 * 1024)
    client.post(page("switch-source", "jira"), {"is_enabled": "on"})
    answer = client.post(f"/hooks/jira/{source.key}", big, "application/json", headers={"X-AUM-Secret": second[1]})
    assert answer.status_code == 413
    assert client.get(f"/hooks/jira/{source.key}").status_code == 405
    assert client.post("/hooks/jira/nothing", "{}", "application/json").status_code == 404
    for kind, wrong in (("slack", "short"), ("teams", "not base64!")):
        assert client.post(page("secret", kind), {"secret": wrong}).status_code == 422
    for kind in InboundSource.Kind.values:
        assert client.get(page("setup"), {"way": kind}).status_code == 200


def test_pages_show_every_state_and_the_form_behind_sign_in_asks_for_oneself(
    organization: Organization, small: Sandbox, operators: Callable[..., Operator], client: Client
) -> None:
    domain = small.core.world.domains[0]
    group = addable(organization, 1)[0]
    domain_rule(organization, group, domain=domain, channels=("intranet",), is_active=False, name="Ours")
    seen(organization, "intranet")
    viewer = operators(organization, f"nobody@{domain}", "viewer")
    client.force_login(viewer)

    for name in ("list", "setup", "log", "grants", "request"):
        assert client.get(page(name)).status_code == 200
    assert client.post(page("request")).status_code == 302
    event = InboundEvent.objects.get()
    assert event.payload["email"] == f"nobody@{domain}"
    services.process_event(event.pk)
    for name, query in (("log", "?view=trouble"), ("log", "?q=nobody"), ("grants", "?view=asked")):
        assert client.get(page(name) + query).status_code == 200
    shown = client.get(page("event", event.pk)).content.decode()
    assert "No account of the organisation has this e-mail" in shown
    assert client.post(page("again", event.pk)).status_code == 403


def test_rest_offers_what_the_pages_do(
    organization: Organization, small: Sandbox, operators: Callable[..., Operator]
) -> None:
    owner = operators(organization, "owner@aum.example", "owner")
    _row, secret = create_token(
        organization=organization, operator=owner, scopes=["read", "admin", "run"], actor=Actor.operator(owner)
    )
    api = APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")
    base = "/api/v1/organizations/acme/"
    group = addable(organization, 1)[0]
    values = {"name": "Ours", "project": "HELP", "domains": ["employer.com"], "groups": [group.name]}

    projects = api.get(f"{base}service-projects/?project=HELP").json()
    assert [kind["id"] for kind in projects[0]["request_types"]]
    assert api.post(f"{base}assignment-rules/would-match/", values, format="json").json()["matched"] == 0
    refused = api.post(f"{base}assignment-rules/", values | {"is_active": True}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (409, "setup_not_seen")
    rule = api.post(f"{base}assignment-rules/", values, format="json")
    assert rule.status_code == 201
    source = api.post(f"{base}inbound-sources/", {"kind": "jira"}, format="json").json()
    rotated = api.post(f"{base}inbound-sources/{source['id']}/rotate/", {}, format="json").json()
    hook = source["address"].partition("/hooks/")[2]
    sent = api.post(f"/hooks/{hook}", {"key": "HELP-1"}, format="json", headers={"X-AUM-Secret": rotated["secret"]})
    assert sent.status_code == 202
    services.process_event(sent.json()["event"])
    events = api.get(f"{base}inbound-events/?count=exact").json()
    assert events["count"] == 1
    one = f"{base}assignment-rules/{rule.json()['id']}/"
    assert api.patch(one, {"is_active": True}, format="json").json()["is_active"] is True
    stale = api.patch(one, {"max_per_day": 3, "version": 9}, format="json")
    assert (stale.status_code, stale.json()["code"]) == (409, "rule_changed")
    assert api.patch(one, {"max_per_day": 3}, format="json").json()["version"] == 2
    assert api.post(f"{base}inbound-events/{sent.json()['event']}/retry/", format="json").status_code in (200, 409)
    assert api.get(f"{base}access-grants/").json()["results"] == []
    assert api.delete(one).status_code == 204
    other = Organization.objects.create(slug="other", name="Other", org_id="o", api_url="http://127.0.0.1:1")
    foreign = services.ensure_source(organization=other, kind="jira")
    assert api.post(f"{base}inbound-sources/{foreign.pk}/rotate/", {}, format="json").status_code == 404
    services.rotate_secret(source=foreign, actor=ACTOR)
