"""How a mask head is built and fitted; every default is here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxrsynth.data.config import AugmentConfig
from cxrsynth.train.loop_config import LoopConfig


class MaskHeadConfig(LoopConfig):
    """How the head is built and fitted."""

    classes: tuple[str, ...] = Field(("right_lung", "left_lung", "heart"), min_length=1)
    width: int = Field(32, ge=16, multiple_of=16, description="channels inside the head")
    timesteps: tuple[int, ...] = Field((10, 50, 100), min_length=1, description="noise of the images, in turn")
    variants: int = Field(3, ge=1, description="copies of each image, all but the first slightly changed")
    augment: AugmentConfig = AugmentConfig(shift=0.08, scale=0.16, rotate=9.0, gamma=0.35)
    tone: float = Field(0.15, ge=0, lt=1, description="how much contrast and brightness vary that the edges see")
    updates: int = Field(500, ge=1)
    lr: float = Field(3e-3, gt=0)
    ema: float = Field(0.99, ge=0, lt=1, description="average of the weights; its memory grows with the run")
    final_lr: float = Field(0.02, ge=0, le=1)
    clip: float = Field(1e6, gt=0, description="largest norm of the gradient; by default none is so large")
    precision: Literal["bf16", "fp16", "no"] = "no"
    warmup: int = Field(30, ge=0)
    dropout: float = Field(0.2, ge=0, lt=1, description="of feature channels, so that the head leans on no single one")
    checkpoint_minutes: float = Field(1.0, gt=0)
