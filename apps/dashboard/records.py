"""What the audit log, which lies below, learns of operations, imports and syncs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from django.db.models import Exists, OuterRef, Q

from apps.audit import registry, retention
from apps.audit.registry import OperationFacts
from apps.dashboard.activity import OPERATION_WORDS, operations_named
from apps.operations.models import Operation
from apps.organizations.models import Organization
from apps.users.models import ImportFile, SyncRun

_NAMED_AT_MOST = 1000
# Runs judge data trust by syncs before them; so many of the newest stay however old they are.
_KEPT_SYNCS = 10


class Lookup:
    """Operations as the log asks about them (`apps.audit.registry.OperationLookup`)."""

    def facts(self, ids: Collection[int]) -> Mapping[int, OperationFacts]:
        if not ids:
            return {}
        labels = dict(Operation.Kind.choices)
        rows = Operation.objects.filter(pk__in=ids).values_list("pk", "name", "kind")
        return {pk: OperationFacts(name, kind, str(labels.get(kind, kind))) for pk, name, kind in rows}

    def of_kinds(self, organization: Organization, kinds: Collection[str]) -> Iterable[int]:
        return Operation.objects.of(organization).filter(kind__in=kinds).order_by().values_list("pk", flat=True)

    def of_statuses(self, organization: Organization, words: Collection[str]) -> Iterable[int]:
        statuses = [status for word in words for status in OPERATION_WORDS.get(word, ())]
        return Operation.objects.of(organization).filter(status__in=statuses).order_by().values_list("pk", flat=True)

    def named(self, organization: Organization, text: str) -> Mapping[int, datetime]:
        found = Operation.objects.of(organization).filter(operations_named(organization, text))
        return dict(found.order_by("-pk").values_list("pk", "created_at")[:_NAMED_AT_MOST])


def _remove_import_files(organization: Organization, before: datetime) -> int:
    """Files and their lines; the runs that came of them stay."""
    old = ImportFile.objects.of(organization).filter(created_at__lt=before)
    return int(old.delete()[1].get(ImportFile._meta.label, 0))


def _remove_syncs(organization: Organization, before: datetime) -> int:
    """Ended syncs but for the newest ten and those that an open plan was made from."""
    kept = SyncRun.objects.of(organization).order_by("-pk").values_list("pk", flat=True)[:_KEPT_SYNCS]
    planned = Operation.objects.of(organization).filter(status__in=Operation.OPEN, sync_run_id=OuterRef("pk"))
    old = SyncRun.objects.of(organization).filter(~Exists(planned), finished_at__lt=before)
    old = old.filter(~Q(status__in=SyncRun.OPEN)).exclude(pk__in=list(kept))
    return int(old.delete()[1].get(SyncRun._meta.label, 0))


def register() -> None:
    """Fill the registries of `apps.audit`."""
    registry.register_operations(Lookup())
    retention.register(
        retention.RetentionKind(
            "imports",
            "Imported CSV files",
            "Uploaded files with their lines; what was done with them stays.",
            _remove_import_files,
        )
    )
    retention.register(
        retention.RetentionKind(
            "syncs", "Directory syncs", "Records of past syncs; the newest ten always stay.", _remove_syncs
        )
    )
