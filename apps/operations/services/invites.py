"""Invitations: from addresses to a plan, 25 to a call, each address with an outcome of its own (206), read back.

Reading and recheck go by e-mail, because whoever is invited may have no account yet. A lost answer is in doubt and
resolved by reading, as every write; inviting somebody again changes nothing at Atlassian, so a repeat is harmless.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import connection
from django.db.models.functions import Lower

from apps.operations import planning
from apps.operations.actions import REGISTRY, Fresh
from apps.operations.models import Operation, OperationItem
from apps.operations.selection import ActionSpec, InviteSelection, Selection
from apps.operations.services import claims
from apps.operations.services.outcomes import Result
from apps.operations.services.reading import BATCH, Reading, target_of
from apps.organizations.models import Directory, Organization
from apps.users import csv_layouts
from apps.users.models import Account, Group, ImportFile, ImportRow, MembershipStatus
from apps.users.products import label_of, product_of
from apps.users.selectors.imports import ProductPlace, product_places
from aum.atlassian.client import ANY_DIRECTORY, MAX_INVITES, AtlassianClient, AtlassianReader
from aum.atlassian.errors import (
    AtlassianError,
    Conflict,
    LostAnswer,
    NotFound,
    RateLimited,
    Unauthorized,
    Unavailable,
    WaitTooLong,
)
from aum.atlassian.schemas import InviteResult
from aum.common.errors import InvalidInput

Outcome = OperationItem.Outcome
# The role that an invitation gives on a product: to use it, never to administer it (P15).
ROLE = "atlassian/user"
MAX_EMAILS = 100  # users/search takes 100 e-mails (API.md §2)
MAX_TYPED = 1000
_SEPARATOR = "\x1f"


# --- groups and products, by what a person wrote ----------------------------------------------------------------------


@dataclass(frozen=True)
class Grants:
    """What one address gets besides its place in the directory, or why it cannot: `faults` are sentences."""

    paths: tuple[dict[str, Any], ...] = ()
    faults: tuple[str, ...] = ()


def group_path(group: Group) -> dict[str, Any]:
    return {
        "kind": "group",
        "directory": group.directory.directory_id,
        "group": group.group_id,
        "group_pk": group.pk,
        "name": group.name,
    }


def product_path(place: ProductPlace) -> dict[str, Any]:
    return {
        "kind": "role",
        "role": ROLE,
        "resource": place.resource,
        "product": place.product,
        "site": place.site,
        "name": place.label,
    }


def _split(text: str) -> list[str]:
    """The names of a cell: by semicolons where it has some, else by commas."""
    sign = ";" if ";" in text else ","
    return list(dict.fromkeys(part.strip() for part in text.split(sign) if part.strip()))


class GrantBook:
    """The organisation's groups and products by name, for cells such as `team-a;team-b` and `jira-software`."""

    def __init__(self, organization: Organization, cells: Iterable[str]) -> None:
        names = {name.lower() for cell in cells for name in (*_split(cell), cell.strip()) if name}
        self._groups: dict[str, list[Group]] = defaultdict(list)
        rows = Group.objects.of(organization).filter(vanished_at__isnull=True).select_related("directory")
        for group in rows.annotate(folded=Lower("name")).filter(folded__in=names):
            self._groups[group.name.lower()].append(group)
        self._places = product_places(organization)

    def read(self, groups: str, products: str) -> Grants:
        """What the two cells name."""
        paths: list[dict[str, Any]] = []
        faults: list[str] = []
        whole = groups.strip()
        for name in [whole] if whole.lower() in self._groups else _split(groups):
            found = self._groups.get(name.lower(), [])
            if not found:
                faults.append(f"There is no group {name}.")
            elif len(found) > 1:
                faults.append(f"More than one group is called {name}.")
            elif refusal := planning.group_refusal(found[0], "add_to_group"):
                faults.append(refusal)
            else:
                paths.append(group_path(found[0]))
        for name in _split(products):
            try:
                paths.append(product_path(find_place(self._places, name)))
            except InvalidInput as error:
                faults.append(error.detail)
        return Grants(tuple(paths), tuple(faults))


