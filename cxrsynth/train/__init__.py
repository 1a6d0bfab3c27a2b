"""Training: the bundled model and the networks that use what it draws."""
