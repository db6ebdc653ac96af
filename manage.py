#!/usr/bin/env python
"""Django's command-line entry point."""

import gc
import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aum.settings")
    if "migrate" in sys.argv[1:2]:
        # Rendering the state of a hundred migrations makes classes by the thousand: collecting them costs a quarter.
        gc.disable()
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
