"""Stable Diffusion 3: image and text in one joint attention, three text encoders, flow matching."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cxrsynth.nets import parts
from cxrsynth.nets.attention import Layer, OnQuery, observe_joint
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.families import fit
from cxrsynth.nets.families.base import Model

T5_TOKENS = 256


class StableDiffusion3(Model):
    """Maps come from the image-to-text part of the joint attention, of the prompt's own tokens (CLIP's)."""

    family = "Stable Diffusion 3"
    pipelines = ("StableDiffusion3Pipeline",)
    denoisers = ("SD3Transformer2DModel",)
    any_text = False

    tokenizer_parts = ("tokenizer", "tokenizer_2", "tokenizer_3")
    encoder_parts = ("text_encoder", "text_encoder_2", "text_encoder_3")
    optional = ("tokenizer_3", "text_encoder_3")
    large = ("text_encoder_3",)

    steps = 28
    guidance = 7.0

    @classmethod
    def text_widths(cls, folder: Path) -> tuple[int, int]:
        """That of the T5; without one everything is widened to what the transformer reads."""
        reads = fit.number(parts.config(folder, cls.part), "joint_attention_dim", folder)
        return fit.width(folder, "text_encoder_3") or reads, reads

    def encode(self, texts: Sequence[str], negative: bool = False) -> Conditioning:
        """CLIP's states, widened with zeros, then T5's (zeros without one); the pooled texts one beside the other."""
        states, pooled = [], []
        for tokenizer, encoder in zip(self.tokenizers[:2], self.encoders[:2], strict=True):
            answer = encoder(self.ids(texts, tokenizer, self.limit).input_ids, output_hidden_states=True)
            states.append(answer.hidden_states[-2].float())
            pooled.append(answer[0].float())
        clip = torch.cat(states, dim=-1)
        if len(self.encoders) == 2:
            width = int(self.denoiser.config.joint_attention_dim)
            long = torch.zeros(len(clip), T5_TOKENS, width, device=self.device)
        else:
            long = self.encoders[2](self.ids(texts, self.tokenizers[2], T5_TOKENS).input_ids)[0].float()
        clip = F.pad(clip, (0, long.shape[-1] - clip.shape[-1]))
        return Conditioning(torch.cat([clip, long], dim=-2), pooled=torch.cat(pooled, dim=-1))

    def denoise(self, x: Tensor, t: Tensor, given: Conditioning, guidance: float) -> Tensor:
        """The transformer."""
        self.grid = tuple(side // self.denoiser.config.patch_size for side in x.shape[-2:])
        assert given.pooled is not None  # `encode` gives it
        answer = self.denoiser(
            hidden_states=x.to(self.dtype),
            timestep=t.to(x.device).expand(len(x)),
            encoder_hidden_states=given.states.to(self.dtype),
            pooled_projections=given.pooled.to(self.dtype),
        )
        return answer.sample.float()  # type: ignore[no-any-return]

    def observe(self, callback: OnQuery) -> AbstractContextManager[list[Layer]]:
        """The joint attention of every block."""
        return observe_joint(self.denoiser, callback, lambda: self.grid, rotary=False)

    def set_timesteps(self, scheduler: Any, steps: int, size: tuple[int, int]) -> None:
        """A schedule that shifts with the size of the image is told it."""
        if scheduler.config.get("use_dynamic_shifting"):
            patch = self.denoiser.config.patch_size
            scheduler.set_timesteps(
                steps, device=self.device, mu=shift(scheduler.config, (size[0] // patch) * (size[1] // patch), 1.16)
            )
        else:
            scheduler.set_timesteps(steps, device=self.device)


def shift(config: Any, tokens: int, most: float) -> float:
    """How far a flow schedule is shifted for an image of so many tokens: a line through two points of its config."""
    first, last = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", most)
    slope = (high - low) / (last - first)
    return float(tokens * slope + (low - slope * first))
