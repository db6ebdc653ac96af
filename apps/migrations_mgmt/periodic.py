"""What runs by itself: name of the task and seconds between two runs."""

PERIODIC: list[tuple[str, int]] = [("migrations.advance", 30)]
