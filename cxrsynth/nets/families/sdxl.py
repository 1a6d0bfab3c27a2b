"""Stable Diffusion XL: two text encoders side by side, a pooled text, and the size of the picture as conditions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cxrsynth.nets import parts
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.families.sd import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """The UNet of Stable Diffusion, told more (Podell et al., arXiv 2307.01952)."""

    family = "Stable Diffusion XL"
    pipelines = ("StableDiffusionXLPipeline",)

    def load_text(self) -> None:
        """Two CLIP encoders, in float32; the second also gives the pooled text."""
        self.tokenizer = parts.load_tokenizer(self.folder)
        self.text_encoder = parts.load_text_encoder(self.folder).to(self.device)
        self.tokenizer_2 = parts.load_tokenizer(self.folder, "tokenizer_2")
        self.text_encoder_2 = parts.load_text_encoder(self.folder, "text_encoder_2").to(self.device)
        self.zero_empty = bool(parts.index(self.folder).get("force_zeros_for_empty_prompt", True))

    def encode(self, texts: Sequence[str], negative: bool = False) -> Conditioning:
        """The states before the last layer of both, one beside the other; an empty negative prompt is all zeros."""
        states, pooled = [], torch.empty(0)
        for tokenizer, encoder in ((self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)):
            answer = encoder(self.ids(texts, tokenizer, self.limit).input_ids, output_hidden_states=True)
            states.append(answer.hidden_states[-2].float())
            pooled = answer[0].float()
        found = torch.cat(states, dim=-1)
        if negative and self.zero_empty:
            told = torch.tensor([float(bool(text)) for text in texts], device=self.device)
            found, pooled = found * told[:, None, None], pooled * told[:, None]
        return Conditioning(found, pooled=pooled)

    def denoise(self, x: Tensor, t: Tensor, given: Conditioning, guidance: float) -> Tensor:
        """The UNet, told that the picture is whole: original and target size are its own, nothing is cropped."""
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
