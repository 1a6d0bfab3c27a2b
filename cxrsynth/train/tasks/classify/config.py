"""What decides how a classifier is trained; folders are given on the command line."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cxrsynth.data.config import SegmentAugment
from cxrsynth.domain.lexicon import Negatives
from cxrsynth.recipe.settings import settle
from cxrsynth.train.loop_config import LoopConfig


class ClassifyConfig(LoopConfig):
    """A training of a multi-label classifier."""

    encoder: str = Field("resnet18", description="any classification network of timm")
    options: dict[str, Any] = Field(default_factory=dict, description="further arguments of the encoder")
    imagenet: bool = Field(
        False, description="start from the ImageNet weights of the extra 'pretrained': tf_efficientnet_lite0, 1 or 2"
    )
    labels: tuple[str, ...] = Field((), description="all with enough images by default")
    least: int = Field(60, ge=1, description="images of each kind in the train split that make a label by itself")
    negatives: Negatives = "normal"
    size: int = Field(192, ge=32, multiple_of=32, description="side of the square the network sees")
    batch: int = Field(16, ge=1)
    weight_decay: float = Field(0.05, ge=0)
    most_weight: float = Field(10.0, ge=1, description="a rare kind counts at most so many times a common one")
    dropout: float = Field(0.1, ge=0, lt=1)
    validation_images: int = Field(400, ge=1, description="at most so many decide which weights are best")
    patience: int = Field(10, ge=0, description="stop after so many validations without gain; 0 never stops early")
    augment: SegmentAugment = SegmentAugment()


def configure(values: dict[str, Any], overrides: dict[str, Any] | None = None) -> ClassifyConfig:
    """A configuration from named values, as `settle` makes it."""
    return settle(ClassifyConfig, values, overrides or {}, "cxrsynth train-cls --help")
