"""One finding into a region of an image, at a severity."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from scipy import ndimage

from cxrsynth.data.findings.chest import Chest
from cxrsynth.data.findings.finding import CannotCarryError, Finding, Put
from cxrsynth.data.findings.simulate import FINDINGS
from cxrsynth.domain.lexicon import SYNONYMS

# Words beside the names and phrases of the findings. The longest that is found counts: a ground-glass opacity is more
# than an opacity.
OTHER_WORDS = {
    "ground_glass": ("ground-glass", "ground glass"),
    "opacity": ("pneumonia", "infiltrate", "infiltration"),
    "cardiomegaly": SYNONYMS["cardiomegaly"],
    "effusion": ("pleural fluid",),
}
MARGIN = 0.04  # of the width: so far a finding may reach beyond its region
LEAST_WITHIN = 0.6  # of its area lies in the region
LEAST_ROOM = 0.2  # of a region: a lung that holds less of it is not meant
TRIES = 8


def kind_of(words: str) -> str | None:
    """The simulated finding that words mean, ``small pleural effusion``; None where there is none."""
    text = words.lower().replace("_", " ")
    longest, best = 0, None
    for name, kind in FINDINGS.items():
        for word in (name.replace("_", " "), *kind.phrases, *OTHER_WORDS.get(name, ())):
            if len(word) > longest and _has(text, word):
                longest, best = len(word), name
    return best


def place(
    kind: str, image: np.ndarray, labels: np.ndarray, region: np.ndarray, severity: float, rng: np.random.Generator
) -> Put:
    """Put one finding somewhere into a region: the region says where it may be, its shape is the finding's own.

    An effusion lies where fluid lies, a pneumothorax where air lies: of their region the side counts. Cardiomegaly has
    one place only.

    Args:
        kind: name from `FINDINGS`.
        image: (H, W) float32 in 0..1, bright is dense.
        labels: (H, W) uint8 ids of `cxrsynth.domain.anatomy.CLASSES`.
        region: (H, W) bool.
        severity: 0 the least to 1 the most there is.

    Raises:
        CannotCarryError: the anatomy cannot carry it there.
    """
    finding = FINDINGS[kind]().graded(severity)
    chest = Chest.of(image, labels)
    if not finding.sided:
        return finding(image, chest, rng)
    room = {side: int((region & lung.mask).sum()) for side, lung in chest.lungs.items()}
    total = sum(room.values())
    if not total:
        raise CannotCarryError(kind, "the region lies outside the lungs")
    sides = [side for side, count in room.items() if count >= LEAST_ROOM * total]
    how: dict[str, Any] = {"side": sides[int(rng.integers(len(sides)))]}
    how |= {name: 0.0 for name in ("several", "both") if name in type(finding).model_fields}  # one was asked for
    chosen = finding.model_copy(update=how)
    return _within(chosen, image, chest, region, rng) if finding.zoned else chosen(image, chest, rng)


def _within(finding: Finding, image: np.ndarray, chest: Chest, region: np.ndarray, rng: np.random.Generator) -> Put:
    """The first of some tries that lies in the region well enough."""
    near = ndimage.distance_transform_edt(~region) <= MARGIN * region.shape[1]
    why = CannotCarryError(finding.name, "the region has no room for it")
    for _ in range(TRIES):
        try:
            put = finding(image, chest.limited(region), rng)
        except CannotCarryError as error:
            why = error
            continue
        if near[put.mask].mean() >= LEAST_WITHIN:
            return put
    raise why


def _has(text: str, word: str) -> bool:
    plural = f"{re.escape(word[:-1])}(?:y|ies)" if word.endswith("y") else f"{re.escape(word)}s?"
    return re.search(rf"(?<![a-z]){plural}(?![a-z])", text) is not None
