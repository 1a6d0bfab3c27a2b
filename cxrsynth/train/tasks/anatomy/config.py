"""How the network behind the anatomy controller is built and trained; every default is here."""

from __future__ import annotations

from pydantic import Field

from cxrsynth.train.loop_config import LoopConfig


class AnatomyConfig(LoopConfig):
    """Label map -> pseudo-radiograph (XReal, arXiv 2403.09240, section 3)."""

    classes: tuple[str, ...] = ("right_lung", "left_lung", "heart")
    widths: tuple[int, int, int] = Field((24, 48, 112), description="channels at 1/2, 1/4 and 1/8; multiples of 8")
    middle: int = Field(4, ge=1, description="residual blocks at 1/8")
    # The result is noised before anything is generated from it; twice the side costs four times the time and shows as
    # much.
    size: int = Field(128, ge=32, multiple_of=8, description="side of the square it works at")
    labelled_images: int = Field(600, ge=0, description="at most so many images labelled by --weights; spread over all")
    human: float = Field(0.5, ge=0, le=1, description="share of label items with reference masks, where both are")
    images: float = Field(0.5, ge=0, lt=1, description="share of items that map an image to itself; XReal: a half")
    zoom: float = Field(0.15, ge=0, lt=0.5, description="up to this share of each side is cut off at random")
    gamma: float = Field(0.15, ge=0, lt=1, description="random change of tone of images that map to themselves")
    batch: int = Field(8, ge=2)
    updates: int = Field(1500, ge=1)
    ema: float = Field(0.0, ge=0, lt=1, description="of weights per update; 0 keeps the weights themselves")
    look_every: int = Field(500, ge=1)
    warmup: int = Field(30, ge=0)
    weight_decay: float = Field(1e-4, ge=0)
    gradient_weight: float = Field(0.5, ge=0, description="weight of the multi-scale gradient difference")
    checkpoint_minutes: float = Field(1.0, gt=0)
