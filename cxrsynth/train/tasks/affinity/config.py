"""How an AffinityNet is built and trained; every default is here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxrsynth.train.loop_config import LoopConfig


class AffinityConfig(LoopConfig):
    """How the network is built and trained."""

    encoder: str = Field("regnetx_002", description="timm model with features at stride 4, 8 and 16")
    width: int = Field(32, ge=4, description="features per place")
    stride: int = Field(4, ge=4, le=8, multiple_of=4, description="pixels between places")
    radius: int = Field(5, ge=2, le=16, description="neighbours nearer than this, in places, are compared")
    size: int = Field(256, ge=64, multiple_of=16, description="images are seen with so many rows and columns")
    crop: int = Field(192, ge=32, multiple_of=16)
    updates: int = Field(400, ge=1)
    final_lr: float = Field(0.05, ge=0, le=1)
    warmup: int = Field(20, ge=0)
    weight_decay: float = Field(1e-4, ge=0)
    gamma: float = Field(0.3, ge=0, lt=1, description="random change of tone, so that edges count and not gray levels")
    certainty: float = Field(0.7, gt=0, le=1, description="how far DenseCRF believes the rough labels of the seeds")
    # DiffuMask's band (1.0) leaves two thirds of a heart disputed, and with it every edge the network should learn.
    # Maps that were grounded on images are plateaus: at 0.2 still 98 % of the seeds are right and twice as many edges
    # are known.
    band: float = Field(0.2, ge=0, le=1, description="how far foreground seeds keep from the adapted threshold")
    held_out: float = Field(
        0.15, gt=0, lt=1, description="share kept out to stop by, where the pilot has no split 'val'"
    )
    ema: float = Field(0.0, ge=0, lt=1, description="of weights per update; 0 keeps the weights themselves")
    clip: float = Field(1e6, gt=0, description="largest norm of the gradient; by default none is so large")
    precision: Literal["bf16", "fp16", "no"] = "no"
    look_every: int = Field(25, ge=1)
    patience: int = Field(6, ge=0, description="validations without a better held-out loss before it stops; 0 never")
    checkpoint_minutes: float = Field(1.0, gt=0)
