"""Images and labels on their way from disk to a network."""
