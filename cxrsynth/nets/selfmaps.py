"""Self-attention of a middle level, read by hooks: from each place of a grid to all others, and nothing changed.

The maps are as large as the square of the grid, so only levels that are asked for are read, one image at a time, and
the heads are averaged at once. The layer itself stays on its fused kernel: the probabilities are computed beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxrsynth.errors import RecipeError
from cxrsynth.nets.attention import Layer, attention_probs, find_layers, remember_size, split_heads

# Of one grid: the map of 32 x 32 places has a million numbers.
MOST_PLACES = 1024


class SelfMaps:
    """Accumulates self-attention per level over layers, heads and passes.

    Args:
        latent_size: (h, w) of the latents.
        levels: grids to read, 1 the latent grid, 2 half of it.

    Raises:
        RecipeError: the grid of a level has too many places.
    """

    def __init__(self, latent_size: tuple[int, int], levels: Sequence[int]) -> None:
        self.latent_size, self.levels = latent_size, tuple(levels)
        for level in self.levels:
            places = (latent_size[0] // level) * (latent_size[1] // level)
            if places > MOST_PLACES:
                raise RecipeError(
                    f"self-attention of level {level} has {places} places, {MOST_PLACES} can be kept",
                    f"selfattention with level: {2 * level}",
                )
        self._sums: dict[tuple[int, int], Tensor] = {}

    @contextmanager
    def observe(self, unet: nn.Module) -> Iterator[None]:
        """Read whatever passes through ``unet`` inside the block; all hooks are gone when it is left."""
        handles: list[Any] = []

        def read(layer: Layer) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                if round(self.latent_size[0] / layer.size[0]) in self.levels:
                    self._add(layer, args[0] if args else kwargs["hidden_states"])

            return hook

        try:
            for parent, layers in find_layers(unet, "attn1"):
                handles.append(parent.register_forward_pre_hook(remember_size(layers), with_kwargs=True))
                handles.extend(one.attn.register_forward_pre_hook(read(one), with_kwargs=True) for one in layers)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _add(self, layer: Layer, hidden: Tensor) -> None:
        """(B, N, C) states that a layer is about to attend over."""
        attn = layer.attn
        query, key = (split_heads(project(hidden), attn.heads) for project in (attn.to_q, attn.to_k))
        maps = torch.stack(
            [
                attention_probs(attn, one[None], other[None])[0].mean(dim=0)
                for one, other in zip(query, key, strict=True)
            ]
        )  # (B, N, N)
        before = self._sums.get(layer.size)
        self._sums[layer.size] = maps if before is None else before + maps

    def maps(self) -> dict[int, np.ndarray]:
        """Level -> (B, h, w, h, w) float16, from each place to all others, which sum to 1.

        Raises:
            RecipeError: the UNet has no self-attention at a level.
        """
        found = {}
        for size, total in self._sums.items():
            mean = (total / total.sum(dim=-1, keepdim=True)).cpu().numpy()
            found[round(self.latent_size[0] / size[0])] = mean.reshape(-1, *size, *size).astype(np.float16)
        for level in self.levels:
            if level not in found:
                raise RecipeError(
                    f"this UNet has no self-attention at level {level}", "try selfattention with level: 1, 2 or 4"
                )
        return found
