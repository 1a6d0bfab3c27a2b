"""What decides how a network is trained, whatever it learns: the unit is the update, so that arms can be compared."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxrsynth.recipe.part import Part


class LoopConfig(Part):
    """A training of a given number of updates, however many images there are."""

    updates: int = Field(2000, ge=1)
    batch: int = Field(8, ge=1)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(50, ge=0)
    final_lr: float = Field(0.01, ge=0, le=1, description="of lr, reached by a cosine at the last update")
    weight_decay: float = Field(0.01, ge=0)
    beta2: float = Field(0.999, gt=0, lt=1, description="of AdamW")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    precision: Literal["bf16", "fp16", "no"] = "bf16"
    ema: float = Field(0.995, ge=0, lt=1, description="of weights per update; smaller at the start")
    look_every: int = Field(100, ge=1, description="updates between two validations")
    patience: int = Field(0, ge=0, description="stop after so many validations without gain; 0 never stops early")
    workers: int = Field(0, ge=0, description="processes that read batches beside the training")
    checkpoint_minutes: float = Field(4.0, gt=0)
    seed: int = Field(0, ge=0)


# What may change between a break and the resume.
FREE = ("updates", "look_every", "workers", "checkpoint_minutes")
