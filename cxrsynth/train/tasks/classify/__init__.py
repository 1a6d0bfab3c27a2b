"""Training of multi-label classifiers."""
