"""The mapping CSV: whose manager is who, and in which language somebody reads. Atlassian gives neither."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone

from apps.audit.services import record
from apps.notifications.models import PersonContact
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import Account
from aum.common.errors import InvalidInput

MAX_BYTES = 20 * 1024 * 1024
MAX_ROWS = 200_000
ERRORS_SHOWN = 50
_LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})?")


@dataclass(frozen=True)
class RowError:
    """A line that was passed over; lines count from 1, the heading included."""

    line: int
    detail: str


@dataclass(frozen=True)
class ContactsReport:
    """What a file did: people set, lines passed over."""

    saved: int
    cleared: int
    errors: tuple[RowError, ...]


def import_contacts(*, organization: Organization, data: bytes, actor: Actor) -> ContactsReport:
    """Replace manager and language of the people that the file names; others keep theirs. Raises InvalidInput.

    Columns `email` or `account_id`, `manager_email`, `language`; a line with both of the last empty clears the entry.
    """
    if len(data) > MAX_BYTES:
        raise InvalidInput(fields={"file": [f"The file is larger than {MAX_BYTES // 1024 // 1024} MB."]})
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(fields={"file": ["The file is not UTF-8. Save it as “CSV UTF-8”."]}) from error
    text = text.replace("\x00", "")
    reader = csv.reader(io.StringIO(text), delimiter=";" if text.partition("\n")[0].count(";") else ",")
    try:
        heading = [cell.strip().lower().replace(" ", "_") for cell in next(reader, [])]
        key = "account_id" if "account_id" in heading else "email"
        if key not in heading or not {"manager_email", "language"} & set(heading):
            raise InvalidInput(
                fields={
                    "file": ["The first line must name the columns: email (or account_id), manager_email, language."]
                }
            )
        return _save(organization, heading, key, reader, actor)
    except csv.Error as error:
        raise InvalidInput(fields={"file": [f"Line {reader.line_num} cannot be read: {error}."]}) from error


def _save(organization: Organization, heading: list[str], key: str, reader: object, actor: Actor) -> ContactsReport:
    wanted: dict[str, tuple[int, str, str]] = {}
    errors: list[RowError] = []
    for line, cells in enumerate(reader, start=2):  # type: ignore[arg-type, var-annotated]  # a csv reader
        if line > MAX_ROWS:
            raise InvalidInput(fields={"file": [f"The file has more than {MAX_ROWS:,} lines."]})
        row = dict(zip(heading, (cell.strip().lstrip("'") for cell in cells), strict=False))
        who = row.get(key, "").lower()
        if not who:
            continue
        manager, language = row.get("manager_email", ""), row.get("language", "")
        fault = _fault(manager, language)
        if fault:
            errors.append(RowError(line, fault))
        elif who in wanted:
            errors.append(RowError(line, f"{who} stands in line {wanted[who][0]} already."))
        else:
            wanted[who] = (line, manager, language)
    found = _accounts(organization, key, list(wanted))
    now = timezone.now()
    rows, cleared = [], []
    for who, (line, manager, language) in wanted.items():
        pk = found.get(who)
        if pk is None:
            errors.append(RowError(line, f"Nobody here has {key.replace('_', ' ')} {who}."))
        elif manager or language:
            rows.append(
                PersonContact(
                    organization=organization,
                    account_id=pk,
                    manager_email=manager,
                    language=language,
                    set_at=now,
                    set_by=actor.name[:254],
                )
            )
        else:
            cleared.append(pk)
    with transaction.atomic():
        PersonContact.objects.bulk_create(
            rows,
            batch_size=2000,
            update_conflicts=True,
            unique_fields=["account"],
            update_fields=["manager_email", "language", "set_at", "set_by"],
        )
        gone, _by_model = PersonContact.objects.of(organization).filter(account_id__in=cleared).delete()
        record(
            organization=organization,
            actor=actor,
            action="contacts.imported",
            target_kind="organization",
            target_ref=str(organization.pk),
            target_name=organization.name,
            after={"saved": len(rows), "cleared": gone, "passed_over": len(errors)},
        )
    return ContactsReport(len(rows), gone, tuple(sorted(errors, key=lambda error: error.line)))


def _fault(manager: str, language: str) -> str:
    if manager:
        try:
            validate_email(manager)
            if not manager.isascii():
                raise ValidationError("not ASCII")
        except ValidationError:
            return f"{manager[:60]} is not an email address."
    if language and not _LANGUAGE.fullmatch(language):
        return f"{language[:20]} is not a language code such as en or de-AT."
    return ""


def _accounts(organization: Organization, key: str, wanted: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    people = Account.objects.of(organization).filter(vanished_at__isnull=True)
    for start in range(0, len(wanted), 5000):
        part = wanted[start : start + 5000]
        named = people.annotate(word=Lower("email" if key == "email" else "account_id")).filter(Q(word__in=part))
        found |= dict(named.values_list("word", "pk"))
    return found
