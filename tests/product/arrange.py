"""What a test arranges in the running product without clicking: `python -m tests.product.arrange`, asked line by line.

Each function calls the services that pages and REST call, in a process of its own beside the product's, and its answer
is printed as JSON. Workers of the product do the work.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

PASSWORD = "correct horse battery staple"
WAIT_SECONDS = 240.0


def connect(*, url: str, slug: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Connect the Atlassian at `url`, with `settings` of the organisation, and wait for its first trusted sync."""
    from django.utils import timezone

    from apps.operators.models import Grant, Operator
    from apps.organizations.recorder import Actor
    from apps.organizations.services import ConnectionInput, connect_organization
    from apps.sandbox.server import Control
    from apps.users.models import SyncRun
    from apps.users.services import request_sync

    known = Control(url).get("credentials")
    organization, _results = connect_organization(
        values=ConnectionInput(
            email=known["email"],
            org_id=known["org_id"],
            site_url=url,
            api_url=url,
            api_token=known["api_token"],
            api_key=known["api_key"],
            name=slug.title(),
            slug=slug,
        ),
        actor=Actor.system(),
    )
    for name, value in settings.items():
        setattr(organization, name, value)
    organization.save()
    operator = Operator.objects.filter(email=f"{slug}@aum.example").first() or Operator.objects.create_user(
        f"{slug}@aum.example", PASSWORD, name=slug.title()
    )
    Grant.objects.create(
        organization=organization,
        operator=operator,
        role="admin",
        granted_at=timezone.now() - timedelta(days=2),
        granted_by="test",
    )
    running = SyncRun.objects.of(organization).order_by("-id").first()
    _wait_for_sync(running or request_sync(organization=organization, actor=Actor.system()))
    return {"organization": organization.pk, "operator": operator.pk}


def start(
    *,
    slug: str,
    inactive_days: int = 60,
    accounts: list[str] | None = None,
    mode: str = "live",
    action: str = "suspend",
    products: list[str] | None = None,
) -> dict[str, Any]:
    """Plan `action` for everybody idle, or for the named; a live plan within the limits begins by itself."""
    from apps.operations import services
    from apps.operations.selection import AccountsSelection, ActionSpec, IdleSelection, Selection
    from apps.operators.models import Operator
    from apps.organizations.models import Organization
    from apps.organizations.recorder import Actor

    organization = Organization.objects.get(slug=slug)
    operator = Operator.objects.get(email=f"{slug}@aum.example")
    selection: Selection = IdleSelection(
        inactive_days=inactive_days,
        per_product=bool(products),
        include_never_active=True,
        never_active_days=inactive_days,
    )
    if accounts is not None:
        selection = AccountsSelection(tuple(accounts))
    operation = services.plan_operation(
        organization=organization,
        kind="automation_rule",
        mode=mode,
        initiator="manual",
        actor=Actor.operator(operator),
        operator=operator,
        name="Idle people",
        actions=[ActionSpec(action, products=tuple(products or ()))],
        selection=selection,
    )
    return {"operation": operation.pk}


def start_all(*, slug: str, lists: list[list[str]]) -> dict[str, Any]:
    """Start one live run over each list of accounts, at once."""
    return {"operations": [start(slug=slug, accounts=accounts)["operation"] for accounts in lists]}


def apply(*, operation: int) -> dict[str, Any]:
    """Run a stored preview live, as exactly what it shows."""
    from apps.operations import services
    from apps.operations.models import Operation
    from apps.organizations.recorder import Actor

    preview = Operation.objects.select_related("actor").get(pk=operation)
    assert preview.actor is not None
    live = services.apply_preview(
        operation=preview,
        plan_hash=preview.plan_hash,
        actor=Actor.operator(preview.actor),
        operator=preview.actor,
    )
    return {"operation": live.pk}


def sync(*, slug: str) -> dict[str, Any]:
    """Read the directory once more and wait until it is merged."""
    from apps.organizations.models import Organization
    from apps.organizations.recorder import Actor
    from apps.users.services import request_sync

    run = request_sync(organization=Organization.objects.get(slug=slug), actor=Actor.system())
    _wait_for_sync(run)
    return {"sync": run.pk}