def find_place(places: Sequence[ProductPlace], text: str) -> ProductPlace:
    """The product that `jira-software`, `Jira Software` or `Jira Software - example` names. Raises InvalidInput."""
    name, _, site = text.strip().rpartition(" - ")
    if not name:
        name, site = site, ""
    known = csv_layouts.PRODUCT_NAMES.get(name.lower())
    product = str(known) if known else product_of(name)
    found = [place for place in places if place.product == product]
    if site:
        host = site.strip().lower()
        found = [place for place in found if host in (place.site.lower(), place.site.lower().partition(".")[0])]
    if not found:
        raise InvalidInput(f"There is no product {text.strip()}.")
    if len(found) > 1:
        sites = ", ".join(place.site or place.resource for place in found)
        raise InvalidInput(f"{label_of(product)} is on several sites ({sites}): write “{name} - site”.")
    return found[0]


# --- planning ---------------------------------------------------------------------------------------------------------


def validate(organization: Organization, actions: Sequence[ActionSpec], selection: Selection) -> None:
    """Invitations stand alone, take addresses, and give nothing that administers (P15). Raises InvalidInput."""
    names = [spec.name for spec in actions]
    if not isinstance(selection, InviteSelection):
        if "invite" in names or "cancel_invite" in names:
            raise InvalidInput(fields={"action": ["Invite people by their e-mail addresses, under Import users."]})
        return
    if names != ["invite"]:
        raise InvalidInput(fields={"action": ["Invitations cannot be combined with other actions."]})
    if selection.import_file_id is None and not selection.emails:
        raise InvalidInput(fields={"emails": ["Give at least one e-mail address."]})
    groups = list(Group.objects.of(organization).filter(pk__in=actions[0].group_ids, vanished_at__isnull=True))
    if len(groups) != len(set(actions[0].group_ids)):
        raise InvalidInput(fields={"groups": ["A chosen group no longer exists. Choose again."]})
    refusals = [refusal for group in groups if (refusal := planning.group_refusal(group, "add_to_group"))]
    if refusals:
        raise InvalidInput(fields={"groups": refusals})
    known = {place.resource for place in product_places(organization)}
    if set(selection.resources) - known:
        raise InvalidInput(fields={"products": ["A chosen product no longer exists. Choose again."]})


def read_addresses(text: str) -> tuple[str, ...]:
    """The addresses of a text, separated by commas, semicolons or white space, each once. Raises InvalidInput."""
    given = [part.strip("<>\"'").lower() for part in text.replace(",", " ").replace(";", " ").split()]
    wrong = [part for part in given if not csv_layouts.EMAIL.match(part)]
    if wrong:
        shown = ", ".join(part[:80] for part in wrong[:5])
        raise InvalidInput(fields={"emails": [f"Not an e-mail address: {shown}."]})
    emails = tuple(dict.fromkeys(given))
    if not emails:
        raise InvalidInput(fields={"emails": ["Give at least one e-mail address."]})
    if len(emails) > MAX_TYPED:
        raise InvalidInput(fields={"emails": [f"At most {MAX_TYPED:,} addresses at once. Use a file for more."]})
    return emails


def _cell_sql(file: ImportFile, meaning: str) -> str:
    index = file.mapping.get(meaning)
    return "''" if index is None else f"coalesce(cells ->> {int(index)}, '')"


def grants_key_sql(file: ImportFile) -> str:
    """SQL of what a row's own groups and products say, as one text: equal texts mean equal grants."""
    return f"({_cell_sql(file, 'groups')} || E'\\x1f' || {_cell_sql(file, 'products')})"


def grants_of_file(file: ImportFile) -> dict[str, Grants]:
    """Every text of `grants_key_sql` in the file → what it means."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT {grants_key_sql(file)} FROM users_importrow WHERE import_file_id = %s", [file.pk]
        )
        keys = [row[0] for row in cursor.fetchall()]
    pairs = {key: tuple(key.split(_SEPARATOR, 1)) for key in keys}
    book = GrantBook(file.organization, (groups for groups, _ in pairs.values()))
    return {key: book.read(groups, products) for key, (groups, products) in pairs.items()}


def judge_file(file: ImportFile) -> None:
    """Store on each row why its groups or products cannot be given; empty where they can, or where it names none."""
    faults = {key: " ".join(grants.faults) for key, grants in grants_of_file(file).items()}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""UPDATE users_importrow r SET fault = g.fault
                FROM unnest(%s::text[], %s::text[]) AS g(key, fault)
                WHERE r.import_file_id = %s AND {grants_key_sql(file)} = g.key AND r.fault <> g.fault""",
            [list(faults), list(faults.values()), file.pk],
        )


