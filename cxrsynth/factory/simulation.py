"""What a dataset of simulated findings shall hold: which findings, where, and how often none."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cxrsynth.data.findings import FINDINGS, Finding
from cxrsynth.data.findings.simulate import checked
from cxrsynth.domain import regions
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.errors import UsageError
from cxrsynth.recipe.entry import explain

MOST = 10_000_000
BITS = 8  # layers are stored one bit per class
USUAL = ("opacity", "effusion", "pneumothorax", "nodule", "cardiomegaly")


class Simulation(BaseModel):
    """What is put in.

    Attributes:
        findings: what each image is given: one entry is drawn for each; names joined by ``+`` are put in together.
        none: share of images that are given nothing, as negatives that went through the same steps.
        region: words for a place, ``left lower zone``; anywhere when empty.
        settings: finding -> values of its config.
        seed: of everything that is drawn.
        attempts: carriers that are tried for an image before it is given up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: tuple[str, ...] = USUAL
    none: float = Field(0.0, ge=0, le=1)
    region: str = ""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    seed: int = Field(0, ge=0)
    attempts: int = Field(8, ge=1, le=100)

    @field_validator("findings")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one finding")
        return value

    @property
    def combinations(self) -> list[list[str]]:
        """The entries of ``findings``, each as names in the order they are put in."""
        return [checked(entry.split("+")) for entry in self.findings]

    @property
    def classes(self) -> list[str]:
        """Findings that get a layer, in the order of `FINDINGS`."""
        asked = {name for combination in self.combinations for name in combination}
        return [name for name in FINDINGS if name in asked]

    def check(self) -> None:
        """Find out what cannot be done before anything is.

        Raises:
            UsageError: an unknown finding or setting, two that exclude each other, more findings than layers, a region
                that is no place in the lungs, or one that a finding cannot lie in.
        """
        if len(self.classes) + len(CLASSES) > BITS:
            raise UsageError(
                f"{len(self.classes)} findings are more than the {BITS - len(CLASSES)} that fit into one dataset",
                "name fewer with --finding, and make another dataset of the rest",
            )
        placed = self.placed()
        for name in self.settings:
            if name not in self.classes:
                raise UsageError(f"there are settings for {name}, which is not asked for", f"add --finding {name}")
        for name, values in placed.items():
            try:
                FINDINGS[name](**values)
            except ValidationError as error:
                raise UsageError(
                    f"{name}: {explain(error, FINDINGS[name])}", "for example --set effusion.severity=large"
                ) from error

    def placed(self) -> dict[str, dict[str, Any]]:
        """The settings of every finding, the region's side and zone among them.

        Raises:
            UsageError: as `check`.
        """
        found = {name: dict(self.settings.get(name, {})) for name in self.classes}
        if not self.region:
            return found
        place = regions.parse(self.region)
        if place.part not in ("lung", "angle"):
            raise UsageError(
                f"the region '{self.region}' is outside the lungs", "for example --region 'left lower zone'"
            )
        for name, values in found.items():
            kind: type[Finding] = FINDINGS[name]
            if not kind.sided:
                raise UsageError(f"{name} has no side or zone", "leave --region out")
            if place.zone is not None and not kind.zoned:
                raise UsageError(f"{name} fills no single zone", "name a side only: --region 'left lung'")
            values["side"] = "both" if len(place.sides) == 2 else place.sides[0].removesuffix("_lung")
            if place.zone is not None:
                values["zone"] = place.zone
            elif place.part == "angle" and kind.zoned:
                values["zone"] = "lower"
        return found
