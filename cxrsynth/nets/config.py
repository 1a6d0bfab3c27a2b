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


class GroundingConfig(Part):
    """Loss that makes phrases look where their masks are (TokenCompose, CVPR 2024, eq. 3 and 4).

    The anatomy is read from one text, each finding from a text of its own, beside "no finding": a finding lies over the
    anatomy and shall not take its attention.
    """

    phrases: dict[str, str] = Field(
        default_factory=lambda: {"right_lung": "right lung", "left_lung": "left lung", "heart": "heart"},
        description="class of the anatomy -> its phrase; reference masks of images say where it is",
    )
    findings: dict[str, str] = Field(
        default_factory=dict, description="finding -> its phrase; masks of simulated findings say where it is"
    )
    levels: tuple[int, ...] = (1, 2)
    images_per_batch: int = Field(
        4, ge=0, description="images with reference masks in every batch; 0 trains without grounding"
    )
    findings_per_batch: int = Field(0, ge=0, description="images with simulated findings in every batch")
    token_weight: float = Field(0.1, ge=0)
    pixel_weight: float = Field(0.1, ge=0)

    @property
    def names(self) -> list[str]:
        """All classes: the anatomy, then the findings."""
        return [*self.phrases, *self.findings]

    @property
    def groups(self) -> list[tuple[dict[str, str], bool]]:
        """Classes and phrases that share a text, and whether it is a finding's own text."""
        anatomy = [(self.phrases, False)] if self.phrases else []
        return [*anatomy, *(({name: phrase}, True) for name, phrase in self.findings.items())]
