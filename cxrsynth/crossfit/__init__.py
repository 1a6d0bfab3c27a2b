"""Cross-fitting: every image is looked at by a network that learned from other images of the same kind."""
