"""Verify an evidence pack of AUM, offline, with nothing but Python 3.9 or later.

    python3 verify.py PACK [--key HEX]

PACK is the zip file, or the folder that it was unpacked into. Ends with 0 when everything is as it was made, with 1
when not, and names what differs. `--key` is the public key of the installation (64 hexadecimal digits), which its owner
tells you on another way; without it the key in the pack is used, and its fingerprint is printed for you to compare.

Checked: every byte of the zip; the hash of each file against the signed manifest; the signature of the manifest; the
hash of the plan; each log entry against the sealed segment that holds it; each segment's root, head, signature and
predecessor; each name and e-mail against what the entries were hashed with.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

Point = tuple[int, int, int, int]
MANIFEST, SIGNATURE, KEY = "manifest.json", "manifest.sig", "key.json"
ENTRY = 8 + 32
MODE = 0o100644 << 16


# --- Ed25519 (RFC 8032), verification only ---------------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def _x_of(y: int, sign: int) -> int | None:
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    return P - x if (x & 1) != sign else x


def _point(data: bytes) -> Point | None:
    if len(data) != 32:
        return None
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = _x_of(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def _add(a: Point, b: Point) -> Point:
    one, two = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    three, four = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = two - one, four - three, four + three, two + one
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(number: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = _add(result, point)
        point, number = _add(point, point), number >> 1
    return result


BASE = _point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signature_is_valid(public: bytes, message: bytes, signature: bytes) -> bool:
    """True when the 64 bytes `signature` were made over `message` by the owner of the 32 bytes `public`."""
    if len(signature) != 64:
        return False
    key, nonce = _point(public), _point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if BASE is None or key is None or nonce is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = _times(s, BASE), _add(nonce, _times(k, key))
    return not ((left[0] * right[2] - right[0] * left[2]) % P or (left[1] * right[2] - right[1] * left[2]) % P)


# --- what AUM hashes (docs/decisions/0005-audit-chain.md) ----------------------------------------------------------


def sha(parts: Any) -> bytes:
    """SHA-256 over a JSON list without spaces."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode("utf-8")).digest()