_OUTSIDE = MembershipStatus.NO_MEMBERSHIP.value
# Rows that name somebody by e-mail: unknown ones, and managed accounts outside every directory.
INVITABLE = f"""r.email ~ '^[^@\\s,;]+@[^@\\s,;]+\\.[^@\\s,;]+$' AND (r.code = '{ImportRow.Code.UNKNOWN.value}'
    OR r.code = '' AND EXISTS (SELECT 1 FROM users_account o
                               WHERE o.id = r.account_id AND o.membership_status = {_OUTSIDE}))"""


def count_invitable(file: ImportFile) -> int:
    """People of the file who can be invited."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(DISTINCT r.email) FROM users_importrow r WHERE r.import_file_id = %s AND {INVITABLE}",
            [file.pk],
        )
        return int(cursor.fetchone()[0])


def insert_items(operation: Operation, selection: InviteSelection, spec: ActionSpec) -> None:
    """One item an address that is in no directory; who is there already is left out. One statement."""
    organization = operation.organization
    groups = Group.objects.of(organization).filter(pk__in=spec.group_ids).select_related("directory").order_by("name")
    places = [place for place in product_places(organization) if place.resource in selection.resources]
    common = [*map(group_path, groups), *map(product_path, places)]
    parameters: list[Any] = []
    if selection.import_file_id is None:
        keys = {"": _parameters(selection, common, ())}
        source = "SELECT mail, n::int AS line, '' AS key FROM unnest(%s::text[]) WITH ORDINALITY AS e(mail, n)"
        parameters.append(list(selection.emails))
        reason = "jsonb_build_object('code', 'invite')"
    else:
        file = ImportFile.objects.of(organization).get(pk=selection.import_file_id)
        key = grants_key_sql(file) if selection.uses_file_grants else "''"
        found = grants_of_file(file) if selection.uses_file_grants else {"": Grants()}
        keys = {text: _parameters(selection, common, grants.paths) for text, grants in found.items()}
        source = f"SELECT r.email AS mail, r.line, {key} AS key FROM users_importrow r WHERE r.import_file_id = %s "
        parameters.append(file.pk)
        source += f"AND ({INVITABLE} OR r.code = '')"
        if selection.uses_file_grants:
            source += " AND r.fault = ''"
        if selection.lines is not None:
            source += " AND r.line = ANY(%s)"
            parameters.append(list(selection.lines))
        reason = "jsonb_build_object('code', 'invite', 'line', w.line)"
    statement = f"""
        WITH wanted AS MATERIALIZED (
            SELECT DISTINCT ON (mail) mail, line, key FROM ({source}) s WHERE mail <> '' ORDER BY mail, line
        ), known AS MATERIALIZED (
            SELECT w.*, (SELECT min(a.id) FROM users_account a
                         WHERE a.organization_id = %s AND lower(a.email) = w.mail AND a.vanished_at IS NULL
                           AND a.membership_status <> {_OUTSIDE}) AS account
            FROM wanted w
        ), item AS (
            INSERT INTO operations_operationitem ({planning.ITEM_COLUMNS})
            SELECT %s, %s, NULL, w.mail, 'invite', '', %s, g.parameters, {reason}, {planning.ITEM_DEFAULTS}
            FROM known w JOIN unnest(%s::text[], %s::jsonb[]) AS g(key, parameters) ON g.key = w.key
            WHERE w.account IS NULL ORDER BY g.parameters::text, w.line
            ON CONFLICT (operation_id, subject, action, target) DO NOTHING
        )
        INSERT INTO operations_leftout (organization_id, operation_id, account_id, reason, detail)
        SELECT %s, %s, w.account, 'already_member', '' FROM known w WHERE w.account IS NOT NULL
        ON CONFLICT (operation_id, account_id) DO NOTHING
    """
    with connection.cursor() as cursor:
        cursor.execute(
            statement,
            [
                *parameters,
                organization.pk,
                organization.pk,
                operation.pk,
                REGISTRY["invite"].rank,
                list(keys),
                list(keys.values()),
                organization.pk,
                operation.pk,
            ],
        )


def _parameters(selection: InviteSelection, common: Sequence[dict[str, Any]], own: Sequence[dict[str, Any]]) -> str:
    """An item's parameters as JSON; equal ones share a call."""
    paths = list({json.dumps(path, sort_keys=True): path for path in (*common, *own)}.values())
    return json.dumps(
        {
            "paths": paths,
            "notify": selection.notify,
            "message": selection.message if selection.notify else "",
            "name": ", ".join(path["name"] for path in paths),
        },
        sort_keys=True,
    )


