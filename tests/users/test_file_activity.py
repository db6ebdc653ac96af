"""Dates of a file fill what Atlassian does not give: marked, for a while, never against its own word (DECISIONS §3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.organizations.models import Organization
from apps.users.models import Account, Activity, ImportFile, ImportRow, ProductAccess
from apps.users.services import imports, mirror_people, recompute_accounts
from apps.users.services.imports import expire_file_activity, remove_old_imports, use_activity
from aum.atlassian.schemas import ProductActivity
from aum.common.errors import InvalidInput
from tests.users.conftest import SYSTEM, make_account
from tests.users.test_activity import person
from tests.users.test_imports import check

TODAY = timezone.now().date()
SEEN = TODAY - timedelta(days=40)
HEAD = "User id,User status,Last seen in Jira - one,Last seen in Confluence - one\n"


def given(day: Any, **fields: Any) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@pytest.fixture
def ada(plain: Organization) -> Account:
    """Jira's activity is unknown, Confluence was never used by Atlassian's word."""
    account = make_account(plain, account_id="557058:1", is_activity_read=True)
    for product, state in (("jira", Activity.UNKNOWN), ("confluence", Activity.NEVER)):
        ProductAccess.objects.create(
            organization=plain,
            account=account,
            product=product,
            resource=f"ari:cloud:{product}::site/1",
            site="one",
            activity=state,
            direct=ProductAccess.Direct.YES,
        )
    recompute_accounts(plain.pk, [account.pk], now=timezone.now())
    return account


def file_of(plain: Organization, jira: str, confluence: str) -> ImportFile:
    return check(plain, f"{HEAD}557058:1,Active,{jira},{confluence}\n")


def test_unknown_is_filled_and_the_word_of_atlassian_stays(plain: Organization, ada: Account) -> None:
    file = file_of(plain, f"{SEEN:%d %b %Y}", f"{SEEN:%d %b %Y}")

    assert use_activity(file=file, exported_on=TODAY, actor=SYSTEM) == 1

    ada.refresh_from_db()
    assert (ada.jira_activity, ada.jira_last_active_at) == (Activity.KNOWN, given(SEEN))
    assert ada.confluence_activity == Activity.NEVER
    row = ProductAccess.objects.get(product="jira")
    assert (row.source, row.source_at) == ("csv", given(TODAY))
    assert AuditEvent.objects.filter(action="import.activity_used").count() == 1


def test_never_of_a_file_fills_nothing(plain: Organization, ada: Account) -> None:
    assert use_activity(file=file_of(plain, "Never accessed", ""), exported_on=TODAY, actor=SYSTEM) == 0
    ada.refresh_from_db()
    assert ada.jira_activity == Activity.UNKNOWN


@pytest.mark.parametrize("days", [-1, 15])
def test_export_of_tomorrow_or_long_ago_is_refused(plain: Organization, ada: Account, days: int) -> None:
    file = file_of(plain, f"{SEEN:%d %b %Y}", "")
    with pytest.raises(InvalidInput):
        use_activity(file=file, exported_on=TODAY - timedelta(days=days), actor=SYSTEM)


def test_sync_without_a_date_keeps_it_and_a_date_takes_its_place(plain: Organization, ada: Account) -> None:
    use_activity(file=file_of(plain, f"{SEEN:%d %b %Y}", ""), exported_on=TODAY, actor=SYSTEM)
    jira = "ari:cloud:jira::site/1"

    mirror_people(plain, [person((ProductActivity(jira, "jira-software", None),))], read_at=timezone.now())
    ada.refresh_from_db()
    assert (ada.jira_activity, ada.jira_last_active_at) == (Activity.KNOWN, given(SEEN))
    assert ada.activity_lost_in_run is None

    later = given(TODAY - timedelta(days=2))
    mirror_people(plain, [person((ProductActivity(jira, "jira-software", later),))], read_at=timezone.now())
    ada.refresh_from_db()
    row = ProductAccess.objects.get(product="jira")
    assert (ada.jira_last_active_at, row.source) == (later, "api")


def test_date_of_a_file_counts_for_thirty_days(plain: Organization, ada: Account) -> None:
    use_activity(file=file_of(plain, f"{SEEN:%d %b %Y}", ""), exported_on=TODAY, actor=SYSTEM)
    expire_file_activity()
    assert ProductAccess.objects.get(product="jira").activity == Activity.KNOWN

    ProductAccess.objects.filter(source="csv").update(source_at=timezone.now() - timedelta(days=31))
    expire_file_activity()

    ada.refresh_from_db()
    assert ada.jira_activity == Activity.UNKNOWN
    assert ada.has_unknown_activity


def test_old_files_are_removed_with_their_rows(plain: Organization, ada: Account) -> None:
    old, young = file_of(plain, "", ""), file_of(plain, "", "")
    ImportFile.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=100))

    assert remove_old_imports(plain, timezone.now() - timedelta(days=90)) == 1

    assert list(ImportFile.objects.values_list("pk", flat=True)) == [young.pk]
    assert not ImportRow.objects.filter(import_file_id=old.pk).exists()
    assert imports.MAX_EXPORT_AGE.days == 14
