"""The training recipe: one YAML file, one place for every default. A typo is an error when the file is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from cxrsynth.data.config import AugmentConfig, CaptionConfig
from cxrsynth.errors import RecipeError
from cxrsynth.nets.config import TextConfig, UnetConfig
from cxrsynth.recipe import explain, put, read
from cxrsynth.recipe.part import Part


class VaeConfig(Part):
    """Autoencoder with f8, one gray channel, four latent channels; trained on random crops.

    Crops keep a CPU busy with ten times more images than whole pictures would; the network is convolutional, so it
    works on whole images without having seen one.
    """

    block_out_channels: tuple[int, ...] = (16, 32, 64, 128)
    layers_per_block: int = Field(1, ge=1)
    norm_groups: int = Field(8, ge=1)
    latent_channels: int = Field(4, ge=1)
    crop: int = Field(96, ge=16, multiple_of=8)
    batch: int = Field(16, ge=1)
    steps: int = Field(1500, ge=1)
    lr: float = Field(4e-4, gt=0)
    warmup: int = Field(50, ge=0)
    kl_weight: float = Field(1e-4, ge=0)
    gradient_weight: float = Field(1.0, ge=0, description="weight of the multi-scale gradient difference")
    clip: float = Field(1.0, gt=0)
    decoder_steps: int = Field(600, ge=1, description="of `train-vae --decoder`")
    decoder_lr: float = Field(6e-4, gt=0)


class GroundingConfig(Part):
    """Loss that makes class phrases look at the class's reference mask (TokenCompose, CVPR 2024, eq. 3 and 4)."""

    phrases: dict[str, str] = Field(
        default_factory=lambda: {"right_lung": "right lung", "left_lung": "left lung", "heart": "heart"}
    )
    levels: tuple[int, ...] = (1, 2)
    images_per_batch: int = Field(
        4, ge=0, description="images with reference masks in every batch; 0 trains without grounding"
    )
    token_weight: float = Field(0.1, ge=0)
    pixel_weight: float = Field(0.1, ge=0)


class DiffusionConfig(Part):
    """The denoiser's training."""

    steps: int = Field(2000, ge=1)
    batch: int = Field(16, ge=1)
    lr: float = Field(5e-4, gt=0)
    final_lr: float = Field(0.05, ge=0, le=1, description="of lr, reached by a cosine at the last step")
    warmup: int = Field(100, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)
    snr_gamma: float = Field(5.0, gt=0)
    caption_dropout: float = Field(0.12, ge=0, le=1, description="share of empty prompts, for classifier-free guidance")
    ema: float = Field(0.9995, ge=0, lt=1)
    ema_power: float = Field(0.75, gt=0, description="the EMA's memory grows with the run: 1 - (1 + step) ** -power")
    shares: dict[str, float] = Field(default_factory=dict, description="source -> share of the draws; others get none")
    seed: int = 0
    log_every: int = Field(20, ge=1)
    validation_images: int = Field(48, ge=1)
    checkpoint_minutes: float = Field(4.0, gt=0)
    sheet_every: int = Field(250, ge=1)
    sheet_steps: int = Field(20, ge=1)
    sheet_guidance: float = Field(3.0, ge=1)
    sheet_prompts: tuple[str, ...] = (
        "Frontal chest X-ray, PA view, of a 35-year-old man. Findings: no abnormality.",
        "Frontal chest X-ray, PA view, of a 70-year-old woman. Findings: cardiomegaly.",
        "Frontal chest X-ray, AP view, of a 60-year-old man. Findings: COVID-19 pneumonia.",
        "Frontal chest X-ray, PA view, of a 30-year-old woman. "
        "Findings: pulmonary tuberculosis in the right upper field.",
        "Frontal chest X-ray, PA view. Findings: normal heart size.",
        "Frontal chest X-ray, AP view, of a young child. Findings: no abnormality.",
    )


# How long a training runs and what it shows may change between a break and the resume.
FREE = ("steps", "log_every", "checkpoint_minutes", "sheet_every", "sheet_steps", "sheet_guidance", "sheet_prompts")


class TrainRecipe(Part):
    """Everything that decides what is trained. Folders are given on the command line."""

    name: str = "model"
    vae: VaeConfig = VaeConfig()
    text: TextConfig = TextConfig()
    unet: UnetConfig = UnetConfig()
    captions: CaptionConfig = CaptionConfig()
    augment: AugmentConfig = AugmentConfig()
    grounding: GroundingConfig = GroundingConfig()
    diffusion: DiffusionConfig = DiffusionConfig()


AnyRecipe = TypeVar("AnyRecipe", bound=Part)


def load(path: Path, overrides: dict[str, Any] | None = None) -> TrainRecipe:
    """A recipe for training from scratch: a YAML file or the name of a bundled one (``recipes/train/mini.yaml``).

    Raises:
        RecipeError: as `load_as`.
    """
    return load_as(TrainRecipe, path, overrides)


def load_as(kind: type[AnyRecipe], path: Path, overrides: dict[str, Any] | None = None) -> AnyRecipe:
    """A recipe of a kind of training.

    Args:
        overrides: dotted name (``diffusion.steps``) -> value.

    Raises:
        RecipeError: the file is missing, no YAML, or has a wrong key or value; the message names it.
    """
    file, body = read(path)
    for name, value in (overrides or {}).items():
        put(body, name, value)
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise RecipeError(f"{file}: {explain(error, kind)}", "fix it in the recipe") from None
