"""The Celery application: it carries ids between processes; Postgres rows are the truth."""

import os
from functools import cached_property
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_process_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aum.settings")


class Aum(Celery):
    """Celery with workers that end at once when they are beyond recovery."""

    task_cls = "aum.common.tasks:AumTask"

    @cached_property
    def Worker(self) -> Any:
        # Named, not imported: the module would need this application.
        return self.subclass_with_self("aum.worker:Worker")  # type: ignore[arg-type]


app = Aum("aum")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def _keep_django_logging(**_kwargs: Any) -> None:
    """Celery would replace the handlers; connecting this signal keeps those of the settings."""


@worker_process_init.connect
def _prepare_child(**_kwargs: Any) -> None:
    """A forked child ends with its parent and opens database connections of its own."""
    from django.db import connections

    from aum.runtime.pdeath import die_with_parent

    die_with_parent()
    for connection in connections.all(initialized_only=True):
        connection.close()
        close_pool = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()
