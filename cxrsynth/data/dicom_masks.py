"""DICOM segmentations as masks of one id per pixel: which class lies over which, and what is painted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from cxrsynth.data.dicom_fields import DicomError
from cxrsynth.data.dicom_seg import read_segmentation
from cxrsynth.data.masks import MaskError
from cxrsynth.domain.snomed import ALIASES, FINDINGS, STRUCTURES

# Where segments overlap, what is later here lies over what is earlier: the heart over the lungs, findings over both.
ORDER = {name: place for place, name in enumerate((*STRUCTURES, *FINDINGS))}


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Class name -> id, from 1, in the order in which they are painted."""
    return {name: place for place, name in enumerate(sorted(set(names), key=_layer), start=1)}


def paint(path: Path, numbers: Mapping[str, int]) -> np.ndarray:
    """(H, W) uint8 ids of a segmentation, on the pixels of its image's file.

    Raises:
        MaskError: it cannot be read.
        MissingError: highdicom is not installed.
    """
    try:
        regions = read_segmentation(path)
    except DicomError as error:
        raise MaskError(str(error)) from None
    painted = np.zeros(next(iter(regions.values())).shape, np.uint8)
    for name in sorted(regions, key=_layer):
        painted[regions[name]] = numbers[name]
    return painted


def _layer(name: str) -> tuple[int, str]:
    """Where a class comes when all are painted; those of nobody's list last."""
    return ORDER.get(ALIASES.get(name, name), len(ORDER)), name
