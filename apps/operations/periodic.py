"""Tasks that beat sends: (name, seconds)."""

PERIODIC = [("operations.sweep", 15)]
