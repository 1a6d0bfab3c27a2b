"""Flux: joint attention with rotary places, a CLIP for the whole text and a T5 for its words, guidance as an input."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxrsynth.nets import parts
from cxrsynth.nets.attention import Layer, OnQuery, observe_joint
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.families import fit
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

    tokenizer_parts = ("tokenizer", "tokenizer_2")
    encoder_parts = ("text_encoder", "text_encoder_2")
    large = ("text_encoder_2",)
    counted = 1
    packed = 4

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Flux schnell is distilled to few."""
        return 28 if self.denoiser.config.guidance_embeds else 4

    guidance = 3.5

    @classmethod
    def text_widths(cls, folder: Path) -> tuple[int, int]:
        """That of the T5."""
        reads = fit.number(parts.config(folder, cls.part), "joint_attention_dim", folder)
        return fit.width(folder, "text_encoder_2"), reads

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
        clip, t5 = self.encoders
        states = t5(self.ids(texts, self.tokenizer, self.limit).input_ids)[0]
        places = parts.token_limit(self.tokenizers[0], clip.config.to_dict())
        pooled = clip(self.ids(texts, self.tokenizers[0], places).input_ids).pooler_output
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
        """Even steps, shifted with the size of the image."""
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
