"""Where in an image a finding lies, from what is said of the image and what its zones look like.

Labels of open collections name findings without a place. A zone of an image with the finding is taken for its place
where it is brighter, between its own lungs and heart, than that zone is in normal images of the same source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cxrsynth.domain import regions
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.lexicon import found, is_normal, words_on_findings
from cxrsynth.errors import UsageError
from cxrsynth.records import Row

# Smaller than this share of the image, a lung or heart was not found: zones of it mean nothing.
LEAST = 0.008
MAD = 1.4826  # of a normal distribution, deviation per median absolute deviation


class PlaceConfig(Protocol):
    """Which findings are looked for, and how bright their places are; see the training of the pathology adapter."""

    @property
    def findings(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def places(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def bright(self) -> float: ...
    @property
    def clear(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A region to learn from.

    Attributes:
        image: index of the image.
        finding: word of the prompt; empty for a clear zone of a normal image.
        region: words that `cxrsynth.domain.regions` understands.
    """

    image: int
    finding: str
    region: str


def zones(config: PlaceConfig) -> list[str]:
    """The regions that are measured, right and left of every place of the config."""
    kinds = sorted({place for places in config.places.values() for place in places})
    return [f"{side} {kind}" for kind in kinds for side in ("right", "left")]


def brightness(image: np.ndarray, mask: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """How bright regions are on a scale of the image's own: 0 its darkest lung, 1 its heart.

    Args:
        image: (H, W) uint8.
        mask: (H, W) ids of `cxrsynth.domain.anatomy.CLASSES`.

    Returns:
        (Z,) float64, NaN where a region or a part of the anatomy is missing.
    """
    if any((mask == number).sum() < LEAST * mask.size for number in CLASSES.values()):
        return np.full(len(names), np.nan)
    lungs = image[np.isin(mask, (CLASSES["right_lung"], CLASSES["left_lung"]))]
    dark, heart = np.percentile(lungs, 10), image[mask == CLASSES["heart"]].mean()
    values = []
    for name in names:
        try:
            values.append(image[regions.resolve(name, mask)].mean())
        except UsageError:
            values.append(np.nan)
    return (np.array(values) - dark) / max(heart - dark, 10.0)


def find(rows: Sequence[Row], images: np.ndarray, masks: np.ndarray, config: PlaceConfig) -> list[Place]:
    """All regions to learn from.

    Args:
        rows: of N images.
        images: (N, H, W) uint8.
        masks: (N, H, W) uint8 ids of `cxrsynth.domain.anatomy.CLASSES`.

    Raises:
        UsageError: no image is normal, or none shows a finding of the config.
    """
    names = zones(config)
    seen = np.stack([brightness(image, mask, names) for image, mask in zip(images, masks, strict=True)])
    normal = np.array([is_normal(words_on_findings(row)) for row in rows])
    source = np.array([str(row.get("source", "")) for row in rows])
    above = np.full(seen.shape, np.nan)
    for one in sorted(set(source[normal])):
        here = source == one
        typical = np.nanmedian(seen[here & normal], axis=0)
        spread = MAD * np.nanmedian(np.abs(seen[here & normal] - typical), axis=0)
        above[here] = (seen[here] - typical) / np.maximum(spread, 1e-3)
    places: list[Place] = []
    for i, row in enumerate(rows):
        if normal[i]:
            places += [Place(i, "", name) for name, high in zip(names, above[i], strict=True) if high < config.clear]
            continue
        text, sides = words_on_findings(row), said_sides(row)
        for finding, labels in config.findings.items():
            if any(found(text, label) for label in labels):
                wanted = {f"{side} {kind}" for side in sides for kind in config.places[finding]}
                bright = [name for name, high in zip(names, above[i], strict=True) if high > config.bright]
                places += [Place(i, finding, name) for name in bright if name in wanted]
    have = {place.finding for place in places}
    missing = next((word for word in ("", *config.findings) if word not in have), None)
    if missing is not None:
        what = f"shows {missing} in a zone that is brighter than normal" if missing else "is normal and clear"
        raise UsageError(
            f"no training image {what}", "ingest more images, or change findings, bright or clear by --set"
        )
    return places


def said_sides(row: Row) -> tuple[str, ...]:
    """The sides that the words of an image name; both where they name none."""
    text = f"{row.get('text') or ''} {row.get('prompt', '')}".lower()
    named = tuple(side for side in ("right", "left") if re.search(rf"\b{side}\b", text))
    return named or ("right", "left")
