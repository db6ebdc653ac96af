"""What runs by itself: name of the task and seconds between two runs."""

PERIODIC: list[tuple[str, int]] = [("audit.seal", 60), ("audit.ensure_partitions", 86_400)]
