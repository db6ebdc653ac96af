"""A keep link out of a real mail, opened and answered through the process that faces the internet."""

from __future__ import annotations

import pytest
import requests

from apps.audit.models import AuditEvent
from apps.notifications.models import KeepDecision
from apps.notifications.services.keep import apply_decision
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.users.models import Exemption
from tests.notifications.test_keep import link  # noqa: F401 - a fixture
from tests.notifications.test_ladder import make_live, plan  # noqa: F401 - a fixture
from tests.public_surface import public_process

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_link_is_shown_and_answered_by_the_process_that_holds_no_key(
    link: str,  # noqa: F811
    organization: Organization,
) -> None:
    with public_process() as address:
        shown = requests.get(address + link, timeout=30)
        assert (shown.status_code, "Acme" in shown.text, shown.cookies.get_dict()) == (200, True, {})
        assert not Exemption.objects.exists()
        altered = requests.get(address + link[:-3] + "AA/", timeout=30)
        assert altered.status_code == 404
        kept = requests.post(address + link, {"choice": "keep", "reason": "On leave"}, timeout=30)
        assert (kept.status_code, "Your access is kept" in kept.text) == (200, True)

    # It only writes down what was chosen; a worker inside does it.
    assert not Exemption.objects.exists()
    apply_decision(KeepDecision.objects.get().pk)
    assert Exemption.objects.get().until is not None
    assert AuditEvent.objects.get(action="keep_link.keep").reason == "On leave"
    assert plan(CleanupRule.objects.get())[0] == set()
