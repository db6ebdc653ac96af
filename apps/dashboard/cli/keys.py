"""`rotate-key`: after a new key was put in front of AUM_ENCRYPTION_KEYS (docs/deploy.md)."""

from __future__ import annotations

from apps.dashboard.cli.shared import DONE, Cli, Subcommands, command
from apps.organizations.services import rotate_secrets


def add(commands: Subcommands) -> None:
    command(commands, "rotate-key", rotate, "encrypt every saved secret with the newest key", organization=False)


def rotate(cli: Cli) -> int:
    count = rotate_secrets()
    words = f"{count} secret{'' if count == 1 else 's'} encrypted with the newest key. The older keys may go now."
    cli.show({"rotated": count}, [words])
    return DONE
