"""What the sampler asks of a text-to-image model, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from cxrsynth.errors import RecipeError
from cxrsynth.nets import parts, vae
from cxrsynth.nets.attention import Layer, OnQuery, observe_cross
from cxrsynth.nets.conditioning import Conditioning

CUT = "shorten it, or set prompts.too_long: cut; nothing is cut silently"


class Model(ABC):
    """A loaded model: texts in, predictions and images out.

    Subclasses say how one family is called. They follow the pipelines of diffusers to the bit.

    Args:
        folder: diffusers folder.
        device: where to compute.
        dtype: of the denoiser. The autoencoder stays in float32: gray levels need more than the 8 bits of a bfloat16
            mantissa, and Stable Diffusion's overflows in float16.

    Attributes:
        family: how people call it.
        pipelines: classes in ``model_index.json`` that belong to it.
        part: name of the denoiser's folder.
        denoisers: classes the denoiser may be of.
        any_text: whether the keys of any text can be read (cross-attention), or only those of the prompt.
    """

    family: ClassVar[str]
    pipelines: ClassVar[tuple[str, ...]]
    part: ClassVar[str] = "transformer"
    denoisers: ClassVar[tuple[str, ...]]
    autoencoders: ClassVar[tuple[str, ...]] = ("AutoencoderKL",)
    any_text: ClassVar[bool] = True

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        parts.hush()
        self.folder, self.device, self.dtype = folder, device, dtype
        self.scheduler_config = parts.read_json(folder / "scheduler" / "scheduler_config.json")
        self.denoiser = parts.load_part(folder, self.part, dtype, self.denoisers).to(device)
        self.vae = parts.load_part(folder, "vae", torch.float32, self.autoencoders).to(device)
        self.load_text()

    # -- what each family says ---------------------------------------------------------------------------------------

    @abstractmethod
    def load_text(self) -> None:
        """Load tokenizers and text encoders; sets ``tokenizer``, whose tokens `columns` counts."""

    @abstractmethod
    def encode(self, texts: Sequence[str], negative: bool = False) -> Conditioning:
        """Texts as the denoiser reads them, cut at `limit`; ``negative``: what the image shall not show."""

    @abstractmethod
    def denoise(self, x: Tensor, t: Tensor, given: Conditioning, guidance: float) -> Tensor:
        """One pass.

        Args:
            x: (B, C, h, w) float32 latents, scaled as the scheduler scales its model's input.
            t: () or (B,) timestep as the scheduler gives it.
            given: conditioning of the B images.
            guidance: for models that take it as an input; others ignore it.

        Returns:
            (B, C, h, w) float32 prediction.
        """

    tokenizer: Any

    @property
    def limit(self) -> int:
        """Tokens that a text may have, those that mark its begin and end included."""
        return parts.token_limit(self.tokenizer, self.text_encoder.config.to_dict())

    text_encoder: Any

    # -- what most families share ------------------------------------------------------------------------------------

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return int(self.denoiser.config.in_channels)

    @property
    def factor(self) -> int:
        """Pixels per latent."""
        return vae.factor(self.vae.config)

    @property
    def multiple(self) -> int:
        """Sides of pictures are multiples of it."""
        return self.factor * int(self.denoiser.config.get("patch_size") or 1)

    @property
    def native(self) -> tuple[int, int]:
        """(h, w) of the latents the model was trained on."""
        side = self.denoiser.config.sample_size
        return (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))

    @property
    def embeds_guidance(self) -> bool:
        """Whether guidance is an input (distilled models): then there is no second, unconditional pass."""
        return False

    def prepare(self, text: str) -> str:
        """The text as its tokenizer gets it."""
        return text

    def tokens(self, text: str) -> int:
        """How many tokens a text has before it is cut."""
        return len(self.tokenizer(self.prepare(text), truncation=False).input_ids)

    def columns(self, text: str, phrases: Sequence[str]) -> list[list[int]]:
        """For each phrase its positions among the text states of ``encode([text])``; empty where it does not occur."""
        prepared = self.prepare(text)
        offsets = self.tokenizer(prepared, return_offsets_mapping=True, truncation=False)["offset_mapping"]
        return phrase_columns(prepared, offsets, phrases)

    def keys_from(self, given: Conditioning) -> Tensor:
        """(B, T, D) states as the cross-attention layers are given them: what `project_keys` projects."""
        return given.states.to(self.dtype)

    def observe(self, callback: OnQuery) -> AbstractContextManager[list[Layer]]:
        """Call ``callback`` at every layer that attends to the text, inside the block."""
        return observe_cross(self.denoiser, callback)

    def set_timesteps(self, scheduler: Any, steps: int, size: tuple[int, int]) -> None:
        """Set the steps of a scheduler for latents of a size (h, w)."""
        scheduler.set_timesteps(steps, device=self.device)

    def check_tokens(self, texts: Sequence[str], what: str = "prompt") -> None:
        """Refuse texts that would be cut.

        Raises:
            RecipeError: naming the text, its token count and the limit.
        """
        for text in texts:
            if (count := self.tokens(text)) > self.limit:
                raise RecipeError(f"{what} of {count} tokens, the model reads {self.limit}: '{text[:60]}...'", CUT)

    def ids(self, texts: Sequence[str], tokenizer: Any, limit: int) -> Any:
        """Token ids and attention mask (B, T) int64 on the device, padded and cut to ``limit``."""
        return tokenizer(list(texts), padding="max_length", truncation=True, max_length=limit, return_tensors="pt").to(
            self.device
        )


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
