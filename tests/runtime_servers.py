"""Throwaway PostgreSQL and Valkey servers for tests and benchmarks.

    with postgres() as database_url, valkey() as redis_url: ...

They lie under the system's temporary folder, which everybody may enter, because root's PostgreSQL runs as nobody.
Nothing is synced to disk, and the servers end with the process that made them.
"""

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aum.runtime.embedded import EmbeddedPostgres, EmbeddedValkey


@contextlib.contextmanager
def postgres(**settings: str) -> Iterator[str]:
    """A new PostgreSQL server; yields its DATABASE_URL (superuser `aum`, empty database `aum`)."""
    with _folder("aum-postgres-") as folder:
        server = EmbeddedPostgres(folder / "data", password=secrets.token_urlsafe(16), durable=False, settings=settings)
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


@contextlib.contextmanager
def valkey() -> Iterator[str]:
    """A new, empty Valkey server; yields its REDIS_URL."""
    with _folder("aum-valkey-") as folder:
        server = EmbeddedValkey(folder / "data", password=secrets.token_urlsafe(16), durable=False)
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


@contextlib.contextmanager
def _folder(prefix: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
