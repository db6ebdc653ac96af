"""A request from outside through the process that faces the internet, and all that does not exist there."""

from __future__ import annotations

import json

import pytest
import requests
from django.urls import get_resolver

from apps.autoactivate.models import InboundEvent
from apps.organizations.models import Organization
from apps.sandbox.server import Sandbox
from apps.users.models import Account
from tests.autoactivate.conftest import addable, domain_rule, drive, open_way
from tests.autoactivate.test_journey import plain_person, raise_ticket
from tests.dashboard.test_secrets import addresses, filled
from tests.public_surface import public_process

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_ticket_through_the_public_process_gives_access_and_nothing_else_is_served_there(
    organization: Organization, small: Sandbox
) -> None:
    (group,) = addable(organization, 1)
    domain_rule(organization, group, domain="larkspur.example")
    person = plain_person(organization, group, domain="larkspur.example")
    way = open_way(organization)
    body = json.dumps({"issueKey": raise_ticket(small, person)})
    headers = {"Content-Type": "application/json", "X-AUM-Secret": way.secret}

    with public_process() as address:
        forged = requests.post(address + way.path, body, headers=headers | {"X-AUM-Secret": "x" * 43}, timeout=30)
        assert forged.status_code in (401, 403, 404)
        assert not InboundEvent.objects.filter(status__in=InboundEvent.OPEN).exists()
        taken = requests.post(address + way.path, body, headers=headers, timeout=30)
        assert taken.status_code in (200, 202), taken.text
        served = {}
        for route in addresses(get_resolver("aum.urls")):
            path = filled(route)
            if "(?P" in path or path.startswith(("/hooks/", "/k/")):
                continue
            served[path] = requests.get(address + path, timeout=30, allow_redirects=False).status_code
        assert len(served) > 200
        assert set(served.values()) == {404}, {path: code for path, code in served.items() if code != 404}

    drive(organization)
    assert group.pk in Account.objects.get(pk=person.pk).group_ids
