"""What a denoiser is told: text states, which of them count, and what some families want besides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Conditioning:
    """The encoded texts of a batch.

    Attributes:
        states: (B, T, D) float32 text states.
        mask: (B, T) int, 1 for tokens that count; None where all do.
        pooled: (B, P) float32, one vector a text; None for families without.
    """

    states: Tensor
    mask: Tensor | None = None
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.states)

    def after(self, other: Conditioning) -> Conditioning:
        """This batch behind ``other``, as classifier-free guidance wants ``[unconditional, conditional]``."""
        return Conditioning(
            torch.cat([other.states, self.states]), _cat(other.mask, self.mask), _cat(other.pooled, self.pooled)
        )

    def expand(self, count: int) -> Conditioning:
        """The same one text for ``count`` images."""
        return Conditioning(
            self.states.expand(count, -1, -1),
            None if self.mask is None else self.mask.expand(count, -1),
            None if self.pooled is None else self.pooled.expand(count, -1),
        )


def _cat(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return None if one is None or other is None else torch.cat([one, other])
