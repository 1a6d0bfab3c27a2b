"""Batches of labelled images, and the processes that read them."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """What an update sees.

    Attributes:
        x: (B, 1, S, S) float32 in 0..1.
        target: (B, ...) what the network shall say.
        names: of the images or masks, for an error message.
    """

    x: Tensor
    target: Tensor
    names: list[str]

    def to(self, device: torch.device) -> Batch:
        """The same on a device; a GPU copies pinned memory while it computes."""
        return Batch(self.x.to(device, non_blocking=True), self.target.to(device, non_blocking=True), self.names)

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU reads by itself; asked by the loader."""
        return Batch(self.x.pin_memory(), self.target.pin_memory(), self.names)


def leave_signals(worker: int) -> None:
    """Start of a reading process: Ctrl-C is the training's to answer, and the training may end this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
