"""The block ``control:``: whose anatomy is imposed, how it is deformed, and which findings are put where.

XReal (arXiv 2403.09240): the anatomy controller blends the latents of a pseudo-radiograph into the first part of the
steps; the pathology controller inpaints a region with the finding as prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, field_validator, model_validator

from cxrsynth.auxiliary_files import NetworkFile
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.atlas import open_atlas
from cxrsynth.recipe.part import Part
from cxrsynth.recipe.pathology import Finding, Inpaint, Range
from cxrsynth.weights import hash_of

SEEDS = 2**31 - 1
# A heart is made of one that is at most so much smaller or larger.
HEART_FACTOR = 1.25


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] <= pair[1]:
        raise ValueError("write the smaller number first")
    return pair


class Deform(Part):
    """How an anatomy is changed, so that new ones are asked for and not copies."""

    warp: float = Field(0.015, ge=0, le=0.08, description="deviation of a smooth diffeomorphic warp, of the width")
    smooth: float = Field(0.12, gt=0.02, le=0.5, description="how far the warp is alike, of the width")
    scale: Range = Field((0.92, 1.05), description="of rows and of columns, drawn apart")
    shift: float = Field(0.02, ge=0, le=0.2, description="at most, of the width and of the height")
    ctr: Range | None = Field((0.38, 0.58), description="cardiothoracic ratio the heart is made for; null: as it is")

    @field_validator("scale", "ctr")
    @classmethod
    def _in_order(cls, pair: tuple[float, float] | None) -> tuple[float, float] | None:
        return None if pair is None else _ordered(pair)

    @model_validator(mode="after")
    def _possible(self) -> Deform:
        if not 0.5 <= self.scale[0] <= self.scale[1] <= 1.5:
            raise ValueError("scale lies between 0.5 and 1.5")
        if self.ctr is not None and not 0.25 <= self.ctr[0] <= self.ctr[1] <= 0.8:
            raise ValueError("ctr lies between 0.25 and 0.8")
        return self


class Anatomy(Part):
    """The anatomy controller: whose label maps, and how strictly the image keeps to them."""

    source: str = Field(
        "wingspan", alias="from", min_length=1, description="bundled label maps, a dataset with masks, or a folder"
    )
    splits: tuple[str, ...] = Field(("train",), description="of a dataset, only these; all when empty")
    deform: Deform = Field(default_factory=Deform)
    network: Annotated[str, NetworkFile("network")] = Field(
        "mini", description="file of 'cxrsynth train-anatomy', or mini for the bundled one"
    )
    # Chosen on a few images of mini by a segmenter of real images: 0.6 of the steps with 0.2 outside gave lungs of Dice
    # 0.87, these 0.95. A weight that does not fall leaves lungs without ribs, one that falls faster (fade 1) gave 0.91.
    until: float = Field(1.0, gt=0, le=1, description="part of the steps that is blended; the rest runs free")
    fade: float = Field(0.5, ge=0, le=4, description="how its weight falls until then; 0 keeps it, as XReal does")
    inside: float = Field(1.0, gt=0, le=1, description="weight of the imposed anatomy in its organs")
    outside: float = Field(0.7, ge=0, le=1, description="and elsewhere")
    soft: float = Field(0.012, ge=0, le=0.1, description="width of the border between the two, of the width")


def _none(value: Any) -> Any:
    """``from: none`` imposes no anatomy."""
    if isinstance(value, dict) and "from" in value and value["from"] in ("none", None):
        return None
    return None if value == "none" else value


class Control(Part):
    """What is imposed on the images of a recipe."""

    anatomy: Annotated[Anatomy | None, BeforeValidator(_none)] = Field(default_factory=Anatomy)
    pathology: tuple[Finding, ...] = ()
    most: int | None = Field(None, ge=1, description="findings in one image; by default as many as are drawn")
    inpaint: Inpaint = Field(default_factory=Inpaint)

    @model_validator(mode="after")
    def _something(self) -> Control:
        if self.anatomy is None and not self.pathology:
            raise ValueError("nothing is imposed: give anatomy or pathology, or leave control out")
        return self

    def prompts(self) -> set[str]:
        """All texts that findings are generated from."""
        asked = {self.inpaint.words(item.finding, place) for item in self.pathology for place in item.places}
        return asked | {self.inpaint.negative_prompt} if asked else asked

    @property
    def anatomy_classes(self) -> tuple[str, ...]:
        """Names that a class of imposed anatomy may have."""
        return () if self.anatomy is None else (*CLASSES, "lungs")

    def impose(self, random: np.random.Generator, labels: Sequence[str]) -> dict[str, Any]:
        """What one sample gets: every random number is spent here.

        Args:
            labels: the class of each entry of ``pathology``.

        Returns:
            ``anatomy`` (None, or key, seed, warp, smooth, scale, shift, ctr) and ``findings`` (finding, label, region,
            method, shape, severity, seed each), in plain types.
        """
        imposed: dict[str, Any] = {"anatomy": None, "findings": []}
        # All numbers are drawn, used or not: one more finding does not reshuffle the anatomies.
        which, seed = random.random(), int(random.integers(SEEDS))
        scale, shift, ratio = random.random(2), random.uniform(-1, 1, 2), random.random()
        if self.anatomy is not None:
            atlas, deform = open_atlas(self.anatomy.source, self.anatomy.splits), self.anatomy.deform
            wanted = None if deform.ctr is None else round(float(between(deform.ctr, ratio)), 4)
            keys = atlas.keys if wanted is None else atlas.near(wanted, HEART_FACTOR)
            imposed["anatomy"] = {
                "key": keys[int(which * len(keys))],
                "seed": seed,
                "warp": deform.warp,
                "smooth": deform.smooth,
                "scale": [round(float(between(deform.scale, part)), 4) for part in scale],
                "shift": [round(float(deform.shift * part), 4) for part in shift],
                "ctr": wanted,
            }
        for item, label in zip(self.pathology, labels, strict=True):
            chance, hard, own = random.random(), random.random(), int(random.integers(SEEDS))
            if chance < item.probability:
                severity = round(float(between(item.severity, hard)), 3)
                place = item.places[own % len(item.places)]
                region = place if isinstance(place, str) else list(place)
                drawn = {"finding": item.finding, "label": label, "region": region}
                how = {"method": item.method, "shape": item.shape}
                imposed["findings"].append({**drawn, **how, "severity": severity, "seed": own})
        if self.most is not None and len(imposed["findings"]) > self.most:
            kept = sorted(imposed["findings"], key=lambda one: one["seed"])[: self.most]
            imposed["findings"] = [one for one in imposed["findings"] if one in kept]
        return imposed

    def identity(self) -> dict[str, Any]:
        """The block with the content of the files it names in place of their names.

        Raises:
            MissingError, UsageError: label maps or a region file are missing or wrong.
        """
        body = self.model_dump(mode="json", by_alias=True)
        if self.anatomy is not None:
            body["anatomy"]["from"] = open_atlas(self.anatomy.source, self.anatomy.splits).digest
        for entry, item in zip(body["pathology"], self.pathology, strict=True):
            if isinstance(item.region, str) and item.region.lower().endswith(".png"):
                entry["region"] = hash_of(Path(item.region))
        return body


def between(pair: tuple[float, float], part: float) -> float:
    """The number that lies ``part`` of the way from the first to the second."""
    return pair[0] + (pair[1] - pair[0]) * part


def located(raw: Any, folder: Path) -> Any:
    """A raw ``control:`` block with files looked for beside the recipe and where we are, as absolute paths."""
    if not isinstance(raw, dict):
        return raw
    found = dict(raw)
    if isinstance(raw.get("anatomy"), dict):
        anatomy = dict(raw["anatomy"])
        for key in ("from", "network"):
            if isinstance(anatomy.get(key), str):
                anatomy[key] = _place(anatomy[key], folder)
        found["anatomy"] = anatomy
    if isinstance(raw.get("pathology"), list):
        found["pathology"] = [
            {**item, "region": _place(item["region"], folder)}
            if isinstance(item, dict) and isinstance(item.get("region"), str)
            else item
            for item in raw["pathology"]
        ]
    return found


def _place(name: str, folder: Path) -> str:
    candidates = (place / Path(name).expanduser() for place in (folder, Path()))
    # Words and bundled names stay; a folder that happens to be called like them is named with a slash.
    looks_like_path = "/" in name or Path(name).suffix in (".png", ".npz", ".safetensors")
    return next((str(path.resolve()) for path in candidates if looks_like_path and path.exists()), name)
