"""Writes the secrets of a deployment with docker-compose.yml. Needs nothing but Python's own library.

The folder is closed to others; the files in it are not, because the containers run as a user of their own.
"""

import base64
import secrets
import sys
import uuid
from pathlib import Path


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    postgres_password = ensure(folder / "postgres_password", secrets.token_hex(24))
    redis_password = ensure(folder / "redis_password", secrets.token_hex(24))
    ensure(folder / "database_url", f"postgres://aum:{postgres_password}@postgres:5432/aum")
    ensure(folder / "redis_url", f"redis://:{redis_password}@redis:6379/0")
    ensure(folder / "aum_secret_key", secrets.token_urlsafe(50))
    ensure(folder / "aum_encryption_keys", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    ensure(folder / "aum_audit_signing_key", secrets.token_hex(32))
    ensure(folder / "aum_instance_id", str(uuid.uuid4()))
    print(f"The secrets are in {folder}. Keep a copy outside this machine: without aum_encryption_keys the stored")
    print(
        "Atlassian credentials cannot be read, and without aum_audit_signing_key the audit chain cannot be continued."
    )
    return 0


def ensure(path: Path, value: str) -> str:
    """The content of `path`; `value` is written when there is none."""
    if not path.exists():
        path.write_text(value, encoding="utf-8")
        path.chmod(0o644)
    return path.read_text(encoding="utf-8").strip()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
