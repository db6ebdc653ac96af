"""Every layout of an import: the samples, what each says of products, and files that are odd or cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from apps.users import csv_layouts
from aum.common.errors import InvalidInput

SAMPLES = Path(os.environ.get("AUM_SHARED", Path(__file__).parents[3] / "shared")) / "atlassian" / "examples" / "csv"
# name → layout, people, what the first one says: logins, access
EXPECTED = {
    "export-users": (
        "export_users",
        5,
        {"jira": "2026-04-28", "jsm": "never", "confluence": "2026-05-12"},
        {"jira": ["example"], "confluence": ["example"]},
    ),
    "export-users-bom-crlf": (
        "export_users",
        5,
        {"jira": "2026-04-28", "jsm": "never", "confluence": "2026-05-12"},
        {"jira": ["example"], "confluence": ["example"]},
    ),
    "export-users-groups-list": ("export_users", 2, {"jira": "2026-04-28"}, {"jira": ["example"]}),
    "export-users-groups-pivot": ("export_users_pivot", 2, {"jira": "2026-04-28"}, {"jira": ["example"]}),
    "export-managed-accounts": (
        "managed_accounts",
        3,
        {"any": "2026-05-12"},
        {
            "confluence": ["example.atlassian.net"],
            "jira": ["example.atlassian.net", "example-sandbox.atlassian.net"],
        },
    ),
    "export-users-original-um-2015": ("older_export", 1, {"any": "2012-12-14"}, {"jsm": [""], "jira-core": [""]}),
    "export-users-original-um-2020": ("older_export", 1, {"jira": "2020-11-23", "confluence": "never"}, {}),
    "import-email-only": ("own", 4, {}, {}),
    "import-with-groups": ("own", 2, {}, {}),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_sample_is_read_as_its_layout(name: str) -> None:
    path = SAMPLES / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"contract: not run, {name}.csv is missing")
    layout, people, last_seen, holds = EXPECTED[name]

    parsed = csv_layouts.parse(path.read_bytes())

    assert (parsed.layout, len(parsed.records)) == (layout, people)
    first = parsed.records[0]
    assert (first.last_seen, first.holds, first.notes) == (last_seen, holds, "")


def test_every_sample_is_known_here() -> None:
    if not SAMPLES.exists():
        pytest.skip("contract: not run, the samples are missing")
    assert {path.stem for path in SAMPLES.glob("*.csv")} == set(EXPECTED)


def test_blank_means_never_only_where_managed_accounts_say_so() -> None:
    managed = csv_layouts.parse(b"Email,Atlassian ID,Last active date [UTC],Jira\na@x.org,1:aaaaaaaa,,\n")
    export = csv_layouts.parse(b"User id,Last seen in Jira - x\n1:aaaaaaaa,\n1:bbbbbbbb,None\n1:cccccccc,-\n")

    assert managed.records[0].last_seen == {"any": "never"}
    assert managed.records[0].is_never
    assert [record.last_seen for record in export.records] == [{}, {}, {}]


def test_wrong_date_is_named_and_the_line_kept() -> None:
    parsed = csv_layouts.parse(b"User id,Last seen in Jira - x\n1:aaaaaaaa,31 Feb 2026\n1:bbbbbbbb,yesterday\n")

    assert [record.last_seen for record in parsed.records] == [{}, {}]
    assert parsed.records[0].notes == "“31 Feb 2026” in Last seen in Jira - x is not a date."
    assert len(parsed.records) == 2


def test_dates_of_two_sites_are_kept_apart() -> None:
    parsed = csv_layouts.parse(
        b"User id,Last seen in Jira - a,Last seen in Jira - b\n1:aaaaaaaa,1 Mar 2026,2 Apr 2026\n"
    )

    assert parsed.records[0].sightings == [("jira", "a", "2026-03-01"), ("jira", "b", "2026-04-02")]
    assert parsed.records[0].last_seen == {"jira": "2026-04-02"}


def test_300_columns_are_read_and_500_refused() -> None:
    def wide(count: int) -> bytes:
        return ("email," + ",".join(f"c{n}" for n in range(count)) + "\na@x.org" + ",x" * count + "\n").encode()

    assert len(csv_layouts.parse(wide(299)).headers) == 300
    with pytest.raises(InvalidInput, match="more than 400 columns"):
        csv_layouts.parse(wide(500))


def test_semicolons_tabs_and_utf_16_are_read() -> None:
    for text in ("email;name\na@x.org;A\n", "email\tname\na@x.org\tA\n"):
        for content in (text.encode(), text.encode("utf-16"), b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()):
            assert csv_layouts.parse(content).mapping == {"email": 0, "name": 1}
