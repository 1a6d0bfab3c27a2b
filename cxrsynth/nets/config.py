"""How networks are built and which of their parts train; every default is here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cxrsynth.recipe.part import Part

How = Literal["full", "lora", "frozen"]


class TextConfig(Part):
    """Tokenizer and CLIP text encoder, trained from scratch on the captions."""

    vocabulary: int = Field(1200, ge=520, description="sub-words, single bytes included")
    width: int = Field(192, ge=8)
    layers: int = Field(3, ge=1)
    heads: int = Field(4, ge=1)
    tokens: int = Field(77, ge=16, description="length every prompt is padded to")


class UnetConfig(Part):
    """UNet2DConditionModel with cross-attention at 1/1, 1/2 and 1/4 of the latent grid."""

    block_out_channels: tuple[int, int, int] = (64, 128, 256)
    layers_per_block: int = Field(1, ge=1)
    self_attention: tuple[bool, bool, bool] = Field(
        (False, True, True), description="per grid; on the finest it takes a third of the time and gains little"
    )
    head_dim: int = Field(64, ge=4)
    norm_groups: int = Field(32, ge=1)


class NoiseConfig(Part):
    """Which noise is learned from, and what is predicted."""

    prediction: Literal["base", "epsilon", "v_prediction"] = "base"
    zero_snr: bool | None = Field(
        None,
        description="zero SNR at the last step (Lin et al., WACV 2024), needs v_prediction; as the base by default",
    )
    offset: float = Field(0.0, ge=0, description="deviation of a common offset per channel; 0.05 to 0.1 is usual")
    snr_gamma: float | None = Field(5.0, gt=0, description="min-SNR (Hang et al., ICCV 2023); null weighs all alike")


class WhatConfig(Part):
    """What trains. The autoencoder never does."""

    unet: How = "full"
    text_encoder: How = Field(
        "frozen",
        description="RoentGen tunes it, which draws best and ruins the attention maps; frozen, or with grounding, "
        "they locate",
    )
    encoder: Path | None = Field(
        None, description="folder of another text encoder with its tokenizer, in place of the base's own"
    )
    rank: int = Field(16, ge=1, description="of LoRA (Hu et al., ICLR 2022)")
    alpha: int | None = Field(None, ge=1, description="LoRA's scale times rank; the rank by default: scale 1")
    dropout: float = Field(0.0, ge=0, lt=1, description="in front of LoRA's own weights")
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"), min_length=1, description="layers of the UNet that get a LoRA"
    )
    text_targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "out_proj"), min_length=1, description="layers of the text encoder, likewise"
    )

    @model_validator(mode="after")
    def _something(self) -> WhatConfig:
        if self.unet == self.text_encoder == "frozen":
            raise ValueError("unet and text_encoder are both frozen: nothing would train")
        return self

    @property
    def adapter(self) -> bool:
        """Whether LoRA is all that is changed, so that a small adapter says everything."""
        return "full" not in (self.unet, self.text_encoder) and self.encoder is None
