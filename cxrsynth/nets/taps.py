"""Attention taps: read where each class phrase looks, while the image is generated, and change nothing.

Forward hooks on ``attn2.to_q`` hand over the queries a layer computes anyway. The keys come from a text of our own
(*map-only keys*, as in Dataset-Diffusion, NeurIPS 2023, section 3.2) or from the prompt; both stay the same over all
steps, so each layer projects them once. Nothing is replaced: the image has the same bits as without taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cxrsynth.clock import CLOCK
from cxrsynth.errors import RecipeError
from cxrsynth.nets.attention import Layer, attention_probs, project_keys

NOTHING = "no finding"


def class_text(phrases: Sequence[str]) -> str:
    """The text whose tokens are the map-only keys of these phrases."""
    return ", ".join(phrases)


def finding_text(phrase: str) -> str:
    """The text of a class that lies over others: its phrase beside `NOTHING`; it takes nothing from the anatomy."""
    return class_text([phrase, NOTHING])


def token_columns(tokenizer: Any, text: str, phrases: Sequence[str]) -> list[list[int]]:
    """For each phrase the positions of its sub-word tokens in ``text``, BOS counted; empty where it does not occur."""
    encoded = tokenizer(text, return_offsets_mapping=True, truncation=False)
    return phrase_columns(text, encoded["offset_mapping"], phrases)


def phrase_columns(text: str, offsets: Sequence[tuple[int, int]], phrases: Sequence[str]) -> list[list[int]]:
    """For each phrase the positions of its sub-word tokens in ``text``; empty where it does not occur.

    The longest phrase claims its characters first, and a phrase takes its first free occurrence, so that "lung"
    does not read the attention of "right lung".

    Args:
        offsets: first and behind-the-last character of each token.
    """
    lowered = text.lower()
    taken = [False] * len(text)
    columns: list[list[int]] = [[] for _ in phrases]
    for which in sorted(range(len(phrases)), key=lambda k: -len(phrases[k])):
        phrase = phrases[which].lower()
        start = _free_word(lowered, phrase, taken)
        if start is None:
            continue
        end = start + len(phrase)
        taken[start:end] = [True] * len(phrase)
        columns[which] = [i for i, (a, b) in enumerate(offsets) if a < end and b > start and b > a]
    return columns


def _free_word(text: str, phrase: str, taken: list[bool]) -> int | None:
    start = text.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        whole = (start == 0 or not text[start - 1].isalnum()) and (end == len(text) or not text[end].isalnum())
        if whole and not any(taken[start:end]):
            return start
        start = text.find(phrase, start + 1)
    return None


@dataclass(slots=True)
class KeySource:
    """A text whose keys are read.

    Attributes:
        context: (B or 1, T, D) text states as the layers are given them; None for the prompt's own tokens in joint
            attention, whose keys come with the queries.
        weights: (B or 1, T, K) how much each token counts for each class; a phrase of n sub-words has n times 1/n.
        mask: (B or 1, T), 0 for tokens that the layers do not see; None where they see all.
        against: (B or 1, T, K) weights of the tokens that a class is compared with: its map is then its share of the
            two, 0..1; None for the attention itself.
    """

    context: Tensor | None
    weights: Tensor
    mask: Tensor | None = None
    against: Tensor | None = None

    def maps(self, probs: Tensor) -> Tensor:
        """(B, N, T) attention of places to tokens -> (B, N, K) class maps; 0 for classes that another text has."""
        own = probs @ self.weights
        return own if self.against is None else share(own, probs @ self.against)


def share(own: Tensor, other: Tensor) -> Tensor:
    """own / (own + other), 0 where both are."""
    return own / (own + other).clamp_min(1e-12)


def column_weights(columns: Sequence[Sequence[int]], tokens: int) -> Tensor:
    """Sub-word positions per class -> (T, K) float32 weights: the mean over the phrase's sub-words."""
    weights = torch.zeros(tokens, len(columns))
    for k, positions in enumerate(columns):
        for position in positions:
            if position >= tokens:
                raise RecipeError(
                    f"a class phrase lies beyond token {tokens} of its text", "shorten the phrases or the prompt"
                )
            weights[position, k] = 1.0 / len(positions)
    return weights


