"""The folders, secrets and variables of one installation that runs from a data folder (`var/` by default)."""

import base64
import contextlib
import fcntl
import json
import os
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]

# What the settings need and what makes a first value of it. Each may be given as NAME or NAME_FILE instead.
_SECRETS: dict[str, Callable[[], str]] = {
    "AUM_SECRET_KEY": lambda: secrets.token_urlsafe(50),
    "AUM_ENCRYPTION_KEYS": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),  # one Fernet key
    "AUM_AUDIT_SIGNING_KEY": lambda: secrets.token_hex(32),  # an Ed25519 seed
    "AUM_INSTANCE_ID": lambda: str(uuid.uuid4()),
}


class InstallationError(RuntimeError):
    """This installation cannot start as it stands. The text says why and what to do."""


class AlreadyRunningError(InstallationError):
    """Another process holds the data folder."""

    def __init__(self, data_dir: Path, holder: dict[str, Any]) -> None:
        self.holder = holder
        where = f" at {holder['address']}" if holder.get("address") else ""
        what = holder.get("command", "another process")
        super().__init__(
            f"{what} (process {holder.get('pid', 'unknown')}) is already running{where} with the data folder "
            f"{data_dir}.\nStop it first, or give this one a folder of its own: AUM_DATA_DIR=/path/to/folder"
        )


@dataclass(frozen=True)
class Layout:
    """Where an installation keeps its things. Passwords are in `secrets_dir`, `run_dir` and `valkey_dir` only."""

    data_dir: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Layout":
        """The layout that AUM_DATA_DIR names, else `var` in the project's folder."""
        return cls(Path(environ.get("AUM_DATA_DIR") or ROOT / "var").absolute())

    @property
    def secrets_dir(self) -> Path:
        return self.data_dir / "secrets"

    @property
    def run_dir(self) -> Path:
        return self.data_dir / "run"

    @property
    def backups_dir(self) -> Path:
        return self.data_dir / "backups"

    @property
    def postgres_dir(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def valkey_dir(self) -> Path:
        return self.data_dir / "valkey"

    @property
    def sandbox_dir(self) -> Path:
        return self.data_dir / "sandbox"

    @property
    def shared_environment_path(self) -> Path:
        """The variables of the running server, for commands beside it."""
        return self.run_dir / "env.json"

    @property
    def demo_wish_path(self) -> Path:
        """A file that asks for the sandbox before a demo organisation exists."""
        return self.run_dir / "demo-wanted"

    def create(self) -> None:
        """Make the folders. Raises InstallationError when that is not allowed."""
        try:
            # Others may pass through, because root's PostgreSQL is nobody; they cannot list it.
            self.data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
            for folder in (self.secrets_dir, self.run_dir, self.backups_dir):
                folder.mkdir(mode=0o700, exist_ok=True)
                # A folder of somebody else's, as after a first start by root, shows here and not in the middle.
                probe = folder / ".writable"
                probe.touch()
                probe.unlink()
        except OSError as error:
            raise InstallationError(
                f"Cannot write in the data folder {self.data_dir} ({error.strerror}: {error.filename}).\n"
                "Run as the user who owns it, or set AUM_DATA_DIR to a folder of your own."
            ) from None

    def secret(self, name: str, make: Callable[[], str]) -> str:
        """The secret kept in the file `name`; made with `make` when there is none yet."""
        path = self.secrets_dir / name
        with contextlib.suppress(FileNotFoundError):
            value = path.read_text(encoding="utf-8").strip()
            if value:
                return value
        value = make()
        write_private(path, value)
        return value


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path`, readable for the owner only, as a whole or not at all."""
    building = path.with_name(f".{path.name}.{os.getpid()}")
    building.unlink(missing_ok=True)
    descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    building.replace(path)


def secret_variables(layout: Layout, environ: Mapping[str, str]) -> dict[str, str]:
    """NAME_FILE variables for every secret that `environ` does not give itself; missing files are made.

    Raises InstallationError when a database is there and its secrets are not: new ones could not read it.
    """
    variables: dict[str, str] = {}
    has_database = (layout.postgres_dir / "PG_VERSION").exists()
    for name, make in _SECRETS.items():
        if environ.get(name) or environ.get(f"{name}_FILE"):
            continue
        path = layout.secrets_dir / name.lower()
        if has_database and not path.exists():
            raise InstallationError(
                f"{path} is missing, but {layout.postgres_dir} holds a database made with it.\n"
                f"Bring back the folder {layout.secrets_dir} from your copy of it. Without the encryption keys the "
                "stored Atlassian credentials cannot be read."
            )
        layout.secret(name.lower(), make)
        variables[f"{name}_FILE"] = str(path)
    return variables


def server_password(layout: Layout, name: str, data_dir: Path) -> str:
    """The password of an embedded server; made at its first start.

    Raises InstallationError when `data_dir` was made with a password that is gone.
    """
    path = layout.secrets_dir / name
    if (data_dir / "PG_VERSION").exists() and not path.exists():
        raise InstallationError(
            f"{path} is missing, but {data_dir} holds a database that asks for it. Bring back the folder "
            f"{layout.secrets_dir} from your copy of it."
        )
    return layout.secret(name, lambda: secrets.token_urlsafe(24))


class DataDirLock:
    """Says that one process owns the data folder. The kernel lets go of it when that process ends, however it ends."""

    def __init__(self, layout: Layout, *, command: str) -> None:
        self._layout = layout
        self._command = command
        self._stream: IO[str] | None = None

    def acquire(self, *, wait_seconds: float = 0.0) -> None:
        """Take the lock within `wait_seconds`. Raises AlreadyRunningError with what the holder says of itself."""
        deadline = time.monotonic() + wait_seconds
        stream = open(self._layout.run_dir / "lock", "a+", encoding="utf-8")  # noqa: SIM115 - open as long as it holds
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    stream.close()
                    raise AlreadyRunningError(self._layout.data_dir, holder_of(self._layout)) from None
                time.sleep(0.1)
        self._stream = stream
        self.describe()

    def describe(self, **facts: Any) -> None:
        """Leave word of who holds the folder, for those who find it taken."""
        holder = {"pid": os.getpid(), "command": self._command, **facts}
        write_private(self._layout.run_dir / "holder.json", json.dumps(holder))

    def release(self) -> None:
        """Let go of the folder."""
        if self._stream is not None:
            (self._layout.run_dir / "holder.json").unlink(missing_ok=True)
            self._stream.close()
            self._stream = None


def holder_of(layout: Layout) -> dict[str, Any]:
    """What the process that holds, or last held, the data folder says of itself; empty when nothing is known."""
    try:
        holder = json.loads((layout.run_dir / "holder.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def read_shared_environment(layout: Layout) -> dict[str, str]:
    """The variables that the running server left for commands; empty when it left none."""
    try:
        variables = json.loads(layout.shared_environment_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in variables.items()}
