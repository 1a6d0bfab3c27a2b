"""What decides how a segmentation network is trained; folders are given on the command line."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cxrsynth.data.config import SegmentAugment
from cxrsynth.recipe.settings import settle
from cxrsynth.train.loop_config import LoopConfig


class SegmentConfig(LoopConfig):
    """A training of a segmentation network."""

    arch: str = "unet"
    encoder: str = "resnet34"
    options: dict[str, Any] = Field(default_factory=dict, description="further arguments of the architecture")
    imagenet: bool = Field(
        False,
        description="start the encoder from ImageNet weights (extra 'pretrained'): tu-tf_efficientnet_lite0, 1 or 2",
    )
    classes: tuple[str, ...] = Field((), description="all classes by default, where all datasets have the same")
    size: int = Field(256, ge=32, multiple_of=32, description="side of the square the network sees")
    dice_weight: float = Field(1.0, ge=0)
    cross_entropy_weight: float = Field(1.0, ge=0)
    validation_images: int = Field(100, ge=1, description="at most so many decide which weights are best")
    hardness: float = Field(
        0.0,
        ge=0,
        le=1,
        description="part of the draws in proportion to the hardness that prune wrote; 0 takes all images alike",
    )
    benchmark: bool = Field(
        False, description="also masks that may only be used to measure; keep the weights to yourself"
    )
    patience: int = Field(10, ge=0, description="stop after so many validations without gain; 0 never stops early")
    augment: SegmentAugment = SegmentAugment()


def configure(values: dict[str, Any], overrides: dict[str, Any] | None = None) -> SegmentConfig:
    """A configuration from named values, as `settle` makes it."""
    return settle(SegmentConfig, values, overrides or {}, "cxrsynth train-seg --help")
