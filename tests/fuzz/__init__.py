"""Random attacks on the command line: whatever is in a file or option, nothing crashes, hangs, leaves its folder or
gets lost. ``make fuzz`` runs a thousand; every one has a seed that repeats it."""