def insert_inverse(operation: Operation, source: Operation, account_ids: Sequence[str] | None) -> None:
    """Undo of invitations: out of each directory that the person was not in before."""
    people = "AND s.subject = ANY(%s)" if account_ids is not None else ""
    last = max(action.rank for action in REGISTRY.values())
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO operations_operationitem ({planning.ITEM_COLUMNS})
                SELECT s.organization_id, %s, a.id, a.account_id, 'cancel_invite', 'directory:' || d.key,
                       %s - s.rank, jsonb_build_object('directory', d.key),
                       jsonb_build_object('code', 'undo', 'done_at', s.finished_at, 'number', %s::int, 'item', s.id),
                       {planning.ITEM_DEFAULTS}
                FROM operations_operationitem s JOIN users_account a ON a.id = s.account_id
                CROSS JOIN LATERAL jsonb_each_text(s.after -> 'directories') AS d(key, status)
                WHERE s.operation_id = %s AND s.action = 'invite' AND s.outcome = 'done' AND d.status = 'active'
                  AND coalesce(s.before -> 'directories' ->> d.key, 'no_membership') = 'no_membership' {people}
                ON CONFLICT (operation_id, subject, action, target) DO NOTHING""",
            [operation.pk, last, source.number, source.pk, *([list(account_ids)] if account_ids is not None else [])],
        )


# --- reading by e-mail ------------------------------------------------------------------------------------------------


class InviteReading(Reading):
    """Invited people as they are in Atlassian now, found by e-mail, or by the id that an invitation answered.

    `granted`: addresses whose groups and products Atlassian said to have given; they need not be proven again.
    """

    def __init__(self, organization: Organization, items: Sequence[OperationItem]) -> None:
        super().__init__(organization, [])
        self.items = {item.subject: item for item in items}
        self.ids: dict[str, str] = {}
        self.granted: set[str] = set()

    def read(self, reader: AtlassianReader, pool: Executor, *, with_roles: Iterable[str] = ()) -> None:
        self._directories = {d.pk: d for d in Directory.objects.of(self.organization)}
        asked = [email for email in self.items if email not in self.ids]
        batches = [asked[at : at + MAX_EMAILS] for at in range(0, len(asked), MAX_EMAILS)]
        for people in pool.map(
            lambda emails: list(reader.iter_users(ANY_DIRECTORY, emails=emails, limit=MAX_EMAILS)), batches
        ):
            for person in people:
                email = (person.email or "").lower()
                if email in self.items:
                    self.ids[email] = person.account_id
        ids = sorted(set(self.ids.values()))
        places = [(0, ANY_DIRECTORY), *((pk, d.directory_id) for pk, d in self._directories.items())]
        calls = [(pk, directory, ids[at : at + BATCH]) for pk, directory in places for at in range(0, len(ids), BATCH)]
        found = pool.map(lambda call: reader.find_users(call[2], call[1]), calls)
        for (pk, _, _), some in zip(calls, found, strict=True):
            self.people[pk].update(some)
        for pk in self._directories:  # whoever stands in a directory is mirrored from there
            for account_id in self.people[pk]:
                self.people[0].pop(account_id, None)
        self._read_roles(reader, pool)

    def _read_roles(self, reader: AtlassianReader, pool: Executor) -> None:
        """Products held, by whatever way: default groups give them as well as direct roles."""
        wanted = {
            self.ids[email]: item
            for email, item in self.items.items()
            if email in self.ids and email not in self.granted and any(p["kind"] == "role" for p in _paths(item))
        }

        def held(account_id: str) -> set[tuple[str, str, str]]:
            try:
                rows = reader.role_assignments(account_id).assignments
            except NotFound:
                return set()
            return {_place_of(row.role, row.resource_id) for row in rows}

        for (account_id, item), places in zip(wanted.items(), pool.map(held, wanted), strict=True):
            roles = [(p["role"], p["resource"]) for p in _paths(item) if p["kind"] == "role"]
            self.roles[account_id] = frozenset(pair for pair in roles if _place_of(*pair) in places)

    def mirror(self, *, overrides_pending: bool = False) -> None:
        super().mirror(overrides_pending=overrides_pending)
        accounts = {a.account_id: a for a in Account.objects.of(self.organization).filter(account_id__in=self._seen())}
        for email, item in self.items.items():
            account = accounts.get(self.ids.get(email, ""))
            if account is not None and item.account_id != account.pk:
                item.account = account
                OperationItem.objects.filter(pk=item.pk).update(account=account)

    def _seen(self) -> set[str]:
        return {account_id for people in self.people.values() for account_id in people}

    def fresh(self, account_id: str) -> Fresh:
        """By e-mail, the subject of an invitation."""
        email = account_id
        known = self.ids.get(email)
        if known is None:
            return Fresh(email, exists=False)
        fresh = super().fresh(known)
        if fresh.exists and email in self.granted:
            paths = _paths(self.items[email])
            groups = frozenset((p["directory"], p["group"]) for p in paths if p["kind"] == "group")
            roles = frozenset((p["role"], p["resource"]) for p in paths if p["kind"] == "role")
            held = fresh.groups or frozenset()
            return replace(fresh, groups=held | groups, roles=(fresh.roles or frozenset()) | roles)
        return fresh


def _paths(item: OperationItem) -> list[dict[str, Any]]:
    return list(item.parameters.get("paths", ()))


def _place_of(role: str, resource: str) -> tuple[str, str, str]:
    """(role, product, last part of the ARI): one instance has different ARIs in different calls."""
    parts = resource.split(":")
    return role, product_of(parts[2]) if len(parts) > 2 else "", resource.rpartition("/")[2].lower()


def reading_for(operation: Operation, items: Sequence[OperationItem]) -> Reading:
    """The reading that fits the operation: by e-mail for invitations."""
    if operation.action == "invite":
        return InviteReading(operation.organization, items)
    return Reading(operation.organization, list({i.account_id: i.account for i in items if i.account}.values()))


# --- recheck and call -------------------------------------------------------------------------------------------------


def refusals(operation: Operation, items: Sequence[OperationItem], reading: Reading) -> dict[int, Result]:
    """Item key → outcome for addresses that are not to be invited: there already, barred, or a group that changed."""
    pks = {path["group_pk"] for item in items for path in _paths(item) if path["kind"] == "group"}
    groups = {group.pk: group for group in Group.objects.of(operation.organization).filter(pk__in=pks)}
    results: dict[int, Result] = {}
    for item in items:
        fresh = reading.fresh(item.subject)
        if REGISTRY["invite"].is_so(target_of(item), fresh):
            results[item.pk] = Result(Outcome.ALREADY_SO, "", after=fresh.as_before())
        elif fresh.exists and fresh.account_status not in (None, "active"):
            results[item.pk] = Result(Outcome.SKIPPED_CONFLICT, "The account is deactivated. Activate it instead.")
        elif "suspended" in fresh.directories.values() and "active" not in fresh.directories.values():
            results[item.pk] = Result(Outcome.SKIPPED_CONFLICT, "Suspended in the directory. Restore instead.")
        else:
            for path in _paths(item):
                group = groups.get(path.get("group_pk", 0))
                if path["kind"] != "group":
                    continue
                if group is None or group.vanished_at is not None:
                    results[item.pk] = Result(Outcome.SKIPPED_CONFLICT, f"The group {path['name']} no longer exists.")
                elif refusal := planning.group_refusal(group, "add_to_group"):
                    outcome = Outcome.HANDED_OFF if group.is_synced else Outcome.SKIPPED_PROTECTED
                    results[item.pk] = Result(outcome, refusal)
    return results


@dataclass
class Sent:
    """What became of one address in the calls: a final result, or answered or lost and to be read."""

    item: OperationItem
    is_answered: bool = False
    is_granted: bool = False
    account_id: str | None = None
    result: Result | None = None
    ids: dict[str, str] = field(default_factory=dict)


@dataclass
class Sending:
    """The calls of one chunk. `error`: why some addresses were given back unsent."""

    sent: list[Sent] = field(default_factory=list)
    error: AtlassianError | None = None


def send(
    client: AtlassianClient, claim: claims.Claim, items: Sequence[OperationItem], pool: ThreadPoolExecutor
) -> Sending:
    """Invite the addresses, those with equal groups and products 25 to a call. Never raises for one address."""
    alike: dict[str, list[OperationItem]] = defaultdict(list)
    for item in items:
        alike[json.dumps(item.parameters, sort_keys=True)].append(item)
    batches = [some[at : at + MAX_INVITES] for some in alike.values() for at in range(0, len(some), MAX_INVITES)]
    sending = Sending()

    def work(batch: list[OperationItem]) -> None:
        try:
            _call(client, claim, batch, sending)
        finally:
            connection.close()

    list(pool.map(work, batches))
    return sending


def _call(client: AtlassianClient, claim: claims.Claim, batch: Sequence[OperationItem], sending: Sending) -> None:
    """One call. A refusal of a whole batch is asked again one by one, so that it hits only whom it means."""
    if sending.error is not None:
        claims.release(batch, claim.token)
        return
    mine = [item for item in batch if claims.may_write(item, claim.token)]
    if not mine:
        claims.release(batch, claim.token)
        return
    parameters = mine[0].parameters
    paths = _paths(mine[0])
    try:
        results = client.invite(
            [item.subject for item in mine],
            [(path["resource"], path["role"]) for path in paths if path["kind"] == "role"],
            [path["group"] for path in paths if path["kind"] == "group"],
            notify=bool(parameters.get("notify")),
            notification_text=parameters.get("message", ""),
        )
    except LostAnswer as error:
        sending.sent += [Sent(item, ids=_ids(error.request_id, error.call_id)) for item in mine]
    except (RateLimited, WaitTooLong, Unavailable, Unauthorized) as error:
        claims.release(mine, claim.token)
        sending.error = error
    except AtlassianError as error:
        if len(mine) > 1:
            for item in mine:
                _call(client, claim, [item], sending)
            return
        sending.sent.append(Sent(mine[0], result=_refused(error), ids=_ids(error.request_id, error.call_id)))
    else:
        names = {path.get("group") or path["resource"]: path["name"] for path in paths}
        sending.sent += [_answered(item, result, names) for item, result in zip(mine, results, strict=True)]


def _ids(request_id: str | None, call_id: str) -> dict[str, str]:
    return {"atlassian_request_id": request_id or "", "call_id": call_id}


def _refused(error: AtlassianError) -> Result:
    if isinstance(error, Conflict) and error.licence_limit:
        return Result(Outcome.FAILED_LICENCE_LIMIT, error.advice)
    return Result(Outcome.FAILED, f"{error.detail.strip().rstrip('.')}. {error.advice} [{error.code}]")


def _answered(item: OperationItem, result: InviteResult, names: Mapping[str, str]) -> Sent:
    """Atlassian's answer about one address: its groups and products each succeed or fail on their own."""
    sent = Sent(
        item,
        is_answered=True,
        is_granted=result.is_invited is True,
        account_id=result.account_id,
        ids=_ids(result.request_id, result.call_id),
    )
    failed = [grant for grant in result.grants if grant.status != "INVITED"]
    if not failed:
        return sent
    said = "; ".join(f"{names.get(grant.target, grant.target)}: {grant.reason or grant.status}" for grant in failed)
    is_licence = any("licen" in (grant.reason or "").lower() for grant in failed)
    given = [names.get(grant.target, grant.target) for grant in result.grants if grant.status == "INVITED"]
    begins = f"Invited with {', '.join(given)}, but without " if given else "Not invited. "
    sent.result = Result(Outcome.FAILED_LICENCE_LIMIT if is_licence else Outcome.FAILED, f"{begins}{said}.")
    return sent
