"""PixArt-alpha and PixArt-Sigma: a diffusion transformer with cross-attention to a T5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cxrsynth.nets import parts
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.families import fit
from cxrsynth.nets.families.base import Model

# Tokens that the published models were trained with (Chen et al., arXiv 2310.00426 and 2403.04692).
TOKENS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}


class PixArt(Model):
    """One grid of patches, the same in all blocks; padding is masked."""

    family = "PixArt"
    pipelines = tuple(TOKENS)
    denoisers = ("PixArtTransformer2DModel", "Transformer2DModel")

    large = ("text_encoder",)

    guidance = 4.5

    @classmethod
    def text_widths(cls, folder: Path) -> tuple[int, int]:
        """A T5."""
        return fit.width(folder), fit.number(parts.config(folder, cls.part), "caption_channels", folder)

    @property
    def limit(self) -> int:
        """As its pipeline in diffusers has it; the tokenizer of a T5 states none."""
        return min(TOKENS[parts.index(self.folder)["_class_name"]], int(self.tokenizer.model_max_length))

    def prepare(self, text: str) -> str:
        """Lower case, without spaces around, as the models were trained."""
        return text.lower().strip()

    def encode(self, texts: Sequence[str], negative: bool = False) -> Conditioning:
        """The last states of the T5 with their mask."""
        found = self.ids([self.prepare(text) for text in texts], self.tokenizer, self.limit)
        states = self.encoders[0](found.input_ids, attention_mask=found.attention_mask)[0]
        return Conditioning(states.float(), found.attention_mask)

    def denoise(self, x: Tensor, t: Tensor, given: Conditioning, guidance: float) -> Tensor:
        """The transformer; of a learned variance only the prediction is kept."""
        answer = self.denoiser(
            x.to(self.dtype),
            encoder_hidden_states=given.states.to(self.dtype),
            encoder_attention_mask=given.mask,
            timestep=t.to(x.device).expand(len(x)),
            added_cond_kwargs=self._size(x),
        )
        return answer.sample.float()[:, : self.channels]  # type: ignore[no-any-return]

    def _size(self, x: Tensor) -> dict[str, Tensor | None]:
        """PixArt-alpha at 1024 pixels is told size and shape of the image."""
        if not self.denoiser.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        height, width = (side * self.factor for side in x.shape[-2:])
        size = torch.tensor([[height, width]], dtype=self.dtype, device=x.device)
        shape = torch.tensor([[height / width]], dtype=self.dtype, device=x.device)
        return {"resolution": size.repeat(len(x), 1), "aspect_ratio": shape.repeat(len(x), 1)}

    def keys_from(self, given: Conditioning) -> Tensor:
        """All blocks read the projected caption."""
        found: Tensor = self.denoiser.caption_projection(given.states.to(self.dtype))
        return found