@dataclass(slots=True)
class Taps:
    """Accumulates class maps per grid size over layers, heads and the steps during which it is ``active``.

    Attributes:
        sources: texts to read; their contributions to a class add up (a class is read from one of them).
        latent_size: (h, w) of the latents; a layer on a grid of half that size is level 2.
        levels: levels to read; None reads all.
        conditional: rows of the batch that carry the prompt: ``slice(B, None)`` with classifier-free guidance in
            ``[unconditional, conditional]`` order, ``slice(None)`` without. Never guessed.
        active: switched by the sampler from step to step.

    The buffers are fp32 on the device and do not grow with the number of steps.
    """

    sources: list[KeySource]
    latent_size: tuple[int, int]
    conditional: slice
    levels: Sequence[int] | None = None
    active: bool = True
    _keys: dict[str, list[Tensor]] = field(default_factory=dict)
    _sums: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _counts: dict[tuple[int, int], int] = field(default_factory=dict)

    def __call__(self, layer: Layer, query: Tensor, key: Tensor | None = None) -> None:
        """The callback for `observe_cross` and `observe_joint`."""
        if not self.active or (self.levels is not None and self.level(layer.size) not in self.levels):
            return
        with CLOCK.measure("taps"):
            self._add(layer, query[self.conditional], key)

    def _add(self, layer: Layer, query: Tensor, key: Tensor | None) -> None:
        keys = self._cross_keys(layer) if key is None else [key[self.conditional]] * len(self.sources)
        maps: Tensor | None = None
        for source, one in zip(self.sources, keys, strict=True):
            probs = attention_probs(layer.attn, query, one, source.mask).mean(dim=1)  # (B, N, T)
            part = source.maps(probs)  # (B, N, K)
            maps = part if maps is None else maps + part
        assert maps is not None
        if layer.size in self._sums:
            self._sums[layer.size] += maps
        else:
            self._sums[layer.size] = maps
        self._counts[layer.size] = self._counts.get(layer.size, 0) + 1

    def _cross_keys(self, layer: Layer) -> list[Tensor]:
        """The keys of the sources in a layer; they stay the same over all steps."""
        if layer.name not in self._keys:
            dtype = layer.attn.to_k.weight.dtype
            self._keys[layer.name] = [
                project_keys(layer.attn, source.context.to(dtype))
                for source in self.sources
                if source.context is not None
            ]
        return self._keys[layer.name]

    def level(self, size: tuple[int, int]) -> int:
        """How many times coarser than the latents a grid is."""
        return round(self.latent_size[0] / size[0])

    def maps(self) -> dict[int, Tensor]:
        """Level -> (B, K, h, w) float32 on the device, mean over layers, heads and captured steps.

        Raises:
            RecipeError: nothing was captured: the UNet has no cross-attention at these levels, or no step was active.
        """
        if not self._sums:
            raise RecipeError(
                f"no attention was captured at levels {list(self.levels) if self.levels else 'all'}",
                "check attention.levels and attention.steps of the recipe",
            )
        return {
            self.level(size): (total / self._counts[size]).transpose(1, 2).unflatten(-1, size)
            for size, total in sorted(self._sums.items(), reverse=True)
        }


def merge_levels(maps: dict[int, Tensor], normalise: bool) -> Tensor:
    """Levels -> (B, K, h, w) float32 on the finest captured grid: the mean over levels, up-sampled bicubically.

    Args:
        normalise: divide each level by its maximum over classes and pixels first (DiffuMask, ICCV 2023, section 3.1,
            divides each map by its own maximum; a common one keeps the classes comparable).
    """
    finest = max((m.shape[-2:] for m in maps.values()), key=lambda size: size[0] * size[1])
    total: Tensor | None = None
    for level_maps in maps.values():
        grid = level_maps
        if grid.shape[-2:] != finest:
            grid = nn.functional.interpolate(grid, size=finest, mode="bicubic", align_corners=False).clamp_min(0)
        if normalise:
            grid = grid / grid.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
        total = grid if total is None else total + grid
    assert total is not None
    return total / len(maps)
