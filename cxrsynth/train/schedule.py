"""The learning rate over a training."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, warmup: int, final: float) -> float:
    """Share of the full learning rate: linear warm-up, then a cosine down to ``final``."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
