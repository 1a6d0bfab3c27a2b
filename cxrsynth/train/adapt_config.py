"""How a Stable-Diffusion model is adapted to images and reports; every default is here.

The settings of RoentGen (arXiv 2211.12737 and 2508.16783) that make sense on any machine are the defaults: UNet trained
whole, autoencoder frozen, cosine after a warm-up of 500, bfloat16, images padded to a square.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxrsynth.data.config import AugmentConfig, CaptionConfig, WordConfig
from cxrsynth.nets.config import WhatConfig
from cxrsynth.recipe.part import Part
from cxrsynth.train.config import FREE, GroundingConfig


class ImageConfig(Part):
    """Which images, and how they become square."""

    fit: Literal["pad", "squash"] = Field(
        "pad", description="pad: the image's own aspect ratio with black beside it; squash: as ingested"
    )
    size: int | None = Field(None, ge=32, description="pixels; by default what the base was made for")
    shares: dict[str, float] = Field(default_factory=dict, description="source -> share of the draws; others get none")
    only: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="column -> words; images of which the column has one of them: {findings: [pneumonia, normal]}",
    )
    weight: str | None = Field(None, description="column with the weight of each image: how often it is drawn")
    broken: Literal["refuse", "skip"] = Field(
        "refuse", description="images without words, words without an image, pictures that cannot be read"
    )


class NoiseConfig(Part):
    """Which noise is learned from, and what is predicted."""

    prediction: Literal["base", "epsilon", "v_prediction"] = "base"
    zero_snr: bool | None = Field(
        None,
        description="zero SNR at the last step (Lin et al., WACV 2024), needs v_prediction; as the base by default",
    )
    offset: float = Field(0.0, ge=0, description="deviation of a common offset per channel; 0.05 to 0.1 is usual")
    snr_gamma: float | None = Field(5.0, gt=0, description="min-SNR (Hang et al., ICCV 2023); null weighs all alike")


class AdaptConfig(Part):
    """The training itself."""

    steps: int = Field(1000, ge=1, description="updates")
    batch: int = Field(16, ge=1, description="images per update and process")
    micro: int | None = Field(None, ge=1, description="images at once; gradients of the parts of a batch are summed")
    lr: float = Field(5e-5, gt=0)
    final_lr: float = Field(0.0, ge=0, le=1, description="of lr, reached by a cosine at the last step")
    warmup: int = Field(500, ge=0, description="updates; at most a tenth of all")
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    precision: Literal["bf16", "fp16", "no"] = "bf16"
    gradient_checkpointing: bool = Field(False, description="less memory, about a third more time")
    ema: float = Field(0.9999, ge=0, lt=1, description="average of what trains; 0 keeps the last weights")
    ema_power: float = Field(0.75, gt=0, description="the EMA's memory grows with the run: 1 - (1 + step) ** -power")
    seed: int = 0
    log_every: int = Field(20, ge=1)
    validation_images: int = Field(48, ge=0, description="0 measures no validation loss")
    checkpoint_minutes: float = Field(10.0, gt=0)
    sheet_every: int = Field(250, ge=1)
    sheet_steps: int = Field(20, ge=1)
    sheet_guidance: float = Field(4.0, ge=1)
    sheet_prompts: tuple[str, ...] = (
        "Frontal chest X-ray, PA view. Findings: no abnormality.",
        "Frontal chest X-ray, PA view. Findings: cardiomegaly.",
        "Frontal chest X-ray, PA view. Findings: pneumonia.",
    )


class AdaptRecipe(Part):
    """Everything that decides what comes of a base. Folders are given on the command line."""

    name: str = "adapted"
    licence: str = Field("", description="of the result, for its card; by default the base's and the data's are listed")
    what: WhatConfig = WhatConfig()
    images: ImageConfig = ImageConfig()
    words: WordConfig = WordConfig()
    captions: CaptionConfig = CaptionConfig()
    augment: AugmentConfig = AugmentConfig()
    noise: NoiseConfig = NoiseConfig()
    grounding: GroundingConfig = GroundingConfig()
    adapt: AdaptConfig = AdaptConfig()

    def trained_by(self) -> str:
        """Digest of the settings that a running training cannot change."""
        return self.digest("name", "licence", "adapt") + self.adapt.digest(*FREE)
