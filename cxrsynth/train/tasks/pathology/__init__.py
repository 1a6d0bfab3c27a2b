"""Training of the pathology adapter."""
