"""The worker process of `celery -A aum worker`."""

from __future__ import annotations

import os
from typing import Any

from celery.apps.worker import Worker as CeleryWorker
from celery.platforms import EX_FAILURE


class Worker(CeleryWorker):
    """Celery's worker, except that an unrecoverable error ends it at once.

    Celery then waits for its children first. A run may take a quarter of an hour, in which nothing is consumed: after a
    lost broker, kombu can fail in a way that Celery calls unrecoverable. Children die with their parent, whoever
    started the worker starts it again, and rows with leases are taken up by the next one.
    """

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> Any:
        if exitcode == EX_FAILURE:
            os._exit(EX_FAILURE)
        return super().stop(in_sighandler=in_sighandler, exitcode=exitcode)
