"""Makes the environment `.venv` from requirements/<base|dev>.txt. Needs nothing but Python 3.11's own library.

    python3 script/bootstrap.py base

Packages are installed by pip with `--require-hashes`, from whatever index pip is set up for. A stamp in the
environment holds the hash of the lock that is in it, so that a second run returns at once.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".aum-lock"


def main(wanted: str) -> int:
    # Root's PostgreSQL runs as nobody, who must be able to read its programs.
    os.umask(0o022)
    # Two commands at once make it once. The folder itself is the lock, so that no file is left behind.
    folder = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    if is_current(wanted):
        return 0
    try:
        make(wanted)
    except subprocess.CalledProcessError as error:
        print(f"\nThe environment could not be made: {' '.join(map(str, error.cmd[:4]))} … failed.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nThe environment {VENV} could not be made: {error}", file=sys.stderr)
        return 1
    return 0


def lock_hash(name: str) -> str:
    text = (ROOT / "requirements" / f"{name}.txt").read_bytes()
    return f"{name} {hashlib.sha256(text).hexdigest()}"


def is_current(wanted: str) -> bool:
    """Whether the environment works and holds the lock that is wanted; dev holds all of base."""
    try:
        stamp = STAMP.read_text(encoding="utf-8").strip()
    except OSError:
        return False
    return stamp in {lock_hash(wanted), lock_hash("dev")} and runs(VENV / "bin" / "python")


def runs(python: Path) -> bool:
    """Whether this Python exists and starts; an update of the system can take away the one a .venv points to."""
    try:
        return subprocess.run([str(python), "-c", ""], check=False).returncode == 0
    except OSError:
        return False


def make(wanted: str) -> None:
    print(f"Making the environment .venv from requirements/{wanted}.txt (once; it is downloaded) ...", flush=True)
    STAMP.unlink(missing_ok=True)
    if VENV.exists() and not runs(VENV / "bin" / "python"):
        shutil.rmtree(VENV)
    if not VENV.exists():
        create()
    python = str(VENV / "bin" / "python")
    options = ["--require-hashes", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input", "--quiet"]
    lock = str(ROOT / "requirements" / f"{wanted}.txt")
    subprocess.run([*pip_command(python), "install", *options, "-r", lock], check=True)
    STAMP.write_text(lock_hash(wanted) + "\n", encoding="utf-8")


def create() -> None:
    """Make an empty environment; without pip in it where this Python comes without ensurepip, as Debian's does."""
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    if not has_ensurepip and importlib.util.find_spec("pip") is None:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise OSError(
            f"this Python has neither ensurepip nor pip. On Debian and Ubuntu: apt-get install python{version}-venv"
        )
    try:
        subprocess.run(
            [sys.executable, "-m", "venv", *([] if has_ensurepip else ["--without-pip"]), str(VENV)], check=True
        )
    except BaseException:
        shutil.rmtree(VENV, ignore_errors=True)
        raise


def pip_command(python: str) -> list[str]:
    has_pip = subprocess.run([python, "-c", "import pip"], check=False, capture_output=True).returncode == 0
    return [python, "-m", "pip"] if has_pip else [sys.executable, "-m", "pip", "--python", python]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
