"""`rotate-key`: after a new key was put in front of AUM_ENCRYPTION_KEYS (docs/deploy.md). `inbound-keys`: what the
public surface is given instead of them (docs/activation.md)."""

from __future__ import annotations

from apps.autoactivate.crypto import inbound_keys
from apps.dashboard.cli.shared import DONE, Cli, Subcommands, command
from apps.organizations.services import rotate_secrets


def add(commands: Subcommands) -> None:
    command(commands, "rotate-key", rotate, "encrypt every saved secret with the newest key", organization=False)
    command(commands, "inbound-keys", show_inbound, "print AUM_INBOUND_KEYS for the public surface", organization=False)


def rotate(cli: Cli) -> int:
    count = rotate_secrets()
    words = f"{count} secret{'' if count == 1 else 's'} encrypted with the newest key. The older keys may go now."
    cli.show({"rotated": count}, [words])
    return DONE


def show_inbound(cli: Cli) -> int:
    keys = ",".join(inbound_keys())
    cli.show({"AUM_INBOUND_KEYS": keys}, [keys])
    return DONE
