"""Whoever a plan refuses something is listed with the reason, also those whom it touches elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import Count

from apps.operations import services
from apps.operations.models import LeftOut, Operation
from apps.operations.planning import Refused, add_left_out
from apps.operations.selection import AccountsSelection, ActionSpec
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import Account, ClaimStatus, Group, ProductAccess
from apps.users.predicates import protected_q


def test_who_loses_a_product_on_one_site_and_keeps_it_on_another_is_listed_with_the_group_in_the_way(
    organization: Organization, plan: Callable[..., Operation]
) -> None:
    free = Account.objects.of(organization).filter(vanished_at=None).exclude(protected_q(organization))
    rows = ProductAccess.objects.of(organization).filter(product="jira", account__in=free)
    on_one_site = rows.values("account").annotate(sites=Count("pk")).filter(sites=1).values("account")
    rows = rows.filter(account__in=on_one_site).order_by("account__account_id")
    first = next(row for row in rows if Group.objects.filter(pk__in=row.group_ids).count() == 1)
    given = Group.objects.filter(pk__in=first.group_ids)
    given.update(is_synced=False, is_administrative=False, are_grants_known=True, is_licence_only=True)
    other = Group.objects.create(
        organization=organization,
        directory=given.get().directory,
        group_id="everything",
        name="everything",
        are_grants_known=True,
        granted_products=3,
    )
    ProductAccess.objects.create(
        organization=organization,
        account=first.account,
        product="jira",
        resource="ari:cloud:jira-software::site/elsewhere",
        site="elsewhere.atlassian.net",
        activity=first.activity,
        group_ids=[other.pk],
    )

    preview = plan(
        "remove_product_access",
        selection=AccountsSelection((first.account.account_id,)),
        products=("jira",),
        mode="safe",
    )

    assert first.site in preview.items.values_list("parameters__site", flat=True)
    refused = LeftOut.objects.get(operation=preview)
    assert (refused.account, refused.reason) == (first.account, "shared_group")
    assert "elsewhere.atlassian.net" in refused.detail
    assert "everything" in refused.detail
    assert preview.left_out == {"shared_group": 1}


def test_applied_plan_says_the_same_about_those_left_out(organization: Organization, author: Operator) -> None:
    free = Account.objects.of(organization).filter(vanished_at=None, account_status=1, membership_status=1)
    free = free.exclude(protected_q(organization)).order_by("pk")
    some = [*free.filter(claim_status=ClaimStatus.MANAGED)[:2], *free.filter(claim_status=ClaimStatus.UNMANAGED)[:2]]
    preview = services.plan_operation(
        organization=organization,
        kind="manual_operation",
        mode="safe",
        initiator="manual",
        actor=Actor.operator(author),
        operator=author,
        name="Both",
        actions=[ActionSpec("suspend"), ActionSpec("deactivate")],
        selection=AccountsSelection(tuple(account.account_id for account in some)),
    )
    services.run_planning(preview.pk)
    preview.refresh_from_db()

    applied = services.apply_preview(
        operation=preview, plan_hash=preview.plan_hash, actor=Actor.operator(author), operator=author
    )
    services.run_planning(applied.pk)
    applied.refresh_from_db()

    assert applied.left_out == preview.left_out == {"not_managed": 2}

    def said(operation: Operation) -> set[tuple[object, ...]]:
        return set(LeftOut.objects.filter(operation=operation).values_list("account", "reason", "detail"))

    assert said(applied) == said(preview)
    assert {account for account, _, _ in said(applied)} == {account.pk for account in some[2:]}


def test_one_row_names_every_refusal_of_a_person_once(
    organization: Organization, plan: Callable[..., Operation]
) -> None:
    people = list(Account.objects.of(organization).order_by("pk")[:3])
    preview = plan("suspend", selection=AccountsSelection((people[0].account_id,)), mode="safe")
    LeftOut.objects.filter(operation=preview).delete()
    first, second, third = people

    add_left_out(
        preview,
        [
            Refused(first.pk, "nothing_to_do", "Has it already."),
            Refused(first.pk, "shared_group", "By staff."),
            Refused(first.pk, "already_so", "Is so."),
            Refused(first.pk, "shared_group", "By staff."),
            Refused(first.pk, "protected", "By admins."),
            Refused(second.pk, "already_so", "Is so."),
            Refused(third.pk, "protected", ""),
        ],
    )

    rows = LeftOut.objects.filter(operation=preview)
    assert set(rows.values_list("account_id", "reason", "detail")) == {
        (first.pk, "shared_group", "By staff. By admins."),
        (second.pk, "already_so", "Is so."),
        (third.pk, "protected", ""),
    }
