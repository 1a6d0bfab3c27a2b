"""Stable Diffusion XL: two text encoders side by side, a pooled text, and the size of the image as conditions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cxrsynth.nets import parts
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.families import fit
from cxrsynth.nets.families.sd import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """The UNet of Stable Diffusion, told more (Podell et al., arXiv 2307.01952)."""

    family = "Stable Diffusion XL"
    pipelines = ("StableDiffusionXLPipeline",)  # type: ignore[assignment]

    tokenizer_parts = ("tokenizer", "tokenizer_2")
    encoder_parts = ("text_encoder", "text_encoder_2")
    extra = "text_time"

    @classmethod
    def text_widths(cls, folder: Path) -> tuple[int, int]:
        """Two encoders side by side."""
        both = sum(fit.width(folder, name) for name in cls.encoder_parts)
        return both, fit.number(parts.config(folder, cls.part), "cross_attention_dim", folder)

    def encode(self, texts: Sequence[str], negative: bool = False) -> Conditioning:
        """The states before the last layer of both, one beside the other; an empty negative prompt is all zeros."""
        states, pooled = [], torch.empty(0)
        for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True):
            answer = encoder(self.ids(texts, tokenizer, self.limit).input_ids, output_hidden_states=True)
            states.append(answer.hidden_states[-2].float())
            pooled = answer[0].float()
        found = torch.cat(states, dim=-1)
        if negative and parts.index(self.folder).get("force_zeros_for_empty_prompt", True):
            told = torch.tensor([float(bool(text)) for text in texts], device=self.device)
            found, pooled = found * told[:, None, None], pooled * told[:, None]
        return Conditioning(found, pooled=pooled)

    def denoise(self, x: Tensor, t: Tensor, given: Conditioning, guidance: float) -> Tensor:
        """The UNet, told that the image is whole: original and target size are its own, nothing is cropped."""
        height, width = (side * self.factor for side in x.shape[-2:])
        size = torch.tensor([[height, width, 0, 0, height, width]], dtype=self.dtype, device=x.device)
        assert given.pooled is not None  # `encode` gives it
        answer = self.denoiser(
            x.to(self.dtype),
            t,
            encoder_hidden_states=given.states.to(self.dtype),
            timestep_cond=self.guidance_embedding(guidance, len(x)),
            added_cond_kwargs={"text_embeds": given.pooled.to(self.dtype), "time_ids": size.repeat(len(x), 1)},
        )
        return answer.sample.float()  # type: ignore[no-any-return]
