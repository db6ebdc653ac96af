"""Check credentials one capability at a time, and say which value is wrong and what to do (API.md §1, COMPLAINTS.md).

Reads only. Whether a key has scopes cannot be seen from the key, so one read of each family is tried; a value of the
wrong kind is recognised by trying it where it would belong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from aum.atlassian.client import AtlassianReader, Connection
from aum.atlassian.errors import (
    AtlassianError,
    BadRequest,
    Forbidden,
    NotFound,
    RateLimited,
    Unauthorized,
    Unavailable,
    WaitTooLong,
)
from aum.atlassian.limiter import SharedLimiter
from aum.atlassian.schemas import JiraUser, OrgInfo, Page, Person

CAPABILITIES: Final = (
    "reach",
    "api_key",
    "org_id",
    "unscoped_key",
    "list_people",
    "last_activity",
    "groups",
    "api_token",
    "jira",
    "jsm",
)
# The check that must be fine before this one can say anything.
_AFTER: Final = {
    "api_key": "reach",
    "org_id": "api_key",
    "unscoped_key": "org_id",
    "list_people": "org_id",
    "last_activity": "list_people",
    "groups": "org_id",
    "api_token": "reach",
    "jira": "api_token",
    "jsm": "api_token",
}
NEW_KEY: Final = "Create an organisation API key without scopes, as an organisation admin, and paste it here."


@dataclass(frozen=True, slots=True)
class CapabilityResult:
    """Outcome of one check. `code` is stable ("ok" when fine, "not_checked" when an earlier failure prevents the
    check).

    `detail` is a text for people: what happened and what to do. `value` names the field to correct: email, api_token,
    api_key, org_id or site_url; "" when none of them is to blame.
    """

    capability: str
    ok: bool
    code: str
    detail: str
    value: str = ""


def probe(connection: Connection, limiter: SharedLimiter) -> list[CapabilityResult]:
    """One result per entry of CAPABILITIES, in that order. Never raises for what Atlassian answers.

    Takes up to a minute when hosts do not answer; checks that an earlier failure makes pointless are not tried.
    """
    with AtlassianReader(connection, limiter=limiter, timeout=(5.0, 20.0), max_wait_seconds=15.0) as reader:
        return _Probe(reader, limiter).run()


class _Probe:
    def __init__(self, reader: AtlassianReader, limiter: SharedLimiter) -> None:
        self._reader = reader
        self._limiter = limiter
        self._connection = reader.connection
        self._results: dict[str, CapabilityResult] = {}
        self._site_answers = False
        self._api_answers = True
        self._orgs: list[OrgInfo] = []
        self._orgs_error: AtlassianError | None = None
        self._people: Page[Person] | None = None
        self._me: JiraUser | None = None

    def run(self) -> list[CapabilityResult]:
        self._check_reach()
        if self._api_answers:
            self._check_api_key()
        if self._is_ok("api_key"):
            self._check_org_id()
        if self._is_ok("org_id"):
            self._check_people()
            self._check("groups", self._groups)
        if self._site_answers:
            self._check_token()
        if self._is_ok("api_token") and self._me is not None:
            self._check("jira", self._jira)
            self._check("jsm", self._jsm)
        if self._is_ok("org_id"):
            self._check_scopes()
        return [self._results.get(name) or self._not_checked(name) for name in CAPABILITIES]

    # -- addresses

    def _check_reach(self) -> None:
        """The site is asked without credentials: they go nowhere before it has shown to be Atlassian's."""
        api_host = urlsplit(self._connection.api_url).netloc
        try:
            self._orgs = self._reader.orgs()
        except (Unavailable, WaitTooLong, RateLimited) as error:
            self._api_answers = False
            self._fail("reach", error, f"{api_host} could not be reached. Check the network of this machine.")
        except AtlassianError as error:
            self._orgs_error = error  # It answers, which is all that this check asks; the next one looks at the key.
        site = self._connection.site_url
        if not site:
            text = "Enter the site's address, like https://example.atlassian.net."
            self._add("reach", False, "no_site", text, "site_url")
            return
        try:
            self._reader.tenant_info()
            self._site_answers = True
        except Unavailable as error:
            self._fail("reach", error, f"{site} could not be reached. Check the address.", "site_url")
        except AtlassianError as error:
            text = f"{site} is not an Atlassian site. Enter the address that your people open in the browser."
            self._fail("reach", error, text, "site_url", code="not_atlassian_site")
        self._add("reach", True, "ok", f"{api_host} and {urlsplit(site).netloc} answer.")

    # -- organisation key

    def _check_api_key(self) -> None:
        error = self._orgs_error
        if isinstance(error, Unauthorized) and self._is_personal_token():
            text = (
                "This is a personal API token. An organisation API key belongs here, made at admin.atlassian.com "
                f"under Settings, API keys. {NEW_KEY}"
            )
            self._fail("api_key", error, text, "api_key", code="wrong_kind")
        elif isinstance(error, Unauthorized):
            text = f"Atlassian does not accept this API key: it is mistyped, expired or revoked. {NEW_KEY}"
            self._fail("api_key", error, text, "api_key")
        elif isinstance(error, Forbidden) and not error.insufficient_scope:
            self._fail("api_key", error, f"Atlassian knows this API key but refuses it. {NEW_KEY}", "api_key")
        elif error is not None and not isinstance(error, Forbidden):
            self._fail("api_key", error)
        self._add("api_key", True, "ok", "The API key is valid.")

    def _is_personal_token(self) -> bool:
        """Whether the API key signs in to the site with the e-mail, as a personal token does."""
        if not self._site_answers or not self._connection.email:
            return False
        other = replace(self._connection, api_token=self._connection.api_key)
        return self._accepts(other, lambda reader: reader.jira_myself())

    def _check_org_id(self) -> None:
        try:
            org = self._reader.get_org()
        except (NotFound, BadRequest) as error:
            self._fail("org_id", error, self._wrong_org(), "org_id", code="wrong_org_id")
        except Forbidden as error:
            if error.insufficient_scope:
                self._scopes_refused(error)
            else:
                self._fail("org_id", error, self._wrong_org(), "org_id", code="wrong_org_id")
        except AtlassianError as error:
            self._fail("org_id", error)
        else:
            if org.id != self._connection.org_id:
                self._add("org_id", False, "wrong_org_id", self._wrong_org(), "org_id")
            self._add("org_id", True, "ok", f"The organisation is {org.name or org.id}.")

    def _wrong_org(self) -> str:
        text = f"This API key cannot see an organisation with the id {self._connection.org_id}."
        if self._orgs:
            seen = ", ".join(f"{org.name} ({org.id})" for org in self._orgs[:3])
            return f"{text} It belongs to {seen}. Enter that id."
        return f"{text} Copy the id from the address of your organisation at admin.atlassian.com."

    def _check_scopes(self) -> None:
        """Managing accounts is refused to every key with scopes; "not managed" and "not found" mean that it may ask."""
        account_id = next((p.account_id for p in self._people.items), None) if self._people else None
        account_id = account_id or (self._me.account_id if self._me else None)
        if account_id is None:
            return
        try:
            self._reader.lifecycle_permissions(account_id)
        except Forbidden as error:
            if error.insufficient_scope:
                self._scopes_refused(error)
                return
        except NotFound:
            pass
        except AtlassianError as error:
            self._fail("unscoped_key", error)
        self._add("unscoped_key", True, "ok", "The API key has no scopes that narrow it.")

    def _scopes_refused(self, error: AtlassianError) -> None:
        text = (
            "This API key was made with scopes, and no scope allows managing people. "
            "Create one without scopes, as an organisation admin, and paste it here."
        )
        self._fail("unscoped_key", error, text, "api_key", code="insufficient_scope")

    # -- what the key can read

    def _check_people(self) -> None:
        try:
            self._people = self._reader.search_users(limit=10)
        except Forbidden as error:
            if error.insufficient_scope:
                self._scopes_refused(error)
            text = "Atlassian refuses to list people with this API key. " + NEW_KEY
            self._fail("list_people", error, text, "api_key")
            self._fail("last_activity", error, "The last login comes with the list of people.", "api_key")
            return
        except AtlassianError as error:
            self._fail("list_people", error)
            return
        self._add("list_people", True, "ok", "People can be listed.")
        if any(person.products is None for person in self._people.items):
            text = f"Atlassian lists people without their last login, so it is not known. {NEW_KEY}"
            self._add("last_activity", False, "not_given", text, "api_key")
        self._add("last_activity", True, "ok", "The last login can be read.")

    def _groups(self) -> str:
        self._reader.search_groups(limit=10)
        return "Groups can be listed."

    # -- personal token

    def _check_token(self) -> None:
        try:
            self._me = self._reader.jira_myself()
        except Unauthorized as error:
            if not self._connection.email:
                self._fail("api_token", error, "Enter the e-mail address of the API token's owner.", "email")
            elif self._is_organisation_key():
                text = (
                    "This is an organisation API key. The personal API token of the person with this e-mail address "
                    "belongs here, made at id.atlassian.com under Security."
                )
                self._fail("api_token", error, text, "api_token", code="wrong_kind")
            else:
                text = (
                    f"Atlassian does not accept this API token together with {self._connection.email}: one of them is "
                    "mistyped, or the token expired. Check the e-mail address, or make a new token as that person."
                )
                self._fail("api_token", error, text, "api_token")
        except NotFound:
            text = "The site has no Jira, so the API token could not be tried."
            self._add("api_token", True, "not_tried", text)
            self._add("jira", False, "no_jira", "The site has no Jira.", "site_url")
            self._add("jsm", False, "no_jira", "The site has no Jira.", "site_url")
        except AtlassianError as error:
            self._fail("api_token", error)
        else:
            name = self._me.name or self._me.account_id
            self._add("api_token", True, "ok", f"The API token is valid and belongs to {name}.")

    def _is_organisation_key(self) -> bool:
        other = replace(self._connection, api_key=self._connection.api_token or "")
        return self._accepts(other, lambda reader: reader.orgs())

    def _jira(self) -> str:
        if not self._reader.jira_permissions("ADMINISTER")["ADMINISTER"]:
            raise Forbidden(
                "The owner of the API token is not a Jira administrator.",
                code="not_jira_admin",
                advice="Use the token of a person who may administer Jira, to see licences and projects.",
            )
        return "Jira can be read, with administrator permission."

    def _jsm(self) -> str:
        next(self._reader.service_desks(), None)
        return "Jira Service Management can be read."

    # -- results

    def _check(self, capability: str, work: Callable[[], str]) -> None:
        value = {"groups": "api_key"}.get(capability, "api_token")
        try:
            self._add(capability, True, "ok", work())
        except (Unauthorized, Forbidden, NotFound) as error:
            self._fail(capability, error, value=value)
        except AtlassianError as error:
            self._fail(capability, error)

    def _accepts(self, connection: Connection, work: Callable[[AtlassianReader], object]) -> bool:
        with AtlassianReader(connection, limiter=self._limiter, timeout=(5.0, 20.0), max_wait_seconds=5.0) as reader:
            try:
                work(reader)
            except AtlassianError:
                return False
            return True

    def _add(self, capability: str, ok: bool, code: str, detail: str, value: str = "") -> None:
        """Keep the first outcome: a check that failed stays failed."""
        self._results.setdefault(capability, CapabilityResult(capability, ok, code, detail, value))

    def _fail(
        self, capability: str, error: AtlassianError, detail: str = "", value: str = "", *, code: str = ""
    ) -> None:
        text = detail or f"{error.detail.rstrip('.')}. {error.advice}"
        reference = error.request_id or error.call_id
        if reference:
            text = f"{text} (Reference {reference}.)"
        self._add(capability, False, code or error.code, text, value)

    def _is_ok(self, capability: str) -> bool:
        result = self._results.get(capability)
        return result is not None and result.ok

    def _not_checked(self, capability: str) -> CapabilityResult:
        """The check was pointless after an earlier failure, which is named."""
        earlier = _AFTER[capability]
        while earlier not in self._results and earlier in _AFTER:
            earlier = _AFTER[earlier]
        return CapabilityResult(
            capability, False, "not_checked", f"Not checked, because the check {earlier} failed. Correct that first."
        )