class Files:
    """The files of the pack, from the zip or from a folder."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.archive = None if os.path.isdir(path) else zipfile.ZipFile(path)

    def names(self) -> list[str]:
        if self.archive:
            return self.archive.namelist()
        found: list[str] = []
        for folder, _folders, files in os.walk(self.path):
            found += [os.path.relpath(os.path.join(folder, name), self.path).replace(os.sep, "/") for name in files]
        return found

    def read(self, name: str) -> bytes:
        if self.archive:
            return self.archive.read(name)
        with open(os.path.join(self.path, *name.split("/")), "rb") as stream:
            return stream.read()

    def lines(self, name: str) -> Iterator[str]:
        for line in io.BytesIO(self.read(name)):
            yield line.rstrip(b"\n").decode("utf-8")


class Sink:
    """Compares what is written with a file, piece by piece; cannot be sought, like the stream that the pack left by."""

    def __init__(self, path: str) -> None:
        self.stream = open(path, "rb")  # noqa: SIM115
        self.same = True

    def write(self, data: Any) -> int:
        if self.same and self.stream.read(len(data)) != bytes(data):
            self.same = False
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def finish(self) -> bool:
        rest = self.stream.read(1)
        self.stream.close()
        return self.same and not rest


def member(name: str) -> zipfile.ZipInfo:
    """How the pack stores a file: uncompressed, without a date, so that its bytes follow from its contents."""
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_STORED, MODE, 3
    return info


def zip_is_canonical(path: str) -> bool:
    """True when the zip holds nothing but what its files make: a changed byte in any header is noticed as well."""
    sink = Sink(path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(sink, "w") as again:  # type: ignore[call-overload]
        for name in archive.namelist():
            again.writestr(member(name), archive.read(name))
    return sink.finish()


def verify(path: str, trusted_key: str = "", write: Callable[[str], Any] = print) -> list[str]:
    """Check everything; returns the list of what is wrong, empty when nothing is."""
    wrong: list[str] = []
    try:
        files = Files(path)
        if files.archive and not zip_is_canonical(path):
            wrong.append("the zip file was changed after it was made")
        manifest_bytes = files.read(MANIFEST)
        manifest = json.loads(manifest_bytes.decode("utf-8"))
        key = json.loads(files.read(KEY).decode("utf-8"))
        keys = {entry["key_id"]: bytes.fromhex(entry["public_key"]) for entry in key["keys"]}
        wrong += _keys(keys, manifest, trusted_key, write)
        public = keys.get(manifest["key_id"], b"")
        if not signature_is_valid(public, sha256(manifest_bytes), bytes.fromhex(files.read(SIGNATURE).decode("ascii"))):
            wrong.append("the signature of the manifest is not valid")
        wrong += _listed(files, manifest)
        if not wrong:
            wrong += _plan(files, manifest) + _chain(files, keys, write) + _people(files)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        wrong.append(f"the pack cannot be read: {type(error).__name__}: {error}")
    return wrong


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _keys(keys: dict[str, bytes], manifest: dict[str, Any], trusted_key: str, write: Callable[[str], Any]) -> list[str]:
    for key_id, public in keys.items():
        if sha256(public).hex()[:16] != key_id:
            return [f"the key {key_id} is not the one that its name says"]
    if trusted_key and keys.get(manifest["key_id"], b"").hex() != trusted_key.strip().lower():
        return ["the pack is signed with another key than the one given"]
    if not trusted_key:
        write("Signed with key {}. Compare its fingerprint with the installation's own.".format(manifest["key_id"]))
    return []


def _listed(files: Files, manifest: dict[str, Any]) -> list[str]:
    """Each listed file as it was, and no other."""
    wrong: list[str] = []
    listed = {entry["name"]: entry for entry in manifest["files"]}
    present = [name for name in files.names() if name not in (MANIFEST, SIGNATURE)]
    for name in sorted(set(present) - set(listed)):
        wrong.append(f"{name} is not listed in the manifest")
    for name, entry in listed.items():
        if name not in present:
            wrong.append(f"{name} is missing")
            continue
        data = files.read(name)
        if len(data) != entry["bytes"] or sha256(data).hex() != entry["sha256"]:
            wrong.append(f"{name} was changed")
    return wrong


def _plan(files: Files, manifest: dict[str, Any]) -> list[str]:
    """The hash that was approved is that of exactly these lines."""
    inner, first = hashlib.sha256(), True
    for line in files.lines("plan.jsonl"):
        inner.update(("" if first else "\n").encode() + line.encode("utf-8"))
        first = False
    bound = "{}:{}:{}".format(manifest["organization"], manifest["kind"], inner.hexdigest())
    expected = manifest["plan_hash"]
    if expected and sha256(bound.encode("utf-8")).hex() != expected:
        return ["the plan does not have the hash that was approved"]
    return []


def _chain(files: Files, keys: dict[str, bytes], write: Callable[[str], Any]) -> list[str]:
    """Each entry is in a sealed segment, each segment is signed and continues the one before."""
    wrong: list[str] = []
    digests: dict[int, bytes] = {}
    previous: dict[str, Any] | None = None
    chain = json.loads(files.read("chain.json").decode("utf-8"))
    for segment in chain["segments"]:
        number, listing = segment["number"], bytes.fromhex(segment["digests"])
        head = sha(
            [
                "aum-segment",
                chain["organization"],
                number,
                segment["first_id"],
                segment["last_id"],
                segment["count"],
                segment["root"],
                segment["previous_head"],
                segment["sealed_at"],
            ]
        )
        if sha256(listing).hex() != segment["root"]:
            wrong.append(f"the list of segment {number} does not fit its root")
        if head.hex() != segment["head"]:
            wrong.append(f"the head of segment {number} does not fit its contents")
        if not signature_is_valid(keys.get(segment["key_id"], b""), head, bytes.fromhex(segment["signature"])):
            wrong.append(f"the signature of segment {number} is not valid")
        if previous and previous["number"] + 1 == number and previous["head"] != segment["previous_head"]:
            wrong.append("segment {} does not continue segment {}".format(number, previous["number"]))
        for start in range(0, len(listing), ENTRY):
            event_id = int.from_bytes(listing[start : start + 8], "big", signed=True)
            digests[event_id] = listing[start + 8 : start + ENTRY]
        previous = segment
    entries, unsealed = 0, 0
    for line in files.lines("events.jsonl"):
        entry = json.loads(line)
        entries += 1
        if entry["id"] not in digests:
            unsealed += 1
        elif sha(entry["row"]) != digests[entry["id"]]:
            wrong.append("log entry {} is not as it was sealed".format(entry["id"]))
    write("{} log entries, {} segments.".format(entries, len(chain["segments"])))
    if unsealed:
        write(f"{unsealed} entries were not sealed yet when the pack was made: only the manifest proves them.")
    return wrong


def _people(files: Files) -> list[str]:
    """Names and e-mails are those that the entries were hashed with."""
    wrong: list[str] = []
    for line in files.lines("people.jsonl"):
        person = json.loads(line)
        if person["erased"]:
            continue
        parts = ["aum-identity", person["salt"], person["kind"], person["key"], person["name"], person["email"]]
        if sha(parts).hex() != person["commitment"]:
            wrong.append("the name or e-mail of {} {} was changed".format(person["kind"], person["key"]))
    return wrong


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Verify an evidence pack of AUM.")
    parser.add_argument("pack", nargs="?", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--key", default="", help="public key of the installation, 64 hexadecimal digits")
    options = parser.parse_args(arguments)
    wrong = verify(options.pack, options.key)
    for sentence in wrong:
        print("REFUSED: " + sentence)
    print("The pack was changed or is not complete." if wrong else "The pack is as it was made.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
