"""How an adapter that knows findings by place is trained; every default is here."""

from __future__ import annotations

from pydantic import Field

from cxrsynth.train.loop_config import LoopConfig


class PathologyConfig(LoopConfig):
    """LoRA on a denoiser, and which regions of which images it learns findings from."""

    findings: dict[str, tuple[str, ...]] = Field(
        {
            "pneumonia": ("pneumonia", "infiltration", "consolidation"),
            "tuberculosis": ("tuberculosis",),
            "effusion": ("effusion",),
        },
        min_length=1,
        description="word of the prompt -> findings of images that may show it",
    )
    places: dict[str, tuple[str, ...]] = Field(
        {
            "pneumonia": ("upper zone", "mid zone", "lower zone"),
            "tuberculosis": ("upper zone", "mid zone", "lower zone"),
            "effusion": ("lower zone", "costophrenic angle"),
        },
        description="word of the prompt -> where in either lung it may lie",
    )
    # A label says that an image shows something, not where. A zone counts as its place where it is brighter than in
    # normal images of the same source, and as clear where it is not.
    bright: float = Field(1.2, description="robust deviations above normal images that make a zone a finding's place")
    clear: float = Field(0.5, description="a zone of a normal image may be at most so bright")
    normal: float = Field(0.3, gt=0, lt=1, description="share of clear zones among the regions")
    blob: float = Field(0.5, ge=0, le=1, description="share of regions that are a ragged part of the zone")
    plain: float = Field(0.4, ge=0, le=1, description="share of prompts that say the view only, not age and sex")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of empty prompts, for classifier-free guidance")
    elsewhere: float = Field(0.1, ge=0, le=1, description="weight of the loss outside the region")
    variants: int = Field(3, ge=1, description="copies of each image, all but the first with another tone")
    gamma: float = Field(0.6, ge=0, lt=2, description="how far their tone differs: it shall be read from the image")
    rank: int = Field(16, ge=1)
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2"),
        min_length=1,
        description="layers of the UNet that get a LoRA",
    )
    updates: int = Field(600, ge=1)
    final_lr: float = Field(0.05, ge=0, le=1)
    ema: float = Field(0.0, ge=0, lt=1, description="of weights per update; 0 keeps the weights themselves")
    warmup: int = Field(20, ge=0)
    checkpoint_minutes: float = Field(1.0, gt=0)
