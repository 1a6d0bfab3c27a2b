"""Grounding: class phrases shall look where the class is (TokenCompose, CVPR 2024, equations 3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cxrsynth.nets.denoiser import LayerMaps


def plateau(columns: Sequence[Sequence[int]]) -> float:
    """What the map of a class can reach inside the class, the same for all that share a text.

    The probabilities of a phrase's n sub-words share a sum of at most 1, so their mean reaches 1 / n at most. All
    classes aim at what the longest phrase can reach; otherwise "heart" would shine twice as bright as "right lung".
    """
    return 1.0 / max(len(positions) for positions in columns)


def grounding_loss(maps: LayerMaps, masks: Tensor, known: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
    """The ratio term and the pixel term, over the classes that somebody looked for.

    Args:
        maps: layer -> (level, (n, heads, K, h, w) probabilities).
        masks: (n, K, H, W) float32 in 0..1 on the grid of the latents.
        known: (n, K) float32, 1 where the mask says something, 0 where nobody looked.
        height: (K,) float32 the plateau that the map of each class shall reach inside it.

    Returns:
        Two scalars: mean over layers, heads and classes of (1 - sum(A * M) / sum(A))^2, and the binary cross-entropy
        between the mean map of each level and ``masks * height``, less the least it can be.
    """
    ratios: list[Tensor] = []
    levels: dict[int, list[Tensor]] = {}
    for level, found in maps.values():
        target = F.adaptive_avg_pool2d(masks, (found.shape[-2], found.shape[-1]))[:, None]  # (n, 1, K, h, w)
        inside = (found * target).sum(dim=(-1, -2)) / found.sum(dim=(-1, -2)).clamp_min(1e-8)  # (n, heads, K)
        # A class that is absent has no place to look at.
        there = ((target.sum(dim=(-1, -2)) > 0).float() * known[:, None]).expand_as(inside)
        ratios.append((((1 - inside) ** 2) * there).sum() / there.sum().clamp_min(1))
        levels.setdefault(level, []).append(found.mean(dim=1))
    pixels: list[Tensor] = []
    for found_here in levels.values():
        mean = torch.stack(found_here).mean(dim=0).clamp(1e-6, 1 - 1e-6)  # (n, K, h, w)
        target = F.adaptive_avg_pool2d(masks, (mean.shape[-2], mean.shape[-1])) * height[:, None, None]
        least = F.binary_cross_entropy(target.clamp(1e-6, 1 - 1e-6), target, reduction="none")
        above = (F.binary_cross_entropy(mean, target, reduction="none") - least).mean(dim=(-1, -2))  # (n, K)
        pixels.append((above * known).sum() / known.sum().clamp_min(1))
    return torch.stack(ratios).mean(), torch.stack(pixels).mean()
