"""What must be impossible: a reader that writes, a secret that shows, a credential sent to somebody else."""

from __future__ import annotations

import contextlib
import inspect
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import requests
import responses

from aum.atlassian import calls
from aum.atlassian.calls import READS, WRITES
from aum.atlassian.client import AtlassianClient, AtlassianReader, Connection
from aum.atlassian.errors import AtlassianError, BadRequest, Unauthorized, Unavailable, UnexpectedAnswer
from aum.atlassian.limiter import NullLimiter
from aum.atlassian.transport import ReadTransport, WriteTransport
from tests.atlassian.conftest import API_KEY, API_TOKEN, Answer, ServerFactory, client_for

WRITE_NAMES = sorted(
    name for name, _ in inspect.getmembers(AtlassianClient, callable) if not hasattr(AtlassianReader, name)
)


def reader_for(url: str) -> AtlassianReader:
    return AtlassianReader(Connection("o", url, "org-1", API_KEY), limiter=NullLimiter())


# --- P3


def test_reads_and_writes_are_told_apart_by_what_they_do() -> None:
    assert not set(READS) & set(WRITES)
    searches = ("/search", "/workspaces", "/search/jql")
    assert all(call.method == "GET" or call.path.endswith(searches) for call in READS.values())
    assert all(call.method != "GET" for call in WRITES.values())
    assert all(call.is_write for call in WRITES.values())
    assert not any(call.is_write for call in READS.values())


def test_the_reader_has_no_method_for_any_write() -> None:
    reader = reader_for("https://api.example.test")

    assert set(WRITES) <= set(dir(AtlassianClient))
    assert not any(hasattr(reader, name) for name in WRITES)
    assert not any(hasattr(reader, name) for name in WRITE_NAMES)
    assert not isinstance(reader, AtlassianClient)


def test_the_transport_of_a_reader_cannot_send_a_write(serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(204))
    transport = reader_for(server.url)._transport

    assert type(transport) is ReadTransport
    assert not isinstance(transport, WriteTransport)
    assert not hasattr(transport, "write")
    for call in WRITES.values():
        with pytest.raises(TypeError):
            transport.read(call, lambda body: body, path={})  # type: ignore[arg-type]
    assert server.seen == []


# --- secrets


def _failures(client: AtlassianClient) -> list[AtlassianError]:
    caught: list[AtlassianError] = []
    acts: list[Callable[[], Any]] = [
        client.get_org,
        client.jira_myself,
        lambda: client.suspend("acc:1", "dir-1"),
        lambda: list(client.iter_users()),
    ]
    for act in acts:
        with contextlib.suppress(StopIteration):
            try:
                act()
            except AtlassianError as error:
                caught.append(error)
    return caught


