"""Losses that more than one training uses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def gradient_difference(first: Tensor, second: Tensor, scales: int = 3) -> Tensor:
    """Mean difference of the horizontal and vertical steps of two (B, 1, H, W) pictures at several scales.

    Without it thin things (ribs, vessels, letters) cost less than a slight change of tone and blur away.
    """
    difference = first - second
    loss = difference.new_zeros(())
    for _ in range(scales):
        loss = loss + difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        difference = F.avg_pool2d(difference, 2)
    return loss / scales
