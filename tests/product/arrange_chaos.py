"""What trials of `tests.product.chaos` arrange beside the running product; called through `tests.product.arrange`."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import time, timedelta
from typing import Any

ACTIVE = {"account_status": 1, "membership_status": 1, "kind": 1, "vanished_at": None}


def _organization(slug: str) -> Any:
    from apps.organizations.models import Organization

    return Organization.objects.get(slug=slug)


def session(*, slug: str) -> dict[str, Any]:
    """A signed-in session of the organisation's administrator, as the cookie that a browser would hold."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    from apps.operators.models import Operator

    operator = Operator.objects.get(email=f"{slug}@aum.example")
    store = SessionStore()
    store[SESSION_KEY] = str(operator.pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = operator.get_session_auth_hash()
    store.save()
    return {"name": settings.SESSION_COOKIE_NAME, "value": store.session_key}


def begin(*, slug: str, seed: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Start live runs over people of their own: `[{"action", "people", "products", "leaving": [ids]}]`; their keys."""
    from apps.operations import services
    from apps.operations.selection import AccountsSelection, ActionSpec
    from apps.operators.models import Operator
    from apps.organizations.recorder import Actor
    from apps.users.models import Account, Group

    organization, rng = _organization(slug), random.Random(seed)
    operator = Operator.objects.get(email=f"{slug}@aum.example")
    people = list(
        Account.objects.of(organization)
        .filter(**ACTIVE, is_org_admin=False, is_site_admin=False, is_connection_owner=False)
        .order_by("account_id")
        .values_list("account_id", flat=True)
    )
    rng.shuffle(people)
    groups = list(
        Group.objects.of(organization)
        .filter(is_synced=False, is_administrative=False, are_grants_known=True, vanished_at__isnull=True)
        .order_by("group_id")
        .values_list("pk", flat=True)
    )
    begun = []
    for run in runs:
        leaving = set(run.get("leaving", ()))
        people = [person for person in people if person not in leaving]
        chosen, people = people[: run["people"]], people[run["people"] :]
        spec = ActionSpec(
            run["action"],
            products=tuple(run.get("products", ())),
            group_ids=(rng.choice(groups),) if run["action"] == "add_to_group" else (),
        )
        operation = services.plan_operation(
            organization=organization,
            kind="automation_rule",
            mode="live",
            initiator="manual",
            actor=Actor.operator(operator),
            operator=operator,
            name="Chosen people",
            actions=[spec],
            selection=AccountsSelection(tuple(chosen)),
        )
        begun.append(operation.pk)
    return {"operations": begun}


def sync_beside(*, slug: str) -> dict[str, Any]:
    """Ask for a sync and do not wait for it."""
    from apps.organizations.recorder import Actor
    from apps.users.services import request_sync

    return {"sync": request_sync(organization=_organization(slug), actor=Actor.system(), exist_ok=True).pk}


def notices(*, slug: str, port: int) -> dict[str, Any]:
    """A live rule with one notice and a mail server at `port`; beat finds who has to be told."""
    from apps.notifications.models import MailSettings
    from apps.notifications.services import TemplateInput, create_template
    from apps.operators.models import Operator
    from apps.organizations.recorder import Actor
    from apps.rules.services import create_rule
    from apps.rules.services.notices import owe_notices
    from apps.rules.values import RuleInput

    organization = _organization(slug)
    operator = Operator.objects.get(email=f"{slug}@aum.example")
    MailSettings.objects.create(
        organization=organization,
        host="127.0.0.1",
        port=port,
        security="none",
        from_address=f"aum@{slug}.example",
        per_minute=60_000,
    )
    actor = Actor.operator(operator)
    template = create_template(
        organization=organization,
        values=TemplateInput(
            name="Warning",
            event="suspend",
            days_inactive=173,
            subject="Hello {{username}}",
            body="<p>Dear {{username}}, {{action}} on {{action_date}}. {{keep_access_link}}</p>",
        ),
        actor=actor,
    ).template
    values = RuleInput(name="Idle", inactive_days=180, run_at=time(6), notices=(f"{template.pk}:7:person",))
    rule = create_rule(organization=organization, values=values, actor=actor, operator=operator)
    # As if it had been previewed and switched to Live in the version that it has.
    version = rule.versions.get(version=rule.version)
    version.content["mode"] = rule.mode = "live"
    version.save(update_fields=["content"])
    rule.save(update_fields=["mode"])
    return {"rule": rule.pk, "owed": owe_notices()}


def way_in(*, slug: str, seed: int, people: int) -> dict[str, Any]:
    """A way in for tickets with its rule; the path, the secret, and people whom the rule adds to its group."""
    from django.utils import timezone

    from apps.autoactivate.models import InboundSource
    from apps.autoactivate.services import create_rule, ensure_source, rotate_secret
    from apps.autoactivate.values import AssignmentInput
    from apps.organizations.recorder import Actor
    from apps.users.models import Account, Group

    organization, rng = _organization(slug), random.Random(seed)
    addable = Group.objects.of(organization).filter(
        is_synced=False, is_administrative=False, are_grants_known=True, vanished_at__isnull=True
    )
    group = addable.order_by("directory_id", "member_count", "pk").first()
    assert group is not None
    found = Account.objects.of(organization).filter(
        **ACTIVE, email__isnull=False, directory_memberships__directory=group.directory_id
    )
    chosen = list(found.exclude(group_ids__contains=[group.pk]).order_by("pk"))
    rng.shuffle(chosen)
    chosen = chosen[:people]
    actor = Actor.system()
    source, secret = rotate_secret(source=ensure_source(organization=organization, kind="jira"), actor=actor)
    InboundSource.objects.filter(pk=source.pk).update(first_event_at=timezone.now())
    create_rule(
        organization=organization,
        values=AssignmentInput(
            name="Employees",
            project="HELP",
            domains=tuple(sorted({(account.email or "").rpartition("@")[2] for account in chosen})),
            groups=(group.pk,),
        ),
        is_active=True,
        actor=actor,
        operator=None,
    )
    return {
        "path": f"/hooks/jira/{source.key}",
        "secret": secret,
        "people": [account.account_id for account in chosen],
        "group": f"{group.directory.directory_id}/{group.group_id}",
    }


def flood_queue(*, slug: str, messages: int) -> dict[str, Any]:
    """Fill the queues with messages about work that is done, under way, or does not exist."""
    from apps.autoactivate.models import InboundEvent
    from apps.operations.models import Operation
    from apps.users.models import SyncRun
    from aum.common.tasks import enqueue

    organization, rng = _organization(slug), random.Random(messages)
    operations = [*Operation.objects.of(organization).values_list("pk", flat=True), 0]
    syncs = [*SyncRun.objects.of(organization).values_list("pk", flat=True), 0]
    events = [*InboundEvent.objects.of(organization).values_list("pk", flat=True), 0]
    for _ in range(messages):
        name, values = rng.choice(
            (
                ("operations.execute", {"operation_id": rng.choice(operations)}),
                ("operations.plan", {"operation_id": rng.choice(operations)}),
                ("users.sync", {"sync_run_id": rng.choice(syncs)}),
                ("autoactivate.process", {"event_id": rng.choice(events)}),
                ("notifications.send", {"organization_id": organization.pk}),
                ("operations.sweep", {}),
                ("nobody.knows", {}),
            )
        )
        enqueue(name, **values)
    return {"messages": messages}


def empty_queue() -> dict[str, Any]:
    """Lose everything that Valkey holds, as a fresh one does."""
    import redis
    from django.conf import settings

    redis.Redis.from_url(settings.REDIS_URL).flushall()
    return {}


def cancel_held(*, slug: str) -> dict[str, Any]:
    """Stop what is held for a person to decide; how many."""
    from apps.operations import services
    from apps.operations.models import Operation
    from apps.operators.models import Operator
    from apps.organizations.recorder import Actor

    operator = Operator.objects.get(email=f"{slug}@aum.example")
    held = list(Operation.objects.of(_organization(slug)).filter(status="held"))
    for operation in held:
        services.cancel_operation(operation=operation, actor=Actor.operator(operator))
    return {"cancelled": len(held)}


def audit_findings(*, slug: str) -> dict[str, Any]:
    """What the verification of the audit log finds wrong, once everything is sealed."""
    from apps.audit.services import seal, verify

    organization = _organization(slug)
    seal(organization)
    return {"findings": [str(finding) for finding in verify(organization).first_broken]}


def age(*, slug: str) -> dict[str, Any]:
    """Let pass the pauses that wait for minutes: after trouble with the mail server, of events, of syncs."""
    from django.utils import timezone

    from apps.autoactivate.models import InboundEvent
    from apps.notifications.models import Delivery, MailSettings
    from apps.users.models import SyncRun

    organization, now = _organization(slug), timezone.now()
    soon = now - timedelta(seconds=1)
    InboundEvent.objects.of(organization).filter(next_try_at__gt=now).update(next_try_at=soon)
    Delivery.objects.filter(organization=organization, next_attempt_at__gt=now).update(next_attempt_at=soon)
    MailSettings.objects.filter(organization=organization).update(paused_until=None, next_batch_at=None)
    SyncRun.objects.of(organization).filter(status__in=SyncRun.OPEN, lease_token__isnull=True).update(lease_until=soon)
    return {}


def stop_all(*, slug: str) -> dict[str, Any]:
    """Turn the kill switch on: plans are made and nothing is written."""
    from apps.organizations.recorder import Actor
    from apps.organizations.services import turn_kill_switch_on

    turn_kill_switch_on(organization=_organization(slug), reason="Wait", actor=Actor.system())
    return {}


def go_on(*, slug: str) -> dict[str, Any]:
    """Release the kill switch."""
    from apps.organizations.recorder import Actor
    from apps.organizations.services import release_kill_switch

    release_kill_switch(organization=_organization(slug), reason="Go on", actor=Actor.system())
    return {}


def widen(*, operation: int) -> dict[str, Any]:
    """Put somebody into a frozen plan behind AUM's back."""
    from apps.operations.models import OperationItem
    from apps.users.models import Account

    item = OperationItem.objects.filter(operation=operation).order_by("id").first()
    assert item is not None
    planned = OperationItem.objects.filter(operation=operation).values("account_id")
    other = (
        Account.objects.filter(organization=item.organization_id, **ACTIVE, is_org_admin=False, is_site_admin=False)
        .filter(is_connection_owner=False, directory_memberships__directory__directory_id=item.parameters["directory"])
        .exclude(pk__in=planned)
        .order_by("pk")
        .first()
    )
    assert other is not None
    item.pk, item.account, item.subject = None, other, other.account_id
    item.save()
    return {"who": other.account_id}


FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__: function
    for function in (
        *(session, begin, sync_beside, notices, way_in, flood_queue, empty_queue),
        *(cancel_held, audit_findings, age, stop_all, go_on, widen),
    )
}
