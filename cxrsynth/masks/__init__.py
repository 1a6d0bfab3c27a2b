"""From raw class attention to labels: probabilities, refiners, masks."""