def _wait_for_sync(run: Any) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not run.is_trusted:
        assert time.monotonic() < deadline, (run.status, run.error_detail, run.distrust_reasons)
        time.sleep(0.2)
        run.refresh_from_db()


def undo(*, operation: int) -> dict[str, Any]:
    """Start the undo of a finished operation."""
    from apps.operations import services
    from apps.operations.models import Operation
    from apps.organizations.recorder import Actor

    source = Operation.objects.select_related("actor").get(pk=operation)
    assert source.actor is not None
    inverse = services.undo_operation(operation=source, actor=Actor.operator(source.actor), operator=source.actor)
    return {"operation": inverse.pk}


def approve(*, slug: str, operation: int) -> dict[str, Any]:
    """Approve a held plan as another person."""
    from django.utils import timezone

    from apps.operations import services
    from apps.operations.models import Operation
    from apps.operators.models import Grant, Operator
    from apps.organizations.models import Organization
    from apps.organizations.recorder import Actor

    organization = Organization.objects.get(slug=slug)
    email = f"approver-{slug}@aum.example"
    operator = Operator.objects.filter(email=email).first() or Operator.objects.create_user(
        email, PASSWORD, name="Else"
    )
    Grant.objects.get_or_create(
        organization=organization,
        operator=operator,
        role="approver",
        defaults={"granted_at": timezone.now() - timedelta(days=2), "granted_by": "test"},
    )
    held = Operation.objects.get(pk=operation)
    plan_hash, _people = services.approval_hash(held)
    services.approve_operation(
        operation=held, plan_hash=plan_hash, operator=operator, actor=Actor.operator(operator), reason="Looked at"
    )
    return {"operation": operation}


def ladder(*, slug: str, product: str, days: list[int]) -> dict[str, Any]:
    """Two live rules about the same people, one rung above the other, each previewed first and then run at once."""
    from dataclasses import replace
    from datetime import time as time_of_day

    from apps.operations.models import Operation
    from apps.operators.models import Operator
    from apps.organizations.models import Organization
    from apps.organizations.recorder import Actor
    from apps.rules import services
    from apps.rules.models import CleanupRule
    from apps.rules.values import RuleInput

    organization = Organization.objects.get(slug=slug)
    operator = Operator.objects.get(email=f"{slug}@aum.example")
    by: dict[str, Any] = {"actor": Actor.operator(operator), "operator": operator}
    rungs = (("remove_product_access", {"target_products": (product,)}, days[0]), ("suspend", {}, days[1]))
    runs = []
    for action, fields, after in rungs:
        values = RuleInput(
            name=f"{action} after {after} days", action=action, inactive_days=after, run_at=time_of_day(3, 0), **fields
        )
        rule = services.create_rule(organization=organization, values=values, **by)
        preview = services.preview_rule(rule=rule, **by)
        deadline = time.monotonic() + WAIT_SECONDS
        while preview.status == Operation.Status.PLANNING:
            assert time.monotonic() < deadline, "a preview"
            time.sleep(0.2)
            preview.refresh_from_db()
        rule = CleanupRule.objects.get(pk=rule.pk)
        services.update_rule(
            rule=rule, values=replace(RuleInput.of(rule), mode="live"), expected_version=rule.version, **by
        )
        runs.append(rule.pk)
    live = [services.run_rule(rule=CleanupRule.objects.get(pk=pk), **by).pk for pk in runs]
    return {"operations": live}


FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__: function for function in (connect, start, start_all, apply, approve, ladder, sync, undo)
}


def main(arguments: list[str]) -> None:
    """Answer one question from the command line, or lines of `[name, values]` until the input ends."""
    import django

    django.setup()
    from django.db import connection

    from tests.product import arrange_chaos

    functions = FUNCTIONS | arrange_chaos.FUNCTIONS
    if arguments:
        print(json.dumps(functions[arguments[0]](**json.loads(arguments[1]))))
        return
    for line in sys.stdin:
        name, values = json.loads(line)
        try:
            answer = {"answer": functions[name](**values)}
        except Exception:
            answer = {"error": traceback.format_exc()[-6000:]}
        # The next question may come after the database was killed.
        connection.close()
        connection.close_pool()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aum.settings")
    main(sys.argv[1:])
