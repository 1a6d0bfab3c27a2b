"""Stable Diffusion 3: image and text in one joint attention, three text encoders, flow matching."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cxrsynth.nets import parts
from cxrsynth.nets.attention import Layer, OnQuery, observe_joint
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.families.base import Model

T5_TOKENS = 256


class StableDiffusion3(Model):
    """Maps come from the image-to-text part of the joint attention, of the prompt's own tokens (CLIP's)."""

    family = "Stable Diffusion 3"
    pipelines = ("StableDiffusion3Pipeline",)
    denoisers = ("SD3Transformer2DModel",)
    any_text = False

    def load_text(self) -> None:
        """Two CLIP encoders, and a T5 where the folder has one."""
        self.tokenizer = parts.load_tokenizer(self.folder)
        self.text_encoder = parts.load_text_encoder(self.folder).to(self.device)
        self.tokenizer_2 = parts.load_tokenizer(self.folder, "tokenizer_2")
        self.text_encoder_2 = parts.load_text_encoder(self.folder, "text_encoder_2").to(self.device)
        self.tokenizer_3, self.text_encoder_3 = None, None
        if parts.named(self.folder, "text_encoder_3") is not None:
            precision = self.dtype if self.dtype == torch.bfloat16 else torch.float32
            self.tokenizer_3 = parts.load_tokenizer(self.folder, "tokenizer_3")
            self.text_encoder_3 = parts.load_text_encoder(self.folder, "text_encoder_3", precision).to(self.device)

    def encode(self, texts: Sequence[str], negative: bool = False) -> Conditioning:
        """CLIP's states, widened with zeros, then T5's (zeros without one); the pooled texts one beside the other."""
        states, pooled = [], []
        for tokenizer, encoder in ((self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)):
            answer = encoder(self.ids(texts, tokenizer, self.limit).input_ids, output_hidden_states=True)
            states.append(answer.hidden_states[-2].float())
            pooled.append(answer[0].float())
        clip = torch.cat(states, dim=-1)
        if self.text_encoder_3 is None:
            width = int(self.denoiser.config.joint_attention_dim)
            long = torch.zeros(len(clip), T5_TOKENS, width, device=self.device)
        else:
            long = self.text_encoder_3(self.ids(texts, self.tokenizer_3, T5_TOKENS).input_ids)[0].float()
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
        """A schedule that shifts with the size of the picture is told it."""
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
