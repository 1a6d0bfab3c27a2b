"""The block ``control:``: whose anatomy is imposed, how it is deformed, and which findings are put where.

XReal (arXiv 2403.09240): the anatomy controller blends the latents of a pseudo-radiograph into the first part of the
steps; the pathology controller inpaints a region with the finding as prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from cxrsynth.domain import regions
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.atlas import open_atlas
from cxrsynth.errors import CxrError
from cxrsynth.weights import NetworkFile, hash_of

SEEDS = 2**31 - 1
# A heart is made of one that is at most so much smaller or larger.
HEART_FACTOR = 1.25


class Block(BaseModel):
    """Base of the blocks here: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] <= pair[1]:
        raise ValueError("write the smaller number first")
    return pair


Range = Annotated[tuple[float, float], Field(description="smallest and largest")]


class Deform(Block):
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


class Anatomy(Block):
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


class Finding(Block):
    """One finding that may be put into an image."""

    finding: str = Field(min_length=1, description="as the prompt names it")
    region: str | regions.Box = Field(
        description="words ('left lower zone'), [left, top, right, bottom] in 0..1, or a PNG of the image's size"
    )
    probability: float = Field(1.0, ge=0, le=1)
    severity: Range = Field((1.0, 1.0), description="0 faint to 1 full, drawn for each image")
    shape: str = Field(
        "blob", pattern="^(blob|whole)$", description="blob: a ragged patch in the region; whole: all of it"
    )
    label: str | None = Field(None, description="class that the region is a mask of; default: the one named so")

    @field_validator("severity")
    @classmethod
    def _in_order(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1] <= 1:
            raise ValueError("severity lies above 0 and at most at 1, the smaller number first")
        return pair

    @field_validator("region")
    @classmethod
    def _understood(cls, region: str | regions.Box) -> str | regions.Box:
        if isinstance(region, str) and not region.lower().endswith(".png"):
            try:
                regions.parse(region)
            except CxrError as error:
                raise ValueError(f"{error.message}; {error.hint}") from error
        return region

    def class_among(self, words: Mapping[str, Sequence[str]]) -> str:
        """The class that this finding fills.

        Args:
            words: class -> the words that mean it.

        Raises:
            ValueError: there is none; the message lists what there is.
        """
        text = self.finding.lower()
        meant = (name for name, own in words.items() if any(word.lower() in text for word in own))
        found = self.label or next(meant, None)
        if found is None or found not in words:
            what = f"there is no class '{self.label}'" if self.label else f"'{self.finding}' has no class"
            raise ValueError(
                f"control.pathology: {what}; add one with overlap: true, or give label: one of {', '.join(words)}"
            )
        return found


class Inpaint(Block):
    """The pathology controller: how a region is generated anew."""

    prompt: str = Field("Frontal chest X-ray. Findings: {finding}.", description="{finding} and {region} are filled in")
    negative_prompt: str = Field("", description="what guidance leads away from")
    guidance_scale: float = Field(7.0, ge=0, description="XReal: 7")
    adapter: Annotated[str | None, NetworkFile("adapter")] = Field(
        None, description="file of 'cxrsynth train-pathology' for this model, or mini for the bundled one; null: none"
    )
    feather: float = Field(0.02, ge=0, le=0.1, description="width of the border around a region, of the width")

    @field_validator("prompt")
    @classmethod
    def _fillable(cls, prompt: str) -> str:
        try:
            prompt.format(finding="", region="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("only {finding} and {region} are filled in") from error
        return prompt

    def words(self, finding: str, region: str | regions.Box) -> str:
        """The prompt of one finding; a box has no words."""
        place = region if isinstance(region, str) and not region.lower().endswith(".png") else "lung"
        return self.prompt.format(finding=finding, region=place)


def _none(value: Any) -> Any:
    """``from: none`` imposes no anatomy."""
    if isinstance(value, dict) and "from" in value and value["from"] in ("none", None):
        return None
    return None if value == "none" else value


class Control(Block):
    """What is imposed on the images of a recipe."""

    anatomy: Annotated[Anatomy | None, BeforeValidator(_none)] = Field(default_factory=Anatomy)
    pathology: tuple[Finding, ...] = ()
    inpaint: Inpaint = Field(default_factory=Inpaint)

    @model_validator(mode="after")
    def _something(self) -> Control:
        if self.anatomy is None and not self.pathology:
            raise ValueError("nothing is imposed: give anatomy or pathology, or leave control out")
        return self

    def prompts(self) -> set[str]:
        """All texts that findings are generated from."""
        asked = {self.inpaint.words(item.finding, item.region) for item in self.pathology}
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
            shape, severity, seed each), in plain types.
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
                region = item.region if isinstance(item.region, str) else list(item.region)
                drawn = {"finding": item.finding, "label": label, "region": region}
                imposed["findings"].append({**drawn, "shape": item.shape, "severity": severity, "seed": own})
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
