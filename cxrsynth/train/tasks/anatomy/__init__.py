"""Training of the anatomy controller."""
