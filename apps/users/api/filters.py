"""The explorer's filters as REST takes them: query parameters of lists, and the `filter` of bulk actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from apps.organizations.models import Organization
from apps.users.models import Group
from apps.users.selectors import ORDERINGS, AccountFilters
from apps.users.selectors.filters import filter_names
from aum.common.errors import InvalidInput

GROUP_NAMES = ("group", "group_all", "group_none")
# Further parameters that say where and how long activity is measured.
MEASURES = ("inactive_product", "days")
FILTERS = (*filter_names(), *MEASURES)
_DOCUMENTED = {
    "search": "A part of the name, the e-mail address or the account id.",
    "account_status": "active, deactivated, for_deletion, closed.",
    "membership_status": "active, suspended, no_membership.",
    "claim_status": "managed, unmanaged.",
    "group": "In any of these groups: ids, Atlassian's ids or names.",
    "group_all": "In all of these groups.",
    "group_none": "In none of these groups.",
    "product": "Holds any of these products.",
    "activity": "known, never, unknown; jira:never asks of one product.",
    "inactive_days": "Not active for so many days; jira:60 asks of one product.",
    "inactive_product": "Where activity and inactivity are measured; all products without it.",
    "kind": "person, service, app, bot.",
    "exempt": "true or false.",
    "protected": "true or false.",
    "grants": "jira, confluence, jsm, bitbucket, administration, direct, unseen: by what access comes.",
    "rule": "Ids of cleanup rules: whom one of them would plan for now.",
    "partition": "active, inactive, never_active, unknown, suspended, deactivated, no_licence.",
}
FILTER_PARAMETERS = [
    *(OpenApiParameter(name, str, description=_DOCUMENTED.get(name, "")) for name in FILTERS if "added_" not in name),
    OpenApiParameter("added_before", OpenApiTypes.DATETIME),
    OpenApiParameter("added_after", OpenApiTypes.DATETIME),
    OpenApiParameter("added_days", int),
]
ORDERING_PARAMETER = OpenApiParameter("ordering", str, enum=list(ORDERINGS))


def group_keys(organization: Organization, given: Sequence[str | int], *, field: str) -> tuple[int, ...]:
    """Our keys of groups given by key, by Atlassian's id or by name, in order.

    Raises InvalidInput at `field` that names what is unknown, gone, or the name of several groups.
    """
    texts = list(dict.fromkeys(str(part).strip() for part in given))
    keys = [int(text) for text in texts if text.isascii() and text.isdecimal() and len(text) < 19]
    rows = Group.objects.of(organization).filter(vanished_at__isnull=True)
    by_key = {str(pk): pk for pk in rows.filter(pk__in=keys).values_list("pk", flat=True)}
    others = [text for text in texts if text not in by_key]
    by_id = dict(rows.filter(group_id__in=others).values_list("group_id", "pk")) if others else {}
    by_name: dict[str, list[int]] = {}
    if others:
        for name, pk in rows.filter(name__in=others).order_by("pk").values_list("name", "pk"):
            by_name.setdefault(name, []).append(pk)
    found: list[int] = []
    wrong: list[str] = []
    for text in texts:
        matches = [by_key[text]] if text in by_key else [by_id[text]] if text in by_id else by_name.get(text, [])
        if not matches:
            wrong.append(f"There is no group “{text[:100]}” in this organisation.")
        elif len(matches) > 1:
            ids = ", ".join(str(pk) for pk in matches)
            wrong.append(f"Several groups are called “{text[:100]}”. Give one of their ids: {ids}.")
        else:
            found.append(matches[0])
    if wrong:
        raise InvalidInput(fields={field: wrong})
    return tuple(dict.fromkeys(found))


def account_filters(
    organization: Organization, parameters: Mapping[str, Iterable[str]], *, prefix: str = ""
) -> AccountFilters:
    """Filters from lists of texts by parameter. Raises InvalidInput; `prefix` stands before its field names."""
    values = {name: [str(value) for value in given] for name, given in parameters.items() if name in FILTERS}
    for name in GROUP_NAMES:
        if name in values:
            parts = [part for text in values[name] for part in _parts(text)]
            values[name] = [str(pk) for pk in group_keys(organization, parts, field=f"{prefix}{name}")]
    filters, errors = AccountFilters.parse(values)
    if errors:
        raise InvalidInput(fields={f"{prefix}{name}": texts for name, texts in errors.items()})
    return filters


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
