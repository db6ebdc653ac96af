"""What `script/server` and `script/aum` share: the embedded servers of one data folder and the variables they give."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aum.runtime.embedded import EmbeddedPostgres, EmbeddedValkey
from aum.runtime.environment import ROOT, InstallationError, Layout, secret_variables, server_password


@dataclass(frozen=True)
class Installation:
    """The servers of our own (None where the environment gives an address) and the variables for every process."""

    layout: Layout
    postgres: EmbeddedPostgres | None
    valkey: EmbeddedValkey | None
    variables: dict[str, str]

    @property
    def environ(self) -> dict[str, str]:
        """The whole environment of a process of this installation."""
        return {**os.environ, **self.variables}

    @property
    def database_url(self) -> str:
        """DATABASE_URL as psycopg reads it."""
        return database_url(self.environ)


def database_url(environ: Mapping[str, str]) -> str:
    """DATABASE_URL, or what DATABASE_URL_FILE holds, as psycopg reads it: Django allows more names of the scheme."""
    return re.sub(r"^(psql|pgsql)://", "postgres://", given(environ, "DATABASE_URL"))


def given(environ: Mapping[str, str], name: str) -> str:
    """The value of NAME, or of the file that NAME_FILE names; empty when neither is there."""
    path = environ.get(f"{name}_FILE")
    if not path:
        return environ.get(name, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InstallationError(f"{name}_FILE={path} cannot be read: {error.strerror}") from None


def open_installation(layout: Layout, environ: Mapping[str, str]) -> Installation:
    """The installation in `layout`; secrets are made at its first start. Starts nothing.

    The caller holds the lock of the data folder. Raises InstallationError when secrets are gone.
    """
    postgres = valkey = None
    variables = {"AUM_DATA_DIR": str(layout.data_dir)}
    if not given(environ, "DATABASE_URL"):
        password = server_password(layout, "postgres_password", layout.postgres_dir)
        postgres = EmbeddedPostgres(layout.postgres_dir, password=password)
        variables |= {"DATABASE_URL": postgres.url, "AUM_EMBEDDED": "1"}
    if not given(environ, "REDIS_URL"):
        password = server_password(layout, "valkey_password", layout.valkey_dir)
        valkey = EmbeddedValkey(layout.valkey_dir, password=password)
        variables["REDIS_URL"] = valkey.url
    variables |= secret_variables(layout, environ)
    # Modules are found from the project's folder whatever folder the caller is in.
    paths = [str(ROOT), *filter(None, [environ.get("PYTHONPATH")])]
    variables |= {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}
    # Many arenas of many threads are most of a worker's memory, for no gain at our sizes.
    variables["MALLOC_ARENA_MAX"] = environ.get("MALLOC_ARENA_MAX", "2")
    return Installation(layout, postgres, valkey, variables)


def set_aside(folder: Path) -> Path:
    """Rename `folder` so that a new one can take its place; returns the new name."""
    aside = folder.with_name(f"{folder.name}-broken-{time.strftime('%Y%m%d-%H%M%S')}")
    folder.rename(aside)
    return aside
