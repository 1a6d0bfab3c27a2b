"""What the benchmark of findings makes, trains and measures."""

from __future__ import annotations

from pydantic import Field

from cxrsynth.factory.simulation import Simulation
from cxrsynth.recipe.part import Part
from cxrsynth.train.tasks.segment.config import SegmentConfig


class Settings(Part):
    """See `recipes/bench/findings.yaml`."""

    model: str = Field("mini", description="diffusion model whose words and images are measured")
    against: str = Field("no finding", description="phrase that attention is normalised against in the second arm")
    carriers: tuple[str, ...] = Field((), description="sources of images that findings are put into; all by default")
    labelled: tuple[str, ...] = Field((), description="sources whose words count as labels of images; all by default")
    simulation: Simulation = Simulation()
    simulated: int = Field(2000, ge=1, description="images with simulated findings")
    generate: str = Field("findings", description="recipe of the generated findings")
    generate_set: tuple[str, ...] = Field((), description="values of that recipe, as --set has them")
    generated: int = Field(256, ge=1)
    controlled: int = Field(32, ge=1, description="images before and after each finding")
    control: dict[str, str] = Field(default_factory=dict, description="finding -> region it is put into")
    control_set: tuple[str, ...] = Field((), description="values of recipes/bench/control.yaml")
    boxes: int = Field(16, ge=1, description="patients whose boxes are learned from in the mixed arms")
    shown: int = Field(8, ge=1, description="images of each origin on a blind sheet")
    detector: tuple[str, ...] = Field(("opacity",), min_length=1, description="findings of the detector")
    train: SegmentConfig = SegmentConfig()
