"""Averages of weights over a training, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Best:
    """The averaged weights that labelled the validation images best so far, and for how long nothing was better."""

    score: float = -1.0
    update: int = 0
    stale: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, score: float, update: int, network: nn.Module) -> None:
        """Take the weights if the score is higher than any before."""
        if score > self.score:
            self.score, self.update, self.stale = score, update, 0
            self.weights = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        else:
            self.stale += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain types, for the checkpoint."""
        return {"score": self.score, "update": self.update, "stale": self.stale, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The reverse."""
        self.score, self.update, self.stale, self.weights = (state[n] for n in ("score", "update", "stale", "weights"))


def growing_average(decay: float) -> Any:
    """An exponential average whose memory grows with the run, so that a short one is not an average of its start."""

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], seen: Tensor) -> None:
        n = float(seen)
        keep = min(decay, (1 + n) / (10 + n))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - keep)
            else:
                old.copy_(new)

    return update
