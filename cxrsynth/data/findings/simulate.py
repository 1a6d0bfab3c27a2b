"""Findings into one image: chosen or drawn, one after the other, with their masks and the words for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from cxrsynth.data.findings.atelectasis import Atelectasis
from cxrsynth.data.findings.cardiomegaly import Cardiomegaly
from cxrsynth.data.findings.chest import Chest
from cxrsynth.data.findings.effusion import Effusion
from cxrsynth.data.findings.finding import CannotCarryError, Finding
from cxrsynth.data.findings.nodule import Mass, Nodule
from cxrsynth.data.findings.opacity import Consolidation, GroundGlass, Opacity
from cxrsynth.data.findings.pneumothorax import Pneumothorax
from cxrsynth.data.findings.texture import fractal
from cxrsynth.errors import UsageError
from cxrsynth.registry import unknown

# In the order they are put in: what moves tissue comes first, what lies over it later.
FINDINGS: dict[str, type[Finding]] = {
    kind.name: kind
    for kind in (
        Cardiomegaly, Pneumothorax, GroundGlass, Opacity, Consolidation, Atelectasis, Mass, Nodule, Effusion,
    )
}  # fmt: skip
# The phrase that each finding's attention map is read with.
PHRASES = {name: kind.phrases[0] for name, kind in FINDINGS.items()}
# A finding that is one of another kind too: its mask counts for both.
KIND_OF = {"consolidation": "opacity", "ground_glass": "opacity"}
NO_FINDING = "no finding"
NONE, SECOND, THIRD = 0.25, 0.35, 0.25  # probabilities: of no finding, of a second, and then of a third one
TRIES = 3


@dataclass(frozen=True, slots=True)
class Simulated:
    """An image with simulated findings.

    Attributes:
        image: (H, W) uint8.
        labels: (H, W) uint8 ids of `cxrsynth.domain.atlas.CLASSES`; the heart's differ where it was enlarged.
        masks: finding -> (H, W) bool; more general kinds included, see `KIND_OF`. Absent findings are left out.
        words: for a caption, ``small left pleural effusion, nodule in the right upper zone``; ``no finding`` without.
        clauses: finding -> its own words.
        facts: finding -> what was drawn, in plain types.
    """

    image: np.ndarray
    labels: np.ndarray
    masks: dict[str, np.ndarray]
    words: str
    clauses: dict[str, str] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)


def simulate(
    image: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    kinds: Sequence[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    shares: Mapping[str, float] | None = None,
    none: float = NONE,
) -> Simulated:
    """Put findings into an image.

    Images with and without findings go through the same `finish`, so that its traces say nothing.

    Args:
        image: (H, W) uint8, bright is dense; one without the findings that are put in.
        labels: (H, W) uint8 anatomy, ids of `cxrsynth.domain.atlas.CLASSES`.
        rng: decides everything; the same state gives the same result.
        kinds: names from `FINDINGS`, all of them put in; None draws a combination that this anatomy can carry, or
            nothing.
        settings: finding -> values of its config, ``{"effusion": {"side": "left"}}``.
        shares: finding -> how often it is drawn, relative to the others; all equally by default.
        none: probability of no finding where ``kinds`` is None.

    Raises:
        UsageError: unknown finding, or two that exclude each other.
        CannotCarryError: the anatomy cannot carry a finding that was asked for.
    """
    if image.shape != labels.shape or image.ndim != 2:
        raise UsageError(
            f"the image is {image.shape}, its anatomy {labels.shape}", "both are (H, W) and of the same size"
        )
    now = image.astype(np.float32) / 255
    chest = Chest.of(now, labels)
    made = {name: FINDINGS[name](**values) for name, values in (settings or {}).items() if known(name)}
    drawn = kinds is None
    chosen = choose(chest, rng, made, shares or {}, none) if kinds is None else checked(kinds)
    masks: dict[str, np.ndarray] = {}
    clauses: dict[str, str] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name in chosen:
        finding = made.get(name) or FINDINGS[name]()
        for attempt in range(TRIES):
            try:
                put = finding(now, chest, rng)
            except CannotCarryError:
                if attempt == TRIES - 1 and not drawn:
                    raise
                continue
            now, masks[name], clauses[name], facts[name] = put.image, put.mask, put.words, put.facts
            if put.labels is not None:
                chest = Chest.of(now, put.labels)
            break
    for name, general in KIND_OF.items():
        if name in masks:
            masks[general] = masks[name] | masks.get(general, False)
    spoken = list(clauses.values())
    rng.shuffle(spoken)
    return Simulated(finish(now, rng), chest.labels, masks, ", ".join(spoken) or NO_FINDING, clauses, facts)


def checked(kinds: Sequence[str]) -> list[str]:
    """Names in the order they are put in.

    Raises:
        UsageError: an unknown name, or two that exclude each other.
    """
    for name in kinds:
        known(name)
        for other in kinds:
            if other in FINDINGS and other in FINDINGS[name].excludes:
                raise UsageError(f"{name} and {other} exclude each other", "ask for one of them")
    return [name for name in FINDINGS if name in kinds]


def known(name: str) -> bool:
    """True.

    Raises:
        UsageError: no such finding; the right names are listed.
    """
    if name not in FINDINGS:
        raise unknown("findings", name, list(FINDINGS))
    return True


def choose(
    chest: Chest, rng: np.random.Generator, made: Mapping[str, Finding], shares: Mapping[str, float], none: float
) -> list[str]:
    """A combination of findings that this chest can carry, in the order they are put in; often one, or none."""
    if rng.random() < none:
        return []
    open_ = [name for name, kind in FINDINGS.items() if not (made.get(name) or kind()).why_not(chest)]
    chosen: list[str] = []
    for chance in (1.0, SECOND, THIRD):
        weights = np.array([shares.get(name, 1.0 if not shares else 0.0) for name in open_])
        if not weights.sum() or rng.random() >= chance:
            break
        name = open_[rng.choice(len(open_), p=weights / weights.sum())]
        chosen.append(name)
        open_ = [one for one in open_ if one != name and one not in FINDINGS[name].excludes]
    return [name for name in FINDINGS if name in chosen]


def finish(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What every image goes through, with a finding or without: another grid and back, and fine grain.

    Args:
        image: (H, W) float32 in 0..1.

    Returns:
        (H, W) uint8.
    """
    height, width = image.shape
    larger = rng.uniform(1.25, 1.6, size=2)
    picture = Image.fromarray(image * 255)
    picture = picture.resize((round(width * larger[0]), round(height * larger[1])), Image.Resampling.BICUBIC)
    back = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS), np.float32)
    grain = rng.uniform(0.3, 1.1) * fractal(image.shape, rng.uniform(0, 0.8), rng)
    return np.clip(back + grain, 0, 255).round().astype(np.uint8)
