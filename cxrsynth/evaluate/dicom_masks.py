"""DICOM segmentations as masks that can be measured: whose image they belong to, and one class id per pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrsynth.data import pseudonym
from cxrsynth.data.dicom import is_dicom
from cxrsynth.data.dicom_fields import DicomError
from cxrsynth.data.dicom_seg import describe, is_segmentation, read_segmentation
from cxrsynth.data.masks import MaskError
from cxrsynth.domain.snomed import ALIASES, FINDINGS, STRUCTURES
from cxrsynth.errors import UsageError
from cxrsynth.ingest.dicom import dicom_paths

ENDING = ".seg"
# Where segments overlap, what is later here lies over what is earlier: the heart over the lungs, findings over both.
ORDER = {name: place for place, name in enumerate((*STRUCTURES, *FINDINGS))}


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One file.

    Attributes:
        path: where it is.
        key: pseudonym of the image that it belongs to: the key that ingest and annotate give that image.
        name: of the file, without its endings.
        patient: pseudonym of the patient.
        classes: names of its classes.
    """

    path: Path
    key: str
    name: str
    patient: str
    classes: tuple[str, ...]


def segmentations(place: Path) -> list[Segmentation]:
    """The segmentation in a file, or all below a folder; none where there are none.

    Raises:
        UsageError: two of one image, or one that cannot be read.
        MissingError: the extra ``dicom`` is not installed.
    """
    paths = dicom_paths(place) if place.is_dir() else [place] if place.is_file() and is_dicom(place) else []
    found: dict[str, Segmentation] = {}
    secret = b""
    for path in (path for path in paths if is_segmentation(path)):
        secret = secret or pseudonym.salt()
        try:
            told = describe(path)
        except DicomError as error:
            raise UsageError(f"{path} cannot be read: {error}", "take it out of the folder") from None
        key = pseudonym.pseudonym(secret, "image", told.image.upper())
        if key in found:
            raise UsageError(f"{path} and {found[key].path} belong to one image", "keep one segmentation of each image")
        person = pseudonym.pseudonym(secret, "person", told.person or told.image)
        found[key] = Segmentation(path, key, path.stem.removesuffix(ENDING), person, told.classes)
    return list(found.values())


def numbered(found: Sequence[Segmentation]) -> dict[str, int]:
    """Class name -> id, from 1, in the order in which they are painted."""
    names = {name for one in found for name in one.classes}
    return {name: place for place, name in enumerate(sorted(names, key=_layer), start=1)}


def paint(path: Path, numbers: Mapping[str, int]) -> np.ndarray:
    """(H, W) uint8 ids of a segmentation.

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
