"""Each sender's proof, from the examples that its maker documents: right, wrong, stale, other body, other encoding."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.autoactivate.crypto import derived_keys, hash_of
from apps.autoactivate.domains import clean_domain, clean_email, domain_of
from apps.autoactivate.inbound import intranet, jira, slack, teams
from apps.autoactivate.inbound.base import Rejected, json_object

# https://api.slack.com/authentication/verifying-requests-from-slack
SLACK_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
SLACK_AT = "1531420618"
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
    b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
    b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F"
    b"96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACK_SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
# https://support.atlassian.com/... and GitHub's documentation of the same scheme.
HUB_SECRET, HUB_BODY = "It's a Secret to Everybody", b"Hello, World!"
HUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def refused(call: object, *arguments: object) -> Rejected:
    with pytest.raises(Rejected) as found:
        call(*arguments)  # type: ignore[operator]
    return found.value


def test_slack_accepts_its_documented_example_and_nothing_beside_it() -> None:
    now = float(SLACK_AT)

    slack.check(SLACK_AT, SLACK_SIGNATURE, SLACK_BODY, [SLACK_SECRET], now)
    slack.check(SLACK_AT, SLACK_SIGNATURE, SLACK_BODY, ["another", SLACK_SECRET], now + 300)

    assert refused(slack.check, SLACK_AT, SLACK_SIGNATURE, SLACK_BODY, [SLACK_SECRET], now + 301).reason == "stale"
    assert refused(slack.check, SLACK_AT, SLACK_SIGNATURE, SLACK_BODY, [SLACK_SECRET], now - 301).reason == "stale"
    other_encoding = SLACK_BODY.replace(b"%2F", b"/")
    for signature, body, secrets, at in (
        (SLACK_SIGNATURE, SLACK_BODY + b" ", [SLACK_SECRET], SLACK_AT),
        (SLACK_SIGNATURE, other_encoding, [SLACK_SECRET], SLACK_AT),
        (SLACK_SIGNATURE, SLACK_BODY, [SLACK_SECRET.upper()], SLACK_AT),
        (SLACK_SIGNATURE, SLACK_BODY, [], SLACK_AT),
        (SLACK_SIGNATURE, SLACK_BODY, [SLACK_SECRET], "1531420617"),
        (SLACK_SIGNATURE.removeprefix("v0="), SLACK_BODY, [SLACK_SECRET], SLACK_AT),
        (SLACK_SIGNATURE.replace("v0", "v1"), SLACK_BODY, [SLACK_SECRET], SLACK_AT),
        ("", SLACK_BODY, [SLACK_SECRET], SLACK_AT),
        ("v0=é", SLACK_BODY, [SLACK_SECRET], SLACK_AT),
    ):
        assert refused(slack.check, at, signature, body, secrets, now).status == 401
    for at in ("", "now", "-1", "1e9", "٣", "15314206180000000"):
        assert refused(slack.check, at, SLACK_SIGNATURE, SLACK_BODY, [SLACK_SECRET], now).status == 401


def test_slack_command_names_its_user_by_id_and_is_the_same_when_replayed() -> None:
    received = slack.read_command(SLACK_BODY)

    assert received.payload["user_id"] == "U2CERLKJA"
    assert received.dedup_key == "slack:398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    assert slack.read_command(SLACK_BODY).dedup_key == received.dedup_key
    typed = SLACK_BODY.replace(b"text=&", b"text=please%20me%40Employer.com%20now&")
    assert slack.read_command(typed).payload["email"] == "me@employer.com"
    assert refused(slack.read_command, b"user_id=%3Cscript%3E").status == 400
    assert refused(slack.read_command, b"\xff\xfe").status == 400
    assert slack.challenge_of("application/json", b'{"type": "url_verification", "challenge": "3eZb"}') == "3eZb"


def test_hub_signature_accepts_the_documented_example_and_nothing_beside_it() -> None:
    jira.check_signature(HUB_SIGNATURE, HUB_BODY, [HUB_SECRET])
    jira.check_signature(HUB_SIGNATURE.upper().replace("SHA256", "sha256"), HUB_BODY, ["old", HUB_SECRET])

    for header, body, secrets in (
        (HUB_SIGNATURE, b"Hello, World! ", [HUB_SECRET]),
        (HUB_SIGNATURE, "Hello, World!".encode("utf-16"), [HUB_SECRET]),
        (HUB_SIGNATURE, HUB_BODY, ["It's a secret to everybody"]),
        (HUB_SIGNATURE.removeprefix("sha256="), HUB_BODY, [HUB_SECRET]),
        (f"sha1={hmac.new(HUB_SECRET.encode(), HUB_BODY, 'sha1').hexdigest()}", HUB_BODY, [HUB_SECRET]),
        ("sha256=", HUB_BODY, [HUB_SECRET]),
        ("", HUB_BODY, [""]),
    ):
        assert refused(jira.check_signature, header, body, secrets).status == 401


def test_teams_decodes_its_token_and_compares_base64() -> None:
    # https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-outgoing-webhook
    token = base64.b64encode(bytes(range(32))).decode()
    body = '{"type":"message","id":"1485983408511","text":"<at>AUM</at> zugang für mich@employer.com"}'.encode()
    digest = hmac.new(bytes(range(32)), body, hashlib.sha256)
    header = "HMAC " + base64.b64encode(digest.digest()).decode()

    teams.check(header, body, [token])

    undecoded = base64.b64encode(hmac.new(token.encode(), body, hashlib.sha256).digest()).decode()
    for wrong, sent in (
        ("HMAC " + digest.hexdigest(), body),
        (f"HMAC {undecoded}", body),
        (header.replace("HMAC", "Bearer"), body),
        (header, body.decode().encode("utf-16")),
        (header, body.replace(b"mich", b"dich")),
        ("", body),
    ):
        assert refused(teams.check, wrong, sent, [token]).status == 401
    received = teams.read_message(body)
    assert received.payload["email"] == "mich@employer.com"
    assert teams.read_message(body.replace(b"zugang", b"anderes")).dedup_key == received.dedup_key
    assert refused(teams.read_message, b'{"type": "typing", "id": "1"}').status == 400


def test_jira_secret_is_compared_by_hash_and_the_body_gives_a_key_only() -> None:
    hashes = [hash_of("newest"), hash_of("before")]

    jira.check_secret("newest", hashes)
    jira.check_secret("before", hashes)

    for wrong in ("", "Newest", "newest ", hash_of("newest"), "naïve"):
        assert refused(jira.check_secret, wrong, hashes).status == 401
    assert refused(jira.check_secret, "", [""]).status == 401
    for body in (
        {"issueKey": "help-7", "reporterAccountId": "ceo"},
        {"issue": {"key": "HELP-7"}},
        {"key": "HELP-7", "fields": {"reporter": {"accountId": "ceo"}}},
    ):
        received = jira.read_automation(json.dumps(body).encode())
        assert (received.dedup_key, received.payload) == ("issue:HELP-7", {"issue_key": "HELP-7"})
    for empty in (b"", b"{}", b'{"issueKey": ""}', b'{"issueKey": "HELP-7 OR 1=1"}', b'{"issueKey": ["HELP-7"]}'):
        assert jira.read_automation(empty).kind == "test"
    for broken in (b"[]", b'"HELP-7"', b"{", b"\xff", b"[" * 100_000):
        assert refused(jira.read_automation, broken).status == 400


def test_admin_webhook_asks_only_for_new_tickets() -> None:
    body = json.dumps({"webhookEvent": "jira:issue_created", "issue": {"key": "HELP-3"}}).encode()
    updated = body.replace(b"created", b"updated")

    assert jira.read_webhook(body, "id-1").dedup_key == "issue:HELP-3"
    assert jira.read_webhook(updated, "id-2").kind == "test"
    assert jira.read_webhook(updated, "id-2").dedup_key == jira.read_webhook(updated, "id-2").dedup_key


def test_intranet_link_is_signed_bound_to_its_person_and_ends() -> None:
    now, secret = 1_800_000_000.0, "intranet secret"
    values = {"email": "a@employer.com", "expires": str(int(now) + 600), "nonce": "n" * 16}
    values["signature"] = intranet.signature_of(secret, values["email"], values["expires"], values["nonce"])

    assert intranet.check_link(values, [secret], ["employer.com"], now) == "a@employer.com"

    for name, value in (("email", "ceo@employer.com"), ("nonce", "m" * 16), ("expires", str(int(now) + 601))):
        assert refused(intranet.check_link, values | {name: value}, [secret], ["employer.com"], now).status == 401
    assert refused(intranet.check_link, values, ["other"], ["employer.com"], now).status == 401
    assert refused(intranet.check_link, values, [secret], ["employer.com"], now + 600).status == 410
    assert refused(intranet.check_link, values, [secret], ["employer.com"], now - 90_000).status == 410
    assert refused(intranet.check_link, values, [secret], ["other.com"], now).status == 422
    body = json.dumps({"email": "a@evil.test", "request_id": "1"}).encode()
    assert refused(intranet.read_request, body, ["employer.com"]).reason == "foreign_domain"


@pytest.mark.parametrize(
    ("email", "domain"),
    [
        ("a@employer.com", "employer.com"),
        ("A@EMPLOYER.COM", "employer.com"),
        ("a@evil-employer.com", "evil-employer.com"),
        ("a@employer.com.evil.test", "employer.com.evil.test"),
        ("a@sub.employer.com", "sub.employer.com"),
        ("a@employer.com.", None),
        ("a@employer.co\u006d\u0301", None),
        ("a@\u0435mployer.com", None),  # a Cyrillic e
        ("a@employer\u3002com", None),  # an ideographic full stop, which IDNA reads as a dot
        ("a@emp\u212aer.com", None),  # the Kelvin sign, whose lower case is a plain k
        ("a@employer.com@evil.test", None),
        ('"a@employer.com"@evil.test', None),
        ("a@evil.test\n@employer.com", None),
        ("@employer.com", None),
        ("employer.com", None),
        ("", None),
        (None, None),
    ],
)
def test_a_domain_is_compared_exactly(email: str | None, domain: str | None) -> None:
    assert domain_of(email) == domain


@given(st.text(max_size=60))
def test_no_text_becomes_a_domain_that_it_is_not(text: str) -> None:
    cleaned = clean_domain(text)
    assert cleaned is None or cleaned == text.strip().removeprefix("@").lower()
    found = domain_of(f"a@{text}")
    assert found is None or found == text.lower()
    address = clean_email(text)
    assert address is None or quote(address, safe="@.!#$%&'*+/=?^`{|}~\"(),:;<>[\\]-_") == address


@given(st.binary(max_size=300))
def test_no_body_does_more_than_be_refused(body: bytes) -> None:
    for read in (jira.read_automation, slack.read_command, teams.read_message, json_object):
        with contextlib.suppress(Rejected):
            read(body)


def test_inbound_keys_are_derived_one_way() -> None:
    key = base64.urlsafe_b64encode(bytes(32)).decode()

    derived = derived_keys((key,))

    assert derived == derived_keys((key,))
    assert derived[0] != key
    assert len(base64.urlsafe_b64decode(derived[0])) == 32
