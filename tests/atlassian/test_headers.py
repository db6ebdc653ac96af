"""What an answer's headers say about waiting."""

from datetime import UTC, datetime

import pytest
from requests.structures import CaseInsensitiveDict

from aum.atlassian.headers import backoff_seconds, quota_of, request_id_of, told_wait_seconds

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"Retry-After": "Wed, 25 Nov 2026 12:00:09 GMT"}, 9.0),
        ({"Retry-After": "Wed, 25 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"X-RateLimit-Reset": "2026-11-25T12:00:03Z"}, 3.0),
        ({"X-RateLimit-Reset": "2026-11-25T12:00:03.250+00:00"}, 3.25),
        ({"X-RateLimit-Reset": "2026-11-25T12:01Z"}, 60.0),
        ({"X-RateLimit-Reset": str(int(NOW.timestamp()) + 4)}, 4.0),
        ({"X-RateLimit-Reset": str(int(NOW.timestamp() * 1000) + 1500)}, 1.5),
        ({"X-RateLimit-Reset": "12"}, 12.0),
        ({"Retry-After": "2", "X-RateLimit-Reset": "2026-11-25T13:00:00Z"}, 2.0),
        ({"Retry-After": "soon", "X-RateLimit-Reset": "2026-11-25T12:00:05Z"}, 5.0),
        ({}, None),
        ({"Retry-After": "", "X-RateLimit-Reset": ""}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"X-RateLimit-Reset": "9" * 30}, None),
    ],
)
def test_the_wait_is_read_in_each_form(headers: dict[str, str], expected: float | None) -> None:
    assert told_wait_seconds(CaseInsensitiveDict(headers), NOW) == expected


def test_atlassians_clock_counts_when_ours_is_off() -> None:
    headers = CaseInsensitiveDict(
        {"X-RateLimit-Reset": "2026-11-25T12:00:30Z", "Date": "Wed, 25 Nov 2026 12:00:10 GMT"}
    )

    assert told_wait_seconds(headers, NOW.replace(minute=10)) == 20.0


def test_a_quota_needs_both_what_is_left_and_when_it_ends() -> None:
    whole = {"X-RateLimit-Limit": "200", "X-RateLimit-Remaining": "20", "X-RateLimit-Reset": "2026-11-25T12:00:30Z"}

    quota = quota_of(CaseInsensitiveDict(whole), NOW)

    assert quota is not None
    assert (quota.limit, quota.remaining, quota.reset_seconds) == (200, 20, 30.0)
    assert quota_of(CaseInsensitiveDict({**whole, "X-RateLimit-Remaining": ""}), NOW) is None
    assert quota_of(CaseInsensitiveDict({"X-RateLimit-Remaining": "5"}), NOW) is None


def test_back_off_grows_with_jitter_up_to_its_cap() -> None:
    for strikes, ceiling in [(1, 1.0), (3, 4.0), (7, 60.0), (500, 60.0)]:
        waits = [backoff_seconds(strikes) for _ in range(200)]

        assert min(waits) >= 0.5
        assert max(waits) <= ceiling
        assert max(waits) > ceiling / 2


def test_a_request_id_is_made_printable() -> None:
    assert request_id_of(CaseInsensitiveDict({"atl-traceid": "ab\tc\x07"})) == "abc"
    assert request_id_of(CaseInsensitiveDict({"X-Request-Id": "x" * 500})) == "x" * 128
    assert request_id_of(CaseInsensitiveDict({})) is None
