"""Five hundred tickets in a minute (issue: Must show), in the slow tier; forty of them run in CI."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_django.live_server_helper import LiveServer

from apps.organizations.models import Organization
from apps.sandbox.server import Sandbox
from tests.autoactivate.conftest import connect_and_sync
from tests.autoactivate.test_journey import flood


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)
def test_five_hundred_tickets_are_answered_within_two_seconds_and_each_person_is_added_once(
    connect: Callable[..., Organization], live_server: LiveServer
) -> None:
    with Sandbox(people=900, seed=3) as sandbox:
        organization = connect_and_sync(sandbox, connect)

        flood(organization, sandbox, live_server, tickets=500, limit=240)
