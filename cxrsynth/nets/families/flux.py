"""Flux: joint attention with rotary places, a CLIP for the whole text and a T5 for its words, guidance as an input."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxrsynth.nets import parts
from cxrsynth.nets.attention import Layer, OnQuery, observe_joint
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.families.base import Model
from cxrsynth.nets.families.sd3 import shift

TOKENS = 512
NATIVE = 128  # latents; the transformer has no size of its own


class Flux(Model):
    """Maps come from the blocks that keep image and text apart; latents are packed in patches of 2 x 2 on the way."""

    family = "Flux"
    pipelines = ("FluxPipeline",)
    denoisers = ("FluxTransformer2DModel",)
    any_text = False

    def load_text(self) -> None:
        """A CLIP in float32, a T5 in the denoiser's precision where that has the range it needs."""
        precision = self.dtype if self.dtype == torch.bfloat16 else torch.float32
        self.clip_tokenizer = parts.load_tokenizer(self.folder)
        self.clip = parts.load_text_encoder(self.folder).to(self.device)
        self.tokenizer = parts.load_tokenizer(self.folder, "tokenizer_2")
        self.text_encoder = parts.load_text_encoder(self.folder, "text_encoder_2", precision).to(self.device)

    @property
    def limit(self) -> int:
        """As its pipeline in diffusers has it."""
        return min(TOKENS, int(self.tokenizer.model_max_length))

    @property
    def channels(self) -> int:
        """Before they are packed."""
        return int(self.denoiser.config.in_channels) // 4

    @property
    def multiple(self) -> int:
        """Patches of 2 x 2 latents."""
        return 2 * self.factor

    @property
    def native(self) -> tuple[int, int]:
        """As its pipeline in diffusers has it."""
        return NATIVE, NATIVE

    @property
    def embeds_guidance(self) -> bool:
        """Flux dev takes guidance as an input, Flux schnell none at all; neither has an unconditional pass."""
        return True

    def encode(self, texts: Sequence[str], negative: bool = False) -> Conditioning:
        """The states of the T5, the pooled text of the CLIP."""
        states = self.text_encoder(self.ids(texts, self.tokenizer, self.limit).input_ids)[0]
        places = parts.token_limit(self.clip_tokenizer, self.clip.config.to_dict())
        pooled = self.clip(self.ids(texts, self.clip_tokenizer, places).input_ids).pooler_output
        return Conditioning(states.float(), pooled=pooled.float())

    def denoise(self, x: Tensor, t: Tensor, given: Conditioning, guidance: float) -> Tensor:
        """Pack, predict, unpack."""
        count, channels, height, width = x.shape
        self.grid = (height // 2, width // 2)
        packed = x.view(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        told = torch.full((count,), guidance, device=x.device) if self.denoiser.config.guidance_embeds else None
        assert given.pooled is not None  # `encode` gives it
        answer = self.denoiser(
            hidden_states=packed.reshape(count, -1, 4 * channels).to(self.dtype),
            timestep=t.to(x.device).expand(count).to(self.dtype) / 1000,
            guidance=told,
            pooled_projections=given.pooled.to(self.dtype),
            encoder_hidden_states=given.states.to(self.dtype),
            txt_ids=torch.zeros(given.states.shape[1], 3, device=x.device, dtype=self.dtype),
            img_ids=self._places(x),
        )
        parts_ = answer.sample.float().view(count, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return parts_.reshape(count, channels, height, width)

    def _places(self, x: Tensor) -> Tensor:
        """(N, 3) row and column of each patch."""
        rows, columns = torch.meshgrid(*(torch.arange(side) for side in self.grid), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3)
        return places.to(x.device, self.dtype)

    def observe(self, callback: OnQuery) -> AbstractContextManager[list[Layer]]:
        """The joint attention of the blocks with two streams."""
        return observe_joint(self.denoiser, callback, lambda: self.grid, rotary=True)

    def set_timesteps(self, scheduler: Any, steps: int, size: tuple[int, int]) -> None:
        """Even steps, shifted with the size of the picture."""
        options: dict[str, Any] = {}
        known = inspect.signature(scheduler.set_timesteps).parameters
        if "sigmas" in known and not scheduler.config.get("use_flow_sigmas"):
            options["sigmas"] = np.linspace(1.0, 1 / steps, steps)
        if "mu" in known:
            options["mu"] = shift(scheduler.config, (size[0] // 2) * (size[1] // 2), 1.15)
        if "sigmas" in options:
            scheduler.set_timesteps(device=self.device, **options)
        else:
            scheduler.set_timesteps(steps, device=self.device, **options)
