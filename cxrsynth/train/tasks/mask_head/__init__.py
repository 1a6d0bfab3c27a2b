"""Training of the mask head."""
