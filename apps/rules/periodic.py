"""Tasks that run again and again whatever the rules are: (name, seconds between two runs)."""

PERIODIC = [("rules.sweep", 60)]
