"""The public process as a deployment starts it: gunicorn with AUM_SURFACE=public and no key that decrypts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import requests
from django.conf import settings
from django.db import connection

from apps.autoactivate.crypto import inbound_keys
from aum.runtime.embedded import free_port

ROOT = Path(__file__).parent.parent
START_SECONDS = 60.0


def _database_url() -> str:
    known = connection.settings_dict
    password = quote(str(known["PASSWORD"]), safe="")
    return f"postgres://{known['USER']}:{password}@{known['HOST']}:{known['PORT']}/{known['NAME']}"


@contextmanager
def public_process() -> Iterator[str]:
    """Its address, over the test's database. It gets the keys that docs/activation.md names for it and no other."""
    port = free_port()
    with tempfile.TemporaryDirectory() as home, (Path(home) / "log").open("wb") as log:
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": home,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "aum.settings",
            "DATABASE_URL": _database_url(),
            "REDIS_URL": os.environ["REDIS_URL"],
            "AUM_SECRET_KEY": settings.SECRET_KEY,
            "AUM_INSTANCE_ID": settings.AUM_INSTANCE_ID,
            "AUM_INBOUND_KEYS": ",".join(inbound_keys()),
            "AUM_SURFACE": "public",
            "AUM_ALLOWED_HOSTS": "127.0.0.1",
            "AUM_DATA_DIR": home,
            "PORT": str(port),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "python:aum.runtime.gunicorn_conf"],
            cwd=ROOT,
            env=environ,
            stdout=log,
            stderr=log,
        )
        try:
            until = time.monotonic() + START_SECONDS
            while True:
                try:
                    requests.get(f"http://127.0.0.1:{port}/", timeout=5)
                    break
                except requests.ConnectionError:
                    assert process.poll() is None, (Path(home) / "log").read_text(errors="replace")
                    assert time.monotonic() < until, (Path(home) / "log").read_text(errors="replace")
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)
