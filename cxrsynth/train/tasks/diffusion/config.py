"""How a latent diffusion model is trained, from nothing or from a base; every default is here.

The settings of RoentGen (arXiv 2211.12737 and 2508.16783) that make sense on any machine are the defaults of an
adaptation: UNet trained whole, autoencoder frozen, cosine after a warm-up of 500, images padded to a square.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from cxrsynth.data.config import AugmentConfig, CaptionConfig, ImageConfig, WordConfig
from cxrsynth.nets.config import GroundingConfig, NoiseConfig, TextConfig, UnetConfig, WhatConfig
from cxrsynth.recipe.part import Part
from cxrsynth.train.loop_config import FREE, LoopConfig


class FreshConfig(Part):
    """What is built where no base is named: a text encoder for the captions' own words, and a UNet."""

    text: TextConfig = TextConfig()
    unet: UnetConfig = UnetConfig()


class TrainingConfig(LoopConfig):
    """The training itself."""

    updates: int = Field(1000, ge=1)
    batch: int = Field(16, ge=1, description="images per update and process")
    micro: int | None = Field(None, ge=1, description="images at once; gradients of the parts of a batch are summed")
    lr: float = Field(5e-5, gt=0)
    final_lr: float = Field(0.0, ge=0, le=1, description="of lr, reached by a cosine at the last update")
    warmup: int = Field(500, ge=0, description="updates; at most a tenth of all")
    beta2: float = Field(0.99, gt=0, lt=1, description="of AdamW")
    ema: float = Field(0.9999, ge=0, lt=1, description="average of what trains; 0 keeps the last weights")
    look_every: int = Field(250, ge=1, description="updates between two validations and sheets")
    checkpoint_minutes: float = Field(10.0, gt=0)
    gradient_checkpointing: bool = Field(False, description="less memory, about a third more time")
    validation_images: int = Field(48, ge=0, description="0 measures no validation loss")
    sheet_steps: int = Field(20, ge=1)
    sheet_guidance: float = Field(4.0, ge=1)
    sheet_prompts: tuple[str, ...] = (
        "Frontal chest X-ray, PA view. Findings: no abnormality.",
        "Frontal chest X-ray, PA view. Findings: cardiomegaly.",
        "Frontal chest X-ray, PA view. Findings: pneumonia.",
    )


# What a training shows may change between a break and the resume.
FREE_HERE = (*FREE, "sheet_steps", "sheet_guidance", "sheet_prompts")


class DiffusionRecipe(Part):
    """Everything that decides what is trained. Folders are given on the command line."""

    name: str = "model"
    licence: str = Field("", description="of the result, for its card; by default the base's and the data's are listed")
    shard_mib: int = Field(4096, ge=1, description="largest weight file of the result; hosts of code want 15")
    fresh: FreshConfig = FreshConfig()
    what: WhatConfig = WhatConfig()
    images: ImageConfig = ImageConfig()
    words: WordConfig = WordConfig()
    captions: CaptionConfig = CaptionConfig()
    augment: AugmentConfig = AugmentConfig()
    noise: NoiseConfig = NoiseConfig()
    grounding: GroundingConfig = GroundingConfig()
    training: TrainingConfig = TrainingConfig()

    @field_validator("grounding")
    @classmethod
    def _apart(cls, value: GroundingConfig) -> GroundingConfig:
        both = set(value.phrases) & set(value.findings)
        if both:
            raise ValueError(f"{', '.join(sorted(both))} is named as anatomy and as a finding")
        return value

    def trained_by(self) -> str:
        """Digest of the settings that a running training cannot change."""
        return self.digest("name", "licence", "shard_mib", "training") + self.training.digest(*FREE_HERE)
