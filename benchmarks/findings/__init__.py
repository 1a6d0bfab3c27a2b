"""Findings against real lesions: words, networks, control, downstream utility, and sheets to guess at."""
