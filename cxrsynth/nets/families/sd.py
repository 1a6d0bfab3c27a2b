"""Stable Diffusion 1.x and 2.x, RoentGen, RadEdit, latent consistency models, and small models of the same form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from cxrsynth.errors import MissingError
from cxrsynth.nets import parts
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.families import fit
from cxrsynth.nets.families.base import Model


class StableDiffusion(Model):
    """A UNet with cross-attention to the last states of one text encoder: CLIP, or a BERT of a radiology model."""

    family = "Stable Diffusion"
    pipelines = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")
    part = "unet"
    denoisers = ("UNet2DConditionModel",)

    extra: ClassVar[str | None] = None  # what the UNet is told besides the text

    @classmethod
    def text_widths(cls, folder: Path) -> tuple[int, int]:
        """One encoder; all blocks of the UNet read the same width."""
        return fit.width(folder), fit.number(parts.config(folder, cls.part), "cross_attention_dim", folder)

    @classmethod
    def check_fit(cls, folder: Path) -> None:
        """A UNet that wants more than its text belongs to another family, or to a task of its own."""
        super().check_fit(folder)
        config = parts.config(folder, cls.part)
        asked = {config.get(key) for key in ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type")}
        if asked - {None, cls.extra}:
            found = ", ".join(sorted(str(one) for one in asked - {None, cls.extra}))
            raise MissingError(f"the UNet of {folder} wants more than a text ({found})", fit.PIPELINE)

    def encode(self, texts: Sequence[str], negative: bool = False) -> Conditioning:
        """The last hidden states; padding is masked only where the encoder's config asks for it, as diffusers does."""
        found = self.ids(texts, self.tokenizer, self.limit)
        encoder = self.encoders[0]
        masked = getattr(encoder.config, "use_attention_mask", False)
        states = encoder(found.input_ids, attention_mask=found.attention_mask if masked else None)[0]
        return Conditioning(states.float())

    def denoise(self, x: Tensor, t: Tensor, given: Conditioning, guidance: float) -> Tensor:
        """The UNet; a distilled one is told the guidance."""
        answer = self.denoiser(
            x.to(self.dtype),
            t,
            encoder_hidden_states=given.states.to(self.dtype),
            timestep_cond=self.guidance_embedding(guidance, len(x)),
        )
        return answer.sample.float()  # type: ignore[no-any-return]

    @property
    def steps(self) -> int:  # type: ignore[override]
        """A latent consistency model is distilled to few."""
        return 4 if self.embeds_guidance else 20

    @property
    def guidance(self) -> float:  # type: ignore[override]
        """A latent consistency model takes more, as an input."""
        return 8.5 if self.embeds_guidance else 3.0

    @property
    def multiple(self) -> int:
        """Each level of the UNet halves the grid."""
        return self.factor * int(2 ** (len(self.denoiser.config.block_out_channels) - 1))

    @property
    def embeds_guidance(self) -> bool:
        """Latent consistency models (Luo et al., arXiv 2310.04378) do."""
        return self.denoiser.config.get("time_cond_proj_dim") is not None

    def guidance_embedding(self, guidance: float, count: int) -> Tensor | None:
        """(count, D) sines and cosines of the guidance, for models that take it; as diffusers makes them."""
        width = self.denoiser.config.get("time_cond_proj_dim")
        if width is None:
            return None
        half = width // 2
        turns = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
        angles = torch.tensor([(guidance - 1) * 1000.0]).repeat(count)[:, None] * turns[None]
        found = torch.cat([angles.sin(), angles.cos()], dim=1)
        if width % 2:
            found = torch.nn.functional.pad(found, (0, 1))
        return found.to(self.device, self.dtype)