@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, {"code": 401, "message": f"Bearer {API_KEY} and {API_TOKEN} unknown"}),
        Answer(500, b"<html>", content_type="text/html"),
        Answer(drop=True),
        Answer(302, None, {"Location": "https://evil.example/"}),
        Answer(200, b"not json"),
    ],
    ids=["refused", "server error", "connection lost", "redirect", "no json"],
)
def test_no_secret_shows_in_errors_logs_or_reprs(
    answer: Answer, serve: ServerFactory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
    caplog.set_level(logging.DEBUG)
    records: list[Any] = []
    client = client_for(serve(lambda seen: answer).url, observer=records.append)

    errors = _failures(client)

    assert len(errors) == 4
    shown = [repr(client.connection), repr(client), repr(records), caplog.text]
    for error in errors:
        shown += ["".join(traceback.format_exception(error)), repr(vars(error)), error.advice, repr(error)]
        shown.append(repr(pickle.dumps(error)))
        cause: BaseException | None = error
        while cause is not None:
            # An exception of requests would carry the request, and its header, along.
            assert not isinstance(cause, requests.RequestException)
            cause = cause.__cause__ or cause.__context__
    for secret in (API_KEY, API_TOKEN, "Basic "):
        assert not [text for text in shown if secret in text]


@pytest.mark.parametrize("bad", ["", "  ", "two words", "line\nbreak", "tab\there", "schlüssel", "nul\x00"])
def test_a_key_that_cannot_be_one_is_refused_before_anything_is_sent(bad: str, serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(200, {}))
    client = AtlassianReader(Connection("o", server.url, "org-1", bad), limiter=NullLimiter())

    with pytest.raises(Unauthorized) as caught:
        client.get_org()

    assert server.seen == []
    assert caught.value.call_id
    assert not bad.strip() or bad not in str(caught.value)


# --- hosts


@pytest.mark.parametrize(
    "url",
    [
        "http://api.atlassian.com",
        "ftp://api.atlassian.com",
        "https://user:pw@api.atlassian.com",
        "https://api.atlassian.com?x=1",
        "https://api.atlassian.com#x",
        "https://",
        "api.atlassian.com",
        "http://localhost.evil.example",
        "https://api.atlassian.com:port",
    ],
)
def test_a_base_that_credentials_may_not_go_to_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Connection("o", url, "org-1", "key")
    with pytest.raises(ValueError):
        Connection("o", "https://api.atlassian.com", "org-1", "key", site_url=url)


def test_each_credential_goes_to_its_own_host_only() -> None:
    connection = Connection("o", "https://api.test", "org-1", API_KEY, "https://site.test/", "a@b.c", API_TOKEN)
    client = AtlassianClient(connection, limiter=NullLimiter())
    with responses.RequestsMock() as http:
        http.get("https://api.test/admin/v1/orgs/org-1", json={"data": {"id": "org-1"}})
        http.get("https://site.test/_edge/tenant_info", json={"cloudId": "c-1"})
        http.get("https://site.test/rest/api/3/myself", json={"accountId": "a"})

        client.get_org()
        client.tenant_info()
        client.jira_myself()

        sent = [call.request.headers.get("Authorization") for call in http.calls]

    assert sent[0] == f"Bearer {API_KEY}"
    assert sent[1] is None
    assert str(sent[2]).startswith("Basic ")


def test_environment_proxies_netrc_and_cookies_are_left_alone(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password wrong\n")
    server = serve(lambda seen: Answer(200, {"cloudId": "c-1"}, {"Set-Cookie": "session=1; Path=/"}))
    client = client_for(server.url)

    client._transport.read(calls.TENANT_INFO, lambda body: body)
    client._transport.read(calls.TENANT_INFO, lambda body: body)

    assert [("authorization" in seen.headers, "cookie" in seen.headers) for seen in server.seen] == [(False, False)] * 2


def test_a_next_page_on_another_host_is_not_followed(serve: ServerFactory) -> None:
    elsewhere = serve(lambda seen: Answer(200, {"data": []}))
    rows = [{"account_id": "a", "name": "A"}]
    server = serve(
        lambda seen: Answer(200, {"data": rows, "links": {"next": f"{elsewhere.url}/admin/v1/orgs/o/users?cursor=x"}})
    )

    with pytest.raises(UnexpectedAnswer) as caught:
        list(client_for(server.url).managed_accounts())

    assert caught.value.code == "foreign_host"
    assert caught.value.call_id
    assert elsewhere.seen == []


@pytest.mark.parametrize(
    "account_id", ["", ".", "..", "a/b", "a%2fb", "a\\b", "a?b", "a#b", "a b", "a\nb", "ü", "x" * 256, "{orgId}"]
)
def test_an_identifier_cannot_change_the_address(account_id: str, serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(204))
    client = client_for(server.url)

    for act in (lambda: client.suspend(account_id, "dir-1"), lambda: client.suspend("acc:1", account_id)):
        with pytest.raises(BadRequest) as caught:
            act()
        assert caught.value.code == "invalid_identifier"
    assert server.seen == []


@pytest.mark.parametrize(
    "account_id", ["712020:0f1e2d3c-0000", "557058:a|b_c", "qm:1-2:ab", "5b10ac8d82e05b22cc7d4ef5"]
)
def test_every_documented_form_of_account_id_is_sent_whole(account_id: str, serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(204))

    client_for(server.url).suspend(account_id, "dir-1")

    assert requests.utils.unquote(server.seen[0].path).split("/")[-2] == account_id


def test_a_certificate_that_is_not_trusted_ends_the_call_before_it_is_sent(serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(204))
    client = client_for(server.url.replace("http://", "https://"))

    with pytest.raises(Unavailable) as caught:
        client.suspend("acc:1", "dir-1")

    assert type(caught.value) is Unavailable
    assert caught.value.code == "tls_failed"
    assert server.seen == []
