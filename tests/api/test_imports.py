"""Files and invitations over REST."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from apps.organizations.models import Organization
from apps.users.models import Account, ImportFile
from apps.users.services.imports import read_import
from tests.api.conftest import Api


def _upload(api: Api, content: str) -> Any:
    answer = api.call("POST", "imports/", 202, files={"file": ("leavers.csv", content.encode(), "text/csv")})
    read_import(answer.json()["id"])
    return api.get(f"imports/{answer.json()['id']}/")


def test_file_is_uploaded_checked_looked_at_and_planned(
    api: Api, organization: Organization, work: Callable[[], None]
) -> None:
    people = list(Account.objects.of(organization).filter(email__isnull=False, products__gt=0, membership_status=1)[:2])
    lines = "".join(f"{person.email},Suspended\n" for person in people)
    file = _upload(api, f"Email,Status\n{lines}new@larkspur.example,\nnone,\n")
    path = f"imports/{file['id']}/"
    assert file["status"] == "read"

    checked = api.post(path + "check/", status=200)
    assert (checked["counts"]["valid"], checked["counts"]["invitable"]) == (2, 1)
    assert [(error["line"], error["code"]) for error in api.all(path + "errors/")] == [
        (4, "unknown"),
        (5, "malformed"),
    ]
    shown = api.all(path + "people/", only="disagree")
    assert shown[0]["differs_in"] == ["status"]

    planned = api.post(path + "apply/", {"action": "suspend", "lines": [2]})
    assert (planned["kind"], planned["mode"]) == ("bulk_csv_action", "safe")
    invited = api.post(path + "apply/", {"action": "invite", "use_file_grants": True})
    work()
    assert api.get(f"operations/{invited['id']}/")["kind"] == "user_import"
    assert [item["account_id"] for item in api.all(f"operations/{invited['id']}/items/")] == ["new@larkspur.example"]
    refused = api.post(path + "apply/", {"action": "suspend", "products": ["jira"]}, status=422)
    assert "products" in refused["fields"]


def test_addresses_are_invited_and_what_is_wrong_with_them_stands_at_its_field(
    api: Api, work: Callable[[], None]
) -> None:
    refused = api.post("accounts/invite/", {"emails": ["not an address"]}, status=422)
    assert "Not an e-mail address" in refused["fields"]["emails"][0]
    refused = api.post("accounts/invite/", {"emails": ["a@larkspur.example"], "products": ["nothing"]}, status=422)
    assert refused["fields"] == {"products": ["There is no product nothing."]}

    planned = api.post("accounts/invite/", {"emails": ["A@larkspur.example"], "products": ["Confluence - larkspur"]})
    work()
    (item,) = api.all(f"operations/{planned['id']}/items/")
    assert (item["account_id"], item["action"]) == ("a@larkspur.example", "invite")


@pytest.mark.parametrize("is_api", [True, False])
def test_file_of_200_mb_is_refused_by_its_length_alone(api: Api, organization: Organization, is_api: bool) -> None:
    class Announced(io.RawIOBase):
        """Bytes that are announced, and made only when somebody reads them."""

        left = 200 * 1024 * 1024

        def tell(self) -> int:
            return 0

        def __len__(self) -> int:
            return self.left

        def read(self, size: int = -1) -> bytes:
            size = min(self.left, 1024 * 1024 if size < 0 else size)
            self.left -= size
            return b"x" * size

    path = "imports/" if is_api else f"/o/{organization.slug}/imports/"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = api.call("POST", path, data=Announced(), headers=headers, allow_redirects=False)

    if is_api:
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    else:
        assert answer.headers["Location"].endswith("/imports/?too-large=1")
    assert not ImportFile.objects.exists()
