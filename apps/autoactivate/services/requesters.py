"""Who asks: always an account of Atlassian's, with the e-mail that the Organizations API gives (DECISIONS.md §16)."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils import timezone

from apps.autoactivate import slack_api
from apps.autoactivate.models import IdentityMapping, InboundEvent
from apps.autoactivate.services.sources import bot_token_of
from apps.organizations.models import Directory, Organization
from apps.users.models import Account, DirectoryMembership, MembershipStatus
from apps.users.services import mirror_membership_status, mirror_people, mirror_vanished
from aum.atlassian.client import ANY_DIRECTORY, AtlassianReader
from aum.atlassian.schemas import Person


class NobodyFound(Exception):
    """The requester is no account that can be given access: `code` for the log, `sentence` for people."""

    def __init__(self, code: str, sentence: str, *, requester: str = "") -> None:
        super().__init__(sentence)
        self.code, self.sentence, self.requester = code, sentence, requester


class MustConfirm(Exception):
    """Only a mail to `email` can tell whether the requester is who they say."""

    def __init__(self, email: str) -> None:
        super().__init__("a confirmation mail decides")
        self.email = email


@dataclass(frozen=True)
class Ticket:
    """A ticket as it was read again."""

    key: str
    project_key: str
    request_type_id: str
    service_desk_id: str
    requester_id: str
    requester: str


def account_by_id(organization: Organization, reader: AtlassianReader, account_id: str) -> Account:
    """The account as Atlassian has it now, in the mirror; one that was removed since as it was last known.

    Raises NobodyFound for one that was never here, and the errors of `aum.atlassian`.
    """
    read_at = timezone.now()
    places = list(Directory.objects.of(organization).order_by("pk"))
    found: list[tuple[Directory, Person]] = []
    for place in places:
        person = reader.find_users([account_id], place.directory_id).get(account_id)
        if person is not None:
            found.append((place, person))
    outside = None if found else reader.find_users([account_id], ANY_DIRECTORY).get(account_id)
    known: Account | None = Account.objects.of(organization).filter(account_id=account_id).first()
    for place, person in found:
        mirror_people(organization, [person], read_at=read_at, directory=place)
    if outside is not None:
        mirror_people(organization, [outside], read_at=read_at)
    if known is not None:
        there = {place.pk for place, _ in found}
        for membership in DirectoryMembership.objects.filter(account=known).select_related("directory"):
            if membership.directory_id not in there and membership.status != MembershipStatus.NO_MEMBERSHIP:
                mirror_membership_status(known, membership.directory, MembershipStatus.NO_MEMBERSHIP)
        if not found and outside is None:
            mirror_vanished(known)
            known.refresh_from_db()
            return known  # removed: a rule that restores people may invite them again
    if not found and outside is None:
        raise NobodyFound(
            "not_in_organization",
            "This account is not in the organisation. Invite the person, then try again.",
        )
    account: Account = Account.objects.select_related("organization").get(
        organization=organization, account_id=account_id
    )
    return account


def account_by_email(organization: Organization, reader: AtlassianReader, email: str) -> Account:
    """The one account whose e-mail, as the Organizations API gives it, is `email`. Raises NobodyFound."""
    wanted = email.lower()
    people = [
        person
        for person in reader.iter_users(ANY_DIRECTORY, emails=[email])
        if (person.email or "").lower() == wanted  # Atlassian has ignored filters before
    ]
    ids = {person.account_id for person in people}
    if len(ids) != 1:
        raise NobodyFound(
            "no_account" if not ids else "ambiguous",
            "No account of the organisation has this e-mail. Invite the person, then process this again."
            if not ids
            else "More than one account has this e-mail.",
            requester=email,
        )
    return account_by_id(organization, reader, ids.pop())


def requester_of_message(event: InboundEvent, reader: AtlassianReader) -> tuple[Account, str]:
    """(account, how it is known) of a Slack or Teams message. Raises MustConfirm, NobodyFound, SlackUnavailable."""
    organization, payload = event.organization, event.payload
    external_id = payload.get("user_id") or payload.get("aad_id") or ""
    mapping = (
        IdentityMapping.objects.of(organization)
        .filter(channel=event.channel, external_id=external_id.lower())
        .select_related("account")
        .first()
        if external_id
        else None
    )
    if mapping is not None:
        return account_by_id(organization, reader, mapping.account.account_id), "mapping"
    token = bot_token_of(event.source) if event.channel == "slack" and event.source else ""
    if token:
        try:
            user = slack_api.user_of(token, external_id)
        except slack_api.SlackRefused as error:
            raise NobodyFound("slack_refused", error.detail, requester=external_id) from error
        if user.fault:
            raise NobodyFound("slack_user", user.fault, requester=user.name)
        if user.email:
            return account_by_email(organization, reader, user.email), "slack"
    email = payload.get("email") or ""
    if email:
        raise MustConfirm(email)
    raise NobodyFound(
        "not_known",
        "AUM does not know who this is: no mapping, and the message held no e-mail address to confirm. "
        "Ask again with the address behind the command.",
        requester=payload.get("user_name") or payload.get("name") or external_id,
    )
