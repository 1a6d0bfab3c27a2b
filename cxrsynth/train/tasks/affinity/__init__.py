"""Training of AffinityNet."""
