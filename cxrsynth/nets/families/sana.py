"""Sana: a linear diffusion transformer with cross-attention to a small language model (Gemma), 32 pixels a latent."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

import diffusers
from torch import Tensor

from cxrsynth.nets import parts
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.families import fit
from cxrsynth.nets.families.base import Model
from cxrsynth.nets.taps import phrase_columns

TOKENS = 300


class Sana(Model):
    """Self-attention is linear and has no maps; the cross-attention is an ordinary one (Xie et al., 2410.10629)."""

    family = "Sana"
    pipelines = ("SanaPipeline",)
    denoisers = ("SanaTransformer2DModel",)
    autoencoders = ("AutoencoderDC", "AutoencoderKL")

    large = ("text_encoder",)
    self_maps = False

    guidance = 4.5

    @classmethod
    def text_widths(cls, folder: Path) -> tuple[int, int]:
        """A decoder-only language model."""
        return fit.width(folder), fit.number(parts.config(folder, cls.part), "caption_channels", folder)

    def _load_tokenizers(self) -> None:
        super()._load_tokenizers()
        self.tokenizer.padding_side = "right"
        # Before every prompt stands the instruction that the published models were trained with.
        default = inspect.signature(diffusers.SanaPipeline.__call__).parameters["complex_human_instruction"].default
        self.instruction = "\n".join(default)
        self.before = len(self.tokenizer.encode(self.instruction))

    @property
    def limit(self) -> int:
        """As its pipeline in diffusers has it; the instruction does not count."""
        return TOKENS

    def prepare(self, text: str) -> str:
        """Lower case, without spaces around."""
        return text.lower().strip()

    def encode(self, texts: Sequence[str], negative: bool = False) -> Conditioning:
        """The last states with their mask: the first token, and those behind the instruction."""
        prepared = [self.prepare(text) for text in texts]
        kept: slice | list[int]
        if negative:
            found, kept = self.ids(prepared, self.tokenizer, TOKENS), slice(None)
        else:
            whole = self.before + TOKENS - 2
            found, kept = self.ids([self.instruction + text for text in prepared], self.tokenizer, whole), self._kept
        states = self.encoders[0](found.input_ids, attention_mask=found.attention_mask)[0]
        return Conditioning(states.float()[:, kept], found.attention_mask[:, kept])

    @property
    def _kept(self) -> list[int]:
        return [0, *range(-TOKENS + 1, 0)]

    def columns(self, text: str, phrases: Sequence[str]) -> list[list[int]]:
        """Found in the prompt only, counted behind the instruction."""
        prepared, lead = self.prepare(text), len(self.instruction)
        both = self.tokenizer(self.instruction + prepared, return_offsets_mapping=True, truncation=False)
        offsets = [(a - lead, b - lead) if b > lead else (0, 0) for a, b in both["offset_mapping"]]
        moved = self.before - 2  # `encode` keeps the first token and those from here on
        return [[i - moved for i in found if i > moved] for found in phrase_columns(prepared, offsets, phrases)]

    def denoise(self, x: Tensor, t: Tensor, given: Conditioning, guidance: float) -> Tensor:
        """The transformer, in its own scale of time."""
        answer = self.denoiser(
            x.to(self.dtype),
            encoder_hidden_states=given.states.to(self.dtype),
            encoder_attention_mask=given.mask,
            timestep=t.to(x.device).expand(len(x)) * self.denoiser.config.timestep_scale,
        )
        return answer.sample.float()[:, : self.channels]  # type: ignore[no-any-return]

    def keys_from(self, given: Conditioning) -> Tensor:
        """All blocks read the projected and normalised caption."""
        found: Tensor = self.denoiser.caption_norm(self.denoiser.caption_projection(given.states.to(self.dtype)))
        return found
