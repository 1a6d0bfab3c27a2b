"""Where a denoiser attends to its text, seen through forward hooks that change nothing.

Two kinds are read. *Cross-attention* (UNets, PixArt, Sana): the queries come from the image, the keys from the text
alone, so the keys of any text can be made beside the pass. *Joint attention* (SD3, Flux): image and text attend to
both, the text changes from layer to layer, so only the tokens of the prompt itself have keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cxrsynth.errors import MissingError


@dataclass(slots=True)
class Layer:
    """One layer that attends to the text.

    Attributes:
        name: its path in the denoiser.
        attn: the attention module (``to_q``, ``to_k``, ``heads``, ``scale``).
        size: (h, w) of the grid its queries lie on; known once the layer has run.
    """

    name: str
    attn: Any
    size: tuple[int, int] = (0, 0)


# Called with (layer, queries (B, heads, N, d), keys of the prompt (B, heads, T, d) or None where any text has keys).
OnQuery = Callable[[Layer, Tensor, Tensor | None], None]


@contextmanager
def observe_cross(denoiser: nn.Module, callback: OnQuery) -> Iterator[list[Layer]]:
    """Call ``callback`` whenever a cross-attention layer of ``denoiser`` has computed its queries.

    Queries are in row-major order of the grid, with gradient where the denoiser has one. All hooks are gone when the
    block is left, also by an error.

    Raises:
        MissingError: the denoiser has no cross-attention.
    """
    layers: list[Layer] = []
    handles: list[Any] = []

    def report(layer: Layer) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            callback(layer, split_heads(output, layer.attn.heads), None)

        return hook

    try:
        for parent, mine in find_layers(denoiser, "attn2"):
            handles.append(parent.register_forward_pre_hook(remember_size(mine), with_kwargs=True))
            handles.extend(query_of(layer.attn).register_forward_hook(report(layer)) for layer in mine)
            layers.extend(mine)
        if not layers:
            raise MissingError(
                "the denoiser has no cross-attention layer (attn2)", "use a text-conditioned UNet2DConditionModel"
            )
        yield layers
    finally:
        for handle in handles:
            handle.remove()


def find_layers(denoiser: nn.Module, kind: str) -> Iterator[tuple[nn.Module, list[Layer]]]:
    """The parts of a denoiser that hold attention of a kind, ``attn1`` (self) or ``attn2`` (cross), with its layers."""
    for parent_name, parent in denoiser.named_modules():
        if hasattr(parent, "transformer_blocks"):
            mine = [
                Layer(f"{parent_name}.{name}".lstrip("."), attn)
                for name, attn in parent.named_modules()
                if name.rsplit(".", 1)[-1] == kind and hasattr(attn, "to_q")
            ]
            if mine:
                yield parent, mine


def remember_size(layers: list[Layer]) -> Callable[..., None]:
    """A hook that runs before a part and tells its layers what grid they lie on."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]  # (B, C, h, w)
        patch = getattr(getattr(module, "config", None), "patch_size", None) or 1
        for layer in layers:
            layer.size = (hidden.shape[-2] // patch, hidden.shape[-1] // patch)

    return hook


def query_of(attn: Any) -> nn.Module:
    """The module whose output are the queries as they are compared with the keys, heads not yet split."""
    normalised: nn.Module | None = getattr(attn, "norm_q", None)
    return normalised if normalised is not None else attn.to_q  # type: ignore[no-any-return]


def split_heads(states: Tensor, heads: int) -> Tensor:
    """(B, N, heads * d) -> (B, heads, N, d)."""
    batch, tokens, width = states.shape
    return states.view(batch, tokens, heads, width // heads).transpose(1, 2)


def project_keys(attn: Any, context: Tensor) -> Tensor:
    """(B, T, D) text states, as the layer is given them -> (B, heads, T, d) its keys."""
    if getattr(attn, "norm_cross", None):
        context = attn.norm_encoder_hidden_states(context)
    keys = attn.to_k(context)
    if getattr(attn, "norm_k", None) is not None:
        keys = attn.norm_k(keys)
    return split_heads(keys, attn.heads)


def attention_probs(attn: Any, query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """How much each place attends to each token.

    Args:
        query: (B, heads, N, d).
        key: (B or 1, heads, T, d).
        mask: (B or 1, T), 0 for tokens that do not count; None where all do.

    Returns:
        (B, heads, N, T) float32, summing to 1 over T.
    """
    scores = query.float() @ key.float().transpose(-1, -2) * scale_of(attn, query)
    if mask is not None:
        scores = scores.masked_fill(mask[:, None, None] == 0, float("-inf"))
    return scores.softmax(dim=-1)


def scale_of(attn: Any, query: Tensor) -> float:
    """What the products of queries and keys are multiplied by."""
    own = getattr(attn, "scale", None)
    return float(own) if own is not None else float(query.shape[-1]) ** -0.5


@contextmanager
def observe_joint(
    denoiser: nn.Module, callback: OnQuery, grid: Callable[[], tuple[int, int]], rotary: bool
) -> Iterator[list[Layer]]:
    """Call ``callback`` with the image's queries and the text's keys of every joint attention of ``denoiser``.

    How a place attends to tokens *relative to each other* is what the softmax over the text's keys alone gives: the
    joint softmax divides by the image's part as well, which is the same for all tokens of a place. (Seg4Diff, arXiv
    2509.18096, reads the same image-to-text part.) All hooks are gone when the block is left.

    Args:
        grid: gives the (h, w) of the grid of the image's tokens during a pass.
        rotary: the queries are turned by their place (RoPE) after the modules that hooks can see; the text's keys are
            at place 0, where turning changes nothing.

    Raises:
        MissingError: the denoiser has no joint attention.
    """
    layers: list[Layer] = []
    handles: list[Any] = []
    try:
        for name, attn in denoiser.named_modules():
            if getattr(attn, "add_k_proj", None) is None:
                continue
            watch = _Joint(Layer(name, attn), callback, grid, rotary)
            handles.extend(watch.hook())
            layers.append(watch.layer)
        if not layers:
            raise MissingError("the denoiser has no joint attention (add_k_proj)", "use an SD3 or Flux transformer")
        yield layers
    finally:
        for handle in handles:
            handle.remove()


class _Joint:
    """What one joint attention has computed so far in its pass."""

    def __init__(self, layer: Layer, callback: OnQuery, grid: Callable[[], tuple[int, int]], rotary: bool) -> None:
        self.layer, self.callback, self.grid, self.rotary = layer, callback, grid, rotary
        self.query: Tensor | None = None
        self.key: Tensor | None = None
        self.turn: tuple[Tensor, Tensor] | None = None

    def hook(self) -> Iterator[Any]:
        attn = self.layer.attn
        yield attn.register_forward_pre_hook(self._before, with_kwargs=True)
        yield self._module("norm_q", "to_q").register_forward_hook(self._keep("query"))
        yield self._module("norm_added_k", "add_k_proj").register_forward_hook(self._keep("key"))
        yield attn.register_forward_hook(self._after)

    def _module(self, first: str, other: str) -> nn.Module:
        found = getattr(self.layer.attn, first, None)
        return found if found is not None else getattr(self.layer.attn, other)  # type: ignore[no-any-return]

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.turn = kwargs.get("image_rotary_emb")

    def _keep(self, what: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            setattr(self, what, output)

        return hook

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.query is None or self.key is None:
            return
        query, key = self._headed(self.query), self._headed(self.key)
        if self.rotary and self.turn is not None:
            from diffusers.models.embeddings import apply_rotary_emb

            image = tuple(part[-query.shape[2] :] for part in self.turn)  # the text stands before the image
            query = apply_rotary_emb(query, image)  # type: ignore[arg-type, assignment]
        self.layer.size = self.grid()
        self.callback(self.layer, query, key)
        self.query = self.key = self.turn = None

    def _headed(self, states: Tensor) -> Tensor:
        """Queries or keys, whatever the layout of the layer -> (B, heads, N, d)."""
        heads = self.layer.attn.heads
        if states.ndim == 3:  # (B, N, heads * d): not normalised
            return split_heads(states, heads)
        return states if not self.rotary else states.transpose(1, 2)  # Flux keeps (B, N, heads, d)
