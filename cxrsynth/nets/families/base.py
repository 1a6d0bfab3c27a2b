"""What the sampler asks of a text-to-image model, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from cxrsynth.errors import RecipeError
from cxrsynth.nets import autoencoder, parts
from cxrsynth.nets.attention import Layer, OnQuery, observe_cross
from cxrsynth.nets.bundle import hush
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.families import fit
from cxrsynth.nets.taps import phrase_columns

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
        tokenizer_parts, encoder_parts: folders of its text encoders, in the order in which they are used.
        optional: parts that a model of the family may lack.
        large: text encoders that are loaded in bfloat16 where the denoiser is; all else stays in float32.
        counted: which tokenizer's tokens are counted and located.
        any_text: whether the keys of any text can be read (cross-attention), or only those of the prompt.
        self_maps: whether its self-attention has maps.

    Raises:
        MissingError: a part is missing, damaged, or does not fit the others.
    """

    family: ClassVar[str]
    pipelines: ClassVar[tuple[str, ...]]
    part: ClassVar[str] = "transformer"
    denoisers: ClassVar[tuple[str, ...]]
    autoencoders: ClassVar[tuple[str, ...]] = ("AutoencoderKL",)
    tokenizer_parts: ClassVar[tuple[str, ...]] = ("tokenizer",)
    encoder_parts: ClassVar[tuple[str, ...]] = ("text_encoder",)
    optional: ClassVar[tuple[str, ...]] = ()
    large: ClassVar[tuple[str, ...]] = ()
    counted: ClassVar[int] = 0
    any_text: ClassVar[bool] = True
    self_maps: ClassVar[bool] = True

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        hush()
        self.folder, self.device, self.dtype = folder, device, dtype
        self.check_fit(folder)
        self.scheduler_config = parts.read_json(folder / "scheduler" / "scheduler_config.json")
        self._load_tokenizers()
        self.encoders = [self._load_encoder(name) for name in self.encoder_parts if self._has(name)]
        # Convolutions of a GPU are fastest with channels last; on a CPU the layout stays, and with it every bit.
        how: dict[str, Any] = {"memory_format": torch.channels_last} if device.type == "cuda" else {}
        self.denoiser = parts.load_part(folder, self.part, dtype, self.denoisers).to(device, **how)
        self.vae = parts.load_part(folder, "vae", torch.float32, self.autoencoders).to(device, **how)

    @classmethod
    def words(cls, folder: Path) -> Self:
        """An adapter without weights, which counts tokens and finds phrases; the model's fit is checked.

        Raises:
            MissingError: as the constructor.
        """
        cls.check_fit(folder)
        found = cls.__new__(cls)
        found.folder = folder
        found._load_tokenizers()
        return found

    def _has(self, name: str) -> bool:
        return name not in self.optional or parts.named(self.folder, name) is not None

    def _load_tokenizers(self) -> None:
        self.tokenizers = [parts.load_tokenizer(self.folder, name) for name in self.tokenizer_parts if self._has(name)]
        self.tokenizer = self.tokenizers[self.counted]

    def _load_encoder(self, name: str) -> Any:
        follows = name in self.large and self.dtype == torch.bfloat16  # float16 has not the range these need
        found = parts.load_text_encoder(self.folder, name, self.dtype if follows else torch.float32)
        return found.to(self.device)

    # -- what each family says ---------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def text_widths(cls, folder: Path) -> tuple[int, int]:
        """Numbers a token that the text encoders give, and that the denoiser reads, from their configs."""

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

    # -- what most families share ------------------------------------------------------------------------------------

    @classmethod
    def check_fit(cls, folder: Path) -> None:
        """Compare the configs of the parts, before a weight is read.

        Raises:
            MissingError: naming the part and the number that does not fit.
        """
        fit.check_classes(folder, cls.part, cls.denoisers, cls.autoencoders)
        with fit.understood(folder):
            fit.check_channels(folder, cls.part, cls.packed)
            fit.check_widths(folder, *cls.text_widths(folder))
            fit.check_schedule(folder)

    packed: ClassVar[int] = 1  # latents that the denoiser reads as one

    # Where the recipe says none; a distilled model says otherwise when it is loaded.
    steps: int = 20
    guidance: float = 3.0

    @property
    def limit(self) -> int:
        """Tokens that a text may have, those that mark its begin and end included."""
        return parts.token_limit(self.tokenizer, parts.config(self.folder, self.encoder_parts[self.counted]))

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return int(self.denoiser.config.in_channels)

    @property
    def factor(self) -> int:
        """Pixels per latent."""
        return autoencoder.factor(self.vae.config)

    @property
    def multiple(self) -> int:
        """Sides of images are multiples of it."""
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
        """For each phrase its positions among the text states of ``encode([text])``; empty where it does not occur.

        What is cut does not occur.
        """
        prepared = self.prepare(text)
        offsets = self.tokenizer(prepared, return_offsets_mapping=True, truncation=False)["offset_mapping"]
        return phrase_columns(prepared, offsets[: self.limit], phrases)

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
