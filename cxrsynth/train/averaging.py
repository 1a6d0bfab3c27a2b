"""Averages of weights over a training, and the best of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Best:
    """The averaged weights that labelled the validation images best so far, and for how long nothing was better."""

    score: float = float("-inf")
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


class Changing:
    """What a training changes of a network: trainable parameters, and stored buffers such as those of batch norm.

    Which they are is settled once: while networks take turns, those of the other are frozen for a moment. As a part of
    a checkpoint it leaves out the frozen rest, which is built again.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        stored = network.state_dict()
        self.names = [name for name, value in network.named_parameters() if value.requires_grad]
        self.names += [name for name, _ in network.named_buffers() if name in stored]

    def tensors(self) -> dict[str, Tensor]:
        """Name -> the live tensor."""
        every = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        return {name: every[name].detach() for name in self.names}

    def state_dict(self) -> dict[str, Tensor]:
        """Name -> weights."""
        return self.tensors()

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The reverse, in place."""
        for name, value in self.tensors().items():
            value.copy_(state[name])


class Average:
    """Exponential average of what a training changes.

    Its memory grows with the run, so that a short one is not an average of its start.

    Args:
        network: whose weights are averaged.
        decay: share kept at each update once the memory is full; 0 follows the weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.count, self.live = decay, 0, Changing(network)
        self.values = {name: value.clone() for name, value in self.live.tensors().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after an update."""
        keep = min(self.decay, (1 + self.count) / (10 + self.count))
        self.count += 1
        for name, value in self.live.tensors().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - keep)
            else:
                self.values[name].copy_(value)

    def apply(self) -> None:
        """Put the averages in place of the weights, for good."""
        self.live.load_state_dict(self.values)

    @torch.no_grad()
    def settle(self, prefix: str) -> None:
        """Put the averages in place of the weights whose names begin so."""
        for name, value in self.live.tensors().items():
            if name.startswith(prefix):
                value.copy_(self.values[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in place of the weights, which are back afterwards."""
        own = {name: value.clone() for name, value in self.live.tensors().items()}
        self.apply()
        try:
            yield
        finally:
            self.live.load_state_dict(own)

    def to(self, device: torch.device) -> None:
        """Keep the averages on a device."""
        self.values = {name: value.to(device) for name, value in self.values.items()}

    def state_dict(self) -> dict[str, Any]:
        """Plain types, for the checkpoint."""
        return {"count": self.count, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The reverse."""
        self.count, self.values = state["count"], state["values"]
