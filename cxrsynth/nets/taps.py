"""Attention taps: read where each class phrase looks, while the picture is generated, and change nothing.

Forward hooks on ``attn2.to_q`` hand over the queries a layer computes anyway. The keys come from a text of our own
(*map-only keys*, as in Dataset-Diffusion, NeurIPS 2023, section 3.2) or from the prompt; both stay the same over all
steps, so each layer projects them once. Nothing is replaced: the picture has the same bits as without taps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cxrsynth.errors import MissingError, RecipeError


@dataclass(slots=True)
class Layer:
    """One cross-attention layer.

    Attributes:
        name: its path in the UNet.
        attn: the ``attn2`` module (``to_q``, ``to_k``, ``heads``, ``scale``).
        size: (h, w) of the grid its queries lie on; known once the layer has run.
    """

    name: str
    attn: Any
    size: tuple[int, int] = (0, 0)


@contextmanager
def observe(unet: nn.Module, callback: Callable[[Layer, Tensor], None]) -> Iterator[list[Layer]]:
    """Call ``callback(layer, query)`` whenever a cross-attention layer of ``unet`` has computed its queries.

    ``query`` is (B, heads, h * w, d), in row-major order of the grid, with gradient where the UNet has one. All hooks
    are gone when the block is left, also by an error.

    Raises:
        MissingError: the UNet has no cross-attention.
    """
    layers: list[Layer] = []
    handles: list[Any] = []

    def report(layer: Layer) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            callback(layer, split_heads(output, layer.attn.heads))

        return hook

    try:
        for parent, mine in find_layers(unet, "attn2"):
            handles.append(parent.register_forward_pre_hook(remember_size(mine), with_kwargs=True))
            handles.extend(layer.attn.to_q.register_forward_hook(report(layer)) for layer in mine)
            layers.extend(mine)
        if not layers:
            raise MissingError(
                "the UNet has no cross-attention layer (attn2)", "use a text-conditioned UNet2DConditionModel"
            )
        yield layers
    finally:
        for handle in handles:
            handle.remove()


def find_layers(unet: nn.Module, kind: str) -> Iterator[tuple[nn.Module, list[Layer]]]:
    """The blocks of a UNet that hold attention of a kind, ``attn1`` (self) or ``attn2`` (cross), with its layers."""
    for parent_name, parent in unet.named_modules():
        if hasattr(parent, "transformer_blocks"):
            mine = [
                Layer(f"{parent_name}.{name}", attn)
                for name, attn in parent.named_modules()
                if name.rsplit(".", 1)[-1] == kind and hasattr(attn, "to_q")
            ]
            if mine:
                yield parent, mine


def remember_size(layers: list[Layer]) -> Callable[..., None]:
    """A hook that runs before a block and tells its layers what grid they lie on."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]  # (B, C, h, w)
        for layer in layers:
            layer.size = (hidden.shape[-2], hidden.shape[-1])

    return hook


def split_heads(states: Tensor, heads: int) -> Tensor:
    """(B, N, heads * d) -> (B, heads, N, d)."""
    batch, tokens, width = states.shape
    return states.view(batch, tokens, heads, width // heads).transpose(1, 2)


def project_keys(attn: Any, context: Tensor) -> Tensor:
    """(B, T, D) text states -> (B, heads, T, d) keys of a layer."""
    if getattr(attn, "norm_cross", None):
        context = attn.norm_encoder_hidden_states(context)
    return split_heads(attn.to_k(context), attn.heads)


def attention_probs(attn: Any, query: Tensor, key: Tensor) -> Tensor:
    """(B, heads, N, d) queries, (B or 1, heads, T, d) keys -> (B, heads, N, T) float32 probabilities over T."""
    scores = query.float() @ key.float().transpose(-1, -2) * attn.scale
    return scores.softmax(dim=-1)


def class_text(phrases: Sequence[str]) -> str:
    """The text whose tokens are the map-only keys of these phrases."""
    return ", ".join(phrases)


def token_columns(tokenizer: Any, text: str, phrases: Sequence[str]) -> list[list[int]]:
    """For each phrase the positions of its sub-word tokens in ``text``, BOS counted; empty where it does not occur.

    The longest phrase claims its characters first, and a phrase takes its first free occurrence, so that "lung"
    does not read the attention of "right lung".
    """
    encoded = tokenizer(text, return_offsets_mapping=True, truncation=False)
    offsets = encoded["offset_mapping"]
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
        context: (B or 1, T, D) text states.
        weights: (B or 1, T, K) how much each token counts for each class; a phrase of n sub-words has n times 1/n.
    """

    context: Tensor
    weights: Tensor


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

    def __call__(self, layer: Layer, query: Tensor) -> None:
        """The callback for `observe`."""
        if not self.active or (self.levels is not None and self.level(layer.size) not in self.levels):
            return
        query = query[self.conditional]
        if layer.name not in self._keys:
            dtype = layer.attn.to_k.weight.dtype
            self._keys[layer.name] = [project_keys(layer.attn, source.context.to(dtype)) for source in self.sources]
        maps: Tensor | None = None
        for source, key in zip(self.sources, self._keys[layer.name], strict=True):
            probs = attention_probs(layer.attn, query, key).mean(dim=1)  # (B, N, T)
            part = probs @ source.weights  # (B, N, K)
            maps = part if maps is None else maps + part
        assert maps is not None
        if layer.size in self._sums:
            self._sums[layer.size] += maps
        else:
            self._sums[layer.size] = maps
        self._counts[layer.size] = self._counts.get(layer.size, 0) + 1

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
