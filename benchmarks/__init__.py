"""Each benchmark measures AUM beside the limit of the same work, in one run, in random order (docs/performance.md)."""
