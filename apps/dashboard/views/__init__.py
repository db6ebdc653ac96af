"""Pages that read across apps, one module a group of screens."""
