"""The list of effective writes: kept in memory, appended to a file, replayed at start.

A line is written and flushed to the operating system before the answer leaves, so a killed process loses nothing that
it confirmed. A last line cut short by the kill was never confirmed and is dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from apps.sandbox.world import Operation

ORGANISATION_FILE = "organisation.json"
LEDGER_FILE = "ledger.jsonl"
GENERATOR_VERSION = 1
DEFAULT_PEOPLE = 1248
DEFAULT_SEED = 7


class StateDirError(Exception):
    """The state folder belongs to another organisation or another running process; the text says which."""


class Ledger:
    """Entries are dicts with seq, at (ms), method, path, actor, account, group, effect, request_id, operations."""

    def __init__(self, directory: Path | None) -> None:
        self.entries: list[dict[str, Any]] = []
        self._file: BinaryIO | None = None
        if directory is None:
            return
        path = directory / LEDGER_FILE
        self._file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateDirError(f"another sandbox is using {directory}") from error
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
        self.entries = [json.loads(line) for line in content[:whole].splitlines()]

    def append(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Number the entry and make it last; OSError when the disk refuses, before anything is confirmed."""
        entry = {"seq": len(self.entries) + 1, **entry}
        if self._file is not None:
            self._file.write(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        self.entries.append(entry)
        return entry

    def clear(self) -> None:
        self.entries.clear()
        if self._file is not None:
            self._file.truncate(0)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def operations(self) -> list[Operation]:
        return [operation for entry in self.entries for operation in entry["operations"]]


def load_or_make(directory: Path | None, *, people: int | None, seed: int | None, as_of: int) -> dict[str, int]:
    """The parameters of the organisation: `{people, seed, as_of}`. What the folder holds wins over the defaults.

    Raises StateDirError when the folder was made with other values than those given.
    """
    made = {
        "people": DEFAULT_PEOPLE if people is None else people,
        "seed": DEFAULT_SEED if seed is None else seed,
        "as_of": as_of,
    }
    if directory is None:
        return made
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / ORGANISATION_FILE
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["generator"] != GENERATOR_VERSION:
            raise StateDirError(f"{path} was made by another version of the sandbox; choose an empty folder")
        for name, wanted in (("people", people), ("seed", seed)):
            if wanted is not None and stored[name] != wanted:
                raise StateDirError(f"{path} holds {name}={stored[name]}, asked for {wanted}; choose an empty folder")
        return {name: int(stored[name]) for name in ("people", "seed", "as_of")}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({**made, "generator": GENERATOR_VERSION}), encoding="utf-8")
    temporary.replace(path)
    return made
