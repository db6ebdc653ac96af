"""Each benchmark measures AUM beside the limit of the same work, in one run and in random order."""
