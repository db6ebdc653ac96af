"""The public surface as a process of its own: it starts without the keys of credentials and serves hooks only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import json, django
django.setup()
from django.conf import settings
from django.test import Client
from apps.autoactivate.crypto import decrypt, encrypt
client = Client()
paths = ["/", "/login/", "/o/acme/", "/api/v1/organizations/", "/admin/", "/static/css/aum.css", "/hooks/style.css"]
print(json.dumps({
    "status": {path: client.get(path).status_code for path in paths},
    "keys": [settings.AUM_ENCRYPTION_KEYS, settings.AUM_AUDIT_SIGNING_KEY],
    "opened": decrypt(encrypt("signing secret")),
    "get": client.get("/hooks/jira/key").status_code,
}))
"""


def test_public_surface_starts_without_keys_of_credentials_and_serves_nothing_but_hooks() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUM_")}
    environment |= {
        "DJANGO_SETTINGS_MODULE": "aum.settings",
        "AUM_SURFACE": "public",
        "AUM_SECRET_KEY": "of the public process",
        "AUM_INSTANCE_ID": "test",
        "AUM_ALLOWED_HOSTS": "testserver",
        "AUM_INBOUND_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    }

    ran = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )

    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert {path for path, status in found["status"].items() if status != 404} == {"/hooks/style.css"}
    assert found["keys"] == [[], ""]
    assert (found["opened"], found["get"]) == ("signing secret", 405)
